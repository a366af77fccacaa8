package sim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// latencyMin and latencyMax bound the way of a frame, without faults.
	latencyMin, latencyMax = 10 * time.Millisecond, 80 * time.Millisecond
	// bytesPerSecond is what a line carries.
	bytesPerSecond = 10_000_000
	// resendAfter is the pause before a lost part of a stream is sent again, which doubles;
	// after resendsMax of them the connection is broken.
	resendAfter, resendsMax = 200 * time.Millisecond, 6
	// deadAfter is when a peer that is not heard any more is taken for gone, at most
	// deadSpread later; whoever says so before it goes is taken for gone at once.
	deadAfter, deadSpread = 15 * time.Second, 15 * time.Second
	// meetAfter and meetSpread are how long peers that can meet take to.
	meetAfter, meetSpread = time.Second, 9 * time.Second
	// answerWait bounds a question, as p2p does.
	answerWait = 70 * time.Second
	// rejectsMax is after how many rejected payloads a peer is not heard for shunFor.
	rejectsMax, shunFor = 5, 10 * time.Minute
	// heldMax bounds what is held for who comes to listen, as p2p does.
	heldMax = 1024
	// chunk is how much of a body is read at a time.
	chunk = 256 << 10
)

// medium carries what nodes say to each other.
type medium struct {
	w     *world
	edges map[[2]int]*edge
	of    [][]*edge // By node.
	who   map[p2p.PeerID]int
	sent  map[[2]int]uint64 // Frames by their way.

	weather []*weather
}

// edge joins two nodes that know each other.
type edge struct {
	a, b     int
	up       bool
	changing bool // It is planned to look at it.
}

func (e *edge) other(n int) int { return e.a + e.b - n }

// weather is what a fault does to lines.
type weather struct {
	cut   func(from, to int) bool // nil: nothing.
	loss  float64
	slow  time.Duration
	harms *atomic.Int64 // That it did.
}

func newMedium(w *world) *medium {
	return &medium{w: w, edges: map[[2]int]*edge{}, who: map[p2p.PeerID]int{}, sent: map[[2]int]uint64{}}
}

// join lets two nodes know each other.
func (x *medium) join(a, b int) {
	key := [2]int{min(a, b), max(a, b)}
	if a == b || x.edges[key] != nil {
		return
	}
	for len(x.of) <= key[1] {
		x.of = append(x.of, nil)
	}
	e := &edge{a: key[0], b: key[1]}
	x.edges[key] = e
	x.of[a], x.of[b] = append(x.of[a], e), append(x.of[b], e)
	for _, n := range key {
		slices.SortFunc(x.of[n], func(p, q *edge) int { return p.other(n) - q.other(n) })
	}
}

// isUp reports whether two nodes are connected.
func (x *medium) isUp(a, b int) bool {
	e := x.edges[[2]int{min(a, b), max(a, b)}]
	return e != nil && e.up
}

func (x *medium) cut(from, to int) bool {
	return slices.ContainsFunc(x.weather, func(s *weather) bool { return s.cut != nil && s.cut(from, to) })
}

// harm counts what the weather of some kind has done.
func (x *medium) harm(by func(s *weather) bool) {
	for _, s := range x.weather {
		if by(s) {
			s.harms.Add(1)
		}
	}
}

// wants reports whether two nodes could be connected: what one says the other hears, or
// the other way round.
func (x *medium) wants(e *edge) bool {
	return x.w.nodes[e.a].process != nil && x.w.nodes[e.b].process != nil && (!x.cut(e.a, e.b) || !x.cut(e.b, e.a))
}

// look plans what becomes of connections after something has changed. It is called by
// the world only.
func (x *medium) look(farewell bool) {
	for n, edges := range x.of {
		for _, e := range edges {
			if e.a != n || e.changing || x.wants(e) == e.up {
				continue
			}
			e.changing = true
			nth := x.count(e.a, e.b)
			in := x.w.between(meetAfter, meetAfter+meetSpread, "meet", e.a, e.b, nth)
			switch {
			case e.up && farewell:
				in = latencyMax
			case e.up:
				in = x.w.between(deadAfter, deadAfter+deadSpread, "part", e.a, e.b, nth)
			}
			x.w.plan(in, "line", func() { x.change(e) })
		}
	}
}

func (x *medium) count(from, to int) uint64 {
	x.sent[[2]int{from, to}]++
	return x.sent[[2]int{from, to}]
}

