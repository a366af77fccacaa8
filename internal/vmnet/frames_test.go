package vmnet_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet/nsguest"
)

const (
	etherIPv4 = unix.ETH_P_IP
	etherARP  = unix.ETH_P_ARP
	etherIPv6 = unix.ETH_P_IPV6
)

// send puts a frame on the guest's wire as it is.
func (g *guest) send(t *testing.T, frame []byte) {
	t.Helper()
	var err error
	g.run(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		var device *net.Interface
		if device, err = net.InterfaceByName(nsguest.Device); err == nil {
			err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: device.Index})
		}
	})
	if err != nil {
		t.Fatalf("send a frame: %v", err)
	}
}

// listen returns what counts the frames that the guest has received and match
// accepts, from now on.
func (g *guest) listen(t *testing.T, match func(frame []byte) bool) (count func() int) {
	t.Helper()
	fd := -1
	var err error
	g.run(func() {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all); err != nil {
			return
		}
		var device *net.Interface
		if device, err = net.InterfaceByName(nsguest.Device); err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index})
		}
	})
	if err != nil {
		t.Fatalf("listen to frames: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	seen, buf := 0, make([]byte, 64<<10)
	return func() int {
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EAGAIN) {
				return seen
			}
			if err != nil {
				t.Fatalf("read frames: %v", err)
			}
			if sender, ok := from.(*unix.SockaddrLinklayer); ok && sender.Pkttype != unix.PACKET_OUTGOING && match(buf[:n]) {
				seen++
			}
		}
	}
}

// waitFor tries again and again until it holds, for some seconds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(10 * time.Second); !holds(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 10 s", what)
		}
	}
}

// drain returns when the host has seen what the guest has sent, and the guest
// what the host answered: frames keep their order, and the host answers who asks
// whether its address is free.
func (g *guest) drain(t *testing.T, d vmnet.Device) {
	t.Helper()
	count := g.listen(t, func(frame []byte) bool {
		return len(frame) >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && [4]byte(frame[38:42]) == [4]byte{}
	})
	probe := ether(mac("ff:ff:ff:ff:ff:ff"), mac(d.MAC), etherARP, arp(1, mac(d.MAC), netip.IPv4Unspecified(), d.Gateway))
	waitFor(t, "an answer to a probe", func() bool { g.send(t, probe); return count() > 0 })
}

func mac(text string) net.HardwareAddr {
	hw, err := net.ParseMAC(text)
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return hw
}

func ether(to, from net.HardwareAddr, protocol int, body []byte) []byte {
	frame := append(append([]byte{}, to...), from...)
	frame = binary.BigEndian.AppendUint16(frame, uint16(protocol))
	return append(frame, body...)
}

// arp is a question of a sender, or an answer.
func arp(operation int, sender net.HardwareAddr, from netip.Addr, to netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, byte(operation)}
	b = append(append(b, sender...), from.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), to.AsSlice()...)
}

// datagram is a UDP packet of either family.
func datagram(from, to netip.Addr, port int, text string) []byte {
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, uint16(port))
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(text)))
	udp = append(append(udp, 0, 0), text...)
	if from.Is6() {
		binary.BigEndian.PutUint16(udp[6:], sum6(from, to, unix.IPPROTO_UDP, udp))
		return packet6(from, to, unix.IPPROTO_UDP, 64, udp)
	}
	head := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	head = append(append(head, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(head[10:], fold(head))
	return append(head, udp...)
}

func packet6(from, to netip.Addr, protocol, hops byte, body []byte) []byte {
	head := []byte{6 << 4, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), protocol, hops}
	head = append(append(head, from.AsSlice()...), to.AsSlice()...)
	return append(head, body...)
}

// icmp6 is a message whose checksum is made.
func icmp6(from, to netip.Addr, body []byte) []byte {
	body = append([]byte{}, body...)
	binary.BigEndian.PutUint16(body[2:], sum6(from, to, unix.IPPROTO_ICMPV6, body))
	return packet6(from, to, unix.IPPROTO_ICMPV6, 255, body)
}

func sum6(from, to netip.Addr, protocol byte, body []byte) uint16 {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = append(pseudo, 0, 0, byte(len(body)>>8), byte(len(body)), 0, 0, 0, protocol)
	return fold(append(pseudo, body...))
}

func fold(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
