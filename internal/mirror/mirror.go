// Package mirror makes rows of what happens on the chain. It is the only reader
// of the chain.
//
// Syncer follows the head and folds the events of the product's contracts into
// rows of state, block by block, each block in whole. Rows are those of the
// newest block; who needs depth compares block numbers. When the chain
// reorganises, the effects of the lost blocks are taken back and the new ones
// folded, so the rows are always what replaying all events would give. An RPC
// that is away delays rows and never removes any.
//
// Which event becomes what: nodes.go, jobs.go, payments.go, params.go; what is
// left out, and why, is in events.go.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// nearMax is how far behind the head blocks are read one by one, by hash; a
	// reorganisation is only noticed there. Below, only blocks with events are
	// read, in ranges. It is also how many blocks one transaction folds.
	nearMax = 128
	// rangeMax is how many blocks one log query spans; public RPCs allow a few
	// thousand.
	rangeMax = 2000
	// undoMax is how many blocks can be taken back: eight and a half minutes of
	// Arbitrum One, more than an hour of a local network. Deeper reorganisations
	// do not happen to a chain that posts its blocks.
	undoMax = 2048
	// delayMax bounds the wait after a pass that failed.
	delayMax = 15 * time.Second
	// syncedMax is how long the word of a pass that reached the head holds: some
	// intervals, and a slow answer.
	syncedMax = 10 * time.Second
	// headAgeMax is how old the head may be: blocks come each quarter second, a
	// question may be slow, and clocks differ.
	headAgeMax = 90 * time.Second
	// localChain is the id of local networks, which have a time of their own and
	// may make no block for long.
	localChain = 31337
)

// Config says what to mirror and how often to look.
type Config struct {
	Interval  time.Duration `toml:"interval"`   // Time between two looks at the head.
	FromBlock uint64        `toml:"from_block"` // Block in which the contracts were deployed; nothing before it is read.
}

// Chain is what the mirror needs of the chain; chain.Client has it.
type Chain interface {
	Head(ctx context.Context) (*chain.Header, error)
	Headers(ctx context.Context, numbers []uint64) ([]*chain.Header, error)
	LogsIn(ctx context.Context, blocks []common.Hash, contracts []common.Address) ([][]types.Log, error)
	LogsBetween(ctx context.Context, from, to uint64, contracts []common.Address) ([]types.Log, error)
	Calls(ctx context.Context, calls []chain.Call) ([][]byte, error)
	Check(ctx context.Context) (genesis common.Hash, err error)
	ChainID() *big.Int
}

// Syncer mirrors the chain. Use New.
type Syncer struct {
	cfg       Config
	db        *state.DB
	chain     Chain
	contracts chain.Contracts
	log       *slog.Logger
	metrics   metrics
	checked   bool                 // The RPC serves the chain that the rows are of; only Run's goroutine uses it.
	word      atomic.Pointer[word] // Of the last pass; nil before it.
}

// word is what passes say of the rows.
type word struct {
	head      uint64    // Number of the chain's newest block when that was last known.
	reachedAt time.Time // When they were last known to be those of the chain's head; zero after a pass that failed.
	doubt     error     // Why that is not known now.
}

type metrics struct {
	head   prometheus.Gauge
	lag    prometheus.Gauge
	reorgs prometheus.Counter
	undone prometheus.Counter
	events *prometheus.CounterVec
}

// New returns a Syncer that mirrors the contracts into db.
func New(cfg Config, db *state.DB, c Chain, contracts chain.Contracts, log *slog.Logger, reg prometheus.Registerer) *Syncer {
	m := metrics{
		head:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "aleph_mirror_head_block", Help: "Number of the newest block in the database."}),
		lag:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "aleph_mirror_lag_blocks", Help: "Blocks between the chain's head and the database."}),
		reorgs: prometheus.NewCounter(prometheus.CounterOpts{Name: "aleph_mirror_reorgs_total", Help: "Reorganisations that took back blocks."}),
		undone: prometheus.NewCounter(prometheus.CounterOpts{Name: "aleph_mirror_undone_blocks_total", Help: "Blocks taken back by reorganisations."}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aleph_mirror_events_total", Help: "Events of the contracts, by name."}, []string{"event"}),
	}
	reg.MustRegister(m.head, m.lag, m.reorgs, m.undone, m.events)
	return &Syncer{cfg: cfg, db: db, chain: c, contracts: contracts, log: log, metrics: m}
}

