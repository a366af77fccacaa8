package chainsync

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// spanFirst is how many blocks the first query of logs spans, and spanMax the
	// most; public RPCs allow a few thousand, or bound the logs that they answer.
	spanFirst = 2000
	spanMax   = 100_000
	// shrinksMax is how often a pass tries a shorter span before it gives up: then it
	// is the RPC's trouble.
	shrinksMax = 4
	// calmMin is after how many good answers a span grows again, so that a bound of
	// the RPC is not run into each time.
	calmMin = 8
	// undoMax is how many blocks can be taken back: more than a day of Ethereum.
	undoMax = 8192
	// delayMax bounds the wait after a pass that failed.
	delayMax = 2 * time.Minute
)

// Chain is what is needed of the chain; chain.Client has it.
type Chain interface {
	Head(ctx context.Context) (*chain.Header, error)
	Headers(ctx context.Context, numbers []uint64) ([]*chain.Header, error)
	LogsBetween(ctx context.Context, from, to uint64, contracts []common.Address) ([]types.Log, error)
}

// Syncer is the reader, the taker and the publisher. Use New.
type Syncer struct {
	cfg     Config
	db      *state.DB
	chain   Chain
	intake  Intake
	files   Files
	log     *slog.Logger
	metrics metrics

	// Only the reader's goroutine uses these.
	span uint64 // Of the next query of logs.
	calm int    // Good answers since the last bad one.

	// Only the publisher's goroutine uses this: up to which intent archives were looked at
	// of which nothing came. It begins anew after the last.
	vainAfter int64

	reachedAt atomic.Pointer[time.Time] // When the rows were last those of the chain; nil while they may not be.
	turns     atomic.Int64              // Reorganisations that were begun to be taken back.
}

type metrics struct {
	head     prometheus.Gauge
	lag      prometheus.Gauge
	reorgs   prometheus.Counter
	waiting  prometheus.Gauge
	events   *prometheus.CounterVec // outcome
	messages *prometheus.CounterVec // outcome
	archives *prometheus.CounterVec // outcome

	indexedAt *prometheus.GaugeVec   // chain
	missed    *prometheus.CounterVec // chain
}

// New returns a Syncer that writes what the chain says into db. Without Read and Publish it
// needs no chain.
func New(cfg Config, db *state.DB, c Chain, intake Intake, files Files, log *slog.Logger, reg prometheus.Registerer) (*Syncer, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "aleph_chainsync_" + name, Help: help})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aleph_chainsync_" + name, Help: help}, []string{"outcome"})
	}
	m := metrics{
		head:     gauge("head_block", "Number of the newest block that is read of the chain that confirms messages."),
		lag:      gauge("lag_blocks", "Blocks between the head of that chain and what is read, confirmations included."),
		waiting:  gauge("waiting_events", "Events of which not all is here yet."),
		reorgs:   prometheus.NewCounter(prometheus.CounterOpts{Name: "aleph_chainsync_reorgs_total", Help: "Reorganisations that took back what was read."}),
		events:   counter("events_total", "Events of the contract, by what became of them."),
		messages: counter("messages_total", "Messages that transactions name, by what became of them."),
		archives: counter("archives_total", "Archives that were to be published, by what became of them."),
		indexedAt: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "aleph_chainsync_indexed_at_seconds", Help: "When the indexer of another chain was last read to its end, Unix time.",
		}, []string{"chain"}),
		missed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_chainsync_missed_total", Help: "Moments of another chain with more events than are read, of which the rest was passed over.",
		}, []string{"chain"}),
	}
	for _, c := range []prometheus.Collector{m.head, m.lag, m.waiting, m.reorgs, m.events, m.messages, m.archives, m.indexedAt, m.missed} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return &Syncer{cfg: cfg, db: db, chain: c, intake: intake, files: files, log: log, metrics: m, span: spanFirst}, nil
}

// Read reads the chain until ctx ends.
func (s *Syncer) Read(ctx context.Context) error {
	return loop.Every(ctx, s.log, s.cfg.Interval, delayMax, nil, s.read)
}

// read reads all events that are deep enough.
func (s *Syncer) read(ctx context.Context) error {
	for {
		head, err := s.chain.Head(ctx)
		if err != nil {
			return err
		}
		last, err := s.last(ctx)
		if err != nil {
			return err
		}
		there, err := s.isThere(ctx, head, last)
		if err != nil {
			return err
		}
		if !there {
			if err := s.rollBack(ctx, last); err != nil {
				return err
			}
			continue
		}
		limit := max(head.Number, s.cfg.Confirmations) - s.cfg.Confirmations
		s.metrics.head.Set(float64(last.Number))
		s.metrics.lag.Set(float64(head.Number) - float64(last.Number))
		if last.Number >= limit {
			now := time.Now()
			s.reachedAt.Store(&now)
			return nil
		}
		if err := s.advance(ctx, last, limit); err != nil {
			return err
		}
	}
}

// last returns the newest block that is read; before the first, the one before
// FromBlock, without a hash.
func (s *Syncer) last(ctx context.Context) (*state.Block, error) {
	last, err := s.db.SyncHead(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return &state.Block{Number: s.before()}, nil
	}
	return last, err
}

// before is the number of the last block that is never read.
func (s *Syncer) before() uint64 { return max(s.cfg.FromBlock, 1) - 1 }

