package sim_test

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest/ingesttest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

var (
	nodesFlag    = flag.Int("nodes", 0, "nodes of a network; 0 = as many as the test has")
	seedFlag     = flag.Uint64("seed", 0, "seed of a run; 0 = those of the test")
	messagesFlag = flag.Int("messages", 0, "messages that are handed in; 0 = as many as the test has")
	traceFlag    = flag.String("trace", "", "file that gets all that happens, and the logs of nodes")
)

const (
	// loadFor is the time in which messages are handed in.
	loadFor = 20 * time.Minute
	// healedWithin is after how long without faults the network must agree: a peer that
	// failed again and again is asked again after an hour.
	healedWithin = 3 * time.Hour
	// tellEvery is how often a run of manyNodes says how far it is.
	tellEvery, manyNodes = 2 * time.Minute, 100
	// lookEvery is how often it is looked whether it does.
	lookEvery = 10 * time.Second
)

// plan is what a run is made of.
type plan struct {
	seed     uint64
	nodes    int
	messages int
	degree   int // Nodes that each knows, about.
	natShare int // In percent.
	liars    int
	grain    time.Duration
	faults   []fault
}

// result is what a run came to.
type result struct {
	hash      string        // Of all that happened, and of what each node has in the end.
	state     string        // Digest of what all honest nodes have.
	happened  int64         // Happenings.
	healed    time.Duration // From the end of faults until all agreed.
	virtual   time.Duration
	processed int
	idle      string // Kinds of faults that harmed nothing.
}

// String tells of a run in a line.
func (r result) String() string {
	return fmt.Sprintf("run %.16s, state %.16s: %d messages count, %d happenings in %v, agreed %v after the last fault",
		r.hash, r.state, r.processed, r.happened, r.virtual, r.healed)
}

// network is a run on its way.
type network struct {
	w      *world
	plan   plan
	cfg    ingest.Config
	base   string // An empty database.
	words  []*word
	names  map[message.ItemHash]string
	healed bool // Faults have ended.
	tell   func(format string, args ...any)
}

// config is that of a coordinator, with pauses between looks in which many nodes have
// time on two cores.
func config() ingest.Config {
	cfg := ingest.DefaultConfig()
	cfg.RetryInterval = 10 * time.Second
	return cfg
}

