package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// Gossip reaches who listens. What a node has not heard of it finds by comparing what it
// has with what its peers have (protocol/reconcile), and asks for the messages. They are
// judged like any other; that a peer has processed them proves nothing. Nothing is kept of how
// far that got: what has come is not missing any more.
//
// A peer answers with what it likes, so everything has a bound that does not depend on
// it: peers are visited one at a time, for a few questions and seconds, and what is of no
// use costs the peer time in which it is not asked.

const (
	// catchUpLook is how often it is looked whose turn it is: who has just connected is
	// asked within that time.
	catchUpLook = time.Second
	// questionMax bounds one question of a visit, visitMax the time after which a visit
	// asks no more, and visitRoundsMax its questions about ranges.
	questionMax, visitMax, visitRoundsMax = 10 * time.Second, 20 * time.Second, 64
	// visitLeast is what a visit that took visitMax must have brought: messages or, of
	// what is here already, answers about ranges.
	visitLeast = 16
	// visitIdle is after how many answers about ranges a visit should have brought a
	// message: one that has not is followed by ever longer pauses.
	visitIdle = 16
	// vainMax bounds the messages of a visit that the peer has listed and then not given: it may
	// have lost some meanwhile.
	vainMax = 64
	// busyPause is the time for which a peer is not asked that has answered enough.
	busyPause = 5 * time.Second
	// againAfter is the pause between visits of a peer that has more to tell, if the last
	// one brought nothing.
	againAfter = time.Second
	// refusalPause is the time for which a peer is not asked for each message that is
	// refused here: that may be this node's fault, but the rows of refusals must not
	// fill up with what peers invent.
	refusalPause = time.Second
	// pauseMax bounds that time and the one after questions that failed.
	pauseMax = time.Hour
	// misconductMin and misconductMax bound the time for which a peer is not asked that
	// answered as no honest one does.
	misconductMin, misconductMax = time.Hour, 24 * time.Hour
	// shunnedMax bounds the peers that are away and still not to be asked.
	shunnedMax = 1024
	// catchUpWaitingMax bounds the messages that wait, beyond which no more are asked
	// for: those that come by themselves need room too.
	catchUpWaitingMax = pendingRowsMax / 2
)

// catcher visits peers. It belongs to one goroutine.
type catcher struct {
	p     *Pipeline
	peers map[p2p.PeerID]*turnOf
}

// turnOf is when a peer is asked again, and why not earlier.
type turnOf struct {
	due      time.Time
	failures int // In a row.
	idle     int // Visits in a row that asked much and brought nothing.
	offences int
	at       progress
}

// progress is how far a comparison with a peer is.
type progress struct {
	known   known
	session *reconcile.Session // nil between comparisons.
	lacks   []reconcile.Point  // Found by it, and not asked for yet.
}

func (p *Pipeline) newCatcher() *catcher { return &catcher{p, map[p2p.PeerID]*turnOf{}} }

func catchUpVisits() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aleph_ingest_catch_up_visits_total", Help: "Comparisons with peers, or parts of them, by outcome; misconduct is what no honest peer answers.",
	}, []string{"outcome"})
}

// peerError is a failure of a peer, as opposed to one of this node.
type peerError struct {
	error
	misconduct bool
}

func misconduct(err error) error { return &peerError{err, true} }

// pass visits the peers whose turn it is, those first who wait longest, until it is
// nobody's.
func (c *catcher) pass(ctx context.Context) error {
	for visited := true; visited && ctx.Err() == nil; {
		visited = false
		connected := c.p.net.Connected()
		c.forgetAbsent(connected)
		for _, id := range connected {
			if c.peers[id] == nil {
				c.peers[id] = &turnOf{}
			}
		}
		slices.SortFunc(connected, func(a, b p2p.PeerID) int { return c.peers[a].due.Compare(c.peers[b].due) })
		for _, id := range connected {
			if time.Now().Before(c.peers[id].due) {
				continue
			}
			if err := c.turn(ctx, id); err != nil || ctx.Err() != nil {
				return err
			}
			visited = true
		}
	}
	return nil
}

