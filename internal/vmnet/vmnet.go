// Package vmnet gives virtual machines their network: addresses, TAP devices,
// forwarded ports and the firewall between tenants, their neighbours and the
// host.
//
// There are two modes. With privileges (tap mode) each machine has a TAP
// device with a /30 of its own and one nftables table per node holds all
// rules: forwarded ports, egress behind the host's address, no traffic between
// machines, no spoofed addresses, no way into the host but ping. Without
// (user mode) the hypervisor's own user-mode stack forwards ports, and a guest
// cannot open connections unless the operator allows it.
//
// The network is declarative: the caller keeps leases in its database and
// gives all of them to Apply, which makes what is missing and removes what is
// ours and not wanted any more. Nothing of others is ever touched: ours are
// the table named after Config.Name and the TAP devices whose alias carries it.
package vmnet

import (
	"net/netip"
)

// Mode is how machines reach the network.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // Tap when this process may, else User.
	Tap  Mode = "tap"
	User Mode = "user"
)

// Protocol is a transport protocol.
type Protocol string

// The protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Forward makes a guest's port reachable at a port of the host.
type Forward struct {
	Protocol  Protocol
	HostPort  int
	GuestPort int
}

// Lease is a machine's claim on the network. The caller keeps it for as long
// as the machine exists.
type Lease struct {
	ID       string // The machine, 64 hex digits.
	Slot     int    // Which subnet of the pool, from FreeSlot. Unused in user mode.
	Forwards []Forward
}

// Device is what a machine and its guest need to know about their network.
type Device struct {
	Mode        Mode // Tap or User.
	TapName     string
	MAC         string
	Address     netip.Prefix // The guest's.
	Gateway     netip.Addr
	Nameservers []netip.Addr
	Bind        netip.Addr // Where forwarded ports listen on the host.
	Egress      bool       // The guest may open connections.
}
