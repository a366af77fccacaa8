// Package peering has what both of a node's hosts have in common: the one of its own
// network, and the one among peers of IPFS. Each is of the package that uses it; here is how
// their connections are secured, shared by streams, bounded and kept.
package peering

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
)

const (
	// ConnsHigh is from how many connections on idle ones are closed: gossip needs a dozen,
	// the rest is for questions.
	ConnsHigh = 192
	// connsPart: one of so many of them is left.
	connsPart = 2
	// ConnsGrace protects a new connection until it had a chance to be useful.
	ConnsGrace = 30 * time.Second
	// DialMax bounds one attempt to connect.
	DialMax = 10 * time.Second
)

// Key is a key as the library has it, and the name of who has it.
func Key(key ed25519.PrivateKey) (crypto.PrivKey, peer.ID, error) {
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("read identity key: %w", err)
	}
	id, err := peer.IDFromPrivateKey(priv)
	if err != nil {
		return nil, "", fmt.Errorf("name identity key: %w", err)
	}
	return priv, id, nil
}

// Limits are the bounds of memory, connections and streams by the size of the machine.
func Limits() rcmgr.ScalingLimitConfig {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	return limits
}

// Conns returns what closes idle connections that are older than grace when there are more
// than high, until there are half as many.
func Conns(high int, grace time.Duration) (*connmgr.BasicConnMgr, error) {
	conns, err := connmgr.NewConnManager(high/connsPart, high, connmgr.WithGracePeriod(grace))
	if err != nil {
		return nil, fmt.Errorf("make connection manager: %w", err)
	}
	return conns, nil
}

// Options are those of a host, but for its transports.
func Options(priv crypto.PrivKey, listen []ma.Multiaddr, resources network.ResourceManager, conns *connmgr.BasicConnMgr) []libp2p.Option {
	return []libp2p.Option{
		libp2p.Identity(priv), libp2p.ListenAddrs(listen...), libp2p.UserAgent("aleph-onchain/" + build.Version),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(resources), libp2p.ConnectionManager(conns),
		libp2p.DisableMetrics(), libp2p.WithDialTimeout(DialMax),
	}
}

// TCP is the transport of that name. Two nodes on one port would each get some of the
// other's peers, so a port is of one.
func TCP() libp2p.Option { return libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()) }

// AnyAddress lets a routing table have who is met, at whatever address: in a private
// network those are private.
func AnyAddress() []dht.Option {
	return []dht.Option{
		dht.AddressFilter(nil), dht.RoutingTableFilter(func(any, peer.ID) bool { return true }), dht.QueryFilter(func(any, peer.AddrInfo) bool { return true }),
	}
}
