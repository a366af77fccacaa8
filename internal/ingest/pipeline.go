package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// Config says how patient the node is with messages that wait for something, and
// whose words of the network's prices count.
type Config struct {
	RetryInterval    time.Duration `toml:"retry_interval"`    // Time between two looks for pending messages that are due.
	RetriesMax       int           `toml:"retries_max"`       // Looks after the first at which a message that still waits is refused; it is taken up again when what it lacks comes.
	KeepFiles        bool          `toml:"keep_files"`        // Fetch and keep every file that a STORE message names.
	CatchUpInterval  time.Duration `toml:"catch_up_interval"` // Time between two comparisons of a coordinator's messages with those of a peer, beyond the one when they meet; "0s" = never.
	GracePeriod      time.Duration `toml:"grace_period"`      // Time that a file is kept that nothing wants any more, or nothing yet.
	RemovalInterval  time.Duration `toml:"removal_interval"`  // Time between two looks of a coordinator for what nobody pays for any more.
	RemovalGrace     time.Duration `toml:"removal_grace"`     // Time in which the owner of such a thing can pay again before it is removed.
	PricingAuthority string        `toml:"pricing_authority"` // Address whose aggregates pricing and settings are the network's prices.
	CreditAuthority  string        `toml:"credit_authority"`  // Address whose posts give and take credits.
	BalanceAuthority []string      `toml:"balance_authority"` // Addresses whose posts say who holds how many tokens.
}

// DefaultConfig is that of the public network.
func DefaultConfig() Config {
	rules := credit.Network()
	return Config{
		CreditAuthority: rules.Authority, BalanceAuthority: rules.BalanceOwners,
		RetryInterval: time.Second, RetriesMax: 10, KeepFiles: true, CatchUpInterval: time.Minute, GracePeriod: 24 * time.Hour,
		RemovalInterval: 30 * time.Minute, RemovalGrace: 25 * time.Hour, PricingAuthority: "0xFba561a84A537fCaa567bb7A2257e7142701ae2A",
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.RetryInterval < 10*time.Millisecond {
		return fmt.Errorf("retry_interval is %v, want at least 10ms", c.RetryInterval)
	}
	if c.RetriesMax < 0 {
		return fmt.Errorf("retries_max is %d, want at least 0", c.RetriesMax)
	}
	if c.CatchUpInterval != 0 && c.CatchUpInterval < 10*time.Millisecond {
		return fmt.Errorf("catch_up_interval is %v, want at least 10ms, or 0s", c.CatchUpInterval)
	}
	if c.GracePeriod < time.Minute {
		return fmt.Errorf("grace_period is %v, want at least 1m", c.GracePeriod)
	}
	if c.RemovalInterval < time.Minute {
		return fmt.Errorf("removal_interval is %v, want at least 1m", c.RemovalInterval)
	}
	if c.RemovalGrace < removalIdleMax {
		return fmt.Errorf("removal_grace is %v, want at least %v, which a node may be away", c.RemovalGrace, removalIdleMax)
	}
	return nil
}

// Network is how a Pipeline hears from and tells other nodes; p2p.Host is one.
type Network interface {
	Publish(ctx context.Context, topic string, data []byte) error
	Subscribe(topic string, validate p2p.Validator, handle func(context.Context, p2p.Gossip)) error
	Connected() []p2p.PeerID
	Listeners(topic string) []p2p.PeerID
	Ask(ctx context.Context, id p2p.PeerID, request, reply any) error
	HandleAsk(kind string, fn p2p.AskHandler)
}

// Files has the bytes that messages name: of STORE messages, and of contents that
// are not in their messages.
type Files interface {
	// Stat tells of a file that is here whole, or returns errs.NotFound.
	Stat(ctx context.Context, hash message.ItemHash) (state.FileInfo, error)
	// Fetch brings a file here from other nodes.
	Fetch(ctx context.Context, hash message.ItemHash) error
	// Read returns the bytes of a file that is here, if they are not more than
	// limit; errs.NotFound if it is not here.
	Read(ctx context.Context, hash message.ItemHash, limit int64) ([]byte, error)
}

// Funds reads what an address can pay with, as of the newest block;
// mirror.Syncer is one.
type Funds interface {
	// Funds returns, in the token's smallest unit, the balance, the allowance
	// given to PaymentManager and the refund that waits there.
	Funds(ctx context.Context, owner common.Address, token uint8) (balance, allowance, refund *big.Int, err error)
}

// Pipeline judges messages, offers and capacity ads. Use New, then Run. It is
// safe for concurrent use.
type Pipeline struct {
	cfg    Config
	domain job.Domain
	db     *state.DB
	net    Network
	// onNetwork is false where others tell of what comes in; see untold.go.
	onNetwork bool
	files     Files
	funds     Funds
	table     *pricing.Table
	rules     credit.Rules
	log       *slog.Logger

	writer     writer
	trims      atomic.Int64 // Refusals since the last look at how many are kept.
	pendingMax int
	fetches    fetches
	contents   chan struct{} // A place for each that was published elsewhere and is not in its message.
	runways    chan struct{} // A place for each question of what a wallet has.
	around     Surroundings
	answers    allowances

	prices struct {
		sync.Mutex
		of map[pricesKey]*pricing.Table // guarded by the Mutex
	}

	messages   *prometheus.CounterVec // outcome, code
	turnedAway *prometheus.CounterVec // bound
	offers     *prometheus.CounterVec // outcome
	capacities *prometheus.CounterVec // outcome
	visits     *prometheus.CounterVec // outcome
}

// New returns a Pipeline that keeps what it accepts in db, and hears what
// others publish. The domain is JobManager's. net is nil in a process that shares
// the database of another, which is on the network; funds may be nil on a node that
// takes no offers.
func New(cfg Config, domain job.Domain, db *state.DB, net Network, files Files, funds Funds, reg prometheus.Registerer, log *slog.Logger) (*Pipeline, error) {
	table, err := pricing.Default()
	if err != nil {
		return nil, fmt.Errorf("read price table: %w", err)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	rules := credit.Network()
	rules.Authority, rules.BalanceOwners = cfg.CreditAuthority, cfg.BalanceAuthority
	onNetwork := net != nil
	if !onNetwork {
		net = nobody{}
	}
	p := &Pipeline{
		rules: rules, cfg: cfg, domain: domain, db: db, net: net, onNetwork: onNetwork, files: files, funds: funds, table: table, log: log, pendingMax: pendingRowsMax, around: machine(),
		contents: make(chan struct{}, heardContentsMax), runways: make(chan struct{}, runwaysMax),
		messages:   counter("aleph_ingest_messages_total", "Messages by outcome and, of a refusal, code.", "outcome", "code"),
		turnedAway: counter("aleph_ingest_messages_turned_away_total", "Messages that would have to wait, of which too many do, by whose bound: of all messages, or of one sender.", "bound"),
		offers:     counter("aleph_ingest_offers_total", "Offers by outcome.", "outcome"),
		capacities: counter("aleph_ingest_capacity_ads_total", "Capacity ads by outcome.", "outcome"),
		visits:     catchUpVisits(),
	}
	for _, c := range []prometheus.Collector{p.messages, p.turnedAway, p.offers, p.capacities, p.visits} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	if err := p.listen(); err != nil {
		return nil, err
	}
	return p, nil
}
