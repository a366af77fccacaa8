package deploy

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// minedWait is how long a batch may take to be mined.
	minedWait = 2 * time.Minute
	// minedPoll is the time between two looks for receipts.
	minedPoll = 20 * time.Millisecond
	// feeFactor is how often the base fee may double while a batch waits, as a
	// factor.
	feeFactor = 4
)

// Batch is a row of transactions of one account, sent at once and mined in
// order. Use NewBatch. The account must not send anything else meanwhile.
type Batch struct {
	client *chain.Client
	key    *ecdsa.PrivateKey
	from   common.Address
	nonce  uint64 // Of the first.
	txs    []*types.DynamicFeeTx
}

// NewBatch returns an empty batch of the account of key.
func NewBatch(ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey) (*Batch, error) {
	from := crypto.PubkeyToAddress(key.PublicKey)
	nonce, err := c.Nonce(ctx, from, nil)
	if err != nil {
		return nil, err
	}
	return &Batch{client: c, key: key, from: from, nonce: nonce}, nil
}

// Nonce returns the nonce that the next transaction gets.
func (b *Batch) Nonce() uint64 { return b.nonce + uint64(len(b.txs)) }

// Create adds the creation of a contract and returns where it will be.
func (b *Batch) Create(code []byte, gas uint64) common.Address {
	at := crypto.CreateAddress(b.from, b.Nonce())
	b.txs = append(b.txs, &types.DynamicFeeTx{Nonce: b.Nonce(), Gas: gas, Data: code})
	return at
}

// Call adds a call that may use gas.
func (b *Batch) Call(to common.Address, data []byte, gas uint64) {
	b.txs = append(b.txs, &types.DynamicFeeTx{Nonce: b.Nonce(), Gas: gas, To: &to, Data: data})
}

// Pay adds a payment of ether.
func (b *Batch) Pay(to common.Address, wei *big.Int) {
	b.txs = append(b.txs, &types.DynamicFeeTx{Nonce: b.Nonce(), Gas: params.TxGas, To: &to, Value: wei})
}

// Send sends the batch and returns the receipts, in order, when all are mined. A
// refusal is an error that says which transaction was refused and why.
func (b *Batch) Send(ctx context.Context) ([]*chain.Receipt, error) {
	all, err := sendAll(ctx, b.client, []*Batch{b})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// sendAll sends batches of different accounts, so that those of the first are
// mined before those of the next, and waits for all.
func sendAll(ctx context.Context, c *chain.Client, batches []*Batch) ([][]*chain.Receipt, error) {
	head, err := c.Head(ctx)
	if err != nil {
		return nil, err
	}
	tip, err := c.Tip(ctx)
	if err != nil {
		return nil, err
	}
	var raws [][]byte
	var hashes []common.Hash
	for i, b := range batches {
		// Within a block a higher tip comes first.
		mine := new(big.Int).Add(tip, big.NewInt(int64(len(batches)-i-1)))
		signed, err := b.sign(mine, head.BaseFee)
		if err != nil {
			return nil, err
		}
		for _, tx := range signed {
			raw, err := tx.MarshalBinary()
			if err != nil {
				return nil, fmt.Errorf("encode transaction %d: %w", tx.Nonce(), err)
			}
			raws, hashes = append(raws, raw), append(hashes, tx.Hash())
		}
	}
	if err := c.SendAll(ctx, raws); err != nil {
		return nil, err
	}
	receipts, err := wait(ctx, c, hashes)
	if err != nil {
		return nil, err
	}
	out := make([][]*chain.Receipt, len(batches))
	for i, b := range batches {
		out[i], receipts = receipts[:len(b.txs)], receipts[len(b.txs):]
		if err := b.check(ctx, out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *Batch) sign(tip, baseFee *big.Int) ([]*types.Transaction, error) {
	id := b.client.ChainID()
	signer := types.LatestSignerForChainID(id)
	top := new(big.Int).Mul(baseFee, big.NewInt(feeFactor))
	top.Add(top, tip)
	out := make([]*types.Transaction, len(b.txs))
	for i, tx := range b.txs {
		tx.ChainID, tx.GasTipCap, tx.GasFeeCap = id, tip, top
		signed, err := types.SignNewTx(b.key, signer, tx)
		if err != nil {
			return nil, fmt.Errorf("sign transaction %d: %w", tx.Nonce, err)
		}
		out[i] = signed
	}
	return out, nil
}

// wait returns the receipts of the transactions when all are mined.
func wait(ctx context.Context, c *chain.Client, hashes []common.Hash) ([]*chain.Receipt, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, minedWait,
		errs.New(errs.Unavailable, "%d transactions are not mined after %v", len(hashes), minedWait))
	defer cancel()
	tick := time.NewTicker(minedPoll)
	defer tick.Stop()
	for {
		// The last is mined last; one question per look is enough.
		last, err := c.Receipts(ctx, hashes[len(hashes)-1:])
		if err == nil && last[0] != nil {
			all, err := c.Receipts(ctx, hashes)
			if err == nil && !hasNil(all) {
				return all, nil
			}
		}
		if err != nil && errs.KindOf(err) != errs.Unavailable {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func hasNil(all []*chain.Receipt) bool {
	for _, r := range all {
		if r == nil {
			return true
		}
	}
	return false
}

// check reports the first transaction that was refused.
func (b *Batch) check(ctx context.Context, receipts []*chain.Receipt) error {
	for i, r := range receipts {
		if r.OK {
			continue
		}
		tx := b.txs[i]
		reason := errors.New("out of gas, or no longer refused")
		if tx.To != nil {
			if _, err := b.client.Call(ctx, chain.Call{From: b.from, To: *tx.To, Data: tx.Data}); err != nil {
				reason = err
			}
		}
		return errs.New(errs.Conflict, "transaction %d of %d (%s, %d of %d gas used) was refused: %w",
			i+1, len(receipts), r.Tx, r.GasUsed, tx.Gas, reason)
	}
	return nil
}
