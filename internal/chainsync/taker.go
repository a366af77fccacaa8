package chainsync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// takersMax is how many events are taken at the same time: one that waits for its
	// archive delays few others.
	takersMax = 8
	// dueMax bounds the events of one pass.
	dueMax = 64
	// chunkMax is how many messages of an event are judged at the same time, and share
	// transactions; after each chunk it is noted how far that got.
	chunkMax = 512
	// takeEvery is the time between two looks for events that are due again.
	takeEvery = time.Second
	// fetchMax bounds the wait for an archive.
	fetchMax = time.Minute
	// retryMin and retryMax bound the pause before an event is tried again.
	retryMin = 2 * time.Second
	retryMax = 10 * time.Minute
)

// Intake judges messages; ingest.Pipeline is one.
type Intake interface {
	// Anchor judges a message that a transaction names. A *message.RejectError is what
	// is wrong with the message; any other error is this node's, and may pass.
	Anchor(ctx context.Context, raw json.RawMessage, o state.Origin, now time.Time) error
	// TakeBack takes back a message that a contract emitted and that no transaction
	// names any more.
	TakeBack(ctx context.Context, tx *state.Tx, hash message.ItemHash) error
}

// Files has archives, by their CIDs.
type Files interface {
	// Stat tells of a file that is here whole, or returns errs.NotFound.
	Stat(ctx context.Context, hash message.ItemHash) (state.FileInfo, error)
	// Fetch brings a file here from other nodes. Its bytes are those of its CID.
	Fetch(ctx context.Context, hash message.ItemHash) error
	// Read returns the bytes of a file that is here; errs.NotFound if it is not, and
	// errs.Invalid if they are more than limit.
	Read(ctx context.Context, hash message.ItemHash, limit int64) ([]byte, error)
	// Add keeps a file, after expect was told what it will be. If that fails nothing is
	// kept.
	Add(ctx context.Context, raw []byte, expect func(state.FileInfo) error) (state.FileInfo, error)
}

// Take takes the messages of events that are new, until ctx ends.
func (s *Syncer) Take(ctx context.Context) error {
	return loop.Every(ctx, s.log, takeEvery, delayMax, s.db.Wake("sync_events"), func(ctx context.Context) error { return s.take(ctx, false) })
}

// Retry takes the messages of events that had to wait, until ctx ends. It has places
// of its own, so that what cannot be had delays nothing that is new.
func (s *Syncer) Retry(ctx context.Context) error {
	return loop.Every(ctx, s.log, takeEvery, delayMax, nil, func(ctx context.Context) error { return s.take(ctx, true) })
}

// take takes all events that are due.
func (s *Syncer) take(ctx context.Context, again bool) error {
	for {
		due, err := s.db.SyncEventsDue(ctx, time.Now(), again, dueMax)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		turns := make(chan struct{}, takersMax)
		failed := make([]error, len(due))
		for i := range due {
			turns <- struct{}{}
			wg.Go(func() {
				defer func() { <-turns }()
				failed[i] = s.takeOne(ctx, &due[i])
			})
		}
		wg.Wait()
		if err := errors.Join(failed...); err != nil || ctx.Err() != nil {
			return err
		}
		if err := s.countWaiting(ctx); err != nil {
			return err
		}
		if len(due) < dueMax {
			return nil
		}
	}
}

// countWaiting says how many events of all chains wait.
func (s *Syncer) countWaiting(ctx context.Context) error {
	total := 0
	for _, source := range []message.Chain{"", chainBSC, chainTezos, chainNULS2} {
		n, err := s.db.CountSyncEvents(ctx, string(source), state.SyncWaiting)
		if err != nil {
			return err
		}
		total += n
	}
	s.metrics.waiting.Set(float64(total))
	return nil
}

// badPayload is an error of what an event says.
type badPayload struct{ error }

// takeOne takes the messages of one event. Its error is this node's.
func (s *Syncer) takeOne(ctx context.Context, e *state.SyncEvent) error {
	err := s.takeMessages(ctx, e)
	var bad badPayload
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // Asked to stop; the row is still due.
	case errors.As(err, &bad):
		s.drop(e, bad.error)
	case err != nil:
		e.Attempts++
		wait := min(retryMin<<min(e.Attempts-1, 20), retryMax)
		e.RetryAt, e.Reason = time.Now().Add(wait).UTC(), err.Error()
		s.metrics.events.WithLabelValues("postponed").Inc()
		s.log.Warn("event waits", "tx", e.Tx, "block", e.Number, "attempt", e.Attempts, "retry_in", wait, "err", err)
	default:
		e.Status, e.Reason, e.Text, e.RetryAt = state.SyncDone, "", "", time.Time{}
		s.metrics.events.WithLabelValues("done").Inc()
		s.log.Info("event taken", "tx", e.Tx, "block", e.Number, "sender", e.Publisher, "count", e.Taken)
	}
	_, err = s.put(ctx, e, nil)
	return err
}

// put writes the row of an event and what belongs to it, if the row is still there: a
// reorganisation may have taken it out. It reports whether it was.
func (s *Syncer) put(ctx context.Context, e *state.SyncEvent, more func(tx *state.Tx) error) (there bool, err error) {
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		there = false
		now, err := tx.SyncEvent(ctx, e.Key())
		if errs.KindOf(err) == errs.NotFound || err == nil && now.Block != e.Block {
			return nil
		}
		if err != nil {
			return err
		}
		there = true
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		return tx.PutSyncEvent(ctx, *e)
	})
	return there, err
}

