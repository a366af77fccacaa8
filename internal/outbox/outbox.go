// Package outbox sends decided transactions. It is the only writer to chains and the
// only owner of the nonces of the node's accounts: a Sender for each lane, an account
// on a chain.
//
// Services commit intents with their decisions; Sender takes those that are due
// in order, what strangers asked for last and never in all of the room,
// simulates each so that a refusal costs nothing, signs it, and stores the
// signed transaction before anybody else can see it. From then on the same
// bytes are sent until they are mined deep enough, after a crash and after a
// reorganisation too, and a transaction that is stuck is replaced by one with
// the same nonce and a higher fee. So an intent has one effect at most, and
// exactly one unless it is refused or too late.
package outbox

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// waitingMax bounds the due intents that one pass looks at, and yieldingMax
	// those of them that strangers asked for: each costs a question to the RPC.
	waitingMax  = 256
	yieldingMax = 32
	// sentMax bounds the sent intents that one pass follows, those with some
	// confirmations too. At the bound nothing more is sent: there may be others,
	// and their nonces must not be used again.
	sentMax = 512
	// flightMax bounds the transactions that wait to be mined; nodes keep 64 per
	// account by default, in order. Of these, yieldingFlightMax may be taken when
	// an intent yields, so that the others always find room.
	flightMax         = 16
	yieldingFlightMax = flightMax / 2
	// unansweredMax is how many intents an RPC may leave without an answer before
	// a pass gives up: then it is the RPC's trouble and not theirs.
	unansweredMax = 3
	// refusalsMax is how often a simulation may refuse before it is believed,
	// when the refusal could pass: the chain may not have what the intent
	// builds on yet.
	refusalsMax = 4
	// retryMin and retryMax bound the wait after a temporary failure.
	retryMin = time.Second
	retryMax = time.Minute
	// delayMax bounds the wait after a pass that failed.
	delayMax = 30 * time.Second
	// gasMin and gasItem are the least a transaction may use, and what each item
	// of a batch adds: a pull from a token needs that much.
	gasMin  = 600_000
	gasItem = 100_000
	// forgetEvery is how often intents that strangers asked for are forgotten, and
	// forgetKeep how many of all are kept for people to look at.
	forgetEvery = time.Hour
	forgetKeep  = 10_000
	// repeatEvery is how often a transaction that is not mined is sent again;
	// nodes forget.
	repeatEvery = 5 * time.Second
)

// Chain is what the outbox needs of the chain; chain.Client has it.
type Chain interface {
	ChainID() *big.Int
	Head(ctx context.Context) (*chain.Header, error)
	Nonce(ctx context.Context, account common.Address, number *uint64) (uint64, error)
	Balance(ctx context.Context, account common.Address) (*big.Int, error)
	Tip(ctx context.Context) (*big.Int, error)
	Call(ctx context.Context, m chain.Call) ([]byte, error)
	EstimateGas(ctx context.Context, m chain.Call) (uint64, error)
	Send(ctx context.Context, raw []byte) error
	Receipts(ctx context.Context, txs []common.Hash) ([]*chain.Receipt, error)
}

// Contracts says where contracts are and which calls they take; chain.Contracts are
// those of the product.
type Contracts interface {
	Address(name string) (common.Address, error)
	ABI(name string) (*abi.ABI, error)
}

// Config says how transactions are sent.
type Config struct {
	Lane          state.Lane    `toml:"-"`            // Whose intents are sent.
	Interval      time.Duration `toml:"interval"`     // Time between two looks at what was sent.
	Confirmations uint64        `toml:"-"`            // Blocks on top of a transaction's before it is done.
	StuckAfter    time.Duration `toml:"stuck_after"`  // Time after which a transaction that could be mined is replaced by one that pays more.
	MaxFeeGwei    uint64        `toml:"max_fee_gwei"` // The most a unit of gas may cost.
	Replacements  int           `toml:"replacements"` // How often a transaction is replaced at most.
}

// DefaultConfig is for Arbitrum One.
func DefaultConfig() Config {
	return Config{Interval: time.Second, Confirmations: 20, StuckAfter: 30 * time.Second, MaxFeeGwei: 100, Replacements: 8}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	const intervalMin = 50 * time.Millisecond
	switch {
	case c.Interval < intervalMin:
		return errs.New(errs.Invalid, "interval is %v, want at least %v", c.Interval, intervalMin)
	case c.StuckAfter < c.Interval:
		return errs.New(errs.Invalid, "stuck_after is %v, want at least the interval, %v", c.StuckAfter, c.Interval)
	case c.MaxFeeGwei == 0:
		return errs.New(errs.Invalid, "max_fee_gwei is 0, want the most a unit of gas may cost")
	case c.Replacements < 0:
		return errs.New(errs.Invalid, "replacements is %d, want at least 0", c.Replacements)
	}
	return nil
}

