package corenode

import (
	"context"
	"errors"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/flight"
)

// cache keeps answers for a time, and lets those who want the same wait for one question.
type cache[V any] struct {
	ttl     time.Duration
	entries *lru.Cache[string, entry[V]]
	flights flight.Group[string, V]
}

type entry[V any] struct {
	value V
	until time.Time
}

func newCache[V any](ttl time.Duration, entries int) *cache[V] {
	l, err := lru.New[string, entry[V]](max(1, entries))
	if err != nil {
		panic("BUG: a cache of at least one entry is refused: " + err.Error())
	}
	return &cache[V]{ttl: ttl, entries: l}
}

// get returns what is kept, or what ask says. An answer is kept if ask says that it holds
// for a time; an error never is. What it returns is shared: nobody may change it.
func (c *cache[V]) get(ctx context.Context, key string, ask func(ctx context.Context) (value V, keep bool, err error)) (V, error) {
	if e, ok := c.entries.Get(key); ok && time.Now().Before(e.until) {
		return e.value, nil
	}
	value, err := c.flights.Do(ctx, key, func(ctx context.Context) (V, error) {
		at := time.Now() // It was true when it was asked for, not when it came.
		value, keep, err := ask(ctx)
		if err == nil && keep && c.ttl > 0 {
			c.entries.Add(key, entry[V]{value, at.Add(c.ttl)})
		}
		return value, err
	})
	var left *flight.LeftError
	if errors.As(err, &left) {
		return value, errs.New(errs.Unavailable, "wait for a core channel node: %w", err)
	}
	return value, err
}