// template is a database that is migrated.
func template(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db, err := state.Open(t.Context(), dir)
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// simulate runs a plan.
func simulate(t *testing.T, pl plan) (out result) {
	t.Helper()
	words := write(t, pl.seed, pl.messages, loadFor)
	var log io.Writer
	if *traceFlag != "" {
		f, err := os.Create(*traceFlag)
		if err != nil {
			t.Fatal(err)
		}
		buffered := bufio.NewWriter(f)
		defer func() {
			if err := errors.Join(buffered.Flush(), f.Close()); err != nil {
				t.Error(err)
			}
		}()
		log = &serial{w: buffered}
	}
	base, dir := template(t), t.TempDir()
	tell := t.Logf // Of the test outside, which shows it at once.
	synctest.Test(t, func(t *testing.T) {
		n := &network{w: newWorld(t, pl.seed, log), plan: pl, cfg: config(), base: base, words: words, tell: tell, names: map[message.ItemHash]string{}}
		if pl.grain > 0 {
			n.w.grain = pl.grain
		}
		for _, w := range words {
			n.names[w.hash] = w.name
		}
		defer n.close()
		defer func() {
			if t.Failed() {
				tell("repeat it by: go test ./test/sim -run '%s' -nodes %d -messages %d -seed %d\nfaults:\n%s", t.Name(), pl.nodes, pl.messages, pl.seed, describe(pl.faults))
			}
		}()
		n.build(dir)
		out = n.run(dir)
	})
	return out
}

// build makes the nodes and says who knows whom.
func (n *network) build(dir string) {
	w, pl := n.w, n.plan
	for i := range pl.nodes {
		w.nodes = append(w.nodes, n.newNode(filepath.Join(dir, fmt.Sprint(i))))
		w.nodes[i].nat = int(w.chance("nat", i)%100) < pl.natShare && i >= pl.liars+3
		w.nodes[i].liar = i > 0 && i <= pl.liars
	}
	var open, honest []int
	for i, nd := range w.nodes {
		if nd.nat {
			continue
		}
		if open = append(open, i); !nd.liar {
			honest = append(honest, i)
		}
	}
	for k, i := range honest { // A ring, so that all are joined.
		w.wire.join(i, honest[(k+1)%len(honest)])
	}
	for i := range w.nodes {
		w.wire.join(i, honest[w.chance("knows", i)%uint64(len(honest))])
		for k := 2; k < pl.degree/2; k++ {
			w.wire.join(i, open[w.chance("knows", i, k)%uint64(len(open))])
		}
	}
	for i, nd := range w.nodes {
		w.plan(w.between(0, 2*time.Second, "start", i), "start", func() { n.start(nd) })
	}
}

// newNode is a node with an empty database.
func (n *network) newNode(dir string) *node {
	nd := &node{w: n.w, index: len(n.w.nodes), dir: dir}
	n.copyBase(filepath.Join(dir, "state"))
	return nd
}

// copyBase makes an empty database.
func (n *network) copyBase(dir string) { n.must(os.CopyFS(dir, os.DirFS(n.base))) }

func (n *network) start(nd *node) {
	if nd.process != nil {
		return
	}
	n.must(nd.start(n.cfg))
	if l := nd.process.lie; l != nil {
		l.words = n.words
		n.lies(nd.process)
	}
}

// lies lets a liar speak again and again.
func (n *network) lies(p *process) {
	n.w.planAt(p, lieEvery, "lie", p.lie.speak)
	n.w.plan(lieEvery, "liar", func() {
		if !p.ended && !n.healed {
			n.lies(p)
		}
	})
}

// run lets all happen.
func (n *network) run(dir string) (out result) {
	w := n.w
	for _, word := range n.words {
		w.plan(5*time.Second+word.at, "client", func() { n.hand(word, 0) })
	}
	last := loadFor + handIn
	for _, f := range n.plan.faults {
		faults[f.kind](n, &f)
		last = max(last, f.until)
	}
	for w.now() < last {
		w.run(min(tellEvery, last-w.now()))
		if n.plan.nodes >= manyNodes {
			n.tell("%v of %v, %d happenings", w.now(), last, w.said)
		}
	}
	n.heal()
	healed := w.now()
	first := n.differs()
	for ; first != "" && w.now() < healed+healedWithin; first = n.differs() {
		if n.plan.nodes < manyNodes {
			w.run(lookEvery)
			continue
		}
		w.run(tellEvery)
		n.tell("%v after the end of faults, %d happenings, %d nodes apart", w.now()-healed, w.said, n.apart())
	}
	out.idle = n.idle()
	out.healed, out.virtual, out.happened = w.now()-healed, w.now(), w.said
	if first != "" {
		w.t.Errorf("%v after the end of faults nodes differ: %s", out.healed, first)
	}
	made := n.verify()
	out.hash = w.hashed()
	n.compare(made, filepath.Join(dir, "alone"))
	sum := sha256.Sum256([]byte(made))
	out.state, out.processed = hex.EncodeToString(sum[:]), strings.Count(made, string(state.MessageProcessed))
	return out
}

// heal ends what is left of faults.
func (n *network) heal() {
	n.healed = true
	n.w.wire.weather = nil
	for _, nd := range n.w.nodes {
		nd.skew = 0
		n.start(nd)
	}
	n.w.wire.look(false)
}

// honest are the processes of honest nodes.
func (n *network) honest() (out []*process) {
	for _, nd := range n.w.nodes {
		if nd.process != nil && nd.process.lie == nil {
			out = append(out, nd.process)
		}
	}
	return out
}

// differs says by what two nodes differ, "" if all have the same.
func (n *network) differs() string {
	var want reconcile.Print
	all := n.honest()
	for i, p := range all {
		has := n.print(p)
		if i == 0 {
			want = has
			continue
		}
		if has != want {
			return fmt.Sprintf("nodes %d and %d (-first +second):\n%s", all[0].node.index, p.node.index, gocmp.Diff(n.named(n.counted(all[0])), n.named(n.counted(p))))
		}
	}
	return ""
}

// print is of the messages that count at a node.
func (n *network) print(p *process) reconcile.Print {
	sums, err := p.db.MessageSet(p.life).Sums([]reconcile.Point{reconcile.Start(), reconcile.End()})
	if err != nil {
		n.w.t.Fatal(err)
	}
	return sums[0].Print()
}

// apart is how many nodes have not what most have.
func (n *network) apart() int {
	all, most, with := n.honest(), 0, map[reconcile.Print]int{}
	for _, p := range all {
		has := n.print(p)
		with[has]++
		most = max(most, with[has])
	}
	return len(all) - most
}

// counted are the messages that count at a node.
func (n *network) counted(p *process) (out []message.ItemHash) {
	points, err := p.db.MessageSet(p.life).List(reconcile.All(), 1<<20)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, at := range points {
		out = append(out, at.Hash)
	}
	return out
}

func (n *network) named(hashes []message.ItemHash) (out []string) {
	for _, h := range hashes {
		out = append(out, n.names[h]+" "+string(h))
	}
	slices.Sort(out)
	return out
}

// outcome is what a node has and what that made.
func (n *network) outcome(p *process) string {
	var hashes []message.ItemHash
	var tags []string
	for _, w := range n.words {
		hashes = append(hashes, w.hash)
		if w.tag != "" && !slices.Contains(tags, w.tag) {
			tags = append(tags, w.tag)
		}
	}
	known, err := p.db.Standings(p.life, hashes)
	if err != nil {
		n.w.t.Fatal(err)
	}
	var b strings.Builder
	for _, w := range n.words {
		// What ended, waits or was refused need not be known to all.
		if s := known[w.hash].Status; s == state.MessageProcessed || s == state.MessageRemoving {
			fmt.Fprintf(&b, "%s: %s\n", w.name, s)
		}
	}
	made, err := ingesttest.Made(p.life, p.db, hashes, n.names, tags...)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return b.String() + made
}

// verify checks that all honest nodes have the same, that it is in order, and returns it.
func (n *network) verify() string {
	var want, print string
	for i, p := range n.honest() {
		got := n.outcome(p)
		sum := sha256.Sum256([]byte(got))
		n.w.sum.Write(sum[:])
		checked, err := p.db.Check(p.life)
		if err != nil {
			n.w.t.Fatal(err)
		}
		for _, d := range checked.Differences {
			n.w.t.Errorf("node %d: %s", p.node.index, d)
		}
		if i == 0 {
			want, print = got, checked.Set
			continue
		}
		if got != want || checked.Set != print {
			n.w.t.Errorf("node %d has set %s, node 0 %s (-node 0 +node):\n%s", p.node.index, checked.Set, print, gocmp.Diff(want, got))
			break
		}
	}
	return want
}

// alone is after how long a node without a network has made of messages what it can.
const alone = 2 * time.Hour

// compare checks that the network has what one node makes of all messages that hears
// each at once, in order.
func (n *network) compare(made, dir string) {
	w := n.w
	nd := n.newNode(dir)
	w.nodes = append(w.nodes, nd)
	n.start(nd)
	for i, word := range n.words {
		w.planAt(nd.process, time.Duration(i)*time.Millisecond, "hand in", func() {
			if err := nd.process.take(word); err != nil {
				w.t.Errorf("%s alone: %v", word.name, err)
			}
		})
	}
	for _, other := range w.nodes[:len(w.nodes)-1] {
		if err := other.stop(true); err != nil {
			w.t.Error(err)
		}
	}
	w.run(alone)
	if diff := gocmp.Diff(n.outcome(nd.process), made); diff != "" {
		w.t.Errorf("what the network has is not what the messages make (-want +got):\n%s", diff)
	}
}

// close turns all nodes off.
func (n *network) close() {
	for _, nd := range n.w.nodes {
		if err := nd.stop(true); err != nil {
			n.w.t.Error(err)
		}
	}
}

// serial lets one write at a time.
type serial struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (s *serial) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// chosen is a plan, with what flags say instead.
func chosen(pl plan) plan {
	pl.nodes, pl.messages = cmp.Or(*nodesFlag, pl.nodes), cmp.Or(*messagesFlag, pl.messages)
	return pl
}

// seeds are those of a test, or the one of the flag.
func seeds(all ...uint64) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	return all
}

