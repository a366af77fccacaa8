package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// fault is something that goes wrong for a while.
type fault struct {
	kind        string
	from, until time.Duration
	nodes       []int // Whom it is about, if not all.
	level       int   // Of loss, in percent.
}

// faultsEnd is by when all faults have ended.
const faultsEnd = loadFor + 2*time.Minute

// describe tells of faults, a line each.
func describe(all []fault) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%v to %v: %s, nodes %v, level %d\n", f.from, f.until, f.kind, f.nodes, f.level)
	}
	return b.String()
}

// faults are what can go wrong, and how it begins.
var faults = map[string]func(n *network, f *fault){
	"halves": func(n *network, f *fault) { n.split(f, func(a, b int) bool { return f.in(a) != f.in(b) }) },
	"one alone": func(n *network, f *fault) {
		n.split(f, func(a, b int) bool { return (a == f.nodes[0]) != (b == f.nodes[0]) })
	},
	"cannot be told": func(n *network, f *fault) { n.split(f, func(a, b int) bool { return !f.in(a) && f.in(b) }) },
	"islands": func(n *network, f *fault) {
		island := func(i int) uint64 { return n.w.chance("island", f.from, i) % 4 }
		n.split(f, func(a, b int) bool { return island(a) != island(b) })
	},
	"bridge": func(n *network, f *fault) { // Halves that only one node joins.
		n.split(f, func(a, b int) bool { return a != f.nodes[0] && b != f.nodes[0] && f.in(a) != f.in(b) })
	},
	"loss":  func(n *network, f *fault) { n.bad(f, &weather{loss: float64(f.level) / 100}) },
	"delay": func(n *network, f *fault) { n.bad(f, &weather{slow: 300 * time.Millisecond}) },
	"clocks": func(n *network, f *fault) {
		for k, i := range f.nodes {
			n.during(f, func() { n.w.nodes[i].skew = time.Hour * time.Duration(1-k%2*2) }, func() { n.w.nodes[i].skew = 0 })
		}
	},
	"new identity": func(n *network, f *fault) {
		n.each(f, func(nd *node) { nd.names++ })
	},
	"empty database": func(n *network, f *fault) {
		n.each(f, func(nd *node) { n.empty(nd) })
	},
	"restarts":  (*network).storm,
	"full disk": (*network).fill,
}

// draw draws count faults of the kinds, or of all if there are none.
func (pl *plan) draw(count int, kinds ...string) {
	if len(kinds) == 0 {
		kinds = slices.Sorted(maps.Keys(faults))
	}
	w := &world{seed: pl.seed}
	for i := range count {
		f := fault{kind: kinds[w.chance("fault", i)%uint64(len(kinds))], level: 5 + int(w.chance("level", i)%26)}
		f.from = w.between(time.Minute, loadFor-2*time.Minute, "from", i)
		f.until = min(f.from+w.between(time.Minute, 6*time.Minute, "until", i), faultsEnd)
		few := f.kind != "halves" && f.kind != "bridge" && f.kind != "cannot be told"
		for node := range pl.nodes {
			if honest := node == 0 || node > pl.liars; honest && w.chance("hit", i, node)%100 < map[bool]uint64{true: 25, false: 50}[few] {
				f.nodes = append(f.nodes, node)
			}
		}
		if len(f.nodes) == 0 {
			f.nodes = []int{pl.nodes - 1}
		}
		pl.faults = append(pl.faults, f)
	}
}

// liars are a fault that lasts, of the nodes themselves.
const liars = "liars"

// idle names the kinds of faults of the plan that did no harm.
func (n *network) idle() string {
	var kinds []string
	if n.plan.liars > 0 {
		kinds = append(kinds, liars)
	}
	for _, f := range n.plan.faults {
		kinds = append(kinds, f.kind)
	}
	slices.Sort(kinds)
	return strings.Join(slices.DeleteFunc(slices.Compact(kinds), func(kind string) bool { return n.w.harms[kind].Load() > 0 }), ", ")
}

// newHarms counts what each kind of fault did: frames that were cut off, lost or late, connections and
// processes that it ended, words that came to a node with a wrong clock, writes that failed and
// lies that were seen through.
func newHarms() map[string]*atomic.Int64 {
	out := map[string]*atomic.Int64{liars: {}}
	for kind := range faults {
		out[kind] = &atomic.Int64{}
	}
	return out
}