// Sender sends intents. Use New.
type Sender struct {
	cfg       Config
	db        *state.DB
	chain     Chain
	contracts Contracts
	key       *ecdsa.PrivateKey
	from      common.Address
	log       *slog.Logger
	outcomes  *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	dear      prometheus.Gauge

	// Only Run's goroutine uses these.
	lastSent  map[common.Hash]time.Time // When each transaction in flight was last sent.
	forgotAt  time.Time                 // When intents were last forgotten.
	heldAfter map[bool]int64            // Up to which intent hold looked, of those that yield and of the others.
}

// New returns a Sender for the intents of a lane in db, which signs with key. Nothing
// else may use that key on that chain.
func New(cfg Config, db *state.DB, c Chain, contracts Contracts, key *ecdsa.PrivateKey,
	log *slog.Logger, reg prometheus.Registerer,
) *Sender {
	family := "aleph_outbox_"
	if cfg.Lane != state.LaneNode {
		family = "aleph_outbox_" + string(cfg.Lane) + "_"
	}
	s := &Sender{
		cfg: cfg, db: db, chain: c, contracts: contracts, key: key,
		from: crypto.PubkeyToAddress(key.PublicKey), log: log, lastSent: map[common.Hash]time.Time{}, heldAfter: map[bool]int64{},
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: family + "outcomes_total", Help: "What happened to intents, by outcome.",
		}, []string{"outcome"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: family + "intents", Help: "Intents that are not done, by status.",
		}, []string{"status"}),
		dear: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: family + "gas_too_dear", Help: "1 while gas costs more than max_fee_gwei, so that nothing is sent.",
		}),
	}
	reg.MustRegister(s.outcomes, s.waiting, s.dear)
	return s
}

// Address returns the account that pays for the transactions.
func (s *Sender) Address() common.Address { return s.from }

// Run sends intents until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	return loop.Every(ctx, s.log, s.cfg.Interval, delayMax, s.db.Wake("intents", "blocks", "sync_blocks"), s.pass)
}

func (s *Sender) intents() state.LaneIntents { return s.db.Intents(s.cfg.Lane) }

// pass follows what was sent and then sends what is due.
func (s *Sender) pass(ctx context.Context) error {
	if err := s.reopen(ctx); err != nil {
		return err
	}
	if err := s.forget(ctx); err != nil {
		return err
	}
	sent, err := s.intents().With(ctx, sentMax, state.IntentSent)
	if err != nil {
		return err
	}
	pending, err := s.intents().Count(ctx, state.IntentPending)
	if err != nil {
		return err
	}
	s.waiting.WithLabelValues(string(state.IntentSent)).Set(float64(len(sent)))
	s.waiting.WithLabelValues(string(state.IntentPending)).Set(float64(pending))
	if len(sent) == 0 && pending == 0 {
		return nil
	}
	head, err := s.chain.Head(ctx)
	if err != nil {
		return err
	}
	used, err := s.chain.Nonce(ctx, s.from, nil)
	if err != nil {
		return err
	}
	f := &flight{head: head, used: used, taken: map[uint64]bool{}}
	if err := s.follow(ctx, f, sent); err != nil {
		return err
	}
	if len(sent) >= sentMax {
		s.log.Warn("sending waits for confirmations", "count", len(sent))
		return s.hold(ctx, f, "")
	}
	reason := s.tooDear(f)
	if reason != "" {
		s.dear.Set(1)
		return s.hold(ctx, f, reason)
	}
	s.dear.Set(0)
	if err := s.startDue(ctx, f, false, flightMax, waitingMax); err != nil {
		return err
	}
	if err := s.startDue(ctx, f, true, yieldingFlightMax, yieldingMax); err != nil {
		return err
	}
	if len(f.open) < yieldingFlightMax && f.unanswered < unansweredMax {
		return nil
	}
	return s.hold(ctx, f, "") // Some find no room, or nobody who answers.
}

// startDue starts up to count intents that are due, those that yield or the
// others, while there is room in flight.
func (s *Sender) startDue(ctx context.Context, f *flight, yields bool, room, count int) error {
	if len(f.open) >= room || f.unanswered >= unansweredMax {
		return nil
	}
	due, err := s.intents().Due(ctx, time.Now(), yields, count)
	if err != nil {
		return err
	}
	for i := range due {
		if len(f.open) >= room || f.unanswered >= unansweredMax {
			return nil
		}
		if err := s.start(ctx, f, &due[i]); err != nil {
			return err
		}
	}
	return nil
}

