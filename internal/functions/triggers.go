package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// reviewEvery is how often is looked which programs this node reacts for.
	reviewEvery = 15 * time.Second
	// messagesPage is how many messages are read at once.
	messagesPage = 256
	// eventsAtOnce bounds the calls by messages and by the clock that run; what
	// comes while so many do is dropped.
	eventsAtOnce = 64
	// assignedMax bounds the programs that this node reacts for.
	assignedMax = 10_000
	// cronMax and cronChars bound the expressions of one program.
	cronMax   = 16
	cronChars = 128
	// failedShown bounds the programs in one warning.
	failedShown = 8
)

// Assigned says for which programs this node reacts to messages and the clock.
type Assigned interface {
	// Assigned returns the programs, in no order.
	Assigned(ctx context.Context) ([]message.ItemHash, error)
}

// Triggers calls programs when messages come in that they subscribed to, and
// when it is time. Use NewTriggers, then Run. It calls a program for an event
// once at most: what happens while the node is down, or is busy, is not made
// up for.
type Triggers struct {
	s        *Service
	db       *state.DB
	assigned Assigned
	log      *slog.Logger

	wake  <-chan struct{}
	slots chan struct{}
	calls sync.WaitGroup

	index    *index
	patterns map[message.ItemHash][]pattern // In index.
	clocks   map[message.ItemHash][]clock
	ran      map[message.ItemHash]time.Time // The last run by the clock.
	spent    map[message.ItemHash]int       // Calls in this minute.
	minute   time.Time
	last     int64 // The newest message that was seen.
}

// clock is one cron expression.
type clock struct {
	expression string
	schedule   cron.Schedule
}

// NewTriggers returns triggers that call by s.
func NewTriggers(s *Service, db *state.DB, assigned Assigned, log *slog.Logger) *Triggers {
	return &Triggers{
		s: s, db: db, assigned: assigned, log: log, wake: db.Wake("messages"), slots: make(chan struct{}, eventsAtOnce),
		index: newIndex(nil), clocks: map[message.ItemHash][]clock{}, ran: map[message.ItemHash]time.Time{}, spent: map[message.ItemHash]int{},
	}
}

// Run reacts until ctx ends, and then waits for the calls.
func (t *Triggers) Run(ctx context.Context) error {
	defer t.calls.Wait()
	var err error
	if t.last, err = t.db.LastMessage(ctx); err != nil {
		return err
	}
	runs, err := t.db.CronRuns(ctx)
	if err != nil {
		return err
	}
	for _, r := range runs {
		t.ran[r.Program] = r.At
	}
	t.minute = time.Now().UTC().Truncate(time.Minute)
	review := time.NewTicker(reviewEvery)
	defer review.Stop()
	for pass := t.review; ; {
		if err := pass(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("triggers pass failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
			pass = t.follow
		case <-review.C:
			pass = t.review
		case <-time.After(time.Until(t.minute.Add(time.Minute))):
			pass = t.tick
		}
	}
}

// review finds out which programs this node reacts for, and to what. So
// amendments, what is forgotten, and what was there before it started all
// count.
func (t *Triggers) review(ctx context.Context) error {
	all, err := t.assigned.Assigned(ctx)
	if err != nil {
		return fmt.Errorf("list assigned programs: %w", err)
	}
	patterns := map[message.ItemHash][]pattern{}
	clocks := map[message.ItemHash][]clock{}
	var failed []error
	for _, spec := range all[:min(len(all), assignedMax)] {
		p, err := t.s.parts.Messages.Program(ctx, spec)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			// The next review asks again. Until then it is as it was, and keeps no
			// other from what they react to.
			failed = append(failed, fmt.Errorf("look up program %s: %w", spec, err))
			if ps, ok := t.patterns[spec]; ok {
				patterns[spec] = ps
			}
			if cs, ok := t.clocks[spec]; ok {
				clocks[spec] = cs
			}
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if ps := parsePatterns(p.On.Message); len(ps) > 0 {
			patterns[spec] = ps
		}
		if cs := clocksOf(p); len(cs) > 0 {
			clocks[spec] = cs
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("review programs: %w", context.Cause(ctx))
	}
	t.index, t.patterns, t.clocks = newIndex(patterns), patterns, clocks
	if len(failed) > 0 {
		// Nothing is forgotten of programs that nobody could tell about.
		return errors.Join(failed[:min(len(failed), failedShown)]...)
	}
	return t.forgetRuns(ctx)
}

// forgetRuns removes the rows of programs that the clock starts no longer.
func (t *Triggers) forgetRuns(ctx context.Context) error {
	for _, spec := range slices.Collect(maps.Keys(t.ran)) {
		if _, ok := t.clocks[spec]; ok {
			continue
		}
		if err := t.db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveCronRun(ctx, spec) }); err != nil {
			return err
		}
		delete(t.ran, spec)
	}
	return nil
}

