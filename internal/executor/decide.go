package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// wish is what should become of a VM.
type wish int

const (
	wishKeep wish = iota // It runs, or is made to.
	wishEnd              // It is stopped, and removed when its retention is over.
)

// decide says what should become of the VM, and why it should end. A nil job
// is one that the chain does not have.
func decide(vm state.VM, j *state.Job, nodeID uint32, head state.Block, synced bool) (wish, string) {
	switch {
	case j == nil && synced && head.Time > vm.Until:
		return wishEnd, fmt.Sprintf("the chain dropped the job, and it could be opened again until %s only", chainTime(vm.Until))
	case j == nil:
		return wishKeep, "" // It may come back.
	case j.NodeID != nodeID:
		return wishEnd, fmt.Sprintf("the job was given to node %d", j.NodeID)
	case j.Status.Ended():
		return wishEnd, endReason(vm, *j)
	default:
		return wishKeep, ""
	}
}

// endReason says for people why the job ended.
func endReason(vm state.VM, j state.Job) string {
	reason := j.Reason
	if reason == "" {
		reason = "the job is " + string(j.Status)
	}
	if vm.DryAt != 0 && j.Status == state.JobExpired {
		reason += fmt.Sprintf("; the payer's allowance ran dry at %s, the grace ended at %s", chainTime(vm.DryAt), chainTime(j.StoppedAt))
	}
	return reason
}

// watchMoney tells in the row when the payer's money has run out. The machine
// runs on until the chain ends the job.
func (s *Supervisor) watchMoney(ctx context.Context, v *view, vm state.VM) error {
	j := v.jobs[vm.Spec]
	if j == nil || j.Status != state.JobRunning || vm.State != state.VMRunning {
		return nil
	}
	dryAt, err := s.dryAt(ctx, *j, v.head)
	if err != nil || dryAt == vm.DryAt {
		return err
	}
	detail := detailRunning
	if dryAt != 0 {
		detail = "runs, but the payer's allowance ran dry at " + chainTime(dryAt)
		params, err := s.db.Params(ctx)
		switch {
		case err == nil:
			detail += fmt.Sprintf("; the job ends after %s unless it is topped up", chainTime(dryAt+params.GraceHardSeconds))
		case !errors.Is(err, errs.NotFound):
			return err
		}
	}
	_, err = s.edit(ctx, vm.Spec, func(row *state.VM) {
		if row.State == state.VMRunning {
			row.DryAt, row.Detail = dryAt, detail
		}
	})
	return err
}

// dryAt returns the chain time at which the job's money ran out, 0 when it has
// not.
func (s *Supervisor) dryAt(ctx context.Context, j state.Job, head state.Block) (uint64, error) {
	a, err := s.db.Account(ctx, j.Payer, j.Token)
	switch {
	case errors.Is(err, errs.NotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case a.ArrearsSince != 0:
		return a.ArrearsSince, nil
	case a.RateQ32 != nil && a.RateQ32.Sign() > 0 && a.PaidUntil != 0 && a.PaidUntil < head.Time:
		return a.PaidUntil, nil
	default:
		return 0, nil
	}
}

func chainTime(at uint64) string { return time.Unix(int64(at), 0).UTC().Format(time.RFC3339) }
