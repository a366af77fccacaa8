package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// forget judges a FORGET and ends its targets: all of them, or none.
func (b *batch) forget(ctx context.Context, m *state.Message, f *message.Forget) error {
	if err := f.CheckTargets(); err != nil {
		return err
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	targets, over, err := b.targets(ctx, m, f)
	if err != nil {
		return err
	}
	elements, err := b.forgottenElements(ctx, m, f)
	if err != nil {
		return err
	}
	if err := b.add(ctx, m); err != nil {
		return err
	}
	by := m.Envelope.ItemHash
	for _, s := range over {
		if !slices.Contains(s.ForgottenBy, by) {
			s.ForgottenBy = append(s.ForgottenBy, by)
			slices.Sort(s.ForgottenBy) // In whatever order they came.
			if err := b.tx.PutSkeleton(ctx, *s); err != nil {
				return err
			}
		}
	}
	for _, key := range f.Aggregates {
		if err := b.tx.ForgetAggregate(ctx, m.Owner, string(key), m.MadeAt, by); err != nil {
			return err
		}
	}
	for _, t := range slices.Concat(targets, elements) {
		if err := b.end(ctx, t, ending{state.MessageForgotten, []message.ItemHash{by}, m.Envelope.Time, m.MadeAt, ""}); err != nil {
			return err
		}
	}
	return nil
}

// targets finds the messages that a FORGET may end, and those that ended before.
func (b *batch) targets(ctx context.Context, m *state.Message, f *message.Forget) (targets []*state.Message, over []*state.Skeleton, err error) {
	hashes := slices.Clone(f.Hashes)
	slices.Sort(hashes)
	for _, hash := range slices.Compact(hashes) {
		t, err := b.tx.Message(ctx, hash)
		if errors.Is(err, errs.NotFound) {
			s, err := b.tx.Skeleton(ctx, hash)
			if errors.Is(err, errs.NotFound) || err == nil && s.Status != state.MessageForgotten {
				return nil, nil, waitFor(message.RejectForgetTarget(hash), thingMessage(hash))
			}
			if err != nil {
				return nil, nil, err
			}
			over = append(over, s)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if err := b.mayForget(ctx, m, t); err != nil {
			return nil, nil, err
		}
		targets = append(targets, t)
	}
	return targets, over, nil
}

// mayForget wants a target to be one that the sender could have written, and that
// nothing needs.
func (b *batch) mayForget(ctx context.Context, m, t *state.Message) error {
	hash := t.Envelope.ItemHash
	if t.Envelope.Type == message.TypeForget {
		return message.RejectForgetForget(hash)
	}
	if t.Envelope.Type == message.TypeStore {
		machine, err := b.tx.UserOf(ctx, hash)
		if err != nil {
			return err
		}
		if machine != "" {
			return message.RejectUsedFile(hash, machine)
		}
	}
	if authz.Same(m.Envelope.Sender, t.Owner) {
		return nil
	}
	body, err := t.Body()
	if err != nil {
		return err
	}
	facts := authz.FactsOf(&t.Envelope, body)
	ok, err := b.granted(ctx, t.Owner, m.MadeAt, func(s authz.Security) bool { return authz.Allowed(s, t.Owner, m.Envelope.Sender, facts) })
	if err != nil || ok {
		return err
	}
	return waitFor(message.RejectForgetter(m.Envelope.Sender, hash, t.Owner), thingGrants(t.Owner))
}

// forgottenElements are the elements of the aggregates that a FORGET names.
func (b *batch) forgottenElements(ctx context.Context, m *state.Message, f *message.Forget) (out []*state.Message, err error) {
	for _, key := range f.Aggregates {
		all, err := b.tx.Elements(ctx, m.Owner, string(key))
		if err != nil {
			return nil, err
		}
		_, by, err := b.tx.AggregateForgotten(ctx, m.Owner, string(key))
		if err != nil {
			return nil, err
		}
		if len(all) == 0 && by == "" {
			return nil, waitFor(message.RejectForgetAggregate(string(key)), thingAggregate(m.Owner, string(key)))
		}
		for _, e := range all {
			if e.MadeAt.After(m.MadeAt) {
				continue // It came after, whatever the order here is.
			}
			if err := b.mayForget(ctx, m, e); err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(f.Hashes, func(h message.ItemHash) bool { return h == e.Envelope.ItemHash }) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// ending is how a message ends.
type ending struct {
	status state.MessageStatus
	by     []message.ItemHash // Of FORGETs.
	at     time.Time          // As it is shown.
	madeAt time.Time          // Of the FORGET's content: what the message granted holds until then.
	reason string
}

// end makes a message a skeleton, and takes back what it made.
func (b *batch) end(ctx context.Context, m *state.Message, how ending) error {
	m, err := b.tx.Message(ctx, m.Envelope.ItemHash)
	if errors.Is(err, errs.NotFound) {
		return nil // It ended with another.
	}
	if err != nil {
		return err
	}
	s, err := b.skeleton(ctx, m, how)
	if err != nil {
		return err
	}
	if err := b.undo(ctx, m, &how); err != nil {
		return err
	}
	b.standings[m.Envelope.ItemHash] = state.Standing{Status: how.status, Signature: m.Envelope.Signature}
	return b.tx.PutSkeleton(ctx, *s)
}

// endAtOnce makes a message a skeleton that belongs to what was forgotten.
func (b *batch) endAtOnce(ctx context.Context, m *state.Message, by []message.ItemHash, at time.Time) error {
	s, err := b.skeleton(ctx, m, ending{status: state.MessageForgotten, by: by, at: at})
	if err != nil {
		return err
	}
	if err := b.tx.PutSkeleton(ctx, *s); err != nil {
		return err
	}
	return &endedError{state.MessageForgotten}
}

// skeleton is what stays of a message.
func (b *batch) skeleton(ctx context.Context, m *state.Message, how ending) (*state.Skeleton, error) {
	body, err := m.Body()
	if err != nil {
		return nil, err
	}
	labels := message.LabelsOf(body)
	e := m.Envelope
	e.ItemContent = ""
	payment := message.PayHold
	if labels.Payment != nil {
		payment = *labels.Payment
	}
	s := &state.Skeleton{
		Status: how.status, Envelope: e, Owner: m.Owner, PaymentType: &payment, EndedAt: how.at, ForgottenBy: how.by, Reason: how.reason,
		ReceivedAt: m.ReceivedAt, Ref: labels.Ref, Kind: labels.Type, File: labels.File,
	}
	size := int64(len(m.Content))
	if labels.File != nil {
		info, err := b.tx.FileInfo(ctx, *labels.File)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		if size = 0; err == nil {
			size = info.SizeBytes
		}
	}
	s.SizeBytes = &size
	return s, nil
}

// undo takes back a message and what it made. how is nil for one that never should
// have counted.
func (b *batch) undo(ctx context.Context, m *state.Message, how *ending) error {
	body, err := m.Body()
	if err != nil {
		return err
	}
	hash := m.Envelope.ItemHash
	switch c := body.(type) {
	case *message.Post:
		err = b.undoPost(ctx, m, c, how)
	case *message.Aggregate:
		err = b.undoAggregate(ctx, m, c, how)
	case *message.Store:
		err = b.undoStore(ctx, m, c)
	case *message.Forget:
		err = errs.New(errs.Internal, "BUG: a FORGET cannot be taken back")
	default:
		err = b.undoMachine(ctx, hash)
	}
	if err != nil {
		return fmt.Errorf("take back message %s: %w", hash, err)
	}
	if m.Envelope.ItemType != message.Inline {
		if err := b.unpin(ctx, contentKey(hash), hash); err != nil {
			return err
		}
	}
	if err := b.tx.DropDelegated(ctx, m); err != nil {
		return err
	}
	return b.tx.RemoveMessage(ctx, m)
}

func (b *batch) undoPost(ctx context.Context, m *state.Message, p *message.Post, how *ending) error {
	if _, ok := p.Amends(); ok {
		return b.tx.RemoveAmend(ctx, m)
	}
	amends, err := b.tx.RemovePost(ctx, m)
	if err != nil {
		return err
	}
	for _, a := range amends {
		if how != nil {
			err = b.end(ctx, a, *how)
		} else {
			err = b.revoke(ctx, a, &message.RejectError{Code: message.CodePostAmendNotFound, Detail: "post " + string(m.Envelope.ItemHash) + " does not count"})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) undoAggregate(ctx context.Context, m *state.Message, a *message.Aggregate, how *ending) error {
	if err := b.tx.RemoveElement(ctx, m); err != nil {
		return err
	}
	if a.Key.String() != authz.SecurityKey {
		return nil
	}
	if how == nil {
		if err := b.tx.DropGrant(ctx, m.Owner, m.Envelope.ItemHash); err != nil {
			return err
		}
		return b.rejudge(ctx, m.Owner, m.MadeAt)
	}
	grants, err := b.tx.Grants(ctx, m.Owner)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if g.Message != m.Envelope.ItemHash {
			continue
		}
		g.Until = how.madeAt
		if err := b.tx.PutGrant(ctx, g); err != nil {
			return err
		}
	}
	return b.rejudge(ctx, m.Owner, how.madeAt)
}

// unpin takes out a pin; a file that nothing pins any more stays for a while.
func (b *batch) unpin(ctx context.Context, key string, file message.ItemHash) error {
	if err := b.tx.DropPin(ctx, key); err != nil {
		return err
	}
	n, err := b.tx.CountPins(ctx, file)
	if err != nil || n > 0 {
		return err
	}
	return b.tx.PutPin(ctx, b.p.grace(file, b.now))
}
