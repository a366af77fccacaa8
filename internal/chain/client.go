package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// callTimeout bounds one request to one RPC. A log query over a full range
	// is the slowest thing we ask.
	callTimeout = 15 * time.Second
	// idleConns is how many requests run side by side at most: mirror, outbox
	// and a few doors.
	idleConns = 8
	// batchMax is how many requests go in one batch; public RPCs allow 100.
	batchMax = 100
)

// Client talks to one chain over one or more RPCs. Use Dial. It is safe for
// concurrent use.
type Client struct {
	chainID *big.Int
	log     *slog.Logger
	rpcs    []*rpc.Client
	names   []string // Of the RPCs, without secrets that URLs carry.

	mu      sync.Mutex // Guards the fields below.
	first   int        // The RPC that answered last.
	checked []bool     // Of each RPC: it serves the right chain.
}

// Dial returns a client for the chain that cfg names. An RPC that is away is no
// error now, except over WebSocket; Check asks whether it is the right chain.
func Dial(ctx context.Context, cfg Config, log *slog.Logger) (_ *Client, err error) {
	c := &Client{chainID: new(big.Int).SetUint64(cfg.ChainID), log: log}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for i, u := range cfg.urls() {
		transport := &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: idleConns,
			IdleConnTimeout: time.Minute, ResponseHeaderTimeout: callTimeout,
		}
		r, err := rpc.DialOptions(ctx, u, rpc.WithHTTPClient(&http.Client{Transport: transport, Timeout: callTimeout}))
		if err != nil {
			return nil, errs.New(errs.Unavailable, "dial RPC %d: %w", i+1, withoutURL(err))
		}
		c.rpcs, c.names = append(c.rpcs, r), append(c.names, fmt.Sprintf("rpc_%d", i+1))
	}
	if len(c.rpcs) == 0 {
		return nil, errs.New(errs.Invalid, "rpc_url is empty")
	}
	c.checked = make([]bool, len(c.rpcs))
	return c, nil
}

// Close ends all connections.
func (c *Client) Close() {
	for _, r := range c.rpcs {
		r.Close()
	}
}

// ChainID returns the id of the chain the client is for.
func (c *Client) ChainID() *big.Int { return new(big.Int).Set(c.chainID) }

// Check asks whether the RPC serves the right chain, and returns the hash of its
// first block. Another chain gives errs.Invalid, an RPC that does not answer
// errs.Unavailable.
func (c *Client) Check(ctx context.Context) (genesis common.Hash, err error) {
	first, err := c.Header(ctx, 0)
	if err != nil {
		return genesis, err
	}
	return first.Hash, nil
}

// CheckClock compares the clock, which shows now, with the head of the chain.
// They differ by more than limit: errs.Invalid, with what to do about it. A
// chain that has stood still cannot be told from a clock that is ahead.
func (c *Client) CheckClock(ctx context.Context, now time.Time, limit time.Duration) error {
	head, err := c.Head(ctx)
	if err != nil {
		return err
	}
	skew := now.Sub(time.Unix(int64(head.Time), 0))
	switch {
	case skew < -limit:
		return errs.New(errs.Invalid,
			"the clock is %v behind the chain: set the time, for example with systemd-timesyncd", -skew.Round(time.Second))
	case skew > limit:
		return errs.New(errs.Invalid,
			"the newest block is %v old: set the time, or use an RPC that follows the chain", skew.Round(time.Second))
	}
	return nil
}

// call asks one RPC after the other until one answers, beginning with the one
// that did last.
func (c *Client) call(ctx context.Context, result any, method string, args ...any) error {
	return c.each(ctx, func(ctx context.Context, r *rpc.Client) error {
		return r.CallContext(ctx, result, method, args...)
	})
}

