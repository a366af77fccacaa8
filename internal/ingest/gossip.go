package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// obtainMax bounds the question for one message.
	obtainMax = 10 * time.Second
	// obtainPeersMax bounds the peers that are asked for one message.
	obtainPeersMax = 16
	// heardContentsMax bounds the contents in memory of messages that others publish and
	// that are not in them, of contentBytesMax each. A few share a wait for the disk.
	heardContentsMax = 16
)

// listen subscribes to what others publish and answers who asks for messages.
func (p *Pipeline) listen() error {
	if err := p.net.Subscribe(wire.TopicMessages, p.validateMessage, p.hearMessage); err != nil {
		return err
	}
	if err := p.net.Subscribe(wire.TopicCapacity, p.validateCapacity, p.hearCapacity); err != nil {
		return err
	}
	p.net.HandleAsk(string(job.AskMessage), p.answerMessage)
	p.net.HandleAsk(string(job.AskReconcile), p.answerReconcile)
	p.net.HandleAsk(string(job.AskMessages), p.answerMessages)
	return nil
}

// validateMessage keeps from spreading what nobody honest publishes. It leaves the
// envelope that it has read and checked for hearMessage. What this node tells it has
// judged.
func (p *Pipeline) validateMessage(_ context.Context, g *p2p.Gossip) p2p.Verdict {
	if g.Own {
		return p2p.Accept
	}
	env, err := message.Parse(g.Data)
	if err == nil {
		err = signature.Verify(env)
	}
	if err != nil {
		return p2p.Reject
	}
	g.Read = env
	return p2p.Accept
}

// hearMessage takes in a message that another node published. Those that come together
// share a commit.
func (p *Pipeline) hearMessage(ctx context.Context, g p2p.Gossip) {
	env, ok := g.Read.(*message.Envelope)
	if !ok {
		return // The validator has let none through.
	}
	if env.ItemType != message.Inline {
		select {
		case p.contents <- struct{}{}:
			defer func() { <-p.contents }()
		case <-ctx.Done():
			return
		}
	}
	it, err := p.itemOf(ctx, env, g.Data, nil, p.now())
	var refusal *message.RejectError
	switch {
	case errors.As(err, &refusal):
		return // Nobody else could keep it either.
	case err != nil:
		p.log.Warn("message not taken in", "item_hash", env.ItemHash, "peer", g.From, "err", err)
		return
	}
	p.findRunway(ctx, it)
	v, err := p.write(ctx, it)
	switch {
	case err != nil && ctx.Err() == nil:
		p.log.Warn("message not taken in", "item_hash", it.env.ItemHash, "peer", g.From, "err", err)
	case err == nil && v.Status == state.MessageRejected:
		p.log.Debug("message refused", "item_hash", it.env.ItemHash, "peer", g.From, "err", v.Refusal)
	}
}

// answerMessage gives a message to a peer that missed it.
func (p *Pipeline) answerMessage(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "%w", err)
	}
	env, err := p.envelope(ctx, ask.ItemHash)
	if err != nil {
		return p2p.Answer{}, err
	}
	return p2p.Answer{Reply: job.Reply{Message: env}}, nil
}

// envelope returns a message that was processed or that waits, or errs.NotFound.
func (p *Pipeline) envelope(ctx context.Context, hash message.ItemHash) (*message.Envelope, error) {
	k, err := p.db.Known(ctx, hash)
	switch {
	case err != nil:
		return nil, err
	case k.Message != nil:
		return &k.Message.Envelope, nil
	case len(k.Pending) == 0:
		return nil, errs.New(errs.NotFound, "message %s is %s", hash, k.Status)
	}
	env := new(message.Envelope)
	if err := env.UnmarshalJSON(k.Pending[0].Envelope); err != nil {
		return nil, fmt.Errorf("decode pending message %s: %w", hash, err)
	}
	return env, nil
}

// Obtain returns the message with the hash: the one that is here, or, after
// asking the peers that are connected, theirs. Without a peer that has it the error
// is errs.NotFound.
func (p *Pipeline) Obtain(ctx context.Context, hash message.ItemHash) (*message.Envelope, error) {
	env, err := p.envelope(ctx, hash)
	if !errors.Is(err, errs.NotFound) {
		return env, err
	}
	peers := p.net.Connected()
	peers = peers[:min(len(peers), obtainPeersMax)]
	ctx, cancel := context.WithTimeout(ctx, obtainMax)
	defer cancel()
	found := make(chan *item, len(peers))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // the first answer ends the other questions
	for _, id := range peers {
		wg.Go(func() { found <- p.askMessage(ctx, id, hash) })
	}
	for range peers {
		it := <-found
		if it == nil {
			continue
		}
		v, err := p.write(context.WithoutCancel(ctx), it)
		if err != nil {
			return nil, err
		}
		if v.Status == state.MessageRejected {
			return nil, v.Refusal
		}
		return it.env, nil
	}
	return nil, errs.New(errs.NotFound, "no message %s here or at %d peers", hash, len(peers))
}

// askMessage asks one peer; what it gives must be the message that was asked
// for, signed by its sender. nil means that the peer could not help.
func (p *Pipeline) askMessage(ctx context.Context, id p2p.PeerID, hash message.ItemHash) *item {
	var reply job.Reply
	if err := p.net.Ask(ctx, id, job.Ask{Kind: job.AskMessage, ItemHash: hash}, &reply); err != nil {
		p.log.Debug("peer has no such message", "item_hash", hash, "peer", id, "err", err)
		return nil
	}
	it, err := p.readReply(ctx, &reply, hash)
	if err != nil {
		p.log.Warn("peer gave a bad message", "item_hash", hash, "peer", id, "err", err)
		return nil
	}
	return it
}

func (p *Pipeline) readReply(ctx context.Context, reply *job.Reply, hash message.ItemHash) (*item, error) {
	if reply.Message == nil {
		return nil, errs.New(errs.Invalid, "reply holds no message")
	}
	raw, err := json.Marshal(reply.Message)
	if err != nil {
		return nil, err
	}
	it, err := p.read(ctx, raw, p.now())
	if err == nil {
		err = it.sigErr
	}
	if err != nil {
		return nil, err
	}
	if it.env.ItemHash != hash {
		return nil, errs.New(errs.Invalid, "reply holds message %s", it.env.ItemHash)
	}
	return it, nil
}
