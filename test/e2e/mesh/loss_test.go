//go:build e2e

package mesh_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/e2e/wire"
)

// TestLossAndDelay has a network work over lines that lose packets and are far apart. It must
// agree without their getting any better.
func TestLossAndDelay(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b", "c", "d")
	const delay = 300 * time.Millisecond
	for _, loss := range []float64{0.05, 0.15, 0.30} {
		t.Run(fmt.Sprintf("%.0f %% of packets are lost and the others take %v", 100*loss, delay), func(t *testing.T) {
			w.links(wire.Link{Loss: loss, Delay: delay})
			before := w.net.Count(w.nodes[0].host, w.nodes[1].host)
			began := time.Now()

			w.talk(t, w.nodes, 3)
			w.converge(t, w.nodes)

			after := w.net.Count(w.nodes[0].host, w.nodes[1].host)
			t.Logf("equal after %v; from a to b %d of %d packets were lost", time.Since(began).Round(time.Second), after.Lost-before.Lost, after.Sent-before.Sent)
			if after.Lost == before.Lost {
				t.Error("no packet was lost from a to b: nothing was tried")
			}
		})
	}
	w.heal()
	check(t, w.nodes)
}