// forget drops what nobody needs, now and then.
func (s *Sender) forget(ctx context.Context) error {
	now := time.Now()
	if now.Sub(s.forgotAt) < forgetEvery {
		return nil
	}
	if err := s.db.Update(ctx, func(tx *state.Tx) error { return tx.ForgetIntents(ctx, forgetKeep) }); err != nil {
		return err
	}
	s.forgotAt = now
	return nil
}

// flight is what a pass knows of the account's transactions.
type flight struct {
	head  *chain.Header
	used  uint64          // The account's nonce: how many of its transactions are mined.
	taken map[uint64]bool // Nonces of sent intents.
	open  []uint64        // Those of them that are not mined.

	unanswered int // How many intents the RPC had no answer about.
}

// next returns the lowest nonce that nothing has: the next one, or one that a
// lost transaction left free.
func (f *flight) next() uint64 {
	n := f.used
	for f.taken[n] {
		n++
	}
	return n
}

// put writes an intent's row by itself.
func (s *Sender) put(ctx context.Context, i *state.Intent) error {
	return s.db.Update(ctx, func(tx *state.Tx) error { return tx.PutIntent(ctx, *i) })
}

// finish writes the last status of an intent.
func (s *Sender) finish(ctx context.Context, i *state.Intent, status state.IntentStatus, reason string) error {
	i.Status, i.Error, i.RetryAt = status, reason, time.Time{}
	if err := s.put(ctx, i); err != nil {
		return err
	}
	for _, t := range i.Txs {
		delete(s.lastSent, t.Hash)
	}
	s.outcomes.WithLabelValues(string(status)).Inc()
	attrs := []any{"intent", i.Key, "status", string(status), "tx", i.TxHash, "block", i.MinedAt, "gas", i.GasUsed}
	if reason == "" {
		s.log.Info("finished", attrs...)
	} else {
		s.log.Warn("finished", append(attrs, "err", reason)...)
	}
	return nil
}

// postpone keeps an intent pending and says why.
func (s *Sender) postpone(ctx context.Context, i *state.Intent, cause error) error {
	i.Attempts++
	wait := min(retryMin<<min(i.Attempts-1, 10), retryMax)
	i.Error, i.RetryAt = cause.Error(), time.Now().Add(wait).UTC()
	s.outcomes.WithLabelValues("retried").Inc()
	s.log.Warn("postponed", "intent", i.Key, "attempt", i.Attempts, "retry_in", wait, "err", cause)
	return s.put(ctx, i)
}

// start brings a pending intent on its way: simulated, signed, stored, sent.
func (s *Sender) start(ctx context.Context, f *flight, i *state.Intent) error {
	if tooLate(f, i) {
		return s.expire(ctx, i)
	}
	call, err := s.callOf(i)
	if err != nil {
		return s.finish(ctx, i, state.IntentReverted, err.Error())
	}
	gas, err := s.simulate(ctx, i, call)
	var revert *chain.Revert
	switch {
	case errors.As(err, &revert):
		return s.refuse(ctx, f, i, revert)
	case err != nil:
		// Perhaps the RPC has no answer about this one ever: others go on.
		if errors.Is(err, errs.Unavailable) {
			f.unanswered++
		}
		return s.postpone(ctx, i, err)
	}
	fee, err := s.fees(ctx, f)
	if err != nil {
		return err
	}
	if err := s.affordable(ctx, gas, fee); err != nil {
		if errs.KindOf(err) != errs.Exhausted {
			return err
		}
		return s.postpone(ctx, i, err)
	}
	i.Nonce = f.next()
	tx, err := s.sign(i.Nonce, gas, fee, call)
	if err != nil {
		return err
	}
	i.Status, i.Txs, i.Error, i.RetryAt = state.IntentSent, []state.SentTx{*tx}, "", time.Time{}
	if err := s.put(ctx, i); err != nil {
		return err
	}
	f.taken[i.Nonce] = true
	f.open = append(f.open, i.Nonce)
	s.outcomes.WithLabelValues("sent").Inc()
	s.log.Info("sent", "intent", i.Key, "tx", tx.Hash, "nonce", i.Nonce, "gas", gas)
	s.broadcast(ctx, i)
	return nil
}

// expire ends an intent that was never sent.
func (s *Sender) expire(ctx context.Context, i *state.Intent) error {
	return s.finish(ctx, i, state.IntentExpired, fmt.Sprintf("the deadline %d passed before it was sent", i.Deadline))
}

func tooLate(f *flight, i *state.Intent) bool { return i.Deadline != 0 && f.head.Time > i.Deadline }

