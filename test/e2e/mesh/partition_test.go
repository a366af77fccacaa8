//go:build e2e

package mesh_test

import (
	"context"
	"testing"
)

// TestPartitions cuts a network into parts of every shape, has both sides say different
// things, and looks whether they agree once the cut is over.
func TestPartitions(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b", "c", "d", "e")
	a, b, c, d, e := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3], w.nodes[4]

	t.Run("two halves that have given each other up", func(t *testing.T) {
		one, other := []*node{a, b}, []*node{c, d, e}
		about := w.subjects(t)
		w.part(one, other)
		w.quarrel(t, a, d, about)
		w.talk(t, w.nodes, 3)
		here, there := w.post(t, b, w.authors[1]), w.post(t, e, w.authors[2])
		known(t, here, one...)
		known(t, there, other...)
		for _, n := range one {
			eventually(t, n.name+" has given up the other half", func(ctx context.Context) error { return n.sees(ctx, false, other...) })
		}
		w.talk(t, w.nodes, 2)
		unknown(t, here, other...)
		unknown(t, there, one...)

		w.heal()

		w.converge(t, w.nodes)
		w.waitMet(t, w.nodes)
	})
	t.Run("islands", func(t *testing.T) {
		about := w.subjects(t)
		w.part([]*node{a, b}, []*node{c, d}, []*node{e})
		w.quarrel(t, b, c, about)
		w.talk(t, w.nodes, 3)
		s := w.post(t, e, w.authors[3])
		unknown(t, s, a, b, c, d)

		w.heal()

		w.converge(t, w.nodes)
	})
	t.Run("one alone", func(t *testing.T) {
		about := w.subjects(t)
		alone, others := []*node{a}, []*node{b, c, d, e}
		w.part(alone, others)
		w.quarrel(t, a, b, about)
		w.talk(t, w.nodes, 3)
		s := w.post(t, c, w.authors[1])
		known(t, s, others...)
		unknown(t, s, a)

		w.heal()

		w.converge(t, w.nodes)
	})
	t.Run("a bridge that both halves see", func(t *testing.T) {
		about := w.subjects(t)
		w.part([]*node{a, b}, []*node{d, e})
		w.quarrel(t, a, e, about)
		w.talk(t, w.nodes, 3)
		// Nothing needs to heal: what one half says comes to the other over the bridge.
		w.converge(t, w.nodes)

		w.heal()

		w.talk(t, w.nodes, 1)
		w.converge(t, w.nodes)
	})
	t.Run("cut in one direction", func(t *testing.T) {
		about := w.subjects(t)
		one, other := []*node{a, b}, []*node{c, d, e}
		w.cut(one, other)
		w.quarrel(t, b, d, about)
		w.talk(t, w.nodes, 3)
		s := w.post(t, a, w.authors[2])
		known(t, s, one...)
		unknown(t, s, other...)

		w.heal()

		w.converge(t, w.nodes)
	})
	t.Run("cut in a ring, each hears the one before only", func(t *testing.T) {
		about := w.subjects(t)
		ring := w.nodes
		every(ring, func(from, to *node) { w.cut([]*node{from}, []*node{to}) })
		for i, n := range ring {
			w.mend(n, ring[(i+1)%len(ring)])
		}
		w.quarrel(t, a, c, about)
		w.talk(t, w.nodes, 2)

		w.heal()

		w.converge(t, w.nodes)
	})
	check(t, w.nodes)
}
