//go:build !machine

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-yamux/v5"
	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// streams reach the host by its ports, and are reached by it.
type streams interface {
	// Dial opens a stream to a port of the host.
	Dial(ctx context.Context, port uint32) (net.Conn, error)
	// Listen takes the streams to a port of this machine. What is listened to
	// before Run is there from the beginning.
	Listen(port uint32) (net.Listener, error)
	// Run carries the streams until ctx ends. It calls began whenever the host
	// can be reached anew.
	Run(ctx context.Context, began func())
}

// openStreams takes a vsock where the machine has the device, and else the
// virtio-serial port that carries streams.
func openStreams(sys string) (streams, error) {
	if hasVsock(sys) {
		return vsockStreams{}, nil
	}
	device, err := virtioPort(filepath.Join(sys, "class/virtio-ports"), words.StreamsPort)
	if err != nil {
		return nil, fmt.Errorf("neither a vsock nor a port for streams: %w", err)
	}
	port, err := openPort(device)
	if err != nil {
		return nil, err
	}
	return newMuxStreams(port), nil
}

// muxStreams are streams that share one connection to the host, which comes and
// goes: package protocol/guest says how a session begins.
type muxStreams struct {
	port io.ReadWriter

	writing sync.Mutex // Held over a write, so that a new session waits for the last of the old.
	number  int        // Of the session; guarded by writing.

	mu        sync.Mutex
	session   *yamux.Session           // guarded by mu; nil without a host
	listeners map[uint32]*portListener // guarded by mu
}

func newMuxStreams(port io.ReadWriter) *muxStreams {
	return &muxStreams{port: port, listeners: map[uint32]*portListener{}}
}

const (
	portBytes     = 4
	portTimeout   = 10 * time.Second // For the bytes that say where a stream goes.
	listenBacklog = 64
)

var errNoHost = errors.New("no host is connected")

// Dial implements streams.
func (m *muxStreams) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	m.mu.Lock()
	session := m.session
	m.mu.Unlock()
	if session == nil {
		return nil, errNoHost
	}
	s, err := session.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach port %d of the host: %w", port, err)
	}
	if _, err := s.Write(binary.BigEndian.AppendUint32(nil, port)); err != nil {
		return nil, errors.Join(fmt.Errorf("reach port %d of the host: %w", port, err), s.Reset())
	}
	return s, nil
}