// Run mirrors the chain until ctx ends. It ends by itself when no row could be
// trusted: with errs.Invalid when the RPC serves another chain than the one the
// rows are of, with errs.Internal when the chain changed deeper than can be
// taken back.
func (s *Syncer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return loop.Every(ctx, s.log, s.cfg.Interval, delayMax, nil, func(ctx context.Context) error {
		at, err := s.pass(ctx)
		s.reach(time.Now(), at, err)
		var end *fatal
		if errors.As(err, &end) {
			stop(end.err)
		}
		return err
	})
}

// reach notes how a pass ended.
func (s *Syncer) reach(now time.Time, at sight, err error) {
	last := s.word.Load()
	if last == nil {
		last = &word{}
	}
	if err != nil {
		s.word.Store(&word{head: last.head})
		return
	}
	next := &word{head: at.head.Number, reachedAt: now, doubt: s.doubt(now, at)}
	if next.doubt != nil {
		// One RPC of several may lag behind the one that was asked before.
		next.reachedAt, next.head = last.reachedAt, max(last.head, next.head)
	}
	s.word.Store(next)
}

// doubt says why the head may not be the chain's newest block: an RPC that has
// stopped to follow the chain serves an old one, and says so as calmly as ever.
func (s *Syncer) doubt(now time.Time, at sight) error {
	if at.head.Number < at.rows.Number {
		return errs.New(errs.Unavailable, "the RPC is at block %d and has been at block %d: wait for it, or set another [chain] rpc_url",
			at.head.Number, at.rows.Number)
	}
	age := now.Sub(time.Unix(int64(at.head.Time), 0)).Truncate(time.Second)
	if id := s.chain.ChainID(); age > headAgeMax && (!id.IsUint64() || id.Uint64() != localChain) {
		return errs.New(errs.Unavailable, "the RPC's newest block is %v old: set another [chain] rpc_url, or correct this computer's clock", age)
	}
	return nil
}

// Synced reports whether the rows were those of the chain's head a moment ago:
// what is not in them is then not on the chain either.
func (s *Syncer) Synced() bool {
	w := s.word.Load()
	return w != nil && time.Since(w.reachedAt) < max(syncedMax, 3*s.cfg.Interval)
}

// Ready reports nil when Synced, else what is missing.
func (s *Syncer) Ready(context.Context) error {
	if s.Synced() {
		return nil
	}
	if w := s.word.Load(); w != nil && w.doubt != nil {
		return w.doubt
	}
	return errs.New(errs.Unavailable, "the rows are behind the chain")
}

// Heights returns the number of the newest block in the database and that of the
// chain's, as far as it is known; known is false before the first block is in the
// database.
func (s *Syncer) Heights(ctx context.Context) (read, newest int64, known bool, err error) {
	rows, err := s.db.Head(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, err
	}
	head := rows.Number
	if w := s.word.Load(); w != nil {
		head = max(head, w.head)
	}
	return int64(rows.Number), int64(head), true, nil
}

// fatal is an error after which no row can be trusted.
type fatal struct{ err error }

// Error implements error.
func (f *fatal) Error() string { return f.err.Error() }

// Unwrap makes errors.Is find the cause.
func (f *fatal) Unwrap() error { return f.err }

// Time returns chain time: the time of the newest block in the database, unix
// seconds. errs.NotFound before the first.
func (s *Syncer) Time(ctx context.Context) (uint64, error) {
	head, err := s.db.Head(ctx)
	if err != nil {
		return 0, err
	}
	return head.Time, nil
}

// sight is what a pass ended with: the chain's head as the RPC has it, and the
// newest block in the database.
type sight struct {
	head *chain.Header
	rows *state.Block
}

// pass folds every block up to the head.
func (s *Syncer) pass(ctx context.Context) (sight, error) {
	if err := s.check(ctx); err != nil {
		return sight{}, err
	}
	for {
		head, err := s.chain.Head(ctx)
		if err != nil {
			return sight{}, err
		}
		last, err := s.last(ctx)
		if err != nil {
			return sight{}, err
		}
		if err := s.advance(ctx, head, last); err != nil {
			return sight{}, err
		}
		now, err := s.last(ctx)
		if err != nil {
			return sight{}, err
		}
		s.metrics.head.Set(float64(now.Number))
		s.metrics.lag.Set(float64(head.Number) - float64(now.Number))
		if now.Number >= head.Number || now.Hash == last.Hash {
			return sight{head, now}, nil
		}
	}
}

