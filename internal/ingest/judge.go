package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// retryMin and retryMax bound the pause before a message that waits is looked
// at again; it doubles with every look.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 5 * time.Minute
)

// verdict is what a message makes: a row besides its own, or nothing.
type verdict struct {
	file *state.File
}

// judge decides about a pending message with what is known here. The returned
// row is processed or pending; a refusal is stored and returned as a
// *message.RejectError.
func (p *Pipeline) judge(ctx context.Context, m *state.Message, now time.Time) (*state.Message, error) {
	v, err := p.check(ctx, m, now)
	var rejected *message.RejectError
	switch {
	case err == nil:
		m.Status, m.Code, m.Detail, m.RetryAt = state.MessageProcessed, 0, "", time.Time{}
	case !errors.As(err, &rejected):
		return nil, fmt.Errorf("judge message %s: %w", m.ItemHash, err)
	case rejected.Code.Retriable() && now.Sub(m.ReceivedAt) < p.cfg.PendingMax:
		m.Code, m.Detail = int(rejected.Code), rejected.Detail
		m.RetryAt = now.Add(min(retryMin<<min(m.Attempts, 20), retryMax))
		m.Attempts++
		err = nil
	default:
		m.Status, m.Code, m.Detail, m.RetryAt = state.MessageRejected, int(rejected.Code), rejected.Detail, time.Time{}
	}
	if werr := p.commit(ctx, m, v); werr != nil {
		return nil, werr
	}
	p.messages.WithLabelValues(string(m.Status), strconv.Itoa(m.Code)).Inc()
	if err != nil {
		return nil, err
	}
	return m, nil
}

// commit writes the verdict and what the message makes, both or neither. A
// message that somebody else's judgement processed meanwhile stays so.
func (p *Pipeline) commit(ctx context.Context, m *state.Message, v verdict) error {
	return p.db.Update(ctx, func(tx *state.Tx) error {
		old, err := tx.Message(ctx, m.ItemHash)
		if err != nil {
			return err
		}
		if old.Status == state.MessageProcessed {
			*m = *old
			return nil
		}
		if m.Status == state.MessageProcessed && v.file != nil {
			if err := tx.PutFile(ctx, *v.file); err != nil {
				return err
			}
		}
		return tx.PutMessage(ctx, *m)
	})
}

// check runs the stages after the signature. Its error is a
// *message.RejectError or a failure of this node.
func (p *Pipeline) check(ctx context.Context, m *state.Message, now time.Time) (verdict, error) {
	var env message.Envelope
	if err := json.Unmarshal(m.Envelope, &env); err != nil {
		return verdict{}, fmt.Errorf("decode stored message %s: %w", m.ItemHash, err)
	}
	if !sameAddress(env.Sender, m.Owner) {
		return verdict{}, message.Reject(message.CodePermissionDenied, "%s may not act for %.80s", env.Sender, m.Owner)
	}
	switch env.Type {
	case message.TypeStore:
		return p.checkStore(&env, now)
	case message.TypeInstance:
		return verdict{}, p.checkInstance(ctx, &env)
	default:
		return verdict{}, message.Reject(message.CodeInvalidFormat, "this node does not process messages of type %s", env.Type)
	}
}

// checkStore wants the file to be here, if this node keeps files.
func (p *Pipeline) checkStore(env *message.Envelope, now time.Time) (verdict, error) {
	s, err := env.Store()
	if err != nil {
		return verdict{}, err
	}
	if s.ItemType != message.Storage {
		return verdict{}, message.Reject(message.CodeInvalidFormat, "content.item_type is %s; this node keeps files of item_type storage", s.ItemType)
	}
	f := &state.File{Ref: env.ItemHash, Hash: s.ItemHash, Owner: s.Address, Name: fileName(s), CreatedAt: now}
	if s.Size != nil && *s.Size > 0 {
		f.SizeBytes = *s.Size
	}
	info, err := p.files.Stat(s.ItemHash)
	switch {
	case err == nil:
		f.SizeBytes = info.Size
	case !errors.Is(err, errs.NotFound):
		return verdict{}, fmt.Errorf("look for file %s: %w", s.ItemHash, err)
	case p.cfg.KeepFiles:
		return verdict{}, message.Reject(message.CodeFileUnavailable, "file %s is not here yet", s.ItemHash)
	}
	return verdict{file: f}, nil
}

// fileName returns metadata.name, or "" if there is none that is a text.
func fileName(s *message.Store) string {
	var name string
	if err := json.Unmarshal(s.Metadata["name"], &name); err != nil {
		return ""
	}
	return name
}

// checkInstance wants every file that the machine starts from to be known, and
// a machine that this network can run and bill.
func (p *Pipeline) checkInstance(ctx context.Context, env *message.Envelope) error {
	i, err := env.Instance()
	if err != nil {
		return err
	}
	if i.PaymentType() != message.PayCredit {
		return message.Reject(message.CodeInvalidPaymentMethod, "content.payment.type is %s; machines here are paid by the second: use credit", i.PaymentType())
	}
	if _, err := job.NeedsOf(i); err != nil {
		return message.Reject(message.CodeInvalidFormat, "%v", err)
	}
	for _, ref := range refs(i) {
		_, err := p.db.File(ctx, ref)
		if errors.Is(err, errs.NotFound) {
			return message.Reject(message.CodeVMVolumeNotFound, "no STORE message %s is known; publish it first", ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refs returns the STORE messages that an instance names.
func refs(i *message.Instance) []message.ItemHash {
	out := []message.ItemHash{i.Rootfs.Parent.Ref}
	for _, v := range i.Volumes {
		switch {
		case v.Kind == message.Immutable:
			out = append(out, v.Ref)
		case v.Parent != nil:
			out = append(out, v.Parent.Ref)
		}
	}
	return out
}
