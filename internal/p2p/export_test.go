package p2p

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/peering"
)

// The bounds of what is answered and published.
const (
	BodiesMax        = bodiesMax
	BodiesPerPeerMax = bodiesPerPeerMax
	HeldMax          = heldMax
	DeliverBytesMax  = deliverBytesMax
	AlephMessagesMax = alephMessagesMax
	LookUpInterval   = lookUpInterval
	AliveInterval    = aliveInterval
	ConnsHigh        = peering.ConnsHigh
)

// Bodies counts the bodies that are being streamed.
type Bodies struct{ b bodies }

// Take makes room for one more body to the peer.
func (b *Bodies) Take(to PeerID) error { return b.b.take(to) }

// Give gives the room of one back.
func (b *Bodies) Give(to PeerID) { b.b.give(to) }

// OpenWith is Open with options of the library over ours, which replace the network.
func OpenWith(ctx context.Context, cfg Config, key ed25519.PrivateKey, reg prometheus.Registerer, more ...libp2p.Option) (*Host, error) {
	return OpenKeeping(ctx, cfg, key, reg, usual(), more...)
}

// Keep is how many peers a host keeps.
type Keep = keep

// Usual is what a host keeps in earnest.
func Usual() Keep { return usual() }

// OpenKeeping is OpenWith for a host that keeps so many peers.
func OpenKeeping(ctx context.Context, cfg Config, key ed25519.PrivateKey, reg prometheus.Registerer, peers Keep, more ...libp2p.Option) (*Host, error) {
	return open(ctx, cfg, key, nil, reg, slog.New(slog.DiscardHandler), lab{more, peers})
}

// Inner returns the library's host.
func Inner(h *Host) host.Host { return h.host }

// Dial connects a host to an address.
func Dial(t testing.TB, h *Host, addr string) {
	t.Helper()
	info, err := peer.AddrInfoFromString(addr)
	if err == nil {
		err = h.host.Connect(t.Context(), *info)
	}
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
}

// Score returns a peer's standing in gossip, as of the last reading.
func Score(h *Host, id PeerID) float64 {
	p, err := peer.Decode(string(id))
	if err != nil {
		return 0
	}
	return (*h.scored.Load())[p]
}

// Standings returns what a peer comes to by time in a mesh alone, what it does by all
// that it may do in one topic, and below what of a mesh better peers are taken into it.
func Standings(h *Host) (silent, best, graft float64) {
	p := topicScore()
	silent = p.TopicWeight * p.TimeInMeshWeight * p.TimeInMeshCap
	_, thresholds := h.scores()
	return silent, silent + p.TopicWeight*p.FirstMessageDeliveriesWeight*p.FirstMessageDeliveriesCap, thresholds.OpportunisticGraftThreshold
}

// Inspect shows a host a frame of a peer.
func Inspect(t testing.TB, h *Host, rpc *pubsub.RPC) {
	t.Helper()
	if err := h.inspect("peer", rpc); err != nil {
		t.Fatal(err)
	}
}

// Held is what was published and nobody has heard.
type Held struct{ q held }

// Put adds a payload and returns how many had to go for it.
func (h *Held) Put(data []byte, now time.Time) int { return h.q.put(data, now) }

// Take empties it.
func (h *Held) Take(now time.Time) ([][]byte, int) { return h.q.take(now) }

// MeshSize is with how many peers a host exchanges messages of a topic at once.
func MeshSize(h *Host, topic string) int { return h.meshes.size(topic) }
