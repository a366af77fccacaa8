package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What nobody pays for any more is not looked for in all that there is: a review
// is an owner whose things of one payment must be looked at. Owners without such
// things have none.

// PutReview wants an owner to be looked at.
func (tx *Tx) PutReview(ctx context.Context, payment message.PaymentType, owner string) error {
	return tx.insert(ctx, "reviews (payment, owner)", [][]any{{string(payment), owner}}, " ON CONFLICT DO NOTHING")
}

// ReviewPayers wants those of the owners to be looked at who pay for anything in
// one way.
func (tx *Tx) ReviewPayers(ctx context.Context, payment message.PaymentType, owners []string) error {
	for chunk := range chunks(owners) {
		marks, args := in(chunk)
		_, err := tx.tx.ExecContext(ctx, "INSERT INTO reviews (payment, owner) SELECT DISTINCT payment, owner FROM costs WHERE payment = ? AND owner IN "+marks+
			" ON CONFLICT DO NOTHING", append([]any{string(payment)}, args...)...)
		if err != nil {
			return fmt.Errorf("note whose payments to look at: %w", err)
		}
	}
	return nil
}

// ReviewExpired wants the owners to be looked at who pay by credit and of whose
// credits some ended after one time and by another.
func (tx *Tx) ReviewExpired(ctx context.Context, from, to time.Time) error {
	_, err := tx.tx.ExecContext(ctx, "INSERT INTO reviews (payment, owner) SELECT DISTINCT payment, owner FROM costs WHERE payment = 'credit' AND owner IN"+
		" (SELECT address FROM credit_lots WHERE remaining > 0 AND expires_at IS NOT NULL AND expires_at > ? AND expires_at <= ?) ON CONFLICT DO NOTHING",
		from.UnixMicro(), to.UnixMicro())
	if err != nil {
		return fmt.Errorf("note whose credits ended: %w", err)
	}
	return nil
}

// DropReview is that an owner was looked at.
func (tx *Tx) DropReview(ctx context.Context, payment message.PaymentType, owner string) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM reviews WHERE payment = ? AND owner = ?", string(payment), owner); err != nil {
		return fmt.Errorf("drop review of %s: %w", owner, err)
	}
	return nil
}

// Reviews returns up to limit owners that must be looked at, after one of them.
func (r reader) Reviews(ctx context.Context, payment message.PaymentType, after string, limit int) (out []string, err error) {
	err = r.each(ctx, "SELECT owner FROM reviews WHERE payment = ? AND owner > ? ORDER BY owner LIMIT ?", []any{string(payment), after, limit},
		func(scan func(...any) error) error {
			var owner string
			err := scan(&owner)
			out = append(out, owner)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read reviews: %w", err)
	}
	return out, nil
}

// PutRemoval records until when a message stays that nobody pays for, and with it
// the file that it pins.
func (tx *Tx) PutRemoval(ctx context.Context, hash message.ItemHash, until time.Time) error {
	if err := tx.insert(ctx, "removals (pk, until)", [][]any{{string(hash), until.UnixMicro()}}, " ON CONFLICT (pk) DO UPDATE SET until = excluded.until"); err != nil {
		return err
	}
	return tx.setPinUntil(ctx, hash, until.UnixMicro())
}

// DropRemoval is that a message stays for good.
func (tx *Tx) DropRemoval(ctx context.Context, hash message.ItemHash) error {
	if err := tx.forgetRemoval(ctx, hash); err != nil {
		return err
	}
	return tx.setPinUntil(ctx, hash, nil)
}

func (tx *Tx) forgetRemoval(ctx context.Context, hash message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM removals WHERE pk = ?", string(hash)); err != nil {
		return fmt.Errorf("drop removal of %s: %w", hash, err)
	}
	return nil
}

func (tx *Tx) setPinUntil(ctx context.Context, hash message.ItemHash, until any) error {
	if _, err := tx.tx.ExecContext(ctx, "UPDATE pins SET until = ? WHERE pk = ? AND kind = 'message'", until, string(hash)); err != nil {
		return fmt.Errorf("set until when %s pins its file: %w", hash, err)
	}
	return nil
}

// PostponeRemovals lets everything stay until a time at least.
func (tx *Tx) PostponeRemovals(ctx context.Context, until time.Time) error {
	for _, query := range []string{
		"UPDATE removals SET until = ? WHERE until < ?", "UPDATE pins SET until = ? WHERE until < ? AND kind = 'message'",
	} {
		if _, err := tx.tx.ExecContext(ctx, query, until.UnixMicro(), until.UnixMicro()); err != nil {
			return fmt.Errorf("postpone removals: %w", err)
		}
	}
	return nil
}

// Removals returns until when messages stay that nobody pays for; the others are
// not in it.
func (r reader) Removals(ctx context.Context, hashes []message.ItemHash) (map[message.ItemHash]time.Time, error) {
	out := map[message.ItemHash]time.Time{}
	for chunk := range chunks(hashes) {
		marks, args := in(chunk)
		err := r.each(ctx, "SELECT pk, until FROM removals WHERE pk IN "+marks, args, func(scan func(...any) error) error {
			var hash message.ItemHash
			var until int64
			err := scan(&hash, &until)
			out[hash] = micro(until)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read removals: %w", err)
		}
	}
	return out, nil
}

// PaidOnChain reports whether a job that has not ended, or an offer that may become
// one, pays for a machine with one of the specs, or for one that uses one of them
// as a file.
func (r reader) PaidOnChain(ctx context.Context, specs []message.ItemHash) (bool, error) {
	jobs, jobArgs := in([]JobStatus{JobAssigned, JobRunning})
	offers, offerArgs := in([]OfferStatus{OfferOffered, OfferDecided})
	for chunk := range chunks(specs) {
		marks, args := in(chunk)
		machines := "SELECT machine FROM uses WHERE ref IN " + marks
		for _, look := range []struct {
			query string
			of    []any
		}{{"jobs WHERE status IN " + jobs, jobArgs}, {"offers WHERE status IN " + offers, offerArgs}} {
			var n int
			all := append(append(append([]any{}, look.of...), args...), args...)
			err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+look.query+" AND (pk IN "+marks+" OR pk IN ("+machines+"))", all...).Scan(&n)
			if err != nil {
				return false, fmt.Errorf("look for what pays on chain: %w", err)
			}
			if n > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// PutLooked records when the things of one payment were last looked at.
func (tx *Tx) PutLooked(ctx context.Context, payment message.PaymentType, at time.Time) error {
	return putMeta(ctx, tx, metaLooked+string(payment), at)
}

// Looked returns when the things of one payment were last looked at; zero is
// never.
func (r reader) Looked(ctx context.Context, payment message.PaymentType) (time.Time, error) {
	at, err := oneMeta[time.Time](ctx, r, metaLooked+string(payment))
	if errors.Is(err, errs.NotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return *at, nil
}
