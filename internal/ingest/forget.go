package ingest

import (
	"context"
	"encoding/json"
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
func (b *batch) forget(ctx context.Context, it *item, m *state.Message, f *message.Forget) error {
	if err := f.CheckTargets(); err != nil {
		return err
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	targets, over, err := b.targets(ctx, it, m, f)
	if err != nil {
		return err
	}
	elements, err := b.forgottenElements(ctx, it, m, f)
	if err != nil {
		return err
	}
	owners := ownersOf(slices.Concat(targets, elements), over)
	if len(f.Aggregates) > 0 && !slices.Contains(owners, m.Owner) {
		owners = append(owners, m.Owner)
	}
	for _, owner := range owners {
		if !authz.Same(m.Envelope.Sender, owner) {
			if err := b.tx.PutDelegated(ctx, owner, m); err != nil {
				return err
			}
		}
	}
	if err := b.add(ctx, m); err != nil {
		return err
	}
	by := m.Envelope.ItemHash
	for _, s := range over {
		if err := b.forgetMore(ctx, s, by); err != nil {
			return err
		}
		if it.processed { // It may never have been here.
			b.standings[s.Envelope.ItemHash] = state.Standing{Status: state.MessageForgotten, Signature: s.Envelope.Signature}
			b.things = append(b.things, thingMessage(s.Envelope.ItemHash))
		}
	}
	for _, key := range distinct(f.Aggregates) {
		if err := b.forgetAggregate(ctx, m, string(key)); err != nil {
			return err
		}
	}
	for _, t := range slices.Concat(targets, elements) {
		how := ending{status: state.MessageForgotten, by: []message.ItemHash{by}, madeAt: m.MadeAt}
		if err := b.end(ctx, t, how); err != nil {
			return err
		}
	}
	return nil
}

// forgetAggregate notes that an aggregate was forgotten as a whole, also of its
// elements that were forgotten before.
func (b *batch) forgetAggregate(ctx context.Context, m *state.Message, key string) error {
	if err := b.tx.ForgetAggregate(ctx, m.Owner, key, m.MadeAt, m.Envelope.ItemHash); err != nil {
		return err
	}
	before, err := b.forgottenBefore(ctx, m, key)
	if err != nil {
		return err
	}
	for i := range before {
		if err := b.forgetMore(ctx, &before[i], m.Envelope.ItemHash); err != nil {
			return err
		}
	}
	return nil
}

// forgetMore adds FORGETs to a message that was forgotten before, and to what was
// forgotten with it. In whatever order they come, a message was forgotten by all of
// them, as of the first in time.
func (b *batch) forgetMore(ctx context.Context, s *state.Skeleton, by ...message.ItemHash) error {
	all := slices.Concat(s.ForgottenBy, by)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == len(s.ForgottenBy) {
		return nil
	}
	if err := b.setForgottenBy(ctx, s, all); err != nil {
		return err
	}
	return b.forgetAmends(ctx, s)
}

// setForgottenBy says which FORGETs ended a message, and with it when it ended: as of
// the first of them, which is also until when it held if it was a grant.
func (b *batch) setForgottenBy(ctx context.Context, s *state.Skeleton, by []message.ItemHash) error {
	found, err := b.tx.MessagesByHash(ctx, by)
	if err != nil {
		return err
	}
	var until time.Time
	for i, m := range found {
		if i == 0 || m.Envelope.Time.Before(s.EndedAt) {
			s.EndedAt = m.Envelope.Time
		}
		if i == 0 || m.MadeAt.Before(until) {
			until = m.MadeAt
		}
	}
	s.ForgottenBy = by
	if err := b.tx.PutSkeleton(ctx, *s); err != nil {
		return err
	}
	if len(found) == 0 || s.Envelope.Type != message.TypeAggregate || s.Kind == nil || *s.Kind != authz.SecurityKey {
		return nil
	}
	return b.endGrant(ctx, s.Owner, s.Envelope.ItemHash, until)
}

// forgetAmends adds the FORGETs of a post to those of its amends that ended before.
func (b *batch) forgetAmends(ctx context.Context, s *state.Skeleton) error {
	if s.Envelope.Type != message.TypePost || s.Parent != "" {
		return nil
	}
	amends, err := b.tx.SkeletonsOf(ctx, state.ParentPost(s.Envelope.ItemHash))
	if err != nil {
		return err
	}
	for i := range amends {
		if amends[i].Status != state.MessageForgotten {
			continue
		}
		if err := b.forgetMore(ctx, &amends[i], s.ForgottenBy...); err != nil {
			return err
		}
	}
	return nil
}

// forgottenAt is when the first of FORGETs says that it was written.
func (b *batch) forgottenAt(ctx context.Context, by []message.ItemHash) (at time.Time, err error) {
	found, err := b.tx.MessagesByHash(ctx, by)
	for i, m := range found {
		if t := m.Envelope.Time; i == 0 || t.Before(at) {
			at = t
		}
	}
	return at, err
}

// ownersOf are those whose messages a FORGET ends.
func ownersOf(targets []*state.Message, over []*state.Skeleton) (out []string) {
	for _, t := range targets {
		out = append(out, t.Owner)
	}
	for _, s := range over {
		out = append(out, s.Owner)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// distinct are the names of a list, each once: a FORGET may repeat one a thousand times,
// and what it names may be much to read.
func distinct(names []message.ItemHash) []message.ItemHash {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

// targets finds the messages that a FORGET may end, and those that ended before.
func (b *batch) targets(ctx context.Context, it *item, m *state.Message, f *message.Forget) (targets []*state.Message, over []*state.Skeleton, err error) {
	for _, hash := range distinct(f.Hashes) {
		t, err := b.tx.Message(ctx, hash)
		if errors.Is(err, errs.NotFound) {
			s, err := b.tx.Skeleton(ctx, hash)
			if errors.Is(err, errs.NotFound) {
				if s = it.endedBefore(hash); s != nil {
					over = append(over, s)
					continue
				}
			}
			if errors.Is(err, errs.NotFound) || err == nil && s.Status != state.MessageForgotten {
				return nil, nil, waitFor(message.RejectForgetTarget(hash), thingMessage(hash))
			}
			if err != nil {
				return nil, nil, err
			}
			if err := b.mayForgetMore(ctx, m, s); err != nil {
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
	body, err := t.Body()
	if err != nil {
		return err
	}
	return b.permitForget(ctx, m, hash, t.Owner, authz.FactsOf(&t.Envelope, body))
}

// mayForgetMore is mayForget for what was forgotten before.
func (b *batch) mayForgetMore(ctx context.Context, m *state.Message, s *state.Skeleton) error {
	return b.permitForget(ctx, m, s.Envelope.ItemHash, s.Owner, factsLeft(s))
}

// factsLeft are the facts of a message that ended.
func factsLeft(s *state.Skeleton) authz.Facts {
	facts := authz.Facts{Chain: s.Envelope.Chain, Channel: s.Envelope.Channel, Type: s.Envelope.Type}
	switch {
	case facts.Type == message.TypePost && s.Kind != nil:
		facts.PostType = *s.Kind
	case facts.Type == message.TypeAggregate:
		facts.AggregateKey = s.Kind
	}
	return facts
}

// permitForget wants the sender of a FORGET to be one who could have written the
// target.
func (b *batch) permitForget(ctx context.Context, m *state.Message, target message.ItemHash, owner string, facts authz.Facts) error {
	if authz.Same(m.Envelope.Sender, owner) {
		return nil
	}
	ok, err := b.granted(ctx, owner, m, func(s authz.Security) bool { return authz.Allowed(s, owner, m.Envelope.Sender, facts) })
	if err != nil || ok {
		return err
	}
	return waitFor(message.RejectForgetter(m.Envelope.Sender, target, owner), thingGrants(owner))
}

// forgottenElements are the elements of the aggregates that a FORGET names.
func (b *batch) forgottenElements(ctx context.Context, it *item, m *state.Message, f *message.Forget) (out []*state.Message, err error) {
	for _, key := range distinct(f.Aggregates) {
		all, err := b.tx.Elements(ctx, m.Owner, string(key))
		if err != nil {
			return nil, err
		}
		by, err := b.tx.AggregateForgotten(ctx, m.Owner, string(key), time.Time{})
		if err != nil {
			return nil, err
		}
		// Where another node has processed it, there were elements, which were forgotten
		// before they came here; what comes of them later ends at once.
		if len(all) == 0 && len(by) == 0 && !it.processed {
			return nil, waitFor(message.RejectForgetAggregate(string(key)), thingAggregate(m.Owner, string(key)))
		}
		judged := false
		for _, e := range all {
			if e.MadeAt.After(m.MadeAt) {
				continue // It came after, whatever the order here is.
			}
			judged = true
			if err := b.mayForget(ctx, m, e); err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(f.Hashes, func(h message.ItemHash) bool { return h == e.Envelope.ItemHash }) {
				out = append(out, e)
			}
		}
		before, err := b.forgottenBefore(ctx, m, string(key))
		if err != nil {
			return nil, err
		}
		for i := range before {
			judged = true
			if err := b.mayForgetMore(ctx, m, &before[i]); err != nil {
				return nil, err
			}
		}
		if judged {
			continue
		}
		if err := b.permitForgetAggregate(ctx, m, key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// forgottenBefore are the elements of an aggregate that were forgotten before, and
// that a FORGET of all of it ends too.
func (b *batch) forgottenBefore(ctx context.Context, m *state.Message, key string) ([]state.Skeleton, error) {
	all, err := b.tx.SkeletonsOf(ctx, state.ParentAggregate(m.Owner, key))
	return slices.DeleteFunc(all, func(s state.Skeleton) bool { return s.Status != state.MessageForgotten || s.MadeAt.After(m.MadeAt) }), err
}

// permitForgetAggregate wants the sender of a FORGET to be one who could write to an
// aggregate, of which it ends no element that is here: some may come late.
func (b *batch) permitForgetAggregate(ctx context.Context, m *state.Message, key message.ItemHash) error {
	name := string(key)
	facts := authz.Facts{Chain: m.Envelope.Chain, Channel: m.Envelope.Channel, Type: message.TypeAggregate, AggregateKey: &name}
	return b.permitForget(ctx, m, key, m.Owner, facts)
}

// ending is how a message ends.
type ending struct {
	status state.MessageStatus
	by     []message.ItemHash // FORGETs.
	madeAt time.Time          // Of the FORGET's content: what the message granted holds until then.
	at     time.Time          // Of a removal.
	reason string             // Of a removal.
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
	if err := b.tx.PutSkeleton(ctx, *s); err != nil {
		return err
	}
	if err := b.delegated(ctx, m); err != nil {
		return err // It may turn out that it should have been refused; see recheckEnded.
	}
	return b.forgetAmends(ctx, s)
}

// endAtOnce makes a message a skeleton that belongs to what was forgotten.
func (b *batch) endAtOnce(ctx context.Context, m *state.Message, by []message.ItemHash) error {
	s, err := b.skeleton(ctx, m, ending{status: state.MessageForgotten, by: by})
	if err != nil {
		return err
	}
	if err := b.tx.PutSkeleton(ctx, *s); err != nil {
		return err
	}
	if err := b.delegated(ctx, m); err != nil {
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
		ReceivedAt: m.ReceivedAt, Ref: labels.Ref, Kind: labels.Type, File: labels.File, MadeAt: m.MadeAt, SealedAt: b.now,
	}
	switch c := body.(type) {
	case *message.Post:
		if original, ok := c.Amends(); ok {
			s.Parent = state.ParentPost(original)
		}
	case *message.Aggregate:
		s.Parent = state.ParentAggregate(m.Owner, c.Key.String())
		if !c.Key.Object {
			s.Kind = &c.Key.Name
		}
	default:
		s.Parent = lineOf(m.Envelope.ItemHash, body)
	}
	if s.Sealed, err = json.Marshal(m.Envelope); err != nil {
		return nil, fmt.Errorf("encode message %s: %w", m.Envelope.ItemHash, err)
	}
	if len(how.by) > 0 {
		if s.EndedAt, err = b.forgottenAt(ctx, how.by); err != nil {
			return nil, err
		}
	}
	size, err := b.sizeOf(ctx, m, labels.File)
	s.SizeBytes = &size
	return s, err
}

// sizeOf is the size of a message's file, or of its content if it has none.
func (b *batch) sizeOf(ctx context.Context, m *state.Message, file *message.ItemHash) (int64, error) {
	if file == nil {
		return int64(len(m.Content)), nil
	}
	info, err := b.tx.FileInfo(ctx, *file)
	if errors.Is(err, errs.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.SizeBytes, nil
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
		err = b.undoForget(ctx, m, c)
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
	if how == nil {
		b.undoBalances(m, p)
		if err := b.undoCredits(ctx, m); err != nil {
			return err
		}
	}
	amends, err := b.tx.RemovePost(ctx, m)
	if err != nil {
		return err
	}
	for _, a := range amends {
		if how != nil {
			err = b.end(ctx, a, *how)
		} else {
			why := &message.RejectError{Code: message.CodePostAmendNotFound, Detail: "post " + string(m.Envelope.ItemHash) + " does not count"}
			err = b.revoke(ctx, a, why, []string{thingMessage(m.Envelope.ItemHash)})
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
		return b.ungrant(ctx, m)
	}
	return b.endGrant(ctx, m.Owner, m.Envelope.ItemHash, how.madeAt)
}

// endGrant sets until when a grant held; nothing happens if it was none.
func (b *batch) endGrant(ctx context.Context, owner string, hash message.ItemHash, until time.Time) error {
	g, err := b.tx.Grant(ctx, owner, hash)
	if errors.Is(err, errs.NotFound) || err == nil && g.Until.Equal(until) {
		return nil
	}
	if err != nil {
		return err
	}
	from := until
	if !g.Until.IsZero() && g.Until.Before(until) {
		from = g.Until
	}
	g.Until = until
	b.rejudge(owner, from)
	return b.tx.PutGrant(ctx, *g)
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

// undoForget takes back a FORGET: what it ended is judged again, unless another
// FORGET ended it too, or its content is gone for good.
func (b *batch) undoForget(ctx context.Context, m *state.Message, f *message.Forget) error {
	by := m.Envelope.ItemHash
	if err := b.tx.UnforgetAggregates(ctx, m.Owner, f.Aggregates, by); err != nil {
		return err
	}
	ended, err := b.endedBy(ctx, m, f)
	if err != nil {
		return err
	}
	for _, s := range slices.Clone(ended) {
		amends, err := b.tx.SkeletonsOf(ctx, state.ParentPost(s.Envelope.ItemHash))
		if err != nil {
			return err
		}
		ended = append(ended, amends...)
	}
	for i := range ended {
		if err := b.unforget(ctx, &ended[i], by); err != nil {
			return err
		}
	}
	return nil
}

// endedBy are the messages that a FORGET names and that ended.
func (b *batch) endedBy(ctx context.Context, m *state.Message, f *message.Forget) (out []state.Skeleton, err error) {
	for _, hash := range distinct(f.Hashes) {
		s, err := b.tx.Skeleton(ctx, hash)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *s)
	}
	for _, key := range distinct(f.Aggregates) {
		elements, err := b.tx.SkeletonsOf(ctx, state.ParentAggregate(m.Owner, string(key)))
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if slices.Contains(e.ForgottenBy, m.Envelope.ItemHash) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// unforget takes a FORGET off a message, which counts again if it was the only one.
func (b *batch) unforget(ctx context.Context, s *state.Skeleton, by message.ItemHash) error {
	rest := slices.DeleteFunc(slices.Clone(s.ForgottenBy), func(h message.ItemHash) bool { return h == by })
	switch {
	case len(rest) == len(s.ForgottenBy):
		return nil
	case len(rest) > 0:
		return b.setForgottenBy(ctx, s, rest)
	case s.Sealed == nil:
		b.p.log.Warn("message was forgotten by a FORGET that does not count, and its content is gone", "item_hash", s.Envelope.ItemHash)
		return nil
	}
	return b.unseal(ctx, s)
}

// unseal lets a message wait again that was forgotten, to be judged once more.
func (b *batch) unseal(ctx context.Context, s *state.Skeleton) error {
	hash := s.Envelope.ItemHash
	if err := b.tx.DropSkeleton(ctx, hash); err != nil {
		return err
	}
	if err := b.tx.DropDelegated(ctx, remains(s)); err != nil {
		return err
	}
	env := new(message.Envelope)
	if err := env.UnmarshalJSON(s.Sealed); err != nil {
		return fmt.Errorf("decode message %s that was forgotten: %w", hash, err)
	}
	delete(b.standings, hash)
	return b.tx.PutPending(ctx, state.Pending{
		Key: state.PendingKey(env), Hash: hash, Type: env.Type, Sender: env.Sender, Owner: s.Owner, Envelope: s.Sealed, ReceivedAt: s.ReceivedAt, RetryAt: b.now, Woken: true,
		Origin: state.Origin{Contract: env.Signature == "", Counted: true},
	})
}
