//go:build e2e

package mesh_test

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// TestIdentities has nodes come back as others: with another name and all that they had,
// and with their name and nothing.
func TestIdentities(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b", "c", "d")
	c, d := w.nodes[2], w.nodes[3]
	fresh := w.add(t, "fresh", w.nodes[0])
	w.talk(t, w.nodes, 3)
	w.converge(t, w.nodes)

	t.Run("the same database under another peer id", func(t *testing.T) {
		c.kill(t)
		was := c.keys.peer
		w.talk(t, []*node{w.nodes[0], w.nodes[1], d}, 2)
		c.keys = w.takeKeys(t)
		c.start(t)
		c.waitUp(t)
		w.waitMet(t, w.nodes)
		w.talk(t, w.nodes, 2)
		w.converge(t, w.nodes)
		for _, n := range w.nodes {
			eventually(t, n.name+" knows the new one and not the old one", func(ctx context.Context) error {
				peers, err := n.peers(ctx)
				if _, still := peers[string(was)]; err == nil && still {
					err = fmt.Errorf("%s is still connected", was)
				}
				return err
			})
		}
	})
	t.Run("the same peer id with an empty database", func(t *testing.T) {
		d.kill(t)
		w.talk(t, w.nodes[:3], 2)
		if err := os.RemoveAll(d.dir); err != nil {
			t.Fatal(err)
		}
		d.start(t)
		d.waitUp(t)
		w.waitMet(t, w.nodes)
		w.converge(t, w.nodes)
		w.talk(t, w.nodes, 2)
		w.converge(t, w.nodes)
	})
	t.Run("a node that was never here", func(t *testing.T) {
		fresh.start(t)
		fresh.waitUp(t)
		w.nodes = append(w.nodes, fresh)
		w.converge(t, w.nodes)
		w.talk(t, w.nodes, 2)
		w.converge(t, w.nodes)
	})
	check(t, w.nodes)
}
