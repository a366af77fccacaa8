package scheduler

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

const (
	// attempt numbers the tries to place a job. A job that fails to start is
	// over, so there is one.
	attempt = 0
	// offersMax bounds the offers of one pass; the next one goes on from there.
	offersMax = 256
	// passDelayMax bounds the pause after failed passes, and after failures of
	// one offer: its deadline is minutes away.
	passDelayMax = 30 * time.Second
	// reasonCharsMax bounds a foreign text inside a reason.
	reasonCharsMax = 300
)

// Config says how offers are given to nodes.
type Config struct {
	Interval      time.Duration `toml:"interval"`       // Time between two looks at offers that no node has taken.
	AskTimeout    time.Duration `toml:"ask_timeout"`    // How long a node may take to answer.
	AskParallel   int           `toml:"ask_parallel"`   // How many offers are placed at the same time.
	DeclineRetry  time.Duration `toml:"decline_retry"`  // How long a node that declined or was away is passed over for the same offer.
	AdMaxAge      time.Duration `toml:"ad_max_age"`     // A node whose last capacity ad is older counts as away.
	AcceptSeconds uint64        `toml:"accept_seconds"` // Seconds of chain time in which an accepted job must be opened.
}

// DefaultConfig suits ads every ten seconds and blocks every few.
func DefaultConfig() Config {
	return Config{
		Interval: 2 * time.Second, AskTimeout: 10 * time.Second, AskParallel: 16,
		DeclineRetry: 20 * time.Second, AdMaxAge: 35 * time.Second, AcceptSeconds: 300,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Interval < 100*time.Millisecond:
		return fmt.Errorf("interval is %v, want at least 100ms", c.Interval)
	case c.AskTimeout < time.Second || c.AskTimeout > 5*time.Minute:
		return fmt.Errorf("ask_timeout is %v, want 1s to 5m", c.AskTimeout)
	case c.AskParallel < 1 || c.AskParallel > 256:
		return fmt.Errorf("ask_parallel is %d, want 1 to 256", c.AskParallel)
	case c.DeclineRetry < time.Second:
		return fmt.Errorf("decline_retry is %v, want at least 1s", c.DeclineRetry)
	case c.AdMaxAge < 10*time.Second:
		return fmt.Errorf("ad_max_age is %v, want at least 10s, the time between two ads", c.AdMaxAge)
	case c.AcceptSeconds < 30 || c.AcceptSeconds > 3600:
		return fmt.Errorf("accept_seconds is %d, want 30 to 3600", c.AcceptSeconds)
	}
	return nil
}

// Asker asks another node a question and returns its answer. An error means
// that the node could not be reached or did not answer sensibly.
type Asker interface {
	Ask(ctx context.Context, peerID string, ask *job.Ask) (*job.Reply, error)
}

// Self is the coordinator that plans.
type Self struct {
	NodeID uint32
	Key    *ecdsa.PrivateKey // Of the node's signer.
	Domain job.Domain        // Of JobManager.
}

// Planner gives offers to nodes. Use New.
type Planner struct {
	cfg   Config
	self  Self
	db    *state.DB
	asker Asker
	table *pricing.Table
	log   *slog.Logger

	outcomes *prometheus.CounterVec
	took     prometheus.Histogram

	mu     sync.Mutex
	claims map[message.ItemHash]claim              // what was promised and no ad shows yet; guarded by mu
	passed map[message.ItemHash]map[uint32]refusal // who declined an offer; guarded by mu
	ads    map[uint32]parsedAd                     // decoded ads; guarded by mu

	// Only Run's goroutine uses these.
	last   *state.Offer                 // The last offer of the pass before; nil to begin with the oldest.
	failed map[message.ItemHash]failure // Offers whose placing failed.
}

// failure is how often in a row an offer could not be placed because of this
// node, and when it is tried again.
type failure struct {
	count int
	until time.Time
}

// claim is what an offer takes from a node that the node's ads may not show
// yet.
type claim struct {
	nodeID uint32
	needs  job.Needs
	at     time.Time // Ads received later show it; zero while the node is being asked.
}

// refusal is why a node did not take an offer.
type refusal struct {
	reason  string
	until   time.Time // The node is asked again then.
	heardAt time.Time // Of a node that was away, its last ad: with the next one it is back.
}

// holds reports whether the node of h is still passed over.
func (r refusal) holds(h *host, now time.Time) bool {
	back := !r.heardAt.IsZero() && h.receivedAt.After(r.heardAt)
	return now.Before(r.until) && !back
}

