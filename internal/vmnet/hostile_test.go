package vmnet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// hostMAC returns the hardware address of a host's device.
func hostMAC(t *testing.T, name string) net.HardwareAddr {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr
}

func TestForgedFramesDoNotGetThrough(t *testing.T) {
	for name, change := range map[string]func(*vmnet.Network){
		"rules at devices": func(*vmnet.Network) {},
		"without them":     (*vmnet.Network).WithoutIngress,
	} {
		t.Run(name, func(t *testing.T) {
			inet := uplink(t)
			n := open(t, withIPv6)
			change(n)
			a, b := web("a", 0, 24001), web("b", 1, 24002)
			apply(t, n, a, b)
			da, db := device(t, n, a), device(t, n, b)
			g := newGuest(t, da)
			texts := map[string]int{}
			count := inet.listen(t, func(frame []byte) bool {
				for _, text := range []string{"honest4", "honest6", "forged"} {
					if bytes.Contains(frame, []byte(text)) {
						texts[text]++
						return true
					}
				}
				return false
			})
			host, own := hostMAC(t, da.TapName), mac(da.MAC)
			inet4, inet6 := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1:2::ffff")
			honest := func() {
				g.send(t, ether(host, own, etherIPv4, datagram(da.Address.Addr(), inet4, 9000, "honest4")))
				g.send(t, ether(host, own, etherIPv6, datagram(da.Address6.Addr(), inet6, 9000, "honest6")))
			}
			both := func() bool { count(); return texts["honest4"] > 0 && texts["honest6"] > 0 }
			waitFor(t, "packets of the guest's own addresses", func() bool { honest(); return both() })

			forged := func(from netip.Addr) []byte {
				if from.Is4() {
					return datagram(from, inet4, 9000, "forged")
				}
				return datagram(from, inet6, 9000, "forged")
			}
			g.send(t, ether(host, mac(db.MAC), etherIPv4, forged(da.Address.Addr())))
			g.send(t, ether(host, mac(db.MAC), etherIPv6, forged(da.Address6.Addr())))
			for _, from := range []netip.Addr{
				db.Address.Addr(), da.Gateway, inet4, netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("0.0.0.0"),
				netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("8.8.8.8"),
			} {
				g.send(t, ether(host, own, etherIPv4, forged(from)))
			}
			for _, from := range []netip.Addr{
				db.Address6.Addr(), da.Gateway6, inet6, netip.MustParseAddr("2001:db8:1:2::1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::"),
				netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8:1:2:3:dead:dead:dea1"), netip.MustParseAddr("::ffff:172.16.0.2"),
			} {
				g.send(t, ether(host, own, etherIPv6, forged(from)))
			}
			// In a VLAN, and as another protocol.
			tagged := append([]byte{0, 1, 8, 0}, forged(da.Address.Addr())...)
			g.send(t, ether(host, own, unix.ETH_P_8021Q, tagged))
			g.send(t, ether(host, own, unix.ETH_P_MPLS_UC, forged(da.Address.Addr())))
			clear(texts)
			waitFor(t, "packets after those", func() bool { honest(); return both() })

			if texts["forged"] > 0 {
				t.Errorf("%d packets with forged addresses got out", texts["forged"])
			}
		})
	}
}

func TestForgedQuestionsForNeighboursAreNotAnswered(t *testing.T) {
	uplink(t)
	n := open(t, withIPv6)
	a, b := web("a", 0, 24001), web("b", 1, 24002)
	apply(t, n, a, b)
	da, db := device(t, n, a), device(t, n, b)
	g := newGuest(t, da)
	answers := 0
	count := g.listen(t, func(frame []byte) bool {
		isARP := len(frame) >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && [4]byte(frame[38:42]) != [4]byte{}
		isNDP := len(frame) >= 78 && frame[20] == 58 && frame[54] == 136
		if isARP || isNDP {
			answers++
		}
		return isARP || isNDP
	})
	broadcast := mac("ff:ff:ff:ff:ff:ff")
	own, other := mac(da.MAC), mac(db.MAC)
	ask4 := func(frameFrom, sender net.HardwareAddr, from, target netip.Addr) {
		g.send(t, ether(broadcast, frameFrom, etherARP, arp(1, sender, from, target)))
	}
	ask6 := func(frameFrom net.HardwareAddr, from, target netip.Addr) {
		body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
		g.send(t, ether(hostMAC(t, da.TapName), frameFrom, etherIPv6, icmp6(from, target, body)))
	}
	g.drain(t, da)
	ask4(own, own, da.Address.Addr(), da.Gateway)
	ask6(own, da.Address6.Addr(), da.Gateway6)
	g.drain(t, da)
	count()
	if answers != 2 {
		t.Fatalf("%d answers to honest questions, want 2", answers)
	}
	answers = 0

	ask4(own, other, da.Address.Addr(), da.Gateway) // Another machine's hardware address inside.
	ask4(other, own, da.Address.Addr(), da.Gateway) // And outside.
	ask4(own, own, db.Address.Addr(), da.Gateway)   // Another machine's address.
	ask4(own, own, da.Gateway, da.Gateway)          // The host's.
	ask4(own, own, da.Address.Addr(), db.Gateway)   // What is not on this wire.
	ask4(own, own, da.Address.Addr(), netip.MustParseAddr("198.51.100.1"))
	ask6(other, da.Address6.Addr(), da.Gateway6)
	ask6(own, db.Address6.Addr(), da.Gateway6)
	ask6(own, netip.MustParseAddr("2001:db8:1:2::ffff"), da.Gateway6)
	g.drain(t, da)
	count()
	if answers > 0 {
		t.Errorf("%d answers to forged questions", answers)
	}
}

