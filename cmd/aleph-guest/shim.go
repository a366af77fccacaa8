//go:build !machine

package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

//go:embed shim.py
var shimSource []byte

const (
	shimDir     = "/run/aleph"
	shimUpMax   = 2 * time.Minute // Translated machines take seconds.
	loadMax     = 5 * time.Minute // The shim bounds what the program's lifespan takes.
	shimIdleMax = 16              // Connections that are kept for the next calls.
	shimFrame   = 32 << 20
	shimPiece   = 64 << 10
)

// Kinds of frames; shim.py says what they mean.
const (
	frameUp     = 'U'
	frameLoad   = 'L'
	frameReseed = 'R'
	frameQuit   = 'Q'
	frameCall   = 'C'
	frameStart  = 'S'
	frameBody   = 'B'
	frameEnd    = 'E'
)

// shim is the process that runs an ASGI program. It is started before there is
// one, since Python takes longest to start.
type shim struct {
	pid   int
	ended <-chan struct{}

	mu      sync.Mutex // Held over a question on the control channel.
	control net.Conn
	r       *bufio.Reader
	loaded  bool // guarded by mu; calls are taken

	calls string // The socket for calls.
	idle  chan *shimConn
}

// startShim starts Python, if the runtime has it.
func (g *guest) startShim(ctx context.Context) (*shim, error) {
	python := ""
	for dir := range strings.SplitSeq(searchPath, ":") {
		if path, err := exec.LookPath(filepath.Join(dir, "python3")); err == nil {
			python = path
			break
		}
	}
	if python == "" {
		return nil, nil //nolint:nilnil // A runtime without Python runs executables.
	}
	if err := os.MkdirAll(shimDir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory of shim: %w", err)
	}
	return startShim(ctx, g.reaper, python, shimDir, g.console.Fd())
}

// starter starts programs and tells how they ended, as the reaper does.
type starter interface {
	start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan unix.WaitStatus, error)
}

// startShim starts the shim in dir.
func startShim(ctx context.Context, r starter, python, dir string, console uintptr) (*shim, error) {
	script := filepath.Join(dir, "shim.py")
	if err := os.WriteFile(script, shimSource, 0o644); err != nil {
		return nil, fmt.Errorf("write shim: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make control channel of shim: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer ours.Close()
	defer theirs.Close()
	s := &shim{calls: filepath.Join(dir, "calls"), idle: make(chan *shimConn, shimIdleMax)}
	if s.control, err = net.FileConn(ours); err != nil {
		return nil, fmt.Errorf("make control channel of shim: %w", err)
	}
	s.r = bufio.NewReader(s.control)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.calls})
	if err != nil {
		return nil, fmt.Errorf("make socket of shim: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	lf, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("make socket of shim: %w", err)
	}
	defer lf.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open input of shim: %w", err)
	}
	defer null.Close()
	env := append(environment(nil), "PYTHONPATH=/opt/aleph/libs", "PYTHONDONTWRITEBYTECODE=1")
	pid, ended, err := r.start(python, []string{python, "-u", script}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{null.Fd(), console, console, theirs.Fd(), lf.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", python, err)
	}
	s.pid = pid
	done := make(chan struct{})
	s.ended = done
	go func() {
		<-ended
		close(done)
	}()
	context.AfterFunc(ctx, func() { s.control.Close() })
	return s, nil
}

// awaitUp returns when the shim can be told what to load.
func (s *shim) awaitUp(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, shimUpMax)
	defer cancel()
	kind, _, err := s.readControl(ctx)
	if err == nil && kind != frameUp {
		err = fmt.Errorf("it said %q", kind)
	}
	if err != nil {
		return fmt.Errorf("start of Python: %w", err)
	}
	return nil
}

// readControl reads a frame, until ctx ends or the process does.
func (s *shim) readControl(ctx context.Context) (byte, []byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.control.SetReadDeadline(time.Now()) })
	defer func() {
		if !stop() {
			_ = s.control.SetReadDeadline(time.Time{})
		}
	}()
	kind, payload, err := readFrame(s.r, nil)
	if ctx.Err() != nil {
		return 0, nil, context.Cause(ctx)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errProgramGone, err)
	}
	return kind, payload, nil
}

// shimEnd is how a call or a question ended.
type shimEnd struct {
	Error     *string `json:"error"`
	Traceback string  `json:"traceback"`
}

