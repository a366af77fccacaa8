package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Anchor takes in a message that a transaction names, and judges it like any other,
// but that one which a contract emitted needs no signature. One that is here already
// is confirmed by the transaction and not judged again. A message that is refused is
// a *message.RejectError; one that waits is none, and is confirmed when it counts.
// Nobody is told of it: all who follow the chain hear of it there.
//
// What the transaction is, and whether the chain still has it, is read from state when
// the message is written. So a reorganisation meanwhile leaves nothing behind.
func (p *Pipeline) Anchor(ctx context.Context, raw json.RawMessage, o state.Origin, now time.Time) error {
	it, err := p.readAnchored(ctx, raw, o, now)
	if err != nil {
		return err
	}
	p.findRunway(ctx, it)
	v, err := p.write(ctx, it)
	if err != nil {
		return err
	}
	if v.Status == state.MessageRejected {
		return refusalOf(v)
	}
	return nil
}

func (p *Pipeline) readAnchored(ctx context.Context, raw json.RawMessage, o state.Origin, now time.Time) (*item, error) {
	if !o.Contract {
		it, err := p.read(ctx, raw, now)
		if err == nil {
			it.origin = o
		}
		return it, err
	}
	env, err := message.ParseUnsigned(raw)
	if err == nil {
		err = checkTexts(env)
	}
	switch {
	case err != nil:
	case env.Signature != "":
		err = message.Reject(message.CodeInvalidFormat, "a contract cannot sign")
	case env.ItemType != message.Inline:
		err = message.Reject(message.CodeInvalidFormat, "the content of a message from a contract is not in it")
	}
	if err != nil {
		p.count(state.MessageRejected, err)
		return nil, err
	}
	return &item{env: env, raw: raw, content: []byte(env.ItemContent), origin: o, receivedAt: now}, nil
}

// anchor puts what the chain has now in place of the transaction that a message came
// with: none, if the chain has it no more. Then there is a verdict on a message that
// a contract emitted.
func (b *batch) anchor(ctx context.Context, it *item) (*Verdict, error) {
	if it.origin.Tx == nil {
		return nil, nil //nolint:nilnil // No verdict yet.
	}
	of, hash := it.origin.Tx.Chain, it.origin.Tx.Hash
	name := string(of) + "/" + hash
	t, known := b.onChain[name]
	if !known {
		var err error
		if t, err = b.tx.SyncTransaction(ctx, of, hash); err != nil && !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		if b.onChain == nil {
			b.onChain = map[string]*state.Transaction{}
		}
		b.onChain[name] = t
	}
	it.origin.Tx = t
	if t != nil || !it.origin.Contract {
		return nil, nil //nolint:nilnil // No verdict yet.
	}
	why := &message.RejectError{Code: message.CodeInvalidSignature, Detail: "the chain has the transaction of the message no more"}
	return &Verdict{ItemHash: it.env.ItemHash, Status: state.MessageRejected, Refusal: why}, b.dropWaiting(ctx, it)
}

// TakeBack takes back a message that a contract emitted, because its transaction is on
// the chain no more: without one that names it, it never was. It stays if another
// transaction names it, or if somebody signed it. Call it after the confirmations are
// dropped, in the same transaction.
func (p *Pipeline) TakeBack(ctx context.Context, tx *state.Tx, hash message.ItemHash) error {
	rows, err := tx.PendingFor(ctx, hash)
	if err != nil {
		return err
	}
	for i := range rows {
		if o := rows[i].Origin; o.Contract && o.Tx != nil {
			if err := p.takeBackRow(ctx, tx, &rows[i]); err != nil {
				return err
			}
		}
	}
	m, err := tx.Message(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return p.takeBackEnded(ctx, tx, hash)
	}
	if err != nil || m.Envelope.Signature != "" {
		return err
	}
	others, err := tx.Confirmations(ctx, []message.ItemHash{hash})
	if err != nil || len(others[hash]) > 0 {
		return err
	}
	b, err := p.newBatch(ctx, tx, nil, p.now())
	if err != nil {
		return err
	}
	if err := b.undo(ctx, m, nil); err != nil {
		return fmt.Errorf("take back message %s of a contract: %w", hash, err)
	}
	if err := b.rejudgeAll(ctx); err != nil {
		return err
	}
	return b.finish(ctx)
}

// takeBackEnded sees to it that a message which ended does not count again, should it turn
// out that it ought not to have: nothing names it any more.
func (p *Pipeline) takeBackEnded(ctx context.Context, tx *state.Tx, hash message.ItemHash) error {
	s, err := tx.Skeleton(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil || s.Envelope.Signature != "" {
		return err
	}
	others, err := tx.Confirmations(ctx, []message.ItemHash{hash})
	if err != nil || len(others[hash]) > 0 {
		return err
	}
	return tx.Unkeep(ctx, hash)
}

// takeBackRow drops a message that waits, unless its transaction is on the chain.
func (p *Pipeline) takeBackRow(ctx context.Context, tx *state.Tx, row *state.Pending) error {
	_, err := tx.SyncTransaction(ctx, row.Origin.Tx.Chain, row.Origin.Tx.Hash)
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	return tx.DropPendingRow(ctx, row.Key)
}
