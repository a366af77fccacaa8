package p2p

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// pingInterval is how often the round trip to each peer is measured, and pingSoon
	// how often that to peers that came since.
	pingInterval, pingSoon = 30 * time.Second, 5 * time.Second
	// pingMax bounds one measurement, and pingsMax those at the same time.
	pingMax, pingsMax = 5 * time.Second, 16
	// agentMax bounds what a peer says of its software, in bytes.
	agentMax = 128
)

// Connection is a peer with an open connection, as it is now.
type Connection struct {
	ID        PeerID
	Node      uint32   // Number in the registry; 0 for none, or not known.
	Addrs     []string // Multiaddresses of the open connections.
	Agent     string   // What it says of its software; not to be trusted.
	Direction string   // Who opened the oldest connection, of direct ones if there are any: in or out.
	Transport string   // tcp or quic, of that connection; relay if all are through relays.
	Latency   time.Duration
	Score     float64  // Standing in gossip.
	Topics    []string // Topics of ours that it listens to.
	BytesIn   int64
	BytesOut  int64
	Since     time.Time // When that connection was opened.
}

// Peers returns the peers with an open connection: nodes that are registered first,
// then by their names.
func (h *Host) Peers() []Connection {
	topics := h.listeners()
	scores := *h.scored.Load()
	var out []Connection
	for _, id := range h.host.Network().Peers() {
		conns := h.host.Network().ConnsToPeer(id)
		if len(conns) == 0 {
			continue
		}
		slices.SortFunc(conns, func(a, b network.Conn) int {
			return cmp.Or(cmp.Compare(b2i(a.Stat().Limited), b2i(b.Stat().Limited)), a.Stat().Opened.Compare(b.Stat().Opened))
		})
		c := Connection{
			ID: PeerID(id.String()), Node: h.nodes.of(id), Latency: h.host.Peerstore().LatencyEWMA(id), Score: scores[id], Topics: topics[id],
			Direction: direction(conns[0]), Transport: transportOf(conns[0].RemoteMultiaddr()), Since: conns[0].Stat().Opened,
		}
		for _, conn := range conns {
			c.Addrs = append(c.Addrs, conn.RemoteMultiaddr().String())
		}
		if v, err := h.host.Peerstore().Get(id, "AgentVersion"); err == nil {
			agent, _ := v.(string)
			c.Agent = printable(agent)
		}
		used := h.traffic.GetBandwidthForPeer(id)
		c.BytesIn, c.BytesOut = used.TotalIn, used.TotalOut
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Connection) int {
		return cmp.Or(cmp.Compare(b2i(a.Node == 0), b2i(b.Node == 0)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// printable shortens a text of a stranger and drops what a terminal would obey.
func printable(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), agentMax)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, text)
}

// listeners returns our topics by the peers that listen to them.
func (h *Host) listeners() map[peer.ID][]string {
	out := map[peer.ID][]string{}
	h.byTopic.Range(func(name, _ any) bool {
		topic, _ := name.(string)
		for _, id := range h.gossip.ListPeers(topic) {
			out[id] = append(out[id], topic)
		}
		return true
	})
	for _, topics := range out {
		slices.Sort(topics)
	}
	return out
}

func direction(c network.Conn) string {
	if c.Stat().Direction == network.DirOutbound {
		return "out"
	}
	return "in"
}

func transportOf(addr ma.Multiaddr) string {
	if addr == nil {
		return ""
	}
	if _, err := addr.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return transportRelay
	}
	if name, ok := protocolOf(addr); ok {
		return name
	}
	return "other"
}

// measure finds out how far away each peer is, or each of which it is not known. One
// that does not answer pings is left out.
func (h *Host) measure(ctx context.Context, all bool) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, pingsMax)
	for _, id := range h.host.Network().Peers() {
		if !all && h.host.Peerstore().LatencyEWMA(id) > 0 {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, pingMax)
			defer cancel()
			<-ping.Ping(ctx, h.host, id) // It keeps the time itself.
		})
	}
}

// watchDistance measures until ctx ends: all peers now and then, and who came in
// between soon.
func (h *Host) watchDistance(ctx context.Context) {
	var measuredAt time.Time
	tick := time.NewTicker(pingSoon)
	defer tick.Stop()
	for {
		all := time.Since(measuredAt) >= pingInterval
		select {
		case <-h.came:
			h.measure(ctx, all)
		default:
			if all {
				h.measure(ctx, true)
			}
		}
		if all {
			measuredAt = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
