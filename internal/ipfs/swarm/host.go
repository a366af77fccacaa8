package swarm

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/amino"
	"github.com/libp2p/go-libp2p-kad-dht/dual"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/aleph-onchain/aleph-onchain/internal/peering"
)

const (
	// streamsPerPeerMax and streamsMax bound the streams of bitswap that others have
	// open: one who opens a stream can have a message of 4 MiB kept for it.
	streamsPerPeerMax, streamsMax = 16, 128
	// keyContext keeps the key of the swarm apart from all that may come to be made
	// from the same secret.
	keyContext = "aleph-onchain ipfs peer"
)

// swarmKey makes the key that names this node in the swarm from that which names it
// in its own network: another, so that who meets one is not told the other.
func swarmKey(identity ed25519.PrivateKey) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, identity.Seed(), nil, keyContext, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("make the key of the swarm: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// peerOf returns the name of who has the key.
func peerOf(key ed25519.PrivateKey) (peer.ID, error) {
	_, id, err := peering.Key(key)
	return id, err
}

// newHost listens for peers of IPFS.
func newHost(cfg Config, identity ed25519.PrivateKey) (host.Host, error) {
	listen, err := cfg.listen()
	if err != nil {
		return nil, err
	}
	key, err := swarmKey(identity)
	if err != nil {
		return nil, err
	}
	priv, _, err := peering.Key(key)
	if err != nil {
		return nil, err
	}
	limits := peering.Limits()
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("make resource manager: %w", err)
	}
	conns, err := peering.Conns(peering.ConnsHigh, peering.ConnsGrace)
	if err != nil {
		return nil, errors.Join(err, resources.Close())
	}
	opts := append(peering.Options(priv, listen, resources, conns), peering.TCP(), libp2p.DisableRelay())
	if cfg.DHT != DHTPublic {
		opts = append(opts, libp2p.DisableIdentifyAddressDiscovery())
	}
	if slices.ContainsFunc(listen, isQUIC) || cfg.DHT == DHTPublic {
		opts = append(opts, libp2p.Transport(quic.NewTransport))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("listen on %s, set another [ipfs] listen_addr if it is taken: %w", cfg.ListenAddr, errors.Join(err, conns.Close(), resources.Close()))
	}
	return h, nil
}

// newDHT joins the table of the private or of the public network. Both are those
// that Kubo has; the private one is made of whoever is met in the swarm, so its
// addresses are taken as they are.
func newDHT(h host.Host, kind string, bootstrap []peer.AddrInfo) (*dht.IpfsDHT, error) {
	opts := []dht.Option{dht.BootstrapPeers(bootstrap...)}
	if kind == DHTPrivate {
		opts = append(opts, dht.ProtocolExtension(dual.LanExtension), dht.Mode(dht.ModeServer))
		opts = append(opts, peering.AnyAddress()...)
	} else {
		// It serves the table once others found that they reach it.
		opts = append(opts, dht.Mode(dht.ModeAuto), dht.QueryFilter(dht.PublicQueryFilter), dht.RoutingTableFilter(dht.PublicRoutingTableFilter),
			dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(h, amino.DefaultMaxPeersPerIPGroupPerCpl, amino.DefaultMaxPeersPerIPGroup)),
			dht.AddressFilter(func(addrs []ma.Multiaddr) []ma.Multiaddr { return ma.FilterAddrs(addrs, manet.IsPublicAddr) }))
	}
	d, err := dht.New(h, opts...)
	if err != nil {
		return nil, fmt.Errorf("make routing table: %w", err)
	}
	return d, nil
}

// gate is a host that lets peers open a bounded number of streams of bitswap, which
// itself reads whatever comes.
type gate struct {
	host.Host

	mu   sync.Mutex
	open map[peer.ID]int // guarded by mu
	all  int             // guarded by mu
}

func newGate(h host.Host) *gate { return &gate{Host: h, open: map[peer.ID]int{}} }

// SetStreamHandler implements host.Host.
func (g *gate) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	g.Host.SetStreamHandler(id, func(s network.Stream) {
		from := s.Conn().RemotePeer()
		if !g.enter(from) {
			_ = s.Reset() // It tells the peer, who may be gone.
			return
		}
		defer g.leave(from)
		handle(s)
	})
}

func (g *gate) enter(id peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= streamsMax || g.open[id] >= streamsPerPeerMax {
		return false
	}
	g.all++
	g.open[id]++
	return true
}

func (g *gate) leave(id peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[id]--; g.open[id] == 0 {
		delete(g.open, id)
	}
}
