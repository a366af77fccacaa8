package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// judge runs the stages after the reading of a message, and enters it and what it
// makes. Its error is a *message.RejectError, alone or in a waitError, an
// endedError, or a failure of this node.
func (b *batch) judge(ctx context.Context, it *item) error {
	if it.sigErr != nil && !it.origin.Contract {
		return it.sigErr
	}
	if it.contentErr != nil {
		return it.contentErr
	}
	hash := it.env.ItemHash
	if it.content == nil {
		return waitFor(message.RejectFile(message.CodeContentUnavailable, hash, ""), thingFile(hash))
	}
	c, err := message.ParseContent(it.env, it.content)
	if err != nil {
		return err
	}
	m := state.NewMessage(it.env, it.content, c, it.receivedAt)
	if it.origin.Tx != nil {
		m.Quiet, b.txOf[m] = true, it.origin.Tx
	}
	if it.known {
		b.back[m] = true
	}
	switch c := c.(type) {
	case *message.Post:
		err = b.post(ctx, it, m, c)
	case *message.Aggregate:
		err = b.aggregate(ctx, it, m, c)
	case *message.Store:
		err = b.store(ctx, it, m, c)
	case *message.Forget:
		err = b.forget(ctx, it, m, c)
	default:
		err = b.machine(ctx, it, m)
	}
	if err != nil {
		return err
	}
	if it.env.ItemType != message.Inline {
		return b.keepContent(ctx, m)
	}
	return nil
}

// keepContent pins the file that is the content of a message.
func (b *batch) keepContent(ctx context.Context, m *state.Message) error {
	e := &m.Envelope
	if err := b.tx.PutFileInfo(ctx, state.FileInfo{Hash: e.ItemHash, SizeBytes: int64(len(m.Content))}); err != nil {
		return err
	}
	return b.tx.PutPin(ctx, state.Pin{Key: contentKey(e.ItemHash), Kind: state.PinContent, File: e.ItemHash, Owner: m.Owner, At: m.MadeAt})
}

// contentKey is the key of the pin of a content, which may be pinned as a file too.
func contentKey(hash message.ItemHash) string { return "content:" + string(hash) }

// permit wants the sender to be allowed to write the message for its owner.
func (b *batch) permit(ctx context.Context, m *state.Message) error {
	e := &m.Envelope
	if authz.Same(e.Sender, m.Owner) {
		return nil
	}
	facts := authz.FactsOf(e, m.Parsed)
	ok, err := b.granted(ctx, m.Owner, m, func(s authz.Security) bool { return authz.Allowed(s, m.Owner, e.Sender, facts) })
	if err != nil || ok {
		return err
	}
	return waitFor(message.RejectSender(e.Sender, m.Owner), thingGrants(m.Owner))
}

// permitAnew is permit for a message that may have been forgotten before, of which
// something is left then that a refusal takes back.
func (b *batch) permitAnew(ctx context.Context, it *item, m *state.Message) error {
	err := b.permit(ctx, m)
	var refusal *message.RejectError
	if !it.origin.Counted || !errors.As(err, &refusal) {
		return err
	}
	if failed := b.disown(ctx, m); failed != nil {
		return failed
	}
	return err
}

// granted reports whether what an owner allowed when a message was made allows it:
// the newest grant that was not forgotten by then. So all nodes decide alike in
// whatever order they hear, and neither does a revocation undo what was allowed
// before it, nor a grant bring back what was not. A message that is a grant itself is
// judged by those before it, of equal times by hash: nobody prolongs what they are
// allowed. One that was forgotten holds when its FORGET is made, which may have been
// allowed by it.
func (b *batch) granted(ctx context.Context, owner string, m *state.Message, allows func(authz.Security) bool) (bool, error) {
	if len(owner) > ownerCharsMax {
		return false, nil
	}
	var before message.ItemHash
	if isSecurity(m) {
		before = m.Envelope.ItemHash
	}
	g, err := b.tx.GrantAt(ctx, owner, m.MadeAt, before)
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil && allows(authz.Parse(g.Content)), err
}

// isSecurity reports whether a message is an element of its owner's grants.
func isSecurity(m *state.Message) bool {
	a, ok := m.Parsed.(*message.Aggregate)
	return ok && a.Key.String() == authz.SecurityKey
}

