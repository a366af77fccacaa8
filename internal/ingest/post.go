package ingest

import (
	"context"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// post judges and enters a POST.
func (b *batch) post(ctx context.Context, it *item, m *state.Message, p *message.Post) error {
	if target, ok := p.Amends(); ok {
		return b.amend(ctx, m, target)
	}
	if p.Type == message.PostAmend {
		return message.Reject(message.CodePostAmendNoTarget, "content.ref names no message")
	}
	if err := b.permitAnew(ctx, it, m); err != nil {
		return err
	}
	balances, event, err := b.spending(m, p)
	if err != nil {
		return err
	}
	if event != nil {
		if err := b.coverTransfer(ctx, event); err != nil {
			return err
		}
	}
	if err := b.delegated(ctx, m); err != nil {
		return err
	}
	b.fresh, b.posts = append(b.fresh, m), append(b.posts, m)
	switch {
	case balances != nil:
		return b.enterBalances(ctx, m, balances)
	case event != nil:
		return b.enterCredits(ctx, m, event)
	}
	return nil
}

// amend judges and enters a POST that replaces the content of another.
func (b *batch) amend(ctx context.Context, m *state.Message, target message.ItemHash) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	original, err := b.permitAmend(ctx, m, target)
	if err != nil {
		return err
	}
	if err := b.delegated(ctx, m); err != nil {
		return err
	}
	if err := b.add(ctx, m); err != nil {
		return err
	}
	return b.tx.AddAmend(ctx, original, m)
}

// permitAmend returns the original post of an amend that may be written.
func (b *batch) permitAmend(ctx context.Context, m *state.Message, target message.ItemHash) (*state.Message, error) {
	original, err := b.tx.Message(ctx, target)
	if errors.Is(err, errs.NotFound) {
		return nil, b.amendOfNone(ctx, m, target)
	}
	if err != nil {
		return nil, err
	}
	body, err := original.Body()
	if err != nil {
		return nil, err
	}
	post, ok := body.(*message.Post)
	if !ok {
		return nil, message.Reject(message.CodePostAmendNotFound, "message %s is no POST", target)
	}
	if _, ok := post.Amends(); ok {
		return nil, message.Reject(message.CodePostAmendAmend, "message %s is an amend itself", target)
	}
	if err := b.permitAmendOf(ctx, m, target, original.Owner, authz.FactsOf(&original.Envelope, post)); err != nil {
		return nil, err
	}
	return original, nil
}

// permitAmendOf wants the sender of an amend to be allowed to write it for the owner of
// the original, of which the facts are.
func (b *batch) permitAmendOf(ctx context.Context, m *state.Message, target message.ItemHash, owner string, facts authz.Facts) error {
	e := &m.Envelope
	allowed := authz.Same(m.Owner, e.Sender)
	if !allowed {
		a := authz.Amend{Owner: m.Owner, Sender: e.Sender, OriginalOwner: owner, Original: facts}
		var err error
		if allowed, err = b.granted(ctx, owner, m, func(s authz.Security) bool { return authz.AllowedAmend(s, a) }); err != nil {
			return err
		}
	}
	if !allowed {
		return waitFor(message.RejectSender(e.Sender, m.Owner), thingGrants(owner))
	}
	if m.Owner != owner {
		return message.Reject(message.CodePermissionDenied, "post %s belongs to %s, not to %s", target, owner, m.Owner)
	}
	return nil
}

// amendOfNone is the verdict on an amend whose original is not here: it comes too
// late if that was forgotten, with which its amends are too, else too early.
func (b *batch) amendOfNone(ctx context.Context, m *state.Message, target message.ItemHash) error {
	s, err := b.tx.Skeleton(ctx, target)
	if errors.Is(err, errs.NotFound) {
		if err := b.permit(ctx, m); err != nil {
			// What the original is may allow more than what the amend is.
			return waitFor(err, append(thingsOf(err), thingMessage(target))...)
		}
		return waitFor(message.Reject(message.CodePostAmendNotFound, "no post %s is known", target), thingMessage(target))
	}
	switch {
	case err != nil:
		return err
	case s.Envelope.Type != message.TypePost:
		return message.Reject(message.CodePostAmendNotFound, "message %s is no POST", target)
	case s.Kind != nil && *s.Kind == message.PostAmend:
		return message.Reject(message.CodePostAmendAmend, "message %s is an amend itself", target)
	}
	if err := b.permitAmendOf(ctx, m, target, s.Owner, factsLeft(s)); err != nil {
		return err
	}
	return b.endAtOnce(ctx, m, s.ForgottenBy)
}
