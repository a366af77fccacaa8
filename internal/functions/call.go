package functions

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// errGone is that a machine ended before a call of it began.
var errGone = errors.New("the machine has ended")

// headBytes is what a Run takes beside its body, at most: a server bounds what
// it reads of headers to as much.
const headBytes = 1 << 20

// Headers that tell which program has answered.
const (
	HeaderProgram = "Aleph-Program-Itemhash"
	HeaderCode    = "Aleph-Program-Code-Ref"
)

// hopHeaders are of one connection and go no further.
var hopHeaders = map[string]bool{ //nolint:gochecknoglobals // A constant.
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
}

// serve calls the program with a request. When it gives no error, the call is
// released with the body of the reply.
func (m *machine) serve(ctx context.Context, r *http.Request) (*http.Response, error) {
	scope := scopeOf(r)
	stream := m.ready.Has(guest.FeatureStream)
	if !stream && r.Body != nil {
		var err error
		if scope.Body, err = io.ReadAll(io.LimitReader(r.Body, guest.MaxRun-headBytes+1)); err != nil {
			return nil, fault(http.StatusBadRequest, "Request body could not be read", err)
		}
		if len(scope.Body) > guest.MaxRun-headBytes {
			return nil, fault(http.StatusRequestEntityTooLarge, textBody, nil)
		}
	}
	c, err := m.open(ctx, guest.Run{Scope: scope, Stream: stream})
	if err != nil {
		return nil, err
	}
	if stream {
		c.send(r.Body)
	}
	reply, err := c.reply()
	if err != nil {
		c.close()
		return nil, err
	}
	if reply.Status == 0 {
		c.close()
		return nil, fault(http.StatusBadGateway, textGarbage, errors.New("reply has no status"))
	}
	return m.response(r, c, reply, stream), nil
}

// response makes the reply of a program one to an HTTP request.
func (m *machine) response(r *http.Request, c *call, reply guest.Reply, stream bool) *http.Response {
	resp := &http.Response{
		Status: fmt.Sprintf("%d %s", reply.Status, http.StatusText(reply.Status)), StatusCode: reply.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, ContentLength: -1, Request: r,
	}
	for _, h := range reply.Headers {
		name, value := string(h.Name), string(h.Value)
		if hopHeaders[strings.ToLower(name)] || !validHeader(name, value) {
			continue
		}
		resp.Header.Add(name, value)
	}
	resp.Header.Set(HeaderProgram, string(m.plan.spec))
	resp.Header.Set(HeaderCode, string(m.plan.code.Hash))
	var body io.Reader = bytes.NewReader(reply.Body)
	if stream {
		body = &tail{call: c, frames: guest.NewBodyReader(c.r)}
		if n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
			resp.ContentLength = n
		}
	} else {
		resp.ContentLength = int64(len(reply.Body))
		if r.Method != http.MethodHead {
			resp.Header.Set("Content-Length", strconv.Itoa(len(reply.Body)))
		}
	}
	resp.Body = &closer{readCloser: struct {
		io.Reader
		io.Closer
	}{body, c}, after: m.release}
	return resp
}

// validHeader keeps what would end a header early out of it.
func validHeader(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, " \t\r\n:\x00") && !strings.ContainsAny(value, "\r\n\x00")
}

// scopeOf is a request as the program sees it, without its body.
func scopeOf(r *http.Request) guest.Scope {
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	s := guest.Scope{Type: guest.TypeHTTP, Path: path, Method: r.Method, QueryString: r.URL.RawQuery}
	if r.Host != "" && r.Header.Get("Host") == "" {
		s.Headers = append(s.Headers, guest.Header{Name: []byte("host"), Value: []byte(r.Host)})
	}
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		if hopHeaders[lower] {
			continue
		}
		for _, v := range values {
			s.Headers = append(s.Headers, guest.Header{Name: []byte(lower), Value: []byte(v)})
		}
	}
	if r.ContentLength > 0 && r.Header.Get("Content-Length") == "" {
		s.Headers = append(s.Headers, guest.Header{Name: []byte("content-length"), Value: strconv.AppendInt(nil, r.ContentLength, 10)})
	}
	return s
}

// notify calls the program with a message, and returns what it answered.
func (m *machine) notify(ctx context.Context, message []byte) (guest.Reply, error) {
	c, err := m.open(ctx, guest.Run{Scope: guest.Scope{Type: guest.TypeEvent, Body: message}})
	if err != nil {
		return guest.Reply{}, err
	}
	defer c.close()
	return c.reply()
}