// delegated notes a message that was written for another.
func (b *batch) delegated(ctx context.Context, m *state.Message) error {
	if authz.Same(m.Envelope.Sender, m.Owner) {
		return nil
	}
	return b.tx.PutDelegated(ctx, m.Owner, m)
}

// grant enters what an element of an owner's aggregate `security` allows, and
// judges again what was judged without it.
func (b *batch) grant(ctx context.Context, m *state.Message, a *message.Aggregate) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(a.Content, &fields); err != nil {
		return fmt.Errorf("read grants of message %s: %w", m.Envelope.ItemHash, err)
	}
	if _, ok := fields["authorizations"]; !ok {
		return nil // It says nothing about them.
	}
	if err := b.tx.PutGrant(ctx, state.Grant{Owner: m.Owner, Message: m.Envelope.ItemHash, At: m.MadeAt, Content: a.Content}); err != nil {
		return err
	}
	b.rejudge(m.Owner, m.MadeAt)
	return nil
}

// rejudge notes that the grants of an owner changed from a time on.
func (b *batch) rejudge(owner string, from time.Time) {
	if since, ok := b.regranted[owner]; ok && since.Before(from) {
		return
	}
	if b.regranted == nil {
		b.regranted = map[string]time.Time{}
	}
	b.regranted[owner] = from
}

// rejudgeAll looks again at what others wrote for owners whose grants changed: what
// was refused may be allowed now, and what was made since may not. What ends so may
// have been a grant itself, so this goes on until nothing ends any more.
func (b *batch) rejudgeAll(ctx context.Context) error {
	for len(b.regranted) > 0 {
		owner := slices.Min(slices.Collect(maps.Keys(b.regranted)))
		from := b.regranted[owner]
		delete(b.regranted, owner)
		if _, err := b.tx.Wake(ctx, b.now, b.p.pendingMax, thingGrants(owner)); err != nil {
			return err
		}
		written, err := b.tx.Delegated(ctx, owner, from)
		if err != nil {
			return err
		}
		for _, hash := range written {
			if err := b.recheck(ctx, hash); err != nil {
				return err
			}
		}
	}
	return b.unsay(ctx)
}

// recheck ends a message that its sender was not allowed to write.
func (b *batch) recheck(ctx context.Context, hash message.ItemHash) error {
	m, err := b.tx.Message(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return b.recheckEnded(ctx, hash)
	}
	if err != nil {
		return err
	}
	if m.Parsed, err = m.Body(); err != nil {
		return err
	}
	switch c := m.Parsed.(type) {
	case *message.Forget:
		err = b.recheckForget(ctx, m, c)
	case *message.Post:
		if target, ok := c.Amends(); ok {
			_, err = b.permitAmend(ctx, m, target)
			break
		}
		err = b.permit(ctx, m)
	default:
		err = b.permit(ctx, m)
	}
	var refusal *message.RejectError
	if err == nil || !errors.As(err, &refusal) {
		return err
	}
	return b.revoke(ctx, m, refusal, thingsOf(err))
}

// recheckEnded lets a message wait for its verdict that was forgotten, and that its
// sender was not allowed to write. It should have been refused when it came, and then
// no FORGET could have named it.
func (b *batch) recheckEnded(ctx context.Context, hash message.ItemHash) error {
	s, err := b.tx.Skeleton(ctx, hash)
	if errors.Is(err, errs.NotFound) || err == nil && s.Status != state.MessageForgotten {
		return nil // It ended with another, or unpaid.
	}
	if err != nil {
		return err
	}
	var refusal *message.RejectError
	if err := b.permitEnded(ctx, s); err == nil || !errors.As(err, &refusal) {
		return err
	}
	if s.Sealed == nil {
		b.p.log.Warn("forgotten message is not allowed any more, and its content is gone", "item_hash", hash)
		return b.disown(ctx, remains(s))
	}
	for _, by := range s.ForgottenBy {
		f, err := b.tx.Message(ctx, by)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		body, err := f.Body()
		if err != nil {
			return err
		}
		if c, ok := body.(*message.Forget); !ok || !slices.Contains(c.Hashes, hash) {
			continue // It named what this belonged to.
		}
		why := message.RejectForgetTarget(hash)
		if !errors.As(why, &refusal) {
			return why
		}
		if err := b.revoke(ctx, f, refusal, []string{thingMessage(hash)}); err != nil {
			return err
		}
	}
	s, err = b.tx.Skeleton(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return nil // With the last FORGET.
	}
	if err != nil {
		return err
	}
	return b.unseal(ctx, s)
}

