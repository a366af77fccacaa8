package chainsync

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The chains that indexers tell of.
const (
	chainBSC   message.Chain = "BSC"
	chainTezos message.Chain = "TEZOS"
	chainNULS2 message.Chain = "NULS2"
)

// multichainBSC is what the indexer of several chains calls BSC.
const multichainBSC = "bsc"

const (
	// enterMax bounds the events of one transaction: others write too.
	enterMax = 2000
	// missedTx stands for the transactions of events that were passed over.
	missedTx = "passed over"
)

// Indexer tells of the events of a chain that have an age, page by page. Each page that has
// more after it brings the cursor on.
type Indexer interface {
	Page(ctx context.Context, cursor json.RawMessage, now time.Time, age time.Duration) (indexer.Page, error)
}

// Source is a chain that an indexer tells of. Nothing that it told is ever taken back.
type Source struct {
	Chain    message.Chain
	Indexer  Indexer
	Emitters []string // Whose archives count; none where events are messages, which are anybody's.
}

// Sources are those that the configuration names.
func (c Config) Sources() (out []Source, err error) {
	add := func(chain message.Chain, ix Indexer, why error, emitters []string) {
		out = append(out, Source{chain, ix, emitters})
		if why != nil && err == nil {
			err = fmt.Errorf("read %s: %w", chain, why)
		}
	}
	if c.BSC.URL != "" {
		ix, err := indexer.NewMultichain(c.BSC.URL, multichainBSC, c.BSC.Contract)
		add(chainBSC, ix, err, nil)
	}
	if c.Tezos.URL != "" {
		ix, err := indexer.NewTezos(c.Tezos.URL, c.Tezos.Contract)
		add(chainTezos, ix, err, nil)
	}
	if c.NULS2.URL != "" {
		ix, err := indexer.NewNULS2(c.NULS2.URL, c.NULS2.Address, c.NULS2.Remark)
		add(chainNULS2, ix, err, c.NULS2.Emitters)
	}
	return out, err
}

// Follow reads a source until ctx ends.
func (s *Syncer) Follow(ctx context.Context, src Source) error {
	return loop.Every(ctx, s.log, s.cfg.IndexerInterval, delayMax, nil, func(ctx context.Context) error { return s.follow(ctx, src) })
}

// follow reads all that an indexer has and that is old enough.
func (s *Syncer) follow(ctx context.Context, src Source) error {
	name := string(src.Chain)
	now := time.Now()
	for ctx.Err() == nil {
		at, err := s.db.SyncSource(ctx, name)
		if errs.KindOf(err) == errs.NotFound {
			at, err = &state.SyncSource{Name: name}, nil
		}
		if err != nil {
			return err
		}
		page, err := src.Indexer.Page(ctx, at.Cursor, now, s.cfg.IndexerDelay)
		if err != nil {
			return fmt.Errorf("read events of %s: %w", name, err)
		}
		if page.More && string(page.Next) == string(at.Cursor) {
			return errs.New(errs.Internal, "BUG: reading events of %s does not go on from %s", name, at.Cursor)
		}
		if err := s.enterPage(ctx, src, at, page); err != nil {
			return err
		}
		if !page.More {
			s.metrics.indexedAt.WithLabelValues(name).SetToCurrentTime()
			return nil
		}
	}
	return nil
}

// enterPage writes the events of a page, and the cursor after them with the last of them.
// What it passes over becomes a row too, so that it can be found later.
func (s *Syncer) enterPage(ctx context.Context, src Source, at *state.SyncSource, page indexer.Page) error {
	rows := make([]state.SyncEvent, 0, len(page.Events)+1)
	for i := range page.Events {
		if e := s.told(src, &page.Events[i]); e != nil {
			rows = append(rows, *e)
		}
	}
	if page.Missed != nil {
		s.metrics.missed.WithLabelValues(string(src.Chain)).Inc()
		s.log.Error("events passed over, nothing reads them any more", "chain", src.Chain, "count", len(page.Events), "err", page.Missed)
		rows = append(rows, state.SyncEvent{
			Source: string(src.Chain), Chain: src.Chain, Tx: missedTx, Index: indexOf(string(page.Next)),
			Status: state.SyncDropped, Reason: page.Missed.Error(),
		})
	}
	for len(rows) > enterMax {
		if err := s.enter(ctx, at, rows[:enterMax]); err != nil {
			return err
		}
		rows = rows[enterMax:]
	}
	at.Cursor = page.Next
	return s.enter(ctx, at, rows)
}

// enter writes events and where its source was read up to in one transaction. One that is
// here already is not taken anew: pages may overlap.
func (s *Syncer) enter(ctx context.Context, at *state.SyncSource, rows []state.SyncEvent) error {
	added := 0
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		added = 0
		for i := range rows {
			switch _, err := tx.SyncEvent(ctx, rows[i].Key()); {
			case err == nil:
				continue
			case errs.KindOf(err) != errs.NotFound:
				return err
			}
			if err := tx.PutSyncEvent(ctx, rows[i]); err != nil {
				return err
			}
			added++
		}
		after := *at
		after.Events += uint64(added)
		return tx.PutSyncSource(ctx, after)
	})
	if err != nil {
		return fmt.Errorf("write events of %s: %w", at.Name, err)
	}
	at.Events += uint64(added)
	s.metrics.events.WithLabelValues("read").Add(float64(added))
	s.log.Debug("indexer read", "chain", at.Name, "count", added)
	return nil
}

// told is the row of an event that an indexer tells of, nil if it does not count.
func (s *Syncer) told(src Source, t *indexer.Event) *state.SyncEvent {
	if len(src.Emitters) > 0 && !slices.Contains(src.Emitters, t.Publisher) {
		s.log.Debug("event of somebody else", "chain", src.Chain, "tx", t.Tx, "sender", t.Publisher)
		return nil
	}
	e := &state.SyncEvent{
		Source: string(src.Chain), Chain: src.Chain, Tx: t.Tx, Index: indexOf(t.ID), Number: t.Height, At: uint64(max(t.At.Unix(), 0)),
		Publisher: t.Publisher, Type: t.Type, Stamp: uint64(max(t.Stamp.Unix(), 0)), Micros: uint64(t.Stamp.Nanosecond() / 1000), Text: t.Text,
		Status: state.SyncWaiting,
	}
	if t.Sender != t.Publisher {
		e.Sender = t.Sender
	}
	switch {
	case t.Bad != nil:
		s.drop(e, t.Bad)
	case t.Type == "" && len(src.Emitters) == 0:
		s.drop(e, errors.New("it is a message without a type"))
	case len(t.Text) > archive.MaxPayloadBytes:
		s.drop(e, fmt.Errorf("it has %d bytes, at most %d are read", len(t.Text), archive.MaxPayloadBytes))
	}
	return e
}

// indexOf tells apart the events of a transaction, where an indexer names each by a text:
// a hash of it, as short as a number of JSON.
func indexOf(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:8]) >> 11
}
