package crn

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

const (
	// readersPerVMMax bounds who reads the log of one machine at the same time.
	readersPerVMMax = 8
	// tailDefault is how many past lines a client that follows gets unless it asks
	// for another number. The reference sends all there are.
	tailDefault = 10_000
	// firstMax bounds the first message of a client, in bytes, and firstTimeout how
	// long it may take to sign it.
	firstMax, firstTimeout = 16 << 10, 30 * time.Second
	// frameTimeout bounds how long one line may take to be sent, and pingEvery is
	// how often a client must show that it is there.
	frameTimeout, pingEvery = 10 * time.Second, 30 * time.Second
	// lineMax bounds a line in an answer, in bytes.
	lineMax = 64 << 10
)

// readers counts who reads logs.
type readers struct {
	mu sync.Mutex
	vm map[message.ItemHash]int // guarded by mu
}

// enter lets one more read, until leave is called.
func (r *readers) enter(vm message.ItemHash) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vm[vm] >= readersPerVMMax {
		return nil, errs.New(errs.Unavailable, "the log is read %d times already; end one of these first", readersPerVMMax)
	}
	if r.vm == nil {
		r.vm = map[message.ItemHash]int{}
	}
	r.vm[vm]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.vm[vm]--; r.vm[vm] == 0 {
			delete(r.vm, vm)
		}
	}, nil
}

// tail is how many past lines a request asks for.
func (c *call) tail(without int) (int, error) {
	switch text := c.r.URL.Query().Get("tail"); text {
	case "":
		return without, nil
	case "all":
		return -1, nil
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return 0, refuse(http.StatusBadRequest, "Invalid tail")
		}
		return n, nil
	}
}

// cut is a line within its bound.
func cut(text string) string {
	if len(text) <= lineMax {
		return text
	}
	return text[:lineMax] + "..."
}

// past finds a machine that is here, or whose logs are.
func (s *Server) past(ctx context.Context, vm message.ItemHash) (*Execution, error) {
	e, err := s.parts.Executions.Past(ctx, vm)
	if errs.KindOf(err) == errs.NotFound {
		err = refuse(http.StatusNotFound, "No execution found for VM "+string(vm))
	}
	return e, err
}

type lineV1 struct {
	Identifier string  `json:"SYSLOG_IDENTIFIER"`
	Message    string  `json:"MESSAGE"`
	File       string  `json:"file"`
	At         *string `json:"__REALTIME_TIMESTAMP"`
}

// logs gives the log of a machine to its owner, as one array.
func (s *Server) logs(c *call) error {
	e, err := s.ownedBy(c, s.past)
	if err != nil {
		return err
	}
	tail, err := c.tail(-1)
	if err != nil {
		return err
	}
	leave, err := s.readers.enter(e.Hash)
	if err != nil {
		return err
	}
	defer leave()
	if err := c.stream(); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(c.w)
	_, _ = out.WriteString("[") // The error is kept, and Flush tells it.
	separator := ""
	for line, err := range s.parts.Logs.Lines(c.r.Context(), e.Hash, LogQuery{Tail: tail}) {
		if err != nil {
			return s.breakOff(c, err)
		}
		raw, err := json.Marshal(lineV1{fmt.Sprintf("vm-%s-%s", e.Hash, line.Stream), cut(line.Text), line.Stream, textOf(line.At)})
		if err != nil {
			return s.breakOff(c, err)
		}
		_, _ = out.WriteString(separator)
		if _, err := out.Write(raw); err != nil {
			return s.breakOff(c, err)
		}
		separator = ",\n"
	}
	_, _ = out.WriteString("]")
	if err := out.Flush(); err != nil {
		return s.breakOff(c, err)
	}
	return nil
}

