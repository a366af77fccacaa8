package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path/filepath"

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

const (
	slotBits = 30 // A slot is a /30: the host's address and the guest's.
	// poolBitsMin bounds the number of slots to 65,536: more than a host can
	// run, and small enough to walk through.
	poolBitsMin = 14
	portMinMin  = 1024 // Below are the well-known services.
	nameMax     = 24
	// leasesMax and forwardsMax bound what one Apply writes to the kernel in
	// one batch.
	leasesMax   = 1024
	forwardsMax = 128
)

// Config says what machines may use of the host's network.
type Config struct {
	Mode    Mode   `toml:"mode"`     // "auto", "tap" (needs privileges) or "user".
	Pool    string `toml:"pool"`     // IPv4 network from which machines get a /30 each, in tap mode.
	Bind    string `toml:"bind"`     // Address of the host on which forwarded ports listen; "0.0.0.0" for all.
	PortMin int    `toml:"port_min"` // First host port to forward from.
	PortMax int    `toml:"port_max"` // Last host port to forward from.
	// Nameservers are what guests ask, in tap mode.
	Nameservers []string `toml:"nameservers"`
	// UserEgress lets guests open connections in user mode. They can then
	// also reach what listens on the host's loopback addresses.
	UserEgress bool `toml:"user_egress"`
	// PrivateEgress lets guests reach private and link-local networks in tap
	// mode, for example the operator's own and a cloud's metadata service.
	PrivateEgress bool `toml:"private_egress"`

	// Name tells this node's devices and rules from those of others on this
	// host. Lower-case letters, digits and _; the node derives it from its
	// data directory.
	Name string `toml:"-"`
}

// DefaultConfig forwards ports of the loopback address.
func DefaultConfig() Config {
	return Config{
		Mode: Auto, Pool: "172.16.0.0/20", Bind: "127.0.0.1",
		PortMin: 24000, PortMax: 28999, // Below the range of ephemeral ports.
		Nameservers: []string{"1.1.1.1", "9.9.9.9"},
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
	pool        netip.Prefix
	bind        netip.Addr
	nameservers []netip.Addr
}

func (c Config) parse() (settings, error) {
	s := settings{Config: c}
	switch c.Mode {
	case Auto, Tap, User:
	default:
		return s, errs.New(errs.Invalid, "mode is %q, want auto, tap or user", c.Mode)
	}
	var err error
	if s.pool, err = netip.ParsePrefix(c.Pool); err != nil || !s.pool.Addr().Is4() || s.pool.Masked() != s.pool {
		return s, errs.New(errs.Invalid, "pool is %q, want an IPv4 network such as 172.16.0.0/20", c.Pool)
	}
	if s.pool.Bits() < poolBitsMin || s.pool.Bits() > slotBits {
		return s, errs.New(errs.Invalid, "pool is %s, want a network between /%d and /%d", s.pool, poolBitsMin, slotBits)
	}
	if s.bind, err = netip.ParseAddr(c.Bind); err != nil || !s.bind.Is4() {
		return s, errs.New(errs.Invalid, "bind is %q, want an IPv4 address", c.Bind)
	}
	if c.PortMin < portMinMin || c.PortMax > 65535 || c.PortMin > c.PortMax {
		return s, errs.New(errs.Invalid, "port_min is %d and port_max %d, want a range within %d to 65535", c.PortMin, c.PortMax, portMinMin)
	}
	for _, text := range c.Nameservers {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return s, errs.New(errs.Invalid, "nameservers has %q, want IPv4 addresses", text)
		}
		s.nameservers = append(s.nameservers, a)
	}
	return s, nil
}

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
