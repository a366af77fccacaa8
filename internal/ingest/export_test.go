package ingest

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// WaitingOffersMax bounds a payer's offers that are not jobs yet.
const WaitingOffersMax = waitingOffersMax

// Settle looks again at everything that waits, due or not, until that changes
// nothing any more.
func (p *Pipeline) Settle(ctx context.Context) error {
	const passesMax = 50
	for range passesMax {
		rows, err := p.db.PendingDue(ctx, time.Now().Add(24*time.Hour), 1000)
		if err != nil || len(rows) == 0 {
			return err
		}
		last, err := p.db.LastMessage(ctx)
		if err != nil {
			return err
		}
		before := len(rows)
		for i := range rows {
			if err := p.retry(ctx, &rows[i]); err != nil {
				return err
			}
		}
		now, err := p.db.LastMessage(ctx)
		if err != nil {
			return err
		}
		if rows, err = p.db.PendingDue(ctx, time.Now().Add(24*time.Hour), 1000); err != nil || now == last && len(rows) == before {
			return err
		}
	}
	return context.DeadlineExceeded
}

// Confirm takes in a copy of a message that came with a transaction.
func (p *Pipeline) Confirm(ctx context.Context, raw json.RawMessage, tx state.Transaction) (*Verdict, error) {
	it, err := p.read(ctx, raw, time.Now())
	if err != nil {
		return nil, err
	}
	row := state.SyncEvent{Tx: tx.Hash, Number: uint64(tx.Height), Chain: tx.Chain, At: uint64(tx.At.Unix()), Publisher: tx.Publisher, Status: state.SyncDone}
	if err := p.db.Update(ctx, func(t *state.Tx) error { return t.PutSyncEvent(ctx, row) }); err != nil {
		return nil, err
	}
	it.origin.Tx = &tx
	return p.write(ctx, it)
}

// Catcher compares what is here with what peers have.
type Catcher struct{ c *catcher }

// NewCatcher returns a Catcher of the pipeline.
func NewCatcher(p *Pipeline) *Catcher { return &Catcher{p.newCatcher()} }

// Turn visits a peer, and returns after which pause it would be visited again.
func (c *Catcher) Turn(ctx context.Context, id p2p.PeerID) (time.Duration, error) {
	if c.c.peers[id] == nil {
		c.c.peers[id] = &turnOf{}
	}
	err := c.c.turn(ctx, id)
	return time.Until(c.c.peers[id].due), err
}

// Pass visits those whose turn it is.
func (c *Catcher) Pass(ctx context.Context) error { return c.c.pass(ctx) }

// Outcome is what became of a message that was handed in with others.
type Outcome struct {
	Verdict *Verdict
	Err     error
}

// SubmitTogether hands in messages that share a transaction.
func (p *Pipeline) SubmitTogether(ctx context.Context, all ...[]byte) ([]Outcome, error) {
	turns := make([]*turn, len(all))
	for i, raw := range all {
		it, err := p.read(ctx, raw, time.Now())
		if err != nil {
			return nil, err
		}
		turns[i] = &turn{it: it}
	}
	p.writeTurns(ctx, turns)
	out := make([]Outcome, len(turns))
	for i, t := range turns {
		out[i] = Outcome{t.verdict, t.err}
	}
	return out, nil
}

// Hear takes in a message that a peer says it has processed.
func (p *Pipeline) Hear(ctx context.Context, raw []byte) (*Verdict, error) {
	it, err := p.read(ctx, raw, time.Now())
	if err != nil {
		return nil, err
	}
	it.processed = true
	return p.write(ctx, it)
}

// HeardContentsMax bounds the contents of messages that others publish.
const HeardContentsMax = heardContentsMax

// RunwaysMax bounds the questions of what wallets have.
const RunwaysMax = runwaysMax

// HearGossip takes in a message that another node publishes.
func (p *Pipeline) HearGossip(ctx context.Context, raw []byte) p2p.Verdict {
	g := p2p.Gossip{Data: raw}
	v := p.validateMessage(ctx, &g)
	if v == p2p.Accept {
		p.hearMessage(ctx, g)
	}
	return v
}

// Retry looks again at a message that waits.
func (p *Pipeline) Retry(ctx context.Context, row *state.Pending) error { return p.retry(ctx, row) }

// SetPendingMax sets how many messages may wait.
func (p *Pipeline) SetPendingMax(n int) { p.pendingMax = n }

// Due returns the messages that the next pass looks at: those that wait for bytes, or
// for something else.
func (p *Pipeline) Due(ctx context.Context, bytes bool) ([]state.Pending, error) {
	return p.due(ctx, bytes)
}

// RetryPass looks again at what waits for other messages.
func (p *Pipeline) RetryPass(ctx context.Context) error { return p.retryPass(ctx) }

// FetchPass looks again at what waits for bytes.
func (p *Pipeline) FetchPass(ctx context.Context) error { return p.fetchPass(ctx) }

// StopFetching lets nobody fetch bytes any more.
func (p *Pipeline) StopFetching() { p.fetches.running = fetchParallel }

// DueMax bounds the messages of one pass.
const DueMax = dueMax

// ObtainMissing asks other nodes for what a message names and is not here.
func (p *Pipeline) ObtainMissing(ctx context.Context, env *message.Envelope) {
	p.obtainMissing(ctx, env)
}
