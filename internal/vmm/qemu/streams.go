package qemu

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	// streamsPerGuest bounds the streams that a guest has open to the host. A
	// stream that nobody reads keeps streamBytes in memory, so all of them
	// keep 16 MiB.
	streamsPerGuest = 64
	streamBytes     = 256 << 10
	// streamsWaiting is how many of one port nobody has taken yet.
	streamsWaiting = 16
	// portMax is how long a guest may take to say which port a stream is for.
	portMax = 10 * time.Second
	// stallMax is how long a guest may leave what it is sent: a loaded host
	// translates slowly.
	stallMax = time.Minute
	// answerMax is how long a guest may take to begin a session. What it was sent
	// may have ended in a frame of the session before: it forgets that while the
	// host is away, for redialPause. A guest that boots takes longer, and is
	// greeted again.
	answerMax   = 30 * time.Second
	redialPause = time.Second
	// staleBytes bounds what of an old session a guest may still send.
	staleBytes = 16 << 20
)

// streams multiplexes streams over one virtio-serial port. It makes its session
// when it is first used, and another whenever that ends.
type streams struct {
	connect func(ctx context.Context) (net.Conn, error)

	once   sync.Once
	ctx    context.Context //nolint:containedctx // Ends with the machine; a session belongs to no call.
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	resumed   net.Conn                   // Carries a session that the guest is in the middle of; nil for none; guarded by mu
	session   *yamux.Session             // nil while there is none; guarded by mu
	changed   chan struct{}              // closed when session changes; guarded by mu
	listeners map[uint32]*streamListener // guarded by mu
}

// newStreams returns streams over what connect connects to. They outlive ctx.
func newStreams(ctx context.Context, connect func(ctx context.Context) (net.Conn, error)) *streams {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &streams{connect: connect, ctx: ctx, cancel: cancel, changed: make(chan struct{}), listeners: map[uint32]*streamListener{}}
}

// close ends all streams and listeners.
func (s *streams) close() error {
	s.cancel()
	s.once.Do(func() {}) // Nothing begins any more.
	s.done.Wait()
	s.mu.Lock()
	if s.resumed != nil {
		_ = s.resumed.Close() // Nobody has used it.
	}
	all := s.listeners
	s.listeners = map[uint32]*streamListener{}
	s.mu.Unlock()
	for _, l := range all {
		l.end()
	}
	return nil
}

// resume makes the first session the one that the guest has from a snapshot, in
// which there are no streams. It is called before the guest runs and before the
// first use.
func (s *streams) resume(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed = conn
}

// areQuiet reports whether there is a session, and no stream in it.
func (s *streams) areQuiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session != nil && s.session.NumStreams() == 0
}

