package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
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
	return tx.insert(ctx, "grants ("+grantColumns+")", [][]any{{g.Owner, string(g.Message), g.At.UnixMicro(), until, string(g.Content)}},
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

const grantColumns = "owner, message, at, until, content"

// Grants returns all that an owner has ever allowed, oldest first.
func (r reader) Grants(ctx context.Context, owner string) ([]Grant, error) {
	return r.grants(ctx, "owner = ? ORDER BY at, message", owner)
}

// Grant returns what an element of an owner's aggregate allows, or errs.NotFound.
func (r reader) Grant(ctx context.Context, owner string, hash message.ItemHash) (*Grant, error) {
	found, err := r.grants(ctx, "owner = ? AND message = ?", owner, string(hash))
	if err == nil && len(found) == 0 {
		err = errs.New(errs.NotFound, "message %s allows nobody anything", hash)
	}
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

// GrantAt returns the newest grant of an owner that holds at a time, or errs.NotFound.
// Of grants of that very time only those before a hash count, unless it is "". It reads
// one content only: owners may have many grants, and write much into them.
func (r reader) GrantAt(ctx context.Context, owner string, at time.Time, before message.ItemHash) (*Grant, error) {
	micros := at.UnixMicro()
	where, args := "owner = ? AND at <= ? AND until >= ?", []any{owner, owner, micros, micros}
	if before != "" {
		where, args = where+" AND (at < ? OR message < ?)", append(args, micros, string(before))
	}
	found, err := r.grants(ctx, "owner = ? AND message = (SELECT message FROM grants WHERE "+where+" ORDER BY at DESC, message DESC LIMIT 1)", args...)
	if err == nil && len(found) == 0 {
		err = errs.New(errs.NotFound, "%s allows nobody anything at %v", owner, at)
	}
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

func (r reader) grants(ctx context.Context, where string, args ...any) (out []Grant, err error) {
	err = r.each(ctx, "SELECT "+grantColumns+" FROM grants WHERE "+where, args, func(scan func(...any) error) error {
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
		return nil, fmt.Errorf("read grants: %w", err)
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