// check makes sure, once, that the RPC serves the chain that the rows are of.
func (s *Syncer) check(ctx context.Context) error {
	if s.checked {
		return nil
	}
	genesis, err := s.chain.Check(ctx)
	if errors.Is(err, errs.Invalid) {
		return &fatal{err}
	}
	if err != nil {
		return err
	}
	id, err := s.db.Identity(ctx)
	switch {
	case errs.KindOf(err) == errs.NotFound:
	case err != nil:
		return err
	case id.Genesis != "" && common.HexToHash(id.Genesis) != genesis:
		return &fatal{errs.New(errs.Invalid,
			"data_dir belongs to the chain with genesis %s, but the RPC serves %s: correct rpc_url, or use an empty data_dir", id.Genesis, genesis)}
	}
	s.checked = true
	return nil
}

// last returns the newest block in the database; before the first, the one
// before FromBlock, without a hash.
func (s *Syncer) last(ctx context.Context) (*state.Block, error) {
	last, err := s.db.Head(ctx)
	if errs.KindOf(err) == errs.NotFound {
		return &state.Block{Number: max(s.cfg.FromBlock, 1) - 1}, nil
	}
	return last, err
}

// advance takes back what is no longer on the chain, or else folds the next
// blocks.
func (s *Syncer) advance(ctx context.Context, head *chain.Header, last *state.Block) error {
	if head.Number <= last.Number {
		return s.compare(ctx, head, last)
	}
	if head.Number-last.Number > nearMax {
		return s.foldFar(ctx, last, min(head.Number-nearMax, last.Number+rangeMax))
	}
	return s.foldNear(ctx, last, head.Number)
}

// compare handles a head that is not above the last block: the RPC is behind,
// or the chain has turned to a branch that is not longer.
func (s *Syncer) compare(ctx context.Context, head *chain.Header, last *state.Block) error {
	ours, err := s.db.Block(ctx, head.Number)
	if errs.KindOf(err) == errs.NotFound {
		return nil // Far behind, or from before blocks were kept.
	}
	if err != nil || ours.Hash == head.Hash {
		return err
	}
	return s.rollBack(ctx, last)
}

// foldNear folds the blocks after last up to number to, reading each.
func (s *Syncer) foldNear(ctx context.Context, last *state.Block, to uint64) error {
	var numbers []uint64
	if last.Hash != (common.Hash{}) {
		numbers = append(numbers, last.Number) // Is it still there?
	}
	for n := last.Number + 1; n <= to; n++ {
		numbers = append(numbers, n)
	}
	headers, err := s.chain.Headers(ctx, numbers)
	if err != nil {
		return err
	}
	if last.Hash != (common.Hash{}) {
		if headers[0].Hash != last.Hash {
			return s.rollBack(ctx, last)
		}
		headers = headers[1:]
	}
	hashes := make([]common.Hash, len(headers))
	for i, h := range headers {
		if i > 0 && h.Parent != headers[i-1].Hash || i == 0 && last.Hash != (common.Hash{}) && h.Parent != last.Hash {
			return errs.New(errs.Unavailable, "block %d is not a child of block %d: the chain moved while it was read", h.Number, h.Number-1)
		}
		hashes[i] = h.Hash
	}
	logs, err := s.chain.LogsIn(ctx, hashes, s.watched())
	if err != nil {
		return err
	}
	return s.fold(ctx, headers, logs)
}

// foldFar folds the blocks after last up to number to, which are so old that
// they no longer change: only those with events are read, and the last.
func (s *Syncer) foldFar(ctx context.Context, last *state.Block, to uint64) error {
	logs, err := s.chain.LogsBetween(ctx, last.Number+1, to, s.watched())
	if err != nil {
		return err
	}
	var numbers []uint64
	var byBlock [][]types.Log
	for _, l := range logs {
		if n := len(numbers); n == 0 || numbers[n-1] != l.BlockNumber {
			if n > 0 && l.BlockNumber < numbers[n-1] || l.BlockNumber <= last.Number || l.BlockNumber > to {
				return errs.New(errs.Unavailable, "the RPC sent logs out of order at block %d", l.BlockNumber)
			}
			numbers, byBlock = append(numbers, l.BlockNumber), append(byBlock, nil)
		}
		byBlock[len(byBlock)-1] = append(byBlock[len(byBlock)-1], l)
	}
	if n := len(numbers); n == 0 || numbers[n-1] != to {
		numbers, byBlock = append(numbers, to), append(byBlock, nil)
	}
	headers, err := s.chain.Headers(ctx, numbers)
	if err != nil {
		return err
	}
	for i, h := range headers {
		if len(byBlock[i]) > 0 && byBlock[i][0].BlockHash != h.Hash {
			return errs.New(errs.Unavailable, "block %d changed while it was read", h.Number)
		}
	}
	return s.fold(ctx, headers, byBlock)
}

