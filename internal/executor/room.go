package executor

import (
	"context"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// hold is what a machine of a program takes, as long as it is there. No row has it:
// it goes with the process, and who takes such a machine over holds it anew.
type hold struct{ resources state.Resources }

// Hold keeps what the machine of a program needs until free is called, or gives
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
			return errs.New(errs.Exhausted, "program %s: %w", spec, err)
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

// used sums what is taken: by machines and promises, and by programs.
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
