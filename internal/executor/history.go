package executor

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// putVM writes the row of a VM. A step to another state goes to the VM's
// history, with the row's detail as its cause; it and noteAll are the only places
// of this package that write such rows.
func putVM(ctx context.Context, tx *state.Tx, row *state.VM) error {
	var from state.VMState
	switch old, err := tx.VM(ctx, row.Spec); {
	case err == nil:
		from = old.State
	case errors.Is(err, errs.NotFound):
		// It may have had a machine before, whose history goes on.
		before, err := tx.VMEvents(ctx, row.Spec)
		if err != nil {
			return err
		}
		if len(before) > 0 {
			row.Steps = before[len(before)-1].Seq
		}
	default:
		return err
	}
	if from != row.State {
		if !from.CanBecome(row.State) {
			return errs.New(errs.Internal, "BUG: VM %s goes from %q to %q", row.Spec, from, row.State)
		}
		now := time.Now().UTC()
		row.Steps++
		row.Entered = maps.Clone(row.Entered)
		if row.Entered == nil {
			row.Entered = map[state.VMState]time.Time{}
		}
		row.Entered[row.State] = now
		event := state.VMEvent{Spec: row.Spec, Seq: row.Steps, At: now, From: from, To: row.State, Cause: row.Detail}
		if err := tx.AddVMEvent(ctx, event); err != nil {
			return err
		}
	}
	return tx.PutVM(ctx, *row)
}

// noteAll writes into the history of each VM that is to run, now or again, what
// is said of all of them.
func noteAll(ctx context.Context, tx *state.Tx, text string, now time.Time) error {
	vms, err := tx.VMs(ctx)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if ends(vm.State) {
			continue
		}
		vm.Steps++
		event := state.VMEvent{Spec: vm.Spec, Seq: vm.Steps, At: now, From: vm.State, To: vm.State, Cause: text}
		if err := errors.Join(tx.AddVMEvent(ctx, event), tx.PutVM(ctx, vm)); err != nil {
			return err
		}
	}
	return nil
}

// ends reports whether a VM in the state is not to run again.
func ends(st state.VMState) bool {
	return st == state.VMStopping || st == state.VMStopped || st == state.VMFailed
}

// steps returns the newest of a history, within the bounds of an answer.
func steps(events []state.VMEvent) []job.Step {
	events = events[max(0, len(events)-job.HistoryMax):]
	out := make([]job.Step, 0, len(events))
	for _, e := range events {
		cause := strings.ToValidUTF8(e.Cause, "?")
		if len(cause) > job.CauseMax {
			const more = "..."
			cause = strings.ToValidUTF8(cause[:job.CauseMax-len(more)], "") + more
		}
		out = append(out, job.Step{At: e.At.Unix(), From: string(e.From), To: string(e.To), Cause: cause})
	}
	return out
}

// forgetHistory removes the history and the ended leases of VMs that are gone for so
// long that nobody is promised to find them.
func (s *Supervisor) forgetHistory(ctx context.Context, now time.Time) error {
	const batch = 1000
	return s.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.RemoveVMEvents(ctx, now.Add(-s.cfg.LogRetention), batch); err != nil {
			return err
		}
		all, err := tx.Leases(ctx)
		if err != nil {
			return err
		}
		for _, l := range all {
			if l.Open() || now.Sub(l.End.At) < s.cfg.LogRetention {
				continue
			}
			if _, err := tx.VM(ctx, l.Spec); !errors.Is(err, errs.NotFound) {
				continue
			}
			if err := tx.RemoveLease(ctx, l.Spec); err != nil {
				return err
			}
		}
		return nil
	})
}
