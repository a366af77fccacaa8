// Package cloudinit writes and reads NoCloud seeds: the small disk from which
// a guest learns its name, keys, variables and addresses.
//
// The files are those of cloud-init (user-data, meta-data, network-config
// version 2), so any cloud image understands them; each is written as JSON,
// which is YAML too, so that aleph-guest can read them without a YAML parser.
package cloudinit

import (
	"net/netip"
)

// Seed is what a guest is told at its first boot.
type Seed struct {
	InstanceID     string // A new one makes cloud-init run again.
	Hostname       string
	AuthorizedKeys []string          // Lines of an authorized_keys file, for root.
	Variables      map[string]string // The message's variables, see VariablesPath.
	Network        *Network          // nil for no static configuration.
}

// VariablesPath is where a guest finds the variables, one NAME='value' a line
// as a shell reads it.
const VariablesPath = "/etc/aleph/variables"

// Network is the configuration of a guest's one network device.
type Network struct {
	MAC         string // "52:54:00:12:34:56"; "" matches any virtio device.
	Address     netip.Prefix
	Gateway     netip.Addr   // The zero Addr for none.
	Address6    netip.Prefix // The zero Prefix for no IPv6.
	Gateway6    netip.Addr   // The zero Addr for none.
	Nameservers []netip.Addr
}
