package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"

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
	host, guest := n.set.addresses(l.Slot)
	d.TapName = n.tapName(l.ID)
	d.Address = netip.PrefixFrom(guest, slotBits)
	d.Gateway = host
	d.Nameservers = n.set.nameservers
	d.Egress = true
	return d, nil
}

// check reports a lease that this network cannot honour.
func (n *Network) check(l Lease) error {
	if raw, err := hex.DecodeString(l.ID); err != nil || len(raw) != sha256.Size {
		return errs.New(errs.Invalid, "lease id %q is not 64 hex digits", l.ID)
	}
	if n.mode == Tap && (l.Slot < 0 || l.Slot >= n.set.slots()) {
		return errs.New(errs.Invalid, "lease %s has slot %d, but pool %s has %d", l.ID, l.Slot, n.set.pool, n.set.slots())
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

// checkAll reports leases that are in each other's way.
func (n *Network) checkAll(leases []Lease) error {
	if len(leases) > leasesMax {
		return errs.New(errs.Exhausted, "%d leases, at most %d", len(leases), leasesMax)
	}
	ids, slots, ports := map[string]bool{}, map[int]string{}, map[string]string{}
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

// slots returns how many subnets the pool has.
func (s settings) slots() int { return 1 << (slotBits - s.pool.Bits()) }

// addresses returns the two addresses of a slot's subnet.
func (s settings) addresses(slot int) (host, guest netip.Addr) {
	base := s.pool.Addr().As4()
	v := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	v += uint32(slot) << (32 - slotBits)
	at := func(v uint32) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	return at(v + 1), at(v + 2)
}

// subnet returns a slot's network.
func (s settings) subnet(slot int) netip.Prefix {
	host, _ := s.addresses(slot)
	return netip.PrefixFrom(host, slotBits).Masked()
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