// Listen implements streams.
func (m *muxStreams) Listen(port uint32) (net.Listener, error) {
	l := &portListener{streams: m, port: port, conns: make(chan net.Conn, listenBacklog), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[port] != nil {
		return nil, fmt.Errorf("listen to port %d: %w", port, unix.EADDRINUSE)
	}
	m.listeners[port] = l
	return l, nil
}

// Run implements streams. It returns when the port cannot be read any more.
func (m *muxStreams) Run(ctx context.Context, began func()) {
	r := bufio.NewReaderSize(m.port, words.MaxFrame)
	for ctx.Err() == nil {
		nonce, err := words.AwaitHello(r)
		if errors.Is(err, io.EOF) {
			continue // A host that left without a session.
		}
		if err != nil {
			return
		}
		if err := m.serve(r, nonce, began); err != nil {
			return
		}
	}
}

// serve carries one session, to its end.
func (m *muxStreams) serve(r *bufio.Reader, nonce words.Nonce, began func()) error {
	m.writing.Lock()
	m.number++
	conn := &sessionConn{streams: m, number: m.number, r: words.NewSessionReader(r)}
	_, err := m.port.Write(nonce.Line())
	m.writing.Unlock()
	if err != nil {
		return fmt.Errorf("answer the host: %w", err)
	}
	config := yamux.DefaultConfig()
	// A machine that was stopped for a while must not think that its host is gone.
	config.EnableKeepAlive = false
	config.MeasureRTTInterval = 24 * time.Hour
	config.LogOutput = io.Discard
	config.ReadBufSize = 0 // The port has one already.
	session, err := yamux.Server(conn, config, nil)
	if err != nil {
		return fmt.Errorf("begin session: %w", err)
	}
	m.set(session)
	go began()
	for {
		s, err := session.AcceptStream()
		if err != nil {
			break
		}
		go m.route(s)
	}
	m.set(nil)
	// Returns when nobody reads the port any more.
	_ = session.Close()
	if p, ok := m.port.(interruptible); ok {
		p.resume()
	}
	return nil
}

func (m *muxStreams) set(s *yamux.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
}

// route gives a stream to who listens where it goes.
func (m *muxStreams) route(s *yamux.Stream) {
	var port [portBytes]byte
	_ = s.SetReadDeadline(time.Now().Add(portTimeout))
	if _, err := io.ReadFull(s, port[:]); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.SetReadDeadline(time.Time{})
	m.mu.Lock()
	l := m.listeners[binary.BigEndian.Uint32(port[:])]
	m.mu.Unlock()
	if l == nil {
		_ = s.Reset()
		return
	}
	select {
	case l.conns <- s:
	default: // Nobody takes them.
		_ = s.Reset()
	}
}

// portListener takes the streams to a port.
type portListener struct {
	streams *muxStreams
	port    uint32
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

// Accept implements net.Listener.
func (l *portListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *portListener) Close() error {
	l.once.Do(func() {
		l.streams.mu.Lock()
		delete(l.streams.listeners, l.port)
		l.streams.mu.Unlock()
		close(l.done)
	})
	return nil
}

// Addr implements net.Listener.
func (l *portListener) Addr() net.Addr { return portAddr{} }

type portAddr struct{}

func (portAddr) Network() string { return "virtio" }
func (portAddr) String() string  { return words.StreamsPort }

// interruptible is a port with reads that can be ended.
type interruptible interface {
	interrupt() // Ends reads, until resume.
	resume()
}

// sessionConn is the port, for one session. It never closes the port.
type sessionConn struct {
	streams *muxStreams
	number  int
	r       *words.SessionReader
}

// Read implements net.Conn.
func (c *sessionConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Write implements net.Conn. What is left to say in a session that has ended is
// not said in the next.
func (c *sessionConn) Write(p []byte) (int, error) {
	c.streams.writing.Lock()
	defer c.streams.writing.Unlock()
	if c.streams.number != c.number {
		return 0, net.ErrClosed
	}
	return c.streams.port.Write(p)
}

// Close implements net.Conn. It ends a read that waits.
func (c *sessionConn) Close() error {
	if p, ok := c.streams.port.(interruptible); ok {
		p.interrupt()
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *sessionConn) LocalAddr() net.Addr { return portAddr{} }

// RemoteAddr implements net.Conn.
func (c *sessionConn) RemoteAddr() net.Addr { return portAddr{} }

// SetDeadline implements net.Conn.
func (c *sessionConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *sessionConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (c *sessionConn) SetWriteDeadline(time.Time) error { return nil }

// virtioFile is a virtio port that the runtime's poller waits for, so that no
// thread does: with one processor every other goroutine would wait too, until the
// runtime notices. The poller is told of changes only, thus a port without a host,
// which can always be read, does not keep it busy.
type virtioFile struct {
	*os.File
	raw  syscall.RawConn
	host bool // Something was read since the last host left.
}

func openPort(device string) (*virtioFile, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	return newVirtioFile(os.NewFile(uintptr(fd), device))
}

func newVirtioFile(f *os.File) (*virtioFile, error) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // Fails for what cannot be waited for.
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for %s: %w", f.Name(), err), f.Close())
	}
	return &virtioFile{File: f, raw: raw}, nil
}

// Read implements io.Reader. When the host leaves it gives io.EOF, once; after
// that it waits for another.
func (f *virtioFile) Read(p []byte) (n int, err error) {
	waited := f.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = unix.Read(int(fd), p); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		return n > 0 || err == nil && f.host || err != nil && !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case waited != nil:
		return 0, fmt.Errorf("wait for the host: %w", waited)
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		f.host = false
		return 0, io.EOF
	}
	f.host = true
	return n, nil
}

func (f *virtioFile) interrupt() { _ = f.SetReadDeadline(time.Unix(1, 0)) }

func (f *virtioFile) resume() { _ = f.SetReadDeadline(time.Time{}) }