// change connects two nodes, or ends their connection.
func (x *medium) change(e *edge) {
	e.changing = false
	if e.up == x.wants(e) {
		return
	}
	if e.up = !e.up; !e.up {
		x.harm(func(s *weather) bool { return s.cut != nil && s.cut(e.a, e.b) && s.cut(e.b, e.a) })
	}
	for _, n := range []int{e.a, e.b} {
		p := x.w.nodes[n].process
		if p == nil {
			continue
		}
		if !e.up {
			p.hangUp(e.other(n))
			continue
		}
		if len(p.held) > 0 {
			x.w.planAt(p, 0, "held", p.tellHeld)
		}
	}
}

// carry sends a frame on its way: h is what comes to pass where it arrives.
func (x *medium) carry(h *happening) {
	if h.from == h.to || h.process == nil {
		x.w.push(h)
		return
	}
	nth := x.count(h.from, h.to)
	roll := func(what string) float64 {
		return float64(x.w.chance(what, h.from, h.to, h.kind, h.digest, nth)>>11) / (1 << 53)
	}
	if !x.isUp(h.from, h.to) {
		return
	}
	if x.cut(h.from, h.to) {
		x.harm(func(s *weather) bool { return s.cut != nil && s.cut(h.from, h.to) })
		return
	}
	took, kept := latencyMin+time.Duration(roll("way")*float64(latencyMax-latencyMin)), 1.0
	for _, s := range x.weather {
		took += s.slow
		kept *= 1 - s.loss
	}
	x.harm(func(s *weather) bool { return s.slow > 0 })
	if loss := 1 - kept; loss > 0 {
		resends := 0
		for ; roll("loss "+string(rune('0'+resends))) < loss; resends++ {
			x.harm(func(s *weather) bool { return s.loss > 0 })
			if resends == resendsMax || h.kind == kindGossip { // A full queue sends nothing again.
				return
			}
			took += resendAfter << resends
		}
	}
	h.at = h.at.Add(took)
	if rest := h.at.Sub(x.w.start) % x.w.grain; rest > 0 {
		h.at = h.at.Add(x.w.grain - rest)
	}
	run, p := h.run, h.process
	h.run = func() {
		if p.life.Err() == nil && x.isUp(h.from, h.to) && !x.cut(h.from, h.to) {
			run()
		}
	}
	x.w.push(h)
}

// Kinds of frames.
const (
	kindGossip = "gossip"
	kindAsk    = "ask"
	kindBlob   = "blob"
	kindAnswer = "answer"
)

// send sends a frame from p; run is what it does at the process that is at the other node now.
func (p *process) send(to int, kind string, data []byte, name digest, run func(at *process)) {
	at := p.node.w.nodes[to].process
	if at == nil {
		return
	}
	took := time.Duration(len(data)) * time.Second / bytesPerSecond
	p.node.w.say(&happening{at: time.Now().Add(took), from: p.node.index, to: to, kind: kind, digest: name, process: at, run: func() { run(at) }})
}

// neighbours are the nodes that are connected.
func (p *process) neighbours() (out []int) {
	n := p.node.index
	if n >= len(p.node.w.wire.of) {
		return nil
	}
	for _, e := range p.node.w.wire.of[n] {
		if e.up {
			out = append(out, e.other(n))
		}
	}
	return out
}

// Connected implements ingest.Network and storage.Network.
func (p *process) Connected() (out []p2p.PeerID) {
	for _, n := range p.neighbours() {
		if at := p.node.w.nodes[n].process; at != nil {
			out = append(out, at.id)
		}
	}
	return out
}

// Listeners implements ingest.Network: all listen to all.
func (p *process) Listeners(string) []p2p.PeerID { return p.Connected() }

// Bootstrap implements storage.Network.
func (p *process) Bootstrap() []p2p.PeerID { return nil }

// topic is what a node does with gossip.
type topic struct {
	validate p2p.Validator
	handle   func(context.Context, p2p.Gossip)
}

// Subscribe implements ingest.Network.
func (p *process) Subscribe(name string, validate p2p.Validator, handle func(context.Context, p2p.Gossip)) error {
	p.topics[name] = topic{validate, handle}
	return nil
}

