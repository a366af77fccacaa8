package functions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Pauses between starts of a held program that keeps ending.
const (
	restartMin = time.Second
	restartMax = time.Minute
	// stableAfter is how long a machine runs that starts anew at once.
	stableAfter = 5 * time.Minute
)

// entry is the place of one program's machine.
type entry struct {
	s    *Service
	spec message.ItemHash

	users int // Of the entry, which goes with the last; guarded by s.mu

	mu       sync.Mutex
	held     bool     // guarded by mu
	current  *machine // guarded by mu
	starting *startup // guarded by mu
	waiting  int      // Calls that have no machine yet; guarded by mu
}

// startup is a start that is under way.
type startup struct {
	done chan struct{}
	m    *machine
	err  error
}

func newEntry(s *Service, spec message.ItemHash) *entry { return &entry{s: s, spec: spec} }

// use counts a user of the entry in, and returns what counts it out: an entry
// without users, machine and purpose is forgotten.
func (s *Service) use(spec message.ItemHash) (*entry, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[spec]
	if e == nil {
		e = newEntry(s, spec)
		s.entries[spec] = e
	}
	e.users++
	return e, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.users--
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.users == 0 && !e.held && e.current == nil && e.starting == nil && s.entries[spec] == e {
			delete(s.entries, spec)
		}
	}
}

// acquire returns the machine of a program with a place for a call in it, which
// release gives back.
func (s *Service) acquire(ctx context.Context, spec message.ItemHash) (*machine, error) {
	e, done := s.use(spec)
	defer done()
	e.mu.Lock()
	if e.waiting >= s.cfg.Queue+s.cfg.Concurrency {
		e.mu.Unlock()
		return nil, &Fault{Status: http.StatusServiceUnavailable, Text: textBusy, RetryAfter: retryAfter}
	}
	e.waiting++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}()
	for {
		m, err := e.machine(ctx)
		if err != nil {
			return nil, err
		}
		select {
		case m.slots <- struct{}{}:
		case <-m.ending:
			continue
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a place: %w", context.Cause(ctx))
		}
		if m.begin() {
			return m, nil
		}
		<-m.slots
	}
}

// machine returns the machine of the program as it is now. It starts one if it
// must, and one anew if the program has changed.
func (e *entry) machine(ctx context.Context) (*machine, error) {
	for {
		e.mu.Lock()
		m, st := e.current, e.starting
		if m != nil && m.isEnding() {
			e.mu.Unlock()
			select {
			case <-m.gone:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for the machine before: %w", context.Cause(ctx))
			}
		}
		if m != nil && !m.isStale(e.s.cfg.Refresh) {
			e.mu.Unlock()
			return m, nil
		}
		if m == nil && st == nil {
			st = e.begin()
		}
		e.mu.Unlock()
		if m != nil {
			if serves, err := e.refresh(ctx, m); serves || err != nil {
				return m, err
			}
			continue
		}
		select {
		case <-st.done:
			if st.err != nil {
				return nil, st.err
			}
			return st.m, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the start: %w", context.Cause(ctx))
		}
	}
}

// refresh sees whether the program is still what the machine was made of, and
// ends it otherwise.
func (e *entry) refresh(ctx context.Context, m *machine) (serves bool, err error) {
	p, err := e.s.plans.plan(ctx, e.spec)
	switch {
	case errors.Is(err, errs.NotFound):
		m.end()
		return false, err
	case err != nil:
		// What is there still works.
		e.s.log.Warn("program not looked up", "item_hash", e.spec, "err", err)
	case p.key != m.plan.key:
		e.s.log.Info("program has changed", "item_hash", e.spec)
		m.end()
		return false, nil
	}
	m.checked(time.Now())
	return true, nil
}

// begin begins a start. The caller holds mu.
func (e *entry) begin() *startup {
	st := &startup{done: make(chan struct{})}
	e.starting = st
	e.s.work.Go(func() {
		_, done := e.s.use(e.spec)
		defer done()
		st.m, st.err = e.s.start(e.s.ctx, e)
		e.mu.Lock()
		e.starting = nil
		if st.err == nil {
			e.current = st.m
			if err := st.m.note(e.held); err != nil { // It may have been held, or let go, since the start began.
				e.s.log.Warn("hold not noted", "item_hash", e.spec, "err", err)
			}
			e.s.work.Go(st.m.watch)
			st.m.setIdle(e.held, firstCallMax)
		}
		e.mu.Unlock()
		close(st.done)
	})
	return st
}

