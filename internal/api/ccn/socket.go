package ccn

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// readBuffer and writeBuffer are the buffers of a socket. What is longer is
	// read and written past them.
	readBuffer, writeBuffer = 128, 512
	// queueMax and queueBytesMax bound what a client has not read yet.
	queueMax, queueBytesMax = 4096, 16 << 20
	// writeTimeout bounds how long one message may take to be sent, and
	// closeTimeout how long a client may take to hear that it is let go.
	writeTimeout, closeTimeout = 10 * time.Second, 500 * time.Millisecond
	// pongTimeout is how long a client may take to show that it is there.
	pongTimeout = 20 * time.Second
	// saidMax and saidBytesMax bound what a client may send between two pings:
	// nobody reads it, but some clients send a word to keep the connection open.
	saidMax, saidBytesMax = 64, 4 << 10
	// reasonMax bounds the reason in a frame that closes.
	reasonMax = 123
)

// The codes with which sockets are closed.
const (
	codeLeaving = websocket.StatusGoingAway
	codeInvalid = websocket.StatusPolicyViolation
	codeFailed  = websocket.StatusInternalError
	codeBusy    = websocket.StatusTryAgainLater
)

// farewell is why a socket is closed.
type farewell struct {
	code   websocket.StatusCode
	reason string
}

func leaving() farewell { return farewell{codeLeaving, "The node stops"} }

// slow is said to a client that does not read what it is sent.
func slow() farewell { return farewell{codeBusy, "Too slow"} }

// socket is a client that listens. One goroutine waits for what the client says;
// another is there only while something is to be written.
type socket struct {
	topic topic
	turn  int         // Second of the pings.
	want  *liveWanted // nil of a socket that listens to the status.
	told  []byte      // The last status. Guarded by the hub's mu.
	said  atomic.Int32
	work  *sync.WaitGroup

	// conn is nil, and raw too, until the request has been upgraded.
	conn *websocket.Conn
	raw  net.Conn // Set with mu held.

	mu      sync.Mutex
	queue   []frame   // guarded by mu
	bytes   int       // Of queue; guarded by mu
	past    int64     // Messages up to this one are in the history; guarded by mu
	writing bool      // Somebody takes from queue; guarded by mu
	bye     *farewell // guarded by mu
}

// frame is what is to be sent. Its bytes are shared by all who get them.
type frame struct {
	raw []byte
	id  int64 // Of the message; 0 if it is none.
}

// takeover gives the connection of a request to a socket, with small buffers:
// those of a request are many times of what a socket needs that waits.
type takeover struct {
	http.ResponseWriter
	raw net.Conn
}

// Hijack implements http.Hijacker.
func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() > 0 {
		conn.Close()
		return nil, nil, errs.New(errs.Invalid, "the client spoke before the connection was upgraded")
	}
	// The deadlines are those of a request.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, nil, err
	}
	t.raw = conn
	return conn, bufio.NewReadWriter(bufio.NewReaderSize(conn, readBuffer), bufio.NewWriterSize(conn, writeBuffer)), nil
}

// newSocket returns a socket that has no connection yet.
func (s *Server) newSocket(to topic, want *liveWanted) *socket {
	return &socket{topic: to, want: want, work: &s.live.work, writing: true}
}

// upgrade gives the connection of a request to a socket. If it cannot, it has
// answered the request and returns false.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, k *socket) bool {
	t := &takeover{ResponseWriter: w}
	conn, err := websocket.Accept(t, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.log.Debug("connection not upgraded", "path", r.URL.Path, "err", err)
		return false
	}
	conn.SetReadLimit(saidBytesMax)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn, k.raw = conn, t.raw
	return true
}

// close ends the connection with a reason. It takes no longer than closeTimeout.
func (k *socket) close(f farewell) {
	_ = k.raw.SetDeadline(time.Now().Add(closeTimeout))
	reason := f.reason[:min(len(f.reason), reasonMax)]
	for !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	_ = k.conn.Close(f.code, reason) // Whether it hears why or not, it is gone.
}

// drop lets a client go as soon as what is being written is.
func (k *socket) drop(ctx context.Context, f farewell) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bye != nil {
		return
	}
	k.bye = &f
	switch {
	case k.raw == nil: // Who upgrades it closes it.
		return
	case k.writing:
		_ = k.raw.SetWriteDeadline(time.Now().Add(closeTimeout))
		return
	}
	k.start(ctx)
}

// start lets a goroutine write. The caller holds mu.
func (k *socket) start(ctx context.Context) {
	k.writing = true
	k.work.Go(func() { k.drain(ctx) })
}

// push puts a frame in the queue, or lets a client go whose queue is full.
func (k *socket) push(ctx context.Context, raw []byte, id int64) {
	k.mu.Lock()
	if k.bye != nil || id != 0 && id <= k.past {
		k.mu.Unlock()
		return
	}
	if len(k.queue) >= queueMax || k.bytes+len(raw) > queueBytesMax {
		k.mu.Unlock()
		k.drop(ctx, slow())
		return
	}
	defer k.mu.Unlock()
	k.queue = append(k.queue, frame{raw, id})
	k.bytes += len(raw)
	if !k.writing {
		k.start(ctx)
	}
}

// pass says that messages up to one are in the history, or are none of it.
func (k *socket) pass(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.past = id
	for len(k.queue) > 0 && k.queue[0].id <= id {
		k.bytes -= len(k.queue[0].raw)
		k.queue = k.queue[1:]
	}
}

// next takes a frame from the queue; ok is false if there is none, and who asked
// writes no more.
func (k *socket) next() (raw []byte, bye *farewell, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.bye != nil:
		k.queue = nil
		return nil, k.bye, true
	case len(k.queue) == 0:
		k.queue, k.writing = nil, false
		return nil, nil, false
	}
	raw = k.queue[0].raw
	k.bytes -= len(raw)
	k.queue[0] = frame{}
	k.queue = k.queue[1:]
	return raw, nil, true
}

// ended reports whether the client is let go.
func (k *socket) ended() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bye != nil
}

// drain writes what is in the queue. No context ends it, since a connection whose
// write is broken off cannot say why it is closed.
func (k *socket) drain(ctx context.Context) {
	for {
		raw, bye, ok := k.next()
		switch {
		case !ok:
			return
		case bye != nil:
			k.close(*bye)
			return
		case !k.write(ctx, raw):
			return
		}
	}
}

// write sends a frame, and reports whether there may be more. A connection on
// which it failed is closed, which who reads it notices.
func (k *socket) write(ctx context.Context, raw []byte) bool {
	k.mu.Lock()
	if k.bye == nil {
		_ = k.raw.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	k.mu.Unlock()
	if err := k.conn.Write(ctx, websocket.MessageText, raw); err != nil {
		_ = k.conn.CloseNow()
		return false
	}
	return true
}

// read waits for what the client says until the connection ends. Words are thrown
// away.
func (k *socket) read(ctx context.Context) {
	for {
		_, r, err := k.conn.Reader(ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			_ = k.conn.CloseNow()
			return
		}
		if k.said.Add(1) > saidMax {
			k.drop(ctx, farewell{codeInvalid, "Nobody listens to what clients say here"})
			return
		}
	}
}

// ping asks the client whether it is there, and closes the connection if not.
func (k *socket) ping(ctx context.Context, within time.Duration) {
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if conn == nil {
		return
	}
	k.said.Store(0)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		_ = conn.CloseNow()
	}
}