// forgetAbsent lets peers be asked at once when they come back, unless they are not to
// be asked for something that they did.
func (c *catcher) forgetAbsent(connected []p2p.PeerID) {
	now := time.Now()
	for id, t := range c.peers {
		shunned := (t.failures > 0 || t.offences > 0) && now.Before(t.due) && len(c.peers) <= shunnedMax
		if !shunned && !slices.Contains(connected, id) {
			delete(c.peers, id)
		}
	}
}

// turn visits a peer, and settles when it is visited again. Its error is this node's.
func (c *catcher) turn(ctx context.Context, id p2p.PeerID) error {
	t := c.peers[id]
	v := &visit{p: c.p, peer: id, began: time.Now(), at: &t.at}
	err := v.run(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // Asked to stop.
	}
	if v.brought > 0 {
		c.p.log.Info("caught up", "peer", id, "messages", v.brought, "refused", v.refused, "has_more", v.more, "took", time.Since(v.began))
	}
	if err != nil || v.bad > 0 { // What is equal by now is found equal.
		t.at.session, t.at.lacks = nil, nil
	}
	var theirs *peerError
	if err != nil && !errors.As(err, &theirs) {
		t.due = time.Now().Add(c.p.cfg.CatchUpInterval)
		return fmt.Errorf("catch up with peer %s: %w", id, err)
	}
	outcome, pause := v.judge(theirs, t, c.p.cfg.CatchUpInterval)
	c.p.visits.WithLabelValues(outcome).Inc()
	t.due = time.Now().Add(pause)
	if outcome == outcomeMisconduct {
		c.p.log.Warn("peer answers as no honest one does", "peer", id, "retry_in", pause, "bad_messages", v.bad, "err", err)
	} else if err != nil {
		c.p.log.Debug("not compared with peer", "peer", id, "retry_in", pause, "err", err)
	}
	return nil
}

// Outcomes of visits.
const (
	outcomeRead       = "read"
	outcomeFailed     = "failed"
	outcomeMisconduct = "misconduct"
)

// judge says how a visit went, and after which pause the next one is.
func (v *visit) judge(err *peerError, t *turnOf, interval time.Duration) (outcome string, pause time.Duration) {
	switch {
	case v.bad > 0 || err != nil && err.misconduct:
		pause = min(misconductMin<<min(t.offences, 10), misconductMax)
		t.offences++
		return outcomeMisconduct, pause
	case err != nil:
		t.failures++
		pause = min(interval<<min(t.failures, 10), pauseMax)
		return outcomeFailed, max(pause, interval)
	}
	t.failures, t.offences = 0, 0
	if t.idle++; v.brought > 0 || v.rounds <= visitIdle {
		t.idle = 0
	}
	switch pause = interval; {
	case t.idle > 1:
		pause = max(interval, min(interval<<min(t.idle-1, 10), pauseMax))
	case v.busy && v.rounds+v.brought > 0:
		pause = min(busyPause, interval)
	case v.busy: // It is asked as if it had nothing.
	case v.more && v.brought > 0:
		pause = 0 // It goes on after the others whose turn it is.
	case v.more:
		pause = min(againAfter, interval)
	}
	return outcomeRead, max(pause, min(time.Duration(v.refused)*refusalPause, pauseMax))
}

// visit is a part of a comparison with a peer, or all of it.
type visit struct {
	p       *Pipeline
	peer    p2p.PeerID
	began   time.Time
	at      *progress
	more    bool // There is more to compare or to ask for.
	busy    bool // The peer has answered enough for now.
	rounds  int  // Answers about ranges.
	brought int  // Messages that got a verdict.
	refused int  // Of those, such as peers should not have processed.
	vain    int  // Messages that the peer listed and did not give.
	bad     int  // Messages that break the form, or that nobody signed.
}

func (v *visit) run(ctx context.Context) error {
	if err := v.at.known.prune(ctx, v.p.db, v.began); err != nil {
		return err
	}
	v.more = true
	for compared := false; v.rounds < visitRoundsMax && v.bad == 0 && v.refused*int(refusalPause) < int(pauseMax); {
		if err := v.fetchAll(ctx); err != nil || v.busy || len(v.at.lacks) > 0 {
			return err
		}
		if compared {
			v.more = false
			return nil
		}
		if v.isOver() {
			return v.slow()
		}
		if err := v.round(ctx); err != nil || v.busy {
			return err
		}
		compared = v.at.session == nil
	}
	return nil
}