// ended is called when a machine is gone and everything of it is free.
func (e *entry) ended(m *machine) {
	_, done := e.s.use(e.spec)
	defer done()
	e.mu.Lock()
	if e.current == m {
		e.current = nil
	}
	held := e.held
	e.mu.Unlock()
	if held && e.s.ctx.Err() == nil {
		pause := time.Duration(0)
		if time.Since(m.startedAt) < stableAfter {
			pause = restartMin
		}
		e.s.work.Go(func() { e.hold(pause) })
	}
}

// hold starts a held program again until it runs.
func (e *entry) hold(pause time.Duration) {
	for {
		select {
		case <-e.s.ctx.Done():
			return
		case <-time.After(pause):
		}
		e.mu.Lock()
		held := e.held
		e.mu.Unlock()
		if !held || e.s.isDraining() {
			return
		}
		if _, err := e.machine(e.s.ctx); err == nil {
			return
		} else if e.s.ctx.Err() == nil {
			e.s.log.Warn("held program did not start", "item_hash", e.spec, "err", err)
		}
		pause = min(max(2*pause, restartMin), restartMax)
	}
}

func (s *Service) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// setHeld holds the program or lets go of it, and returns what was before.
func (e *entry) setHeld(held bool) (was bool) {
	e.mu.Lock()
	was, e.held = e.held, held
	m := e.current
	e.mu.Unlock()
	if m == nil {
		if was && !held { // The note of its last machine has stayed for the next.
			if err := removeFile(filepath.Join(e.s.programDir(e.spec), noteFile)); err != nil {
				e.s.log.Warn("end of hold not noted", "item_hash", e.spec, "err", err)
			}
		}
		return was
	}
	if err := m.note(held); err != nil {
		e.s.log.Warn("hold not noted", "item_hash", e.spec, "err", err)
	}
	m.rest()
	return was
}

// stop ends the machine and waits until it is gone.
func (e *entry) stop(ctx context.Context) error {
	e.mu.Lock()
	m, st := e.current, e.starting
	e.mu.Unlock()
	if st != nil {
		select {
		case <-st.done:
			m = st.m
		case <-ctx.Done():
			return fmt.Errorf("wait for the start: %w", context.Cause(ctx))
		}
	}
	if m == nil {
		return nil
	}
	m.end()
	select {
	case <-m.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop program %s: %w", e.spec, context.Cause(ctx))
	}
}

// drain ends the machine unless it is held; a start is waited for.
func (e *entry) drain() {
	e.mu.Lock()
	m, st, held := e.current, e.starting, e.held
	e.mu.Unlock()
	if st != nil {
		<-st.done
		m = st.m
	}
	if m == nil {
		return
	}
	if held {
		m.leave()
		return
	}
	m.cut()
	<-m.gone
}

// status tells about the machine, if there is one.
func (e *entry) status() (Status, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.current
	if m == nil {
		return Status{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Status{
		Spec: e.spec, Owner: m.plan.program.Address, Held: e.held, Calls: m.calls, StartedAt: m.startedAt, Network: m.network, How: m.how,
		Resources: m.plan.program.Resources,
	}, true
}

// evict ends the machine that was idle for longest, and waits until it is gone.
// It reports whether there was one.
func (s *Service) evict(ctx context.Context) bool {
	var oldest *machine
	var since time.Time
	for _, e := range s.all() {
		e.mu.Lock()
		m, held := e.current, e.held
		e.mu.Unlock()
		if m == nil || held {
			continue
		}
		if at, idle := m.idleSince(); idle && (oldest == nil || at.Before(since)) {
			oldest, since = m, at
		}
	}
	if oldest == nil {
		return false
	}
	oldest.end()
	select {
	case <-oldest.gone:
		return true
	case <-ctx.Done():
		return false
	}
}

func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what was kept of a program: %w", err)
	}
	return nil
}
