package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// dhtPrefix keeps this network's table apart from IPFS's.
	dhtPrefix = "/aleph"
	// connsLow and connsHigh are where the connection manager stops and starts
	// to close idle connections: gossip needs a dozen, the rest is for asks.
	connsLow, connsHigh = 96, 192
	// connsGrace protects a new connection until it had a chance to be useful.
	connsGrace = 30 * time.Second
	// streamsPerPeerMax bounds what one peer may have open of one protocol.
	streamsPerPeerMax = 64
	// streamsMax bounds the open streams of one protocol, as each can hold a
	// frame in memory.
	streamsMax = 512
	// findMax bounds the search for a peer's address.
	findMax = 20 * time.Second
	// dialMax bounds one attempt to connect.
	dialMax = 10 * time.Second
)

// PeerID names a peer: the text form of the hash of its public key.
type PeerID string

// ParsePeerID checks the text form of a peer's name.
func ParsePeerID(s string) (PeerID, error) {
	id, err := peer.Decode(s)
	if err != nil {
		return "", errs.New(errs.Invalid, "peer id %.80q: %w", s, err)
	}
	return PeerID(id.String()), nil
}

// PeerIDOf returns the name of the node that has the key.
func PeerIDOf(key ed25519.PrivateKey) (PeerID, error) {
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("read identity key: %w", err)
	}
	id, err := peer.IDFromPrivateKey(priv)
	if err != nil {
		return "", fmt.Errorf("name identity key: %w", err)
	}
	return PeerID(id.String()), nil
}

// Bytes returns the binary form, whose keccak256 the registry on chain has. It
// is empty for a name that ParsePeerID refuses.
func (id PeerID) Bytes() []byte {
	p, err := peer.Decode(string(id))
	if err != nil {
		return nil
	}
	return []byte(p)
}

// Host is this node among the others. Use Open, register handlers, then Run.
// It is safe for concurrent use.
type Host struct {
	log       *slog.Logger
	host      host.Host
	dht       *dht.IpfsDHT
	gossip    *pubsub.PubSub
	book      Book
	bootstrap []peer.AddrInfo
	metrics   *metrics
	cancel    context.CancelFunc // ends gossip
	asks      chan struct{}      // one token per question being answered
	bodies    bodies             // what follows the answers
	wake      chan struct{}      // a peer came or went

	mu      sync.Mutex
	topics  map[string]*subscription // guarded by mu
	running bool                     // Run was called; guarded by mu
	kinds   map[string]AskHandler    // guarded by mu
	blobs   BlobHandler              // guarded by mu
	dials   map[peer.ID]dial         // guarded by mu
}

// Open listens as cfg says under the name of the key. The host answers no
// question and keeps no peer before Run. book may be nil.
func Open(ctx context.Context, cfg Config, key ed25519.PrivateKey, book Book, reg prometheus.Registerer, log *slog.Logger) (_ *Host, err error) {
	listen, err := cfg.listen()
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	bootstrap, err := cfg.bootstrap()
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	h := &Host{
		log: log, book: book, bootstrap: bootstrap,
		asks: make(chan struct{}, asksMax), wake: make(chan struct{}, 1),
		topics: map[string]*subscription{}, kinds: map[string]AskHandler{}, dials: map[peer.ID]dial{},
	}
	// The host outlives the call that opens it; Close ends it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.host, err = newHost(listen, key); err != nil {
		return nil, err
	}
	if h.dht, err = newDHT(h.host, local(listen)); err != nil {
		return nil, err
	}
	if h.gossip, err = newGossip(life, h.host, log); err != nil {
		return nil, err
	}
	if h.metrics, err = newMetrics(reg, h.host); err != nil {
		return nil, err
	}
	h.host.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(network.Network, network.Conn) { h.poke() },
		DisconnectedF: func(network.Network, network.Conn) { h.poke() },
	})
	return h, nil
}

func newHost(listen []ma.Multiaddr, key ed25519.PrivateKey) (host.Host, error) {
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read identity key: %w", err)
	}
	if err := checkPorts(listen); err != nil {
		return nil, err
	}
	resources, err := newResourceManager()
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(connsLow, connsHigh, connmgr.WithGracePeriod(connsGrace))
	if err != nil {
		return nil, fmt.Errorf("make connection manager: %w", err)
	}
	opts := []libp2p.Option{
		libp2p.Identity(priv), libp2p.ListenAddrs(listen...), libp2p.UserAgent("aleph-onchain/" + build.Version),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		// Two nodes on one port would each get some of the other's peers.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), libp2p.ResourceManager(resources), libp2p.ConnectionManager(conns),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(), libp2p.WithDialTimeout(dialMax),
	}
	for _, addr := range listen {
		if name, _ := protocolOf(addr); name == "quic" {
			opts = append(opts, libp2p.Transport(quic.NewTransport))
			break
		}
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("listen on %v: %w", listen, errors.Join(err, conns.Close(), resources.Close()))
	}
	return h, nil
}