func (v *visit) isOver() bool { return time.Since(v.began) > visitMax }

// slow is a failure of a peer that takes much time for little.
func (v *visit) slow() error {
	if v.brought+v.rounds < visitLeast {
		return &peerError{errs.New(errs.Unavailable, "%d messages and %d answers in %v", v.brought, v.rounds, time.Since(v.began)), false}
	}
	return nil
}

// ask asks the peer one question; the answer is nil if it has answered enough for now.
func (v *visit) ask(ctx context.Context, question job.Ask) (*job.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, questionMax)
	defer cancel()
	reply := new(job.Reply)
	err := v.p.net.Ask(ctx, v.peer, question, reply)
	if errors.Is(err, errs.Exhausted) {
		v.busy = true
		return nil, nil
	}
	if err != nil {
		return nil, &peerError{err, false}
	}
	return reply, nil
}

// round asks one question about ranges. When all are compared there is no session any
// more.
func (v *visit) round(ctx context.Context) error {
	set := v.at.known.over(v.p.db.MessageSet(ctx))
	if v.at.session == nil {
		v.at.session = reconcile.NewSession(set)
	}
	s := v.at.session
	s.Use(set) // It may be of a visit before.
	q, err := s.Question()
	if err != nil {
		return err
	}
	reply, err := v.ask(ctx, job.Ask{Kind: job.AskReconcile, Ranges: q.Encode()})
	if err != nil || reply == nil {
		return err
	}
	v.rounds++
	a, err := reconcile.ParseAnswer(reply.Ranges, q)
	if err != nil {
		return misconduct(err)
	}
	found, err := s.Take(q, a)
	if err != nil {
		if errors.Is(err, reconcile.ErrEndless) {
			return misconduct(err)
		}
		return err
	}
	if s.Done() {
		v.at.session = nil
	}
	return v.note(ctx, found)
}

// note takes over what a round has found: what is wanted is asked for, the rest is
// known and not told again.
func (v *visit) note(ctx context.Context, found reconcile.Found) error {
	for _, p := range found.Extra {
		v.at.known.lacks(p)
	}
	hashes := make([]message.ItemHash, len(found.Lacks))
	for i, p := range found.Lacks {
		hashes[i] = p.Hash
	}
	wanted, here, err := v.p.wanted(ctx, hashes)
	if err != nil {
		return err
	}
	for _, p := range found.Lacks {
		switch {
		case wanted[p.Hash]:
			v.at.lacks = append(v.at.lacks, p)
		case isCounted(here[p.Hash].Status):
			v.at.known.has(p)
		default:
			v.at.known.keeps(p)
		}
	}
	return nil
}

// isCounted reports whether a message with the status is one of those that are compared.
func isCounted(s state.MessageStatus) bool {
	return s == state.MessageProcessed || s == state.MessageRemoving
}

// wanted are those of a peer's messages that may become something here, and what is
// known of them. What was refused may have been refused because of another signature;
// what waits for its content may be a stranger's copy, which shows only then; and a
// FORGET that waits may lack what the peer can tell of its targets.
func (p *Pipeline) wanted(ctx context.Context, hashes []message.ItemHash) (wanted map[message.ItemHash]bool, here map[message.ItemHash]state.Standing, err error) {
	if here, err = p.db.Standings(ctx, hashes); err != nil {
		return nil, nil, err
	}
	wanted = map[message.ItemHash]bool{}
	for _, hash := range hashes {
		s, known := here[hash]
		want := !known || s.Status == state.MessageRejected
		if s.Status == state.MessagePending {
			rows, err := p.db.PendingFor(ctx, hash)
			if err != nil {
				return nil, nil, err
			}
			want = slices.ContainsFunc(rows, func(r state.Pending) bool {
				return r.Type == message.TypeForget || r.Code == message.CodeContentUnavailable
			})
		}
		wanted[hash] = want
	}
	return wanted, here, nil
}

