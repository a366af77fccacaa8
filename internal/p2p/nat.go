package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// What a relay gives to nodes that others cannot dial: enough to punch a hole and to
// ask small questions, not to live on.
const (
	relayReservationsMax      = 128              // nodes that may be reached through this one
	relayReservationsPerIPMax = 8                // of them behind one address
	relayCircuitsPerPeerMax   = 16               // connections of one node through this one
	relayCircuitMax           = 10 * time.Minute // life of one
	relayBytesMax             = 16 << 20         // bytes of one in each direction
	relayBuffer               = 16 << 10         // bytes of memory of one in each direction
	relayReservationTTL       = time.Hour
)

const (
	// relaysWanted is through how many relays a node that others cannot dial is reached.
	relaysWanted = 2
	// relayRetry is how soon relays are looked for again.
	relayRetry = 30 * time.Second
	// relayBackoff is how long a relay that failed is left alone.
	relayBackoff = 5 * time.Minute
)

// natOptions are what lets nodes behind a router be reached. On loopback and in a
// private network nobody needs them, unless the operator says how it is.
func (h *Host) natOptions(cfg Config, listen, announce []ma.Multiaddr, relays []peer.AddrInfo) []libp2p.Option {
	opts := []libp2p.Option{libp2p.AddrsFactory(func(own []ma.Multiaddr) []ma.Multiaddr { return append(own[:len(own):len(own)], announce...) })}
	if local(listen) && cfg.Reachability == ReachAuto {
		return append(opts, libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery())
	}
	opts = append(opts, libp2p.EnableRelay())
	switch cfg.Reachability {
	case ReachPublic:
		// Who knows that it can be dialled still dials others back: often it is the first
		// node of a network, and there is nobody else to ask.
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableAutoNATv2(), libp2p.EnableNATService())
	case ReachPrivate:
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	default:
		opts = append(opts, libp2p.EnableAutoNATv2(), libp2p.EnableNATService())
	}
	if cfg.RelayService {
		opts = append(opts, libp2p.EnableRelayService(relay.WithResources(relayResources())))
	}
	if cfg.HolePunching {
		opts = append(opts, libp2p.EnableHolePunching())
	}
	if cfg.UPnP {
		opts = append(opts, libp2p.NATPortMap())
	}
	if cfg.Reachability == ReachPublic {
		return opts
	}
	tuning := []autorelay.Option{
		autorelay.WithNumRelays(relaysWanted), autorelay.WithMinCandidates(1), autorelay.WithBootDelay(0), autorelay.WithBackoff(relayBackoff),
	}
	if len(relays) > 0 {
		return append(opts, libp2p.EnableAutoRelayWithStaticRelays(relays, tuning...))
	}
	return append(opts, libp2p.EnableAutoRelayWithPeerSource(h.relayCandidates, append(tuning, autorelay.WithMinInterval(relayRetry))...))
}

func relayResources() relay.Resources {
	r := relay.DefaultResources()
	r.Limit = &relay.RelayLimit{Duration: relayCircuitMax, Data: relayBytesMax}
	r.ReservationTTL, r.BufferSize = relayReservationTTL, relayBuffer
	r.MaxReservations, r.MaxReservationsPerIP, r.MaxCircuits = relayReservationsMax, relayReservationsPerIPMax, relayCircuitsPerPeerMax
	return r
}

// relayCandidates names up to num peers that may relay: those that the operator
// trusts first, then nodes that are registered, which have a stake to lose.
func (h *Host) relayCandidates(ctx context.Context, num int) <-chan peer.AddrInfo {
	out := make(chan peer.AddrInfo, num)
	defer close(out)
	sent := map[peer.ID]bool{h.self: true}
	give := func(info peer.AddrInfo) {
		if sent[info.ID] || len(sent) > num || ctx.Err() != nil {
			return
		}
		sent[info.ID] = true
		out <- info
	}
	for _, info := range h.bootstrap {
		give(info)
	}
	for _, info := range h.nodes.registered() {
		give(info)
	}
	return out
}

// mayBeRelayed lets a stream go through a relay: questions and bulk do, gossip does
// not.
func mayBeRelayed(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "nothing better")
}