// takeMessages judges the messages of an event, from the first that was not yet.
func (s *Syncer) takeMessages(ctx context.Context, e *state.SyncEvent) error {
	if e.Type != "" {
		return s.takeEmitted(ctx, e)
	}
	p, err := archive.ParsePayload([]byte(e.Text))
	if err != nil {
		return badPayload{err}
	}
	if p.File != "" {
		if p.Messages, err = s.open(ctx, e, p.File); err != nil {
			return err
		}
	}
	t := e.Transaction()
	for e.Taken < len(p.Messages) {
		chunk := p.Messages[e.Taken:min(e.Taken+chunkMax, len(p.Messages))]
		if err := s.anchorAll(ctx, chunk, state.Origin{Tx: &t}); err != nil {
			return err
		}
		e.Taken += len(chunk)
		if there, err := s.put(ctx, e, nil); err != nil || !there {
			return err
		}
	}
	return nil
}

// open returns the messages of an archive, which is kept from now on.
func (s *Syncer) open(ctx context.Context, e *state.SyncEvent, file message.ItemHash) ([]json.RawMessage, error) {
	info, err := s.files.Stat(ctx, file)
	if errs.KindOf(err) == errs.NotFound {
		if err := s.fetch(ctx, file); err != nil {
			return nil, err
		}
		info, err = s.files.Stat(ctx, file)
	}
	if errs.KindOf(err) == errs.Invalid {
		return nil, badPayload{err}
	}
	if err != nil {
		return nil, fmt.Errorf("look for archive %s: %w", file, err)
	}
	if info.Directory {
		return nil, badPayload{fmt.Errorf("%s is a directory, want an archive", file)}
	}
	info.Hash = file // As the event spells it.
	there, err := s.put(ctx, e, func(tx *state.Tx) error {
		// Who deletes files looks for pins in a transaction of its own, so it is here
		// still, or is gone before.
		if _, err := s.files.Stat(ctx, file); err != nil {
			return err
		}
		if err := tx.PutFileInfo(ctx, info); err != nil {
			return err
		}
		return tx.PutPin(ctx, state.Pin{Key: e.PinKey(), Kind: state.PinTx, File: file, Owner: e.Publisher, At: time.Unix(int64(e.At), 0)})
	})
	if err != nil || !there {
		return nil, err
	}
	raw, err := s.files.Read(ctx, file, archive.MaxBytes)
	if errs.KindOf(err) == errs.Invalid {
		return nil, badPayload{err}
	}
	if err != nil {
		return nil, fmt.Errorf("read archive %s: %w", file, err)
	}
	messages, err := archive.Parse(raw)
	if err != nil {
		return nil, badPayload{fmt.Errorf("archive %s: %w", file, err)}
	}
	return messages, nil
}

func (s *Syncer) fetch(ctx context.Context, file message.ItemHash) error {
	ctx, cancel := context.WithTimeout(ctx, fetchMax)
	defer cancel()
	if err := s.files.Fetch(ctx, file); err != nil {
		return fmt.Errorf("fetch archive %s: %w", file, err)
	}
	return nil
}

// anchorAll judges messages at the same time, so that they share transactions.
func (s *Syncer) anchorAll(ctx context.Context, messages []json.RawMessage, o state.Origin) error {
	var wg sync.WaitGroup
	failed := make([]error, len(messages))
	for i, raw := range messages {
		wg.Go(func() { failed[i] = s.anchor(ctx, raw, o) })
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return err // One says enough; there may be hundreds.
		}
	}
	return nil
}

// anchor judges one message. One that is refused is no error: others count.
func (s *Syncer) anchor(ctx context.Context, raw json.RawMessage, o state.Origin) error {
	err := s.intake.Anchor(ctx, raw, o, time.Now())
	var refusal *message.RejectError
	switch {
	case errors.As(err, &refusal):
		s.metrics.messages.WithLabelValues("refused").Inc()
		s.log.Info("message of a transaction refused", "tx", o.Tx.Hash, "err", refusal)
		return nil
	case err != nil:
		return fmt.Errorf("judge a message of transaction %s: %w", o.Tx.Hash, err)
	}
	s.metrics.messages.WithLabelValues("taken").Inc()
	return nil
}

// takeEmitted judges the message that an event is. Its name is noted before it is
// judged, so that it can be taken back whatever happens then.
func (s *Syncer) takeEmitted(ctx context.Context, e *state.SyncEvent) error {
	at := time.Unix(int64(min(e.Stamp, 1<<62)), 0).Add(time.Duration(min(e.Micros, 999_999)) * time.Microsecond)
	m, err := archive.Event{Chain: e.Chain, Sender: cmp.Or(e.Sender, e.Publisher), At: at, Type: e.Type, Content: e.Text}.Message(time.Unix(int64(e.At), 0))
	if err != nil {
		return badPayload{err}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return badPayload{err}
	}
	e.Message = m.ItemHash
	if there, err := s.put(ctx, e, nil); err != nil || !there {
		return err
	}
	t := e.Transaction()
	if err := s.anchor(ctx, raw, state.Origin{Tx: &t, Contract: true}); err != nil {
		return err
	}
	e.Taken = 1
	return nil
}
