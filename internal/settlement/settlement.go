package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// passDelayMax bounds the pause after failed passes: prepaid time is minutes.
const passDelayMax = 30 * time.Second

// Config says when money moves. Seconds are of chain time.
type Config struct {
	Interval        time.Duration `toml:"interval"`          // Time between two looks.
	LowWaterSeconds uint64        `toml:"low_water_seconds"` // Prepaid time is refilled when less is left; 0 = a third of the contract's window.
	RetrySeconds    uint64        `toml:"retry_seconds"`     // When a transaction changed nothing, it is sent again after this.
	ClaimSeconds    uint64        `toml:"claim_seconds"`     // Time between two claims from a running job.
	WithdrawMinWei  string        `toml:"withdraw_min_wei"`  // Earnings are withdrawn from this much on, in token wei.
	RefundMinWei    string        `toml:"refund_min_wei"`    // Refunds are paid out from this much on, in token wei.
}

// DefaultConfig keeps gas below a hundredth of what it moves: claims daily,
// payouts from one ALEPH on.
func DefaultConfig() Config {
	return Config{
		Interval: 5 * time.Second, RetrySeconds: 60, ClaimSeconds: 24 * 3600,
		WithdrawMinWei: "1000000000000000000", RefundMinWei: "1000000000000000",
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Interval < 100*time.Millisecond:
		return fmt.Errorf("interval is %v, want at least 100ms", c.Interval)
	case c.RetrySeconds < 1 || c.RetrySeconds > 86_400:
		return fmt.Errorf("retry_seconds is %d, want 1 to 86400", c.RetrySeconds)
	case c.ClaimSeconds < 60:
		return fmt.Errorf("claim_seconds is %d, want at least 60", c.ClaimSeconds)
	case c.LowWaterSeconds > 86_400:
		return fmt.Errorf("low_water_seconds is %d, want at most 86400", c.LowWaterSeconds)
	}
	for name, text := range map[string]string{"withdraw_min_wei": c.WithdrawMinWei, "refund_min_wei": c.RefundMinWei} {
		if _, err := wei(text); err != nil {
			return fmt.Errorf("%s is %q, want a number of wei", name, text)
		}
	}
	return nil
}

func wei(text string) (*big.Int, error) {
	const digitsMax = 39 // of 2^128
	if text == "" || len(text) > digitsMax || strings.Trim(text, "0123456789") != "" {
		return nil, fmt.Errorf("%q is no number of wei", text)
	}
	v, _ := new(big.Int).SetString(text, 10)
	return v, nil
}

// Funds tells what a payer can be asked for, as of now, in token wei.
type Funds interface {
	Funds(ctx context.Context, payer common.Address, token uint8) (balance, allowance, refund *big.Int, err error)
}

// Self is the node that settles.
type Self struct {
	NodeID uint32
	Kind   state.NodeKind // Coordinators keep, compute nodes collect.
}

// Settler settles. Use New.
type Settler struct {
	cfg         Config
	self        Self
	db          *state.DB
	funds       Funds
	log         *slog.Logger
	withdrawMin *big.Int
	refundMin   *big.Int
	intents     *prometheus.CounterVec

	// Only Run's goroutine uses these.
	tries map[string]*try // by base key
	book  book
}

// try is where the repetitions of an action are.
type try struct {
	n       int    // the last one enqueued
	finalAt uint64 // chain time at which it was seen to have ended; 0 = not yet
	pass    int    // the last pass that wanted the action
}

// New returns a Settler for the rows in db. The config has been validated.
func New(cfg Config, self Self, db *state.DB, funds Funds, reg prometheus.Registerer, log *slog.Logger) (*Settler, error) {
	withdrawMin, err := wei(cfg.WithdrawMinWei)
	if err != nil {
		return nil, err
	}
	refundMin, err := wei(cfg.RefundMinWei)
	if err != nil {
		return nil, err
	}
	s := &Settler{
		cfg: cfg, self: self, db: db, funds: funds, log: log, withdrawMin: withdrawMin, refundMin: refundMin,
		intents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_settlement_intents_total", Help: "Transactions decided, by method.",
		}, []string{"method"}),
		tries: map[string]*try{}, book: newBook(),
	}
	if err := reg.Register(s.intents); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// Run settles until ctx ends.
func (s *Settler) Run(ctx context.Context) error {
	passes := 0
	wake := s.db.Wake("jobs", "accounts", "payments")
	return loop.Every(ctx, s.log, s.cfg.Interval, passDelayMax, wake, func(ctx context.Context) error {
		passes++
		return s.pass(ctx, passes)
	})
}

