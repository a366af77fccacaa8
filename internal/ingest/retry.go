package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// dueMax bounds the messages of one pass, those that were woken and the others each;
	// the rest wait for the next.
	dueMax = 500
	// fetchParallel bounds the files that are fetched at the same time, as
	// each takes the whole line.
	fetchParallel = 4
	// fetchMax bounds the transfer of one file.
	fetchMax = 30 * time.Minute
	// tellInterval is how often it is looked whether there are messages to tell of
	// and somebody who listens; commits say at once that there are.
	tellInterval = 5 * time.Second
	// passDelayMax bounds the pause after failed passes.
	passDelayMax = 30 * time.Second
)

// Run looks again at messages that wait, tells others of what came in through other
// processes and asks them for what did not come here, until ctx ends; it returns ctx's cause. Only the process that
// owns the database runs it. Messages that wait for bytes have a loop of their own,
// so that the others do not wait for a line.
func (p *Pipeline) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_ = loop.Every(ctx, p.log, p.cfg.RetryInterval, passDelayMax, nil, p.inTurn("fetch", p.fetchPass)) // ends with ctx, as the others
		p.fetches.workers.Wait()
	})
	wg.Go(func() {
		_ = loop.Every(ctx, p.log, tellInterval, passDelayMax, p.db.Wake("untold"), p.inTurn("tell", p.tellPass))
	})
	wg.Go(func() {
		_ = loop.Every(ctx, p.log, tidyEvery, time.Hour, nil, p.inTurn("tidy", p.tidyPass)) // as well
	})
	if p.onNetwork && p.cfg.CatchUpInterval > 0 {
		wg.Go(func() {
			_ = loop.Every(ctx, p.log, min(catchUpLook, p.cfg.CatchUpInterval), passDelayMax, nil, p.inTurn("catch up", p.newCatcher().pass))
		})
	}
	return loop.Every(ctx, p.log, p.cfg.RetryInterval, passDelayMax, p.db.Wake("pending"), p.inTurn("retry", p.retryPass))
}

// tidyEvery is the time between two looks for what need not be kept any more.
const tidyEvery = 10 * time.Minute

// tidyPass drops the contents of messages that ended a while ago, and the oldest of
// too many refusals.
func (p *Pipeline) tidyPass(ctx context.Context) error {
	return p.db.Update(ctx, func(tx *state.Tx) error {
		return errors.Join(tx.ForgetSealed(ctx, p.now().Add(-p.cfg.GracePeriod)), tx.TrimRejected(ctx))
	})
}

// due returns the pending messages that are due and that wait for a file or a
// content, or for something else. Those that were woken come first, as many as others:
// however many wait for what does not come, they delay none for which it came.
func (p *Pipeline) due(ctx context.Context, bytes bool) (out []state.Pending, err error) {
	now := p.now()
	for _, woken := range []bool{true, false} {
		rows, err := p.db.PendingDueFor(ctx, now, dueMax, woken, bytes, message.CodeFileUnavailable, message.CodeContentUnavailable)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// retryPass looks again at what waits for other messages.
func (p *Pipeline) retryPass(ctx context.Context) error {
	if err := p.hurry(ctx); err != nil {
		return err
	}
	if err := p.wakeRest(ctx); err != nil {
		return err
	}
	due, err := p.due(ctx, false)
	if err != nil {
		return err
	}
	return p.retryAll(ctx, due)
}

// hurry makes messages due that wait for longer than any does: the clock was fast when they
// came, and has been set back.
func (p *Pipeline) hurry(ctx context.Context) error {
	now := p.now()
	latest := now.Add(2 * backoffMax)
	if far, err := p.db.PendingAfter(ctx, latest); err != nil || !far {
		return err
	}
	return p.db.Update(ctx, func(tx *state.Tx) error { return tx.HurryPending(ctx, now, latest) })
}

// wakeRest wakes a portion of those of whom too many waited for one thing to be woken
// when it came. The next pass follows at once.
func (p *Pipeline) wakeRest(ctx context.Context) error {
	if more, err := p.db.Wakes(ctx); err != nil || !more {
		return err
	}
	return p.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.WakeRest(ctx, p.now(), p.pendingMax)
		return err
	})
}