func (e shimEnd) err() error {
	if e.Error == nil {
		return nil
	}
	return &programError{*e.Error, e.Traceback}
}

// ask sends a frame on the control channel and waits for the answer.
func (s *shim) ask(ctx context.Context, kind byte, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeFrame(s.control, kind, payload); err != nil {
		return fmt.Errorf("%w: %w", errProgramGone, err)
	}
	got, raw, err := s.readControl(ctx)
	if err != nil {
		return err
	}
	var end shimEnd
	if err := json.Unmarshal(raw, &end); err != nil || got != kind {
		return fmt.Errorf("the program's process answered %q to %q: %w", got, kind, err)
	}
	return end.err()
}

// shimLoad is what the shim is to load.
type shimLoad struct {
	Environ    map[string]string `json:"environ"`
	Path       []string          `json:"path"`
	Source     *string           `json:"source"`
	Entrypoint string            `json:"entrypoint"`
}

// load makes the shim the program.
func (s *shim) load(ctx context.Context, load shimLoad) error {
	raw, err := json.Marshal(load)
	if err != nil {
		return fmt.Errorf("encode program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, loadMax)
	defer cancel()
	if err := s.ask(ctx, frameLoad, raw); err != nil {
		return err
	}
	s.mu.Lock()
	s.loaded = true
	s.mu.Unlock()
	return nil
}

// stop implements program: it ends the program's lifespan.
func (s *shim) stop(ctx context.Context) error { return s.ask(ctx, frameQuit, nil) }

// reseed implements program. A shim that takes calls is told on a connection for
// them: what it runs for that it runs for the call that follows, too.
func (s *shim) reseed(ctx context.Context) error {
	s.mu.Lock()
	loaded := s.loaded
	s.mu.Unlock()
	if !loaded {
		return s.ask(ctx, frameReseed, nil)
	}
	c, err := s.connect(ctx)
	if err != nil {
		return s.orGone(err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = writeFrame(c, frameReseed, nil)
	var end shimEnd
	if err == nil {
		end, err = receive(c.r, &wholeReply{})
	}
	if !stop() || err != nil {
		c.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.orGone(err)
	}
	s.release(c)
	return end.err()
}

// kill ends a shim that has nothing to run.
func (s *shim) kill() {
	_ = unix.Kill(s.pid, unix.SIGKILL)
	s.control.Close()
}

// shimConn is a connection for calls.
type shimConn struct {
	net.Conn
	r *bufio.Reader
}

// connect takes a connection that is free, or a new one.
func (s *shim) connect(ctx context.Context) (*shimConn, error) {
	select {
	case c := <-s.idle:
		return c, nil
	default:
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.calls)
	if err != nil {
		return nil, fmt.Errorf("call the program: %w", err)
	}
	return &shimConn{c, bufio.NewReaderSize(c, shimPiece)}, nil
}

func (s *shim) release(c *shimConn) {
	select {
	case s.idle <- c:
	default:
		c.Close()
	}
}

type shimScope struct {
	Type    string      `json:"type"`
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Query   string      `json:"query_string"`
	Headers [][2]string `json:"headers"`
	// Rehearsal is that the shim answers itself.
	Rehearsal bool `json:"rehearsal,omitempty"`
}

// call implements program.
func (s *shim) call(ctx context.Context, scope words.Scope, body io.Reader, to replyWriter) error {
	return s.callOf(ctx, scope, false, body, to)
}

// rehearse does all that a call does, but for the program's part.
func (s *shim) rehearse(ctx context.Context, scope words.Scope, body io.Reader, to replyWriter) error {
	return s.callOf(ctx, scope, true, body, to)
}

func (s *shim) callOf(ctx context.Context, scope words.Scope, rehearsal bool, body io.Reader, to replyWriter) error {
	given := shimScope{
		Type: scope.Type, Method: scope.Method, Path: scope.Path, Query: scope.QueryString, Headers: [][2]string{}, Rehearsal: rehearsal,
	}
	for _, h := range scope.Headers {
		given.Headers = append(given.Headers, [2]string{latin1(h.Name), latin1(h.Value)})
	}
	raw, err := json.Marshal(given)
	if err != nil {
		return fmt.Errorf("encode call: %w", err)
	}
	c, err := s.connect(ctx)
	if err != nil {
		return s.orGone(err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	sent := make(chan error, 1)
	if r, ok := body.(*bytes.Reader); ok && len(raw)+r.Len() < shimPiece/2 {
		sent <- sendBody(c, raw, body) // The socket takes that at once.
	} else {
		go func() { sent <- sendBody(c, raw, body) }()
	}
	end, err := receive(c.r, to)
	if err != nil {
		stop()
		c.Close() // Ends the other direction too, and tells the program.
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.orGone(err)
	}
	// The connection is free when the rest of the body is through; a caller that
	// has its answer does not wait for that.
	free := func(err error) {
		if stop() && err == nil {
			s.release(c)
			return
		}
		c.Close()
	}
	select {
	case err := <-sent:
		free(err)
	default:
		go func() { free(<-sent) }()
	}
	return end.err()
}

// goneGrace is how long a process that broke its connection may take to end.
const goneGrace = time.Second

// orGone tells a broken connection from an ended process.
func (s *shim) orGone(err error) error {
	var refused *writeError
	if errors.As(err, &refused) {
		return err
	}
	select {
	case <-s.ended:
		return fmt.Errorf("%w: %w", errProgramGone, err)
	case <-time.After(goneGrace):
		return err
	}
}

// sendBody sends a scope and the body of the request. A body that comes bit by
// bit is sent so; of one that is there already, as much as fits goes at once.
func sendBody(c io.Writer, scope []byte, body io.Reader) error {
	w := bufio.NewWriterSize(c, shimPiece)
	if err := writeFrame(w, frameCall, scope); err != nil {
		return err
	}
	_, whole := body.(*bytes.Reader)
	var buf []byte
	for {
		if !whole {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("tell the program's process: %w", err)
			}
		}
		if buf == nil {
			buf = make([]byte, pieceOf(body))
		}
		n, err := body.Read(buf)
		if n > 0 {
			if err := writeFrame(w, frameBody, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	err := writeFrame(w, frameEnd, nil)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("tell the program's process: %w", err)
	}
	return nil
}

// pieceOf is how large the pieces of a body should be.
func pieceOf(body io.Reader) int {
	if r, ok := body.(*bytes.Reader); ok {
		return min(max(r.Len(), 1), shimPiece)
	}
	return shimPiece
}

// writeError is that the answer could not be passed on.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// receive passes the program's answer on.
func receive(r *bufio.Reader, to replyWriter) (shimEnd, error) {
	var buf []byte
	for {
		kind, payload, err := readFrame(r, buf)
		if err != nil {
			return shimEnd{}, err
		}
		buf = payload
		switch kind {
		case frameStart:
			err = passStart(payload, to)
		case frameBody:
			_, err = to.Write(payload)
		case frameEnd:
			var end shimEnd
			if err := json.Unmarshal(payload, &end); err != nil {
				return end, fmt.Errorf("read the program's answer: %w", err)
			}
			return end, nil
		default:
			return shimEnd{}, fmt.Errorf("the program's process answered %q", kind)
		}
		if err != nil {
			return shimEnd{}, &writeError{err}
		}
	}
}

func passStart(payload []byte, to replyWriter) error {
	var start struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
	}
	if err := json.Unmarshal(payload, &start); err != nil {
		return fmt.Errorf("read the program's answer: %w", err)
	}
	headers := make([]words.Header, 0, len(start.Headers))
	for _, h := range start.Headers {
		headers = append(headers, words.Header{Name: fromLatin1(h[0]), Value: fromLatin1(h[1])})
	}
	return to.start(start.Status, headers)
}

// latin1 makes text of bytes, each a character.
func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

// fromLatin1 is the inverse of latin1.
func fromLatin1(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

const shimHeader = 5

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	buf := append(make([]byte, 0, shimHeader+len(payload)), kind)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(payload)))
	if _, err := w.Write(append(buf, payload...)); err != nil {
		return fmt.Errorf("tell the program's process: %w", err)
	}
	return nil
}

// readFrame reads a frame, into buf where that is large enough.
func readFrame(r *bufio.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var header [shimHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, fmt.Errorf("hear the program's process: %w", err)
	}
	size := int(binary.BigEndian.Uint32(header[1:]))
	if size > shimFrame {
		return 0, nil, fmt.Errorf("the program's process said %d bytes at once", size)
	}
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, fmt.Errorf("hear the program's process: %w", err)
	}
	return header[0], buf, nil
}
