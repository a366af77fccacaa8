package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// batchMax bounds the messages of one transaction.
const batchMax = 512

// writer lets messages that come at the same time share a transaction, and with it
// the wait for the disk: who finds nobody writing writes, for all who come
// meanwhile; then one of those does. It is ready when zero.
type writer struct {
	mu      sync.Mutex
	queue   []*turn // guarded by mu
	writing bool    // guarded by mu
}

// turn is one message that waits for its verdict.
type turn struct {
	it      *item
	verdict *Verdict
	err     error
	done    chan bool // true: there is a verdict; false: it is yours to write
}

// write judges a message and makes the verdict durable.
func (p *Pipeline) write(ctx context.Context, it *item) (*Verdict, error) {
	t := &turn{it: it, done: make(chan bool, 1)}
	w := &p.writer
	w.mu.Lock()
	w.queue = append(w.queue, t)
	mine := !w.writing
	w.writing = true
	w.mu.Unlock()
	if mine {
		t.done <- false
	}
	// Once it is in the queue others may write it, so it waits for the verdict even
	// if nobody wants it any more: that is one transaction or two.
	if !<-t.done {
		p.lead(context.WithoutCancel(ctx))
	}
	return t.verdict, t.err
}

// lead writes what is in the queue, and passes on what has come meanwhile.
func (p *Pipeline) lead(ctx context.Context) {
	w := &p.writer
	w.mu.Lock()
	n := min(len(w.queue), batchMax)
	turns := w.queue[:n:n]
	w.queue = w.queue[n:]
	w.mu.Unlock()

	p.writeTurns(ctx, turns)
	for _, t := range turns {
		switch {
		case t.verdict != nil:
			p.count(t.verdict.Status, refusalOf(t.verdict))
		case errors.Is(t.err, errFull):
			p.turnedAway.WithLabelValues("all").Inc()
		case errors.Is(t.err, errSenderFull):
			p.turnedAway.WithLabelValues("sender").Inc()
		}
	}

	w.mu.Lock()
	if len(w.queue) > 0 {
		w.queue[0].done <- false
	} else {
		w.writing, w.queue = false, nil
	}
	w.mu.Unlock()
	for _, t := range turns {
		t.done <- true
	}
}

// refusalOf is the refusal as an error, nil if there is none.
func refusalOf(v *Verdict) error {
	if v.Refusal == nil {
		return nil
	}
	return v.Refusal
}

// writeTurns gives every turn its verdict or its error. When they cannot be
// written together, and not because nothing can be written, each is tried by
// itself, so that none spoils the others.
func (p *Pipeline) writeTurns(ctx context.Context, turns []*turn) {
	err := p.writeBatch(ctx, turns)
	if err == nil {
		return
	}
	kind := errs.KindOf(err)
	alone := len(turns) == 1 || kind == errs.Unavailable || kind == errs.Exhausted
	for _, t := range turns {
		t.verdict, t.err = nil, nil
		if alone {
			t.err = fmt.Errorf("write message %s: %w", t.it.env.ItemHash, err)
		} else {
			p.writeTurns(ctx, []*turn{t})
		}
	}
}

// writeBatch gives all turns their verdicts in one transaction. A panic is an error of
// it: whoever leads would not pass on the others, and who called may survive it.
func (p *Pipeline) writeBatch(ctx context.Context, turns []*turn) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("judgement panicked", "messages", len(turns), "err", v, "stack", string(debug.Stack()))
			err = errs.New(errs.Internal, "panic: %v", v)
		}
	}()
	return p.db.Update(ctx, func(tx *state.Tx) error {
		items := make([]*item, len(turns))
		for i, t := range turns {
			items[i] = t.it
		}
		b, err := p.newBatch(ctx, tx, items, p.now())
		if err != nil {
			return err
		}
		for _, t := range turns {
			t.verdict, err = b.take(ctx, t.it)
			switch {
			case errors.Is(err, errFull), errors.Is(err, errSenderFull):
				t.verdict, t.err = nil, err
			case err != nil:
				return err
			}
		}
		if err := b.finish(ctx); err != nil {
			return err
		}
		return b.noteUntold(ctx, turns)
	})
}
