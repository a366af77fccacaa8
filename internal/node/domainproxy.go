package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// machineDial and machineMax bound how long machines take to be reached and to begin
	// an answer; connections to them are kept for machineIdle.
	machineDial = 5 * time.Second
	machineMax  = 10 * time.Minute
	machineIdle = time.Minute
	// visitsEach and visitsMax bound the requests that one machine and all of them answer
	// at the same time, beside those of the node itself.
	visitsEach, visitsMax = 128, 1024
)

// machineProxy passes requests on to machines.
type machineProxy struct {
	log    *slog.Logger
	visits *domains.Crowd[message.ItemHash]
	idle   time.Duration // A client may leave bytes unread, or send none of those announced.
	quiet  time.Duration // Neither end may say anything: machines think before they answer.
}

func newMachineProxy(log *slog.Logger) *machineProxy {
	return &machineProxy{
		log: log, visits: domains.NewCrowd[message.ItemHash](visitsEach, visitsMax), idle: api.StreamIdle, quiet: machineMax + api.StreamIdle,
	}
}

// toMachines connects to machines, directly and by no proxy.
var toMachines = &http.Transport{ //nolint:gochecknoglobals // Connections that are kept, for all requests.
	DialContext: (&net.Dialer{Timeout: machineDial}).DialContext, ResponseHeaderTimeout: machineMax, MaxIdleConnsPerHost: 4, IdleConnTimeout: machineIdle,
	DisableCompression: true,
}

// pass has a request answered by the machine that the way leads to.
func (p *machineProxy) pass(w http.ResponseWriter, r *http.Request, way domains.Way) {
	if err := api.Move(w, func() (func(), error) { return p.visits.Enter(way.Spec) }); err != nil {
		api.Refuse(p.log, w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	v := &visit{rc: http.NewResponseController(w), idle: p.idle, quiet: p.quiet, ctx: ctx, end: time.AfterFunc(p.quiet, cancel)}
	defer v.over()
	if r.ContentLength == 0 {
		v.isRead()
	}
	r = r.WithContext(ctx)
	r.Body = visitBody{r.Body, v}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { lead(r, way.To) },
		Transport:     toMachines,
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.log.Debug("machine does not answer", "domain", r.Host, "err", err)
			api.Refuse(p.log, w, r, errs.New(errs.Unavailable, "the machine of this domain does not answer"))
		},
	}
	proxy.ServeHTTP(visitAnswer{w, v}, r)
}

// lead makes of a request that of a machine. A proxy on this host, where TLS may end,
// is believed what it says of the client; nobody else is.
func lead(r *httputil.ProxyRequest, to netip.AddrPort) {
	r.SetURL(&url.URL{Scheme: "http", Host: to.String()})
	r.Out.Host = r.In.Host
	from, err := netip.ParseAddrPort(r.In.RemoteAddr)
	front := err == nil && from.Addr().Unmap().IsLoopback()
	if front {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	}
	r.SetXForwarded()
	if front && r.In.Header.Get("X-Forwarded-Proto") == "https" {
		r.Out.Header.Set("X-Forwarded-Proto", "https")
	}
}

// visit is a request that a machine answers. The times of the server are for the
// node's own answers. It ends a request when reading the connection fails, also for a
// deadline that was left from the body, while the machine still thinks.
type visit struct {
	rc          *http.ResponseController
	idle, quiet time.Duration
	ctx         context.Context //nolint:containedctx // Ends the connection when protocols were switched.
	end         *time.Timer     // Ends the request when nobody says anything.
	closed      atomic.Bool     // Nobody reads it any more.
}

// said gives both ends their time anew.
func (v *visit) said() { v.end.Reset(v.quiet) }

// isRead says that the client has nothing more to say, and may wait for the answer.
func (v *visit) isRead() {
	_ = v.rc.SetReadDeadline(time.Time{}) // A connection that is gone says so when it is used.
	_ = v.rc.SetWriteDeadline(time.Now().Add(v.quiet))
}

// over leaves the connection to the server, which reads what is left of the body and
// ends the answer.
func (v *visit) over() {
	v.end.Stop()
	v.closed.Store(true)
	_ = v.rc.SetWriteDeadline(time.Now().Add(v.idle)) // A connection that is gone says so when it is used.
}

// visitBody is the body of a visit's request.
type visitBody struct {
	io.ReadCloser
	v *visit
}

// Read implements io.Reader.
func (b visitBody) Read(p []byte) (int, error) {
	if b.v.closed.Load() {
		return 0, http.ErrBodyReadAfterClose // The connection may be at its next request.
	}
	now := time.Now()
	// The machine may answer before it has heard all.
	err := errors.Join(b.v.rc.SetReadDeadline(now.Add(b.v.idle)), b.v.rc.SetWriteDeadline(now.Add(b.v.quiet)))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.v.said()
	if errors.Is(err, io.EOF) {
		b.v.isRead()
	}
	return n, err
}

// visitAnswer is where the answer of a visit goes.
type visitAnswer struct {
	http.ResponseWriter
	v *visit
}

// Write implements io.Writer.
func (a visitAnswer) Write(p []byte) (int, error) {
	a.v.said()
	if err := a.v.rc.SetWriteDeadline(time.Now().Add(a.v.idle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (a visitAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker: protocols are switched, as for a WebSocket. The
// server forgets such a connection, so it ends with the visit.
func (a visitAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := a.v.rc.Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("switch protocols: %w", err)
	}
	context.AfterFunc(a.v.ctx, func() { _ = conn.Close() }) // Whoever reads or writes finds out.
	return visitConn{conn, a.v}, rw, nil
}

// visitConn is a connection whose protocol was switched.
type visitConn struct {
	net.Conn
	v *visit
}

// Read implements net.Conn.
func (c visitConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.v.said()
	return n, err
}

// Write implements net.Conn.
func (c visitConn) Write(p []byte) (int, error) {
	c.v.said()
	return c.Conn.Write(p)
}
