package executor

import (
	"context"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What is done with the disks of machines takes minutes, and nobody waits for it:
// it runs beside the passes, one thing at a time for each machine.

// runTasks runs what is submitted until ctx ends, and waits for it.
func (s *Supervisor) runTasks(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case task := <-s.tasks:
			wg.Go(func() { task(ctx) })
		case <-ctx.Done():
			return
		}
	}
}

// submit has Run run the task. It waits until Run has taken it.
func (s *Supervisor) submit(ctx context.Context, task func(context.Context)) error {
	select {
	case s.tasks <- task:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the node takes up nothing now: %w", context.Cause(ctx))
	}
}

// claim keeps others from the disks of a machine until done is called. What is
// done with them by somebody else gives errs.Conflict.
func (s *Supervisor) claim(spec message.ItemHash, what string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, taken := s.claims[spec]; taken {
		return nil, errs.New(errs.Conflict, "machine %s is busy: %s", spec, have)
	}
	s.claims[spec] = what
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.claims, spec)
	}, nil
}

// claimed returns what is done with the disks of a machine, "" for nothing.
func (s *Supervisor) claimed(spec message.ItemHash) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[spec]
}

// machine returns the machine of a VM that runs, nil while none is known.
func (s *Supervisor) machine(spec message.ItemHash) vmm.Machine {
	s.mu.Lock()
	w := s.workers[spec]
	s.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.current()
}
