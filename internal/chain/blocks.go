package chain

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Header is what we need to know of a block.
type Header struct {
	Number  uint64
	Hash    common.Hash
	Parent  common.Hash
	Time    uint64   // Unix seconds.
	BaseFee *big.Int // Wei per gas.
}

type rawHeader struct {
	Number  *hexutil.Uint64 `json:"number"`
	Hash    *common.Hash    `json:"hash"`
	Parent  *common.Hash    `json:"parentHash"`
	Time    *hexutil.Uint64 `json:"timestamp"`
	BaseFee *hexutil.Big    `json:"baseFeePerGas"`
}

func (h *rawHeader) header() (*Header, error) {
	if h.Number == nil || h.Hash == nil || h.Parent == nil || h.Time == nil {
		return nil, errs.New(errs.Unavailable, "the RPC sent a block without number, hash, parent or time")
	}
	out := &Header{Number: uint64(*h.Number), Hash: *h.Hash, Parent: *h.Parent, Time: uint64(*h.Time), BaseFee: new(big.Int)}
	if h.BaseFee != nil {
		out.BaseFee = h.BaseFee.ToInt()
	}
	return out, nil
}

// Head returns the newest block.
func (c *Client) Head(ctx context.Context) (*Header, error) { return c.header(ctx, "latest") }

// Header returns the block with the number, or errs.NotFound.
func (c *Client) Header(ctx context.Context, number uint64) (*Header, error) {
	return c.header(ctx, hexutil.EncodeUint64(number))
}

func (c *Client) header(ctx context.Context, which string) (*Header, error) {
	var raw *rawHeader
	if err := c.call(ctx, &raw, "eth_getBlockByNumber", which, false); err != nil {
		return nil, fmt.Errorf("read block %s: %w", which, err)
	}
	if raw == nil {
		return nil, errs.New(errs.NotFound, "the chain has no block %s", which)
	}
	return raw.header()
}

// Headers returns the blocks with the numbers, in that order. One that the RPC
// does not have gives errs.NotFound.
func (c *Client) Headers(ctx context.Context, numbers []uint64) ([]*Header, error) {
	raws := make([]*rawHeader, len(numbers))
	elems := make([]rpc.BatchElem, len(numbers))
	for i, n := range numbers {
		elems[i] = rpc.BatchElem{Method: "eth_getBlockByNumber", Args: []any{hexutil.EncodeUint64(n), false}, Result: &raws[i]}
	}
	if err := c.batch(ctx, elems); err != nil {
		return nil, fmt.Errorf("read %d blocks: %w", len(numbers), err)
	}
	out := make([]*Header, len(numbers))
	for i, raw := range raws {
		if raw == nil {
			return nil, errs.New(errs.NotFound, "the chain has no block %d", numbers[i])
		}
		h, err := raw.header()
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// filter is the parameter of eth_getLogs.
type filter struct {
	BlockHash *common.Hash     `json:"blockHash,omitempty"`
	From      string           `json:"fromBlock,omitempty"`
	To        string           `json:"toBlock,omitempty"`
	Addresses []common.Address `json:"address"`
}

// LogsBetween returns the logs of the contracts in the blocks from to to, both
// included. RPCs bound the range; the caller keeps it small.
func (c *Client) LogsBetween(ctx context.Context, from, to uint64, contracts []common.Address) ([]types.Log, error) {
	var out []types.Log
	f := filter{From: hexutil.EncodeUint64(from), To: hexutil.EncodeUint64(to), Addresses: contracts}
	if err := c.call(ctx, &out, "eth_getLogs", f); err != nil {
		return nil, fmt.Errorf("read logs of blocks %d to %d: %w", from, to, err)
	}
	return out, nil
}

// LogsIn returns the logs of the contracts in each of the blocks, by hash. A
// block that the RPC does not have, or no longer, is an error: nothing is
// silently missing.
func (c *Client) LogsIn(ctx context.Context, blocks []common.Hash, contracts []common.Address) ([][]types.Log, error) {
	out := make([][]types.Log, len(blocks))
	elems := make([]rpc.BatchElem, len(blocks))
	for i := range blocks {
		elems[i] = rpc.BatchElem{
			Method: "eth_getLogs", Result: &out[i],
			Args: []any{filter{BlockHash: &blocks[i], Addresses: contracts}},
		}
	}
	if err := c.batch(ctx, elems); err != nil {
		return nil, fmt.Errorf("read logs of %d blocks: %w", len(blocks), err)
	}
	return out, nil
}
