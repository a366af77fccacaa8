package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/peering"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// dhtPrefix keeps this network's table apart from IPFS's.
	dhtPrefix = "/aleph"
	// streamsPerPeerMax bounds what one peer may have open of one protocol.
	streamsPerPeerMax = 64
	// streamsMax bounds the open streams of one protocol, as each can hold a
	// frame in memory.
	streamsMax = 512
	// findMax bounds the search for a peer's address.
	findMax = 20 * time.Second
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
	_, id, err := peering.Key(key)
	if err != nil {
		return "", err
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
	profile   profile
	self      peer.ID
	host      host.Host
	dht       *dht.IpfsDHT
	gossip    *pubsub.PubSub
	book      Book
	directory Directory // nil = none
	bootstrap []peer.AddrInfo
	announced []ma.Multiaddr
	httpURL   string // of this node; "" = not told
	metrics   *metrics
	traffic   *traffic
	standings *standings
	nodes     nodes
	alive     alives
	meshes    meshes
	scored    atomic.Pointer[map[peer.ID]float64] // of gossip, as of scoreInterval ago
	cancel    context.CancelFunc                  // ends gossip
	asks      chan struct{}                       // one token per question being answered
	bodies    bodies                              // what follows the answers
	sending   bodies                              // bulk
	wake      chan struct{}                       // a peer came or went
	came      chan struct{}                       // a peer came
	byTopic   sync.Map                            // our names of topics by the network's; gossip asks while mu is held

	mu      sync.Mutex
	topics  map[string]*subscription // by our name; guarded by mu
	running bool                     // Run was called; guarded by mu
	kinds   map[string]AskHandler    // guarded by mu
	bulks   map[string]BulkHandler   // guarded by mu
	dials   map[peer.ID]dial         // guarded by mu
}

// Open listens as cfg says under the name of the key. The host answers no
// question and keeps no peer before Run. book may be nil.
func Open(ctx context.Context, cfg Config, key ed25519.PrivateKey, book Book, reg prometheus.Registerer, log *slog.Logger) (*Host, error) {
	return open(ctx, cfg, key, book, reg, log, lab{keep: usual()})
}

// OpenOver is Open with options of the library over ours, with which tests replace the
// network.
func OpenOver(ctx context.Context, cfg Config, key ed25519.PrivateKey, book Book, reg prometheus.Registerer, log *slog.Logger, more ...libp2p.Option) (*Host, error) {
	return open(ctx, cfg, key, book, reg, log, lab{more, usual()})
}

// lab is what tests set: options of the library over ours, with which they replace the
// network, and how many peers a host keeps.
type lab struct {
	options []libp2p.Option
	keep
}

// keep is how many peers a host keeps.
type keep struct {
	Conns int           // From so many connections on idle ones are closed.
	Grace time.Duration // Younger ones are not.
	// Table is how many peers the routing table has of one distance. It looks for none
	// then, at the start and after; 0 = the library's usual number, and it looks.
	Table int
}

func usual() keep { return keep{Conns: peering.ConnsHigh, Grace: peering.ConnsGrace} }

func open(ctx context.Context, cfg Config, key ed25519.PrivateKey, book Book, reg prometheus.Registerer, log *slog.Logger, in lab) (_ *Host, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	h := &Host{
		log: log, book: book, metrics: newMetrics(), traffic: newTraffic(), standings: newStandings(cfg.PublishRate),
		asks: make(chan struct{}, asksMax), wake: make(chan struct{}, 1), came: make(chan struct{}, 1),
		topics: map[string]*subscription{}, kinds: map[string]AskHandler{}, bulks: map[string]BulkHandler{}, dials: map[peer.ID]dial{},
	}
	h.scored.Store(&map[peer.ID]float64{})
	h.meshes.changed = make(chan struct{}, 1)
	// The host outlives the call that opens it; Close ends it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	listen, err := h.newHost(cfg, key, in)
	if err != nil {
		return nil, err
	}
	if h.dht, err = newDHT(h.host, local(listen), in.Table); err != nil {
		return nil, err
	}
	if h.gossip, err = h.newGossip(life); err != nil {
		return nil, err
	}
	if err = h.metrics.register(reg, h); err != nil {
		return nil, err
	}
	if err = h.subscribeAlive(); err != nil {
		return nil, err
	}
	if err = h.introduce(life); err != nil {
		return nil, err
	}
	h.host.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			h.recognise(c.RemotePeer())
			select {
			case h.came <- struct{}{}:
			default:
			}
			h.poke()
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			if n.Connectedness(c.RemotePeer()) == network.NotConnected {
				h.traffic.left(c.RemotePeer())
			}
			h.poke()
		},
	})
	return h, nil
}

