package mirror

import (
	"context"
	"time"

	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// Look makes one pass as if it ended at a time.
func (s *Syncer) Look(ctx context.Context, now time.Time) {
	at, err := s.pass(ctx)
	s.reach(now, at, err)
}

// Doubt makes one pass as if it ended at a time, and says what speaks against
// its word.
func (s *Syncer) Doubt(ctx context.Context, now time.Time) error {
	s.Look(ctx, now)
	return s.word.Load().doubt
}

// Age lets the last word grow older.
func (s *Syncer) Age(d time.Duration) {
	w := *s.word.Load()
	w.reachedAt = w.reachedAt.Add(-d)
	s.word.Store(&w)
}

// Pass makes one pass.
func (s *Syncer) Pass(ctx context.Context) error {
	_, err := s.pass(ctx)
	return err
}

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
	SyncedMax  = syncedMax  // How long the word of a pass holds.
	HeadAgeMax = headAgeMax // How old the head may be.

	NearMax = nearMax
	UndoMax = undoMax
)
