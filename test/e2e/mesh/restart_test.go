//go:build e2e

package mesh_test

import (
	"testing"
	"time"
)

const (
	// stormKills is how often a node is killed, at any moment, stormWait apart at most.
	stormKills = 30
	stormWait  = 500 * time.Millisecond
)

// TestRestartStorm kills nodes again and again while messages come in, some before they
// are there again. What any of them has acknowledged is not lost.
func TestRestartStorm(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b", "c", "d", "e")
	for range stormKills {
		n, wait := w.nodes[w.r.IntN(len(w.nodes))], time.Duration(w.r.Int64N(int64(stormWait)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			select {
			case <-time.After(wait):
			case <-t.Context().Done():
			}
			n.kill(t)
			n.start(t)
		}()
		for struck := false; !struck; {
			w.talk(t, w.nodes, 1) // Nodes that are not there yet refuse.
			select {
			case <-done:
				struck = true
			default:
			}
		}
	}
	for _, n := range w.nodes {
		n.waitUp(t)
	}
	acked := 0
	for _, s := range w.said {
		if s.acked {
			acked++
		}
	}
	t.Logf("killed %d times; %d of %d messages were acknowledged", stormKills, acked, len(w.said))
	w.converge(t, w.nodes)
	w.waitMet(t, w.nodes)
	w.talk(t, w.nodes, 2)
	w.converge(t, w.nodes)
	check(t, w.nodes)
}
