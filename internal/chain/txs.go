package chain

import (
	"context"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Call is a call that changes nothing.
type Call struct {
	From common.Address
	To   common.Address
	Data []byte
}

func (m Call) args() map[string]any {
	return map[string]any{"from": m.From, "to": m.To, "input": hexutil.Bytes(m.Data)}
}

// Call runs a call at the newest block and returns what it returns. A refusal
// is a *Revert.
func (c *Client) Call(ctx context.Context, m Call) ([]byte, error) {
	var out hexutil.Bytes
	if err := c.call(ctx, &out, "eth_call", m.args(), "latest"); err != nil {
		return nil, fmt.Errorf("call %s: %w", m.To, err)
	}
	return out, nil
}

// Calls runs several calls at the newest block and returns what each returns.
// The first refusal fails all.
func (c *Client) Calls(ctx context.Context, calls []Call) ([][]byte, error) {
	raws := make([]hexutil.Bytes, len(calls))
	elems := make([]rpc.BatchElem, len(calls))
	for i, m := range calls {
		elems[i] = rpc.BatchElem{Method: "eth_call", Args: []any{m.args(), "latest"}, Result: &raws[i]}
	}
	if err := c.batch(ctx, elems); err != nil {
		return nil, fmt.Errorf("run %d calls: %w", len(calls), err)
	}
	out := make([][]byte, len(calls))
	for i, raw := range raws {
		out[i] = raw
	}
	return out, nil
}

// EstimateGas returns the gas a transaction takes at the newest block. A
// refusal is a *Revert.
func (c *Client) EstimateGas(ctx context.Context, m Call) (uint64, error) {
	var gas hexutil.Uint64
	if err := c.call(ctx, &gas, "eth_estimateGas", m.args()); err != nil {
		return 0, fmt.Errorf("estimate gas of a call to %s: %w", m.To, err)
	}
	return uint64(gas), nil
}

// Tip returns the tip per gas that gets a transaction mined soon, in wei.
func (c *Client) Tip(ctx context.Context) (*big.Int, error) {
	var tip hexutil.Big
	if err := c.call(ctx, &tip, "eth_maxPriorityFeePerGas"); err != nil {
		return nil, fmt.Errorf("read tip: %w", err)
	}
	return tip.ToInt(), nil
}

// Nonce returns how many transactions of the account are mined at the block; of
// the newest when number is nil.
func (c *Client) Nonce(ctx context.Context, account common.Address, number *uint64) (uint64, error) {
	at := "latest"
	if number != nil {
		at = hexutil.EncodeUint64(*number)
	}
	var nonce hexutil.Uint64
	if err := c.call(ctx, &nonce, "eth_getTransactionCount", account, at); err != nil {
		return 0, fmt.Errorf("read nonce of %s: %w", account, err)
	}
	return uint64(nonce), nil
}

// Balance returns the account's balance in wei at the newest block.
func (c *Client) Balance(ctx context.Context, account common.Address) (*big.Int, error) {
	var wei hexutil.Big
	if err := c.call(ctx, &wei, "eth_getBalance", account, "latest"); err != nil {
		return nil, fmt.Errorf("read balance of %s: %w", account, err)
	}
	return wei.ToInt(), nil
}

// Code returns the code at the address; none is empty.
func (c *Client) Code(ctx context.Context, account common.Address) ([]byte, error) {
	var code hexutil.Bytes
	if err := c.call(ctx, &code, "eth_getCode", account, "latest"); err != nil {
		return nil, fmt.Errorf("read code of %s: %w", account, err)
	}
	return code, nil
}

// Storage returns a slot of a contract's storage at the newest block.
func (c *Client) Storage(ctx context.Context, account common.Address, slot common.Hash) (common.Hash, error) {
	var value hexutil.Bytes
	if err := c.call(ctx, &value, "eth_getStorageAt", account, slot, "latest"); err != nil {
		return common.Hash{}, fmt.Errorf("read storage of %s: %w", account, err)
	}
	return common.BytesToHash(value), nil
}

// Send hands a signed transaction to the network. One that it has already is no
// error.
func (c *Client) Send(ctx context.Context, raw []byte) error {
	err := c.call(ctx, nil, "eth_sendRawTransaction", hexutil.Bytes(raw))
	if err != nil && !isKnown(err) {
		return fmt.Errorf("send transaction: %w", err)
	}
	return nil
}

// SendAll hands signed transactions to the network in one go, in order.
func (c *Client) SendAll(ctx context.Context, raws [][]byte) error {
	elems := make([]rpc.BatchElem, len(raws))
	for i, raw := range raws {
		elems[i] = rpc.BatchElem{Method: "eth_sendRawTransaction", Args: []any{hexutil.Bytes(raw)}, Result: new(common.Hash)}
	}
	if err := c.batch(ctx, elems); err != nil && !isKnown(err) {
		return fmt.Errorf("send %d transactions: %w", len(raws), err)
	}
	return nil
}

// isKnown reports whether the network refused a transaction because it has it.
func isKnown(err error) bool {
	return strings.Contains(err.Error(), "already known") || strings.Contains(err.Error(), "already imported")
}

// Receipt is what came of a transaction.
type Receipt struct {
	Tx        common.Hash
	Block     common.Hash
	Number    uint64 // Of the block.
	OK        bool   // False: the contract refused.
	GasUsed   uint64
	GasPrice  *big.Int // Wei per gas, as paid.
	Logs      []types.Log
	CreatedAt *common.Address // The contract it made.
}

type rawReceipt struct {
	Tx       common.Hash     `json:"transactionHash"`
	Block    *common.Hash    `json:"blockHash"`
	Number   hexutil.Uint64  `json:"blockNumber"`
	Status   hexutil.Uint64  `json:"status"`
	GasUsed  hexutil.Uint64  `json:"gasUsed"`
	GasPrice *hexutil.Big    `json:"effectiveGasPrice"`
	Logs     []types.Log     `json:"logs"`
	Contract *common.Address `json:"contractAddress"`
}

func (r *rawReceipt) receipt() *Receipt {
	out := &Receipt{
		Tx: r.Tx, Block: *r.Block, Number: uint64(r.Number), OK: uint64(r.Status) == types.ReceiptStatusSuccessful,
		GasUsed: uint64(r.GasUsed), GasPrice: new(big.Int), Logs: r.Logs, CreatedAt: r.Contract,
	}
	if r.GasPrice != nil {
		out.GasPrice = r.GasPrice.ToInt()
	}
	return out
}

// Receipt returns what came of the transaction; errs.NotFound when it is not
// mined.
func (c *Client) Receipt(ctx context.Context, tx common.Hash) (*Receipt, error) {
	found, err := c.Receipts(ctx, []common.Hash{tx})
	if err != nil {
		return nil, err
	}
	if found[0] == nil {
		return nil, errs.New(errs.NotFound, "transaction %s is not mined", tx)
	}
	return found[0], nil
}

// Receipts returns what came of each of the transactions, nil for one that is
// not mined.
func (c *Client) Receipts(ctx context.Context, txs []common.Hash) ([]*Receipt, error) {
	raws := make([]*rawReceipt, len(txs))
	elems := make([]rpc.BatchElem, len(txs))
	for i, tx := range txs {
		elems[i] = rpc.BatchElem{Method: "eth_getTransactionReceipt", Args: []any{tx}, Result: &raws[i]}
	}
	if err := c.batch(ctx, elems); err != nil {
		return nil, fmt.Errorf("read %d receipts: %w", len(txs), err)
	}
	out := make([]*Receipt, len(txs))
	for i, raw := range raws {
		if raw != nil && raw.Block != nil {
			out[i] = raw.receipt()
		}
	}
	return out, nil
}
