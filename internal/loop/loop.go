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
	return Spaced(ctx, log, Pace{Interval: interval, MaxDelay: maxDelay}, wake, pass)
}

// Pace says how often a pass runs.
type Pace struct {
	Interval time.Duration // From one pass to the next, if nothing wakes it.
	MaxDelay time.Duration // The longest that failures make of it.
	// Rest is how long after the begin of a pass a wake-up counts: what wakes again and
	// again, as rows that a pass itself sets in motion do, is seen to at that rate.
	// After a longer pause a wake-up counts at once.
	Rest time.Duration
}

// Spaced is Every with a rest between passes.
func Spaced(ctx context.Context, log *slog.Logger, pace Pace, wake <-chan struct{}, pass func(context.Context) error) error {
	delay := pace.Interval
	for {
		began, failed := time.Now(), false
		if err := pass(ctx); err != nil && ctx.Err() == nil {
			delay, failed = min(2*delay, pace.MaxDelay), true
			log.Warn("pass failed", "err", err, "retry_in", delay)
		} else {
			delay = pace.Interval
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // Even when there is a wake-up too.
		}
		due := time.Now().Add(delay)
		if rest := time.Until(began.Add(min(pace.Rest, delay))); rest > 0 {
			if err := sleep(ctx, rest, nil); err != nil {
				return err
			}
		}
		early := wake
		if failed {
			early = nil
		}
		if err := sleep(ctx, time.Until(due), early); err != nil {
			return err
		}
	}
}

// sleep waits for d, for a wake-up, or for the end of ctx, whose cause it returns.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wake:
	case <-timer.C:
	}
	return nil
}
