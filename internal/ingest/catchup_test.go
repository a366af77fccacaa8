package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// mesh is a network in memory that carries questions and no gossip.
type mesh struct {
	mu    sync.Mutex
	ports map[p2p.PeerID]*port // guarded by mu
}

// port is a node's place in a mesh.
type port struct {
	mesh  *mesh
	id    p2p.PeerID
	kinds map[string]p2p.AskHandler // guarded by the mesh's mu
	// asked, if it is set, is called with each question of the node, and after gets each
	// answer that it is about to get.
	asked func(job.Ask)
	after func(job.Ask, *job.Reply)
}

func newMesh() *mesh { return &mesh{ports: map[p2p.PeerID]*port{}} }

// join returns the place of a node, a new one for each call.
func (m *mesh) join(id p2p.PeerID) *port {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &port{mesh: m, id: id, kinds: map[string]p2p.AskHandler{}}
	m.ports[id] = p
	return p
}

func (m *mesh) leave(id p2p.PeerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ports, id)
}

func (p *port) Publish(context.Context, string, []byte) error { return nil }

func (p *port) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error { return nil }

func (p *port) Listeners(string) []p2p.PeerID { return nil }

func (p *port) Connected() []p2p.PeerID {
	p.mesh.mu.Lock()
	defer p.mesh.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Keys(p.mesh.ports)), func(id p2p.PeerID) bool { return id == p.id })
}

func (p *port) HandleAsk(kind string, fn p2p.AskHandler) {
	p.mesh.mu.Lock()
	defer p.mesh.mu.Unlock()
	p.kinds[kind] = fn
}

// Ask carries question and answer as JSON.
func (p *port) Ask(ctx context.Context, id p2p.PeerID, request, reply any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var q job.Ask
	if err := json.Unmarshal(raw, &q); err != nil {
		return err
	}
	if p.asked != nil {
		p.asked(q)
	}
	p.mesh.mu.Lock()
	var fn p2p.AskHandler
	if other := p.mesh.ports[id]; other != nil {
		fn = other.kinds[string(q.Kind)]
	}
	p.mesh.mu.Unlock()
	if fn == nil {
		return errs.New(errs.Unavailable, "%s does not answer", id)
	}
	a, err := fn(ctx, p.id, raw)
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(a.Reply); err != nil {
		return err
	}
	if len(raw) > 1<<20 {
		return errs.New(errs.Internal, "answer of %d bytes fits into no frame", len(raw))
	}
	if err := json.Unmarshal(raw, reply); err != nil {
		return err
	}
	if r, ok := reply.(*job.Reply); ok && p.after != nil {
		p.after(q, r)
	}
	return nil
}

// noFiles has no bytes.
type noFiles struct{}

func (noFiles) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	return state.FileInfo{}, errs.New(errs.NotFound, "no file %s", hash)
}

func (noFiles) Fetch(_ context.Context, hash message.ItemHash) error {
	return errs.New(errs.NotFound, "no file %s", hash)
}

func (noFiles) Read(_ context.Context, hash message.ItemHash, _ int64) ([]byte, error) {
	return nil, errs.New(errs.NotFound, "no file %s", hash)
}

// member is a node of a mesh.
type member struct {
	node
	port *port
	reg  *prometheus.Registry
}

// patient is a configuration in which nothing that waits is given up.
func patient() ingest.Config {
	cfg := config(false)
	cfg.RetriesMax, cfg.CatchUpInterval = 1000, time.Minute
	return cfg
}

