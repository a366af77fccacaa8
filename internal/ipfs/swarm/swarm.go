package swarm

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/flight"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
)

const (
	// meetEvery is the time between two looks for bootstrap peers that are away, and
	// meetDelayMax bounds the pause after failed ones.
	meetEvery, meetDelayMax = 5 * time.Second, time.Minute
	// pinName begins the name of what is pinned in a Kubo.
	pinName = "aleph-onchain "
)

// Parts are what a Swarm works with.
type Parts struct {
	Store    *ipfs.Store
	Identity ed25519.PrivateKey // That names the node in its own network.
	Mesh     host.Host          // The host of that network.
	// Room makes room for so many bytes, or returns errs.Exhausted; nil does nothing.
	Room func(ctx context.Context, sizeBytes int64) error
}

// Swarm is the node among peers of IPFS. Use Open, then Run, then Close. It is safe
// for concurrent use.
type Swarm struct {
	cfg       Config
	log       *slog.Logger
	store     *ipfs.Store
	room      func(ctx context.Context, sizeBytes int64) error
	metrics   *metrics
	exchanges []*exchange
	sources   []source // In the order in which they are asked.
	turns     chan struct{}

	own       host.Host // nil unless there is a network beside the node's own
	table     *dht.IpfsDHT
	bootstrap []peer.AddrInfo
	pinner    *pinner // nil unless a Kubo gets what is here
	cancel    context.CancelFunc

	flights flight.Group[string, ipfs.Root]
}

// Open serves blocks over the node's own network, and listens for peers of IPFS if
// cfg, validated, says so.
func Open(ctx context.Context, cfg Config, parts Parts, reg prometheus.Registerer, log *slog.Logger) (_ *Swarm, err error) {
	s := &Swarm{
		cfg: cfg, log: log, store: parts.Store, room: parts.Room,
		turns: make(chan struct{}, cfg.MaxFetches),
	}
	// The exchanges outlive the call that opens them; Close ends them.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.metrics, err = newMetrics(reg); err != nil {
		return nil, err
	}
	s.trade(newExchange(life, "mesh", parts.Mesh, nil, view{s.store}, cfg.ServeRate, s.metrics))
	if cfg.Enabled {
		if err := s.openHost(life, parts.Identity); err != nil {
			return nil, err
		}
	}
	return s, s.openHTTP(parts.Identity)
}

func (s *Swarm) trade(x *exchange) {
	s.exchanges = append(s.exchanges, x)
	s.sources = append(s.sources, x)
}

// openHost opens the host beside that of the node's own network.
func (s *Swarm) openHost(life context.Context, identity ed25519.PrivateKey) (err error) {
	if s.bootstrap, err = s.cfg.bootstrap(); err != nil {
		return err
	}
	if s.own, err = newHost(s.cfg, identity); err != nil {
		return err
	}
	v := view{s.store}
	if s.cfg.DHT == DHTOff {
		s.trade(newExchange(life, "swarm", s.own, nil, v, s.cfg.ServeRate, s.metrics))
		return nil
	}
	if s.table, err = newDHT(s.own, s.cfg.DHT, s.bootstrap); err != nil {
		return err
	}
	s.trade(newExchange(life, "swarm", s.own, s.table, v, s.cfg.ServeRate, s.metrics))
	return nil
}

// openHTTP adds the servers that are asked when no peer helps.
func (s *Swarm) openHTTP(identity ed25519.PrivateKey) error {
	client := newClient()
	for _, text := range s.cfg.Gateways {
		base, err := baseURL(text)
		if err != nil {
			return fmt.Errorf("gateways: %w", err)
		}
		s.sources = append(s.sources, gateway{base, client})
	}
	if s.cfg.KuboRPC == "" {
		return nil
	}
	base, err := baseURL(s.cfg.KuboRPC)
	if err != nil {
		return fmt.Errorf("kubo_rpc: %w", err)
	}
	k := kubo{base, client}
	s.sources = append(s.sources, k)
	if !s.cfg.KuboPin {
		return nil
	}
	key, err := swarmKey(identity)
	if err != nil {
		return err
	}
	id, err := peerOf(key)
	if err != nil {
		return err
	}
	s.pinner = &pinner{store: s.store, kubo: k, name: pinName + id.String()}
	return nil
}

// Close leaves the swarm and ends every fetch. Nothing may be in use.
func (s *Swarm) Close() error {
	s.cancel()
	var out []error
	for _, x := range s.exchanges {
		out = append(out, x.close())
	}
	if s.table != nil {
		out = append(out, s.table.Close())
	}
	if s.own != nil {
		out = append(out, s.own.Close())
	}
	if s.metrics != nil {
		s.metrics.unregister()
	}
	return errors.Join(out...)
}

// Addrs returns the addresses at which peers of IPFS find this node: multiaddresses
// that end in /p2p/<id>; none if it is in its own network only.
func (s *Swarm) Addrs() []string {
	if s.own == nil {
		return nil
	}
	var out []string
	for _, a := range s.own.Addrs() {
		out = append(out, a.String()+"/p2p/"+s.own.ID().String())
	}
	return out
}

// Run stays connected to the bootstrap peers, and announces what is here, until ctx
// ends; it returns ctx's cause.
func (s *Swarm) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.own != nil {
		wg.Go(func() {
			_ = loop.Every(ctx, s.log, meetEvery, meetDelayMax, nil, s.meet) // ctx's cause
		})
	}
	if s.table != nil {
		if err := s.table.Bootstrap(ctx); err != nil {
			return fmt.Errorf("start routing table: %w", err)
		}
		a := &announcer{
			store: s.store, interval: s.cfg.ProvideInterval, metrics: s.metrics,
			ready:   func() bool { return s.table.RoutingTable().Size() > 0 },
			provide: func(ctx context.Context, c cid.Cid) error { return s.table.Provide(ctx, c, true) },
		}
		wg.Go(func() { s.every(ctx, a.pass) })
	}
	if s.pinner != nil {
		wg.Go(func() { s.every(ctx, s.pinner.pass) })
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// every runs a pass again and again until ctx ends.
func (s *Swarm) every(ctx context.Context, pass func(context.Context, time.Time) error) {
	_ = loop.Every(ctx, s.log, announceEvery, announceDelayMax, nil, func(ctx context.Context) error { // ctx's cause
		return pass(ctx, time.Now())
	})
}

// meet dials the bootstrap peers that are away.
func (s *Swarm) meet(ctx context.Context) error {
	failed := make([]error, len(s.bootstrap))
	each(len(s.bootstrap), len(s.bootstrap), func(i int) {
		info := s.bootstrap[i]
		if info.ID == s.own.ID() || s.own.Network().Connectedness(info.ID) == network.Connected {
			return
		}
		s.own.ConnManager().Protect(info.ID, "bootstrap")
		if err := s.own.Connect(ctx, info); err != nil {
			failed[i] = fmt.Errorf("connect to bootstrap peer %s: %w", info.ID, err)
		}
	})
	return errors.Join(failed...)
}
