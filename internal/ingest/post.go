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
func (b *batch) post(ctx context.Context, m *state.Message, p *message.Post) error {
	if target, ok := p.Amends(); ok {
		return b.amend(ctx, m, target)
	}
	if p.Type == message.PostAmend {
		return message.Reject(message.CodePostAmendNoTarget, "content.ref names no message")
	}
	if err := b.permit(ctx, m); err != nil {
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
	e := &m.Envelope
	a := authz.Amend{Owner: m.Owner, Sender: e.Sender, OriginalOwner: original.Owner, Original: authz.FactsOf(&original.Envelope, post)}
	allowed := authz.Same(m.Owner, e.Sender)
	if !allowed {
		if allowed, err = b.granted(ctx, original.Owner, m, func(s authz.Security) bool { return authz.AllowedAmend(s, a) }); err != nil {
			return nil, err
		}
	}
	if !allowed {
		return nil, waitFor(message.RejectSender(e.Sender, m.Owner), thingGrants(original.Owner))
	}
	if m.Owner != original.Owner {
		return nil, message.Reject(message.CodePermissionDenied, "post %s belongs to %s, not to %s", target, original.Owner, m.Owner)
	}
	return original, nil
}

// amendOfNone is the verdict on an amend whose original is not here: it comes too
// late if that was forgotten, with which its amends are too, else too early.
func (b *batch) amendOfNone(ctx context.Context, m *state.Message, target message.ItemHash) error {
	if err := b.permit(ctx, m); err != nil {
		return err
	}
	s, err := b.tx.Skeleton(ctx, target)
	switch {
	case errors.Is(err, errs.NotFound):
		return waitFor(message.Reject(message.CodePostAmendNotFound, "no post %s is known", target), thingMessage(target))
	case err != nil:
		return err
	case s.Kind != nil && *s.Kind == message.PostAmend:
		return message.Reject(message.CodePostAmendAmend, "message %s is an amend itself", target)
	case s.Owner != m.Owner:
		return message.Reject(message.CodePermissionDenied, "post %s belongs to %s, not to %s", target, s.Owner, m.Owner)
	}
	return b.endAtOnce(ctx, m, s.ForgottenBy)
}