// attend opens a node in a directory and puts it into a mesh; close ends it early.
func attend(t *testing.T, m *mesh, id p2p.PeerID, dir string) (n *member, end func()) {
	t.Helper()
	n = &member{port: m.join(id), reg: prometheus.NewRegistry()}
	var err error
	if n.db, err = state.Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := n.db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	if n.pipe, err = ingest.New(patient(), domain(), n.db, n.port, noFiles{}, nil, n.reg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return n, end
}

// catchUp reads a peer to its end.
func (n *member) catchUp(t *testing.T, id p2p.PeerID) {
	t.Helper()
	c := ingest.NewCatcher(n.pipe)
	for range 100 {
		pause, err := c.Turn(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if pause > 2*time.Second { // There is no more.
			if err := n.pipe.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("there is no end")
}

// counted is how many visits had an outcome.
func (n *member) counted(t *testing.T, outcome string) (sum float64) {
	t.Helper()
	all, err := n.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == "aleph_ingest_catch_up_visits_total" && m.GetLabel()[0].GetValue() == outcome {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// shown is what anybody can see of the messages that count, and of those that were
// forgotten under a name that the other knows too.
func (n *member) shown(t *testing.T, tr *traffic, also *member) string {
	t.Helper()
	var b strings.Builder
	for _, hash := range tr.hashes {
		k, err := n.db.Known(t.Context(), hash)
		if errs.KindOf(err) == errs.NotFound {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = also.db.Known(t.Context(), hash)
		switch {
		case k.Message != nil:
			fmt.Fprintf(&b, "%s: %s\n", tr.names[hash], k.Status)
		case k.Skeleton != nil && err == nil:
			by := []string{}
			for _, f := range k.Skeleton.ForgottenBy {
				by = append(by, tr.names[f])
			}
			fmt.Fprintf(&b, "%s: %s by %s, of %s %s\n", tr.names[hash], k.Status, strings.Join(by, " and "), k.Skeleton.Owner, k.Skeleton.Envelope.ItemType)
		}
	}
	n.made(t, &b, tr)
	return b.String()
}

func same(t *testing.T, tr *traffic, a, b *member) {
	t.Helper()
	for _, n := range []*member{a, b} {
		if c, err := n.db.Check(t.Context()); err != nil || len(c.Differences) > 0 {
			t.Errorf("the rows of %s: %v, %v", n.port.id, c.Differences, err)
		}
	}
	if diff := cmp.Diff(a.shown(t, tr, b), b.shown(t, tr, a)); diff != "" {
		t.Errorf("the two nodes differ (-first +second):\n%s", diff)
	}
}

// set is the fingerprint of what counts.
func (n *node) set(t *testing.T) string {
	t.Helper()
	c, err := n.db.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Set
}

// take hands in some of the messages.
func (n *member) take(t *testing.T, tr *traffic, which ...int) {
	t.Helper()
	n.deliver(t, tr, which)
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// TestCaughtUpNodesShowTheSame has a node miss any part of messages that touch one
// another, and the other node another part.
func TestCaughtUpNodesShowTheSame(t *testing.T) {
	for name, traffic := range map[string]func(*testing.T) *traffic{"synthetic": synthetic, "real": fixtures} {
		t.Run(name, func(t *testing.T) {
			tr := traffic(t)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			for round := range 8 {
				m := newMesh()
				a, _ := attend(t, m, "a", t.TempDir())
				b, _ := attend(t, m, "b", t.TempDir())
				// The first round is that of a new node, the second that of one that was away
				// for the second half.
				var first, second []int
				for i := range tr.raw {
					toA, toB := r.IntN(3) > 0, r.IntN(3) > 0
					switch round {
					case 0:
						toA, toB = true, false
					case 1:
						toA, toB = true, i < len(tr.raw)/2
					}
					if toA || !toB {
						first = append(first, i)
					}
					if toB {
						second = append(second, i)
					}
				}
				a.take(t, tr, first...)
				b.take(t, tr, second...)
				for range 3 { // What one learns may be news to the other.
					b.catchUp(t, "a")
					a.catchUp(t, "b")
				}
				same(t, tr, a, b)
				if a.set(t) != b.set(t) {
					t.Error("the two sets differ")
				}
				if n := a.counted(t, "misconduct") + b.counted(t, "misconduct") + a.counted(t, "failed") + b.counted(t, "failed"); n > 0 {
					t.Errorf("%v visits of honest nodes went wrong", n)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// much is how many messages are more than one answer brings.
const much = 4 * job.MessagesMax

// many is traffic of posts.
func many(t *testing.T, name string, n int) *traffic {
	t.Helper()
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	for i := range n {
		tr.post(fmt.Sprint(name, " ", i), key(t, name))
	}
	return tr
}

// TestMuchThatWasMissedComesOnce reads much from a peer that goes on, with messages that
// come by themselves in between.
func TestMuchThatWasMissedComesOnce(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := many(t, "a", 2*much+100)
	a.take(t, tr, upTo(2*much+50)...)
	live := many(t, "live", 20)
	handed, asked := 0, map[message.ItemHash]int{}
	b.port.after = func(q job.Ask, _ *job.Reply) {
		for _, hash := range q.ItemHashes {
			asked[hash]++
		}
		if handed < len(live.raw) { // In the midst of it all.
			if v := b.submit(t, live.raw[handed]); v.Status != state.MessageProcessed {
				t.Errorf("live message: %+v", v)
			}
			handed++
		}
	}

	b.catchUp(t, "a")

	a.take(t, live, upTo(handed)...)
	same(t, tr, a, b)
	for i := 2*much + 50; i < len(tr.raw); i++ {
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	a.take(t, live, upTo(handed)...)
	same(t, tr, a, b)
	for hash, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", tr.names[hash], n)
		}
	}
	if handed < 5 || len(asked) != len(tr.raw) {
		t.Errorf("%d live messages, %d of %d asked for", handed, len(asked), len(tr.raw))
	}
}

// TestLargeMessagesComeInSeveralAnswers has messages of which few fit into a frame,
// some of characters that JSON escapes.
func TestLargeMessagesComeInSeveralAnswers(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	for i := range 12 {
		tr.post(fmt.Sprint("large ", i), key(t, "a"), "content", map[string]any{"text": strings.Repeat("x", 150_000) + fmt.Sprint(i)})
	}
	tr.post("quotes", key(t, "a"), "content", map[string]any{"text": strings.Repeat(`"\n`, 30_000)})
	a.take(t, tr, upTo(len(tr.raw))...)
	b.catchUp(t, "a")
	same(t, tr, a, b)
}

// TestCatchingUpGoesOnAfterAKill ends the node in the midst of what it asks for.
func TestCatchingUpGoesOnAfterAKill(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	tr := many(t, "a", much+4*job.MessagesMax)
	a.take(t, tr, upTo(len(tr.raw))...)
	dir := t.TempDir()
	asked := map[message.ItemHash]int{}
	questions := []int{}
	for _, killAfter := range []int{2, 2, 3} {
		b, end := attend(t, m, "b", dir)
		ctx, kill := context.WithCancel(t.Context())
		n := 0
		b.port.after = func(q job.Ask, _ *job.Reply) {
			for _, hash := range q.ItemHashes {
				asked[hash]++
			}
			if q.Kind == job.AskMessages {
				if n++; n == killAfter {
					kill()
				}
			}
		}
		if _, err := ingest.NewCatcher(b.pipe).Turn(ctx, "a"); err != nil {
			t.Errorf("a node that is asked to stop: %v", err)
		}
		questions = append(questions, n)
		end()
	}
	b, _ := attend(t, m, "b", dir)
	b.catchUp(t, "a")
	same(t, tr, a, b)
	last, err := b.db.LastMessage(t.Context())
	if err != nil || last != int64(len(tr.raw)-1) {
		t.Errorf("the last message is %d, %v, want %d: none is there twice", last, err, len(tr.raw)-1)
	}
	twice := 0
	for _, n := range asked {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d messages were asked for twice, after kills at %v", twice, questions)
	}
}

func TestAPeerThatGoesAwayIsReadOnLater(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := many(t, "a", 3*job.MessagesMax)
	a.take(t, tr, upTo(len(tr.raw))...)
	n := 0
	b.port.asked = func(q job.Ask) {
		if n++; n == 3 {
			m.leave("a")
		}
	}
	pause, err := ingest.NewCatcher(b.pipe).Turn(t.Context(), "a")
	if err != nil || pause < time.Minute+30*time.Second {
		t.Errorf("asked again in %v, %v, want twice the usual", pause, err)
	}
	if b.counted(t, "failed") != 1 {
		t.Error("the failure was not counted")
	}
	m.mu.Lock()
	m.ports["a"] = a.port
	m.mu.Unlock()
	b.catchUp(t, "a")
	same(t, tr, a, b)
}

// backedUp has a node read twenty messages from a, and returns a backup of a's rows
// that has the first ten.
func backedUp(t *testing.T, m *mesh, b *member, tr *traffic) (backup string) {
	t.Helper()
	dir := t.TempDir()
	a, end := attend(t, m, "a", dir)
	a.take(t, tr, upTo(10)...)
	b.catchUp(t, "a")
	end()
	backup = filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	a, end = attend(t, m, "a", dir)
	for i := 10; i < 20; i++ {
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	end()
	return backup
}

// TestAPeerMayLoseWhatItHad: its rows, and another time some of them.
func TestAPeerMayLoseWhatItHad(t *testing.T) {
	m := newMesh()
	b, _ := attend(t, m, "b", t.TempDir())
	tr := many(t, "a", 60)
	backup := backedUp(t, m, b, tr)

	a, end := attend(t, m, "a", backup)
	for i := 20; i < 25; i++ { // Fewer than there were.
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	b.wants(t, tr, upTo(25))
	for i := 25; i < 35; i++ {
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	b.wants(t, tr, upTo(35))
	end()

	a, end = attend(t, m, "a", t.TempDir())
	for i := 35; i < 45; i++ {
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	b.wants(t, tr, upTo(45))
	end()
	_ = a
}

// TestAPeerMayGoBack to a backup and grow beyond what it had.
func TestAPeerMayGoBack(t *testing.T) {
	m := newMesh()
	b, _ := attend(t, m, "b", t.TempDir())
	tr := many(t, "a", 60)
	a, _ := attend(t, m, "a", backedUp(t, m, b, tr))
	for i := 20; i < 60; i++ {
		a.take(t, tr, i)
	}
	b.catchUp(t, "a")
	b.wants(t, tr, upTo(60))
}

// wants wants the messages to be processed.
func (n *member) wants(t *testing.T, tr *traffic, which []int) {
	t.Helper()
	for _, i := range which {
		if _, err := n.db.Message(t.Context(), tr.hashes[i]); err != nil {
			t.Errorf("%s: %v", tr.names[tr.hashes[i]], err)
		}
	}
}

// TestTheTargetsOfAForgetEnd has FORGETs come whose targets ended before they did.
func TestTheTargetsOfAForgetEnd(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	alice, bob := key(t, "alice"), key(t, "bob")
	here := tr.post("here", alice)
	missed := tr.post("missed", alice)
	amend := tr.post("amend of what was missed", alice, "type", "amend", "ref", missed)
	tr.aggregate("missed element", alice, string(message.HashOf([]byte("k"))), map[string]any{"a": 1})
	both := tr.forget("forget both", alice, []message.ItemHash{here, missed})
	again := tr.forget("forget again", alice, []message.ItemHash{missed})
	whole := tr.say("forget aggregate", alice, message.TypeForget, map[string]any{"hashes": []string{}, "aggregates": []message.ItemHash{message.HashOf([]byte("k"))}})
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	delegated := tr.post("by bob for alice", bob, "address", addressOf(alice))
	foreign := tr.forget("forget what bob wrote", alice, []message.ItemHash{delegated})
	a.take(t, tr, upTo(len(tr.raw))...)
	b.take(t, tr, 0, 4, 5) // The FORGETs wait.

	b.catchUp(t, "a")

	for hash, want := range map[message.ItemHash]state.MessageStatus{
		here: state.MessageForgotten, missed: state.MessageForgotten, both: state.MessageProcessed, again: state.MessageProcessed, whole: state.MessageProcessed,
		foreign: state.MessagePending, // Nobody can tell whose its target was.
	} {
		if k, err := b.db.Known(t.Context(), hash); err != nil || k.Status != want {
			t.Errorf("%s is %+v, %v, want it %s", tr.names[hash], k, err, want)
		}
	}
	// Nobody is told the content of what was forgotten.
	s, err := b.db.Skeleton(t.Context(), missed)
	if err != nil || s.Sealed != nil || s.Envelope.ItemContent != "" || len(s.ForgottenBy) != 2 || s.Envelope.Signature == "" {
		t.Errorf("what is left is %+v, %v", s, err)
	}
	// What comes late ends at once.
	b.take(t, tr, 1, 2, 3, 8)
	a.take(t, tr)
	same(t, tr, a, b)
	if k, err := b.db.Known(t.Context(), amend); err != nil || k.Status != state.MessageForgotten {
		t.Errorf("the late amend is %+v, %v", k, err)
	}
}

// TestAPeerCannotForgetForOthers has a peer say that a message was forgotten which
// another signed than the FORGET.
func TestAPeerCannotForgetForOthers(t *testing.T) {
	m := newMesh()
	liar := m.join("liar")
	b, _ := attend(t, m, "b", t.TempDir())
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	victim, mallory := key(t, "victim"), key(t, "mallory")
	target := tr.post("target", victim)
	forget := tr.forget("forget", mallory, []message.ItemHash{target})
	env, err := message.Parse(tr.raw[0])
	if err != nil {
		t.Fatal(err)
	}
	left, err := job.NewForgotten(*env, nil)
	if err != nil {
		t.Fatal(err)
	}
	liar.tell(list(forget), job.Messages{Done: 1, Messages: []json.RawMessage{tr.raw[1]}, Forgotten: []job.Forgotten{left}})

	b.catchUp(t, "liar")
	b.take(t, tr, 0)

	if k, err := b.db.Known(t.Context(), target); err != nil || k.Status != state.MessageProcessed {
		t.Errorf("the target is %+v, %v", k, err)
	}
	if k, err := b.db.Known(t.Context(), forget); err != nil || k.Status == state.MessageProcessed {
		t.Errorf("the FORGET is %+v, %v", k, err)
	}
}

// list is a peer's answer that lists messages at times that it invents.
func list(hashes ...message.ItemHash) reconcile.Answer {
	told := reconcile.Told{Kind: reconcile.Listed}
	for i, hash := range hashes {
		told.Items = append(told.Items, reconcile.Point{At: int64(i), Hash: hash})
	}
	return reconcile.Answer{told}
}

// tell lets a port answer the same whatever it is asked.
func (p *port) tell(a reconcile.Answer, m job.Messages) {
	p.tellRaw(func(q reconcile.Question) []byte { return a.Encode(q) }, m)
}

func (p *port) tellRaw(answer func(reconcile.Question) []byte, m job.Messages) {
	p.HandleAsk("reconcile", func(_ context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
		ask, err := job.ParseAsk(raw)
		if err != nil {
			return p2p.Answer{}, err
		}
		q, err := reconcile.ParseQuestion(ask.Ranges)
		return p2p.Answer{Reply: job.Reply{Ranges: answer(q)}}, err
	})
	p.HandleAsk("messages", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
		return p2p.Answer{Reply: job.Reply{Messages: &m}}, nil
	})
}

func TestHostilePeersAreLeftAlone(t *testing.T) {
	tr := many(t, "a", 3)
	x, y := tr.hashes[0], tr.hashes[1]
	forged := json.RawMessage(strings.Replace(string(tr.raw[0]), addressOf(key(t, "a")), addressOf(key(t, "b")), 1))
	env, err := message.Parse(tr.raw[2])
	if err != nil {
		t.Fatal(err)
	}
	env.Sender = addressOf(key(t, "b"))
	unsigned, err := job.NewForgotten(*env, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := job.Messages{Done: 1, Messages: []json.RawMessage{tr.raw[0]}}
	whole := reconcile.Question{{Range: reconcile.All()}}
	hash := func(p reconcile.Point, a ...reconcile.Point) []byte { // Items in any order.
		return reconcile.Answer{{Kind: reconcile.Listed, Items: append(a, p)}}.Encode(whole)
	}
	tests := []struct {
		name string
		raw  []byte
		m    job.Messages
		once bool // Another time it is known what the peer lists.
	}{
		{"nothing", nil, one, false},
		{"of another version", []byte{9, 1, 0}, one, false},
		{"cut short", list(x).Encode(whole)[:20], one, false},
		{"with something behind", append(list(x).Encode(whole), 0), one, false},
		{"too long", make([]byte, reconcile.AnswerMax+1), one, false},
		{"to more than was asked", append(list(x), list(y)...).Encode(append(whole, whole...)), one, false},
		{"of a kind that is none", reconcile.Answer{{Kind: 7}}.Encode(whole), one, false},
		{"an item twice", hash(reconcile.Point{At: 1, Hash: x}, reconcile.Point{At: 1, Hash: x}), one, false},
		{"an item without a hash", hash(reconcile.Point{At: 1}), one, false},
		{"an item with another text", hash(reconcile.Point{At: 1, Hash: "x"}), one, false},
		{"a part without end", reconcile.Answer{{Kind: reconcile.Cut, Parts: []reconcile.Claim{{To: reconcile.End(), N: 1}}}}.Encode(whole), one, false},
		{"parts that are none", reconcile.Answer{{Kind: reconcile.Cut, Parts: []reconcile.Claim{{To: reconcile.Start(), N: 1}, {To: reconcile.End(), N: 1}}}}.Encode(whole), one, false},
		{"another message", list(y).Encode(whole), one, false},
		{"a message twice", list(x, y).Encode(whole), job.Messages{Done: 2, Messages: []json.RawMessage{tr.raw[0], tr.raw[0]}}, false},
		{"no progress", list(x).Encode(whole), job.Messages{}, false},
		{"progress beyond the question", list(x).Encode(whole), job.Messages{Done: 2}, false},
		{"more messages than that", list(x, y).Encode(whole), job.Messages{Done: 1, Messages: []json.RawMessage{tr.raw[0], tr.raw[1]}}, false},
		{"too many forgotten", list(x).Encode(whole), job.Messages{Done: 1, Forgotten: make([]job.Forgotten, job.ForgottenMax+1)}, false},
		{"a forged signature", list(x).Encode(whole), job.Messages{Done: 1, Messages: []json.RawMessage{forged}}, true},
		{"no message", list(x).Encode(whole), job.Messages{Done: 1, Messages: []json.RawMessage{json.RawMessage(`{"a":1}`)}}, true},
		{"a message too large", list(x).Encode(whole), job.Messages{Done: 1, Messages: []json.RawMessage{json.RawMessage(`"` + strings.Repeat("x", 1_000_000) + `"`)}}, true},
		{"forgotten, signed by nobody", list(x).Encode(whole), job.Messages{Done: 1, Messages: one.Messages, Forgotten: []job.Forgotten{unsigned}}, true},
		{"forgotten, but nothing", list(x).Encode(whole), job.Messages{Done: 1, Messages: one.Messages, Forgotten: []job.Forgotten{{Message: json.RawMessage(`[]`)}}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMesh()
			m.join("liar").tellRaw(func(reconcile.Question) []byte { return tt.raw }, tt.m)
			b, _ := attend(t, m, "b", t.TempDir())
			c := ingest.NewCatcher(b.pipe)

			pause, err := c.Turn(t.Context(), "liar")

			if err != nil || pause < 59*time.Minute {
				t.Errorf("asked again in %v, %v, want an hour", pause, err)
			}
			if b.counted(t, "misconduct") != 1 {
				t.Error("it was not counted")
			}
			for _, hash := range tr.hashes {
				if k, err := b.db.Known(t.Context(), hash); errs.KindOf(err) != errs.NotFound && (err != nil || k.Message == nil) {
					t.Errorf("%s left %+v, %v", hash, k, err)
				}
			}
			if pause, err = c.Turn(t.Context(), "liar"); err != nil || !tt.once && pause < 119*time.Minute {
				t.Errorf("after another time asked again in %v, %v, want two hours", pause, err)
			}
		})
	}
}

// TestAPeerWithoutEndIsReadInTurns has a peer tell of ever more messages that nobody
// has.
func TestAPeerWithoutEndIsReadInTurns(t *testing.T) {
	m := newMesh()
	liar := m.join("liar")
	rounds := 0
	liar.tellRaw(func(q reconcile.Question) []byte {
		rounds++
		told := reconcile.Told{Kind: reconcile.Begun}
		for i := range 1000 {
			at := max(q[0].From.At, 0) + 1
			told.Items = append(told.Items, reconcile.Point{At: at + int64(i), Hash: message.HashOf(fmt.Append(nil, at+int64(i)))})
		}
		return reconcile.Answer{told}.Encode(q)
	}, job.Messages{})
	liar.HandleAsk("messages", func(_ context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
		ask, err := job.ParseAsk(raw)
		return p2p.Answer{Reply: job.Reply{Messages: &job.Messages{Done: len(ask.ItemHashes)}}}, err
	})
	b, _ := attend(t, m, "b", t.TempDir())
	pause, err := ingest.NewCatcher(b.pipe).Turn(t.Context(), "liar")
	if err != nil || pause < 90*time.Second || rounds > 3 {
		t.Errorf("%d answers, the next in %v, %v; want it to have failed", rounds, pause, err)
	}
}

// TestRefusalsCostThePeerTime has a peer tell of messages that are signed and refused.
func TestRefusalsCostThePeerTime(t *testing.T) {
	m := newMesh()
	liar := m.join("liar")
	b, _ := attend(t, m, "b", t.TempDir())
	const n = 100
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	for i := range n {
		tr.post(fmt.Sprint(i), key(t, "mallory"), "address", addressOf(key(t, "victim")))
	}
	all := make([]json.RawMessage, n)
	for i, raw := range tr.raw {
		all[i] = raw
	}
	liar.tell(list(tr.hashes...), job.Messages{Done: n, Messages: all})
	pause, err := ingest.NewCatcher(b.pipe).Turn(t.Context(), "liar")
	if err != nil || pause < (n-1)*time.Second {
		t.Errorf("asked again in %v, %v, want a second for each of %d", pause, err, n)
	}
}

// TestAMessageThatWasRefusedForItsSignatureComes has somebody bring a message here
// first with a signature that is none.
func TestAMessageThatWasRefusedForItsSignatureComes(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := many(t, "a", 2)
	a.take(t, tr, 0, 1)
	forged := strings.Replace(string(tr.raw[0]), addressOf(key(t, "a")), addressOf(key(t, "b")), 1)
	if v := b.submit(t, []byte(forged)); v.Status != state.MessageRejected {
		t.Fatalf("forged: %+v", v)
	}
	b.catchUp(t, "a")
	same(t, tr, a, b)
}

// TestWhoIsAskedWhen has peers come and go.
func TestWhoIsAskedWhen(t *testing.T) {
	m := newMesh()
	tr := many(t, "a", 4)
	a, _ := attend(t, m, "a", t.TempDir())
	a.take(t, tr, 0)
	m.join("mute")
	b, _ := attend(t, m, "b", t.TempDir())
	c := ingest.NewCatcher(b.pipe)
	asked := map[job.AskKind]int{}
	b.port.asked = func(q job.Ask) { asked[q.Kind]++ }
	pass := func(want int) {
		t.Helper()
		clear(asked)
		if err := c.Pass(t.Context()); err != nil {
			t.Error(err)
		}
		if asked[job.AskReconcile] != want {
			t.Errorf("%d questions, want %d", asked[job.AskReconcile], want)
		}
	}
	pass(2)
	b.wants(t, tr, []int{0})
	a.take(t, tr, 1)
	pass(0) // It is nobody's turn.
	m.leave("a")
	m.leave("mute")
	pass(0)
	m.mu.Lock()
	m.ports["a"] = a.port
	m.mu.Unlock()
	m.join("mute")
	pass(1) // Who comes back is asked at once, but for those that failed.
	b.wants(t, tr, []int{0, 1})
	third, _ := attend(t, m, "c", t.TempDir())
	third.take(t, tr, 2)
	pass(1)
	b.wants(t, tr, []int{0, 1, 2})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Pass(ctx); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
}

func TestQuestionsForWhatWasMissedAreChecked(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b := m.join("b")
	for _, q := range []job.Ask{{Kind: job.AskReconcile}, {Kind: job.AskReconcile, Ranges: []byte{1, 2, 3}}, {Kind: job.AskMessages}} {
		if err := b.Ask(t.Context(), "a", q, new(job.Reply)); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v, want errs.Invalid", q, err)
		}
	}
	env, _ := message.Parse(many(t, "a", 1).raw[0])
	env.Signature = ""
	if _, err := a.pipe.Preset(t.Context(), env, time.Now()); err != nil {
		t.Fatal(err)
	}
	reply := new(job.Reply)
	if err := b.Ask(t.Context(), "a", job.Ask{Kind: job.AskMessages, ItemHashes: []message.ItemHash{env.ItemHash, message.HashOf(nil)}}, reply); err != nil || reply.Messages.Done != 2 || len(reply.Messages.Messages) != 0 {
		t.Errorf("what nobody signed: %+v, %v", reply.Messages, err)
	}
}

// TestANodeCatchesUpOverTheNetwork has nodes on real hosts, of which one learns of
// messages by way of another that was not told of them either.
func TestANodeCatchesUpOverTheNetwork(t *testing.T) {
	cfg := config(false)
	cfg.CatchUpInterval = 200 * time.Millisecond
	a := open(t, "a", cfg)
	tr := many(t, "a", 20)
	a.deliver(t, tr, upTo(10)) // Nobody listens yet.
	b := open(t, "b", cfg, a.host.Addrs()...)
	c := open(t, "c", cfg, b.host.Addrs()...)
	p2ptest.Start(t, a.host, b.host, c.host)
	b.run(t)
	c.run(t)
	for i := range 10 {
		b.waitFor(t, tr.hashes[i], state.MessageProcessed)
		c.waitFor(t, tr.hashes[i], state.MessageProcessed)
	}
	if err := b.host.Ask(t.Context(), a.host.ID(), map[string]any{"kind": "reconcile", "ranges": make([]byte, 700_000)}, new(job.Reply)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a question without bounds: %v, want errs.Invalid", err)
	}
}

// heldFiles has the bytes of one content.
type heldFiles struct {
	noFiles
	content []byte
}

func (f heldFiles) Read(ctx context.Context, hash message.ItemHash, limit int64) ([]byte, error) {
	if hash == message.HashOf(f.content) {
		return f.content, nil
	}
	return f.noFiles.Read(ctx, hash, limit)
}

// hold gives a node the bytes of a content.
func (n *member) hold(t *testing.T, content []byte) {
	t.Helper()
	var err error
	if n.pipe, err = ingest.New(patient(), domain(), n.db, n.port, heldFiles{content: content}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// TestACopyThatWaitsHidesNoMessage: anybody may sign a content whose bytes are not here,
// and only with them it shows that it was not theirs.
func TestACopyThatWaitsHidesNoMessage(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	owner := key(t, "owner")
	content := []byte(fmt.Sprintf(`{"address":%q,"time":1,"type":"t","content":1}`, addressOf(owner)))
	a.hold(t, content)
	if v := a.submit(t, elsewhereBy(t, owner, message.HashOf(content))); v.Status != state.MessageProcessed {
		t.Fatalf("the message: %+v", v)
	}
	if v := b.submit(t, elsewhereBy(t, key(t, "stranger"), message.HashOf(content))); v.Status != state.MessagePending {
		t.Fatalf("the stranger's copy: %+v", v)
	}

	b.catchUp(t, "a")
	b.hold(t, content)
	if err := b.pipe.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}

	k, err := b.db.Known(t.Context(), message.HashOf(content))
	if err != nil || k.Status != state.MessageProcessed || k.Message.Envelope.Sender != addressOf(owner) {
		t.Errorf("the message: %+v, %v; want the owner's processed", k, err)
	}
}

// TestOneQuestionReadsFewTargets, also of FORGETs of which nothing is told.
func TestOneQuestionReadsFewTargets(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b := m.join("b")
	alice, bob := key(t, "alice"), key(t, "bob")
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	for i := range message.MaxForgetTargets {
		tr.post(fmt.Sprint("post ", i), bob, "address", addressOf(alice))
	}
	forget := tr.forget("forget", alice, tr.hashes[1:])
	if out, err := a.pipe.SubmitTogether(t.Context(), tr.raw...); err != nil || out[len(out)-1].Verdict == nil || out[len(out)-1].Verdict.Status != state.MessageProcessed {
		t.Fatalf("FORGET: %+v, %v", out[len(out)-1], err)
	}

	var reply job.Reply
	if err := b.Ask(t.Context(), "a", job.Ask{Kind: job.AskMessages, ItemHashes: slices.Repeat([]message.ItemHash{forget}, job.MessagesMax)}, &reply); err != nil {
		t.Fatal(err)
	}
	if got, want := reply.Messages.Done, job.ForgottenMax/message.MaxForgetTargets; got != want {
		t.Errorf("%d FORGETs of %d targets were read for one answer, want %d", got, message.MaxForgetTargets, want)
	}
}

// TestWhatCannotBecomeEqualIsSaidOnce: of two nodes one refuses what the other has, and
// has what the other refuses.
func TestWhatCannotBecomeEqualIsSaidOnce(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	alice, bob := key(t, "alice"), key(t, "bob")
	for i := range 200 {
		tr.post(fmt.Sprint(i), alice)
	}
	n := len(tr.raw)
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	delegated := tr.post("by bob for alice", bob, "address", addressOf(alice))
	tr.forget("forget what bob wrote", alice, []message.ItemHash{delegated})
	a.take(t, tr, upTo(len(tr.raw))...)
	b.take(t, tr, upTo(n)...)
	only := many(t, "only", 3)
	b.take(t, only, 0, 1, 2)

	c := ingest.NewCatcher(b.pipe)
	asked := map[job.AskKind]int{}
	b.port.asked = func(q job.Ask) { asked[q.Kind]++ }
	for i, want := range []map[job.AskKind]int{{job.AskReconcile: 2, job.AskMessages: 1}, {job.AskReconcile: 1}, {job.AskReconcile: 1}} {
		clear(asked)
		if _, err := c.Turn(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("visit %d asked (-want +got):\n%s", i+1, diff)
		}
	}
	b.wants(t, tr, []int{n}) // The grant came.
	late := many(t, "late", 1)
	a.take(t, late, 0)
	if _, err := c.Turn(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	b.wants(t, late, []int{0})
}

// TestOneMessageAtTwoTimesIsNoDifference: nobody signs the time of an envelope, which
// is that of a content that has none.
func TestOneMessageAtTwoTimesIsNoDifference(t *testing.T) {
	m := newMesh()
	a, _ := attend(t, m, "a", t.TempDir())
	b, _ := attend(t, m, "b", t.TempDir())
	owner := key(t, "owner")
	content := []byte(fmt.Sprintf(`{"address":%q,"type":"t","content":1}`, addressOf(owner)))
	times := map[time.Time]bool{}
	for i, n := range []*member{a, b} {
		var fields map[string]any
		if err := json.Unmarshal(elsewhereBy(t, owner, message.HashOf(content)), &fields); err != nil {
			t.Fatal(err)
		}
		fields["time"] = 1_700_000_000 + 1000*i
		raw, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		n.hold(t, content)
		if v := n.submit(t, raw); v.Status != state.MessageProcessed {
			t.Fatalf("the message: %+v", v)
		}
		k, err := n.db.Message(t.Context(), message.HashOf(content))
		if err != nil {
			t.Fatal(err)
		}
		times[k.MadeAt] = true
	}
	if len(times) != 2 || a.set(t) != b.set(t) {
		t.Errorf("the message has the times %v, and the sets are %s and %s, want them equal", times, a.set(t), b.set(t))
	}
	tr := many(t, "a", 40)
	a.take(t, tr, upTo(len(tr.raw))...)
	c := ingest.NewCatcher(b.pipe)
	asked := map[job.AskKind]int{}
	b.port.asked = func(q job.Ask) { asked[q.Kind]++ }
	for visit := range 3 {
		clear(asked)
		if _, err := c.Turn(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if visit > 0 && asked[job.AskReconcile]+asked[job.AskMessages] > 1 {
			t.Errorf("visit %d asked %v", visit+1, asked)
		}
	}
	if b.wants(t, tr, upTo(len(tr.raw))); a.set(t) != b.set(t) {
		t.Error("the sets differ")
	}
}

// TestWhoIsBusyHasNotFailed, and is asked after the usual time.
func TestWhoIsBusyHasNotFailed(t *testing.T) {
	m := newMesh()
	m.join("busy").HandleAsk("reconcile", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
		return p2p.Answer{}, errs.New(errs.Exhausted, "later")
	})
	b, _ := attend(t, m, "b", t.TempDir())
	pause, err := ingest.NewCatcher(b.pipe).Turn(t.Context(), "busy")
	if err != nil || pause > time.Minute || b.counted(t, "failed") > 0 {
		t.Errorf("asked again in %v, %v", pause, err)
	}
}

// TestNodesConvergeOverTheNetwork has three nodes that each missed something else, and a
// liar that serves garbage, on real hosts; and a new node that joins them.
func TestNodesConvergeOverTheNetwork(t *testing.T) {
	cfg := config(false)
	cfg.RetriesMax, cfg.CatchUpInterval = 1000, 100*time.Millisecond
	tr := synthetic(t)
	r := rand.New(rand.NewPCG(1, 2))
	liar := p2ptest.Open(t, "liar")
	nodes := []*node{open(t, "a", cfg, liar.Addrs()...)}
	for _, name := range []string{"b", "c"} {
		nodes = append(nodes, open(t, name, cfg, append(nodes[0].host.Addrs(), liar.Addrs()...)...))
	}
	parts := make([][]int, len(nodes))
	for i := range tr.raw {
		has := r.IntN(7) + 1 // Somebody has it.
		for k := range parts {
			if has>>k&1 == 1 {
				parts[k] = append(parts[k], i)
			}
		}
	}
	for k, n := range nodes { // Nobody listens yet.
		n.deliver(t, tr, parts[k])
	}
	all := open(t, "all", cfg)
	all.deliver(t, tr, upTo(len(tr.raw)))
	want := all.set(t)
	answer := func(reply any) p2p.AskHandler {
		return func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) { return p2p.Answer{Reply: reply}, nil }
	}
	garbage := make([]byte, 5000)
	for i := range garbage {
		garbage[i] = byte(r.Uint32())
	}
	liar.HandleAsk("reconcile", answer(job.Reply{Ranges: garbage}))
	liar.HandleAsk("messages", answer(job.Reply{Messages: &job.Messages{Done: 1 << 40}}))
	p2ptest.Start(t, liar, nodes[0].host, nodes[1].host, nodes[2].host)
	for _, n := range nodes {
		n.run(t)
	}
	for _, n := range nodes {
		n.waitForSet(t, want)
	}
	fresh := open(t, "fresh", cfg, nodes[1].host.Addrs()...)
	p2ptest.Start(t, fresh.host)
	fresh.run(t)
	fresh.waitForSet(t, want)
	for _, n := range append(nodes, fresh) {
		if c, err := n.db.Check(t.Context()); err != nil || len(c.Differences) > 0 {
			t.Errorf("%v, %v", c.Differences, err)
		}
	}
}

// waitForSet waits until what counts is what is wanted.
func (n *node) waitForSet(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for n.set(t) != want {
		select {
		case <-deadline:
			t.Fatalf("the set of %s is %s, want %s", n.host.ID(), n.set(t), want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
