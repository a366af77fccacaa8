package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Grant is what an element of an owner's aggregate `security` allows others, from
// its time on until a newer one or until it is forgotten. Grants that are over are
// kept: a message of their time may come late.
type Grant struct {
	Owner   string
	Message message.ItemHash
	At      time.Time
	Until   time.Time       // Zero unless it was forgotten.
	Content json.RawMessage // Of the element.
}

// PutGrant writes a grant.
func (tx *Tx) PutGrant(ctx context.Context, g Grant) error {
	until := int64(math.MaxInt64)
	if !g.Until.IsZero() {
		until = g.Until.UnixMicro()
	}
	return tx.insert(ctx, "grants (owner, message, at, until, content)", [][]any{{g.Owner, string(g.Message), g.At.UnixMicro(), until, string(g.Content)}},
		" ON CONFLICT (owner, message) DO UPDATE SET until = excluded.until")
}

// DropGrant takes out a grant that never was one, and reports whether it was there.
func (tx *Tx) DropGrant(ctx context.Context, owner string, hash message.ItemHash) (bool, error) {
	res, err := tx.tx.ExecContext(ctx, "DELETE FROM grants WHERE owner = ? AND message = ?", owner, string(hash))
	if err != nil {
		return false, fmt.Errorf("drop grant %s: %w", hash, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("drop grant %s: %w", hash, err)
	}
	return n > 0, nil
}

// Grants returns all that an owner has ever allowed, oldest first.
func (r reader) Grants(ctx context.Context, owner string) (out []Grant, err error) {
	err = r.each(ctx, "SELECT owner, message, at, until, content FROM grants WHERE owner = ? ORDER BY at, message", []any{owner}, func(scan func(...any) error) error {
		var g Grant
		var at, until int64
		var content string
		err := scan(&g.Owner, &g.Message, &at, &until, &content)
		g.At, g.Content = micro(at), json.RawMessage(content)
		if until != math.MaxInt64 {
			g.Until = micro(until)
		}
		out = append(out, g)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read grants of %s: %w", owner, err)
	}
	return out, nil
}

// PutDelegated notes that a message was written for an owner by another, or ended
// one of theirs, so that it can be judged again when an older grant comes late.
func (tx *Tx) PutDelegated(ctx context.Context, owner string, m *Message) error {
	return tx.insert(ctx, "delegated (owner, at, message)", [][]any{{owner, m.MadeAt.UnixMicro(), string(m.Envelope.ItemHash)}}, " ON CONFLICT DO NOTHING")
}

// DropDelegated is the end of PutDelegated.
func (tx *Tx) DropDelegated(ctx context.Context, m *Message) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM delegated WHERE message = ?", string(m.Envelope.ItemHash)); err != nil {
		return fmt.Errorf("drop delegated message %s: %w", m.Envelope.ItemHash, err)
	}
	return nil
}

// Delegated returns the messages that others wrote for an owner whose contents are
// not older than from, oldest first.
func (r reader) Delegated(ctx context.Context, owner string, from time.Time) (out []message.ItemHash, err error) {
	err = r.each(ctx, "SELECT message FROM delegated WHERE owner = ? AND at >= ? ORDER BY at, message", []any{owner, from.UnixMicro()}, func(scan func(...any) error) error {
		var hash message.ItemHash
		err := scan(&hash)
		out = append(out, hash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what others wrote for %s: %w", owner, err)
	}
	return out, nil
}
