package state

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Messages in the order of their first confirmations are in a catalogue of their
// own, as the time of a document never changes. A document there has the terms of
// its message, and its height in pieces: see heights.
func confirmedCatalogue() catalogue { return catalogue{"confirmed"} }

// unconfirmedAt is the time of confirmation of what has none: it is to come.
const unconfirmedAt = math.MaxInt64

// PutConfirmation records that a transaction names a message, which is here. It
// reports whether that is new.
func (tx *Tx) PutConfirmation(ctx context.Context, m *Message, t Transaction) (bool, error) {
	news, err := tx.NoteConfirmation(ctx, m.Envelope.ItemHash, t)
	if err != nil || !news {
		return false, err
	}
	return true, tx.PlaceConfirmation(ctx, m)
}

// NoteConfirmation is PutConfirmation for a message that ended: should it count again, it
// is confirmed. See PlaceConfirmation.
func (tx *Tx) NoteConfirmation(ctx context.Context, hash message.ItemHash, t Transaction) (bool, error) {
	res, err := tx.tx.ExecContext(ctx, "INSERT INTO confirmations (message, tx, chain, height, at, publisher) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		string(hash), t.Hash, string(t.Chain), t.Height, t.At.UnixMicro(), t.Publisher)
	if err != nil {
		return false, fmt.Errorf("confirm message %s: %w", hash, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	tx.touch("confirmations")
	return true, nil
}

// DropConfirmations takes back what a transaction of a chain confirmed, which has it no
// more. Call it while the transaction's events are still here, if there are any: by
// what they say its confirmations are found fast.
func (tx *Tx) DropConfirmations(ctx context.Context, of message.Chain, txHash string) error {
	where, args := " FROM confirmations WHERE tx = ? AND chain = ?", []any{txHash, string(of)}
	t, err := tx.SyncTransaction(ctx, of, txHash)
	switch {
	case err == nil:
		where, args = where+" AND at = ? AND height = ?", append(args, t.At.UnixMicro(), t.Height)
	case errs.KindOf(err) != errs.NotFound:
		return err
	}
	var hashes []message.ItemHash
	err = tx.each(ctx, "SELECT message"+where, args, func(scan func(...any) error) error {
		var hash message.ItemHash
		err := scan(&hash)
		hashes = append(hashes, hash)
		return err
	})
	if err != nil {
		return fmt.Errorf("read confirmations of %s: %w", txHash, err)
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE"+where, args...); err != nil {
		return fmt.Errorf("drop confirmations of %s: %w", txHash, err)
	}
	if len(hashes) == 0 {
		return nil
	}
	tx.touch("confirmations")
	all, err := tx.MessagesByHash(ctx, hashes)
	if err != nil {
		return err
	}
	owners := map[string]bool{}
	for _, m := range all {
		if err := tx.PlaceConfirmation(ctx, m); err != nil {
			return err
		}
		owners[m.Owner] = true
	}
	for _, payment := range []message.PaymentType{message.PayHold, message.PayCredit} {
		if err := tx.ReviewPayers(ctx, payment, slices.Sorted(maps.Keys(owners))); err != nil {
			return err // Only what is confirmed is charged.
		}
	}
	return nil
}

// PlaceConfirmation puts a message where its first confirmation has it, if it has any. What
// named a message that was taken out is kept, so one that comes back needs it.
func (tx *Tx) PlaceConfirmation(ctx context.Context, m *Message) error {
	terms, err := m.terms()
	if err != nil {
		return err
	}
	if err := tx.unconfirm(ctx, m, terms); err != nil {
		return err
	}
	all, err := tx.Confirmations(ctx, []message.ItemHash{m.Envelope.ItemHash})
	if err != nil {
		return err
	}
	mine := all[m.Envelope.ItemHash]
	err = messageCatalogue().change(ctx, tx, confirmed().key(), m.ID/blockSize, func(b *bitset) {
		if b.clear(int(m.ID % blockSize)); len(mine) > 0 {
			b.set(int(m.ID % blockSize))
		}
	})
	if err != nil || len(mine) == 0 {
		return err
	}
	first := mine[0]
	if m.Status == MessageRemoving {
		terms = append(terms, removing())
	}
	ids, err := confirmedCatalogue().add(ctx, tx, []document{{first.At.UnixMicro(), append(terms, heightTerms(first.Height)...)}})
	if err != nil {
		return err
	}
	_, err = tx.tx.ExecContext(ctx, "INSERT INTO confirmed (id, message, at, height) VALUES (?, ?, ?, ?)", ids[0], m.ID, first.At.UnixMicro(), first.Height)
	if err != nil {
		return fmt.Errorf("place confirmation of %s: %w", m.Envelope.ItemHash, err)
	}
	return nil
}

// unconfirm takes a message out of the order of confirmations.
func (tx *Tx) unconfirm(ctx context.Context, m *Message, terms []term) error {
	var id, height int64
	err := tx.q.QueryRowContext(ctx, "SELECT id, height FROM confirmed WHERE message = ?", m.ID).Scan(&id, &height)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find confirmation of %s: %w", m.Envelope.ItemHash, err)
	}
	all := append(append([]term{}, terms...), append(heightTerms(height), removing())...)
	if err := confirmedCatalogue().remove(ctx, tx, id, all); err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM confirmed WHERE id = ?", id); err != nil {
		return fmt.Errorf("drop confirmation of %s: %w", m.Envelope.ItemHash, err)
	}
	return nil
}

// Confirmations returns the transactions that name messages, first ones first.
func (r reader) Confirmations(ctx context.Context, hashes []message.ItemHash) (map[message.ItemHash][]Transaction, error) {
	out := map[message.ItemHash][]Transaction{}
	for chunk := range chunks(hashes) {
		marks, args := in(chunk)
		err := r.each(ctx, "SELECT message, tx, chain, height, at, publisher FROM confirmations WHERE message IN "+marks+" ORDER BY at, height, chain, tx", args,
			func(scan func(...any) error) error {
				var hash message.ItemHash
				var t Transaction
				var at int64
				if err := scan(&hash, &t.Hash, &t.Chain, &t.Height, &at, &t.Publisher); err != nil {
					return err
				}
				t.At = micro(at)
				out[hash] = append(out[hash], t)
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("read confirmations: %w", err)
		}
	}
	return out, nil
}

type placed struct{ at, height int64 }

// firstConfirmations are those of messages that have one, by id.
func (r reader) firstConfirmations(ctx context.Context, ids []int64) (map[int64]placed, error) {
	out := map[int64]placed{}
	for chunk := range chunks(ids) {
		err := r.each(ctx, "SELECT message, at, height FROM confirmed WHERE message IN "+marks(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			var id int64
			var p placed
			err := scan(&id, &p.at, &p.height)
			out[id] = p
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read first confirmations: %w", err)
		}
	}
	return out, nil
}

// A height is said in pieces, so that any range of heights is some hundred terms:
// its first digits, of which a term leaves out the last level of heightBits each.
const (
	heightBits   = 4
	heightLevels = 8 // Heights have up to 32 bits; greater ones count as the greatest.
	heightMax    = 1<<(heightBits*heightLevels) - 1
)

func heightTerm(level int, prefix int64) term {
	return term{termHeight, strconv.Itoa(level) + ":" + strconv.FormatInt(prefix, 16)}
}

func heightTerms(height int64) []term {
	height = min(max(height, 0), heightMax)
	out := make([]term, heightLevels)
	for level := range heightLevels {
		out[level] = heightTerm(level, height>>(heightBits*level))
	}
	return out
}

// heights is the filter of the range of heights of a query, nil if it has none.
func (q *MessageQuery) heights() []filter {
	from, to := max(q.FromHeight, 0), int64(heightMax+1)
	if q.ToHeight > 0 {
		to = min(q.ToHeight, to)
	}
	if from == 0 && q.ToHeight == 0 {
		return nil
	}
	values := []string{}
	const fan = 1 << heightBits
	for level := 0; from < to && level < heightLevels; level++ {
		last := level == heightLevels-1
		for ; from < to && (last || from%fan != 0); from++ {
			values = append(values, heightTerm(level, from).value)
		}
		for ; from < to && !last && to%fan != 0; to-- {
			values = append(values, heightTerm(level, to-1).value)
		}
		from, to = from/fan, to/fan
	}
	return []filter{{kind: termHeight, values: values}}
}

// ConfirmedHeight returns the height at which a chain has first confirmed anything
// at a time or later; 0 if it has not yet. What happened at that time elsewhere
// comes before what is confirmed from that height on, and after all else.
func (r reader) ConfirmedHeight(ctx context.Context, chain message.Chain, at time.Time) (height int64, err error) {
	err = r.q.QueryRowContext(ctx, "SELECT height FROM confirmations WHERE chain = ? AND at >= ? ORDER BY at, height LIMIT 1", string(chain), at.UnixMicro()).Scan(&height)
	if err != nil && !isMissing(err) {
		return 0, fmt.Errorf("find height at %v: %w", at, err)
	}
	return height, nil
}
