package vmnet

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	ip6 "golang.org/x/net/ipv6"
)

// ask returns a good solicitation of source for target, or with options.
func ask(source, destination, target string, options ...byte) []byte {
	from, to := netip.MustParseAddr(source), netip.MustParseAddr(destination)
	body := append([]byte{neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
	body = append(body, options...)
	binary.BigEndian.PutUint16(body[2:], checksum(from, to, body))
	packet := []byte{6 << 4, 0, 0, 0, 0, byte(len(body)), nextICMPv6, ndpHopLimit}
	packet = append(append(packet, from.AsSlice()...), to.AsSlice()...)
	return append(packet, body...)
}

const (
	asker  = "fe80::1"
	wanted = "2001:db8::dec1"
	group  = "ff02::1:ff00:dec1"
)

func TestSolicitationsAreRead(t *testing.T) {
	mac := []byte{optionSource, 1, 2, 0, 0, 0, 0, 1}
	for name, packet := range map[string][]byte{
		"to the group":      ask(asker, group, wanted, mac...),
		"to the address":    ask("2001:db8::1", wanted, wanted),
		"for duplicates":    ask("::", group, wanted),
		"an unknown option": ask(asker, group, wanted, 99, 2, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7, 8),
		"with padding":      append(ask(asker, group, wanted), 0, 0, 0, 0),
	} {
		s, ok := parseSolicitation(packet)
		if !ok || s.target != netip.MustParseAddr(wanted) || s.source != netip.AddrFrom16([16]byte(packet[8:24])) {
			t.Errorf("%s: got %+v, %v", name, s, ok)
		}
	}
}

func TestBadSolicitationsAreNotBelieved(t *testing.T) {
	change := func(at int, value byte) []byte {
		p := ask(asker, group, wanted)
		p[at] = value
		return p
	}
	for name, packet := range map[string][]byte{
		"nothing":                  nil,
		"cut":                      ask(asker, group, wanted)[:60],
		"IPv4":                     change(0, 4<<4),
		"another protocol":         change(6, 17),
		"from beyond a router":     change(7, 254),
		"a length beyond the end":  change(5, 200),
		"a length too short":       change(5, 16),
		"a wrong checksum":         change(42, 0xaa),
		"a wrong checksum of text": change(60, 0xaa),
		"a code":                   change(41, 1),
		"an advertisement":         change(40, neighbourAdvertisement),
		"a group as target":        ask(asker, group, "ff02::1"),
		"a group as source":        ask("ff02::1", group, wanted),
		"an empty option":          ask(asker, group, wanted, 1, 0, 0, 0, 0, 0, 0, 0),
		"an option beyond the end": ask(asker, group, wanted, 1, 2, 0, 0, 0, 0, 0, 0),
		"half an option":           ask(asker, group, wanted, 1),
		"no source, but its MAC":   ask("::", group, wanted, optionSource, 1, 2, 0, 0, 0, 0, 1),
		"no source, another group": ask("::", "ff02::1", wanted),
	} {
		if s, ok := parseSolicitation(packet); ok {
			t.Errorf("%s: believed, as %+v", name, s)
		}
	}
}

// TestAdvertisementsAreWellFormed reads them with another implementation.
func TestAdvertisementsAreWellFormed(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	from := netip.MustParseAddr("fe80::7")
	for source, want := range map[string]struct {
		to    string
		flags byte
	}{
		asker: {asker, flagRouter | flagSolicited},
		"::":  {"ff02::1", flagRouter},
	} {
		s := solicitation{source: netip.MustParseAddr(source), target: netip.MustParseAddr(wanted)}

		packet, to := appendAdvertisement(nil, s, from, mac)

		head, err := ip6.ParseHeader(packet)
		if err != nil {
			t.Fatal(err)
		}
		if head.HopLimit != 255 || head.NextHeader != 58 || head.PayloadLen != len(packet)-ip6.HeaderLen || head.Dst.String() != want.to || to.String() != want.to {
			t.Errorf("asked by %s: header is %v, to %s", source, head, to)
		}
		m, err := icmp.ParseMessage(58, packet[ip6.HeaderLen:])
		if err != nil || m.Type != ip6.ICMPTypeNeighborAdvertisement {
			t.Fatalf("asked by %s: %v, %v", source, m, err)
		}
		body := packet[ip6.HeaderLen:]
		again, err := m.Marshal(icmp.IPv6PseudoHeader(head.Src, head.Dst))
		if err != nil || !bytes.Equal(again[2:4], body[2:4]) {
			t.Errorf("asked by %s: checksum is %x, want %x (%v)", source, body[2:4], again[2:4], err)
		}
		if body[4] != want.flags || !bytes.Equal(body[8:24], s.target.AsSlice()) || !bytes.Equal(body[24:], append([]byte{2, 1}, mac...)) {
			t.Errorf("asked by %s: body is %x", source, body)
		}
	}
}

func FuzzSolicitation(f *testing.F) {
	f.Add(ask(asker, group, wanted))
	f.Add(ask("::", group, wanted))
	f.Add(ask(asker, group, wanted, optionSource, 1, 2, 0, 0, 0, 0, 1))
	f.Add([]byte{6 << 4})
	f.Fuzz(func(t *testing.T, packet []byte) {
		s, ok := parseSolicitation(packet)
		if !ok {
			return
		}
		if s.target.IsMulticast() || s.source.IsMulticast() || packet[7] != 255 {
			t.Errorf("believed: %+v", s)
		}
		if reply, _ := appendAdvertisement(nil, s, s.target, make(net.HardwareAddr, 6)); len(reply) != 72 {
			t.Errorf("answer has %d bytes, want 72", len(reply))
		}
	})
}
