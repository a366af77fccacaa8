package vmnet

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts of rules. Register 1 is the one that they use, and those after it
// for keys of several parts: registers have 16 bytes, or 4 by their second names.

const deviceNameSize = unix.IFNAMSIZ

// word returns the name of the 4 bytes at a place after the beginning of
// register 1.
func word(i uint32) uint32 { return unix.NFT_REG32_00 + i }

// Types of ICMP and ICMPv6.
const (
	icmpEchoRequest = 8

	icmp6EchoRequest            = 128
	icmp6RouterAdvertisement    = 134
	icmp6NeighbourSolicitation  = 135
	icmp6NeighbourAdvertisement = 136
	icmp6Redirect               = 137
)

// Offsets of addresses in headers of Ethernet, ARP, IPv4 and IPv6.
const (
	etherSource = 6

	arpHardware = 8
	arpAddress  = 14

	ipSource      = 12
	ipDestination = 16

	ip6Source      = 8
	ip6Destination = 24
)

// ctStatusDNAT is IPS_DST_NAT of the kernel's nf_conntrack_common.h.
const ctStatusDNAT = 1 << 5

func equal(b []byte) expr.Any   { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
func unequal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: b} }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func bigEndian16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// concat joins the parts of a key, each filled up to whole words.
func concat(parts ...[]byte) (key []byte) {
	const word = 4
	for _, p := range parts {
		key = append(key, p...)
		for len(key)%word != 0 {
			key = append(key, 0)
		}
	}
	return key
}

func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any     { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func leaveChain() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

func jump(ch *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ch.Name}}
}

// in matches what is in a set.
func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

func isIPv4() []expr.Any { return isFamily(unix.NFPROTO_IPV4) }
func isIPv6() []expr.Any { return isFamily(unix.NFPROTO_IPV6) }

func isFamily(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family})}
}

// isEther matches the protocol in an Ethernet frame, where rules see frames.
func isEther(protocol int) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(bigEndian16(protocol))}
}

func isProtocol(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

func icmp4(typ byte) []expr.Any { return append(isProtocol(unix.IPPROTO_ICMP), icmpType(typ)...) }
func icmp6(typ byte) []expr.Any { return append(isProtocol(unix.IPPROTO_ICMPV6), icmpType(typ)...) }

func icmpType(typ byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		equal([]byte{typ}),
	}
}

// deviceName is a whole name as the kernel compares it.
func deviceName(name string) []byte {
	b := make([]byte, deviceNameSize)
	copy(b, name)
	return b
}

func inDeviceName() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}}
}

func outDeviceName() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}}
}

// A comparison of fewer bytes than a name has matches all names that start so.

func inPrefix(prefix string) []expr.Any { return append(inDeviceName(), equal([]byte(prefix))) }

func notInPrefix(prefix string) []expr.Any { return append(inDeviceName(), unequal([]byte(prefix))) }

func outPrefix(prefix string) []expr.Any { return append(outDeviceName(), equal([]byte(prefix))) }

func notOutPrefix(prefix string) []expr.Any { return append(outDeviceName(), unequal([]byte(prefix))) }

// sender loads the first parts of the keys of senders: device and hardware
// address. It matches Ethernet only.
func sender() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
		equal(binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)),
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Payload{DestRegister: word(4), Base: expr.PayloadBaseLLHeader, Offset: etherSource, Len: 6},
	}
}

// target4 loads, after the name of a device, the rest of the key of published
// ports: address, protocol and port.
func target4() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: word(4), Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: 4},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(5)},
		&expr.Payload{DestRegister: word(6), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// target6 is target4 for IPv6.
func target6() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: word(4), Base: expr.PayloadBaseNetworkHeader, Offset: ip6Destination, Len: 16},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(8)},
		&expr.Payload{DestRegister: word(9), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// subnetOf loads the subnet of the IPv6 address at an offset into a register.
func subnetOf(offset uint32, bits int, register uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 16},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 16, Mask: net.CIDRMask(bits, 128), Xor: make([]byte, 16)},
	}
}

// isFirstOf matches what comes from the first IPv6 address of any subnet of a length.
func isFirstOf(subnetBits int) []expr.Any {
	mask := net.CIDRMask(subnetBits, 128)
	for i := range mask {
		mask[i] = ^mask[i]
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ip6Source, Len: 16},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 16, Mask: mask, Xor: make([]byte, 16)},
		equal(make([]byte, 16)),
	}
}

// notFromMAC matches frames of other senders.
func notFromMAC(mac net.HardwareAddr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: etherSource, Len: 6},
		unequal(mac),
	}
}

func fromNet(p netip.Prefix) []expr.Any {
	if p.Addr().Is4() {
		return inNet(ipSource, p)
	}
	return inNet(ip6Source, p)
}

func toNet(p netip.Prefix) []expr.Any {
	if p.Addr().Is4() {
		return inNet(ipDestination, p)
	}
	return inNet(ip6Destination, p)
}

// fromAddressTo loads the sender of an IPv4 packet into a register.
func fromAddressTo(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: ipSource, Len: 4}}
}

func inNet(offset uint32, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr().AsSlice()
	size := len(addr)
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), 8*size), Xor: make([]byte, size)},
		equal(addr),
	}
}

func protocolNumber(proto Protocol) byte {
	if proto == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func toPort(proto Protocol, port int) []expr.Any {
	return append(isProtocol(protocolNumber(proto)),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(bigEndian16(port)))
}

// hostPort loads the key of the map of ports: protocol and port. A packet
// without ports does not match.
func hostPort() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(0)},
		&expr.Payload{DestRegister: word(1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// toPortOf sends a connection where a map of ports says.
func toPortOf(ports *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: ports.Name, SetID: ports.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: word(0), RegProtoMin: word(1), Specified: true},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func established() []expr.Any {
	return anyBit(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// forwarded matches connections whose destination a rule has changed.
func forwarded() []expr.Any { return anyBit(expr.CtKeySTATUS, ctStatusDNAT) }

func anyBit(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(bits), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)},
	}
}

// pingLimit matches ten packets a second: enough to see that the host lives.
func pingLimit() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: 10, Unit: expr.LimitTimeSecond, Burst: 20}}
}

// packetsOver matches packets beyond a rate, of which a tenth may come at once.
func packetsOver(rate uint64) []expr.Any {
	const burstMin = 64
	return []expr.Any{&expr.Limit{
		Type: expr.LimitTypePkts, Rate: rate, Unit: expr.LimitTimeSecond, Over: true, Burst: uint32(max(rate/10, burstMin)),
	}}
}

// bytesOver matches bytes beyond a rate, of which a tenth may come at once, and
// a few of the largest frames that a guest makes for its host to cut.
func bytesOver(rate uint64) []expr.Any {
	const burstMin, burstMax = 1 << 20, 64 << 20
	return []expr.Any{&expr.Limit{
		Type: expr.LimitTypePktBytes, Rate: rate, Unit: expr.LimitTimeSecond, Over: true, Burst: uint32(min(max(rate/10, burstMin), burstMax)),
	}}
}
