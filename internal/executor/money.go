package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// payer is whose account of which token pays a job.
type payer struct {
	address common.Address
	token   uint8
}

// dues are how the payer of a job stands. Times are of the chain; the two ends
// count from paidUntil, as in the contract.
type dues struct {
	late      bool   // What was prepaid has been used up.
	tried     bool   // The chain has tried to pull since, and got too little.
	dryAt     uint64 // When the money first ran out; 0 = it has not.
	paidUntil uint64
	pauseAt   uint64 // Machines pause after it.
	endAt     uint64 // Anyone may end the jobs after it.
}

// duesOf returns how the job's payer stands at the head, if the rows that say
// so are there. A machine runs on unpaid for no longer than what is prepaid of
// it at most: the node's risk is what the payer's was.
func (v *view) duesOf(j *state.Job) (dues, bool) {
	a := v.accounts[payer{j.Payer, j.Token}]
	if a == nil || v.params == nil {
		return dues{}, false
	}
	d := dues{
		late:      a.RateQ32 != nil && a.RateQ32.Sign() > 0 && a.PaidUntil != 0 && a.PaidUntil < v.head.Time,
		tried:     a.ArrearsSince != 0,
		paidUntil: a.PaidUntil,
		pauseAt:   a.PaidUntil + min(v.params.GraceSoftSeconds, v.params.PrepaySeconds),
		endAt:     a.PaidUntil + v.params.GraceHardSeconds,
	}
	switch {
	case d.late && d.tried:
		d.dryAt = a.ArrearsSince
	case d.late:
		d.dryAt = a.PaidUntil
	}
	return d, true
}

// running is what the row of a machine says that runs.
func (d dues) running() string {
	if !d.late {
		return detailRunning
	}
	return fmt.Sprintf("runs, but the payer's allowance ran dry at %s; the job ends after %s unless it is topped up; the machine pauses after %s",
		chainTime(d.dryAt), chainTime(d.endAt), chainTime(d.pauseAt))
}

// paused is what the row of a machine says that was paused at the time.
func (d dues) paused(at uint64) string {
	return fmt.Sprintf("paused since %s, as the payer's allowance ran dry at %s; 'aleph allowance set' lets it go on with its disk, else the job ends after %s",
		chainTime(at), chainTime(d.dryAt), chainTime(d.endAt))
}

// lookAtMoney reads what says how the payers of the view's jobs stand.
func (v *view) lookAtMoney(ctx context.Context, r *state.View) error {
	params, err := r.Params(ctx)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	v.params = params
	for _, j := range v.jobs {
		p := payer{j.Payer, j.Token}
		if _, ok := v.accounts[p]; ok {
			continue
		}
		a, err := r.Account(ctx, p.address, p.token)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		v.accounts[p] = a
	}
	return nil
}

// watchMoney tells in the row of a machine how its payer stands, when that has
// changed, and has the chain try to pull before the machine is paused.
func (s *Supervisor) watchMoney(ctx context.Context, v *view, vm state.VM) error {
	j := v.jobs[vm.Spec]
	if j == nil || j.Status != state.JobRunning {
		return nil
	}
	d, known := v.duesOf(j)
	if !known {
		return nil
	}
	var detail string
	switch {
	case vm.State == state.VMPaused && d.late:
		detail = d.paused(vm.PausedAt)
	case vm.State == state.VMRunning && (d.late || vm.DryAt != 0):
		detail = d.running()
	default:
		return nil
	}
	if d.dryAt != vm.DryAt || detail != vm.Detail {
		_, err := s.edit(ctx, vm.Spec, func(row *state.VM) {
			if row.State == vm.State {
				row.DryAt, row.Detail = d.dryAt, detail
			}
		})
		if err != nil {
			return err
		}
	}
	return s.lastPull(ctx, v, j, d)
}

// lastPull pulls for a payer who is late although nobody has tried to: the
// coordinators are away. It pays the node, or is the evidence for a pause.
func (s *Supervisor) lastPull(ctx context.Context, v *view, j *state.Job, d dues) error {
	if !v.synced || !d.late || d.tried || v.head.Time <= d.paidUntil+(d.pauseAt-d.paidUntil)/2 {
		return nil
	}
	key := fmt.Sprintf("pull/%s/%d/%d", j.Payer.Hex(), j.Token, d.paidUntil)
	if _, err := s.db.Intent(ctx, key); !errors.Is(err, errs.NotFound) {
		return err
	}
	args, err := json.Marshal([]any{j.Payer.Hex(), fmt.Sprint(j.Token)})
	if err != nil {
		return fmt.Errorf("encode arguments of pull: %w", err)
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.Enqueue(ctx, state.Intent{
			Key: key, Contract: "PaymentManager", Method: "pull", Args: args,
			Reason: fmt.Sprintf("prepaid time ended at %s, and no coordinator has pulled", chainTime(d.paidUntil)),
		})
		return err
	})
}