// Publish implements ingest.Network.
func (p *process) Publish(ctx context.Context, name string, data []byte) error {
	switch p.topics[name].validate(ctx, &p2p.Gossip{From: p.id, Data: data, Own: true}) {
	case p2p.Reject:
		return errs.New(errs.Invalid, "publish to %s: nobody would accept it", name)
	case p2p.Ignore:
		return errs.New(errs.Unavailable, "publish to %s: not of use yet", name)
	case p2p.Accept:
	}
	g := gossip{author: p.id, topic: name, data: data, name: sha256.Sum256(data)}
	p.seen[g.name] = true
	if len(p.neighbours()) == 0 {
		if len(p.held) < heldMax {
			p.held = append(p.held, g)
		}
		return nil
	}
	p.pass(g, outside)
	return nil
}

// gossip is a payload on its way.
type gossip struct {
	author p2p.PeerID
	topic  string
	data   []byte
	name   digest
}

// pass tells all neighbours but one.
func (p *process) pass(g gossip, but int) {
	from := p.node.index
	for _, to := range p.neighbours() {
		if to != but {
			p.send(to, kindGossip, g.data, g.name, func(at *process) { at.hear(from, g) })
		}
	}
}

// hear takes in what a neighbour passes on.
func (p *process) hear(from int, g gossip) {
	if p.seen[g.name] || p.shunned[from].After(time.Now()) {
		return
	}
	p.seen[g.name] = true
	t, ok := p.topics[g.topic]
	if !ok {
		return
	}
	if p.node.skew != 0 {
		p.node.w.harms["clocks"].Add(1)
	}
	word := p2p.Gossip{From: g.author, Data: g.data, Own: g.author == p.id}
	switch t.validate(p.life, &word) {
	case p2p.Reject:
		p.node.w.harms[liars].Add(1)
		if p.rejects[from]++; p.rejects[from] >= rejectsMax {
			p.rejects[from], p.shunned[from] = 0, time.Now().Add(shunFor)
		}
	case p2p.Accept:
		p.pass(g, from)
		t.handle(p.life, word)
	case p2p.Ignore:
	}
}

// tellHeld tells what nobody has heard.
func (p *process) tellHeld() {
	held := p.held
	p.held = nil
	for _, g := range held {
		p.pass(g, outside)
	}
}

// HandleAsk implements ingest.Network and storage.Network.
func (p *process) HandleAsk(kind string, fn p2p.AskHandler) { p.asks[kind] = fn }

// HandleBlob implements storage.Network.
func (p *process) HandleBlob(fn p2p.BlobHandler) { p.blob = fn }

// asking is a question that waits for its answer.
type asking struct {
	to   int
	done chan struct{} // Closed when the rest is there.
	raw  []byte
	body io.Reader
	size int64
	err  error
}

// finish answers a question, if nobody has yet.
func (p *process) finish(a *asking, raw []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking[a] {
		return
	}
	delete(p.asking, a)
	a.raw, a.err = raw, err
	close(a.done)
}

// hangUp ends the questions to a node that is gone.
func (p *process) hangUp(to int) {
	p.mu.Lock()
	var gone []*asking
	for a := range p.asking {
		if a.to == to {
			gone = append(gone, a)
		}
	}
	p.mu.Unlock()
	for _, a := range gone {
		p.finish(a, nil, errs.New(errs.Unavailable, "the connection ended"))
	}
}

// ask sends a question and waits for what comes back.
func (p *process) ask(ctx context.Context, id p2p.PeerID, kind string, raw []byte, run func(at *process, a *asking)) (*asking, error) {
	to, ok := p.node.w.wire.who[id]
	if !ok || !p.node.w.wire.isUp(p.node.index, to) {
		return nil, errs.New(errs.Unavailable, "peer %s is not reached", id)
	}
	a := &asking{to: to, done: make(chan struct{})}
	p.mu.Lock()
	p.asking[a] = true
	p.mu.Unlock()
	name := sha256.Sum256(raw)
	p.send(to, kind, raw, name, func(at *process) { run(at, a) })
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-ctx.Done():
		p.finish(a, nil, errs.New(errs.Unavailable, "ask peer %s: %w", id, context.Cause(ctx)))
	case <-timer.C:
		p.finish(a, nil, errs.New(errs.Unavailable, "ask peer %s: no answer", id))
	}
	p.node.w.turn(p, "asked "+string(id)+" "+string(raw))
	return a, a.err
}

// reply sends an answer back to who asked.
func (p *process) reply(to *process, a *asking, raw []byte) {
	p.send(to.node.index, kindAnswer, raw, sha256.Sum256(raw), func(at *process) { at.finish(a, raw, nil) })
}

// failure is how p2p tells a peer that a question could not be answered.
type failure struct {
	Error     string    `json:"error,omitempty"`
	ErrorKind errs.Kind `json:"error_kind,omitempty"`
}

