package functions

import (
	"context"
	"fmt"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// lookupsAtOnce bounds the programs that are looked up for strangers at the same
	// time, and fetchesAtOnce those whose files are brought.
	lookupsAtOnce, fetchesAtOnce = 16, 8
	// turnsWaiting bounds the programs that wait for one of these, or for their start.
	turnsWaiting = 64
	// ownerPart: one owner's programs have one in so many places, those who wait
	// included.
	ownerPart = 4
)

// turns lets so many at a time, and those of different owners one after the other,
// whoever has asked more often. Use newTurns.
type turns struct {
	atOnce, waiting, perOwner int

	mu     sync.Mutex
	busy   int                        // guarded by mu
	queued int                        // guarded by mu
	has    map[string]int             // Of each owner, those that wait included; guarded by mu
	queues map[string][]chan struct{} // Closed for one whose turn it is; guarded by mu
	order  []string                   // Owners that wait, who is next first; guarded by mu
}

func newTurns(atOnce, waiting, perOwner int) *turns {
	return &turns{atOnce: atOnce, waiting: waiting, perOwner: perOwner, has: map[string]int{}, queues: map[string][]chan struct{}{}}
}

// take waits for a turn, and gives errs.Exhausted when too many wait already. leave
// gives it back.
func (t *turns) take(ctx context.Context, owner string) (leave func(), err error) {
	leave = sync.OnceFunc(func() { t.leave(owner) })
	t.mu.Lock()
	switch {
	case t.has[owner] >= t.perOwner:
		t.mu.Unlock()
		return nil, errs.New(errs.Exhausted, "%d programs of %s start already", t.perOwner, owner)
	case t.busy < t.atOnce:
		t.busy++
		t.has[owner]++
		t.mu.Unlock()
		return leave, nil
	case t.queued >= t.waiting:
		t.mu.Unlock()
		return nil, errs.New(errs.Exhausted, "%d programs wait for their start already", t.waiting)
	}
	mine := make(chan struct{})
	t.has[owner]++
	t.queued++
	if len(t.queues[owner]) == 0 {
		t.order = append(t.order, owner)
	}
	t.queues[owner] = append(t.queues[owner], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return leave, nil
	case <-ctx.Done():
		t.giveUp(owner, mine)
		return nil, fmt.Errorf("wait for a turn to start: %w", context.Cause(ctx))
	}
}

// leave passes a turn on to the next owner.
func (t *turns) leave(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone(owner)
	if len(t.order) == 0 {
		t.busy--
		return
	}
	next := t.order[0]
	t.order = t.order[1:]
	first := t.queues[next][0]
	t.queued--
	if t.queues[next] = t.queues[next][1:]; len(t.queues[next]) == 0 {
		delete(t.queues, next)
	} else {
		t.order = append(t.order, next)
	}
	close(first)
}

// giveUp takes who waits no longer out of the queue, or passes the turn on that has
// just come.
func (t *turns) giveUp(owner string, mine chan struct{}) {
	t.mu.Lock()
	for i, c := range t.queues[owner] {
		if c != mine {
			continue
		}
		t.queued--
		t.gone(owner)
		t.queues[owner] = append(t.queues[owner][:i:i], t.queues[owner][i+1:]...)
		if len(t.queues[owner]) == 0 {
			delete(t.queues, owner)
			t.order = without(t.order, owner)
		}
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.leave(owner)
}

func without(all []string, one string) []string {
	out := make([]string, 0, len(all))
	for _, s := range all {
		if s != one {
			out = append(out, s)
		}
	}
	return out
}

// gone counts one of an owner out. The caller holds mu.
func (t *turns) gone(owner string) {
	if t.has[owner]--; t.has[owner] <= 0 {
		delete(t.has, owner)
	}
}

// planInTurn makes the plan of an entry's program, and waits for the turn of its
// start, which leave gives back. Anybody may call any program that there is, so what
// that costs before a machine runs is bounded: who is looked up, whose files are
// brought, and who starts. What a scheduler has the node hold waits for nobody.
func (s *Service) planInTurn(ctx context.Context, e *entry) (p *plan, leave func(), err error) {
	if s.isHeld(e) {
		p, err = s.plans.plan(ctx, e.spec)
		return p, func() {}, err
	}
	owner, err := s.ownerOf(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	fetched, err := s.fetches.take(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	p, err = s.plans.plan(ctx, e.spec)
	fetched()
	if err != nil {
		return nil, nil, err
	}
	leave, err = s.starts.take(ctx, owner)
	return p, leave, err
}

// ownerOf looks up who owns a program.
func (s *Service) ownerOf(ctx context.Context, e *entry) (string, error) {
	done, err := s.lookups.take(ctx, string(e.spec))
	if err != nil {
		return "", err
	}
	defer done()
	p, err := s.parts.Messages.Program(ctx, e.spec)
	if err != nil {
		return "", missing(e.spec, err)
	}
	return p.Address, nil
}

// place takes one of the places of machines, those that start included, until free is
// called; false if there is none.
func (s *Service) place() (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed >= s.cfg.Machines {
		return nil, false
	}
	return s.placeLocked(), true
}

// placeLocked is place whatever the bound. The caller holds mu.
func (s *Service) placeLocked() (free func()) {
	s.placed++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.placed--
	})
}
