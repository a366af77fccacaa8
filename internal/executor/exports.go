package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

const (
	exportDial = 30 * time.Second
	// exportStall is how long an export may send nothing.
	exportStall = 5 * time.Minute
	portHTTPS   = 443
)

// Exports fetches files of exports by HTTP. Use NewExports.
type Exports struct {
	client *http.Client
	stall  time.Duration
}

// NewExports returns an Exports that connects to no address by which it could be
// made to ask this host itself, or what only hosts of its link see, whatever name
// leads there. It follows nobody elsewhere.
func NewExports() *Exports { return newExports(routable) }

func newExports(allowed func(netip.Addr) bool) *Exports {
	dialer := &net.Dialer{Timeout: exportDial, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !allowed(to.Addr().Unmap()) {
			return errs.New(errs.Invalid, "address %s is not one to fetch from", address)
		}
		return nil
	}}
	return &Exports{stall: exportStall, client: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: exportDial, ResponseHeaderTimeout: exportStall,
			DisableCompression: true, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// routable reports whether an address is one of another host. Private ones are:
// nodes of one data centre move machines among themselves.
func routable(a netip.Addr) bool {
	reserved := netip.MustParsePrefix("240.0.0.0/4")
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified() && !reserved.Contains(a)
}

// Open implements ExportSource. Of what an exporter sends that knows no ranges, the
// beginning is dropped.
func (e *Exports) Open(ctx context.Context, from Exporter, path string, offset, end int64) (f io.ReadCloser, whole bool, err error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, false, errs.New(errs.Invalid, "the export names the path %.200q: %w", path, err)
	}
	u.Scheme, u.Host, u.User = "http", net.JoinHostPort(from.Host, strconv.Itoa(int(from.Port))), nil
	if from.Port == portHTTPS {
		u.Scheme = "https"
	}
	u.RawQuery = url.Values{"token": {from.Token}}.Encode()
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		cancel(nil)
		return nil, false, errs.New(errs.Invalid, "ask %s: %w", from.Host, err)
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, end-1))
	r.Header.Set(operator.VolumesHeader, "yes")
	resp, err := e.client.Do(r) //nolint:bodyclose // The caller closes it.
	if err != nil {
		cancel(nil)
		var plain *url.Error // Its text has the token.
		if errors.As(err, &plain) {
			err = plain.Err
		}
		return nil, false, errs.New(errs.Unavailable, "ask %s: %w", from.Host, err)
	}
	body := &stallingBody{body: resp.Body, cancel: cancel, stall: e.stall}
	body.timer = time.AfterFunc(e.stall, func() {
		body.stalled.Store(true)
		cancel(nil)
	})
	if err := body.skip(resp, offset); err != nil {
		return nil, false, errors.Join(err, body.Close())
	}
	return body, resp.StatusCode == http.StatusOK, nil
}

// stallingBody ends a body that sends nothing for too long.
type stallingBody struct {
	body    io.ReadCloser
	cancel  context.CancelCauseFunc
	stall   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
}

// skip checks the answer and goes to the offset.
func (b *stallingBody) skip(resp *http.Response, offset int64) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != offset {
			return errs.New(errs.Unavailable, "the exporter sends the range %.100q, want one from %d", resp.Header.Get("Content-Range"), offset)
		}
		return nil
	case http.StatusOK:
		if n, err := io.CopyN(io.Discard, b, offset); err != nil {
			return errs.New(errs.Unavailable, "it broke off after %d bytes: %w", n, err)
		}
		return nil
	case http.StatusUnauthorized:
		return errs.New(errs.Denied, "the exporter does not take the token")
	case http.StatusNotFound:
		return errs.New(errs.NotFound, "the exporter does not have the file")
	default:
		return errs.New(errs.Unavailable, "the exporter answers %s", resp.Status)
	}
}

// Read implements io.Reader.
func (b *stallingBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.stalled.Load() {
		return n, errs.New(errs.Unavailable, "the exporter sent nothing for %v", b.stall)
	}
	b.timer.Reset(b.stall)
	return n, err
}

// Close implements io.Closer.
func (b *stallingBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}
