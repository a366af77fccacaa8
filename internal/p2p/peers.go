package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// checkInterval is how often missing bootstrap peers are looked for; dials
	// themselves back off.
	checkInterval = time.Second
	// dialBackoffMin and dialBackoffMax bound the pause between two dials of
	// the same peer.
	dialBackoffMin, dialBackoffMax = 500 * time.Millisecond, 15 * time.Second
	// rememberInterval is how often the peers that are connected are written
	// down; a peer may be forgotten if it was met for less.
	rememberInterval = 30 * time.Second
	// knownMax bounds the peers that are remembered and dialled at a start.
	knownMax = 64
	// knownWanted is how many connections are enough to leave remembered peers
	// alone.
	knownWanted = 8
)

// Peer is a node and where it was met.
type Peer struct {
	ID    PeerID
	Addrs []string // Multiaddresses without the /p2p part.
}

// Book remembers peers over restarts.
type Book interface {
	// Known returns up to limit peers, last seen first.
	Known(ctx context.Context, limit int) ([]Peer, error)
	// Remember writes down that the peers were connected at that time.
	Remember(ctx context.Context, peers []Peer, at time.Time) error
}

// dial is how dialling a peer goes.
type dial struct {
	failures int
	nextAt   time.Time
}

// Run keeps the node connected, delivers gossip and answers peers until ctx
// ends; it returns ctx's cause. Subscribe before it.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	h.running = true
	topics := make([]*subscription, 0, len(h.topics))
	for _, s := range h.topics {
		topics = append(topics, s)
	}
	h.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.host.SetStreamHandler(wire.StreamAsk, func(s network.Stream) { h.serveAsk(ctx, s) })
	defer h.host.RemoveStreamHandler(wire.StreamAsk)
	h.host.SetStreamHandler(wire.StreamBulk, func(s network.Stream) { h.serveBulk(ctx, s) })
	defer h.host.RemoveStreamHandler(wire.StreamBulk)
	h.meetKnown(ctx)
	if err := h.dht.Bootstrap(ctx); err != nil {
		return fmt.Errorf("start routing table: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before it waits
	for _, s := range topics {
		wg.Go(func() { h.receive(ctx, s) })
		wg.Go(func() { deliver(ctx, s) })
		events, err := s.topic.EventHandler()
		if err != nil {
			return fmt.Errorf("watch who listens to %s: %w", s.name, err)
		}
		wg.Go(func() { h.watch(ctx, events) })
	}
	wg.Go(func() { h.retell(ctx, topics) })
	wg.Go(func() { h.watchDistance(ctx) })
	wg.Go(func() { h.tellAlive(ctx) })
	again, err := h.newAgain(time.Now())
	if err != nil {
		return err
	}
	defer again.close()
	var rememberedAt time.Time
	return loop.Every(ctx, h.log, checkInterval, dialBackoffMax, h.wake, func(ctx context.Context) error {
		now := time.Now()
		h.meetBootstrap(ctx, now)
		h.lookUp(ctx, now)
		h.meetListed(ctx, now)
		again.lookForPeers(now)
		if err := again.tellPeers(now); err != nil {
			return err
		}
		if h.book == nil || now.Sub(rememberedAt) < rememberInterval {
			return nil
		}
		rememberedAt = now
		h.dht.RefreshRoutingTable()
		return h.remember(ctx, now)
	})
}

// others returns the peers that are not this node.
func (h *Host) others(infos []peer.AddrInfo) []peer.AddrInfo {
	return slices.DeleteFunc(slices.Clone(infos), func(i peer.AddrInfo) bool { return i.ID == h.host.ID() })
}

// meetBootstrap dials the bootstrap peers that are away and due.
func (h *Host) meetBootstrap(ctx context.Context, now time.Time) {
	var wg sync.WaitGroup
	for _, info := range h.others(h.bootstrap) {
		if h.isMet(info.ID) || !h.due(info.ID, now) {
			continue
		}
		h.host.ConnManager().Protect(info.ID, "bootstrap")
		wg.Go(func() { h.meet(ctx, info, now, slog.LevelWarn) })
	}
	wg.Wait()
}

// isMet reports whether a peer is connected, if only through a relay: hole punching sees to
// the rest.
func (h *Host) isMet(id peer.ID) bool {
	c := h.host.Network().Connectedness(id)
	return c == network.Connected || c == network.Limited
}

func (h *Host) due(id peer.ID, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !now.Before(h.dials[id].nextAt)
}

// meet dials a peer and notes how it went; the level is that of the first failure.
func (h *Host) meet(ctx context.Context, info peer.AddrInfo, now time.Time, away slog.Level) {
	// libp2p waits five seconds after a failure; we pace dials ourselves.
	if s, ok := h.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID)
	}
	err := h.connect(ctx, info)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.dials, info.ID)
		h.log.Info("connected", "peer", info.ID.String())
		return
	}
	d := h.dials[info.ID]
	wait := min(dialBackoffMin<<min(d.failures, 10), dialBackoffMax)
	h.dials[info.ID] = dial{failures: d.failures + 1, nextAt: now.Add(wait)}
	if d.failures == 0 && ctx.Err() == nil {
		h.log.Log(ctx, away, "peer is away", "peer", info.ID.String(), "retry_in", wait, "err", err)
	}
}

// meetKnown puts the remembered peers' addresses where dials find them, and
// dials some of them.
func (h *Host) meetKnown(ctx context.Context) {
	if h.book == nil {
		return
	}
	known, err := h.book.Known(ctx, knownMax)
	if err != nil {
		h.log.Warn("remembered peers not read", "err", err)
		return
	}
	var wg sync.WaitGroup
	dialled := 0
	for _, k := range known {
		info, err := k.info()
		if err != nil || info.ID == h.host.ID() {
			continue
		}
		h.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.RecentlyConnectedAddrTTL)
		if dialled++; dialled > knownWanted {
			continue
		}
		wg.Go(func() {
			if err := h.connect(ctx, info); err != nil && ctx.Err() == nil {
				h.log.Debug("remembered peer is away", "peer", info.ID.String(), "err", err)
			}
		})
	}
	wg.Wait()
}

func (p Peer) info() (peer.AddrInfo, error) {
	id, err := peer.Decode(string(p.ID))
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("read peer %s: %w", p.ID, err)
	}
	info := peer.AddrInfo{ID: id}
	var bad []error
	for _, text := range p.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		info.Addrs = append(info.Addrs, a)
	}
	return info, errors.Join(bad...)
}

// remember writes down who is connected, and under which addresses it listens, and who
// told that it lives.
func (h *Host) remember(ctx context.Context, now time.Time) error {
	var met []Peer
	for _, id := range h.host.Network().Peers() {
		p := Peer{ID: PeerID(id.String())}
		for _, a := range h.host.Peerstore().Addrs(id) {
			p.Addrs = append(p.Addrs, a.String())
		}
		if slices.Sort(p.Addrs); len(p.Addrs) > 0 && len(met) < knownMax {
			met = append(met, p)
		}
	}
	for _, info := range h.alive.infos(now) {
		if len(met) < knownMax && h.host.Network().Connectedness(info.ID) == network.NotConnected {
			p := Peer{ID: PeerID(info.ID.String())}
			for _, a := range info.Addrs {
				p.Addrs = append(p.Addrs, a.String())
			}
			met = append(met, p)
		}
	}
	if len(met) == 0 {
		return nil
	}
	if err := h.book.Remember(ctx, met, now); err != nil {
		return fmt.Errorf("remember %d peers: %w", len(met), err)
	}
	return nil
}
