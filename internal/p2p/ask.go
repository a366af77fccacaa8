package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// asksMax bounds the questions that are answered at the same time. One counts
	// until its reply is on its way.
	asksMax = 256
	// bodiesMax bounds the bodies that are streamed at the same time, which may
	// take hours, and bodiesPerPeerMax those of one peer. Both leave room for
	// questions among the streams that the library allows.
	bodiesMax, bodiesPerPeerMax = streamsMax / 2, streamsPerPeerMax / 2
	// requestMax bounds the time in which a peer sends its question.
	requestMax = 10 * time.Second
	// answerMax bounds the time from question to answer.
	answerMax = 60 * time.Second
	// idleMax is how long a peer may leave bytes of a body unread, or send
	// none of a blob's.
	idleMax = 30 * time.Second
	// errorMax bounds the text of a failure that is sent to a peer.
	errorMax = 512
)

// Answer is a handler's answer to a question.
type Answer struct {
	Reply any // Sent as JSON.
	// Body, if any, writes raw bytes after the reply. Its ctx ends when the
	// peer goes away.
	Body func(ctx context.Context, w io.Writer) error
}

// AskHandler answers one kind of question. An error with a kind of
// internal/errs reaches the peer as one of the same kind.
type AskHandler func(ctx context.Context, from PeerID, request []byte) (Answer, error)

// HandleAsk registers the handler of a kind of question, the "kind" of the
// request's JSON. A later one replaces it.
func (h *Host) HandleAsk(kind string, fn AskHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds[kind] = fn
}

// failure is the reply to a question that could not be answered.
type failure struct {
	Error     string    `json:"error,omitempty"`
	ErrorKind errs.Kind `json:"error_kind,omitempty"`
}

// serveAsk answers one question.
func (h *Host) serveAsk(ctx context.Context, s network.Stream) {
	from := PeerID(s.Conn().RemotePeer().String())
	release := func() { <-h.asks }
	select {
	case h.asks <- struct{}{}:
		release = sync.OnceFunc(release)
		defer release()
	default:
		h.metrics.asks.WithLabelValues("", "busy").Inc()
		_ = s.Reset() // the peer sees a broken stream and asks another or later
		return
	}
	kind, err := h.answer(ctx, s, from, release)
	outcome := "answered"
	if err != nil {
		outcome = "failed"
		h.log.Debug("question not answered", "kind", kind, "peer", from, "err", err)
		_ = s.Reset()
	}
	h.metrics.asks.WithLabelValues(kind, outcome).Inc()
}

// answer reads the question, writes the reply, calls replied and streams the
// body. The kind is "" for one that nobody handles, so that peers cannot invent
// metrics.
func (h *Host) answer(ctx context.Context, s network.Stream, from PeerID, replied func()) (kind string, err error) {
	if err := s.SetReadDeadline(time.Now().Add(requestMax)); err != nil {
		return "", fmt.Errorf("set deadline: %w", err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kind, fn, err := h.handler(raw)
	var a Answer
	if err == nil {
		a, err = callAsk(ctx, fn, from, raw)
	}
	if err == nil && a.Body != nil {
		if err = h.bodies.take(from); err == nil {
			defer h.bodies.give(from)
		}
	}
	if err != nil {
		h.logInternal(kind, from, err)
		a = Answer{Reply: failureOf(err)}
	}
	out := &patientStream{Stream: s}
	if err := wire.WriteFrame(out, a.Reply); err != nil {
		return kind, err
	}
	replied()
	if a.Body != nil {
		// The peer sends nothing more: a read that ends means that it left.
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			return kind, fmt.Errorf("clear deadline: %w", err)
		}
		go func() {
			_, _ = s.Read(make([]byte, 1))
			cancel()
		}()
		if err := a.Body(ctx, out); err != nil {
			return kind, fmt.Errorf("stream body: %w", err)
		}
	}
	return kind, s.Close()
}

// bodies counts the bodies that are being streamed.
type bodies struct {
	mu   sync.Mutex
	all  int            // guarded by mu
	each map[PeerID]int // guarded by mu
}

// take makes room for one more body to the peer, or says why there is none.
func (b *bodies) take(to PeerID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.each[to] >= bodiesPerPeerMax:
		return errs.New(errs.Unavailable, "%d answers are being streamed to this peer already; try again later", b.each[to])
	case b.all >= bodiesMax:
		return errs.New(errs.Unavailable, "%d answers are being streamed already; try again later", b.all)
	}
	if b.each == nil {
		b.each = map[PeerID]int{}
	}
	b.all++
	b.each[to]++
	return nil
}

