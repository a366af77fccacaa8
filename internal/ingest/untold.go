package ingest

import (
	"context"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// Several processes may take messages into one database, and only its owner is on
// the network. What the others take in they note with the same commit, so that it
// is told even if they die at once; see tellPass.

// untoldMax bounds the messages of one transaction of tellPass.
const untoldMax = 500

// nobody is the network of a process that is on none.
type nobody struct{}

// Publish implements Network; what is to be told is in untold.
func (nobody) Publish(context.Context, string, []byte) error { return nil }

// Subscribe implements Network.
func (nobody) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error { return nil }

// Connected implements Network.
func (nobody) Connected() []p2p.PeerID { return nil }

// Listeners implements Network.
func (nobody) Listeners(string) []p2p.PeerID { return nil }

// Ask implements Network.
func (nobody) Ask(context.Context, p2p.PeerID, any, any) error {
	return errs.New(errs.Unavailable, "this process is on no network")
}

// HandleAsk implements Network.
func (nobody) HandleAsk(string, p2p.AskHandler) {}

// isNews reports whether others are to be told of a message that was handed in.
func isNews(v *Verdict) bool { return !v.Known && v.Status != state.MessageRejected }

// noteUntold notes, in the transaction that takes messages in, which of them the owner
// of the database has to tell others of.
func (b *batch) noteUntold(ctx context.Context, turns []*turn) error {
	if b.p.onNetwork {
		return nil
	}
	var news []message.ItemHash
	for _, t := range turns {
		if t.verdict != nil && t.it.waiting == nil && isNews(t.verdict) {
			news = append(news, t.it.env.ItemHash)
		}
	}
	return b.tx.PutUntold(ctx, news)
}

// tellPass tells others of what processes without a network took in, once somebody
// listens. A message may be told twice, if this process ends in between.
func (p *Pipeline) tellPass(ctx context.Context) error {
	for len(p.net.Listeners(wire.TopicMessages)) > 0 {
		rows, err := p.db.Untold(ctx, untoldMax)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			env, err := p.envelope(ctx, row.Message)
			if errors.Is(err, errs.NotFound) {
				continue // It has ended meanwhile, and nobody needs it.
			}
			if err != nil {
				return err
			}
			if p.tell(ctx, env); ctx.Err() != nil {
				return nil //nolint:nilerr // Asked to stop; the rows are still there.
			}
		}
		if err := p.db.Update(ctx, func(tx *state.Tx) error { return tx.DropUntold(ctx, rows[len(rows)-1].ID) }); err != nil {
			return err
		}
	}
	return nil
}