// follow calls programs for the messages that have come in.
func (t *Triggers) follow(ctx context.Context) error {
	for {
		page, err := t.db.MessagesAfter(ctx, t.last, messagesPage)
		if err != nil {
			return err
		}
		for _, m := range page {
			t.last = m.ID
			if m.Quiet || m.Status != state.MessageProcessed {
				continue
			}
			if err := t.hear(ctx, m); err != nil {
				t.log.Warn("message not told to programs", "item_hash", m.Envelope.ItemHash, "err", err)
			}
		}
		if len(page) < messagesPage {
			return nil
		}
	}
}

// hear calls the programs that subscribed to a message.
func (t *Triggers) hear(ctx context.Context, m *state.Message) error {
	view := m.View()
	raw, err := view.AppendSingle(nil)
	if err != nil {
		return err
	}
	v, err := parseJSON(raw)
	if err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	msg, ok := v.(map[string]any)
	if !ok {
		return errors.New("message is no object")
	}
	for _, spec := range t.index.find(msg) {
		t.start(ctx, spec, raw)
	}
	return nil
}

// clocksOf returns the clocks of a program: metadata.cron, a list of
// expressions of five fields in UTC. What cannot be read counts for nothing.
func clocksOf(p *message.Program) (out []clock) {
	var all []string
	if json.Unmarshal(p.Metadata["cron"], &all) != nil {
		return nil
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	for _, e := range all[:min(len(all), cronMax)] {
		if len(e) > cronChars || strings.Contains(e, "=") { // A zone of its own.
			continue
		}
		if s, err := parser.Parse(e); err == nil {
			out = append(out, clock{e, s})
		}
	}
	return out
}

// tick calls the programs whose time the minute is that has begun.
func (t *Triggers) tick(ctx context.Context) error {
	now := time.Now().UTC().Truncate(time.Minute)
	if !now.After(t.minute) {
		return nil
	}
	t.minute = now
	clear(t.spent)
	var all error
	for _, spec := range slices.Sorted(maps.Keys(t.clocks)) {
		due, ok := dueOf(t.clocks[spec], now)
		if !ok || !t.ran[spec].Before(now) {
			continue
		}
		// Written first: better not at all than twice.
		err := t.db.Update(ctx, func(tx *state.Tx) error { return tx.PutCronRun(ctx, state.CronRun{Program: spec, At: now}) })
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		t.ran[spec] = now
		raw, err := json.Marshal(map[string]string{"type": "aleph.cron", "cron": due, "time": now.Format(time.RFC3339)})
		if err != nil {
			all = errors.Join(all, fmt.Errorf("encode event of the clock: %w", err))
			continue
		}
		t.start(ctx, spec, raw)
	}
	return all
}

// dueOf returns the first expression whose time the minute is.
func dueOf(clocks []clock, minute time.Time) (string, bool) {
	for _, c := range clocks {
		if c.schedule.Next(minute.Add(-time.Second)).Equal(minute) {
			return c.expression, true
		}
	}
	return "", false
}

// start begins a call by an event, within bounds.
func (t *Triggers) start(ctx context.Context, spec message.ItemHash, event []byte) {
	if t.spent[spec] >= t.s.cfg.EventsPerMinute {
		t.s.meter.events.WithLabelValues("too_many").Inc()
		return
	}
	select {
	case t.slots <- struct{}{}:
	default:
		t.s.meter.events.WithLabelValues("busy").Inc()
		return
	}
	t.spent[spec]++
	t.calls.Go(func() {
		defer func() { <-t.slots }()
		outcome := "answered"
		if err := t.s.Notify(ctx, spec, event); err != nil {
			outcome = "failed"
			t.log.Info("program failed at an event", "item_hash", spec, "err", err)
		}
		t.s.meter.events.WithLabelValues(outcome).Inc()
	})
}

// Notify calls a program with an event, a JSON document.
func (s *Service) Notify(ctx context.Context, spec message.ItemHash, event []byte) error {
	if err := s.awaitTaken(ctx); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	m, err := s.acquire(ctx, spec)
	if err != nil {
		return err
	}
	defer m.release()
	reply, err := m.notify(ctx, event)
	if err != nil {
		return err
	}
	s.log.Debug("program took an event", "item_hash", spec, "bytes", len(reply.Body))
	return nil
}
