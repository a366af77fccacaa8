package guestapi

import (
	"context"
	"time"
)

// PassAt hands in what is due at a time.
func (c *Courier) PassAt(ctx context.Context, at time.Time) error {
	c.now = func() time.Time { return at }
	return c.pass(ctx)
}
