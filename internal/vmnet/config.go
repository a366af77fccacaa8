package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Mode is how machines reach the network.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // Tap when this process may, else User.
	Tap  Mode = "tap"
	User Mode = "user"
)

// Policy is how machines get their IPv6 addresses.
type Policy string

// The policies.
const (
	// Static takes the address from the kind and the hash of the machine, so
	// clients know it without asking.
	Static Policy = "static"
	// Dynamic takes subnets of the pool one after the other.
	Dynamic Policy = "dynamic"
)

// Resolver is where guests' nameservers come from when none is set.
type Resolver string

// The resolvers.
const (
	Detect     Resolver = "detect"           // Resolved if it is there, else ResolvConf.
	ResolvConf Resolver = "resolv.conf"      // /etc/resolv.conf.
	Resolved   Resolver = "systemd-resolved" // What systemd-resolved asks.
)

const (
	subnetBitsDefault = 30 // The host's address and the guest's.
	subnetBitsMin     = 16
	// slotsMax bounds the number of slots: more than a host can run, and
	// small enough to walk through.
	slotsMax           = 1 << 16
	subnet6BitsDefault = 124
	subnet6BitsMax     = 127
	portMinMin         = 1024 // Below are the well-known services.
	nameMax            = 24
	nameserversMax     = 8
	// bandwidthMax, in Mbit/s, and packetRateMax, a second, are more than a
	// device of a machine can do, and what the kernel can compute with.
	bandwidthMax  = 100_000
	packetRateMax = 100_000_000
	// leasesMax and forwardsMax bound what one Apply writes to the kernel in
	// one batch.
	leasesMax   = 1024
	forwardsMax = 128
)

// Config says what machines may use of the host's network.
type Config struct {
	Mode Mode   `toml:"mode"` // "auto", "tap" (needs privileges) or "user".
	Pool string `toml:"pool"` // IPv4 network from which machines get a subnet each, in tap mode.
	// SubnetBits is the length of each machine's IPv4 prefix: 30, or 24 to
	// lay a pool out as other nodes of the Aleph network do.
	SubnetBits int `toml:"subnet_bits"`
	// IPv6Pool is the IPv6 network from which machines get a subnet each, in
	// tap mode; "" = they have no IPv6. The network is routed to this host, or
	// is that of its uplink, where ndp_proxy answers for machines.
	IPv6Pool string `toml:"ipv6_pool"`
	// IPv6Policy is "static", addresses that clients compute from a machine's
	// hash, in a /64 or /56; or "dynamic", one subnet after the other.
	IPv6Policy     Policy `toml:"ipv6_policy"`
	IPv6SubnetBits int    `toml:"ipv6_subnet_bits"` // Length of each machine's IPv6 prefix; at least 124 with policy "static".
	// IPv6Firewall lets nothing in to machines over IPv6 but ping and the
	// ports that are forwarded over IPv4 too.
	IPv6Firewall bool `toml:"ipv6_firewall"`
	// NDPProxy tells the neighbours on the uplink that machines' IPv6
	// addresses are here.
	NDPProxy bool   `toml:"ndp_proxy"`
	Uplink   string `toml:"uplink"`   // Device to the internet; "" = those of the default routes.
	Bind     string `toml:"bind"`     // Address of the host on which forwarded ports listen; "0.0.0.0" for all.
	PortMin  int    `toml:"port_min"` // First host port to forward from.
	PortMax  int    `toml:"port_max"` // Last host port to forward from.
	// Nameservers are what guests ask, in tap mode, those of IPv6 only if they
	// have it. Without any, resolver says where to look.
	Nameservers []string `toml:"nameservers"`
	// Resolver is where nameservers come from when the list is empty: "resolv.conf",
	// "systemd-resolved", or "detect" for the latter if it is there.
	Resolver Resolver `toml:"resolver"`
	// UserEgress lets guests open connections in user mode. They can then
	// also reach what listens on the host's loopback addresses.
	UserEgress bool `toml:"user_egress"`
	// PrivateEgress lets guests reach private and link-local networks in tap
	// mode, for example the operator's own and a cloud's metadata service.
	PrivateEgress bool `toml:"private_egress"`
	// PeerTraffic lets machines of this node reach each other directly. Ports
	// that are forwarded can be reached by all anyway.
	PeerTraffic   bool `toml:"peer_traffic"`
	BandwidthMbit int  `toml:"bandwidth_mbit"` // Most that a machine sends, and receives, in Mbit/s; 0 = no limit.
	PacketRate    int  `toml:"packet_rate"`    // Most packets that a machine sends a second; 0 = no limit.

	// Name tells this node's devices and rules from those of others on this
	// host. Lower-case letters, digits and _; the node derives it from its
	// data directory.
	Name string `toml:"-"`
}

