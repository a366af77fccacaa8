package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	// okBytesMax bounds the line by which Firecracker says that a guest took a
	// stream: "OK 4294967295\n".
	okBytesMax = 32
	// connectMax bounds one attempt to reach a port: Firecracker gives a guest
	// two seconds.
	connectMax = 5 * time.Second
)

// errRefused is that nobody listens on a port of the guest, or not yet.
var errRefused = errors.New("the guest does not take the stream")

// functionMachine is a machine with streams.
type functionMachine struct{ *machine }

// streams is what a machine has of the ports of its vsock.
type streams struct {
	mu        sync.Mutex
	ended     bool                     // guarded by mu
	reached   bool                     // The guest has taken a stream, so it has booted; guarded by mu
	listeners map[uint32]*portListener // guarded by mu
}

// close ends all listeners.
func (s *streams) close() {
	s.mu.Lock()
	s.ended = true
	all := s.listeners
	s.listeners = map[uint32]*portListener{}
	s.mu.Unlock()
	for _, l := range all {
		_ = l.Listener.Close() // Nobody listens any more.
	}
}

// connectPort opens a stream to a port of the guest, once.
func (m *machine) connectPort(ctx context.Context, port uint32) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	conn, err := dialIn(ctx, m.root, vsockSocket)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "reach the guest of machine %s: %w", m.rec.ID, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // What is closed needs none.
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			conn.Close()
		}
	}()
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return nil, errs.New(errs.Unavailable, "open stream to port %d of the guest: %w", port, err)
	}
	line, err := readLine(conn)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open stream to port %d of the guest: %w: %w", port, errRefused, err)
	}
	if !strings.HasPrefix(line, "OK ") {
		return nil, errs.New(errs.Unavailable, "open stream to port %d of the guest: Firecracker says %q", port, line)
	}
	m.streams.mu.Lock()
	m.streams.reached = true
	m.streams.mu.Unlock()
	return conn, nil
}

// readLine reads a line and not a byte more: what follows is the guest's.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < okBytesMax; {
		if _, err := io.ReadFull(r, one); err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
	return "", fmt.Errorf("the answer %q has no end", line)
}

// Dial implements vmm.Streamer.
func (m functionMachine) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	for pause := connectPoll; ; pause = min(2*pause, agentPauseMax) {
		conn, err := m.connectPort(ctx, port)
		if err == nil {
			return conn, nil
		}
		m.streams.mu.Lock()
		reached := m.streams.reached
		m.streams.mu.Unlock()
		switch {
		case m.proc.HasEnded() || m.alive() != nil:
			return nil, errs.New(errs.Unavailable, "dial port %d of the guest: the machine has ended", port)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("dial port %d of the guest: %w: %w", port, context.Cause(ctx), err)
		case reached && isRefused(err):
			// The guest has booted, and nobody listens there.
			return closedConn(), nil
		}
		select {
		case <-m.done:
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// isRefused looks for errRefused below the kind that hides it.
func isRefused(err error) bool { return errors.Is(err, errRefused) }

// closedConn is a stream whose other end is closed.
func closedConn() net.Conn {
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours
}

// bindPorts listens on the ports to which a guest opens streams as soon as it has
// booted. They wait there until somebody takes them.
func (m *machine) bindPorts(ctx context.Context) error {
	for _, port := range []uint32{guest.PortRun, guest.PortAPI} {
		if _, err := m.bind(ctx, port); err != nil {
			return err
		}
	}
	return nil
}

// bind makes the socket of a port.
func (m *machine) bind(ctx context.Context, port uint32) (*portListener, error) {
	p := &portListener{m: m, port: port}
	err := within(m.root, func(dir string) (err error) {
		p.Listener, err = listenFor(ctx, dir, filepath.Join(dir, fmt.Sprintf("%s_%d", vsockSocket, port)))
		return err
	})
	if err != nil {
		return nil, errs.New(errs.Unavailable, "listen on port %d for the guest: %w", port, err)
	}
	m.streams.listeners[port] = p
	return p, nil
}

// listenFor makes a socket that whoever owns the directory can reach.
func listenFor(ctx context.Context, dir, path string) (net.Listener, error) {
	// One of an earlier daemon hears nothing any more.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at jail: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	uid, gid := ownerOf(info)
	if err := os.Chown(path, uid, gid); err != nil {
		l.Close()
		return nil, fmt.Errorf("let the machine's user reach the socket: %w", err)
	}
	// Its path is another's when it is closed; its file goes with the jail.
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// Listen implements vmm.Streamer.
func (m functionMachine) Listen(port uint32) (net.Listener, error) {
	m.streams.mu.Lock()
	defer m.streams.mu.Unlock()
	l := m.streams.listeners[port]
	switch {
	case m.streams.ended || m.alive() != nil:
		return nil, errs.New(errs.Unavailable, "listen on port %d for the guest: the machine has ended", port)
	case l != nil && l.taken:
		return nil, errs.New(errs.Conflict, "port %d is listened on already", port)
	case l == nil:
		ctx, cancel := context.WithTimeout(context.Background(), connectMax) //nolint:forbidigo // The interface has no context, and a socket is made at once.
		defer cancel()
		var err error
		if l, err = m.bind(ctx, port); err != nil {
			return nil, err
		}
	}
	l.taken = true
	return l, nil
}

// portListener takes the streams of one port.
type portListener struct {
	net.Listener
	m     *machine
	port  uint32
	taken bool // guarded by streams.mu
}

// Accept implements net.Listener.
func (l *portListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // A listener's errors are net's.
	}
	l.m.streams.mu.Lock()
	l.m.streams.reached = true
	l.m.streams.mu.Unlock()
	return c, nil
}

// Close implements net.Listener.
func (l *portListener) Close() error {
	l.m.streams.mu.Lock()
	defer l.m.streams.mu.Unlock()
	if l.m.streams.listeners[l.port] == l {
		delete(l.m.streams.listeners, l.port)
	}
	return l.Listener.Close() //nolint:wrapcheck // As above.
}

// Addr implements net.Listener.
func (l *portListener) Addr() net.Addr { return portAddr(l.port) }

type portAddr uint32

func (portAddr) Network() string  { return "vsock" }
func (p portAddr) String() string { return fmt.Sprint(uint32(p)) }
