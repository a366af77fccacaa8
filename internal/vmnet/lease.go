package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
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
	Protocol  Protocol `json:"protocol"`
	HostPort  int      `json:"host_port"`
	GuestPort int      `json:"guest_port"`
}

// Lease is a machine's claim on the network. The caller keeps it for as long
// as the machine exists.
type Lease struct {
	ID       string    `json:"id"`   // The machine, 64 hex digits.
	Slot     int       `json:"slot"` // Which subnet of the pool, from FreeSlot. Unused in user mode.
	Forwards []Forward `json:"forwards"`
	// Kind is part of the machine's static IPv6 address; zero is Instance.
	Kind Kind `json:"kind,omitempty"`
	// Subnet6 is the number of its dynamic IPv6 subnet, from FreeSubnet6; zero
	// is none. Unused with static addresses.
	Subnet6 int `json:"subnet6,omitempty"`
	// What the machine may send and receive, in Mbit/s, and send in packets a
	// second; zero is what Config says.
	BandwidthMbit int `json:"bandwidth_mbit,omitempty"`
	PacketRate    int `json:"packet_rate,omitempty"`
}

// Device is what a machine and its guest need to know about their network.
type Device struct {
	Mode        Mode // Tap or User.
	TapName     string
	MAC         string
	Address     netip.Prefix // The guest's.
	Gateway     netip.Addr
	Address6    netip.Prefix // The guest's; invalid without IPv6, as Gateway6 is.
	Gateway6    netip.Addr
	Nameservers []netip.Addr // Of the families that the guest has.
	Bind        netip.Addr   // Where forwarded ports listen on the host.
	Egress      bool         // The guest may open connections.
}

// IPv4Network returns the subnet of the host and the guest.
func (d Device) IPv4Network() netip.Prefix { return d.Address.Masked() }

// IPv6Network returns the subnet of the host and the guest; the zero Prefix
// without IPv6.
func (d Device) IPv6Network() netip.Prefix { return d.Address6.Masked() }

// The addresses of QEMU's user-mode network, the same for every machine.
const (
	userGuest   = "10.0.2.15/24"
	userGateway = "10.0.2.2"
	userDNS     = "10.0.2.3"
)

// Device returns the device that the lease stands for. It needs no Apply and
// is the same after a restart.
func (n *Network) Device(l Lease) (Device, error) {
	if err := n.check(l); err != nil {
		return Device{}, err
	}
	d := Device{Mode: n.mode, MAC: macOf(l.ID), Bind: n.set.bind}
	if n.mode == User {
		d.Address = netip.MustParsePrefix(userGuest)
		d.Gateway = netip.MustParseAddr(userGateway)
		d.Nameservers = []netip.Addr{netip.MustParseAddr(userDNS)}
		d.Egress = n.set.UserEgress
		return d, nil
	}
	e, err := n.endpoint(l)
	if err != nil {
		return Device{}, err
	}
	d.TapName = e.tap
	d.Address = netip.PrefixFrom(e.guest, n.set.SubnetBits)
	d.Gateway = e.host
	d.Nameservers = slices.Clone(n.set.nameservers4)
	if e.subnet6.IsValid() {
		d.Address6 = netip.PrefixFrom(e.guest6, e.subnet6.Bits())
		d.Gateway6 = e.host6
		d.Nameservers = append(d.Nameservers, n.set.nameservers6...)
	}
	d.Egress = true
	return d, nil
}

// endpoint is a lease in terms of the kernel, in tap mode.
type endpoint struct {
	Lease

	tap, alias    string
	mac           net.HardwareAddr
	host, guest   netip.Addr
	subnet6       netip.Prefix // Invalid without IPv6, as the addresses in it are.
	host6, guest6 netip.Addr
	bandwidth     uint64 // In bytes a second; 0 is no limit.
	packets       uint64 // A second; 0 is no limit.
}

// endpoint returns what a good lease stands for.
func (n *Network) endpoint(l Lease) (endpoint, error) {
	e := endpoint{Lease: l, tap: n.tapName(l.ID), alias: n.tapAlias(l.ID)}
	var err error
	if e.mac, err = net.ParseMAC(macOf(l.ID)); err != nil {
		return e, errs.New(errs.Internal, "BUG: the hardware address of %s: %w", l.ID, err)
	}
	e.host, e.guest = n.set.addresses(l.Slot)
	if e.subnet6, err = n.set.subnet6(l); err != nil {
		return e, err
	}
	if e.subnet6.IsValid() {
		e.host6 = e.subnet6.Addr()
		e.guest6 = e.host6.Next()
	}
	const mbit = 1_000_000 / 8 // In bytes.
	e.bandwidth = mbit * uint64(orDefault(l.BandwidthMbit, n.set.BandwidthMbit))
	e.packets = uint64(orDefault(l.PacketRate, n.set.PacketRate))
	return e, nil
}

