package flight_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/flight"
)

// TestCallersShareWork: as long as it runs, and not afterwards.
func TestCallersShareWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, int]
		var runs atomic.Int64
		broken := errors.New("broken")
		run := func(context.Context) (int, error) {
			time.Sleep(time.Second)
			return int(runs.Add(1)), broken
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if v, err := g.Do(t.Context(), "a", run); v != 1 || !errors.Is(err, broken) {
					t.Errorf("got %d, %v, want 1 and what run says", v, err)
				}
			})
		}
		synctest.Wait()
		if g.Waiters("a") != 3 || g.Waiters("b") != 0 || !g.Has("a") || g.Has("b") || g.Len() != 1 {
			t.Errorf("%d wait for a, %d for b, and %d run", g.Waiters("a"), g.Waiters("b"), g.Len())
		}
		wg.Wait()
		if v, _ := g.Do(t.Context(), "a", run); v != 2 || g.Len() != 0 {
			t.Errorf("afterwards: %d, and %d run, want it run anew", v, g.Len())
		}
	})
}

// TestWorkEndsWithTheLastWhoWaits, not with the one who began it.
func TestWorkEndsWithTheLastWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int, string]
		began := time.Now()
		var ended time.Duration
		var cause error
		run := func(ctx context.Context) (string, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			time.Sleep(time.Second) // It tidies up.
			ended = time.Since(began)
			return "", ctx.Err()
		}
		leaving := errors.New("leaving")
		var wg sync.WaitGroup
		for _, patience := range []time.Duration{time.Second, 2 * time.Second} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), patience, leaving)
			defer cancel()
			wg.Go(func() {
				var left *flight.LeftError
				if _, err := g.Do(ctx, 7, run); !errors.As(err, &left) || !errors.Is(err, leaving) {
					t.Errorf("who leaves gets %v, want the cause", err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if ended != 3*time.Second || !errors.Is(cause, flight.ErrAbandoned) {
			t.Errorf("the work ended after %v by %v, want the last caller to wait for it", ended, cause)
		}
	})
}

// TestWhoComesWhileWorkIsAbandonedHasItRunAnew, after it has tidied up.
func TestWhoComesWhileWorkIsAbandonedHasItRunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string, int64]
		var runs, running atomic.Int64
		run := func(ctx context.Context) (int64, error) {
			if running.Add(1) > 1 {
				t.Error("it runs twice at the same time")
			}
			defer running.Add(-1)
			n := runs.Add(1)
			select {
			case <-ctx.Done():
				time.Sleep(time.Minute) // It tidies up.
				return 0, context.Cause(ctx)
			case <-time.After(10 * time.Second):
				return n, nil
			}
		}
		first, leave := context.WithCancel(t.Context())
		impatient, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		do := func(ctx context.Context, want int64, left bool) {
			wg.Go(func() {
				v, err := g.Do(ctx, "a", run)
				var gone *flight.LeftError
				if v != want || errors.As(err, &gone) != left || !left && err != nil {
					t.Errorf("got %d, %v; want %d, and left %t", v, err, want, left)
				}
			})
			synctest.Wait()
		}
		do(first, 0, true)
		leave()
		synctest.Wait()
		do(t.Context(), 2, false)
		do(t.Context(), 2, false)
		do(impatient, 0, true)
		wg.Wait()
		if n := runs.Load(); n != 2 {
			t.Errorf("it ran %d times, want twice", n)
		}
	})
}
