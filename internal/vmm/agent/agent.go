// Package agent is the channel between a host and aleph-guest in one of its
// machines: JSON objects, one a line, over a virtio-serial port or a vsock.
//
// The host asks and the guest answers, never the other way round, and every
// answer carries the id of its question. So a host that died in the middle of
// a line and another that takes over need no handshake: broken lines and
// answers to questions of others are ignored.
package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// PortName is the name of the virtio-serial port.
const PortName = "org.aleph.guest.0"

// VsockPort is the guest's port of a vsock, where the machine has one in place of
// a virtio-serial port. Each stream is a channel of its own.
const VsockPort uint32 = 50

// ProbeArgument on the kernel's command line makes aleph-guest print
// ProbeMarker on the console and power off.
const (
	ProbeArgument = "aleph.probe=1"
	ProbeMarker   = "aleph-guest: probe ok"
)

const (
	// lineMax bounds a line: the longest, an Info, has some hundred bytes.
	lineMax = 16 << 10
	// pendingMax bounds the questions that a guest works on at a time.
	pendingMax = 16
)

// Command is what a host can ask.
type Command string

// The commands.
const (
	Ping     Command = "ping"     // Answered at once.
	Ready    Command = "ready"    // Answered when the services are up.
	GetInfo  Command = "info"     // Answered with Info.
	Shutdown Command = "shutdown" // Answered, then the guest powers off.
)

// Info tells about a guest's boot.
type Info struct {
	Hostname string           `json:"hostname"`
	Kernel   string           `json:"kernel"`
	Timings  map[string]int64 `json:"timings_ms"` // Uptime when a stage was done.
}

type request struct {
	ID      string  `json:"id"`
	Command Command `json:"cmd"`
}

type reply struct {
	ID    string `json:"id"`
	Error string `json:"error,omitempty"`
	Info  *Info  `json:"info,omitempty"`
}

// Handler answers for a guest. Methods are called concurrently.
type Handler interface {
	// Ready returns when the guest's services are up.
	Ready(ctx context.Context) error
	// Info tells about the boot so far.
	Info() Info
	// Shutdown begins to power off, and returns at once.
	Shutdown()
}

// Serve answers what comes over rw until reading fails, and returns why.
func Serve(ctx context.Context, rw io.ReadWriter, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s := &server{rw: rw, h: h}
	slots := make(chan struct{}, pendingMax)
	lines := newLineReader(rw)
	for {
		line, err := lines.next()
		if err != nil {
			return err
		}
		var req request
		if json.Unmarshal(line, &req) != nil || req.ID == "" {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			s.answer(reply{ID: req.ID, Error: "too many questions at a time"})
			continue
		}
		wg.Go(func() {
			s.serve(ctx, req)
			<-slots
		})
	}
}

type server struct {
	h  Handler
	mu sync.Mutex // held to write a line as one
	rw io.ReadWriter
}

func (s *server) serve(ctx context.Context, req request) {
	r := reply{ID: req.ID}
	switch req.Command {
	case Ping:
	case Ready:
		if err := s.h.Ready(ctx); err != nil {
			r.Error = err.Error()
		}
	case GetInfo:
		info := s.h.Info()
		r.Info = &info
	case Shutdown:
		// The answer first: after Shutdown there may be nobody to give it.
		s.answer(r)
		s.h.Shutdown()
		return
	default:
		r.Error = fmt.Sprintf("unknown command %q", req.Command)
	}
	s.answer(r)
}

// answer writes a line. Whoever asked may be gone; that is no failure.
func (s *server) answer(r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = writeLine(s.rw, r)
}

func writeLine(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	if _, err := w.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("write line: %w", err)
	}
	return nil
}

// Client asks one guest. Use NewClient, then Run.
type Client struct {
	rw      io.ReadWriter
	session string

	writeMu sync.Mutex // held to write a line as one

	mu      sync.Mutex
	last    int                   // number of the last question; guarded by mu
	waiting map[string]chan reply // guarded by mu; nil when Run has returned
}

// NewClient returns a client of the guest at the other end of rw. The session
// tells its questions from those of an earlier client.
func NewClient(rw io.ReadWriter, session string) *Client {
	return &Client{rw: rw, session: session, waiting: map[string]chan reply{}}
}

// Run takes in answers until reading fails, and returns why.
func (c *Client) Run() error {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ch := range c.waiting {
			close(ch)
		}
		c.waiting = nil
	}()
	lines := newLineReader(c.rw)
	for {
		line, err := lines.next()
		if err != nil {
			return err
		}
		var r reply
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		c.mu.Lock()
		if ch, ok := c.waiting[r.ID]; ok {
			delete(c.waiting, r.ID)
			ch <- r
		}
		c.mu.Unlock()
	}
}

// Do asks and waits for the answer. A guest that is gone gives
// errs.Unavailable. The Info is nil but for GetInfo.
func (c *Client) Do(ctx context.Context, cmd Command) (*Info, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return nil, errs.New(errs.Unavailable, "the channel to the guest is closed")
	}
	c.last++
	id := fmt.Sprintf("%s-%d", c.session, c.last)
	c.waiting[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()

	if err := c.ask(request{ID: id, Command: cmd}); err != nil {
		return nil, errs.New(errs.Unavailable, "ask the guest for %s: %w", cmd, err)
	}
	select {
	case r, ok := <-ch:
		switch {
		case !ok:
			return nil, errs.New(errs.Unavailable, "the channel to the guest closed before it answered %s", cmd)
		case r.Error != "":
			return nil, errs.New(errs.Unavailable, "the guest answered %s with: %s", cmd, r.Error)
		}
		return r.Info, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("ask the guest for %s: %w", cmd, context.Cause(ctx))
	}
}

// ask writes a question, after an empty line that ends whatever an earlier
// client may have left half-written.
func (c *Client) ask(req request) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if req.ID == c.session+"-1" {
		if _, err := c.rw.Write([]byte("\n")); err != nil {
			return fmt.Errorf("write line: %w", err)
		}
	}
	return writeLine(c.rw, req)
}

// lineReader reads lines of at most lineMax bytes and skips longer ones.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{bufio.NewReaderSize(r, lineMax)}
}

// next returns the next line, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	for tooLong := false; ; {
		line, err := l.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			tooLong = true
		case err != nil:
			return nil, fmt.Errorf("read line: %w", err)
		case tooLong:
			tooLong = false
		default:
			return bytes.TrimSpace(line), nil
		}
	}
}