// watched returns the contracts whose events become rows. The token's are not
// among them: balances and allowances are asked for when they matter.
func (s *Syncer) watched() []common.Address {
	c := s.contracts
	return []common.Address{c.NodeRegistry, c.StakingManager, c.JobManager, c.PaymentManager}
}

// fold writes the effects of blocks in one transaction.
func (s *Syncer) fold(ctx context.Context, headers []*chain.Header, logs [][]types.Log) error {
	counts := map[string]int{}
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		for i, h := range headers {
			b := &block{tx: tx, header: h, contracts: s.contracts, counts: counts}
			if err := tx.AtBlock(h.Number, func() error { return b.fold(ctx, logs[i]) }); err != nil {
				return fmt.Errorf("fold block %d: %w", h.Number, err)
			}
		}
		return settle(ctx, tx, headers[len(headers)-1].Number)
	})
	if err != nil {
		return err
	}
	for name, n := range counts {
		s.metrics.events.WithLabelValues(name).Add(float64(n))
	}
	s.log.Debug("folded", "block", headers[len(headers)-1].Number, "count", len(headers))
	return nil
}

// settle forgets how to take back blocks that are deeper than undoMax.
func settle(ctx context.Context, tx *state.Tx, head uint64) error {
	if head < undoMax {
		return nil
	}
	if err := tx.Settle(ctx, head-undoMax); err != nil {
		return err
	}
	return tx.ForgetBlocks(ctx, head-undoMax)
}

// rollBack takes back the blocks that are no longer on the chain, from last
// down to the newest that still is.
func (s *Syncer) rollBack(ctx context.Context, last *state.Block) error {
	to, err := s.ancestor(ctx, last)
	if err != nil {
		return err
	}
	err = s.db.Update(ctx, func(tx *state.Tx) error { return tx.Rollback(ctx, to) })
	if err != nil {
		return fmt.Errorf("take back blocks %d to %d: %w", to+1, last.Number, err)
	}
	s.metrics.reorgs.Inc()
	s.metrics.undone.Add(float64(last.Number - to))
	s.log.Warn("reorganised", "block", to, "count", last.Number-to)
	return nil
}

// ancestor returns the number of the newest block in the database that is still
// on the chain.
func (s *Syncer) ancestor(ctx context.Context, last *state.Block) (uint64, error) {
	low := max(last.Number, undoMax) - undoMax
	var ours []*state.Block
	for n := last.Number; ; n-- {
		b, err := s.db.Block(ctx, n)
		switch {
		case err == nil:
			ours = append(ours, b)
		case errs.KindOf(err) != errs.NotFound:
			return 0, err
		}
		if len(ours) == nearMax || n == low {
			found, ok, err := s.newest(ctx, ours)
			if err != nil || ok {
				return found, err
			}
			ours = nil
		}
		if n == low {
			break
		}
	}
	if low > 0 {
		return 0, &fatal{errs.New(errs.Internal,
			"the chain reorganised more than %d blocks deep: start again with an empty data_dir", undoMax)}
	}
	return max(s.cfg.FromBlock, 1) - 1, nil
}

// newest returns the first of the blocks that is still on the chain.
func (s *Syncer) newest(ctx context.Context, ours []*state.Block) (uint64, bool, error) {
	for _, b := range ours {
		theirs, err := s.chain.Headers(ctx, []uint64{b.Number})
		switch {
		case errs.KindOf(err) == errs.NotFound:
			continue // The new branch is shorter.
		case err != nil:
			return 0, false, err
		case theirs[0].Hash == b.Hash:
			return b.Number, true, nil
		}
	}
	return 0, false, nil
}