func TestGuestsCannotBeRouters(t *testing.T) {
	uplink(t)
	n := open(t, withIPv6)
	a, b := web("a", 0, 24001), web("b", 1, 24002)
	apply(t, n, a, b)
	da, db := device(t, n, a), device(t, n, b)
	g, victim := newGuest(t, da), newGuest(t, db)
	g.drain(t, da) // From here on nothing is lost for want of a cable.
	own := mac(da.MAC)
	link6, all := netip.MustParseAddr("fe80::5054:ff:fe00:1"), netip.MustParseAddr("ff02::1")
	// An advertisement of a router for half an hour, with a prefix.
	body := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	body = append(body, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0)
	body = append(body, netip.MustParseAddr("2001:db8:bad::").AsSlice()...)
	heard := victim.listen(t, func(frame []byte) bool { return len(frame) > 54 && frame[20] == 58 && frame[54] == 134 })
	for range 3 {
		g.send(t, ether(mac("33:33:00:00:00:01"), own, etherIPv6, icmp6(link6, all, body)))
		// The other machine's address is mine, says the guest.
		claim := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, db.Address6.Addr().AsSlice()...)
		g.send(t, ether(hostMAC(t, da.TapName), own, etherIPv6, icmp6(da.Address6.Addr(), da.Gateway6, append(claim, append([]byte{2, 1}, own...)...))))
		g.send(t, ether(mac("ff:ff:ff:ff:ff:ff"), own, etherARP, arp(2, own, db.Address.Addr(), db.Address.Addr())))
	}
	g.drain(t, da)

	routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if strings.Contains(fmt.Sprint(r.Dst), "2001:db8:bad") || fmt.Sprint(r.Gw) == link6.String() {
			t.Errorf("the host took a route from a guest: %v", r)
		}
	}
	if heard() > 0 {
		t.Error("another guest heard a guest that says to be a router")
	}
	known, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		at, ok := netip.AddrFromSlice(k.IP)
		if ok && (at == db.Address.Addr() || at == db.Address6.Addr()) && k.HardwareAddr.String() != db.MAC {
			t.Errorf("the host believes that %s has %s", at, k.HardwareAddr)
		}
	}
}

