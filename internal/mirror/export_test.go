package mirror

import (
	"context"
	"time"

	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// Reach notes how a pass ended at a time.
func (s *Syncer) Reach(at time.Time, err error) { s.reach(at, err) }

// SyncedMax is how long the word of a pass holds.
const SyncedMax = syncedMax

// Pass makes one pass.
func (s *Syncer) Pass(ctx context.Context) error { return s.pass(ctx) }

// EventNames returns the events that have a decision, by contract, and whether
// they become rows.
func EventNames() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for contract, events := range handlers() {
		out[contract] = map[string]bool{}
		for name, h := range events {
			out[contract][name] = h != nil
		}
	}
	return out
}

// FoldLog folds one log into db.
func FoldLog(ctx context.Context, db *state.DB, contracts chain.Contracts, l types.Log) error {
	return db.Update(ctx, func(tx *state.Tx) error {
		b := &block{tx: tx, header: &chain.Header{Number: l.BlockNumber}, contracts: contracts, counts: map[string]int{}}
		return tx.AtBlock(l.BlockNumber, func() error { return b.fold(ctx, []types.Log{l}) })
	})
}

// Divide is divide.
var Divide = divide

// EndReason is endReason.
var EndReason = endReason

// The bounds that tests cross.
const (
	NearMax = nearMax
	UndoMax = undoMax
)
