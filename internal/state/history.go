package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Place is where a message is in the order of processing; see Message.ID.
type Place struct {
	ID      int64
	Message message.ItemHash
}

// History returns up to limit messages from a place on, in the order of processing.
// It does not read what is in them.
func (r reader) History(ctx context.Context, from int64, limit int) (out []Place, err error) {
	err = r.each(ctx, "SELECT id, pk FROM messages WHERE id >= ? ORDER BY id LIMIT ?", []any{from, limit}, func(scan func(...any) error) error {
		var p Place
		err := scan(&p.ID, &p.Message)
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of messages: %w", err)
	}
	return out, nil
}

// Continues reports whether who read the history up to a place, and found a message
// there, read this one: rows of a backup are not those that were read since. A
// message that is gone says nothing.
func (r reader) Continues(ctx context.Context, place int64, hash message.ItemHash) (bool, error) {
	var number, n int64
	err := r.q.QueryRowContext(ctx, "SELECT block, n FROM message_blocks ORDER BY block DESC LIMIT 1").Scan(&number, &n)
	if err != nil && !isMissing(err) {
		return false, fmt.Errorf("read the end of the history: %w", err)
	}
	if place >= number*blockSize+n {
		return false, nil
	}
	var there message.ItemHash
	err = r.q.QueryRowContext(ctx, "SELECT pk FROM messages WHERE id = ?", place).Scan(&there)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read message %d: %w", place, err)
	}
	return there == hash, nil
}

// DatabaseName returns the name of these rows, or errs.NotFound before they have one.
func (r reader) DatabaseName(ctx context.Context) (string, error) {
	name, err := oneMeta[string](ctx, r, metaDatabase)
	if err != nil {
		return "", err
	}
	return *name, nil
}

// NameDatabase gives the rows a name that no others have, once and for all, and
// returns the one that counts.
func (tx *Tx) NameDatabase(ctx context.Context, name string) (string, error) {
	had, err := tx.DatabaseName(ctx)
	if err == nil || !errors.Is(err, errs.NotFound) {
		return had, err
	}
	return name, putMeta(ctx, tx, metaDatabase, name)
}

// Reading is how far the history of another node was read.
type Reading struct {
	Database string           `json:"database"`       // Name of the node's rows.
	Next     int64            `json:"next"`           // The first place that was not read.
	Last     message.ItemHash `json:"last,omitempty"` // At the place before.
	At       time.Time        `json:"at"`             // When the row was written.
}

// readingsMax bounds the nodes of which it is known how far they were read; peers cost
// nothing. Who was forgotten is read anew.
const readingsMax = 512

// PutReading records how far a node was read.
func (tx *Tx) PutReading(ctx context.Context, peer string, r Reading) error {
	_, err := tx.Reading(ctx, peer)
	if errors.Is(err, errs.NotFound) {
		err = tx.trimReadings(ctx)
	}
	if err != nil {
		return err
	}
	return putMeta(ctx, tx, metaReading+peer, r)
}

// trimReadings makes room for one more, at the cost of those that were written longest
// ago.
func (tx *Tx) trimReadings(ctx context.Context) error {
	all, err := metas().list(ctx, tx.reader, "pk LIKE ?", metaReading+"%")
	if err != nil || len(all) < readingsMax {
		return err
	}
	at := make(map[string]time.Time, len(all))
	for _, m := range all {
		r, err := decodeMeta[Reading](&m)
		if err != nil {
			return err
		}
		at[m.Name] = r.At
	}
	slices.SortFunc(all, func(a, b meta) int { return at[a.Name].Compare(at[b.Name]) })
	for _, m := range all[:len(all)-readingsMax+1] {
		if err := metas().remove(ctx, tx, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// Reading returns how far a node was read, or errs.NotFound.
func (r reader) Reading(ctx context.Context, peer string) (*Reading, error) {
	return oneMeta[Reading](ctx, r, metaReading+peer)
}