func orDefault(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// check reports a lease that this network cannot honour.
func (n *Network) check(l Lease) error {
	if raw, err := hex.DecodeString(l.ID); err != nil || len(raw) != sha256.Size {
		return errs.New(errs.Invalid, "lease id %q is not 64 hex digits", l.ID)
	}
	if n.mode == Tap {
		if l.Slot < 0 || l.Slot >= n.set.slots() {
			return errs.New(errs.Invalid, "lease %s has slot %d, but pool %s has %d", l.ID, l.Slot, n.set.pool, n.set.slots())
		}
		if _, err := n.set.subnet6(l); err != nil {
			return err
		}
	}
	if l.BandwidthMbit < 0 || l.BandwidthMbit > bandwidthMax || l.PacketRate < 0 || l.PacketRate > packetRateMax {
		return errs.New(errs.Invalid, "lease %s has limits of %d Mbit/s and %d packets, want at most %d and %d",
			l.ID, l.BandwidthMbit, l.PacketRate, bandwidthMax, packetRateMax)
	}
	if len(l.Forwards) > forwardsMax {
		return errs.New(errs.Invalid, "lease %s has %d forwarded ports, at most %d", l.ID, len(l.Forwards), forwardsMax)
	}
	for _, f := range l.Forwards {
		if f.Protocol != TCP && f.Protocol != UDP {
			return errs.New(errs.Invalid, "lease %s forwards protocol %q, want tcp or udp", l.ID, f.Protocol)
		}
		if f.GuestPort < 1 || f.GuestPort > 65535 || f.HostPort < 1 || f.HostPort > 65535 {
			return errs.New(errs.Invalid, "lease %s forwards host port %d to %d, want 1 to 65535", l.ID, f.HostPort, f.GuestPort)
		}
	}
	return nil
}

// Admit reports why a lease cannot be added to others, all of the rest; nil
// when it can. errs.Conflict names the lease that is in its way: static IPv6
// addresses have 44 bits of a hash, so two machines may have the same one, and
// the second has to run on another node.
func (n *Network) Admit(l Lease, others []Lease) error {
	return n.checkAll(append(slices.Clone(others), l))
}

// checkAll reports leases that are in each other's way.
func (n *Network) checkAll(leases []Lease) error {
	if len(leases) > leasesMax {
		return errs.New(errs.Exhausted, "%d leases, at most %d", len(leases), leasesMax)
	}
	ids, slots, ports := map[string]bool{}, map[int]string{}, map[string]string{}
	subnets := map[netip.Prefix]string{}
	for _, l := range leases {
		if err := n.check(l); err != nil {
			return err
		}
		if ids[l.ID] {
			return errs.New(errs.Invalid, "lease %s is there twice", l.ID)
		}
		ids[l.ID] = true
		if other, taken := slots[l.Slot]; taken && n.mode == Tap {
			return errs.New(errs.Conflict, "leases %s and %s both have slot %d", other, l.ID, l.Slot)
		}
		slots[l.Slot] = l.ID
		if err := n.checkSubnet6(l, subnets); err != nil {
			return err
		}
		for _, f := range l.Forwards {
			key := fmt.Sprintf("%s %d", f.Protocol, f.HostPort)
			if other, taken := ports[key]; taken {
				return errs.New(errs.Conflict, "leases %s and %s both have host port %s", other, l.ID, key)
			}
			ports[key] = l.ID
		}
	}
	return nil
}

// checkSubnet6 reports a lease whose IPv6 subnet another one has.
func (n *Network) checkSubnet6(l Lease, subnets map[netip.Prefix]string) error {
	if n.mode != Tap {
		return nil
	}
	subnet, err := n.set.subnet6(l)
	if err != nil || !subnet.IsValid() {
		return err
	}
	if other, taken := subnets[subnet]; taken {
		return errs.New(errs.Conflict, "leases %s and %s both have IPv6 subnet %s", other, l.ID, subnet)
	}
	subnets[subnet] = l.ID
	return nil
}

// macOf returns a machine's hardware address. It depends on nothing but the
// machine, so a guest sees the same device when it moves.
func macOf(id string) string {
	sum := sha256.Sum256([]byte("mac " + id))
	// 52:54:00 is QEMU's own prefix; its first byte marks the address as
	// locally administered.
	return net.HardwareAddr{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}.String()
}

// tapPrefix is how all TAP devices of this network start, and those of no
// other: Linux gives a name 15 characters, 2 say that it is ours, 5 which
// node's, 8 which machine's.
func (n *Network) tapPrefix() string {
	return "al" + digest(n.set.Name)[:5]
}

func (n *Network) tapName(id string) string { return n.tapPrefix() + digest(id)[:8] }

// tapAlias marks a device as ours beyond what fits in its name.
func (n *Network) tapAlias(id string) string { return "aleph:" + n.set.Name + ":" + id }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
