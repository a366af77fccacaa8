package ccn

import (
	"context"
	"time"
)

// places bounds the requests that do something costly at the same time. The others
// wait for their turn.
type places struct {
	taken   chan struct{}
	waiting chan struct{} // Bounds those who wait; nil where something else does.
	wait    time.Duration // How long one may.
	crowded error         // Said to who waited in vain.
}

func newPlaces(most int, wait time.Duration, crowded error) *places {
	return &places{taken: make(chan struct{}, most), wait: wait, crowded: crowded}
}

// try takes a place if there is one now.
func (p *places) try() bool {
	select {
	case p.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// take takes a place, or waits for one. Who has it must leave it.
func (p *places) take(ctx context.Context) error {
	if p.try() {
		return nil
	}
	if p.waiting != nil {
		select {
		case p.waiting <- struct{}{}:
			defer func() { <-p.waiting }()
		default:
			return p.crowded
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	select {
	case p.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return p.crowded
	}
}

// leave gives a place to who waits.
func (p *places) leave() { <-p.taken }
