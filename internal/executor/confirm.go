package executor

import (
	"context"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// tellRunning tells the chain again that a machine runs, when it still does not
// know. A reorganisation can put the word before the opening of the job, where
// the contract refuses it, or take the job away just when the guest is ready.
func (s *Supervisor) tellRunning(ctx context.Context, v *view, vm state.VM) error {
	j := v.jobs[vm.Spec]
	if j == nil || j.Status != state.JobAssigned || vm.State != state.VMRunning {
		return nil
	}
	base := runningBase(vm.Spec, vm.Attempt)
	// Read first: until the chain has its word, each pass looks at each machine.
	told, err := tries(ctx, s.db, base)
	if err != nil || onItsWay(told) {
		return err
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		// As of now: the worker may have told the chain since the pass looked.
		j, err := tx.Job(ctx, vm.Spec)
		if err != nil || j.Status != state.JobAssigned {
			return ignoreNotFound(err)
		}
		told, err := tries(ctx, tx, base)
		if err != nil || onItsWay(told) {
			return err
		}
		// The first repetition is at once; a contract that goes on to refuse is not
		// asked for ever.
		if n := len(told); n > 1 && v.head.Time < j.AssignedAt+uint64(n-1)*uint64(insistAfter.Seconds()) {
			return nil
		}
		intent, err := confirmRunning(ctx, tx, vm, *j)
		if err != nil {
			return err
		}
		intent.Key = tryKey(base, len(told))
		_, err = tx.Enqueue(ctx, intent)
		return err
	})
}

// onItsWay reports whether one of the tries, or its event, is still to come.
func onItsWay(told []state.Intent) bool {
	return slices.ContainsFunc(told, func(i state.Intent) bool { return !lost(i) })
}
