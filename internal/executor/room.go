package executor

import (
	"context"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// hold is what a machine takes that has no row yet: of a program, as long as it is
// there, and of one that comes from another node. It goes with the process, and
// who takes up such a machine holds it anew.
type hold struct{ resources state.Resources }

// roomAgain gives errs.Exhausted when there is no room for a machine that starts
// again. Its disk is here.
func (s *Supervisor) roomAgain(ctx context.Context, tx *state.Tx, vm state.VM) error {
	if takesProcessors(vm) {
		return nil // It has its room, however little the host has by now.
	}
	p, err := promisesOf(ctx, tx)
	if err != nil {
		return err
	}
	need, used := vm.Resources, s.used(p)
	need.DiskMiB, used.DiskMiB = 0, 0
	if err := s.fits(need, used); err != nil {
		return errs.New(errs.Exhausted, "machine %s does not start again: %w", vm.Spec, err)
	}
	return nil
}

// Hold keeps what a machine without a row needs until free is called, or gives
// errs.Exhausted if that is not free.
func (s *Supervisor) Hold(ctx context.Context, spec message.ItemHash, need state.Resources) (free func(), err error) {
	h := &hold{need}
	free = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.holds, h)
	})
	// Within a transaction that could write, so that nothing is promised to others
	// between the look and the hold.
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		p, err := promisesOf(ctx, tx)
		if err != nil {
			return err
		}
		if err := s.fits(need, s.used(p)); err != nil {
			return errs.New(errs.Exhausted, "machine %s: %w", spec, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.holds[h] = true
		return nil
	})
	if err != nil {
		free()
		return nil, err
	}
	return free, nil
}

// used sums what is taken: by machines and promises, and by what is held.
func (s *Supervisor) used(p promises) state.Resources {
	sum := p.used()
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.holds {
		sum.VCPUs += h.resources.VCPUs
		sum.MemoryMiB += h.resources.MemoryMiB
		sum.DiskMiB += h.resources.DiskMiB
	}
	return sum
}
