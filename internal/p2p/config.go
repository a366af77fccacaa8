package p2p

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Config says where the node listens and whom it meets first.
type Config struct {
	ListenAddr     string   `toml:"listen_addr"`     // Multiaddress to listen on; several are separated by commas. /udp/…/quic-v1 is QUIC.
	BootstrapPeers []string `toml:"bootstrap_peers"` // Multiaddresses, with /p2p/<id>, of nodes to stay connected to.
	IdentityPath   string   `toml:"identity_path"`   // File of the ed25519 key that names this node; "" = identity.key in the data directory.
}

// DefaultConfig listens on loopback, at a port that the system chooses.
func DefaultConfig() Config { return Config{ListenAddr: "/ip4/127.0.0.1/tcp/0"} }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if _, err := c.listen(); err != nil {
		return err
	}
	_, err := c.bootstrap()
	return err
}

// listen returns the addresses to listen on, which are TCP or QUIC.
func (c Config) listen() ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for text := range strings.SplitSeq(c.ListenAddr, ",") {
		addr, err := ma.NewMultiaddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("listen_addr %q is not a multiaddress like /ip4/127.0.0.1/tcp/4001: %w", text, err)
		}
		if _, ok := protocolOf(addr); !ok {
			return nil, fmt.Errorf("listen_addr %q is neither /tcp/<port> nor /udp/<port>/quic-v1", text)
		}
		out = append(out, addr)
	}
	return out, nil
}

// protocolOf returns "tcp" or "quic", and false for any other transport.
func protocolOf(addr ma.Multiaddr) (string, bool) {
	switch _, last := ma.SplitLast(addr); {
	case last == nil:
		return "", false
	case last.Protocol().Code == ma.P_QUIC_V1:
		return "quic", true
	default:
		return "tcp", last.Protocol().Code == ma.P_TCP
	}
}

// bootstrap returns the first peers, addresses of one peer gathered.
func (c Config) bootstrap() ([]peer.AddrInfo, error) {
	addrs := make([]ma.Multiaddr, 0, len(c.BootstrapPeers))
	for _, text := range c.BootstrapPeers {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("bootstrap_peers: %q is not a multiaddress like /ip4/192.0.2.1/tcp/4001/p2p/12D3...: %w", text, err)
		}
		if _, err := peer.AddrInfoFromP2pAddr(addr); err != nil {
			return nil, fmt.Errorf("bootstrap_peers: %q does not end in /p2p/<peer id>: %w", text, err)
		}
		addrs = append(addrs, addr)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, fmt.Errorf("bootstrap_peers: %w", err)
	}
	return infos, nil
}

// local reports whether every address is on this machine or in a private
// network, where peers' addresses are private too.
func local(addrs []ma.Multiaddr) bool {
	for _, addr := range addrs {
		ip, err := manet.ToIP(addr)
		if err != nil {
			return false
		}
		a, ok := netip.AddrFromSlice(ip)
		if !ok || (!a.Unmap().IsLoopback() && !a.Unmap().IsPrivate()) {
			return false
		}
	}
	return true
}
