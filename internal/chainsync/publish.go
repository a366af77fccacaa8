package chainsync

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
)

const (
	// pendingMax is how many messages may wait while archives are published: with more
	// the node is catching up, and others may have published what it lacks.
	pendingMax = 1000
	// seenMin is the least time for which it counts that the chain was read to its end.
	seenMin = time.Minute
	// lookFactor is how many messages are looked at for each that an archive may have:
	// some have no signature and are left out.
	lookFactor = 2
	// vainMax is how many archives of which nothing came are looked at in one pass.
	vainMax = 16
)

// Publish packs what nothing confirms into archives, until ctx ends. Only one process
// may do so with the key of a publisher.
func (s *Syncer) Publish(ctx context.Context) error {
	return loop.Every(ctx, s.log, s.cfg.CommitDelay, delayMax, nil, s.publish)
}

// publish commits to one archive, unless another is on its way.
func (s *Syncer) publish(ctx context.Context) error {
	if err := s.letGo(ctx); err != nil {
		return err
	}
	turn := s.turns.Load()
	if reason, err := s.busy(ctx); err != nil || reason != "" {
		if reason != "" {
			s.metrics.archives.WithLabelValues("waits").Inc()
			s.log.Debug("no archive now", "reason", reason)
		}
		return err
	}
	w, err := s.pack(ctx)
	if err != nil || w.Len() == 0 {
		return err
	}
	file, err := s.files.Add(ctx, w.Bytes(), func(f state.FileInfo) error { return s.expect(ctx, f) })
	if err != nil {
		return fmt.Errorf("keep an archive of %d messages: %w", w.Len(), err)
	}
	committed := false
	err = s.db.Update(ctx, func(tx *state.Tx) (err error) {
		committed, err = s.commit(ctx, tx, turn, file, w.Len())
		return err
	})
	if err != nil {
		return fmt.Errorf("commit to archive %s: %w", file.Hash, err)
	}
	if committed {
		s.metrics.archives.WithLabelValues("committed").Inc()
		s.log.Info("archive made", "item_hash", file.Hash, "count", w.Len(), "bytes", file.SizeBytes)
	}
	return nil
}

// expect writes down an archive that is about to be kept, for a while. Without an intent by
// then, as after a crash, it is deleted.
func (s *Syncer) expect(ctx context.Context, file state.FileInfo) error {
	return s.db.Update(ctx, func(tx *state.Tx) error {
		if err := tx.PutFileInfo(ctx, file); err != nil {
			return err
		}
		return tx.PutPin(ctx, graceOf(file.Hash))
	})
}