// scene is what a pass knows.
type scene struct {
	pass   int
	now    uint64 // chain time
	head   uint64 // block
	params state.Params
	rank   uint64 // how many coordinators act before this one
}

// pass enqueues all that is due.
func (s *Settler) pass(ctx context.Context, n int) error {
	sc := &scene{pass: n}
	ready, err := s.look(ctx, sc)
	if err != nil || !ready {
		return err
	}
	duties := []func(context.Context, *scene) error{s.refill, s.closeOverdue, s.endJobs, s.payRefunds}
	if s.self.Kind == state.KindCompute {
		duties = []func(context.Context, *scene) error{s.claimEnded, s.claimRunning, s.withdraw}
	}
	for _, duty := range duties {
		err = errors.Join(err, duty(ctx, sc))
	}
	if err != nil {
		return err // What it did not come to may have its reason still.
	}
	for key, t := range s.tries {
		if t.pass != n {
			delete(s.tries, key) // Its reason is gone.
		}
	}
	return nil
}

// isFinal reports whether what a block did stays.
func (sc *scene) isFinal(block uint64) bool { return block+finalBlocks <= sc.head }

// look reads the time, the parameters and the node's rank. It is not ready
// before the chain has been seen.
func (s *Settler) look(ctx context.Context, sc *scene) (ready bool, err error) {
	err = s.db.View(ctx, func(v *state.View) error {
		head, err := v.Head(ctx)
		if err != nil {
			return err
		}
		params, err := v.Params(ctx)
		if err != nil {
			return err
		}
		sc.now, sc.head, sc.params = head.Time, head.Number, *params
		nodes, err := v.Nodes(ctx, state.KindCoordinator)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Status == state.NodeActive && n.ID < s.self.NodeID {
				sc.rank++
			}
		}
		ready = true
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	return ready, err
}

// due reports whether something that was due at the time is this node's to do:
// of several coordinators, the next one acts when the one before it has not.
func (s *Settler) due(sc *scene, at uint64) bool { return sc.now >= at+sc.rank*s.cfg.RetrySeconds }

// action is a transaction that is wanted for as long as its reason stands.
type action struct {
	base     string // key of the first try
	contract string
	method   string
	args     []any
	reason   string
}

// want enqueues the action unless it is on its way. When it was mined and is
// wanted still, it is enqueued again, under the next key, after RetrySeconds.
func (s *Settler) want(ctx context.Context, sc *scene, a action) error {
	t := s.tries[a.base]
	if t == nil {
		t = &try{}
		s.tries[a.base] = t
	}
	t.pass = sc.pass
	args, err := json.Marshal(a.args)
	if err != nil {
		return fmt.Errorf("encode arguments of %s: %w", a.method, err)
	}
	enqueued := false
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		for {
			key := tryKey(a.base, t.n)
			i, err := tx.Intent(ctx, key)
			if errors.Is(err, errs.NotFound) {
				enqueued, err = tx.Enqueue(ctx, state.Intent{
					Key: key, Contract: a.contract, Method: a.method, Args: args, Reason: a.reason,
				})
				return err
			}
			if err != nil {
				return err
			}
			next, err := tx.Intent(ctx, tryKey(a.base, t.n+1))
			switch {
			case err == nil && next != nil: // Tried before a restart.
				t.n, t.finalAt = t.n+1, 0
				continue
			case !errors.Is(err, errs.NotFound):
				return err
			case i.Status == state.IntentPending || i.Status == state.IntentSent:
				return nil
			case t.finalAt == 0:
				t.finalAt = sc.now
				return nil
			case sc.now < t.finalAt+s.cfg.RetrySeconds:
				return nil
			}
			t.n, t.finalAt = t.n+1, 0
		}
	})
	if err != nil {
		return fmt.Errorf("enqueue %s: %w", a.base, err)
	}
	if enqueued {
		s.intents.WithLabelValues(a.method).Inc()
		s.log.Info("decided", "key", tryKey(a.base, t.n), "method", a.method, "reason", a.reason)
	}
	return nil
}

func tryKey(base string, n int) string {
	if n == 0 {
		return base
	}
	return fmt.Sprintf("%s/%d", base, n)
}

func hex(spec message.ItemHash) string { return "0x" + string(spec) }

func chainTime(at uint64) string { return time.Unix(int64(at), 0).UTC().Format(time.RFC3339) }