// refusals counts the writes that a node's log says had no room, and passes the log on.
type refusals struct {
	slog.Handler
	n *atomic.Int64
}

// Enabled implements slog.Handler.
func (r refusals) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || r.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (r refusals) Handle(ctx context.Context, rec slog.Record) error {
	rec.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, errs.Exhausted) {
			r.n.Add(1)
		}
		return true
	})
	return r.Handler.Handle(ctx, rec)
}

// WithAttrs implements slog.Handler.
func (r refusals) WithAttrs(attrs []slog.Attr) slog.Handler {
	return refusals{r.Handler.WithAttrs(attrs), r.n}
}

// WithGroup implements slog.Handler.
func (r refusals) WithGroup(name string) slog.Handler {
	return refusals{r.Handler.WithGroup(name), r.n}
}

func (f *fault) in(node int) bool { return slices.Contains(f.nodes, node) }

// during plans the beginning and the end of a fault.
func (n *network) during(f *fault, begin, end func()) {
	n.w.plan(f.from, "begin "+f.kind, begin)
	n.w.plan(f.until, "end "+f.kind, end)
}

// bad changes the weather while a fault lasts.
func (n *network) bad(f *fault, s *weather) {
	x := n.w.wire
	s.harms = n.w.harms[f.kind]
	n.during(f, func() {
		x.weather = append(x.weather, s)
		x.look(false)
	}, func() {
		x.weather = slices.DeleteFunc(x.weather, func(o *weather) bool { return o == s })
		x.look(false)
	})
}

func (n *network) split(f *fault, cut func(from, to int) bool) { n.bad(f, &weather{cut: cut}) }

// each turns the nodes of a fault off, does something, and turns them on when it ends.
func (n *network) each(f *fault, between func(nd *node)) {
	for _, i := range f.nodes {
		nd := n.w.nodes[i]
		n.during(f, func() {
			n.end(f, nd, func() error { return nd.stop(true) })
			between(nd)
		}, func() { n.start(nd) })
	}
}

// end has a fault end the process of a node, if there is one.
func (n *network) end(f *fault, nd *node, how func() error) {
	if nd.process != nil {
		n.w.harms[f.kind].Add(1)
		n.must(how())
	}
}

func (n *network) must(err error) {
	if err != nil {
		n.w.t.Fatal(err)
	}
}

// storm restarts the nodes of a fault again and again: every other time as after a power cut.
func (n *network) storm(f *fault) {
	for _, i := range f.nodes {
		nd := n.w.nodes[i]
		at := f.from + n.w.between(0, 20*time.Second, "storm", i)
		for round := 0; at < f.until; round++ {
			n.w.plan(at, "end "+f.kind, func() {
				n.end(f, nd, func() error {
					if round%2 == 0 {
						return nd.kill()
					}
					return nd.stop(true)
				})
			})
			at += n.w.between(100*time.Millisecond, 10*time.Second, "off", i, round)
			n.w.plan(at, "begin "+f.kind, func() { n.start(nd) })
			at += n.w.between(time.Second, 40*time.Second, "on", i, round)
		}
	}
}

// pages is more than a database of a simulation has.
const pages = 1 << 24

// fill fills the disks of nodes.
func (n *network) fill(f *fault) {
	for _, i := range f.nodes {
		limit := func(pages uint32) func() {
			return func() {
				if p := n.w.nodes[i].process; p != nil {
					n.must(p.db.LimitPages(context.Background(), pages))
				}
			}
		}
		n.during(f, limit(1), limit(pages))
	}
}

// empty takes its database from a node that is off. Clients hand in again what is
// nowhere else.
func (n *network) empty(nd *node) {
	nd.dir = fmt.Sprintf("%s.new%d", nd.dir, nd.lives)
	n.copyBase(filepath.Join(nd.dir, "state"))
	elsewhere := map[message.ItemHash]bool{}
	for _, p := range n.honest() {
		var hashes []message.ItemHash
		for _, w := range n.words {
			hashes = append(hashes, w.hash)
		}
		known, err := p.db.Standings(p.life, hashes)
		n.must(err)
		for hash, s := range known {
			elsewhere[hash] = elsewhere[hash] || s.Status != state.MessagePending && s.Status != state.MessageRejected
		}
	}
	for _, w := range n.words {
		if w.handed.Load() && !elsewhere[w.hash] {
			w.handed.Store(false)
			n.hand(w, 1)
		}
	}
}
