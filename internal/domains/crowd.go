package domains

import (
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Crowd bounds what goes on at the same time, for each of many and in all. Use NewCrowd.
type Crowd[K comparable] struct {
	each, all int

	mu sync.Mutex
	of map[K]int // guarded by mu
	n  int       // guarded by mu
}

// NewCrowd returns a Crowd that has room for at least one.
func NewCrowd[K comparable](each, all int) *Crowd[K] {
	return &Crowd[K]{each: max(1, each), all: max(1, all), of: map[K]int{}}
}

// Enter counts one more of key until leave is called, once. It gives errs.Unavailable
// when there are too many.
func (c *Crowd[K]) Enter(key K) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.of[key] >= c.each:
		return nil, errs.New(errs.Unavailable, "%d connections of %v are open already; try again later", c.each, key)
	case c.n >= c.all:
		return nil, errs.New(errs.Unavailable, "%d connections are open already; try again later", c.all)
	}
	c.of[key]++
	c.n++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n--
		if c.of[key]--; c.of[key] == 0 {
			delete(c.of, key)
		}
	}, nil
}
