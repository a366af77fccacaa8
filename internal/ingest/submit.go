package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// pendingRowsMax bounds the messages that wait, which cost their senders
// nothing.
const pendingRowsMax = 20_000

// Submit takes in a message that arrived now, judges it and tells other nodes.
// The row it returns is processed or pending; a refusal is a
// *message.RejectError. A message that was processed before is returned as it
// is.
func (p *Pipeline) Submit(ctx context.Context, raw []byte, now time.Time) (*state.Message, error) {
	env, err := p.read(raw)
	if err != nil {
		return nil, err
	}
	m, err := p.take(ctx, env, now)
	if err != nil {
		return nil, err
	}
	p.tell(ctx, m)
	return m, nil
}

// read runs the stages that need nothing but the bytes.
func (p *Pipeline) read(raw []byte) (*message.Envelope, error) {
	env, err := message.Parse(raw)
	if err == nil && !processes(env.Type) {
		err = message.Reject(message.CodeInvalidFormat, "this node does not process messages of type %s, only INSTANCE and STORE", env.Type)
	}
	if err == nil && env.ItemType != message.Inline {
		err = message.Reject(message.CodeInvalidFormat, "item_type is %s; this node takes messages whose content is inline", env.ItemType)
	}
	if err == nil {
		err = signature.Verify(env)
	}
	if err != nil {
		p.countRefusal(err)
		return nil, err
	}
	return env, nil
}

// processes tells the types that this node makes state of.
func processes(t message.Type) bool { return t == message.TypeInstance || t == message.TypeStore }

func (p *Pipeline) countRefusal(err error) {
	var rejected *message.RejectError
	if errors.As(err, &rejected) {
		p.messages.WithLabelValues("rejected", strconv.Itoa(int(rejected.Code))).Inc()
	}
}

// take makes the message durable and judges it with what is known here.
func (p *Pipeline) take(ctx context.Context, env *message.Envelope, now time.Time) (*state.Message, error) {
	m, fresh, err := p.store(ctx, env, now)
	if err != nil || !fresh {
		return m, err
	}
	return p.judge(ctx, m, now)
}

// store writes the pending row, unless the message is here and was not
// refused. It reports whether the message is yet to be judged.
func (p *Pipeline) store(ctx context.Context, env *message.Envelope, now time.Time) (m *state.Message, fresh bool, err error) {
	raw, err := json.Marshal(env)
	if err != nil {
		return nil, false, err
	}
	err = p.db.Update(ctx, func(tx *state.Tx) error {
		old, err := tx.Message(ctx, env.ItemHash)
		switch {
		case errors.Is(err, errs.NotFound):
		case err != nil:
			return err
		case old.Status != state.MessageRejected:
			m, fresh = old, old.Status == state.MessagePending
			return nil
		}
		waiting, err := tx.CountMessages(ctx, state.MessagePending)
		if err != nil {
			return err
		}
		if waiting >= pendingRowsMax {
			return errs.New(errs.Unavailable, "%d messages wait already; try again later", waiting)
		}
		m, fresh = &state.Message{
			ItemHash: env.ItemHash, Type: string(env.Type), Sender: env.Sender, Owner: owner(env), Envelope: raw,
			Status: state.MessagePending, ReceivedAt: now, RetryAt: now.Add(retryMin),
		}, true
		return tx.PutMessage(ctx, *m)
	})
	return m, fresh, err
}

// owner returns the address that the content names.
func owner(env *message.Envelope) string {
	var content struct {
		Address string `json:"address"`
	}
	// Parse has checked the content; a type without an address has no owner.
	if err := json.Unmarshal([]byte(env.ItemContent), &content); err != nil {
		return ""
	}
	return content.Address
}

// sameAddress compares addresses as the protocol does, without regard to case.
func sameAddress(a, b string) bool { return strings.EqualFold(a, b) }

// tell publishes a message. A peer that misses it asks for it by name.
func (p *Pipeline) tell(ctx context.Context, m *state.Message) {
	if len(m.Envelope) > wire.MaxGossip {
		p.log.Debug("message too big for gossip", "item_hash", m.ItemHash, "bytes", len(m.Envelope))
		return
	}
	if err := p.net.Publish(ctx, wire.TopicMessages, m.Envelope); err != nil {
		p.log.Warn("publish failed", "item_hash", m.ItemHash, "err", err)
	}
}