func (b *bodies) give(to PeerID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.each[to]--; b.each[to] == 0 {
		delete(b.each, to)
	}
}

// callAsk runs the handler within answerMax.
func callAsk(ctx context.Context, fn AskHandler, from PeerID, raw []byte) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	return fn(ctx, from, raw)
}

func (h *Host) handler(raw []byte) (string, AskHandler, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return "", nil, errs.New(errs.Invalid, "question is not a JSON object with a kind: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	fn, ok := h.kinds[head.Kind]
	if !ok {
		return "", nil, errs.New(errs.Invalid, "this node does not answer questions of kind %.40q", head.Kind)
	}
	return head.Kind, fn, nil
}

func (h *Host) logInternal(kind string, from PeerID, err error) {
	if errs.KindOf(err) == errs.Internal {
		h.log.Error("question failed", "kind", kind, "peer", from, "err", err)
	}
}

// failureOf is what a peer may know of err: the text of an Internal one stays
// here.
func failureOf(err error) failure {
	kind := errs.KindOf(err)
	if kind == errs.Internal {
		return failure{Error: "internal error", ErrorKind: kind}
	}
	text := err.Error()
	return failure{Error: text[:min(len(text), errorMax)], ErrorKind: kind}
}

// err is the error that a peer's failure becomes here, nil if it is none.
func (f failure) err(id PeerID) error {
	if f.Error == "" {
		return nil
	}
	switch f.ErrorKind {
	case errs.Invalid, errs.Denied, errs.NotFound, errs.Conflict, errs.Exhausted, errs.Unavailable:
		return errs.New(f.ErrorKind, "peer %s: %.512s", id, f.Error)
	default:
		// A defect of theirs is no defect of ours.
		return errs.New(errs.Unavailable, "peer %s: %.512s", id, f.Error)
	}
}

// Ask sends a question to a peer, as JSON with a "kind", and decodes its
// answer into reply. A peer that cannot be reached gives errs.Unavailable; a
// failure that the peer reports keeps its kind.
func (h *Host) Ask(ctx context.Context, id PeerID, request, reply any) error {
	body, err := h.AskStream(ctx, id, request, reply)
	if err != nil {
		return err
	}
	return body.Close()
}

// AskStream is Ask for a question whose answer is followed by raw bytes. The
// caller closes the body; ctx ends it too.
func (h *Host) AskStream(ctx context.Context, id PeerID, request, reply any) (io.ReadCloser, error) {
	s, err := h.open(ctx, id, wire.StreamAsk)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	if err := exchange(s, id, request, reply); err != nil {
		stop()
		_ = s.Reset()
		if ctx.Err() != nil {
			return nil, errs.New(errs.Unavailable, "ask peer %s: %w", id, context.Cause(ctx))
		}
		return nil, err
	}
	return &askBody{Stream: s, stop: stop}, nil
}

// exchange writes the question and reads the answer.
func exchange(s network.Stream, id PeerID, request, reply any) error {
	if err := s.SetDeadline(time.Now().Add(answerMax + requestMax)); err != nil {
		return errs.New(errs.Unavailable, "ask peer %s: %w", id, err)
	}
	if err := wire.WriteFrame(s, request); errors.Is(err, wire.ErrFrame) {
		return errs.New(errs.Invalid, "ask peer %s: %w", id, err)
	} else if err != nil {
		return errs.New(errs.Unavailable, "ask peer %s: %w", id, err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return errs.New(errs.Unavailable, "answer of peer %s: %w", id, err)
	}
	if err := decodeAnswer(raw, id, reply); err != nil {
		return err
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		return errs.New(errs.Unavailable, "answer of peer %s: %w", id, err)
	}
	return nil
}

// decodeAnswer decodes the peer's answer into reply, or returns the failure
// that the answer tells of.
func decodeAnswer(raw []byte, id PeerID, reply any) error {
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil {
		return errs.New(errs.Unavailable, "answer of peer %s: %w", id, err)
	}
	if err := f.err(id); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, reply); err != nil {
		return errs.New(errs.Unavailable, "answer of peer %s: %w", id, err)
	}
	return nil
}

// askBody is what follows an answer.
type askBody struct {
	network.Stream
	stop func() bool
}

// Close ends both directions at once, so that the peer sees it go.
func (b *askBody) Close() error {
	b.stop()
	return b.Reset()
}

// patientStream gives the peer idleMax for each write or read.
type patientStream struct{ network.Stream }

func (p *patientStream) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(idleMax)); err != nil {
		return 0, err
	}
	return p.Stream.Write(b)
}

func (p *patientStream) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(idleMax)); err != nil {
		return 0, err
	}
	return p.Stream.Read(b)
}