// permitEnded is permit for a message that was forgotten.
func (b *batch) permitEnded(ctx context.Context, s *state.Skeleton) error {
	m := remains(s)
	target, ok := strings.CutPrefix(s.Parent, state.ParentPost(""))
	if !ok {
		return b.permit(ctx, m)
	}
	original, err := b.tx.Message(ctx, message.ItemHash(target))
	if err == nil {
		body, err := original.Body()
		if err != nil {
			return err
		}
		return b.permitAmendOf(ctx, m, original.Envelope.ItemHash, original.Owner, authz.FactsOf(&original.Envelope, body))
	}
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	gone, err := b.tx.Skeleton(ctx, message.ItemHash(target))
	if errors.Is(err, errs.NotFound) {
		return nil // The original is judged again itself.
	}
	if err != nil {
		return err
	}
	return b.permitAmendOf(ctx, m, gone.Envelope.ItemHash, gone.Owner, factsLeft(gone))
}

// remains is a message that ended, with as much of its content as grants look at.
func remains(s *state.Skeleton) *state.Message {
	m := &state.Message{Envelope: s.Envelope, Owner: s.Owner, MadeAt: s.MadeAt}
	facts := factsLeft(s)
	switch {
	case facts.Type == message.TypePost:
		m.Parsed = &message.Post{Type: facts.PostType}
	case facts.AggregateKey != nil:
		m.Parsed = &message.Aggregate{Key: message.AggregateKey{Name: *facts.AggregateKey}}
	}
	return m
}

// disown takes back what stays of a message when it is forgotten: it should not have
// counted.
func (b *batch) disown(ctx context.Context, m *state.Message) error {
	switch c := m.Parsed.(type) {
	case *message.Post:
		b.undoBalances(m, c)
		return b.undoCredits(ctx, m)
	case *message.Aggregate:
		if isSecurity(m) {
			return b.ungrant(ctx, m)
		}
	}
	return nil
}

// ungrant takes back what a message has allowed others.
func (b *batch) ungrant(ctx context.Context, m *state.Message) error {
	was, err := b.tx.DropGrant(ctx, m.Owner, m.Envelope.ItemHash)
	if err != nil {
		return err
	}
	if was {
		b.rejudge(m.Owner, m.MadeAt)
	}
	return nil
}

// recheckForget wants the targets of a FORGET to be such that it could end them.
func (b *batch) recheckForget(ctx context.Context, m *state.Message, f *message.Forget) error {
	ended, err := b.endedBy(ctx, m, f)
	if err != nil {
		return err
	}
	for i := range ended {
		if err := b.mayForgetMore(ctx, m, &ended[i]); err != nil {
			return err
		}
	}
	for _, key := range distinct(f.Aggregates) {
		parent := state.ParentAggregate(m.Owner, string(key))
		if slices.ContainsFunc(ended, func(s state.Skeleton) bool { return s.Parent == parent }) {
			continue
		}
		if err := b.permitForgetAggregate(ctx, m, key); err != nil {
			return err
		}
	}
	return nil
}

// revoke makes a message a rejected one, which counts again when one of the things
// comes.
func (b *batch) revoke(ctx context.Context, m *state.Message, why *message.RejectError, things []string) error {
	raw, err := json.Marshal(m.Envelope)
	if err != nil {
		return fmt.Errorf("encode message %s: %w", m.Envelope.ItemHash, err)
	}
	if err := b.undo(ctx, m, nil); err != nil {
		return err
	}
	b.standings[m.Envelope.ItemHash] = state.Standing{Status: state.MessageRejected}
	b.p.log.Info("message is not allowed any more", "item_hash", m.Envelope.ItemHash, "sender", m.Envelope.Sender, "owner", m.Owner)
	return b.tx.PutRejected(ctx, state.Rejected{
		Hash: m.Envelope.ItemHash, Owner: m.Owner, Envelope: raw, ReceivedAt: m.ReceivedAt, MadeAt: m.MadeAt, Code: why.Code, Details: why.Details(),
		WaitsFor: things,
	})
}
