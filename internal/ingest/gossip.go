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
	return nil
}

// validateMessage keeps from spreading what nobody honest publishes.
func (p *Pipeline) validateMessage(_ context.Context, g p2p.Gossip) p2p.Verdict {
	var head struct {
		Type message.Type `json:"type"`
	}
	if err := json.Unmarshal(g.Data, &head); err != nil {
		return p2p.Reject
	}
	env, err := message.Parse(g.Data)
	switch {
	case head.Type.Known() && !processes(head.Type):
		return p2p.Ignore // a later version of the network may know better
	case err != nil:
		return p2p.Reject
	}
	if env.ItemType != message.Inline {
		return p2p.Ignore
	}
	if err := signature.Verify(env); err != nil {
		return p2p.Reject
	}
	return p2p.Accept
}

// hearMessage takes in a message that another node published.
func (p *Pipeline) hearMessage(ctx context.Context, g p2p.Gossip) {
	env, err := message.Parse(g.Data) // the validator has checked its signature
	if err != nil {
		return
	}
	_, err = p.take(ctx, env, time.Now())
	var rejected *message.RejectError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &rejected):
		p.log.Debug("message refused", "item_hash", env.ItemHash, "peer", g.From, "err", err)
	default:
		p.log.Warn("message not taken in", "item_hash", env.ItemHash, "peer", g.From, "err", err)
	}
}

// answerMessage gives a message to a peer that missed it.
func (p *Pipeline) answerMessage(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "%w", err)
	}
	m, err := p.db.Message(ctx, ask.ItemHash)
	if err != nil {
		return p2p.Answer{}, err
	}
	var env message.Envelope
	if err := json.Unmarshal(m.Envelope, &env); err != nil {
		return p2p.Answer{}, fmt.Errorf("decode stored message %s: %w", m.ItemHash, err)
	}
	return p2p.Answer{Reply: job.Reply{Message: &env}}, nil
}

// Obtain returns the message with the hash: the row that is here, or, after
// asking the peers that are connected, the row it became. Without a peer that
// has it the error is errs.NotFound.
func (p *Pipeline) Obtain(ctx context.Context, hash message.ItemHash) (*state.Message, error) {
	m, err := p.db.Message(ctx, hash)
	if !errors.Is(err, errs.NotFound) {
		return m, err
	}
	peers := p.net.Connected()
	peers = peers[:min(len(peers), obtainPeersMax)]
	ctx, cancel := context.WithTimeout(ctx, obtainMax)
	defer cancel()
	found := make(chan *message.Envelope, len(peers))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // the first answer ends the other questions
	for _, id := range peers {
		wg.Go(func() { found <- p.askMessage(ctx, id, hash) })
	}
	for range peers {
		env := <-found
		if env == nil {
			continue
		}
		m, err := p.take(context.WithoutCancel(ctx), env, time.Now())
		if err != nil {
			return nil, err
		}
		return m, nil
	}
	return nil, errs.New(errs.NotFound, "no message %s here or at %d peers", hash, len(peers))
}

// askMessage asks one peer; what it gives must be the message that was asked
// for, signed by its sender. nil means that the peer could not help.
func (p *Pipeline) askMessage(ctx context.Context, id p2p.PeerID, hash message.ItemHash) *message.Envelope {
	var reply job.Reply
	if err := p.net.Ask(ctx, id, job.Ask{Kind: job.AskMessage, ItemHash: hash}, &reply); err != nil {
		p.log.Debug("peer has no such message", "item_hash", hash, "peer", id, "err", err)
		return nil
	}
	env, err := p.readReply(&reply, hash)
	if err != nil {
		p.log.Warn("peer gave a bad message", "item_hash", hash, "peer", id, "err", err)
		return nil
	}
	return env
}

func (p *Pipeline) readReply(reply *job.Reply, hash message.ItemHash) (*message.Envelope, error) {
	if reply.Message == nil {
		return nil, errs.New(errs.Invalid, "reply holds no message")
	}
	raw, err := json.Marshal(reply.Message)
	if err != nil {
		return nil, err
	}
	env, err := p.read(raw)
	if err != nil {
		return nil, err
	}
	if env.ItemHash != hash {
		return nil, errs.New(errs.Invalid, "reply holds message %s", env.ItemHash)
	}
	return env, nil
}
