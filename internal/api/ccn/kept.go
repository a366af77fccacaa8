package ccn

import (
	"sync"
	"time"
)

// kept is an answer that is the same for a while. It is made by who finds it too
// old; two who find that at the same time both make it.
type kept[T any] struct {
	last time.Duration

	mu    sync.Mutex
	value T         // guarded by mu
	until time.Time // guarded by mu
}

const (
	// channelsKept and numbersKept are how long answers are kept.
	channelsKept, numbersKept = 10 * time.Second, 10 * time.Second
)

// get returns the answer as of now, made by fn if need be.
func (k *kept[T]) get(now time.Time, fn func() (T, error)) (T, error) {
	k.mu.Lock()
	value, fresh := k.value, now.Before(k.until)
	k.mu.Unlock()
	if fresh {
		return value, nil
	}
	value, err := fn()
	if err != nil {
		return value, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.until = value, now.Add(k.last)
	return value, nil
}