// breakOff ends an answer that has begun, so that nobody takes it for whole.
func (s *Server) breakOff(c *call, err error) error {
	if c.r.Context().Err() == nil {
		s.log.Debug("answer broke off", "path", c.r.URL.Path, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// frame is what a client that follows a log is told.
type frame struct {
	Status  string `json:"status,omitempty"` // connected or failed
	Reason  string `json:"reason,omitempty"`
	Type    string `json:"type,omitempty"` // stdout, stderr or system
	Message string `json:"message,omitempty"`
}

// socket is a client that follows a log.
type socket struct {
	conn *websocket.Conn
	ctx  context.Context //nolint:containedctx // It is the connection's.
}

func (k *socket) send(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	ctx, cancel := context.WithTimeout(k.ctx, frameTimeout)
	defer cancel()
	return k.conn.Write(ctx, websocket.MessageText, raw)
}

// line tells a line; its text may be empty.
func (k *socket) line(kind, text string) error {
	return k.send(struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}{kind, cut(text)})
}

// streamLogs follows the log of a machine for its owner, who signs the first
// message: pages cannot set headers here.
func (s *Server) streamLogs(c *call) error {
	vm, err := c.ref()
	if err != nil {
		return err
	}
	tail, err := c.tail(tailDefault)
	if err != nil {
		return err
	}
	e, err := s.past(c.r.Context(), vm)
	if err != nil {
		return err
	}
	select {
	case s.greetings <- struct{}{}:
	default:
		return errs.New(errs.Unavailable, "%d clients have not said yet who they are; try again", greetingsMax)
	}
	greeted := sync.OnceFunc(func() { <-s.greetings })
	defer greeted()
	conn, err := websocket.Accept(c.w, c.r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.log.Debug("connection not upgraded", "path", c.r.URL.Path, "err", err)
		return nil // It has answered.
	}
	defer func() { _ = conn.CloseNow() }() // It is closed in peace, or the client is gone.
	k := &socket{conn: conn, ctx: c.r.Context()}
	if err := s.follow(c, k, e, tail, greeted); err != nil {
		s.log.Debug("log no longer followed", "job_id", vm, "err", err)
	}
	return nil
}

// follow speaks with a client until one of the two ends.
func (s *Server) follow(c *call, k *socket, e *Execution, tail int, greeted func()) error {
	reason := s.greet(k, e)
	greeted()
	if reason != "" {
		return errors.Join(k.send(frame{Status: "failed", Reason: reason}), k.conn.Close(websocket.StatusNormalClosure, ""))
	}
	leave, err := s.readers.enter(e.Hash)
	if err == nil {
		defer leave()
		err = api.BeginStream(c.w)
	}
	if err != nil {
		return errors.Join(k.send(frame{Status: "failed", Reason: errs.Public(err)}), k.conn.Close(websocket.StatusTryAgainLater, ""))
	}
	if err := k.send(frame{Status: "connected"}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(k.conn.CloseRead(c.r.Context()))
	defer cancel()
	k.ctx = ctx
	var pings sync.WaitGroup
	defer pings.Wait()
	defer cancel()
	pings.Go(func() { k.ping(cancel) })
	return s.tell(k, e, tail)
}

// tell sends the log.
func (s *Server) tell(k *socket, e *Execution, tail int) error {
	if e.Starting() {
		return errors.Join(k.line("system", "VM is starting, try again shortly"), k.conn.Close(websocket.StatusNormalClosure, ""))
	}
	for line, err := range s.parts.Logs.Lines(k.ctx, e.Hash, LogQuery{Follow: e.Running, Tail: tail}) {
		if err == nil {
			err = k.line(line.Stream, line.Text)
		}
		if err != nil {
			return errors.Join(err, k.conn.Close(websocket.StatusInternalError, "log broke off"))
		}
	}
	if !e.Running {
		if err := k.line("system", "VM is not running, past logs sent"); err != nil {
			return err
		}
	}
	return k.conn.Close(websocket.StatusNormalClosure, "")
}

// ping ends the reading of a client that is not there any more.
func (k *socket) ping(gone func()) {
	every := time.NewTicker(pingEvery)
	defer every.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-every.C:
		}
		ctx, cancel := context.WithTimeout(k.ctx, pingEvery)
		err := k.conn.Ping(ctx)
		cancel()
		if err != nil {
			gone()
			return
		}
	}
}

// greet reads the first message, and returns why its sender may not go on.
func (s *Server) greet(k *socket, e *Execution) (reason string) {
	k.conn.SetReadLimit(firstMax)
	ctx, cancel := context.WithTimeout(k.ctx, firstTimeout)
	defer cancel()
	_, first, err := k.conn.Read(ctx)
	if err != nil {
		return "no first message"
	}
	proof, err := operator.ParseSocketProof(first)
	if err != nil {
		return err.Error()
	}
	owner, err := proof.VerifySocket(s.self.Domain, s.now())
	if err != nil {
		return err.Error()
	}
	if !s.mayAct(k.ctx, owner.Address, e) {
		return "unauthorized sender"
	}
	return ""
}
