package devchain

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// evmAPI answers the evm_ methods.
type evmAPI struct{ chain *Chain }

// quantity is a number as developers' tools send it: 12, "12" or "0xc".
type quantity uint64

// UnmarshalJSON implements json.Unmarshaler.
func (q *quantity) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("read quantity: %w", err)
		}
	}
	n, err := strconv.ParseUint(text, 0, 63)
	if err != nil {
		return errs.New(errs.Invalid, "%s is not a whole number", raw)
	}
	*q = quantity(n)
	return nil
}

// Mine is evm_mine.
func (a *evmAPI) Mine() (common.Hash, error) { return a.chain.Mine() }

// IncreaseTime is evm_increaseTime; it answers chain time in unix seconds.
func (a *evmAPI) IncreaseTime(seconds quantity) (int64, error) {
	const century = 100 * 365 * 24 * 3600 // Far below where time.Duration ends.
	if seconds > century {
		return 0, errs.New(errs.Invalid, "%d seconds are more than a hundred years", seconds)
	}
	a.chain.IncreaseTime(time.Duration(seconds) * time.Second)
	a.chain.mu.Lock()
	defer a.chain.mu.Unlock()
	return a.chain.now(), nil
}

// SetNextBlockTimestamp is evm_setNextBlockTimestamp.
func (a *evmAPI) SetNextBlockTimestamp(timestamp quantity) error {
	return a.chain.SetNextTimestamp(uint64(timestamp))
}

// anvilAPI answers the anvil_ methods.
type anvilAPI struct{ chain *Chain }

// Reorg is anvil_reorg. Of its second parameter, transactions for the new
// blocks, only an empty list is known.
func (a *anvilAPI) Reorg(depth quantity, txs *[]json.RawMessage) error {
	if txs != nil && len(*txs) > 0 {
		return errs.New(errs.Invalid, "the new blocks are empty; send transactions again yourself")
	}
	return a.chain.Reorg(int(min(depth, reorgMax+1)))
}