func failureOf(err error) failure {
	if kind := errs.KindOf(err); kind != errs.Internal {
		return failure{err.Error(), kind}
	}
	return failure{"internal error", errs.Internal}
}

// read decodes an answer, or returns the failure that it tells of.
func read(raw []byte, reply any) error {
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil {
		return errs.New(errs.Unavailable, "answer: %w", err)
	}
	switch {
	case f.Error == "":
	case slices.Contains([]errs.Kind{errs.Invalid, errs.Denied, errs.NotFound, errs.Conflict, errs.Exhausted}, f.ErrorKind):
		return errs.New(f.ErrorKind, "%.512s", f.Error)
	default:
		return errs.New(errs.Unavailable, "%.512s", f.Error)
	}
	if err := json.Unmarshal(raw, reply); err != nil {
		return errs.New(errs.Unavailable, "answer: %w", err)
	}
	return nil
}

// Ask implements ingest.Network and storage.Network.
func (p *process) Ask(ctx context.Context, id p2p.PeerID, request, reply any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if len(raw) > wire.MaxFrame {
		return errs.New(errs.Invalid, "the question has %d bytes", len(raw))
	}
	a, err := p.ask(ctx, id, kindAsk, raw, func(at *process, a *asking) {
		if at.lie != nil {
			at.lie.answer(p, a, raw)
			return
		}
		at.reply(p, a, at.answer(p.id, raw))
	})
	if err != nil {
		return err
	}
	if len(a.raw) > wire.MaxFrame {
		return errs.New(errs.Unavailable, "the answer has %d bytes", len(a.raw))
	}
	return read(a.raw, reply)
}

// answer has the handler of a question answer it.
func (p *process) answer(from p2p.PeerID, raw []byte) []byte {
	var head struct {
		Kind string `json:"kind"`
	}
	err := json.Unmarshal(raw, &head)
	out := p2p.Answer{}
	if fn := p.asks[head.Kind]; err == nil && fn != nil {
		out, err = fn(p.life, from, raw)
	} else {
		err = errs.New(errs.Invalid, "nobody answers questions of kind %q", head.Kind)
	}
	if err != nil {
		out.Reply = failureOf(err)
	}
	answer, err := json.Marshal(out.Reply)
	if err != nil {
		p.node.w.t.Errorf("encode answer: %v", err)
	}
	return answer
}

// OpenBlob implements storage.Network.
func (p *process) OpenBlob(ctx context.Context, id p2p.PeerID, hash message.ItemHash, offset int64) (io.ReadCloser, int64, error) {
	a, err := p.ask(ctx, id, kindBlob, []byte(hash), func(at *process, a *asking) {
		if at.lie != nil {
			at.lie.send(p, a)
			return
		}
		at.sendBlob(p, a, hash, offset)
	})
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(&body{ctx: ctx, p: p, from: a.to, in: a.body}), a.size, nil
}

// sendBlob sends the bytes of a blob.
func (p *process) sendBlob(to *process, a *asking, hash message.ItemHash, offset int64) {
	in, size, err := p.blob(p.life, to.id, hash)
	var all []byte
	if err == nil {
		if _, err = in.Seek(offset, io.SeekStart); err == nil {
			all, err = io.ReadAll(in)
		}
		err = errors.Join(err, in.Close())
	}
	p.send(to.node.index, kindAnswer, all, sha256.Sum256(all), func(at *process) {
		if err != nil {
			at.finish(a, nil, errs.New(errs.Unavailable, "blob %s: %w", hash, err))
			return
		}
		a.body, a.size = bytes.NewReader(all), size
		at.finish(a, nil, nil)
	})
}

// body is what a peer sends after its answer, at the pace of the line.
type body struct {
	ctx  context.Context
	p    *process
	from int
	in   io.Reader
}

// Read implements io.Reader.
func (b *body) Read(buf []byte) (int, error) {
	if !b.p.node.w.wire.isUp(b.from, b.p.node.index) {
		return 0, errs.New(errs.Unavailable, "the connection ended")
	}
	n, err := b.in.Read(buf[:min(len(buf), chunk)])
	if n == chunk {
		timer := time.NewTimer(chunk * time.Second / bytesPerSecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			err = errs.New(errs.Unavailable, "read: %w", context.Cause(b.ctx))
		}
		b.p.node.w.turn(b.p, "read")
	}
	return n, err
}