// asPlanned reports whether a test runs as it is, so that it is known which faults do harm.
func asPlanned() bool { return *nodesFlag == 0 && *messagesFlag == 0 && *seedFlag == 0 }

// attack runs a plan, each kind of fault of which must do harm.
func attack(t *testing.T, pl plan) {
	t.Helper()
	r := simulate(t, pl)
	t.Log(r)
	switch {
	case r.idle != "" && asPlanned():
		t.Errorf("these did no harm, so nothing was tried: %s", r.idle)
	case r.idle != "":
		t.Logf("these did no harm: %s", r.idle)
	}
}

func TestASeedRepeatsARun(t *testing.T) {
	run := func(seed uint64) result {
		pl := chosen(plan{seed: seed, nodes: 6, messages: 40, degree: 4, liars: 1, natShare: 30})
		pl.draw(4)
		return simulate(t, pl)
	}
	seed := seeds(1)[0]
	first, again, other := run(seed), run(seed), run(seed+1)
	if first != again {
		t.Errorf("the same seed gives %v and then %v", first, again)
	}
	if first.hash == other.hash {
		t.Errorf("seeds %d and %d give one run: %v", seed, seed+1, first)
	}
}

// TestANetworkAgreesAfterEachFault has one kind of fault at a time.
func TestANetworkAgreesAfterEachFault(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(faults)) {
		t.Run(kind, func(t *testing.T) {
			pl := chosen(plan{seed: seeds(1)[0], nodes: 6, messages: 30, degree: 4, natShare: 30})
			pl.draw(2, kind)
			attack(t, pl)
		})
	}
	t.Run("liars", func(t *testing.T) {
		attack(t, chosen(plan{seed: seeds(1)[0], nodes: 7, messages: 40, degree: 6, liars: 2}))
	})
}

func TestNetworksAgreeAfterManyFaults(t *testing.T) {
	for _, seed := range seeds(1, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			pl := chosen(plan{seed: seed, nodes: 14, messages: 80, degree: 4, liars: 2, natShare: 30})
			pl.draw(8)
			attack(t, pl)
		})
	}
}

// TestALargeNetworkAgrees is for make sim: it takes minutes and gigabytes.
func TestALargeNetworkAgrees(t *testing.T) {
	if *nodesFlag == 0 {
		t.Skip("make sim runs it, or go test ./test/sim -nodes 1000")
	}
	pl := chosen(plan{seed: seeds(1)[0], messages: 100, degree: 6, liars: *nodesFlag / 100, natShare: 30, grain: 5 * time.Millisecond})
	pl.draw(8)
	t.Log(simulate(t, pl))
}
