package vmnet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

const pool6 = "2001:db8:1:2::/64"

// withIPv6 gives machines addresses of the uplink's network.
func withIPv6(c *vmnet.Config) { c.IPv6Pool = pool6 }

// uplink makes up0, the host's device to the internet over both families, and
// returns who is at its other end: a server of the internet that is on the link
// and does not know of machines.
func uplink(t *testing.T) *guest {
	t.Helper()
	d := plainDevice(t, "up0", "198.51.100.1/24", "198.51.100.2/24")
	for _, kv := range [][2]string{{"accept_dad", "0"}, {"accept_ra", "1"}} {
		set6(t, "up0", kv[0], kv[1])
	}
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("2001:db8:1:2::1/64")
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = 2 // IFA_F_NODAD
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	d.Address6, d.Gateway6 = prefix("2001:db8:1:2::ffff/64"), netip.MustParseAddr("2001:db8:1:2::1")
	g := newGuest(t, d)
	defaultRoute(t, "up0", "198.51.100.2")
	defaultRoute(t, "up0", "2001:db8:1:2::ffff")
	return g
}

func set6(t *testing.T, device, key, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/"+key, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func get6(t *testing.T, device, key string) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + device + "/" + key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// running runs the network's proxy until the returned function is called, or
// the test ends.
func running(t *testing.T, n *vmnet.Network) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func at6(d vmnet.Device, port int) string {
	return netip.AddrPortFrom(d.Address6.Addr(), uint16(port)).String()
}

func TestNeighboursReachMachinesOverIPv6(t *testing.T) {
	for name, change := range map[string]func(*vmnet.Network){
		"one device at a time": func(*vmnet.Network) {},
		"the host as a router": (*vmnet.Network).ForwardAsOldKernels,
	} {
		t.Run(name, func(t *testing.T) {
			inet := uplink(t)
			inet.serve(t, 80, "internet")
			n := open(t, withIPv6)
			change(n)
			running(t, n)
			l := web("a", 0, 24001)
			apply(t, n, l)
			d := device(t, n, l)
			g := newGuest(t, d)
			g.serve(t, 8080, "a")
			g.serve(t, 9090, "a")

			for _, port := range []int{8080, 9090} {
				if err := inet.dialFor(at6(d, port)); err != nil {
					t.Errorf("port %d from the uplink: %v, want a connection", port, err)
				}
			}
			if err := g.dialFor("[2001:db8:1:2::ffff]:80"); err != nil {
				t.Errorf("to the uplink: %v, want a connection", err)
			}
			if got, err := get(t.Context(), "http://"+at6(d, 8080)); err != nil || !strings.HasPrefix(got, "a from [2001:db8:1:2:3:") {
				t.Errorf("from the host: got %q, %v; want the guest's answer", got, err)
			}
		})
	}
}

func TestTheFirewallOfIPv6OpensForwardedPortsOnly(t *testing.T) {
	inet := uplink(t)
	inet.serve(t, 80, "internet")
	n := open(t, func(c *vmnet.Config) { withIPv6(c); c.IPv6Firewall = true })
	running(t, n)
	l := web("a", 0, 24001)
	apply(t, n, l)
	d := device(t, n, l)
	g := newGuest(t, d)
	g.serve(t, 8080, "a")
	g.serve(t, 9090, "a")

	if err := inet.dialFor(at6(d, 8080)); err != nil {
		t.Errorf("a forwarded port: %v, want a connection", err)
	}
	if err := inet.dial(at6(d, 9090)); err == nil {
		t.Error("an outsider reached a port that is not forwarded")
	}
	if err := g.dialFor("[2001:db8:1:2::ffff]:80"); err != nil {
		t.Errorf("to the uplink: %v, want a connection", err)
	}
}

func TestNeighboursAreAnsweredForMachinesOnly(t *testing.T) {
	inet := uplink(t)
	n := open(t, withIPv6)
	stop := running(t, n)
	l := web("a", 0, 24001)
	apply(t, n, l)
	d := device(t, n, l)
	answers := map[netip.Addr]int{}
	count := inet.listen(t, func(frame []byte) bool {
		if len(frame) >= 78 && frame[20] == 58 && frame[54] == 136 {
			answers[netip.AddrFrom16([16]byte(frame[62:78]))]++
			return true
		}
		return false
	})
	// A sender of the pool that is nobody's, so that the host does not ask back.
	source := netip.MustParseAddr("2001:db8:1:2::ffff")
	question := func(target netip.Addr) {
		t.Helper()
		b := target.As16()
		group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
		body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
		inet.send(t, ether(net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}, mac("02:00:00:00:00:02"), etherIPv6, icmp6(source, group, body)))
	}
	machine := d.Address6.Addr()
	other := netip.MustParseAddr("2001:db8:1:2:3:dead:dead:dea1")
	waitFor(t, "an answer for the machine", func() bool {
		question(machine)
		question(other)
		count()
		return answers[machine] > 0
	})

	stop()
	count()
	before := answers[machine]
	// A daemon that starts again answers again, for the machines that it has
	// then. It answers in the order of questions.
	again := open(t, withIPv6)
	running(t, again)
	b := web("b", 1, 24002)
	apply(t, again, b)
	newer := device(t, again, b).Address6.Addr()
	waitFor(t, "an answer for the newer machine", func() bool {
		question(machine)
		question(newer)
		count()
		return answers[newer] > 0
	})
	if answers[machine] != before {
		t.Error("answered for a machine that is gone")
	}
	apply(t, again, l, b)
	waitFor(t, "an answer after the restart", func() bool {
		question(machine)
		question(other)
		count()
		return answers[machine] > before
	})
	apply(t, again)
	if answers[other] > 0 {
		t.Errorf("answered %d times for an address of nobody", answers[other])
	}
}

