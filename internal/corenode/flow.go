package corenode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// flowMethod returns what flows from one to the other, in 10^-18 tokens per second.
	flowMethod = "getFlowrate(address,address,address)"
	// flowBits is the size of that number, which has a sign.
	flowBits = 96
	wordLen  = 32
	decimals = 18
	// blockAgeMax is how old the newest block of an RPC may be. One that stands still
	// says nothing of what flows now.
	blockAgeMax = 10 * time.Minute
)

// rpc is a JSON-RPC server of a chain.
type rpc struct {
	url     string // May have a key in it.
	want    uint64 // Id of the chain.
	checked atomic.Bool
}

// Flow returns the tokens per second that flow from one address to another by a stream
// on a chain; 0 if there is none. errs.Invalid means that there are no streams on the chain
// or that an address is none of it, and errs.Unavailable that nobody could tell, or that no
// RPC of the chain is set.
func (c *Client) Flow(ctx context.Context, chain message.Chain, from, to string) (*big.Rat, error) {
	stream, ok := c.cfg.stream(chain)
	if !ok {
		return nil, errs.New(errs.Invalid, "there are no streams on chain %.20q", chain)
	}
	for _, address := range []string{from, to} {
		if !common.IsHexAddress(address) {
			return nil, errs.New(errs.Invalid, "%.*q is no address of %s", nameMax, address, chain)
		}
	}
	rpcs := c.rpcs[chain]
	if len(rpcs) == 0 {
		return nil, errs.New(errs.Unavailable, "streams on %s are not looked at: no RPC of it is configured", chain)
	}
	call := map[string]any{"to": common.HexToAddress(stream.Forwarder), "data": hexutil.Bytes(flowCall(stream.Token, from, to))}
	var failed []error
	for i, r := range rpcs {
		flow, err := c.flow(ctx, r, fmt.Sprintf("RPC %d of %s", i+1, chain), call)
		if err == nil {
			return flow, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errs.Placed(errs.New(errs.Unavailable, "ask for the stream on %s: %w", chain, errors.Join(failed...)), "no RPC of "+string(chain)+" could tell")
}

// flowCall is the call of the contract.
func flowCall(token, from, to string) []byte {
	data := crypto.Keccak256([]byte(flowMethod))[:4]
	for _, address := range []string{token, from, to} {
		data = append(data, common.LeftPadBytes(common.HexToAddress(address).Bytes(), wordLen)...)
	}
	return data
}

// flow asks one RPC.
func (c *Client) flow(ctx context.Context, r *rpc, name string, call any) (*big.Rat, error) {
	if !r.checked.Load() {
		var id hexutil.Uint64
		if err := c.call(ctx, r, name, &id, "eth_chainId"); err != nil {
			return nil, err
		}
		if uint64(id) != r.want {
			return nil, fmt.Errorf("%s serves chain %d, want %d", name, id, r.want)
		}
		r.checked.Store(true)
	}
	block, err := c.newest(ctx, r, name)
	if err != nil {
		return nil, err
	}
	var word hexutil.Bytes
	// Of that block: servers that share a name need not be as far as each other.
	if err := c.call(ctx, r, name, &word, "eth_call", call, block); err != nil {
		return nil, err
	}
	if len(word) != wordLen {
		return nil, fmt.Errorf("%s answered with %d bytes, want %d: the contract may not be there", name, len(word), wordLen)
	}
	flow := new(big.Int).SetBytes(word)
	if flow.BitLen() >= flowBits { // Or below 0, which is as long as a word.
		return nil, fmt.Errorf("%s answered with %s, which is no flow", name, word)
	}
	return new(big.Rat).SetFrac(flow, new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil)), nil
}

// newest returns the number of the newest block of an RPC that keeps up with its chain.
func (c *Client) newest(ctx context.Context, r *rpc, name string) (hexutil.Uint64, error) {
	var block *struct {
		Number    *hexutil.Uint64 `json:"number"`
		Timestamp *hexutil.Uint64 `json:"timestamp"`
	}
	if err := c.call(ctx, r, name, &block, "eth_getBlockByNumber", "latest", false); err != nil {
		return 0, err
	}
	if block == nil || block.Number == nil || block.Timestamp == nil || uint64(*block.Timestamp) > timestampMax {
		return 0, fmt.Errorf("%s answered with no block", name)
	}
	at := time.Unix(int64(*block.Timestamp), 0)
	if age := time.Since(at).Abs(); age > blockAgeMax {
		return 0, fmt.Errorf("%s has a newest block of %s, more than %s from now: it does not keep up, or the clock here is wrong", name, at.UTC().Format(time.RFC3339), blockAgeMax)
	}
	return *block.Number, nil
}

// call is one call of a JSON-RPC.
func (c *Client) call(ctx context.Context, r *rpc, name string, result any, method string, params ...any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": append([]any{}, params...)})
	if err != nil {
		return fmt.Errorf("encode %s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", name, plain(err))
	}
	req.Header.Set("Content-Type", "application/json")
	raw, err := c.do(req, name, false)
	if err != nil {
		return err
	}
	var a struct {
		Result json.RawMessage
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := decode(raw, &a); err != nil {
		return fmt.Errorf("the answer of %s: %w", name, err)
	}
	if a.Error != nil {
		return fmt.Errorf("%s answered %s with error %d: %.*q", name, method, a.Error.Code, errorShown, a.Error.Message)
	}
	if err := decode(a.Result, result); err != nil {
		return fmt.Errorf("the answer of %s: %w", name, err)
	}
	return nil
}
