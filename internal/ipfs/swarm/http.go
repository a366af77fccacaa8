package swarm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/peering"
)

const (
	// httpBlockMax is how many bytes of a block are read: one more than it may have.
	httpBlockMax = 2<<20 + 1
	// httpParallel is how many blocks one server is asked for at the same time.
	httpParallel = 8
	// httpErrorMax is how much of an error's text is read.
	httpErrorMax = 512
)

// newClient returns a client of servers that the configuration names. They may not
// send it elsewhere: who asks stands in a network of its own.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: peering.DialMax, MaxIdleConnsPerHost: httpParallel, IdleConnTimeout: time.Minute,
			DisableCompression: true, // Blocks rarely shrink, and what was small must not grow.
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// gateway asks a trustless gateway, which sends blocks that can be verified.
type gateway struct {
	base   *url.URL
	client *http.Client
}

// name implements source.
func (gateway) name() string { return "gateway" }

// open implements source.
func (g gateway) open(context.Context) (session, error) { return g, nil }

// parallel implements session.
func (gateway) parallel() int { return httpParallel }

// patience implements session.
func (gateway) patience(stall time.Duration) time.Duration { return stall }

// get implements session.
func (g gateway) get(ctx context.Context, c cid.Cid) ([]byte, error) {
	body, err := g.ask(ctx, c, url.Values{"format": {"raw"}}, "application/vnd.ipld.raw")
	if err != nil {
		return nil, err
	}
	return readBlock(c, body)
}

// stream implements streamer.
func (g gateway) stream(ctx context.Context, root cid.Cid) (io.ReadCloser, error) {
	return g.ask(ctx, root, url.Values{"format": {"car"}, "dag-scope": {"all"}, "car-order": {"dfs"}, "car-dups": {"n"}},
		"application/vnd.ipld.car; version=1; order=dfs; dups=n")
}

func (g gateway) ask(ctx context.Context, c cid.Cid, query url.Values, accept string) (io.ReadCloser, error) {
	u := g.base.JoinPath("ipfs", c.String())
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask gateway %s: %w", g.base.Host, err)
	}
	req.Header.Set("Accept", accept)
	return do(g.client, req)
}

// do sends a request and returns the body of a good answer.
func do(client *http.Client, req *http.Request) (io.ReadCloser, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "ask %s: %w", req.URL.Host, plain(err))
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }() // Only read from: nothing is lost.
	text, err := io.ReadAll(io.LimitReader(res.Body, httpErrorMax))
	if err != nil {
		text = []byte(err.Error())
	}
	return nil, errs.New(errs.Unavailable, "%s answered %d: %q", req.URL.Host, res.StatusCode, text)
}

// plain takes the URL out of an error, as there may be a password in it.
func plain(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client says it bare
		return u.Err
	}
	return err
}

func readBlock(c cid.Cid, body io.ReadCloser) ([]byte, error) {
	block, err := io.ReadAll(io.LimitReader(body, httpBlockMax))
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read block %s: %w", c, err)
	}
	return block, nil
}