func TestAScanOfTheHostFindsNothing(t *testing.T) {
	uplink(t)
	n := open(t, func(c *vmnet.Config) { withIPv6(c); c.Bind = "0.0.0.0" })
	l := web("a", 0, 24001)
	apply(t, n, l)
	d := device(t, n, l)
	g := newGuest(t, d)
	g.serve(t, 8080, "a")
	if err := g.dialFor("198.51.100.1:24001"); err != nil {
		t.Fatalf("the guest's network does not work: %v", err)
	}
	var ports []int
	for range 8 {
		listener, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	host := hostMAC(t, d.TapName)
	found := map[string]bool{}
	count := g.listen(t, func(frame []byte) bool {
		// Any answer of TCP, or that a port is closed.
		v4 := len(frame) > 37 && frame[12] == 8 && frame[13] == 0 && frame[23] == unix.IPPROTO_TCP && binary.BigEndian.Uint16(frame[36:]) == 40001
		v6 := len(frame) > 57 && frame[12] == 0x86 && frame[20] == unix.IPPROTO_TCP && binary.BigEndian.Uint16(frame[56:]) == 40001
		if v4 {
			found[fmt.Sprint(netip.AddrFrom4([4]byte(frame[26:30])), " ", binary.BigEndian.Uint16(frame[34:]))] = true
		}
		if v6 {
			found[fmt.Sprint(netip.AddrFrom16([16]byte(frame[22:38])), " ", binary.BigEndian.Uint16(frame[54:]))] = true
		}
		return v4 || v6
	})

	syn := func(port int) []byte {
		b := binary.BigEndian.AppendUint16(nil, 40001)
		b = binary.BigEndian.AppendUint16(b, uint16(port))
		return append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0)
	}
	send := func(to string, port int) {
		from, at, b := d.Address.Addr(), netip.MustParseAddr(to), syn(port)
		if at.Is6() {
			from = d.Address6.Addr()
			binary.BigEndian.PutUint16(b[16:], sum6(from, at, unix.IPPROTO_TCP, b))
			g.send(t, ether(host, mac(d.MAC), etherIPv6, packet6(from, at, unix.IPPROTO_TCP, 64, b)))
			return
		}
		pseudo := append(append(from.AsSlice(), at.AsSlice()...), 0, unix.IPPROTO_TCP, 0, byte(len(b)))
		binary.BigEndian.PutUint16(b[16:], fold(append(pseudo, b...)))
		head := []byte{0x45, 0, 0, byte(20 + len(b)), 0, 1, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0}
		head = append(append(head, from.AsSlice()...), at.AsSlice()...)
		binary.BigEndian.PutUint16(head[10:], fold(head))
		g.send(t, ether(host, mac(d.MAC), etherIPv4, append(head, b...)))
	}
	for _, to := range []string{d.Gateway.String(), "198.51.100.1", d.Gateway6.String(), "2001:db8:1:2::1"} {
		for _, port := range append(ports, 22, 80, 443) {
			send(to, port)
		}
	}
	// The one that is forwarded answers, so that what is not there is not for
	// want of time.
	waitFor(t, "an answer of the forwarded port", func() bool { send("198.51.100.1", 24001); count(); return found["198.51.100.1 24001"] })

	delete(found, "198.51.100.1 24001")
	if len(found) > 0 {
		t.Errorf("the scan found %v", found)
	}
}

func TestGuestsAreKeptApartOverIPv6(t *testing.T) {
	for name, peers := range map[string]bool{"apart": false, "peers": true} {
		t.Run(name, func(t *testing.T) {
			n := open(t, func(c *vmnet.Config) { withIPv6(c); c.PeerTraffic = peers })
			uplink(t)
			a, b := web("a", 0, 24001), web("b", 1, 24002)
			apply(t, n, a, b)
			da, db := device(t, n, a), device(t, n, b)
			ga, gb := newGuest(t, da), newGuest(t, db)
			gb.serve(t, 8080, "b")
			gb.serve(t, 9090, "b")
			if err := ga.dialFor(at6(db, 8080)); err != nil {
				t.Errorf("the port that is open to all: %v, want a connection", err)
			}

			for _, addr := range []string{at6(db, 9090), db.Address.Addr().String() + ":9090", db.Address.Addr().String() + ":8080"} {
				if err := ga.dial(addr); (err == nil) != peers {
					t.Errorf("from a to %s: %v, want a connection: %v", addr, err, peers)
				}
			}
		})
	}
}

func TestForwardedPortsCanBeReachedFromInside(t *testing.T) {
	inet := uplink(t)
	n := open(t, func(c *vmnet.Config) { c.Bind = "198.51.100.1" })
	a, b := web("a", 0, 24001), web("b", 1, 24002)
	apply(t, n, a, b)
	ga, gb := newGuest(t, device(t, n, a)), newGuest(t, device(t, n, b))
	ga.serve(t, 8080, "a")

	for name, from := range map[string]*guest{"outside": inet, "another machine": gb, "itself": ga} {
		if err := from.dialFor("198.51.100.1:24001"); err != nil {
			t.Errorf("from %s: %v, want a connection", name, err)
		}
	}
	if got, err := get(t.Context(), "http://198.51.100.1:24001/"); err != nil || !strings.HasPrefix(got, "a from ") {
		t.Errorf("from the host: got %q, %v; want the guest's answer", got, err)
	}
	// A restarted daemon has nothing to do, and does not interrupt.
	again := open(t, func(c *vmnet.Config) { c.Bind = "198.51.100.1" })
	apply(t, again, a, b)
	if err := gb.dialFor("198.51.100.1:24001"); err != nil {
		t.Errorf("after a restart: %v, want a connection", err)
	}
}

