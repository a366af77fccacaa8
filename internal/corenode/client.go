package corenode

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// tries is how often a server is asked again that was busy.
	tries = 3
	// nameMax bounds the names of addresses and keys that are asked for.
	nameMax = 128
	// headerMax bounds the header of an answer.
	headerMax = 64 << 10
	// idleMax is how long a connection is kept that nobody uses.
	idleMax = time.Minute
	// public is what strangers are told of servers that do not answer.
	public = "no core channel node could tell"
)

// Client asks core channel nodes. Use New. It is safe for concurrent use.
type Client struct {
	cfg     Config
	http    *http.Client
	servers []*server
	rpcs    map[message.Chain][]*rpc
	slots   chan struct{} // One for each request that runs.
	log     *slog.Logger

	standings *cache[string]
	prices    *cache[*big.Rat]
	balances  *cache[balance]
	rights    *cache[authz.Security]
	settings  *cache[settings]
	versions  *cache[*message.Envelope]

	requests *prometheus.CounterVec
}

// New returns a Client for a Config that is valid. It connects to nobody yet.
func New(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Client, error) {
	c := &Client{
		cfg: cfg, log: log, slots: make(chan struct{}, cfg.Parallel), rpcs: map[message.Chain][]*rpc{},
		http: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: cfg.Timeout, MaxIdleConnsPerHost: cfg.Parallel, IdleConnTimeout: idleMax,
				MaxResponseHeaderBytes: headerMax,
			},
			// Nobody may send the node elsewhere: it stands in a network of its own.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		standings: newCache[string](cfg.StandingTTL, cfg.CacheEntries),
		prices:    newCache[*big.Rat](cfg.PriceTTL, cfg.CacheEntries),
		balances:  newCache[balance](cfg.BalanceTTL, cfg.CacheEntries),
		rights:    newCache[authz.Security](cfg.AggregateTTL, cfg.CacheEntries),
		settings:  newCache[settings](cfg.AggregateTTL, 1),
		versions:  newCache[*message.Envelope](cfg.StandingTTL, cfg.CacheEntries),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_corenode_requests_total",
			Help: "Requests to core channel nodes: answered, absent, busy, failed (something else was said), away (not reached).",
		}, []string{"outcome"}),
	}
	for _, raw := range cfg.Servers {
		base, err := parseBase(raw)
		if err != nil {
			return nil, errs.New(errs.Invalid, "server of the message network: %w", err)
		}
		c.servers = append(c.servers, &server{base: base})
	}
	for _, chain := range []message.Chain{"AVAX", "BASE"} {
		stream, _ := cfg.stream(chain)
		urls, err := stream.urls()
		if err != nil {
			return nil, errs.New(errs.Invalid, "streams on %s: %w", chain, err)
		}
		for _, u := range urls {
			c.rpcs[chain] = append(c.rpcs[chain], &rpc{url: u.String(), want: stream.ChainID})
		}
	}
	if err := reg.Register(c.requests); err != nil {
		return nil, errs.New(errs.Internal, "register metrics: %w", err)
	}
	return c, nil
}

// errWeak is of an answer that counts only if no other server has a better one.
var errWeak = errors.New("another server may know more")

// verdict is what servers have said so far.
type verdict struct {
	weak   bool
	absent []error // Of those that do not know what was asked for.
	failed []error // Of those that were reached and said something else.
	away   []error // Of those that were not reached.
}

// end is what follows when all were asked. Silence of those that cannot be reached does
// not stand against what the others say.
func (v *verdict) end(what string) error {
	switch {
	case v.weak:
		return nil
	case len(v.absent) > 0 && len(v.failed) == 0:
		return errs.New(errs.NotFound, "no core channel node knows %s", what)
	}
	all := append(v.failed, v.away...)
	if len(all) == 0 {
		return errs.New(errs.Unavailable, "%s: no core channel node is named, set [corenode] servers", what)
	}
	return errs.Placed(errs.New(errs.Unavailable, "ask core channel nodes for %s: %w", what, errors.Join(all...)), public)
}