// isThere reports whether the newest block that is read is on the chain. If the RPC
// does not know so many, it may be behind: then those count that it knows.
func (s *Syncer) isThere(ctx context.Context, head *chain.Header, last *state.Block) (bool, error) {
	if last.Hash == (common.Hash{}) {
		return true, nil
	}
	if head.Number >= last.Number {
		found, err := s.chain.Headers(ctx, []uint64{last.Number})
		if err != nil {
			return false, err
		}
		return found[0].Hash == last.Hash, nil
	}
	kept, err := s.db.SyncBlocks(ctx, 0)
	if err != nil {
		return false, err
	}
	for _, b := range kept {
		if b.Number <= head.Number {
			found, err := s.chain.Headers(ctx, []uint64{b.Number})
			return err == nil && found[0].Hash == b.Hash, err
		}
	}
	return true, nil
}

// advance reads the next blocks after last, up to limit at most.
func (s *Syncer) advance(ctx context.Context, last *state.Block, limit uint64) error {
	var logs []types.Log
	var to uint64
	for shrinks := 0; ; shrinks++ {
		to = min(limit, last.Number+s.span)
		var err error
		if logs, err = s.chain.LogsBetween(ctx, last.Number+1, to, []common.Address{s.cfg.ContractAt().At}); err == nil {
			break
		}
		s.calm = 0
		if s.span == 1 || shrinks == shrinksMax || ctx.Err() != nil {
			return err
		}
		s.span = max(s.span/2, 1)
		s.log.Info("reading less at once", "blocks", s.span, "err", err)
	}
	if s.calm++; s.calm >= calmMin {
		s.span, s.calm = min(2*s.span, spanMax), 0
	}
	numbers, err := numbersOf(logs, last.Number, to)
	if err != nil {
		return err
	}
	headers, err := s.chain.Headers(ctx, numbers)
	if err != nil {
		return err
	}
	byNumber := make(map[uint64]*chain.Header, len(headers))
	for _, h := range headers {
		byNumber[h.Number] = h
	}
	events := make([]state.SyncEvent, 0, len(logs))
	for i := range logs {
		h := byNumber[logs[i].BlockNumber]
		if h == nil || h.Hash != logs[i].BlockHash {
			return errs.New(errs.Unavailable, "block %d changed while it was read", logs[i].BlockNumber)
		}
		if e := s.event(&logs[i], h); e != nil {
			events = append(events, *e)
		}
	}
	return s.write(ctx, last, headers, events)
}

// numbersOf are those of the blocks with logs, in order, and to.
func numbersOf(logs []types.Log, after, to uint64) (numbers []uint64, err error) {
	for i := range logs {
		number := logs[i].BlockNumber
		if n := len(numbers); n > 0 && number == numbers[n-1] {
			continue
		} else if n > 0 && number < numbers[n-1] || number <= after || number > to {
			return nil, errs.New(errs.Unavailable, "the RPC sent logs out of order at block %d", number)
		}
		numbers = append(numbers, number)
	}
	if n := len(numbers); n == 0 || numbers[n-1] != to {
		numbers = append(numbers, to)
	}
	return numbers, nil
}

// event is the row of a log, nil if it does not count.
func (s *Syncer) event(l *types.Log, h *chain.Header) *state.SyncEvent {
	if l.Address != s.cfg.ContractAt().At || l.Removed {
		return nil
	}
	found, err := chain.ParseSyncLog(l)
	if err != nil {
		s.metrics.events.WithLabelValues("unknown").Inc()
		s.log.Warn("event not read", "tx", l.TxHash, "block", h.Number, "err", err)
		return nil
	}
	isMessage := found.Type != ""
	if isMessage && !s.cfg.Messages || !isMessage && !s.cfg.Emits(found.Sender) {
		s.metrics.events.WithLabelValues("ignored").Inc()
		s.log.Debug("event does not count", "tx", l.TxHash, "block", h.Number, "sender", found.Sender)
		return nil
	}
	e := &state.SyncEvent{
		Tx: l.TxHash.Hex(), Index: uint64(l.Index), Number: h.Number, Block: h.Hash, Chain: message.Chain(s.cfg.Chain), At: h.Time,
		Publisher: found.Sender.Hex(), Type: found.Type, Stamp: found.Stamp, Text: found.Text, Status: state.SyncWaiting,
	}
	switch {
	case len(found.Type) > archive.MaxTypeBytes:
		e.Type = ""
		s.drop(e, fmt.Errorf("its type has %d bytes, at most %d are read", len(found.Type), archive.MaxTypeBytes))
	case len(found.Text) > archive.MaxPayloadBytes:
		s.drop(e, fmt.Errorf("it has %d bytes, at most %d are read", len(found.Text), archive.MaxPayloadBytes))
	}
	return e
}

// drop gives up on an event: what it says can never be used.
func (s *Syncer) drop(e *state.SyncEvent, why error) {
	e.Status, e.Reason, e.Text = state.SyncDropped, why.Error(), ""
	s.metrics.events.WithLabelValues("dropped").Inc()
	s.log.Warn("event dropped", "tx", e.Tx, "block", e.Number, "sender", e.Publisher, "err", why)
}

// write enters what was read in one transaction.
func (s *Syncer) write(ctx context.Context, last *state.Block, headers []*chain.Header, events []state.SyncEvent) error {
	to := headers[len(headers)-1]
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		for i := range events {
			if err := tx.PutSyncEvent(ctx, events[i]); err != nil {
				return err
			}
		}
		for _, h := range headers {
			if err := tx.PutSyncBlock(ctx, state.Block{Number: h.Number, Hash: h.Hash, Parent: h.Parent, Time: h.Time}); err != nil {
				return err
			}
		}
		if to.Number < undoMax {
			return nil
		}
		return tx.ForgetSyncBlocks(ctx, to.Number-undoMax)
	})
	if err != nil {
		return fmt.Errorf("write events of blocks %d to %d: %w", last.Number+1, to.Number, err)
	}
	s.metrics.events.WithLabelValues("read").Add(float64(len(events)))
	s.log.Debug("chain read", "block", to.Number, "count", len(events))
	return nil
}
