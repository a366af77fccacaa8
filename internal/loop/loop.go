// Package loop runs a pass of work again and again: at once, at each interval,
// and sooner when woken. Passes read what is due from state, so a lost wake-up
// costs latency and never work.
package loop

import (
	"context"
	"log/slog"
	"time"
)

// Every runs pass at once and then each interval, or sooner when wake
// receives, until ctx ends. A failed pass is logged and delays the next one,
// doubling up to maxDelay; it never ends the loop, and a wake-up does not cut
// the delay short, so a broken dependency is not hammered. Every returns ctx's
// cause.
func Every(ctx context.Context, log *slog.Logger, interval, maxDelay time.Duration,
	wake <-chan struct{}, pass func(context.Context) error,
) error {
	delay := interval
	for {
		failed := false
		if err := pass(ctx); err != nil && ctx.Err() == nil {
			delay, failed = min(2*delay, maxDelay), true
			log.Warn("pass failed", "err", err, "retry_in", delay)
		} else {
			delay = interval
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // Even when there is a wake-up too.
		}
		early := wake
		if failed {
			early = nil
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-early:
			timer.Stop()
		case <-timer.C:
		}
	}
}