// portion is a part of what a peer was asked for: checked, and not yet written.
type portion struct {
	points []reconcile.Point // For which the peer answered.
	items  []*item
	vain   int // Messages that it does not have any more.
	bad    int // Messages that break the form, or that nobody signed.
}

// fetchAll asks for what is lacking, as long as there is time. While messages are
// written, the next ones are asked for and checked.
func (v *visit) fetchAll(ctx context.Context) error {
	if len(v.at.lacks) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	portions := make(chan *portion)
	var failed error // Of obtainAll, until portions is closed.
	go func() {
		defer close(portions)
		failed = v.obtainAll(ctx, v.at.lacks, portions)
	}()
	var err error
	for one := range portions {
		if err != nil {
			continue // It ends; nothing more is written.
		}
		if err = v.enter(ctx, one); err != nil {
			cancel()
		}
	}
	switch {
	case err != nil:
		return err
	case failed != nil || v.busy || v.bad > 0 || len(v.at.lacks) == 0:
		return failed
	default:
		return v.slow() // Its time is over.
	}
}

// obtainAll asks for messages, a portion after the other, as long as there is time.
func (v *visit) obtainAll(ctx context.Context, lacks []reconcile.Point, out chan<- *portion) error {
	for len(lacks) > 0 && !v.isOver() {
		one, err := v.obtain(ctx, lacks[:min(len(lacks), job.MessagesMax)])
		if err != nil || one == nil {
			return err
		}
		lacks = lacks[len(one.points):]
		if out <- one; one.bad > 0 { // It is taken, also by a node that is asked to stop.
			return nil
		}
	}
	return nil
}

// obtain asks for messages and checks what comes; nil if the peer has answered enough
// for now.
func (v *visit) obtain(ctx context.Context, points []reconcile.Point) (*portion, error) {
	if err := v.p.haveRoom(ctx); err != nil {
		return nil, err
	}
	hashes := make([]message.ItemHash, len(points))
	for i, p := range points {
		hashes[i] = p.Hash
	}
	reply, err := v.ask(ctx, job.Ask{Kind: job.AskMessages, ItemHashes: hashes})
	if err != nil || reply == nil {
		return nil, err
	}
	m := reply.Messages
	if m == nil {
		return nil, misconduct(errs.New(errs.Invalid, "the answer holds no messages"))
	}
	if err := m.Check(len(hashes)); err != nil {
		return nil, misconduct(err)
	}
	out := &portion{points: points[:m.Done], vain: m.Done - len(m.Messages)}
	return out, v.p.readAll(ctx, m, hashes, out)
}

// enter judges messages and makes the verdicts durable. Those that the peer does not
// have any more did not come.
func (v *visit) enter(ctx context.Context, one *portion) error {
	verdicts, err := v.p.writeAll(ctx, one.items)
	if err != nil {
		return err
	}
	v.brought += len(verdicts)
	v.vain += one.vain
	v.bad += one.bad
	counted := map[message.ItemHash]bool{}
	for _, verdict := range verdicts {
		if counted[verdict.ItemHash] = isCounted(verdict.Status); verdict.isOdd() {
			v.refused++
		}
	}
	for _, p := range one.points {
		if !counted[p.Hash] {
			v.at.known.keeps(p)
		}
	}
	if v.at.lacks = v.at.lacks[len(one.points):]; v.vain > vainMax && v.vain > v.brought {
		return &peerError{errs.New(errs.Unavailable, "%d messages that it listed were not given", v.vain), false}
	}
	return nil
}

// haveRoom wants that not too many messages wait already.
func (p *Pipeline) haveRoom(ctx context.Context) error {
	n, _, err := p.db.CountPending(ctx)
	if err == nil && n >= catchUpWaitingMax {
		err = errs.New(errs.Unavailable, "%d messages wait already", n)
	}
	return err
}

// isOdd reports whether a message should not have been processed by anybody, as this
// node sees it. That bytes are not here yet is usual.
func (v *Verdict) isOdd() bool {
	switch v.Status {
	case state.MessageRejected:
		return true
	case state.MessagePending:
		return v.Refusal == nil || v.Refusal.Code != message.CodeFileUnavailable && v.Refusal.Code != message.CodeContentUnavailable
	case state.MessageProcessed, state.MessageForgotten, state.MessageRemoving, state.MessageRemoved:
		return false
	default:
		return true
	}
}