// question is what servers are asked for.
type question struct {
	what  string // For people.
	path  []string
	query url.Values
	plain bool // The answer is bytes of any kind, not JSON.
	// read takes an answer. It returns errWeak, absent(...), or why the answer is none;
	// then the next server is asked.
	read func(raw []byte) error
}

// ask asks one server after the other until one has given a final answer. Those that
// were busy are asked again after the others.
func (c *Client) ask(ctx context.Context, q question) error {
	var v verdict
	left := c.inOrder(time.Now())
	for try := 0; ; try++ {
		busy, wait, done := c.round(ctx, left, q, &v)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return errs.New(errs.Unavailable, "ask core channel nodes for %s: %w", q.what, context.Cause(ctx))
		case len(busy) == 0:
			return v.end(q.what)
		case try == tries:
			for _, s := range busy {
				v.failed = append(v.failed, errs.New(errs.Unavailable, "%s is busy", s.base.Host))
			}
			return v.end(q.what)
		}
		// Others who were sent away come back at other times.
		if !pause(ctx, wait+rand.N(wait/2+1)) { //nolint:gosec // G404: it spreads load
			return errs.New(errs.Unavailable, "wait for core channel nodes to tell of %s: %w", q.what, context.Cause(ctx))
		}
		left = busy
	}
}

// round asks each server once. It is done when one has given a final answer; else it
// returns who was busy, and the shortest time that one of them asked for.
func (c *Client) round(ctx context.Context, servers []*server, q question, v *verdict) (again []*server, wait time.Duration, done bool) {
	for _, s := range servers {
		raw, err := c.get(ctx, s, q)
		if err == nil {
			if err = q.read(raw); err != nil && !errors.Is(err, errWeak) && !isAbsent(err) {
				err = errs.New(errs.Unavailable, "the answer of %s: %w", s.base.Host, err)
			}
		}
		if ctx.Err() != nil && err != nil {
			return nil, 0, false // Whose fault it is cannot be told any more.
		}
		var busy *busyError
		var away *awayError
		switch {
		case err == nil:
			c.requests.WithLabelValues("answered").Inc()
			return nil, 0, true
		case errors.Is(err, errWeak):
			c.requests.WithLabelValues("answered").Inc()
			v.weak = true
		case isAbsent(err):
			c.requests.WithLabelValues("absent").Inc()
			v.absent = append(v.absent, err)
		case errors.As(err, &busy) && busy.wait <= c.cfg.BusyWaitMax:
			c.requests.WithLabelValues("busy").Inc()
			if len(again) == 0 || busy.wait < wait {
				wait = busy.wait
			}
			again = append(again, s)
		case errors.As(err, &away):
			c.requests.WithLabelValues("away").Inc()
			s.rest(time.Now().Add(c.cfg.Rest))
			v.away = append(v.away, err)
			c.log.Debug("core channel node not reached", "server", s.base.Host, "err", err)
		default:
			c.requests.WithLabelValues("failed").Inc()
			v.failed = append(v.failed, err)
			c.log.Debug("core channel node gave no answer", "server", s.base.Host, "err", err)
		}
	}
	return again, wait, false
}

// inOrder are the servers as configured, but those that rest come last.
func (c *Client) inOrder(now time.Time) []*server {
	out, resting := make([]*server, 0, len(c.servers)), []*server(nil)
	for _, s := range c.servers {
		if s.rests(now) {
			resting = append(resting, s)
			continue
		}
		out = append(out, s)
	}
	return append(out, resting...)
}

// pause waits, and reports whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// checkName wants an address or a hash in its text form, as it becomes a part of a path.
// No chain has addresses with other characters.
func checkName(what, name string) error {
	if name == "" || len(name) > nameMax || strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}) {
		return errs.New(errs.Invalid, "%s is %.*q, want letters and digits", what, nameMax, name)
	}
	return nil
}