func TestAHostKeepsItsOwnRouters(t *testing.T) {
	uplink(t)
	for name, old := range map[string]bool{"one device at a time": false, "the host as a router": true} {
		n := open(t, withIPv6)
		if old {
			n.ForwardAsOldKernels()
		}
		apply(t, n, web("a", 0, 24001))

		listens := get6(t, "up0", "accept_ra") == "2" || get6(t, "up0", "accept_ra") == "1" && get6(t, "up0", "forwarding") == "0"
		if !listens {
			t.Errorf("%s: the uplink does not listen to routers: accept_ra is %s and forwarding %s", name, get6(t, "up0", "accept_ra"), get6(t, "up0", "forwarding"))
		}
		if err := n.Purge(); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"up0 accept_ra": "1", "up0 forwarding": "0", "all forwarding": "0", "up0 force_forwarding": "0"} {
			dev, k, _ := strings.Cut(key, " ")
			if k == "force_forwarding" {
				if _, err := os.Stat("/proc/sys/net/ipv6/conf/up0/force_forwarding"); errors.Is(err, os.ErrNotExist) {
					continue
				}
			}
			if got := get6(t, dev, k); got != want {
				t.Errorf("%s: after Purge %s is %s, want %s", name, key, got, want)
			}
		}
	}
}

func TestPrivatePoolsLeaveBehindTheHost(t *testing.T) {
	inet := uplink(t)
	inet.serve(t, 80, "internet")
	n := open(t, func(c *vmnet.Config) { c.IPv6Pool = "fc00:1:2:3::/64" })
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))

	if err := g.dialFor("[2001:db8:1:2::ffff]:80"); err != nil {
		t.Errorf("to the uplink: %v, want a connection", err)
	}
}

func TestPrivateNetworksOfIPv6AreNotReached(t *testing.T) {
	n := open(t, withIPv6)
	uplink(t)
	d := plainDevice(t, "lan0", "192.168.7.1/24", "192.168.7.2/24")
	link, err := netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("fd00:7::1/64")
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = 2
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	d.Address6, d.Gateway6 = prefix("fd00:7::2/64"), netip.MustParseAddr("fd00:7::1")
	lan := newGuest(t, d)
	lan.serve(t, 80, "lan")
	running(t, n)
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))
	if _, err := get(t.Context(), "http://[fd00:7::2]/"); err != nil {
		t.Fatalf("the private network does not work: %v", err)
	}
	if err := g.dialFor("[2001:db8:1:2::ffff]:80"); err == nil || !strings.Contains(fmt.Sprint(err), "refused") {
		t.Fatalf("the guest's network does not work: %v", err)
	}

	if err := g.dial("[fd00:7::2]:80"); err == nil {
		t.Error("the guest reached a private network")
	}
}
