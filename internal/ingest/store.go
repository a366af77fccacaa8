package ingest

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// store judges and enters a STORE.
func (b *batch) store(ctx context.Context, it *item, m *state.Message, s *message.Store) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	if err := b.permit(ctx, m); err != nil {
		return err
	}
	tag, err := b.tagOf(ctx, m, s)
	if err != nil {
		return err
	}
	info, err := b.fileOf(ctx, s)
	if err != nil {
		return err
	}
	cost, err := b.storeCost(ctx, m, s, info)
	if err != nil {
		return err
	}
	if err := b.afford(ctx, it, m, bill{payment: s.PaymentType(), cost: cost, file: info, isFile: true, offered: !it.origin.MustPay}); err != nil {
		return err
	}
	if err := b.delegated(ctx, m); err != nil {
		return err
	}
	if err := b.add(ctx, m); err != nil {
		return err
	}
	if info != nil {
		if err := b.tx.PutFileInfo(ctx, *info); err != nil {
			return err
		}
	}
	pin := state.Pin{
		Key: string(m.Envelope.ItemHash), Kind: state.PinMessage, File: s.ItemHash, Owner: m.Owner, Tag: tag, Ref: s.Ref, Name: fileName(s), At: m.MadeAt,
	}
	if err := b.tx.PutPin(ctx, pin); err != nil {
		return err
	}
	return b.putCost(ctx, m, s.PaymentType(), cost)
}

// tagOf is the name under which versions of a file are found: of a new one its own
// hash, of a new version that of the first, or the owner's own word.
func (b *batch) tagOf(ctx context.Context, m *state.Message, s *message.Store) (string, error) {
	if s.Ref == nil {
		return string(m.Envelope.ItemHash), nil
	}
	target, ok := s.Follows()
	if !ok {
		return m.Owner + "/" + *s.Ref, nil
	}
	owner, ref, err := b.storeRef(ctx, target)
	switch {
	case err != nil:
		return "", err
	case ref != nil:
		return "", message.Reject(message.CodeStoreUpdateUpdate, "STORE message %s has a ref itself; name the first version", target)
	case owner != m.Owner:
		return "", message.Reject(message.CodePermissionDenied, "file %s belongs to %s, not to %s", target, owner, m.Owner)
	}
	return string(target), nil
}

// storeRef finds the STORE message that another one follows, also if it was
// forgotten: its later versions stay.
func (b *batch) storeRef(ctx context.Context, target message.ItemHash) (owner string, ref *string, err error) {
	pin, err := b.tx.Pin(ctx, string(target))
	if err == nil {
		return pin.Owner, pin.Ref, nil
	}
	if !errors.Is(err, errs.NotFound) {
		return "", nil, err
	}
	s, err := b.tx.Skeleton(ctx, target)
	if errors.Is(err, errs.NotFound) || err == nil && s.Envelope.Type != message.TypeStore {
		return "", nil, waitFor(message.Reject(message.CodeStoreRefNotFound, "no STORE message %s is known", target), thingMessage(target))
	}
	if err != nil {
		return "", nil, err
	}
	return s.Owner, s.Ref, nil
}

// fileOf wants the file to be here, if this node keeps files. It is nil if nothing
// is known of it.
func (b *batch) fileOf(ctx context.Context, s *message.Store) (*state.FileInfo, error) {
	info, err := b.p.files.Stat(ctx, s.ItemHash)
	switch {
	case err == nil:
		return &info, nil
	case errors.Is(err, errs.Invalid): // No file can have such a name.
		return nil, message.Reject(message.CodeInvalidFormat, "content.item_hash: %v", err)
	case !errors.Is(err, errs.NotFound):
		return nil, err
	case b.p.cfg.KeepFiles:
		return nil, waitFor(message.RejectFile(message.CodeFileUnavailable, s.ItemHash, ""), thingFile(s.ItemHash))
	case s.Size != nil && *s.Size > 0:
		return &state.FileInfo{Hash: s.ItemHash, SizeBytes: *s.Size}, nil
	}
	return nil, nil
}

// fileName returns metadata.name, or "" if there is none that is a text.
func fileName(s *message.Store) string {
	var name string
	if err := json.Unmarshal(s.Metadata["name"], &name); err != nil {
		return ""
	}
	return name
}

// storeCost is what keeping a file costs, nil if its size is not known.
func (b *batch) storeCost(ctx context.Context, m *state.Message, s *message.Store, info *state.FileInfo) (*pricing.Cost, error) {
	if info == nil {
		return nil, nil
	}
	table, err := b.p.pricesAt(ctx, b.tx, m.MadeAt)
	if err != nil {
		return nil, err
	}
	return table.StoreCost(s, m.Envelope.ItemHash, pricing.FileSizeMiB(info.SizeBytes)), nil
}

// undoStore takes back a STORE.
func (b *batch) undoStore(ctx context.Context, m *state.Message, s *message.Store) error {
	if err := b.tx.DropCost(ctx, m.Envelope.ItemHash); err != nil {
		return err
	}
	return b.unpin(ctx, string(m.Envelope.ItemHash), s.ItemHash)
}
