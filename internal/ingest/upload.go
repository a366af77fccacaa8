package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Expect keeps a file for a while that a client is about to bring. It is called
// before the bytes become visible: if they are here already and nothing wants them
// any more, they are not deleted under the client's hands.
func (p *Pipeline) Expect(ctx context.Context, file message.ItemHash, now time.Time) error {
	err := p.db.Update(ctx, func(tx *state.Tx) error { return tx.PutPin(ctx, p.grace(file, now)) })
	if err != nil {
		return fmt.Errorf("expect upload %s: %w", file, err)
	}
	return nil
}

// grace is the pin of a file that nothing wants yet, or nothing any more.
func (p *Pipeline) grace(file message.ItemHash, now time.Time) state.Pin {
	return state.Pin{Key: state.GraceKey(file), Kind: state.PinGrace, File: file, At: now, Until: now.Add(p.cfg.GracePeriod)}
}

// Uploaded records that a file came here from a client. It is kept for a while,
// longer if a message wants it, and messages that wait for it are judged again.
func (p *Pipeline) Uploaded(ctx context.Context, f state.FileInfo, now time.Time) error {
	err := p.db.Update(ctx, func(tx *state.Tx) error {
		if err := tx.PutFileInfo(ctx, f); err != nil {
			return err
		}
		if err := tx.PutPin(ctx, p.grace(f.Hash, now)); err != nil {
			return err
		}
		_, err := tx.Wake(ctx, now, p.pendingMax, thingFile(f.Hash))
		return err
	})
	if err != nil {
		return fmt.Errorf("record upload %s: %w", f.Hash, err)
	}
	return nil
}

// Settled ends the while for which a file is kept that came with its message, if the
// message keeps it now. Otherwise the file would have one more who wants it than
// there are.
func (p *Pipeline) Settled(ctx context.Context, ref, file message.ItemHash) error {
	err := p.db.Update(ctx, func(tx *state.Tx) error {
		pin, err := tx.Pin(ctx, string(ref))
		if errors.Is(err, errs.NotFound) || err == nil && pin.File != file {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.DropPin(ctx, state.GraceKey(file))
	})
	if err != nil {
		return fmt.Errorf("settle upload %s: %w", file, err)
	}
	return nil
}

// errAsked ends a transaction in which nothing was to be written.
var errAsked = errors.New("it was only a question")

// CanPay reports whether the owner of a STORE can pay for a file of the size, as
// the judgement of the message would find now. If not the error is a
// *message.RejectError.
func (p *Pipeline) CanPay(ctx context.Context, e *message.Envelope, s *message.Store, sizeBytes int64) error {
	it := &item{env: e}
	p.findRunway(ctx, it)
	err := p.db.Update(ctx, func(tx *state.Tx) error {
		b := &batch{p: p, tx: tx, now: p.now()}
		m := state.NewMessage(e, []byte(e.ItemContent), s, e.Time)
		info := &state.FileInfo{Hash: s.ItemHash, SizeBytes: sizeBytes}
		cost, err := b.storeCost(ctx, m, s, info)
		if err != nil {
			return err
		}
		if err := b.afford(ctx, it, m, bill{payment: s.PaymentType(), cost: cost, file: info, isFile: true}); err != nil {
			return err
		}
		return errAsked // What it took to answer need not be written.
	})
	if errors.Is(err, errAsked) {
		return nil
	}
	return err
}