// checkPorts reports a TCP port that is taken, which the library would say in
// many words.
func checkPorts(listen []ma.Multiaddr) error {
	for _, addr := range listen {
		if name, _ := protocolOf(addr); name != "tcp" {
			continue
		}
		l, err := manet.Listen(addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return errs.New(errs.Conflict, "another process already listens on %s; stop it or set another [network] listen_addr", addr)
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
	return nil
}

// newResourceManager bounds memory, connections and streams by the size of the
// machine, and the streams of our own protocols by what a handler may cost.
func newResourceManager() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	perPeer := rcmgr.ResourceLimits{Streams: 2 * streamsPerPeerMax, StreamsInbound: streamsPerPeerMax, StreamsOutbound: streamsPerPeerMax}
	all := rcmgr.ResourceLimits{Streams: 2 * streamsMax, StreamsInbound: streamsMax, StreamsOutbound: streamsMax}
	ours := rcmgr.PartialLimitConfig{
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{wire.StreamAsk: all, wire.StreamBlob: all},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{wire.StreamAsk: perPeer, wire.StreamBlob: perPeer},
	}
	limiter := rcmgr.NewFixedLimiter(ours.Build(limits.AutoScale()))
	m, err := rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("make resource manager: %w", err)
	}
	return m, nil
}

func newDHT(h host.Host, isLocal bool) (*dht.IpfsDHT, error) {
	opts := []dht.Option{
		dht.Mode(dht.ModeServer), dht.ProtocolPrefix(dhtPrefix),
		// The table finds peers. Nobody stores records in it.
		dht.DisableProviders(), dht.DisableValues(),
	}
	if isLocal {
		opts = append(opts, dht.AddressFilter(nil),
			dht.RoutingTableFilter(func(any, peer.ID) bool { return true }),
			dht.QueryFilter(func(any, peer.AddrInfo) bool { return true }))
	}
	d, err := dht.New(h, opts...)
	if err != nil {
		return nil, fmt.Errorf("make routing table: %w", err)
	}
	return d, nil
}

// Close leaves the network and ends every stream.
func (h *Host) Close() error {
	h.cancel()
	var out []error
	if h.metrics != nil {
		h.metrics.unregister()
	}
	if h.dht != nil {
		out = append(out, h.dht.Close())
	}
	if h.host != nil {
		out = append(out, h.host.Close())
	}
	return errors.Join(out...)
}

// ID returns this node's own name.
func (h *Host) ID() PeerID { return PeerID(h.host.ID().String()) }

// Addrs returns the addresses under which this node can be a bootstrap peer of
// others: multiaddresses that end in /p2p/<id>.
func (h *Host) Addrs() []string {
	var out []string
	for _, a := range h.host.Addrs() {
		out = append(out, a.String()+"/p2p/"+h.host.ID().String())
	}
	return out
}

// Connected returns the peers with an open connection, in no order.
func (h *Host) Connected() []PeerID {
	ids := h.host.Network().Peers()
	out := make([]PeerID, len(ids))
	for i, id := range ids {
		out[i] = PeerID(id.String())
	}
	return out
}

// Bootstrap returns the peers that the configuration names.
func (h *Host) Bootstrap() []PeerID {
	out := make([]PeerID, len(h.bootstrap))
	for i, info := range h.bootstrap {
		out[i] = PeerID(info.ID.String())
	}
	return out
}

// Ready reports nil when the node can reach the network: it is connected to a
// peer, or it knows none because it is the first.
func (h *Host) Ready() error {
	if len(h.host.Network().Peers()) == 0 && len(h.others(h.bootstrap)) > 0 {
		return errs.New(errs.Unavailable, "connected to no peer, %d bootstrap peers are away", len(h.bootstrap))
	}
	return nil
}

// open opens a stream to the peer, connecting first if needed.
func (h *Host) open(ctx context.Context, id PeerID, proto protocol.ID) (network.Stream, error) {
	p, err := peer.Decode(string(id))
	if err != nil {
		return nil, errs.New(errs.Invalid, "peer id %.80q: %w", string(id), err)
	}
	if p == h.host.ID() {
		return nil, errs.New(errs.Invalid, "peer %s is this node itself", id)
	}
	if err := h.reach(ctx, p); err != nil {
		return nil, errs.New(errs.Unavailable, "connect to peer %s: %w", id, err)
	}
	s, err := h.host.NewStream(ctx, p, proto)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open %s to peer %s: %w", proto, id, err)
	}
	return s, nil
}

// reach connects to the peer unless it is connected, looking for its address
// if none is known.
func (h *Host) reach(ctx context.Context, id peer.ID) error {
	if h.host.Network().Connectedness(id) == network.Connected {
		return nil
	}
	if len(h.host.Peerstore().Addrs(id)) > 0 {
		return h.connect(ctx, peer.AddrInfo{ID: id})
	}
	ctx, cancel := context.WithTimeout(ctx, findMax)
	defer cancel()
	info, err := h.dht.FindPeer(ctx, id)
	if err != nil {
		return fmt.Errorf("find its address: %w", err)
	}
	return h.connect(ctx, info)
}

func (h *Host) connect(ctx context.Context, info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	return h.host.Connect(ctx, info)
}

func (h *Host) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
