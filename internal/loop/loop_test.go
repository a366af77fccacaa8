package loop_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/loop"
)

func TestEveryBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15500*time.Millisecond)
		defer cancel()
		start := time.Now()
		var at []time.Duration
		pass := func(context.Context) error {
			at = append(at, time.Since(start))
			if len(at) <= 3 {
				return errors.New("peer away")
			}
			return nil
		}

		err := loop.Every(ctx, slog.New(slog.DiscardHandler), time.Second, 4*time.Second, nil, pass)

		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Every returned %v, want the context's cause", err)
		}
		var want []time.Duration
		for _, second := range []int{0, 2, 6, 10, 11, 12, 13, 14, 15} {
			want = append(want, time.Duration(second)*time.Second)
		}
		if !slices.Equal(at, want) {
			t.Errorf("passes at %v, want %v", at, want)
		}
	})
}

func TestWakeRunsAPassEarlyButNotAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wake := make(chan struct{}, 1)
		start := time.Now()
		var at []time.Duration
		pass := func(context.Context) error {
			at = append(at, time.Since(start))
			switch len(at) {
			case 1:
				wake <- struct{}{}
			case 2:
				wake <- struct{}{}
				return errors.New("busy")
			case 3:
				cancel()
			}
			return nil
		}

		_ = loop.Every(ctx, slog.New(slog.DiscardHandler), time.Minute, time.Hour, wake, pass)

		want := []time.Duration{0, 0, 2 * time.Minute}
		if !slices.Equal(at, want) {
			t.Errorf("passes at %v, want %v", at, want)
		}
	})
}

func TestWakeUpsCountAfterARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		wake := make(chan struct{}, 1)
		start := time.Now()
		var at []time.Duration
		pass := func(context.Context) error {
			at = append(at, time.Since(start))
			if len(at) < 4 {
				wake <- struct{}{} // As the rows do that a pass writes.
			}
			return nil
		}
		time.AfterFunc(5*time.Second, func() { wake <- struct{}{} })

		_ = loop.Spaced(ctx, slog.New(slog.DiscardHandler), loop.Pace{Interval: time.Minute, MaxDelay: time.Hour, Rest: 100 * time.Millisecond}, wake, pass)

		ms := time.Millisecond
		if want := []time.Duration{0, 100 * ms, 200 * ms, 300 * ms, 5000 * ms}; !slices.Equal(at, want) {
			t.Errorf("passes at %v, want %v", at, want)
		}
	})
}