// DefaultConfig forwards ports of the loopback address.
func DefaultConfig() Config {
	return Config{
		Mode: Auto, Pool: "172.16.0.0/20", SubnetBits: subnetBitsDefault, Bind: "127.0.0.1",
		IPv6Policy: Static, IPv6SubnetBits: subnet6BitsDefault, NDPProxy: true,
		PortMin: 24000, PortMax: 28999, // Below the range of ephemeral ports.
		Nameservers: []string{"1.1.1.1", "9.9.9.9", "2606:4700:4700::1111", "2620:fe::fe"}, Resolver: Detect,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	_, err := c.parse()
	return err
}

// settings is a Config, parsed.
type settings struct {
	Config
	pool         netip.Prefix
	pool6        netip.Prefix // Invalid without IPv6.
	bind         netip.Addr
	nameservers4 []netip.Addr
	nameservers6 []netip.Addr
}

func (c Config) parse() (settings, error) {
	s := settings{Config: c}
	switch c.Mode {
	case Auto, Tap, User:
	default:
		return s, errs.New(errs.Invalid, "mode is %q, want auto, tap or user", c.Mode)
	}
	if s.SubnetBits == 0 {
		s.SubnetBits = subnetBitsDefault
	}
	if s.SubnetBits < subnetBitsMin || s.SubnetBits > subnetBitsDefault {
		return s, errs.New(errs.Invalid, "subnet_bits is %d, want %d to %d", s.SubnetBits, subnetBitsMin, subnetBitsDefault)
	}
	var err error
	if s.pool, err = netip.ParsePrefix(c.Pool); err != nil || !s.pool.Addr().Is4() || s.pool.Masked() != s.pool {
		return s, errs.New(errs.Invalid, "pool is %q, want an IPv4 network such as 172.16.0.0/20", c.Pool)
	}
	if s.pool.Bits() > s.SubnetBits || s.SubnetBits-s.pool.Bits() > bitsOf(slotsMax) {
		return s, errs.New(errs.Invalid, "pool is %s, want a network of 1 to %d subnets of /%d", s.pool, slotsMax, s.SubnetBits)
	}
	if s.bind, err = netip.ParseAddr(c.Bind); err != nil || !s.bind.Is4() {
		return s, errs.New(errs.Invalid, "bind is %q, want an IPv4 address", c.Bind)
	}
	if c.PortMin < portMinMin || c.PortMax > 65535 || c.PortMin > c.PortMax {
		return s, errs.New(errs.Invalid, "port_min is %d and port_max %d, want a range within %d to 65535", c.PortMin, c.PortMax, portMinMin)
	}
	if len(c.Uplink) >= deviceNameSize || strings.ContainsAny(c.Uplink, "/ ") {
		return s, errs.New(errs.Invalid, "uplink is %q, want the name of a device", c.Uplink)
	}
	if c.BandwidthMbit < 0 || c.BandwidthMbit > bandwidthMax {
		return s, errs.New(errs.Invalid, "bandwidth_mbit is %d, want 0 to %d", c.BandwidthMbit, bandwidthMax)
	}
	if c.PacketRate < 0 || c.PacketRate > packetRateMax {
		return s, errs.New(errs.Invalid, "packet_rate is %d, want 0 to %d", c.PacketRate, packetRateMax)
	}
	if err := s.parseIPv6(); err != nil {
		return s, err
	}
	return s, s.parseNameservers()
}

// parseIPv6 checks what machines get of IPv6.
func (s *settings) parseIPv6() (err error) {
	if s.IPv6SubnetBits == 0 {
		s.IPv6SubnetBits = subnet6BitsDefault
	}
	switch s.IPv6Policy {
	case "":
		s.IPv6Policy = Static
	case Static, Dynamic:
	default:
		return errs.New(errs.Invalid, "ipv6_policy is %q, want static or dynamic", s.IPv6Policy)
	}
	if s.IPv6Pool == "" {
		return nil
	}
	if s.pool6, err = netip.ParsePrefix(s.IPv6Pool); err != nil || !s.pool6.Addr().Is6() || s.pool6.Addr().Is4In6() || s.pool6.Masked() != s.pool6 {
		return errs.New(errs.Invalid, "ipv6_pool is %q, want an IPv6 network such as 2001:db8:1:2::/64", s.IPv6Pool)
	}
	if s.IPv6Policy == Static && (s.pool6.Bits() != 64 && s.pool6.Bits() != 56 || s.IPv6SubnetBits < subnet6BitsDefault) {
		return errs.New(errs.Invalid, "ipv6_pool is %s and ipv6_subnet_bits %d, want a /64 or /56 and at least %d, or ipv6_policy dynamic",
			s.pool6, s.IPv6SubnetBits, subnet6BitsDefault)
	}
	// The first subnet of a dynamic pool is the host's.
	if s.IPv6SubnetBits <= s.pool6.Bits() || s.IPv6SubnetBits > subnet6BitsMax {
		return errs.New(errs.Invalid, "ipv6_subnet_bits is %d, want more than the %d of ipv6_pool and at most %d", s.IPv6SubnetBits, s.pool6.Bits(), subnet6BitsMax)
	}
	return nil
}

// parseNameservers checks the list that was set.
func (s *settings) parseNameservers() error {
	switch s.Resolver {
	case "":
		s.Resolver = Detect
	case Detect, ResolvConf, Resolved:
	default:
		return errs.New(errs.Invalid, "resolver is %q, want detect, resolv.conf or systemd-resolved", s.Resolver)
	}
	if len(s.Nameservers) > nameserversMax {
		return errs.New(errs.Invalid, "nameservers has %d addresses, at most %d", len(s.Nameservers), nameserversMax)
	}
	var all []netip.Addr
	for _, text := range s.Nameservers {
		a, err := netip.ParseAddr(text)
		if err != nil || !reachable(a) {
			return errs.New(errs.Invalid, "nameservers has %q, want IP addresses that guests can reach", text)
		}
		all = append(all, a)
	}
	s.nameservers4, s.nameservers6 = byFamily(all)
	return nil
}

// bitsOf returns the power of two that n, one of them, is.
func bitsOf(n int) int { return bits.Len(uint(n)) - 1 }

// NameOf returns the name that tells the network of the node with the data
// directory, an absolute path, from those of others on this host.
func NameOf(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	const nameBytes = 4 // It has to fit in the name of a device.
	return hex.EncodeToString(sum[:nameBytes])
}

// checkName reports a name that cannot be part of a table's name.
func checkName(name string) error {
	if name == "" || len(name) > nameMax {
		return errs.New(errs.Invalid, "network name %q has %d characters, want 1 to %d", name, len(name), nameMax)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return errs.New(errs.Invalid, "network name %q has other characters than a-z, 0-9 and _", name)
		}
	}
	return nil
}