// open returns a connection on which the guest is in a session.
func (s *streams) open() (net.Conn, error) {
	s.mu.Lock()
	conn := s.resumed
	s.resumed = nil
	s.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	conn, err := s.connect(s.ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer stop()
	greeted, err := greet(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return greeted, nil
}

// begin starts to make sessions.
func (s *streams) begin() {
	s.once.Do(func() { s.done.Go(s.run) })
}

// run keeps a session until the machine ends.
func (s *streams) run() {
	for s.ctx.Err() == nil {
		// The reason is the guest's affair: a machine that has ended says so
		// itself, and whoever waits for a stream has a deadline.
		_ = s.serve()
		select {
		case <-s.ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

// serve makes one session and takes in streams until it ends.
func (s *streams) serve() error {
	conn, err := s.open()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	session, err := yamux.Client(conn, sessionConfig(), nil)
	if err != nil {
		return fmt.Errorf("begin session: %w", err)
	}
	defer session.Close()
	s.set(session)
	defer s.set(nil)
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return fmt.Errorf("take stream: %w", err)
		}
		streams.Go(func() { s.take(stream) })
	}
}

// set makes a session the one in use, or none.
func (s *streams) set(session *yamux.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = session
	close(s.changed)
	s.changed = make(chan struct{})
}

// sessionConfig bounds what a guest can make the host keep.
func sessionConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = streamsPerGuest
	c.EnableKeepAlive = false // The port ends with the process.
	c.MeasureRTTInterval = time.Hour
	c.ConnectionWriteTimeout = stallMax
	c.MaxIncomingStreams = streamsPerGuest
	c.MaxStreamWindowSize = streamBytes
	c.LogOutput = io.Discard
	c.WriteCoalesceDelay = 0 // A call is a few small frames, and waits for each.
	return c
}

// greet begins a session with whatever the guest was in the middle of.
func greet(conn net.Conn) (net.Conn, error) {
	if err := conn.SetReadDeadline(time.Now().Add(answerMax)); err != nil {
		return nil, fmt.Errorf("greet guest: %w", err)
	}
	var nonce guest.Nonce
	_, _ = rand.Read(nonce[:]) // Never fails.
	if _, err := conn.Write(nonce.Hello()); err != nil {
		return nil, fmt.Errorf("greet guest: %w", err)
	}
	r := bufio.NewReader(conn)
	if err := guest.AwaitAnswer(r, nonce, staleBytes); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("greet guest: %w", err)
	}
	return &bufferedConn{Conn: conn, r: r}, nil
}

// bufferedConn is a connection of which some was read already.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// take gives a stream of the guest to the listener of its port.
func (s *streams) take(stream *yamux.Stream) {
	_ = stream.SetReadDeadline(time.Now().Add(portMax)) // A stream that has ended fails the read.
	var head [4]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.SetReadDeadline(time.Time{})
	s.mu.Lock()
	l := s.listeners[binary.BigEndian.Uint32(head[:])]
	s.mu.Unlock()
	if l == nil || !l.offer(stream) {
		_ = stream.Reset()
	}
}

// Dial implements vmm.Streamer.
func (s *streams) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	s.begin()
	for {
		s.mu.Lock()
		session, changed := s.session, s.changed
		s.mu.Unlock()
		if session != nil {
			conn, err := dialOn(ctx, session, port)
			if err == nil || ctx.Err() != nil || !session.IsClosed() {
				return conn, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial port %d of the guest: %w", port, context.Cause(ctx))
		case <-s.ctx.Done():
			return nil, errs.New(errs.Unavailable, "dial port %d of the guest: the machine has ended", port)
		}
	}
}

func dialOn(ctx context.Context, session *yamux.Session, port uint32) (net.Conn, error) {
	stream, err := session.OpenStream(ctx)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open stream to the guest: %w", err)
	}
	if _, err := stream.Write(binary.BigEndian.AppendUint32(nil, port)); err != nil {
		_ = stream.Reset()
		return nil, errs.New(errs.Unavailable, "open stream to port %d of the guest: %w", port, err)
	}
	return stream, nil
}

// Listen implements vmm.Streamer.
func (s *streams) Listen(port uint32) (net.Listener, error) {
	l := &streamListener{s: s, port: port, streams: make(chan net.Conn, streamsWaiting), ended: make(chan struct{})}
	s.mu.Lock()
	_, taken := s.listeners[port]
	over := s.ctx.Err() != nil
	if !taken && !over {
		s.listeners[port] = l
	}
	s.mu.Unlock()
	switch {
	case over:
		return nil, errs.New(errs.Unavailable, "listen on port %d for the guest: the machine has ended", port)
	case taken:
		return nil, errs.New(errs.Conflict, "port %d is listened on already", port)
	}
	s.begin()
	return l, nil
}

// streamListener takes the streams of one port.
type streamListener struct {
	s       *streams
	port    uint32
	streams chan net.Conn

	mu    sync.Mutex
	over  bool // guarded by mu
	ended chan struct{}
}

// offer reports whether the listener takes the stream.
func (l *streamListener) offer(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	select {
	case l.streams <- c:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (l *streamListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.streams:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *streamListener) Close() error {
	l.s.mu.Lock()
	if l.s.listeners[l.port] == l {
		delete(l.s.listeners, l.port)
	}
	l.s.mu.Unlock()
	l.end()
	return nil
}

func (l *streamListener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	for {
		select {
		case c := <-l.streams:
			_ = c.Close() // Nobody will read it.
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *streamListener) Addr() net.Addr { return portAddr(l.port) }

type portAddr uint32

func (portAddr) Network() string  { return "streams" }
func (p portAddr) String() string { return fmt.Sprint(uint32(p)) }
