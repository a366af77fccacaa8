package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// answerBytes is how large an answer with several messages gets, in bytes.
	answerBytes = wire.MaxFrame / 2
	// answerRoom is kept free in the frame for what is around the messages, in bytes.
	answerRoom = 4096
	// targetsMax bounds the targets of FORGETs that are looked up for one answer, but for
	// those of its last FORGET.
	targetsMax = job.ForgottenMax
	// readTogether is how many messages are read at once. An answer of the network's
	// usual messages has some hundreds.
	readTogether = 64
)

// answerMessages gives a peer messages that were processed here, as many as fit.
func (p *Pipeline) answerMessages(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "%w", err)
	}
	out, size, targets := &job.Messages{}, 0, 0
	var read map[message.ItemHash]*state.Message
	for i, hash := range ask.ItemHashes {
		if targets >= targetsMax {
			break
		}
		if i%readTogether == 0 {
			if read, err = p.byHash(ctx, ask.ItemHashes[i:min(i+readTogether, len(ask.ItemHashes))]); err != nil {
				return p2p.Answer{}, err
			}
		}
		raw, forgotten, looked, err := p.recount(ctx, read[hash])
		if err != nil {
			return p2p.Answer{}, err
		}
		targets += looked
		n := len(raw)
		for _, f := range forgotten {
			n += len(f.Message) + 6*len(f.Kind) + len(`{"message":,"inline":true,"kind":""},`)
		}
		if out.Done > 0 && (size+n > answerBytes || len(out.Forgotten)+len(forgotten) > job.ForgottenMax) {
			break
		}
		out.Done++
		if raw == nil || n > wire.MaxFrame-answerRoom {
			continue
		}
		size += n + 1
		out.Messages, out.Forgotten = append(out.Messages, raw), append(out.Forgotten, forgotten...)
	}
	return p2p.Answer{Reply: job.Reply{Messages: out}}, nil
}

// byHash reads those of some messages that were processed here.
func (p *Pipeline) byHash(ctx context.Context, hashes []message.ItemHash) (map[message.ItemHash]*state.Message, error) {
	found, err := p.db.MessagesByHash(ctx, hashes)
	if err != nil {
		return nil, err
	}
	out := make(map[message.ItemHash]*state.Message, len(found))
	for _, m := range found {
		out[m.Envelope.ItemHash] = m
	}
	return out, nil
}

// recount is the envelope of a message that was processed here and, of a FORGET, what
// is left of its targets, and how many were looked up. It is nil where there is none, and
// of what a contract emitted: others must read that from the chain, as nobody signed it.
func (p *Pipeline) recount(ctx context.Context, m *state.Message) (raw json.RawMessage, forgotten []job.Forgotten, targets int, err error) {
	if m == nil || m.Envelope.Signature == "" {
		return nil, nil, 0, nil
	}
	raw, err = json.Marshal(m.Envelope)
	if err != nil || m.Envelope.Type != message.TypeForget {
		return raw, nil, 0, err
	}
	forgotten, targets, err = p.forgottenBy(ctx, m)
	return raw, forgotten, targets, err
}

// forgottenBy is what is left of those targets of a FORGET that others can check, see
// endedBefore, and how many targets it has.
func (p *Pipeline) forgottenBy(ctx context.Context, m *state.Message) (out []job.Forgotten, targets int, err error) {
	body, err := m.Body()
	if err != nil {
		return nil, 0, fmt.Errorf("read FORGET %s: %w", m.Envelope.ItemHash, err)
	}
	f, ok := body.(*message.Forget)
	if !ok {
		return nil, 0, errs.New(errs.Internal, "BUG: the content of FORGET %s is a %T", m.Envelope.ItemHash, body)
	}
	hashes := distinct(f.Hashes)
	for _, hash := range hashes {
		s, err := p.db.Skeleton(ctx, hash)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if s.Status != state.MessageForgotten || s.Envelope.Signature == "" || !authz.Same(s.Envelope.Sender, m.Envelope.Sender) || !authz.Same(s.Owner, s.Envelope.Sender) {
			continue
		}
		left, err := job.NewForgotten(s.Envelope, s.Kind)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, left)
	}
	return out, len(hashes), nil
}
