package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// Gossip reaches who listens. What was processed while a node was away it reads from
// its peers: each tells the hashes of what it has processed, in that order, and of
// those that are not here the node asks for the messages. They are judged like any
// other; that a peer has processed them proves nothing. How far a peer was read is
// kept, and moves on when all of a page has its verdict.
//
// A peer answers with what it likes, so everything has a bound that does not depend on
// it: peers are visited one at a time, for a few pages and seconds, and what is of no
// use costs the peer time in which it is not asked.

const (
	// catchUpLook is how often it is looked whose turn it is: who has just connected is
	// asked within that time.
	catchUpLook = time.Second
	// questionMax bounds one question of a visit, visitMax the time after which a visit
	// asks no more, and visitPagesMax its pages.
	questionMax, visitMax, visitPagesMax = 10 * time.Second, 20 * time.Second, 16
	// visitLeast is what a visit that took visitMax must have brought: messages or, of
	// what is here already, pages.
	visitLeast = 16
	// againAfter is the pause between visits of a peer that has more to tell.
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

// catcher reads the histories of peers. It belongs to one goroutine.
type catcher struct {
	p     *Pipeline
	peers map[p2p.PeerID]*turnOf
}

// turnOf is when a peer is asked again, and why not earlier.
type turnOf struct {
	due      time.Time
	failures int // In a row.
	offences int
}

func (p *Pipeline) newCatcher() *catcher { return &catcher{p, map[p2p.PeerID]*turnOf{}} }

func catchUpVisits() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aleph_ingest_catch_up_visits_total", Help: "Readings of peers' histories by outcome; misconduct is what no honest peer answers.",
	}, []string{"outcome"})
}

// peerError is a failure of a peer, as opposed to one of this node.
type peerError struct {
	error
	misconduct bool
}

func misconduct(err error) error { return &peerError{err, true} }

// pass visits the peers whose turn it is, those first who wait longest.
func (c *catcher) pass(ctx context.Context) error {
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
	v := &visit{p: c.p, peer: id, began: time.Now()}
	err := v.run(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // Asked to stop.
	}
	if v.brought > 0 {
		c.p.log.Info("caught up", "peer", id, "messages", v.brought, "refused", v.refused, "has_more", v.more, "took", time.Since(v.began))
	}
	t := c.peers[id]
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
		c.p.log.Debug("peer's history not read", "peer", id, "retry_in", pause, "err", err)
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
	if pause = interval; v.more {
		pause = min(againAfter, interval)
	}
	return outcomeRead, max(pause, min(time.Duration(v.refused)*refusalPause, pauseMax))
}

// visit is one reading of a peer's history, from where the last one ended.
type visit struct {
	p       *Pipeline
	peer    p2p.PeerID
	began   time.Time
	at      state.Reading
	anew    bool // It begins from the start.
	more    bool // There is more than was read.
	pages   int
	brought int // Messages that got a verdict.
	refused int // Of those, such as peers should not have processed.
	bad     int // Messages that break the form, or that nobody signed.
}