// New returns a Planner for the offers in db that asks nodes through asker.
func New(cfg Config, self Self, db *state.DB, asker Asker, reg prometheus.Registerer, log *slog.Logger) (*Planner, error) {
	table, err := pricing.Default()
	if err != nil {
		return nil, fmt.Errorf("read price table: %w", err)
	}
	p := &Planner{
		cfg: cfg, self: self, db: db, asker: asker, table: table, log: log,
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_scheduler_outcomes_total",
			Help: "What became of offers and asks: decided, opened, refused, declined, unreachable, no_candidate, failed.",
		}, []string{"outcome"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aleph_scheduler_place_seconds", Help: "Time from a look at an offer to its decision, asks included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		claims: map[message.ItemHash]claim{},
		passed: map[message.ItemHash]map[uint32]refusal{},
		ads:    map[uint32]parsedAd{},
		failed: map[message.ItemHash]failure{},
	}
	for _, c := range []prometheus.Collector{p.outcomes, p.took} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return p, nil
}

// Run plans until ctx ends.
func (p *Planner) Run(ctx context.Context) error {
	if err := p.recall(ctx); err != nil {
		return err
	}
	wake := p.db.Wake("offers", "capacities", "nodes", "jobs", "intents", "messages")
	return loop.Every(ctx, p.log, p.cfg.Interval, passDelayMax, wake, p.pass)
}

// recall counts again what was decided before a restart and is not on chain.
func (p *Planner) recall(ctx context.Context) error {
	return p.db.View(ctx, func(v *state.View) error {
		decided, err := v.OffersWith(ctx, state.OfferDecided, offersMax)
		if err != nil {
			return err
		}
		for _, o := range decided {
			d, err := v.Decision(ctx, o.Spec, attempt)
			if err != nil {
				return err
			}
			_, needs, _, err := read(ctx, v, o.Spec)
			if err != nil {
				p.log.Warn("decided offer not counted", "job_id", o.Spec, "err", err)
				continue // The node counts it in its ads.
			}
			p.claims[o.Spec] = claim{d.NodeID, needs, d.DecidedAt}
		}
		return nil
	})
}

// pass follows the decided offers and places the others.
func (p *Planner) pass(ctx context.Context) error {
	if err := p.follow(ctx); err != nil {
		return fmt.Errorf("follow decided offers: %w", err)
	}
	offers, err := p.next(ctx)
	if err != nil || len(offers) == 0 {
		return err
	}
	m, err := p.market(ctx)
	if err != nil {
		return fmt.Errorf("read the market: %w", err)
	}
	p.placeAll(ctx, m, offers)
	return nil
}

// next returns the offers of this pass. When there are more than go into one,
// the passes take turns, so that offers that nobody takes do not hide the rest.
func (p *Planner) next(ctx context.Context) ([]state.Offer, error) {
	page, err := p.db.OffersAfter(ctx, state.OfferOffered, p.last, offersMax)
	if err == nil && len(page) == 0 && p.last != nil {
		page, err = p.db.OffersAfter(ctx, state.OfferOffered, nil, offersMax)
	}
	if err != nil {
		return nil, err
	}
	p.last = nil
	if len(page) == offersMax {
		p.last = &page[offersMax-1]
	}
	now := time.Now()
	for spec, f := range p.failed {
		if now.Sub(f.until) > passDelayMax { // It was tried since, or is gone.
			delete(p.failed, spec)
		}
	}
	offers := make([]state.Offer, 0, len(page))
	for _, o := range page {
		if !now.Before(p.failed[o.Spec].until) {
			offers = append(offers, o)
		}
	}
	return offers, nil
}

// placeAll places offers side by side, so that a node that is slow to answer
// delays only the offers it was asked about, and one that fails delays itself.
func (p *Planner) placeAll(ctx context.Context, m *market, offers []state.Offer) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, p.cfg.AskParallel)
	failed := make([]error, len(offers))
	for i, o := range offers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			failed[i] = p.place(ctx, m, o)
		})
	}
	wg.Wait()
	for i, err := range failed {
		switch {
		case err == nil:
			delete(p.failed, offers[i].Spec)
		case ctx.Err() != nil:
			return // Cut short: no failure of an offer.
		case errors.Is(err, errs.Conflict):
			p.log.Info("offer changed meanwhile", "job_id", offers[i].Spec, "err", err)
		default:
			p.fail(ctx, offers[i], err)
		}
	}
}

// fail notes that an offer could not be placed, and holds it back for a while.
// What went wrong here is for the log; the payer is told that something did.
func (p *Planner) fail(ctx context.Context, o state.Offer, cause error) {
	f := p.failed[o.Spec]
	f.count++
	wait := min(p.cfg.Interval<<min(f.count, 10), passDelayMax)
	f.until = time.Now().Add(wait)
	p.failed[o.Spec] = f
	p.outcomes.WithLabelValues("failed").Inc()
	p.log.Warn("placing failed", "job_id", o.Spec, "attempt", f.count, "retry_in", wait, "err", cause)
	if err := p.wait(ctx, o, o.Candidates, "this coordinator could not place it because of a failure of its own, and will try again"); err != nil {
		p.log.Warn("failure not noted", "job_id", o.Spec, "err", err)
	}
}
