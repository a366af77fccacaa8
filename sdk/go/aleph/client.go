package aleph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// answerMax bounds a JSON answer: a list of every node with its decision
	// reasons stays well below.
	answerMax = 8 << 20
	// answerTimeout bounds a request with a JSON answer.
	answerTimeout = 30 * time.Second
	// headerTimeout bounds the wait for the first bytes of a stream; an
	// upload is answered once it is on disk.
	headerTimeout = 2 * time.Minute
)

// Client talks to one node. It is safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
}

// New returns a client of the node at a base URL such as http://127.0.0.1:4024.
func New(nodeURL string) (*Client, error) {
	u, err := url.Parse(nodeURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("node %q is not a URL such as http://127.0.0.1:4024", nodeURL)
	}
	u.Path, u.RawQuery, u.Fragment = strings.TrimRight(u.Path, "/"), "", ""
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &Client{base: u, http: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: headerTimeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
	}}}, nil
}

// URL returns the base URL of the node.
func (c *Client) URL() string { return c.base.String() }

// Info returns what the node is and which chain it follows.
func (c *Client) Info(ctx context.Context) (*Info, error) {
	return get[Info](ctx, c, "/api/v1/info", nil)
}

// Healthy returns nil if the node's process answers.
func (c *Client) Healthy(ctx context.Context) error { return c.probe(ctx, "/healthz") }

// Ready returns nil if the node can take work.
func (c *Client) Ready(ctx context.Context) error { return c.probe(ctx, "/readyz") }

// Nodes returns the nodes of the network.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	nodes, err := get[[]Node](ctx, c, "/api/v1/nodes", nil)
	if err != nil {
		return nil, err
	}
	return *nodes, nil
}

// Quote returns the price of an instance and where it could run.
func (c *Client) Quote(ctx context.Context, q QuoteRequest) (*Quote, error) {
	return post[Quote](ctx, c, "/api/v1/quotes", q)
}

// PublishMessage hands a signed message to the network.
func (c *Client) PublishMessage(ctx context.Context, e *message.Envelope) (*Accepted, error) {
	return post[Accepted](ctx, c, "/api/v1/messages", struct {
		Message *message.Envelope `json:"message"`
	}{e})
}

// Message returns a message and where it stands.
func (c *Client) Message(ctx context.Context, hash message.ItemHash) (*MessageView, error) {
	return get[MessageView](ctx, c, "/api/v1/messages/"+url.PathEscape(string(hash)), nil)
}

// OpenJob hands a signed INSTANCE message and a signed offer for it to the
// coordinator.
func (c *Client) OpenJob(ctx context.Context, r JobRequest) (*Job, error) {
	return post[Job](ctx, c, "/api/v1/jobs", r)
}

// Jobs returns the jobs of an owner.
func (c *Client) Jobs(ctx context.Context, owner common.Address) ([]Job, error) {
	jobs, err := get[[]Job](ctx, c, "/api/v1/jobs", url.Values{"owner": {owner.Hex()}})
	if err != nil {
		return nil, err
	}
	return *jobs, nil
}

// Job returns a job.
func (c *Client) Job(ctx context.Context, spec message.ItemHash) (*Job, error) {
	return get[Job](ctx, c, jobPath(spec, ""), nil)
}

// StopJob ends a job by the payer's signature.
func (c *Client) StopJob(ctx context.Context, spec message.ItemHash, r StopRequest) (*Job, error) {
	return post[Job](ctx, c, jobPath(spec, "/stop"), r)
}

// Receipt returns what a job cost and who was paid.
func (c *Client) Receipt(ctx context.Context, spec message.ItemHash) (*Receipt, error) {
	return get[Receipt](ctx, c, jobPath(spec, "/receipt"), nil)
}

// Permit relays a permit of the token.
func (c *Client) Permit(ctx context.Context, r PermitRequest) (*Relayed, error) {
	return post[Relayed](ctx, c, "/api/v1/permits", r)
}

// Account returns an address as the payments know it.
func (c *Client) Account(ctx context.Context, address common.Address) (*AccountView, error) {
	return get[AccountView](ctx, c, "/api/v1/accounts/"+address.Hex(), nil)
}

// Logs copies the console of a job to w: what there is, or with follow until
// the machine ends or ctx does.
func (c *Client) Logs(ctx context.Context, a *Account, spec message.ItemHash, follow bool, w io.Writer) error {
	query := url.Values{}
	if follow {
		query.Set("follow", "1")
	}
	req, err := c.request(ctx, http.MethodGet, jobPath(spec, "/logs"), query, nil)
	if err != nil {
		return err
	}
	if err := a.authorize(req); err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("read logs of %s: %w", spec, err)
	}
	return nil
}

func jobPath(spec message.ItemHash, rest string) string {
	return "/api/v1/jobs/" + url.PathEscape(string(spec)) + rest
}

func (c *Client) probe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := c.request(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// request makes a request whose target is signed and sent in the same form.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", method, path, err)
	}
	req.Header.Set("User-Agent", "aleph-sdk-go")
	return req, nil
}

// do sends a request; an answer that is not a success becomes an error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
			return nil, cause
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, &UnreachableError{URL: c.URL(), Err: err}
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	return call[T](ctx, c, http.MethodGet, path, query, nil)
}

func post[T any](ctx context.Context, c *Client, path string, in any) (*T, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request to %s: %w", path, err)
	}
	return call[T](ctx, c, http.MethodPost, path, nil, bytes.NewReader(raw))
}

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body io.Reader) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	if err != nil {
		return nil, &UnreachableError{URL: c.URL(), Err: fmt.Errorf("read answer to %s %s: %w", method, path, err)}
	}
	if len(raw) > answerMax {
		return nil, fmt.Errorf("answer to %s %s has more than %s bytes", method, path, strconv.Itoa(answerMax))
	}
	out := new(T)
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("answer to %s %s is not understood (is %s a node of this network?): %w", method, path, c.URL(), err)
	}
	return out, nil
}
