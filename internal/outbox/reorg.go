package outbox

import (
	"context"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// finishedMax bounds the finished intents that are looked at after a
// reorganisation: more than a node sends in years.
const finishedMax = 1_000_000

// reopen finds intents whose transaction was deep enough and whose block is on
// the chain no more, by the blocks that mirror keeps: a reorganisation deeper
// than the configured confirmations. They are followed again, which sends the
// same transaction again. It looks after a start and after a reorganisation, and
// otherwise does nothing.
func (s *Sender) reopen(ctx context.Context) error {
	head, err := s.db.Head(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return nil // mirror has not begun.
	}
	if err != nil {
		return err
	}
	if s.seen != nil {
		now, err := s.db.Block(ctx, s.seen.Number)
		if err == nil && now.Hash == s.seen.Hash {
			s.seen = head
			return nil
		}
		if err != nil && errs.KindOf(err) != errs.NotFound {
			return err
		}
	}
	finished, err := s.db.IntentsWith(ctx, finishedMax, state.IntentConfirmed, state.IntentReverted, state.IntentExpired)
	if err != nil {
		return err
	}
	s.seen = head
	for n := range finished {
		i := &finished[n]
		if i.MinedAt == 0 {
			continue
		}
		if i.MinedAt > head.Number {
			s.seen = nil // mirror is behind; look again.
			continue
		}
		b, err := s.db.Block(ctx, i.MinedAt)
		if errs.KindOf(err) == errs.NotFound {
			continue // Too old to change.
		}
		if err != nil {
			return err
		}
		if b.Hash != i.MinedIn {
			if err := s.resume(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// resume follows a finished intent again.
func (s *Sender) resume(ctx context.Context, i *state.Intent) error {
	s.outcomes.WithLabelValues("reorged").Inc()
	s.log.Warn("reorganised out", "intent", i.Key, "tx", i.TxHash, "block", i.MinedAt)
	i.Status, i.Error = state.IntentSent, ""
	i.MinedIn, i.MinedAt, i.TxHash, i.GasUsed = common.Hash{}, 0, common.Hash{}, 0
	return s.put(ctx, i)
}
