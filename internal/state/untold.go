package state

import (
	"context"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Untold is a message that a process without a network took in: who owns the
// database tells others of it, and takes the row out when that is done.
type Untold struct {
	ID      int64 // In the order of arrival.
	Message message.ItemHash
}

// untoldMax bounds the messages that wait for somebody to listen. Who comes later
// than that finds what it misses in the history.
const untoldMax = 100_000

// PutUntold notes messages that others are to be told of, in this order.
func (tx *Tx) PutUntold(ctx context.Context, hashes []message.ItemHash) error {
	if len(hashes) == 0 {
		return nil
	}
	var last int64
	if err := tx.q.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM untold").Scan(&last); err != nil {
		return fmt.Errorf("find the last message that nobody was told of: %w", err)
	}
	rows := make([][]any, len(hashes))
	for i, hash := range hashes {
		rows[i] = []any{last + int64(i) + 1, string(hash)}
	}
	tx.touch("untold")
	if err := tx.insert(ctx, "untold (id, message)", rows, ""); err != nil {
		return err
	}
	return tx.DropUntold(ctx, last+int64(len(rows))-untoldMax)
}

// Untold returns up to limit messages that nobody was told of yet, oldest first.
func (r reader) Untold(ctx context.Context, limit int) (out []Untold, err error) {
	err = r.each(ctx, "SELECT id, message FROM untold ORDER BY id LIMIT ?", []any{limit}, func(scan func(...any) error) error {
		var u Untold
		err := scan(&u.ID, &u.Message)
		out = append(out, u)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read messages that nobody was told of: %w", err)
	}
	return out, nil
}

// DropUntold takes out those up to an ID. Rows that come later have greater ones
// as long as these are there.
func (tx *Tx) DropUntold(ctx context.Context, upTo int64) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM untold WHERE id <= ?", upTo); err != nil {
		return fmt.Errorf("drop messages that others were told of: %w", err)
	}
	return nil
}
