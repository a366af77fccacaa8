package outbox

import (
	"context"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// orphansMax bounds the intents that are read at once after a reorganisation.
const orphansMax = 256

// reopen finds intents whose transaction was deep enough and whose block is on
// the chain no more, by the blocks that are kept of it: a reorganisation deeper
// than the configured confirmations. They are followed again, which sends the
// same transaction again.
func (s *Sender) reopen(ctx context.Context) error {
	for {
		orphans, err := s.intents().Orphaned(ctx, orphansMax)
		if err != nil || len(orphans) == 0 {
			return err
		}
		for n := range orphans {
			if err := s.resume(ctx, &orphans[n]); err != nil {
				return err
			}
		}
	}
}

// resume follows a finished intent again.
func (s *Sender) resume(ctx context.Context, i *state.Intent) error {
	s.outcomes.WithLabelValues("reorged").Inc()
	s.log.Warn("reorganised out", "intent", i.Key, "tx", i.TxHash, "block", i.MinedAt)
	i.Status, i.Error = state.IntentSent, ""
	i.MinedIn, i.MinedAt, i.TxHash, i.GasUsed = common.Hash{}, 0, common.Hash{}, 0
	return s.put(ctx, i)
}
