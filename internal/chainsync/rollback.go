package chainsync

import (
	"context"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// undoEvents is how many events one transaction takes back; each may have
	// confirmed thousands of messages.
	undoEvents = 8
	// archiveGrace is how long an archive is kept whose transaction is gone: it
	// mostly comes back in another block.
	archiveGrace = 24 * time.Hour
)

// rollBack takes back what blocks said that are on the chain no more. The newest
// events go first, and the blocks after all of them: who dies in the middle goes on
// from there.
func (s *Syncer) rollBack(ctx context.Context, last *state.Block) error {
	s.reachedAt.Store(nil)
	s.turns.Add(1)
	to, err := s.ancestor(ctx, last)
	if err != nil {
		return err
	}
	for count := 0; ; {
		events, err := s.db.SyncEventsAbove(ctx, to, undoEvents)
		if err != nil {
			return err
		}
		err = s.db.Update(ctx, func(tx *state.Tx) error {
			for i := range events {
				if err := s.undo(ctx, tx, &events[i]); err != nil {
					return fmt.Errorf("take back transaction %s: %w", events[i].Tx, err)
				}
			}
			if len(events) == 0 {
				return tx.DropSyncBlocks(ctx, to)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if count += len(events); len(events) == 0 {
			s.metrics.reorgs.Inc()
			s.log.Warn("reorganised", "block", to, "blocks", last.Number-to, "events", count)
			return nil
		}
	}
}

// undo takes back what an event did.
func (s *Syncer) undo(ctx context.Context, tx *state.Tx, e *state.SyncEvent) error {
	if err := tx.DropConfirmations(ctx, e.Chain, e.Tx); err != nil {
		return err
	}
	if err := tx.DropSyncEvent(ctx, e.Key()); err != nil {
		return err
	}
	s.metrics.events.WithLabelValues("undone").Inc()
	if e.Message != "" {
		return s.intake.TakeBack(ctx, tx, e.Message)
	}
	return s.unpin(ctx, tx, e.PinKey())
}

// unpin ends the pin of an archive. Its file stays for a while.
func (s *Syncer) unpin(ctx context.Context, tx *state.Tx, key string) error {
	pin, err := tx.Pin(ctx, key)
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.DropPin(ctx, pin.Key); err != nil {
		return err
	}
	return tx.PutPin(ctx, graceOf(pin.File))
}

// graceOf is the pin of an archive that stays for a while.
func graceOf(file message.ItemHash) state.Pin {
	now := time.Now()
	return state.Pin{Key: state.GraceKey(file), Kind: state.PinGrace, File: file, At: now, Until: now.Add(archiveGrace)}
}

// ancestor returns the number of the newest block that is kept and still on the chain.
func (s *Syncer) ancestor(ctx context.Context, last *state.Block) (uint64, error) {
	kept, err := s.db.SyncBlocks(ctx, 0)
	if err != nil {
		return 0, err
	}
	for _, b := range kept {
		found, err := s.chain.Headers(ctx, []uint64{b.Number})
		switch {
		case errs.KindOf(err) == errs.NotFound: // The new branch is shorter.
		case err != nil:
			return 0, err
		case found[0].Hash == b.Hash:
			return b.Number, nil
		}
	}
	if n := len(kept); n > 0 && last.Number-kept[n-1].Number >= undoMax {
		return 0, errs.New(errs.Internal,
			"the chain that confirms messages reorganised more than %d blocks deep: correct [sync] rpc_url, or start again with an empty data_dir", undoMax)
	}
	return s.before(), nil
}