// busy says why no archive may be made now, "" if one may: as long as it is not known
// what the last one confirmed, the next would confirm the same at the same cost.
func (s *Syncer) busy(ctx context.Context) (string, error) {
	at := s.reachedAt.Load()
	if at == nil || time.Since(*at) > max(seenMin, 3*s.cfg.Interval) {
		return "the chain is not read to its end", nil
	}
	switch n, err := s.db.CountSyncEvents(ctx, "", state.SyncWaiting); {
	case err != nil:
		return "", err
	case n > 0:
		return "events wait", nil
	}
	n, _, err := s.db.CountPending(ctx)
	if err != nil {
		return "", err
	}
	if n > pendingMax {
		return "many messages wait", nil
	}
	last, err := s.db.Intents(state.LaneSync).Last(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return s.unread(ctx, last)
}

// unread says that the last archive is not known to be on the chain, or not read back.
func (s *Syncer) unread(ctx context.Context, last *state.Intent) (string, error) {
	switch last.Status {
	case state.IntentPending, state.IntentSent:
		return strings.TrimSuffix("an archive is on its way: "+last.Error, ": "), nil
	case state.IntentConfirmed:
	default:
		return "", nil // Nothing came of it.
	}
	head, err := s.db.SyncHead(ctx)
	if err != nil {
		return "", err
	}
	if head.Number < last.MinedAt {
		return "the last archive is not read back", nil
	}
	orphans, err := s.db.Intents(state.LaneSync).Orphaned(ctx, 1)
	if err != nil {
		return "", err
	}
	if len(orphans) > 0 {
		return "the last archive is on the chain no more", nil
	}
	return "", nil
}

// pack writes an archive of the oldest messages that nothing confirms.
func (s *Syncer) pack(ctx context.Context) (*archive.Writer, error) {
	w := &archive.Writer{}
	err := s.db.View(ctx, func(v *state.View) error {
		return v.EachUnconfirmed(ctx, lookFactor*archive.PublishMessages, func(m *state.Message) bool {
			return m.Envelope.Signature == "" || w.Add(&m.Envelope) // Others would refuse what nobody signed.
		})
	})
	if err != nil {
		return nil, fmt.Errorf("pack messages: %w", err)
	}
	return w, nil
}

// pinPrefix and the key of an intent name the pin of the archive that it publishes.
const pinPrefix = "archive:"

// letGo ends the pins of archives whose transactions can land no more: they were never
// sent, their nonces were used by others, or they were refused in a block that is too
// deep to change and on the chain. What only seems lost is sent again, and stays. A pass
// goes on where the one before ended, as those that stay would be in the way of others.
func (s *Syncer) letGo(ctx context.Context) error {
	head, err := s.db.SyncHead(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	deep := max(head.Number, undoMax) - undoMax
	vain, err := s.db.Intents(state.LaneSync).Vain(ctx, pinPrefix, deep, s.vainAfter, vainMax)
	if err != nil {
		return err
	}
	if s.vainAfter = 0; len(vain) == vainMax {
		s.vainAfter = vain[len(vain)-1].Seq
	}
	for n := range vain {
		i := &vain[n]
		if i.MinedAt > 0 {
			found, err := s.chain.Headers(ctx, []uint64{i.MinedAt})
			if err != nil {
				return err
			}
			if found[0].Hash != i.MinedIn {
				continue // Who can say what became of it?
			}
		}
		err := s.db.Update(ctx, func(tx *state.Tx) error { return s.unpin(ctx, tx, pinPrefix+i.Key) })
		if err != nil {
			return fmt.Errorf("let go of the archive of intent %s: %w", i.Key, err)
		}
		s.metrics.archives.WithLabelValues("vain").Inc()
		s.log.Warn("archive let go: its transaction cannot land any more", "intent", i.Key, "block", i.MinedAt, "reason", i.Error)
	}
	return nil
}

// commit keeps the archive and enqueues its transaction, if all is still as it was
// when it was packed.
func (s *Syncer) commit(ctx context.Context, tx *state.Tx, turn int64, file state.FileInfo, count int) (bool, error) {
	if _, err := s.files.Stat(ctx, file.Hash); err != nil {
		return false, err
	}
	if err := tx.PutFileInfo(ctx, file); err != nil {
		return false, err // If it took longer than it is expected, its row is gone.
	}
	if s.turns.Load() != turn {
		return false, nil // What was confirmed is being taken back.
	}
	head, err := tx.SyncHead(ctx)
	if err != nil {
		return false, err
	}
	args, err := json.Marshal([]string{archive.Reference(file.Hash)})
	if err != nil {
		return false, fmt.Errorf("encode payload: %w", err)
	}
	i := state.Intent{
		Key: fmt.Sprintf("sync/%d/%s", head.Number, file.Hash), Lane: state.LaneSync, Contract: chain.SyncName, Method: "doEmit", Args: args,
		Reason: fmt.Sprintf("confirms %d messages", count),
	}
	if added, err := tx.Enqueue(ctx, i); err != nil || !added {
		return false, err
	}
	if err := tx.PutPin(ctx, state.Pin{Key: pinPrefix + i.Key, Kind: state.PinTx, File: file.Hash, At: time.Now()}); err != nil {
		return false, err
	}
	return true, tx.DropPin(ctx, state.GraceKey(file.Hash))
}