// call is a call that runs.
type call struct {
	m      *machine
	ctx    context.Context //nolint:containedctx // Of the one who called: a reply's body has none.
	cancel context.CancelFunc
	conn   net.Conn
	r      *bufio.Reader
	sent   chan struct{} // Closed when the request's body is sent or given up.
}

// open begins a call, which may last as long as the program says.
func (m *machine) open(ctx context.Context, run guest.Run) (*call, error) {
	raw, err := run.Encode()
	if err != nil {
		return nil, fault(http.StatusRequestEntityTooLarge, textBody, err)
	}
	most := time.Duration(min(m.plan.program.Resources.Seconds, int64(callMax/time.Second))) * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, most, errTimeout)
	conn, err := m.streams.Dial(ctx, guest.PortRun)
	if err != nil {
		defer cancel()
		switch {
		case errors.Is(context.Cause(ctx), errTimeout):
			return nil, fault(http.StatusGatewayTimeout, textTimeout, err)
		case ctx.Err() != nil:
			return nil, err
		}
		return nil, errors.Join(errGone, err)
	}
	c := &call{m: m, ctx: ctx, conn: conn, r: bufio.NewReader(conn), sent: make(chan struct{})}
	// The deadline ends what is read and written, without a race with a close.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	c.cancel = func() { stop(); cancel() }
	if _, err := conn.Write(raw); err != nil {
		c.close()
		return nil, errors.Join(errGone, err)
	}
	if !run.Stream {
		close(c.sent)
	}
	return c, nil
}

// callMax bounds a call whose program says that it may take years.
const callMax = 24 * time.Hour

var errTimeout = errors.New("the program's time is over")

// send sends the body of a request beside everything else: a program may
// answer before it has read all of it.
func (c *call) send(body io.Reader) {
	c.m.e.s.work.Go(func() {
		defer close(c.sent)
		w := guest.NewBodyWriter(c.conn)
		if body != nil {
			if _, err := io.Copy(w, body); err != nil {
				// Either the guest wants no more, or the client is gone: then
				// the call is, too.
				return
			}
		}
		_ = w.Close() // A guest that wants no more has closed the stream.
	})
}

// reply reads the reply, or what it says in place of one.
func (c *call) reply() (guest.Reply, error) {
	if _, err := c.r.Peek(1); err != nil {
		return guest.Reply{}, c.broken(err)
	}
	reply, err := guest.ReadReply(c.r)
	switch {
	case c.ctx.Err() != nil:
		return reply, c.broken(err)
	case err != nil:
		return reply, fault(http.StatusBadGateway, textGarbage, err)
	case reply.Failed:
		text := reply.Traceback
		if text == "" {
			text = reply.Error
		}
		return reply, &Fault{Status: http.StatusInternalServerError, Text: text, Plain: true}
	}
	return reply, nil
}

// broken says why there is no reply: a guest that closes the stream without a
// word has lost its program: its machine is ended, after the calls that still run.
func (c *call) broken(err error) error {
	switch {
	case errors.Is(context.Cause(c.ctx), errTimeout):
		return fault(http.StatusGatewayTimeout, textTimeout, nil)
	case c.ctx.Err() != nil:
		return fmt.Errorf("call program: %w", context.Cause(c.ctx))
	}
	c.m.end()
	return fault(http.StatusBadGateway, textNoAnswer, err)
}

// Close implements io.Closer.
func (c *call) Close() error {
	c.close()
	return nil
}

func (c *call) close() {
	c.cancel()
	// A reset, so that a guest that still works for nobody hears of it.
	if r, ok := c.conn.(interface{ Reset() error }); ok {
		_ = r.Reset()
	}
	_ = c.conn.Close()
}

// tail is the body of a streamed reply.
type tail struct {
	call   *call
	frames *guest.BodyReader
	err    error
}

// Read implements io.Reader.
func (t *tail) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.frames.Read(p)
	switch {
	case err == nil:
	case t.call.ctx.Err() != nil:
		t.err = fmt.Errorf("read reply: %w", context.Cause(t.call.ctx))
	case errors.Is(err, io.EOF):
		t.err = t.last()
	default:
		t.err = fmt.Errorf("read reply: %w", err)
	}
	return n, t.err
}

// last reads what is behind the body: whether the program came to its end.
func (t *tail) last() error {
	reply, err := guest.ReadReply(t.call.r)
	switch {
	case err != nil:
		return fmt.Errorf("read end of reply: %w", err)
	case reply.Failed:
		return fmt.Errorf("the program failed in the middle of its reply: %s", reply.Error)
	}
	return io.EOF
}
