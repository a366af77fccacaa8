package vmnet

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Sizes and numbers of the packets of neighbour discovery, RFC 4861.
const (
	ip6HeaderBytes = 40
	nextICMPv6     = 58
	ndpHopLimit    = 255 // A router in between would have made it less.
	// solicitationBytes are type, code, checksum, reserved, and the target.
	solicitationBytes = 24
	optionSource      = 1
	optionTarget      = 2
	etherOptionBytes  = 8

	neighbourSolicitation  = 135
	neighbourAdvertisement = 136

	flagRouter    = 1 << 7
	flagSolicited = 1 << 6
)

// solicitation asks which hardware address the target has.
type solicitation struct {
	source netip.Addr // Unspecified when who asks wants to know whether the target is free.
	target netip.Addr
}

// parseSolicitation reads an IPv6 packet. It reports whether the packet is a
// neighbour solicitation that RFC 4861, section 7.1.1, has one believe.
func parseSolicitation(packet []byte) (solicitation, bool) {
	if len(packet) < ip6HeaderBytes+solicitationBytes || packet[0]>>4 != 6 || packet[6] != nextICMPv6 || packet[7] != ndpHopLimit {
		return solicitation{}, false
	}
	size := int(binary.BigEndian.Uint16(packet[4:]))
	if size < solicitationBytes || size > len(packet)-ip6HeaderBytes {
		return solicitation{}, false
	}
	body := packet[ip6HeaderBytes : ip6HeaderBytes+size]
	source, destination := netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
	s := solicitation{source: source, target: netip.AddrFrom16([16]byte(body[8:24]))}
	if body[0] != neighbourSolicitation || body[1] != 0 || s.target.IsMulticast() || s.target.IsUnspecified() || source.IsMulticast() {
		return solicitation{}, false
	}
	if checksum(source, destination, body) != 0 {
		return solicitation{}, false
	}
	hasSource, ok := readOptions(body[solicitationBytes:])
	if !ok || source.IsUnspecified() && (hasSource || destination != solicitedNode(s.target)) {
		return solicitation{}, false
	}
	return s, true
}

// readOptions reports whether options are well formed and whether one is the
// sender's hardware address.
func readOptions(options []byte) (hasSource, ok bool) {
	for len(options) > 0 {
		const unit = 8
		if len(options) < 2 || options[1] == 0 || int(options[1])*unit > len(options) {
			return false, false
		}
		hasSource = hasSource || options[0] == optionSource
		options = options[int(options[1])*unit:]
	}
	return hasSource, true
}

// appendAdvertisement appends the IPv6 packet that answers a solicitation: the
// target has the hardware address, unless somebody else says so too. from is an
// address of the device. It returns where the packet goes as well.
func appendAdvertisement(packet []byte, s solicitation, from netip.Addr, mac net.HardwareAddr) (_ []byte, to netip.Addr) {
	flags, to := byte(flagRouter|flagSolicited), s.source
	if to.IsUnspecified() {
		flags, to = flagRouter, netip.IPv6LinkLocalAllNodes()
	}
	const size = solicitationBytes + etherOptionBytes
	packet = append(packet, 6<<4, 0, 0, 0, 0, size, nextICMPv6, ndpHopLimit)
	packet = append(packet, from.AsSlice()...)
	packet = append(packet, to.AsSlice()...)
	at := len(packet)
	packet = append(packet, neighbourAdvertisement, 0, 0, 0, flags, 0, 0, 0)
	packet = append(packet, s.target.AsSlice()...)
	packet = append(packet, optionTarget, etherOptionBytes/8)
	packet = append(packet, mac...)
	binary.BigEndian.PutUint16(packet[at+2:], checksum(from, to, packet[at:]))
	return packet, to
}

// checksum returns that of an ICMPv6 message; 0 for a good message with its
// checksum in place.
func checksum(source, destination netip.Addr, body []byte) uint16 {
	sum := uint32(len(body)) + nextICMPv6
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(source.AsSlice())
	add(destination.AsSlice())
	add(body)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// solicitedNode returns the group that the neighbours of an address ask.
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// multicastMAC returns the hardware address of a group.
func multicastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