func (v *visit) run(ctx context.Context) error {
	at, err := v.p.db.Reading(ctx, string(v.peer))
	switch {
	case err == nil:
		v.at = *at
	case !errors.Is(err, errs.NotFound):
		return err
	}
	for v.more = true; v.more && v.pages < visitPagesMax && v.bad == 0 && v.refused*int(refusalPause) < int(pauseMax); v.pages++ {
		if v.isOver() {
			return v.slow()
		}
		if err := v.page(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) isOver() bool { return time.Since(v.began) > visitMax }

// slow is a failure of a peer that takes much time for little.
func (v *visit) slow() error {
	if v.brought+v.pages < visitLeast {
		return &peerError{errs.New(errs.Unavailable, "%d messages and %d pages in %v", v.brought, v.pages, time.Since(v.began)), false}
	}
	return nil
}

// ask asks the peer one question.
func (v *visit) ask(ctx context.Context, question job.Ask) (*job.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, questionMax)
	defer cancel()
	reply := new(job.Reply)
	if err := v.p.net.Ask(ctx, v.peer, question, reply); err != nil {
		return nil, &peerError{err, false}
	}
	return reply, nil
}

// page reads one page of the history, and what of it is not here.
func (v *visit) page(ctx context.Context) error {
	reply, err := v.ask(ctx, job.Ask{Kind: job.AskHistory, From: v.at.Next, Database: v.at.Database, ItemHash: v.at.Last, Limit: job.HistoryMax})
	if err != nil {
		return err
	}
	h := reply.History
	if h == nil {
		return misconduct(errs.New(errs.Invalid, "the answer holds no history"))
	}
	if err := h.Check(v.at.Next, job.HistoryMax); err != nil {
		return misconduct(err)
	}
	if h.Restart || v.at.Next > 0 && h.Database != v.at.Database {
		if v.anew {
			return misconduct(errs.New(errs.Invalid, "the history is to be read anew again and again"))
		}
		v.p.log.Info("peer has other rows than before, its history is read anew", "peer", v.peer)
		v.at, v.anew = state.Reading{}, true
		return nil
	}
	if v.more = len(h.Entries) == job.HistoryMax; len(h.Entries) == 0 {
		return nil
	}
	wanted, err := v.p.wanted(ctx, h.Entries)
	if err != nil {
		return err
	}
	for len(wanted) > 0 {
		if v.isOver() {
			v.more = true
			return v.slow() // What is here by now is not asked for again.
		}
		n, err := v.fetch(ctx, wanted[:min(len(wanted), job.MessagesMax)])
		if err != nil {
			return err
		}
		wanted = wanted[n:]
	}
	last := h.Entries[len(h.Entries)-1]
	v.at = state.Reading{Database: h.Database, Next: last.Place + 1, Last: last.ItemHash, At: time.Now()}
	return v.p.db.Update(ctx, func(tx *state.Tx) error { return tx.PutReading(ctx, string(v.peer), v.at) })
}

// wanted are those of a peer's messages that may become something here. What was
// refused may have been refused because of another signature; what waits for its
// content may be a stranger's copy, which shows only then; and a FORGET that waits may
// lack what the peer can tell of its targets.
func (p *Pipeline) wanted(ctx context.Context, entries []job.Entry) ([]message.ItemHash, error) {
	hashes := make([]message.ItemHash, len(entries))
	for i, e := range entries {
		hashes[i] = e.ItemHash
	}
	here, err := p.db.Standings(ctx, hashes)
	if err != nil {
		return nil, err
	}
	var out []message.ItemHash
	seen := map[message.ItemHash]bool{}
	for _, hash := range hashes {
		s, known := here[hash]
		want := !known || s.Status == state.MessageRejected
		if s.Status == state.MessagePending {
			rows, err := p.db.PendingFor(ctx, hash)
			if err != nil {
				return nil, err
			}
			want = slices.ContainsFunc(rows, func(r state.Pending) bool {
				return r.Type == message.TypeForget || r.Code == message.CodeContentUnavailable
			})
		}
		if want && !seen[hash] {
			out = append(out, hash)
		}
		seen[hash] = true
	}
	return out, nil
}

// fetch asks for messages and judges what comes. It returns for how many the peer
// answered; those that it does not have any more do not come.
func (v *visit) fetch(ctx context.Context, hashes []message.ItemHash) (done int, err error) {
	if err := v.p.haveRoom(ctx); err != nil {
		return 0, err
	}
	reply, err := v.ask(ctx, job.Ask{Kind: job.AskMessages, ItemHashes: hashes})
	if err != nil {
		return 0, err
	}
	m := reply.Messages
	if m == nil {
		return 0, misconduct(errs.New(errs.Invalid, "the answer holds no messages"))
	}
	if err := m.Check(len(hashes)); err != nil {
		return 0, misconduct(err)
	}
	items, err := v.readAll(ctx, m, hashes)
	if err != nil {
		return 0, err
	}
	verdicts, err := v.p.writeAll(ctx, items)
	if err != nil {
		return 0, err
	}
	v.brought += len(verdicts)
	for _, verdict := range verdicts {
		if verdict.isOdd() {
			v.refused++
		}
	}
	return m.Done, nil
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
func (v *visit) readAll(ctx context.Context, m *job.Messages, asked []message.ItemHash) ([]*item, error) {
	open := make(map[message.ItemHash]bool, len(asked))
	for _, hash := range asked {
		open[hash] = true
	}
	ended := v.readForgotten(m.Forgotten)
	items := make([]*item, 0, len(m.Messages))
	for _, raw := range m.Messages {
		it, err := v.p.read(ctx, raw, time.Now())
		var refusal *message.RejectError
		if errors.As(err, &refusal) || err == nil && it.sigErr != nil {
			v.bad++
			continue
		}
		if err != nil {
			return nil, err
		}
		if !open[it.env.ItemHash] {
			return nil, misconduct(errs.New(errs.Invalid, "the answer holds message %s, which was not asked for or comes twice", it.env.ItemHash))
		}
		delete(open, it.env.ItemHash)
		it.processed, it.ended, it.origin.Processed = true, ended, true
		items = append(items, it)
	}
	return items, nil
}

// readForgotten reads what is left of messages that were forgotten before they came
// here.
func (v *visit) readForgotten(all []job.Forgotten) map[message.ItemHash]state.Skeleton {
	out := make(map[message.ItemHash]state.Skeleton, len(all))
	for i := range all {
		env, err := all[i].Envelope()
		if err == nil {
			err = checkTexts(env)
		}
		if err == nil {
			err = signature.Verify(env)
		}
		if err != nil {
			v.bad++
			continue
		}
		now := time.Now()
		s := state.Skeleton{Status: state.MessageForgotten, Envelope: *env, Owner: env.Sender, ReceivedAt: now, MadeAt: env.Time, SealedAt: now}
		if all[i].Kind != "" {
			s.Kind = &all[i].Kind
		}
		out[env.ItemHash] = s
	}
	return out
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