// fetchPass looks again at what waits for bytes: at once if they are here by now, else
// when there is a line to fetch them. It does not wait for that, as a large file takes
// long, and others come meanwhile.
func (p *Pipeline) fetchPass(ctx context.Context) error {
	due, err := p.due(ctx, true)
	if err != nil {
		return err
	}
	var here, missing []state.Pending
	var inVain []string
	for i := range due {
		if p.hasBytes(ctx, &due[i]) {
			here = append(here, due[i])
			continue
		}
		missing = append(missing, due[i])
		if due[i].Woken {
			inVain = append(inVain, due[i].Key)
		}
	}
	if len(inVain) > 0 { // They have had their turn.
		if err := p.db.Update(ctx, func(tx *state.Tx) error { return tx.Unwake(ctx, inVain) }); err != nil {
			return err
		}
	}
	for range p.fetches.offer(missing) {
		p.fetches.workers.Go(func() { p.fetchDue(ctx) })
	}
	return p.retryAll(ctx, here)
}

// hasBytes reports whether what a message waits for is here.
func (p *Pipeline) hasBytes(ctx context.Context, row *state.Pending) bool {
	env := new(message.Envelope)
	if env.UnmarshalJSON(row.Envelope) != nil {
		return true // To be judged.
	}
	hash := env.ItemHash
	if env.ItemType == message.Inline {
		c, err := env.Content()
		s, ok := c.(*message.Store)
		if err != nil || !ok {
			return true
		}
		hash = s.ItemHash
	}
	_, err := p.files.Stat(ctx, hash)
	return err == nil
}

// fetchDue fetches bytes for messages until no more wait for a line.
func (p *Pipeline) fetchDue(ctx context.Context) {
	for {
		p.around.Turn(ctx, "fetch worker")
		row := p.fetches.next()
		if row == nil {
			return
		}
		if err := p.retry(ctx, row); err != nil && ctx.Err() == nil {
			p.log.Warn("message not looked at again", "item_hash", row.Hash, "err", err)
		}
		p.fetches.done(row)
	}
}

// fetches are the messages for which bytes are being fetched, or will be. It is ready
// when zero.
type fetches struct {
	workers sync.WaitGroup
	mu      sync.Mutex
	queue   []state.Pending // guarded by mu
	busy    map[string]bool // guarded by mu; by key of the row.
	running int             // guarded by mu; of the workers.
}

// offer replaces what waits for a line, and returns how many workers are to be started.
func (f *fetches) offer(rows []state.Pending) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = slices.DeleteFunc(rows, func(r state.Pending) bool { return f.busy[r.Key] })
	n := min(fetchParallel-f.running, len(f.queue))
	f.running += n
	return n
}

// next is a message whose turn it is; nil ends the worker.
func (f *fetches) next() *state.Pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.running--
		return nil
	}
	row := f.queue[0]
	f.queue = f.queue[1:]
	if f.busy == nil {
		f.busy = map[string]bool{}
	}
	f.busy[row.Key] = true
	return &row
}

func (f *fetches) done(row *state.Pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, row.Key)
}