// readAll reads the messages of an answer. One that is none, or that nobody signed, is
// not kept: no honest node has processed it.
func (p *Pipeline) readAll(ctx context.Context, m *job.Messages, asked []message.ItemHash, out *portion) error {
	open := make(map[message.ItemHash]bool, len(asked))
	for _, hash := range asked {
		open[hash] = true
	}
	ended, bad := readForgotten(m.Forgotten, p.now())
	out.bad += bad
	for _, r := range p.readEach(ctx, m.Messages) {
		it, err := r.it, r.err
		var refusal *message.RejectError
		if errors.As(err, &refusal) || err == nil && it.sigErr != nil {
			out.bad++
			continue
		}
		if err != nil {
			return err
		}
		if !open[it.env.ItemHash] {
			return misconduct(errs.New(errs.Invalid, "the answer holds message %s, which was not asked for or comes twice", it.env.ItemHash))
		}
		delete(open, it.env.ItemHash)
		it.processed, it.ended, it.origin.Processed = true, ended, true
		out.items = append(out.items, it)
	}
	return nil
}

// reading is a message that was read, or why it was not.
type reading struct {
	it  *item
	err error
}

// readEach reads messages side by side, as checking signatures takes most of the time.
func (p *Pipeline) readEach(ctx context.Context, all []json.RawMessage) []reading {
	out := make([]reading, len(all))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(all)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				out[i].it, out[i].err = p.read(ctx, all[i], p.now())
			}
		})
	}
	wg.Wait()
	return out
}

// readForgotten reads what is left of messages that were forgotten before they came
// here, and counts what nobody signed.
func readForgotten(all []job.Forgotten, now time.Time) (out map[message.ItemHash]state.Skeleton, bad int) {
	out = make(map[message.ItemHash]state.Skeleton, len(all))
	for i := range all {
		env, err := all[i].Envelope()
		if err == nil {
			err = checkTexts(env)
		}
		if err == nil {
			err = signature.Verify(env)
		}
		if err != nil {
			bad++
			continue
		}
		s := state.Skeleton{Status: state.MessageForgotten, Envelope: *env, Owner: env.Sender, ReceivedAt: now, MadeAt: env.Time, SealedAt: now}
		if all[i].Kind != "" {
			s.Kind = &all[i].Kind
		}
		out[env.ItemHash] = s
	}
	return out, bad
}

// endedBefore is what is left of a target of a FORGET that ended before it came here,
// nil if that is not known. Without the content nobody can tell whose the target was,
// so its sender must be that of the FORGET: who signed both may have them both.
func (it *item) endedBefore(target message.ItemHash) *state.Skeleton {
	s, ok := it.ended[target]
	if !ok || !authz.Same(s.Envelope.Sender, it.env.Sender) || s.Envelope.Type == message.TypeForget {
		return nil
	}
	return &s
}

// writeAll judges messages in their order, and makes the verdicts durable. Others may
// share their transactions.
func (p *Pipeline) writeAll(ctx context.Context, items []*item) ([]*Verdict, error) {
	if len(items) == 0 {
		return nil, nil
	}
	turns := make([]*turn, len(items))
	for i, it := range items {
		turns[i] = &turn{it: it, done: make(chan bool, 1)}
	}
	w := &p.writer
	w.mu.Lock()
	w.queue = append(w.queue, turns...)
	mine := !w.writing
	w.writing = true
	w.mu.Unlock()
	if mine {
		turns[0].done <- false
	}
	out := make([]*Verdict, len(turns))
	var failed []error
	for i, t := range turns {
		if !<-t.done {
			p.lead(context.WithoutCancel(ctx))
			<-t.done
		}
		if out[i] = t.verdict; t.err != nil {
			failed = append(failed, t.err)
		}
	}
	if len(failed) > 0 {
		return nil, failed[0] // The others are much the same, and may be hundreds.
	}
	return out, nil
}
