// The network is put to the test with many nodes in one process, on virtual time. What a
// node is made of is real, from what hears a message to the database; what joins nodes is
// simulated. A run is a function of its seed: docs/develop/simulation.md says how to
// repeat one, and what is not under it.
package sim_test

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// digest names bytes.
type digest [sha256.Size]byte

// happening is something that comes to pass at a moment: at a process, or in the world
// around them.
type happening struct {
	at       time.Time
	seq      uint64 // Of those of one moment the order; it depends on the seed only.
	from, to int    // Nodes; outside is the world.
	kind     string
	digest   digest
	process  *process // At which it comes to pass; nil: in the world.
	run      func()
}

// outside is who does what no node does.
const outside = -1

// compare orders what came up in one moment, whichever goroutine said it first.
func (h *happening) compare(o *happening) int {
	return cmp.Or(h.at.Compare(o.at), cmp.Compare(h.to, o.to), cmp.Compare(h.from, o.from), cmp.Compare(h.kind, o.kind), bytes.Compare(h.digest[:], o.digest[:]))
}

// agenda is what is to come, the next first.
type agenda []*happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if c := a[i].at.Compare(a[j].at); c != 0 {
		return c < 0
	}
	return a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*happening)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	return last
}

// world is a network and the order in which things come to pass in it. Of each node
// one goroutine works at a time, until all of its goroutines wait: for an answer, for a
// time, or for their turn; but for the two that ask for what was missed and write what
// came. Nodes share nothing, so several work at the same time.
// What they say in a moment is put in an order that does not depend on who said
// it first; how long it takes and whether it arrives follows from the seed.
type world struct {
	t     *testing.T
	seed  uint64
	start time.Time
	// grain divides time: what nodes say arrives at its multiples, so that nodes of a
	// large network work at the same moments.
	grain time.Duration
	nodes []*node
	wire  *medium

	todo agenda
	seq  uint64
	sum  hash.Hash
	said int64     // Happenings that were part of sum.
	log  io.Writer // Of every happening; nil = nowhere.

	harms map[string]*atomic.Int64 // What faults did, by kind.

	poke chan struct{}
	mu   sync.Mutex
	news []*happening // guarded by mu; what nodes have said, and turns that they want
}

func newWorld(t *testing.T, seed uint64, log io.Writer) *world {
	t.Helper()
	w := &world{t: t, seed: seed, start: time.Now(), grain: time.Microsecond, sum: sha256.New(), log: log, harms: newHarms(), poke: make(chan struct{}, 1)}
	w.wire = newMedium(w)
	return w
}

// chance is a number from the seed and what it is for.
func (w *world) chance(parts ...any) uint64 {
	h := sha256.New()
	fmt.Fprintln(h, w.seed)
	for _, p := range parts {
		fmt.Fprintln(h, p)
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// between is a time by chance.
func (w *world) between(least, most time.Duration, parts ...any) time.Duration {
	return least + time.Duration(w.chance(parts...)%uint64(most-least))
}

// now is how long the world has been there.
func (w *world) now() time.Duration { return time.Since(w.start) }

// plan lets the world do something. It is called by the world only.
func (w *world) plan(in time.Duration, kind string, run func()) {
	w.push(&happening{at: time.Now().Add(in), from: outside, to: outside, kind: kind, run: run})
}

// planAt lets a process do something. It is called by the world only.
func (w *world) planAt(p *process, in time.Duration, kind string, run func()) {
	w.push(&happening{at: time.Now().Add(in), from: outside, to: p.node.index, kind: kind, process: p, run: run})
}

func (w *world) push(h *happening) {
	w.seq++
	h.seq = w.seq
	heap.Push(&w.todo, h)
}

// say hands over what a node's goroutine wants to come to pass.
func (w *world) say(h *happening) {
	w.mu.Lock()
	w.news = append(w.news, h)
	w.mu.Unlock()
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// turn waits until the goroutine may work, or the process ends.
func (w *world) turn(p *process, name string) {
	mine := make(chan struct{})
	w.say(&happening{
		at: time.Now(), from: p.node.index, to: p.node.index, kind: "turn", digest: sha256.Sum256([]byte(name)), process: p,
		run: func() { close(mine) },
	})
	select {
	case <-mine:
	case <-p.life.Done():
	}
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := time.Now().Add(d)
	for {
		w.settle(time.Now())
		next := end
		if len(w.todo) > 0 && w.todo[0].at.Before(end) {
			next = w.todo[0].at
		}
		if len(w.todo) == 0 || !w.todo[0].at.Before(end) {
			if !time.Now().Before(end) {
				return
			}
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-w.poke:
			timer.Stop()
		}
	}
}

// settle lets come to pass what does up to now, and what follows from it at once.
func (w *world) settle(now time.Time) {
	for {
		synctest.Wait()
		w.take()
		busy := w.due(now)
		if len(busy) == 0 {
			return
		}
		for _, h := range busy {
			w.note(h)
			if h.process == nil {
				h.run() // Alone: it may change what others look at.
				continue
			}
			go h.run()
		}
	}
}

// take puts in order what nodes have said.
func (w *world) take() {
	w.mu.Lock()
	news := w.news
	w.news = nil
	w.mu.Unlock()
	slices.SortStableFunc(news, (*happening).compare)
	for _, h := range news {
		if h.kind != "turn" {
			w.wire.carry(h)
		} else if !h.process.ended {
			h.process.queue = append(h.process.queue, h)
		}
	}
}

// due is what comes to pass now: one thing of the world, or of each process that has
// some the first.
func (w *world) due(now time.Time) (out []*happening) {
	for len(w.todo) > 0 && !w.todo[0].at.After(now) {
		h := w.todo[0]
		if h.process == nil {
			break
		}
		heap.Pop(&w.todo)
		if !h.process.ended {
			h.process.queue = append(h.process.queue, h)
		}
	}
	for _, n := range w.nodes {
		for p := n.process; p != nil && len(p.queue) > 0; {
			h := p.queue[0]
			p.queue = p.queue[1:]
			if h.kind == kindGossip && p.seen[h.digest] {
				w.note(h) // Nobody looks at it any more.
				continue
			}
			out = append(out, h)
			break
		}
	}
	if len(out) == 0 && len(w.todo) > 0 && !w.todo[0].at.After(now) {
		out = append(out, heap.Pop(&w.todo).(*happening))
	}
	return out
}

// note makes a happening part of the sum of the run.
func (w *world) note(h *happening) {
	w.said++
	var head [24]byte
	binary.BigEndian.PutUint64(head[:], uint64(w.now()))
	binary.BigEndian.PutUint64(head[8:], uint64(h.from))
	binary.BigEndian.PutUint64(head[16:], uint64(h.to))
	w.sum.Write(head[:])
	io.WriteString(w.sum, h.kind)
	w.sum.Write(h.digest[:])
	if w.log != nil {
		fmt.Fprintf(w.log, "%v %d %d %s %x\n", w.now(), h.from, h.to, h.kind, h.digest[:6])
	}
}

// hashed is the sum of all that has happened.
func (w *world) hashed() string { return hex.EncodeToString(w.sum.Sum(nil)) }
