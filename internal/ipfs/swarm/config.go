package swarm

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// The DHTs in which content is announced and looked for.
const (
	DHTOff     = "off"
	DHTPrivate = "private"
	DHTPublic  = "public"
)

const (
	bytesPerGB    = 1_000_000_000
	maxFetchGBMax = 1_000_000 // more is a slip of the finger
	maxFetchesMax = 256
	servesMax     = 1_000_000
	gatewaysMax   = 16
)

// Config says which content of IPFS is kept, and who it comes from and goes to.
type Config struct {
	ipfs.Config
	Enabled         bool          `toml:"enabled"`          // Be a peer of an IPFS network, beside the node's own. Off, blocks go to and from the node's own network only.
	ListenAddr      string        `toml:"listen_addr"`      // Multiaddress at which peers of IPFS are met; several are separated by commas. /udp/…/quic-v1 is QUIC.
	BootstrapPeers  []string      `toml:"bootstrap_peers"`  // Multiaddresses, with /p2p/<id>, of peers of IPFS to stay connected to.
	DHT             string        `toml:"dht"`              // Where content is announced and looked for: off, private (the table of private networks), public.
	ProvideInterval time.Duration `toml:"provide_interval"` // Time after which content is announced again; tables forget it after a day or two.
	Gateways        []string      `toml:"gateways"`         // Base URLs of trustless gateways that are asked when no peer has something.
	KuboRPC         string        `toml:"kubo_rpc"`         // Base URL of the RPC of a Kubo that is asked last; "" = none.
	KuboPin         bool          `toml:"kubo_pin"`         // Give that Kubo all content too, and let it go when it goes here.
	MaxFetchGB      float64       `toml:"max_fetch_gb"`     // Most bytes of one content that is fetched, in gigabytes (10^9 bytes).
	MaxFetches      int           `toml:"max_fetches"`      // Contents that are fetched at the same time.
	FetchTimeout    time.Duration `toml:"fetch_timeout"`    // Time for one content, from all sources together.
	StallTimeout    time.Duration `toml:"stall_timeout"`    // Time without a block after which the next source is asked.
	ServeRate       int           `toml:"serve_rate"`       // Blocks that one peer may ask for in a second, in the long run.
}

// DefaultConfig is a node that no peer of another IPFS network meets, and which asks
// none.
func DefaultConfig() Config {
	return Config{
		Config: ipfs.DefaultConfig(), ListenAddr: "/ip4/127.0.0.1/tcp/4001", DHT: DHTPrivate, ProvideInterval: 12 * time.Hour,
		MaxFetchGB: 100, MaxFetches: 4, FetchTimeout: 30 * time.Minute, StallTimeout: 30 * time.Second, ServeRate: 2000,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if _, err := c.listen(); err != nil {
		return err
	}
	if _, err := c.bootstrap(); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{DHTOff, DHTPrivate, DHTPublic}, c.DHT):
		return fmt.Errorf("dht is %q, want %s, %s or %s", c.DHT, DHTOff, DHTPrivate, DHTPublic)
	case c.ProvideInterval < time.Minute:
		return fmt.Errorf("provide_interval is %v, want at least 1m", c.ProvideInterval)
	case !(c.MaxFetchGB > 0 && c.MaxFetchGB <= maxFetchGBMax):
		return fmt.Errorf("max_fetch_gb is %g, want more than 0 and at most %d", c.MaxFetchGB, maxFetchGBMax)
	case c.MaxFetches < 1 || c.MaxFetches > maxFetchesMax:
		return fmt.Errorf("max_fetches is %d, want 1 to %d", c.MaxFetches, maxFetchesMax)
	case c.StallTimeout < time.Second:
		return fmt.Errorf("stall_timeout is %v, want at least 1s", c.StallTimeout)
	case c.FetchTimeout < c.StallTimeout:
		return fmt.Errorf("fetch_timeout is %v, want at least stall_timeout, which is %v", c.FetchTimeout, c.StallTimeout)
	case c.ServeRate < 1 || c.ServeRate > servesMax:
		return fmt.Errorf("serve_rate is %d, want 1 to %d", c.ServeRate, servesMax)
	}
	return c.validateHTTP()
}

func (c Config) validateHTTP() error {
	if len(c.Gateways) > gatewaysMax {
		return fmt.Errorf("gateways has %d entries, want at most %d", len(c.Gateways), gatewaysMax)
	}
	for _, text := range c.Gateways {
		if _, err := baseURL(text); err != nil {
			return fmt.Errorf("gateways: %w", err)
		}
	}
	if c.KuboRPC == "" {
		if c.KuboPin {
			return fmt.Errorf("kubo_pin is true, and kubo_rpc is empty: name the Kubo")
		}
		return nil
	}
	if _, err := baseURL(c.KuboRPC); err != nil {
		return fmt.Errorf("kubo_rpc: %w", err)
	}
	return nil
}

// baseURL reads a URL that others are made from. Its error does not repeat it, as
// there may be a password in it.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("want http:// or https://, a host, and no query")
	}
	return u, nil
}

// listen returns the addresses to listen on, which are TCP or QUIC.
func (c Config) listen() ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for text := range strings.SplitSeq(c.ListenAddr, ",") {
		addr, err := ma.NewMultiaddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("listen_addr %q is not a multiaddress like /ip4/127.0.0.1/tcp/4001: %w", text, err)
		}
		if !isTCP(addr) && !isQUIC(addr) {
			return nil, fmt.Errorf("listen_addr %q is neither /tcp/<port> nor /udp/<port>/quic-v1", text)
		}
		out = append(out, addr)
	}
	return out, nil
}

func isTCP(addr ma.Multiaddr) bool  { return lastProtocol(addr) == ma.P_TCP }
func isQUIC(addr ma.Multiaddr) bool { return lastProtocol(addr) == ma.P_QUIC_V1 }

func lastProtocol(addr ma.Multiaddr) int {
	_, last := ma.SplitLast(addr)
	if last == nil {
		return 0
	}
	return last.Protocol().Code
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