// refuse handles an intent that the contract would refuse now. What can never
// succeed is final; other refusals are believed when they last, and never while
// a transaction of ours that was in flight at the first one may still change
// the outcome.
func (s *Sender) refuse(ctx context.Context, f *flight, i *state.Intent, revert *chain.Revert) error {
	if i.After == 0 && len(f.open) > 0 {
		i.After = slices.Max(f.open) + 1
	}
	if f.used < i.After {
		i.Error, i.RetryAt = revert.Error(), time.Now().Add(retryMin).UTC()
		return s.put(ctx, i)
	}
	i.Refusals++
	final := revert.Kind == errs.Invalid || revert.Kind != errs.Unavailable && i.Refusals >= refusalsMax
	if final {
		return s.finish(ctx, i, state.IntentReverted, revert.Error())
	}
	return s.postpone(ctx, i, revert)
}

// broadcast sends the newest transaction of an intent. A failure is not the
// end: it is sent again until it is mined.
func (s *Sender) broadcast(ctx context.Context, i *state.Intent) {
	t := i.Txs[len(i.Txs)-1]
	s.lastSent[t.Hash] = time.Now()
	if err := s.chain.Send(ctx, t.Raw); err != nil {
		s.outcomes.WithLabelValues("send_failed").Inc()
		s.log.Warn("send failed", "intent", i.Key, "tx", t.Hash, "nonce", i.Nonce, "err", err)
	}
}

// callOf returns the call that an intent is.
func (s *Sender) callOf(i *state.Intent) (chain.Call, error) {
	parsed, err := s.contracts.ABI(i.Contract)
	if err != nil {
		return chain.Call{}, err
	}
	method, ok := parsed.Methods[i.Method]
	if !ok {
		return chain.Call{}, errs.New(errs.Invalid, "%s has no method %q", i.Contract, i.Method)
	}
	to, err := s.contracts.Address(i.Contract)
	if err != nil {
		return chain.Call{}, err
	}
	data, err := Pack(method, i.Args)
	if err != nil {
		return chain.Call{}, err
	}
	return chain.Call{From: s.from, To: to, Data: data}, nil
}

// simulate runs the intent on the newest block and returns the gas it may use.
func (s *Sender) simulate(ctx context.Context, i *state.Intent, call chain.Call) (uint64, error) {
	gas, err := s.chain.EstimateGas(ctx, call)
	if err != nil {
		return 0, err
	}
	if batchOfItems(i) {
		out, err := s.chain.Call(ctx, call)
		if err != nil {
			return 0, err
		}
		if new(big.Int).SetBytes(out).Sign() == 0 {
			return 0, refusedItems()
		}
	}
	if s.cfg.Lane == state.LaneSync {
		return gas + gas/4, nil // What it takes depends on its text alone.
	}
	// State may change before it is mined, and a contract that tries to pull
	// money takes less gas when the pull fails: the estimate alone is not enough.
	return max(gas+gas/4, gasMin+gasItem*items(i)), nil
}

// items returns how many elements the lists among an intent's arguments have.
func items(i *state.Intent) (n uint64) {
	var args []json.RawMessage
	if err := json.Unmarshal(i.Args, &args); err != nil {
		return 0 // It was packed before, so it is an array.
	}
	for _, arg := range args {
		var elements []json.RawMessage
		if json.Unmarshal(arg, &elements) == nil {
			n += uint64(len(elements))
		}
	}
	return n
}

// batchOfItems reports whether the method skips items that it refuses instead
// of reverting; it returns a bit per item that it ended. Not confirmRunning: an
// item without a bit there may have failed, which is an effect too.
func batchOfItems(i *state.Intent) bool {
	return i.Contract == "JobManager" && slices.Contains([]string{"closeForArrears", "expire"}, i.Method)
}

// affordable reports errs.Exhausted when the account cannot pay for the gas.
func (s *Sender) affordable(ctx context.Context, gas uint64, fee fees) error {
	balance, err := s.chain.Balance(ctx, s.from)
	if err != nil {
		return err
	}
	need := new(big.Int).Mul(fee.max, new(big.Int).SetUint64(gas))
	if balance.Cmp(need) < 0 {
		return errs.New(errs.Exhausted, "the node's account %s has %s wei and the transaction may cost %s: send it some ether", s.from, balance, need)
	}
	return nil
}

// sign makes the transaction of a call.
func (s *Sender) sign(nonce, gas uint64, fee fees, call chain.Call) (*state.SentTx, error) {
	id := s.chain.ChainID()
	signed, err := types.SignNewTx(s.key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, Gas: gas, GasTipCap: fee.tip, GasFeeCap: fee.max, To: &call.To, Data: call.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("sign transaction %d: %w", nonce, err)
	}
	raw, err := signed.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode transaction %d: %w", nonce, err)
	}
	return &state.SentTx{Hash: signed.Hash(), Raw: raw, TipWei: fee.tip, FeeWei: fee.max, SentAt: time.Now().UTC()}, nil
}