// retryAll looks again at messages, some at the same time, so that they share
// transactions.
func (p *Pipeline) retryAll(ctx context.Context, due []state.Pending) error {
	var wg sync.WaitGroup
	turns := make(chan struct{}, batchMax)
	failed := make([]error, len(due))
	for i := range due {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			p.around.Turn(ctx, "retry "+due[i].Key)
			failed[i] = p.retry(ctx, &due[i])
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// retry gets what the message waits for, if it can be had, and judges it
// again. A refusal is an end like any other.
func (p *Pipeline) retry(ctx context.Context, row *state.Pending) error {
	env := new(message.Envelope)
	if err := env.UnmarshalJSON(row.Envelope); err != nil {
		return fmt.Errorf("decode pending message %s: %w", row.Hash, err)
	}
	p.obtainMissing(ctx, env)
	p.around.Turn(ctx, "retry "+row.Key) // Others may have waited for the same.
	if ctx.Err() != nil {
		return nil //nolint:nilerr // Asked to stop; the row is still due.
	}
	it := &item{env: env, raw: row.Envelope, origin: row.Origin, receivedAt: row.ReceivedAt, waiting: row}
	if row.Attempts == 0 && !row.Origin.Contract {
		it.sigErr = signature.Verify(env) // Rows of older versions have not been through this.
	}
	var v *Verdict
	err := p.readWaiting(ctx, it)
	if err == nil {
		p.findRunway(ctx, it)
		v, err = p.write(ctx, it)
	}
	if err != nil && ctx.Err() == nil && errs.KindOf(err) == errs.Internal {
		p.log.Error("message not judged", "item_hash", row.Hash, "err", err)
		v, err = p.countFailure(ctx, it)
	}
	if err == nil && v.Status == state.MessageProcessed {
		err = p.settle(ctx, env)
	}
	if err == nil && v.Status == state.MessageRejected {
		p.log.Info("message refused", "item_hash", row.Hash, "err", v.Refusal)
	}
	return err
}

// settle ends the while for which a file is kept that was fetched for the message.
func (p *Pipeline) settle(ctx context.Context, env *message.Envelope) error {
	if env.ItemType != message.Inline || env.Type != message.TypeStore {
		return nil
	}
	c, err := env.Content()
	if err != nil {
		return err
	}
	if s, ok := c.(*message.Store); ok {
		return p.Settled(ctx, env.ItemHash, s.ItemHash)
	}
	return nil
}

func (p *Pipeline) readWaiting(ctx context.Context, it *item) error {
	if it.env.ItemType != message.Inline {
		return p.readContent(ctx, it)
	}
	it.content = []byte(it.env.ItemContent)
	return nil
}

// countFailure lets a message that this node failed to judge wait longer, and not
// for ever: it would be due again and again, and delay the others.
func (p *Pipeline) countFailure(ctx context.Context, it *item) (v *Verdict, err error) {
	err = p.db.Update(ctx, func(tx *state.Tx) error {
		b, err := p.newBatch(ctx, tx, []*item{it}, p.now())
		if err != nil {
			return err
		}
		why := &message.RejectError{Code: message.CodeInternal, Detail: "this node failed to judge the message"}
		v = &Verdict{ItemHash: it.env.ItemHash, Refusal: why}
		return b.refuse(ctx, it, v, why)
	})
	return v, err
}

// obtainMissing asks other nodes for what the message names and is not here.
// What cannot be had now is missing still; judging will say so.
func (p *Pipeline) obtainMissing(ctx context.Context, env *message.Envelope) {
	if env.ItemType != message.Inline {
		p.fetch(ctx, env.ItemHash)
		return
	}
	c, err := env.Content()
	if err != nil {
		return
	}
	if s, ok := c.(*message.Store); ok {
		if p.cfg.KeepFiles {
			p.fetch(ctx, s.ItemHash)
		}
		return
	}
	// One while for all: who names many files that nobody has must not keep the others
	// waiting. In another order each time, so that none is never asked for.
	ctx, cancel := context.WithTimeout(ctx, obtainMax)
	defer cancel()
	parts := partsOf(c)
	for i := len(parts) - 1; i > 0; i-- {
		j := p.around.Chance(int64(i + 1))
		parts[i], parts[j] = parts[j], parts[i]
	}
	for _, part := range parts {
		if ctx.Err() != nil {
			return
		}
		if _, err := p.db.Pin(ctx, string(part.ref)); !errors.Is(err, errs.NotFound) {
			continue
		}
		if _, err := p.Obtain(ctx, part.ref); err != nil {
			p.log.Debug("message not obtained", "item_hash", part.ref, "err", err)
		}
	}
}

// fetch brings a file here, if it can be had.
func (p *Pipeline) fetch(ctx context.Context, hash message.ItemHash) {
	if _, err := p.files.Stat(ctx, hash); err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchMax)
	defer cancel()
	if err := p.files.Fetch(ctx, hash); err != nil {
		p.log.Debug("file not fetched", "item_hash", hash, "err", err)
	}
}
