// Package flight shares work between callers that want the same at the same time. Unlike
// with a singleflight, the work ends when the last of them gives up.
package flight

import (
	"context"
	"errors"
	"sync"
)

// ErrAbandoned is the cause of the end of work that nobody waits for any more.
var ErrAbandoned = errors.New("nobody waits for it any more")

// LeftError is what a caller gets who gave up, with the cause of that.
type LeftError struct{ Cause error }

// Error implements error.
func (e *LeftError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause.
func (e *LeftError) Unwrap() error { return e.Cause }

// Group shares work by key. The zero value is ready, and safe for concurrent use.
type Group[K comparable, V any] struct {
	mu      sync.Mutex
	flights map[K]*flight[V] // guarded by mu
}

// flight is one piece of work, however many wait for it.
type flight[V any] struct {
	done    chan struct{}
	cancel  context.CancelCauseFunc
	value   V
	err     error // valid after done
	waiters int   // guarded by Group.mu
}

// Do returns what run returns, which is begun unless it runs already for the key. Who gives
// up gets a *LeftError. When the last one does, the context of run
// ends with ErrAbandoned, and Do returns after run did, so that what it held is free. Who
// comes meanwhile waits for that too, and has run begun anew.
func (g *Group[K, V]) Do(ctx context.Context, key K, run func(ctx context.Context) (V, error)) (V, error) {
	var none V
	f, ok := g.join(ctx, key, run)
	for !ok {
		select {
		case <-f.done:
			f, ok = g.join(ctx, key, run)
		case <-ctx.Done():
			return none, &LeftError{context.Cause(ctx)}
		}
	}
	defer g.leave(f)
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		return none, &LeftError{context.Cause(ctx)}
	}
}

// join returns the work under a key; not ok if it is abandoned and has not ended yet.
func (g *Group[K, V]) join(ctx context.Context, key K, run func(ctx context.Context) (V, error)) (f *flight[V], ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, ok = g.flights[key]
	if ok && f.waiters == 0 {
		return f, false
	}
	if !ok {
		f = &flight[V]{done: make(chan struct{})}
		var life context.Context
		// The work outlives the caller that started it if others wait.
		life, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
		if g.flights == nil {
			g.flights = map[K]*flight[V]{}
		}
		g.flights[key] = f
		go func() {
			f.value, f.err = run(life)
			g.mu.Lock()
			delete(g.flights, key)
			g.mu.Unlock()
			close(f.done)
		}()
	}
	f.waiters++
	return f, true
}

func (g *Group[K, V]) leave(f *flight[V]) {
	g.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	g.mu.Unlock()
	if last {
		f.cancel(ErrAbandoned)
		<-f.done
	}
}

// Waiters is how many callers wait for the work under a key; 0 if there is none.
func (g *Group[K, V]) Waiters(key K) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.flights[key]; ok {
		return f.waiters
	}
	return 0
}

// Has reports whether work runs under a key.
func (g *Group[K, V]) Has(key K) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flights[key] != nil
}

// Len is under how many keys work runs.
func (g *Group[K, V]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.flights)
}
