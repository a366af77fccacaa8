package state

import (
	"context"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// An own aggregate is one that this node makes by itself and serves as if its owner
// had published it. It has no message.

// PutOwnAggregate writes what an own aggregate says now.
func (tx *Tx) PutOwnAggregate(ctx context.Context, a Aggregate) error {
	tx.touch("own_aggregates")
	return tx.insert(ctx, "own_aggregates (pk, owner, name, created, updated, content)",
		[][]any{{digest(a.Owner, a.Key), a.Owner, a.Key, a.Created.UnixMicro(), a.Updated.UnixMicro(), string(a.Content)}},
		" ON CONFLICT (pk) DO UPDATE SET updated = excluded.updated, content = excluded.content")
}

// DropOwnAggregate is that an aggregate is served only as it is published.
func (tx *Tx) DropOwnAggregate(ctx context.Context, owner, key string) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM own_aggregates WHERE pk = ?", digest(owner, key)); err != nil {
		return fmt.Errorf("drop own aggregate %.80q: %w", key, err)
	}
	return nil
}

// OwnAggregates returns the own aggregates of an owner, with their contents, by key.
func (r reader) OwnAggregates(ctx context.Context, owner string) (out []Aggregate, err error) {
	err = r.each(ctx, "SELECT owner, name, created, updated, content FROM own_aggregates WHERE owner = ? ORDER BY name", []any{owner}, func(scan func(...any) error) error {
		var a Aggregate
		var created, updated int64
		var content string
		err := scan(&a.Owner, &a.Key, &created, &updated, &content)
		a.Created, a.Updated, a.Content = micro(created), micro(updated), []byte(content)
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read own aggregates: %w", err)
	}
	return out, nil
}

// AggregateVersion tells an aggregate of a time from all others of its owner and
// key, without reading it.
type AggregateVersion struct {
	Own     bool
	Updated time.Time
	ID      int64
	Changes int64
	Last    string // Hash of its last message.
}

// AggregateVersion returns which content an aggregate has now, or errs.NotFound. An
// own one counts more than one that was published.
func (r reader) AggregateVersion(ctx context.Context, owner, key string) (v AggregateVersion, err error) {
	var at int64
	err = r.q.QueryRowContext(ctx, "SELECT updated FROM own_aggregates WHERE pk = ?", digest(owner, key)).Scan(&at)
	if v.Own = err == nil; isMissing(err) {
		err = r.q.QueryRowContext(ctx, "SELECT updated, id, changes, last FROM aggregates WHERE pk = ?", digest(owner, key)).Scan(&at, &v.ID, &v.Changes, &v.Last)
	}
	if isMissing(err) {
		return v, errs.New(errs.NotFound, "%s has no aggregate %.80q", owner, key)
	}
	if err != nil {
		return v, fmt.Errorf("read version of aggregate %.80q: %w", key, err)
	}
	v.Updated = micro(at)
	return v, nil
}