// batch sends the requests, in batches of a size that RPCs take. The first
// request that failed fails the batch.
func (c *Client) batch(ctx context.Context, elems []rpc.BatchElem) error {
	for len(elems) > 0 {
		n := min(len(elems), batchMax)
		part := elems[:n]
		err := c.each(ctx, func(ctx context.Context, r *rpc.Client) error {
			for i := range part {
				part[i].Error = nil
			}
			if err := r.BatchCallContext(ctx, part); err != nil {
				return err
			}
			for i := range part {
				if part[i].Error != nil {
					return part[i].Error
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		elems = elems[n:]
	}
	return nil
}

// each runs ask with one RPC after the other until one answers; an answer that
// is an error of the request itself is an answer. An RPC of another chain is
// never asked: its answers would undo every row.
func (c *Client) each(ctx context.Context, ask func(context.Context, *rpc.Client) error) error {
	c.mu.Lock()
	first := c.first
	c.mu.Unlock()
	var failures []error
	kind := errs.Invalid
	for i := range c.rpcs {
		n := (first + i) % len(c.rpcs)
		wrong := c.verify(ctx, n)
		err := wrong
		if wrong == nil {
			err = limited(ctx, c.rpcs[n], ask)
		}
		if (wrong != nil || errors.Is(err, errs.Unavailable)) && ctx.Err() == nil {
			failures = append(failures, fmt.Errorf("%s: %w", c.names[n], err))
			if !errors.Is(err, errs.Invalid) {
				kind = errs.Unavailable
			}
			continue
		}
		if n != first {
			c.log.Info("switched rpc", "peer", c.names[n])
			c.mu.Lock()
			c.first = n
			c.mu.Unlock()
		}
		return err
	}
	return errs.New(kind, "no RPC can be used: %w", errors.Join(failures...))
}

// verify makes sure, once, that an RPC serves the right chain.
func (c *Client) verify(ctx context.Context, n int) error {
	c.mu.Lock()
	checked := c.checked[n]
	c.mu.Unlock()
	if checked {
		return nil
	}
	var id hexutil.Big
	err := limited(ctx, c.rpcs[n], func(ctx context.Context, r *rpc.Client) error { return r.CallContext(ctx, &id, "eth_chainId") })
	if err != nil {
		return fmt.Errorf("ask for its chain: %w", err)
	}
	if id.ToInt().Cmp(c.chainID) != 0 {
		return errs.New(errs.Invalid, "it serves chain %s, but chain_id is %s: correct rpc_url or chain_id", id.ToInt(), c.chainID)
	}
	c.mu.Lock()
	c.checked[n] = true
	c.mu.Unlock()
	return nil
}

func limited(ctx context.Context, r *rpc.Client, ask func(context.Context, *rpc.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return classify(ask(ctx, r))
}

// classify gives an RPC's error its kind. What is not an answer of the method
// itself is the RPC's trouble and may be over next time.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var answer rpc.Error
	if !errors.As(err, &answer) {
		return errs.New(errs.Unavailable, "ask RPC: %w", withoutURL(err))
	}
	if revert := revertOf(err); revert != nil {
		return revert
	}
	text := strings.ToLower(err.Error())
	for _, known := range answers() {
		if strings.Contains(text, known.text) {
			return errs.New(known.kind, "%w", err)
		}
	}
	const limitExceeded, internal, methodNotFound, invalidParams = -32005, -32603, -32601, -32602
	switch answer.ErrorCode() {
	case limitExceeded, internal:
		return errs.New(errs.Unavailable, "%w", err)
	case methodNotFound, invalidParams:
		return errs.New(errs.Invalid, "%w", err)
	}
	return errs.New(errs.Internal, "%w", err)
}

// withoutURL drops the URL that net/http puts into its errors: it may hold the
// key of an account at the RPC's provider.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// answer is a text by which nodes say what is wrong with a request, and its
// kind. There are no numbers for these; the texts of geth and nitro are the same.
type answer struct {
	text string
	kind errs.Kind
}

func answers() []answer {
	return []answer{
		{"insufficient funds", errs.Exhausted},
		{"nonce too low", errs.Conflict},
		{"nonce too high", errs.Conflict},
		{"replacement transaction underpriced", errs.Conflict},
		{"underpriced", errs.Exhausted},
		{"max fee per gas less than block base fee", errs.Exhausted},
		{"txpool is full", errs.Unavailable},
		{"rate limit", errs.Unavailable},
		{"too many requests", errs.Unavailable},
		{"unknown block", errs.NotFound},
		{"header not found", errs.NotFound},
		{"block not found", errs.NotFound},
		{"missing trie node", errs.Unavailable},
	}
}