func TestMachinesOfOtherNodesAreReachedByForwardedPorts(t *testing.T) {
	uplink(t)
	one := open(t, func(c *vmnet.Config) { c.Bind = "0.0.0.0" })
	other := open(t, func(c *vmnet.Config) { c.Bind, c.Name, c.Pool = "0.0.0.0", "other", "172.16.16.0/20" })
	a, b := web("a", 0, 24001), web("b", 0, 24002)
	apply(t, one, a)
	apply(t, other, b)
	db := device(t, other, b)
	ga, gb := newGuest(t, device(t, one, a)), newGuest(t, db)
	gb.serve(t, 8080, "b")

	if err := ga.dialFor("198.51.100.1:24002"); err != nil {
		t.Errorf("by the forwarded port: %v, want a connection", err)
	}
	if err := ga.dial(db.Address.Addr().String() + ":8080"); err == nil {
		t.Error("a machine reached one of another node directly")
	}
}

func TestPacketsBeyondTheRateGetLost(t *testing.T) {
	inet := uplink(t)
	n := open(t, nil)
	l := web("a", 0, 24001)
	l.PacketRate = 10
	apply(t, n, l)
	d := device(t, n, l)
	g := newGuest(t, d)
	count := inet.listen(t, func(frame []byte) bool { return bytes.Contains(frame, []byte("flood")) })
	packet := ether(hostMAC(t, d.TapName), mac(d.MAC), etherIPv4, datagram(d.Address.Addr(), netip.MustParseAddr("198.51.100.2"), 9000, "flood"))
	start := time.Now()
	waitFor(t, "the first packet", func() bool { g.send(t, packet); return count() > 0 })

	const flood, burst = 400, 64
	for range flood {
		g.send(t, packet)
	}
	waitFor(t, "the flood", func() bool {
		link, err := netlink.LinkByName(d.TapName)
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().Statistics.RxPackets >= flood
	})
	// What the host sends itself comes after what it has let through.
	heard := inet.listen(t, func(frame []byte) bool { return bytes.Contains(frame, []byte("afterwards")) })
	c, err := net.Dial("udp", "198.51.100.2:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, "what came afterwards", func() bool {
		// Nobody listens there, and the host is told so.
		_, _ = c.Write([]byte("afterwards"))
		return heard() > 0
	})

	if got, most := count(), burst+10*(int(time.Since(start).Seconds())+1); got > most {
		t.Errorf("%d packets got through, want at most %d", got, most)
	}
}

func TestWhatAMachineReceivesIsLimited(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	rate := func() uint64 {
		t.Helper()
		link, err := netlink.LinkByName(device(t, n, l).TapName)
		if err != nil {
			t.Fatal(err)
		}
		queues, err := netlink.QdiscList(link)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queues {
			if bucket, ok := q.(*netlink.Tbf); ok {
				return bucket.Rate
			}
		}
		return 0
	}
	for _, mbit := range []int{8, 80, 0, 100_000, 0} {
		l.BandwidthMbit = mbit
		apply(t, n, l)
		if got := rate(); got != uint64(mbit)*125_000 {
			t.Errorf("%d Mbit/s: the device has a bucket of %d bytes a second", mbit, got)
		}
	}
}

// TestNoDeviceIsUpWithoutItsRules looks at devices and their chains again and again while
// machines come and go: a device that was up before and after a look had its chain in it.
func TestNoDeviceIsUpWithoutItsRules(t *testing.T) {
	n := open(t, withIPv6)
	var leases []vmnet.Lease
	for slot := range 12 {
		leases = append(leases, web(fmt.Sprint("vm", slot), slot, 24000+slot))
	}
	devices := map[string]bool{}
	for _, l := range leases {
		devices[device(t, n, l).TapName] = true
	}
	apply(t, n, leases...)
	if len(chainsAtDevices(t, "aleph_test")) == 0 {
		t.Skip("this kernel has no rules at devices")
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	up := func() map[string]int {
		links, err := netlink.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			t.Error(err)
		}
		found := map[string]int{}
		for _, link := range links {
			if a := link.Attrs(); devices[a.Name] && a.Flags&net.FlagUp != 0 {
				found[a.Name] = a.Index
			}
		}
		return found
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	looks := 0
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			before := up()
			chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
			if err != nil {
				continue // It changed meanwhile.
			}
			has := map[string]bool{}
			for _, ch := range chains {
				name, _, _ := strings.Cut(ch.Name, "_")
				has[name] = true
			}
			after := up()
			for name, index := range before {
				if after[name] == index && !has[name] {
					t.Errorf("device %s is up without its chain", name)
					return
				}
			}
			looks++
		}
	})
	for range 15 {
		apply(t, n, leases...)
		apply(t, n, leases[:3]...)
		apply(t, n)
	}
	close(done)
	watch.Wait()
	if looks == 0 {
		t.Error("nobody looked")
	}
}
