package vmnet

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Kind is what a machine is, as static IPv6 addresses have it.
type Kind int

// The kinds. Zero counts as Instance.
const (
	MicroVM           Kind = 1 // A function that runs when it is called.
	PersistentProgram Kind = 2
	Instance          Kind = 3
)

// StaticSubnet returns the subnet of a machine in a pool: the pool's first 64
// bits, the kind, 44 bits of the machine's hash, and 4 of zero. All nodes and
// clients of the Aleph network compute it alike.
func StaticSubnet(pool netip.Prefix, kind Kind, hash string, bits int) (netip.Prefix, error) {
	if kind == 0 {
		kind = Instance
	}
	if kind < MicroVM || kind > Instance {
		return netip.Prefix{}, errs.New(errs.Invalid, "machine is of kind %d, want %d to %d", kind, MicroVM, Instance)
	}
	const hashBytes = 6
	if len(hash) < 2*hashBytes {
		return netip.Prefix{}, errs.New(errs.Invalid, "hash %q is too short", hash)
	}
	raw, err := hex.DecodeString(hash[:2*hashBytes])
	if err != nil {
		return netip.Prefix{}, errs.New(errs.Invalid, "hash %q is not hexadecimal", hash)
	}
	a := pool.Addr().As16()
	binary.BigEndian.PutUint16(a[8:], uint16(kind))
	copy(a[10:], raw)
	a[15] &= 0xf0
	return netip.PrefixFrom(netip.AddrFrom16(a), bits), nil
}

// subnets6 returns how many subnets a dynamic pool has for machines: the first
// one is the host's.
func (s settings) subnets6() int {
	extra := s.IPv6SubnetBits - s.pool6.Bits()
	return 1<<min(extra, bitsOf(slotsMax)) - 1
}

// dynamicSubnet returns a subnet of the pool by its number, from 1.
func (s settings) dynamicSubnet(index int) netip.Prefix {
	a := s.pool6.Addr().As16()
	// A number has at most 16 bits and moves by at most 127, so it may lie
	// over the middle of the address.
	shift := 128 - s.IPv6SubnetBits
	high, low := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	if shift >= 64 {
		high |= uint64(index) << (shift - 64)
	} else {
		low |= uint64(index) << shift
		high |= uint64(index) >> (64 - shift)
	}
	binary.BigEndian.PutUint64(a[:8], high)
	binary.BigEndian.PutUint64(a[8:], low)
	return netip.PrefixFrom(netip.AddrFrom16(a), s.IPv6SubnetBits)
}

// subnet6 returns the IPv6 subnet of a lease; the zero Prefix without IPv6.
func (s settings) subnet6(l Lease) (netip.Prefix, error) {
	switch {
	case !s.pool6.IsValid():
		return netip.Prefix{}, nil
	case s.IPv6Policy == Static:
		return StaticSubnet(s.pool6, l.Kind, l.ID, s.IPv6SubnetBits)
	case l.Subnet6 == 0:
		return netip.Prefix{}, nil // From before the node had a pool.
	case l.Subnet6 < 0 || l.Subnet6 > s.subnets6():
		return netip.Prefix{}, errs.New(errs.Invalid, "lease %s has IPv6 subnet %d, but pool %s has %d", l.ID, l.Subnet6, s.pool6, s.subnets6())
	default:
		return s.dynamicSubnet(l.Subnet6), nil
	}
}

// slots returns how many subnets the pool has.
func (s settings) slots() int { return 1 << (s.SubnetBits - s.pool.Bits()) }

// addresses returns the two addresses of a slot's subnet.
func (s settings) addresses(slot int) (host, guest netip.Addr) {
	base := s.pool.Addr().As4()
	v := binary.BigEndian.Uint32(base[:]) + uint32(slot)<<(32-s.SubnetBits)
	at := func(v uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
	}
	return at(v + 1), at(v + 2)
}

// subnet returns a slot's network.
func (s settings) subnet(slot int) netip.Prefix {
	host, _ := s.addresses(slot)
	return netip.PrefixFrom(host, s.SubnetBits).Masked()
}
