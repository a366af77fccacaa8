package corechannel

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// delayMax bounds the pause after passes that failed.
const delayMax = 5 * time.Minute

// Publisher takes in a message as if somebody had handed it in.
type Publisher interface {
	// Keep keeps the bytes of a content that is not in its message.
	Keep(ctx context.Context, content []byte) error
	// Publish takes in an envelope and tells other nodes. What is refused is an
	// error.
	Publish(ctx context.Context, envelope json.RawMessage) error
}

// Keeper makes the list of nodes. Use New, then Run.
type Keeper struct {
	cfg      Config
	settings core.Settings
	rules    credit.Rules
	db       *state.DB
	key      *ecdsa.PrivateKey // Of the authority; nil on a node that does not publish.
	out      Publisher
	log      *slog.Logger

	// All of these are used by one goroutine.
	started bool
	last    int64 // ID of the last message that was looked at.
	posts   map[message.ItemHash]*entry
	changes []*entry // Of the registry on chain.
	line    line
	every   int // Events between two checkpoints.

	registry, confirmations <-chan struct{}
	reread                  bool // The registry may have changed.
	check                   bool // Posts may have gone.
	place                   bool // Heights may have changed.
	trimmedAt               time.Time
	shown                   []byte // What was served or published last; nil if that is not known.

	events, nodes *prometheus.GaugeVec
}

// New returns a Keeper. rules say whose posts tell balances. key may be nil, and out
// with it.
func New(cfg Config, rules credit.Rules, db *state.DB, key *ecdsa.PrivateKey, out Publisher, reg prometheus.Registerer, log *slog.Logger) (*Keeper, error) {
	if key != nil {
		if address := crypto.PubkeyToAddress(key.PublicKey).Hex(); address != cfg.Authority {
			return nil, errs.New(errs.Invalid, "the key is that of %s, and the list of nodes is that of %s: correct [corechannel] key_path or authority", address, cfg.Authority)
		}
	}
	k := &Keeper{
		cfg: cfg, settings: cfg.settings(), rules: rules, db: db, key: key, out: out, log: log, posts: map[message.ItemHash]*entry{},
		registry: db.Wake("registry"), confirmations: db.Wake("confirmations"), reread: true, every: markEvery,
		events: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "aleph_corechannel_events", Help: "Events of which the list of nodes is made, by what tells them."}, []string{"from"}),
		nodes:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "aleph_corechannel_nodes", Help: "Nodes in the list, by kind."}, []string{"kind"}),
	}
	for _, c := range []prometheus.Collector{k.events, k.nodes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return k, nil
}

// folds reports whether this node needs the list.
func (k *Keeper) folds() bool { return k.key != nil || k.cfg.Serve == ServeOwn }

// Run keeps the list and the metrics up to date until ctx ends; it returns ctx's
// cause.
func (k *Keeper) Run(ctx context.Context) error {
	return loop.Every(ctx, k.log, k.cfg.Interval, delayMax, nil, func(ctx context.Context) error { return k.Pass(ctx, time.Now()) })
}

// Pass brings the list and the metrics up to date.
func (k *Keeper) Pass(ctx context.Context, now time.Time) error {
	if err := k.measure(ctx, now); err != nil {
		return err
	}
	if !k.folds() {
		if k.started {
			return nil
		}
		k.started = true
		return k.db.Update(ctx, func(tx *state.Tx) error { return tx.DropOwnAggregate(ctx, k.cfg.Authority, core.AggregateKey) })
	}
	if err := k.follow(ctx); err != nil {
		return err
	}
	content, err := k.fold(ctx)
	if err != nil {
		return err
	}
	if k.key != nil {
		return k.publish(ctx, content, now)
	}
	return k.serve(ctx, content, now)
}

// mentions reports whether a content may be one of the kinds of posts; it is a look
// that costs less than to read it.
func mentions(content []byte, kinds []string) bool {
	text := string(content)
	for _, kind := range kinds {
		if strings.Contains(text, kind) {
			return true
		}
	}
	return false
}
