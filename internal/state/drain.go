package state

import (
	"context"
	"time"
)

// Drain is the order of who runs this node that it take nothing new, so that it
// is empty by a time.
type Drain struct {
	Until time.Time `json:"until"` // By when its machines should be elsewhere; it takes nothing new after that either.
	By    string    `json:"by"`    // Address that signed the order.
	At    time.Time `json:"at"`
}

// PutDrain records the order.
func (tx *Tx) PutDrain(ctx context.Context, d Drain) error { return putMeta(ctx, tx, metaDrain, d) }

// RemoveDrain takes the order back.
func (tx *Tx) RemoveDrain(ctx context.Context) error { return metas().remove(ctx, tx, metaDrain) }

// Drain returns the order, or errs.NotFound.
func (r reader) Drain(ctx context.Context) (*Drain, error) { return oneMeta[Drain](ctx, r, metaDrain) }