// newHost opens the library's host and returns the addresses it was to listen on.
func (h *Host) newHost(cfg Config, key ed25519.PrivateKey, in lab) ([]ma.Multiaddr, error) {
	priv, self, err := peering.Key(key)
	if err != nil {
		return nil, err
	}
	h.self, h.nodes.self = self, self
	// Validate has read them all.
	listen, err := cfg.listen()
	if err != nil {
		return nil, err
	}
	if h.profile, err = cfg.profile(); err != nil {
		return nil, err
	}
	if h.bootstrap, err = cfg.bootstrap(h.profile); err != nil {
		return nil, err
	}
	relays, err := infosOf("relays", cfg.Relays)
	if err != nil {
		return nil, err
	}
	if h.announced, err = cfg.announce(); err != nil {
		return nil, err
	}
	simulated := len(in.options) > 0
	if !simulated {
		if listen, err = settlePorts(listen); err != nil {
			return nil, err
		}
		if err := checkPorts(listen); err != nil {
			return nil, err
		}
	}
	resources, err := newResourceManager(h.metrics)
	if err != nil {
		return nil, err
	}
	conns, err := peering.Conns(in.Conns, in.Grace)
	if err != nil {
		return nil, errors.Join(err, resources.Close())
	}
	opts := append(peering.Options(priv, listen, resources, conns), libp2p.BandwidthReporter(h.traffic))
	if !simulated {
		opts = append(opts, peering.TCP())
	}
	for _, addr := range listen {
		if name, _ := protocolOf(addr); name == transportQUIC {
			opts = append(opts, libp2p.Transport(quic.NewTransport))
			break
		}
	}
	opts = append(opts, h.natOptions(cfg, listen, h.announced, relays)...)
	opts = append(opts, in.options...)
	if h.host, err = libp2p.New(opts...); err != nil {
		return nil, fmt.Errorf("listen on %v: %w", listen, errors.Join(err, conns.Close(), resources.Close()))
	}
	return listen, h.checkListening(listen)
}

// checkListening reports an address on which the library does not listen, which it
// does not say while another works.
func (h *Host) checkListening(listen []ma.Multiaddr) error {
	have := map[string]bool{}
	for _, addr := range h.host.Network().ListenAddresses() {
		name, _ := protocolOf(addr)
		have[name] = true
	}
	for _, addr := range listen {
		if name, _ := protocolOf(addr); !have[name] {
			return errs.New(errs.Unavailable, "cannot listen on %s", addr)
		}
	}
	return nil
}

// newResourceManager bounds memory, connections and streams by the size of the
// machine, and the streams of our own protocols by what a handler may cost.
func newResourceManager(reporter rcmgr.TraceReporter) (network.ResourceManager, error) {
	limits := peering.Limits()
	perPeer := rcmgr.ResourceLimits{Streams: 2 * streamsPerPeerMax, StreamsInbound: streamsPerPeerMax, StreamsOutbound: streamsPerPeerMax}
	all := rcmgr.ResourceLimits{Streams: 2 * streamsMax, StreamsInbound: streamsMax, StreamsOutbound: streamsMax}
	ours := rcmgr.PartialLimitConfig{
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{wire.StreamAsk: all, wire.StreamBulk: all},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{wire.StreamAsk: perPeer, wire.StreamBulk: perPeer},
	}
	limiter := rcmgr.NewFixedLimiter(ours.Build(limits.AutoScale()))
	m, err := rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled(), rcmgr.WithTraceReporter(reporter))
	if err != nil {
		return nil, fmt.Errorf("make resource manager: %w", err)
	}
	return m, nil
}

// introduce lets gossip try peers that do not identify themselves, as those of the public
// network do not: the library speaks with those only that have said that they gossip.
func (h *Host) introduce(ctx context.Context) error {
	bus := h.host.EventBus()
	failed, err := bus.Subscribe(new(event.EvtPeerIdentificationFailed))
	if err != nil {
		return fmt.Errorf("watch for peers that do not identify themselves: %w", err)
	}
	told, err := bus.Emitter(new(event.EvtPeerProtocolsUpdated))
	if err != nil {
		return fmt.Errorf("tell of peers that do not identify themselves: %w", errors.Join(err, failed.Close()))
	}
	go func() {
		defer failed.Close()
		defer told.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-failed.Out():
				if !ok {
					return
				}
				who, _ := e.(event.EvtPeerIdentificationFailed)
				if err := told.Emit(event.EvtPeerProtocolsUpdated{Peer: who.Peer, Added: []protocol.ID{pubsub.GossipSubID_v11}}); err != nil {
					h.log.Debug("peer not introduced", "peer", who.Peer.String(), "err", err)
				}
			}
		}
	}()
	return nil
}

func newDHT(h host.Host, isLocal bool, table int) (*dht.IpfsDHT, error) {
	opts := []dht.Option{
		dht.Mode(dht.ModeServer), dht.ProtocolPrefix(dhtPrefix),
		// The table finds peers. Nobody stores records in it.
		dht.DisableProviders(), dht.DisableValues(),
	}
	if table > 0 {
		opts = append(opts, dht.BucketSize(table), dht.DisableAutoRefresh())
	}
	if isLocal {
		opts = append(opts, peering.AnyAddress()...)
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
	h.metrics.unregister()
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

// Libp2p returns the host itself, for protocols of others that run over the
// connections of this network.
func (h *Host) Libp2p() host.Host { return h.host }

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
	s, err := h.host.NewStream(mayBeRelayed(ctx), p, proto)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open %s to peer %s: %w", proto, id, err)
	}
	return s, nil
}

// reach connects to the peer unless it is connected, looking for its address
// if none is known.
func (h *Host) reach(ctx context.Context, id peer.ID) error {
	switch h.host.Network().Connectedness(id) {
	case network.Connected, network.Limited:
		return nil
	case network.NotConnected, network.CanConnect, network.CannotConnect: //nolint:staticcheck // the last two are not used any more
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
	ctx, cancel := context.WithTimeout(ctx, peering.DialMax)
	defer cancel()
	return h.host.Connect(mayBeRelayed(ctx), info)
}

func (h *Host) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
