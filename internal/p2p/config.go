package p2p

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The values of Config.Reachability.
const (
	ReachAuto    = "auto"
	ReachPublic  = "public"
	ReachPrivate = "private"
)

// publishRateDefault is far above what a coordinator can take in and publish.
const publishRateDefault = 1000

// Config says where the node listens, whom it meets first and how it is reached.
type Config struct {
	ListenAddr     string   `toml:"listen_addr"`     // Multiaddresses to listen on, separated by commas: /tcp/<port> or /udp/<port>/quic-v1. TCP and QUIC of one address with port 0 get the same port.
	BootstrapPeers []string `toml:"bootstrap_peers"` // Multiaddresses, with /p2p/<id>, of nodes to stay connected to.
	IdentityPath   string   `toml:"identity_path"`   // File of the ed25519 key that names this node; "" = identity.key in the data directory.
	Profile        string   `toml:"profile"`         // How gossip goes: private, in this software's own topics, or aleph, as nodes of the public message network do.
	MessagesTopic  string   `toml:"messages_topic"`  // Gossip topic of messages; "" = the profile's. A network of one's own has another one.
	AliveTopic     string   `toml:"alive_topic"`     // Gossip topic on which nodes tell every two minutes that they live; "" = the profile's, none for private.
	PublishRate    int      `toml:"publish_rate"`    // Messages per second that one node may publish for long; bursts may have ten times as many. Who sends more loses standing.
	AnnounceAddrs  []string `toml:"announce_addrs"`  // Multiaddresses under which others reach this node, besides those it finds out by itself: a forwarded port, a name.
	Reachability   string   `toml:"reachability"`    // Whether others can dial this node: auto = let them try, public, or private = be reached through relays.
	Relays         []string `toml:"relays"`          // Multiaddresses, with /p2p/<id>, of relays to be reached through; without any, bootstrap peers and nodes that are registered serve.
	RelayService   bool     `toml:"relay_service"`   // On a coordinator that others can dial: relay for nodes that they cannot, within limits.
	HolePunching   bool     `toml:"hole_punching"`   // Turn relayed connections into direct ones where both sides' routers let it.
	UPnP           bool     `toml:"upnp"`            // Ask the router to forward the ports.
}

// DefaultConfig listens on loopback by TCP and QUIC, at a port that the system
// chooses.
func DefaultConfig() Config {
	return Config{
		ListenAddr: "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1", Profile: ProfilePrivate, PublishRate: publishRateDefault,
		Reachability: ReachAuto, RelayService: true, HolePunching: true,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if _, err := c.listen(); err != nil {
		return err
	}
	p, err := c.profile()
	if err != nil {
		return err
	}
	if _, err := c.bootstrap(p); err != nil {
		return err
	}
	if _, err := infosOf("relays", c.Relays); err != nil {
		return err
	}
	if _, err := c.announce(); err != nil {
		return err
	}
	if !slices.Contains([]string{ReachAuto, ReachPublic, ReachPrivate}, c.Reachability) {
		return fmt.Errorf("reachability is %q, want %s, %s or %s", c.Reachability, ReachAuto, ReachPublic, ReachPrivate)
	}
	if c.PublishRate < 1 {
		return fmt.Errorf("publish_rate is %d, want at least 1", c.PublishRate)
	}
	return nil
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
		return transportQUIC, true
	default:
		return transportTCP, last.Protocol().Code == ma.P_TCP
	}
}

// bootstrap returns the first peers, addresses of one peer gathered: those of the
// profile if none are set.
func (c Config) bootstrap(p profile) ([]peer.AddrInfo, error) {
	if len(c.BootstrapPeers) == 0 {
		return infosOf("bootstrap_peers", p.bootstrap)
	}
	return infosOf("bootstrap_peers", c.BootstrapPeers)
}

// infosOf reads the multiaddresses of peers that a setting holds.
func infosOf(setting string, texts []string) ([]peer.AddrInfo, error) {
	addrs := make([]ma.Multiaddr, 0, len(texts))
	for _, text := range texts {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a multiaddress like /ip4/192.0.2.1/tcp/4001/p2p/12D3...: %w", setting, text, err)
		}
		if _, err := peer.AddrInfoFromP2pAddr(addr); err != nil {
			return nil, fmt.Errorf("%s: %q does not end in /p2p/<peer id>: %w", setting, text, err)
		}
		addrs = append(addrs, addr)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return infos, nil
}

// announce returns the addresses that the operator knows.
func (c Config) announce() ([]ma.Multiaddr, error) {
	out := make([]ma.Multiaddr, 0, len(c.AnnounceAddrs))
	for _, text := range c.AnnounceAddrs {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("announce_addrs: %q is not a multiaddress like /dns4/node.example/tcp/4001: %w", text, err)
		}
		if _, ok := protocolOf(addr); !ok {
			return nil, fmt.Errorf("announce_addrs: %q ends in neither /tcp/<port> nor /udp/<port>/quic-v1", text)
		}
		out = append(out, addr)
	}
	return out, nil
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
