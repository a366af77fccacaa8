package executor

import (
	"context"
	"errors"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// runningKey names the n-th word to the chain that a machine runs.
func runningKey(spec message.ItemHash, attempt uint8, n int) string {
	if n == 0 {
		return fmt.Sprintf("running/%s/%d", spec, attempt)
	}
	return fmt.Sprintf("running/%s/%d/%d", spec, attempt, n)
}

// tellRunning tells the chain again that a machine runs, when it still does not
// know. A reorganisation can put the word before the opening of the job, where
// the contract refuses it, or take the job away just when the guest is ready.
func (s *Supervisor) tellRunning(ctx context.Context, v *view, vm state.VM) error {
	j := v.jobs[vm.Spec]
	if j == nil || j.Status != state.JobAssigned || vm.State != state.VMRunning {
		return nil
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		// As of now: the worker may have told the chain since the pass looked.
		j, err := tx.Job(ctx, vm.Spec)
		if err != nil || j.Status != state.JobAssigned {
			return ignoreNotFound(err)
		}
		n := 0
		for ; ; n++ {
			last, err := tx.Intent(ctx, runningKey(vm.Spec, vm.Attempt, n))
			if errors.Is(err, errs.NotFound) {
				break
			}
			if err != nil {
				return err
			}
			if last.Status != state.IntentReverted && last.Status != state.IntentExpired {
				return nil // It is on its way, or the event is.
			}
		}
		// The first repetition is at once; a contract that goes on to refuse is not
		// asked for ever.
		if n > 1 && v.head.Time < j.AssignedAt+uint64(n-1)*uint64(insistAfter.Seconds()) {
			return nil
		}
		intent, err := confirmRunning(ctx, tx, vm, *j)
		if err != nil {
			return err
		}
		intent.Key = runningKey(vm.Spec, vm.Attempt, n)
		_, err = tx.Enqueue(ctx, intent)
		return err
	})
}
