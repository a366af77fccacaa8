package vmnet_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

func id(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// open returns a network in tap mode that is purged when the test ends.
func open(t *testing.T, change func(*vmnet.Config)) *vmnet.Network {
	t.Helper()
	cfg := vmnet.DefaultConfig()
	cfg.Mode, cfg.Name = vmnet.Tap, "test"
	if change != nil {
		change(&cfg)
	}
	n, err := vmnet.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Purge(); err != nil {
			t.Errorf("Purge: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

func apply(t *testing.T, n *vmnet.Network, leases ...vmnet.Lease) {
	t.Helper()
	if err := n.Apply(t.Context(), leases); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

func device(t *testing.T, n *vmnet.Network, l vmnet.Lease) vmnet.Device {
	t.Helper()
	d, err := n.Device(l)
	if err != nil {
		t.Fatalf("Device: %v", err)
	}
	return d
}

// kernel returns what the namespace holds: devices and tables, by name.
func kernel(t *testing.T) (names []string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		names = append(names, "device "+l.Attrs().Name)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		names = append(names, "table "+table.Name)
	}
	return names
}

func web(name string, slot, port int) vmnet.Lease {
	return vmnet.Lease{ID: id(name), Slot: slot, Forwards: []vmnet.Forward{{Protocol: vmnet.TCP, HostPort: port, GuestPort: 8080}}}
}

func TestForwardedPortReachesTheGuest(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))
	g.serve(t, 8080, "hello")

	got, err := get(t.Context(), "http://127.0.0.1:24001/")

	if err != nil || !strings.HasPrefix(got, "hello from 172.16.0.1:") {
		t.Errorf("got %q, %v; want the guest's answer, to its gateway", got, err)
	}
}

func TestTrafficIsTheGuestsOwn(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	if _, err := n.Traffic(l); !errors.Is(err, errs.NotFound) {
		t.Errorf("without a device: %v, want not found", err)
	}
	apply(t, n, l)
	large := strings.Repeat("x", 32<<10)
	newGuest(t, device(t, n, l)).serve(t, 8080, large)
	if _, err := get(t.Context(), "http://127.0.0.1:24001/"); err != nil {
		t.Fatal(err)
	}
	got, err := n.Traffic(l)
	if err != nil || got.Sent < int64(len(large)) || got.Received == 0 || got.Received >= int64(len(large)) {
		t.Errorf("traffic is %+v (%v), want the answer as sent, and the little that asked for it as received", got, err)
	}
	if _, err := open(t, func(c *vmnet.Config) { c.Mode, c.Name = vmnet.User, "other" }).Traffic(l); !errors.Is(err, errs.NotFound) {
		t.Errorf("in user mode: %v, want not found", err)
	}
}

func TestForwardedPortReachesTheGuestFromOutside(t *testing.T) {
	addAddress(t, "up0", "198.51.100.1/24")
	n := open(t, func(c *vmnet.Config) { c.Bind = "0.0.0.0" })
	l := web("a", 0, 24001)
	apply(t, n, l)
	newGuest(t, device(t, n, l)).serve(t, 8080, "hello")
	// An outsider behind another device of the host.
	outside := newGuest(t, plainDevice(t, "out0", "203.0.113.1/24", "203.0.113.2/24"))
	forwardOn(t, "out0")

	if got, err := get(t.Context(), "http://198.51.100.1:24001/"); err != nil || !strings.HasPrefix(got, "hello") {
		t.Errorf("from the host: got %q, %v; want the guest's answer", got, err)
	}
	if err := outside.dialFor("198.51.100.1:24001"); err != nil {
		t.Errorf("from outside: %v, want a connection", err)
	}
	if err := outside.dial("172.16.0.2:8080"); err == nil {
		t.Error("an outsider reached a port that is not forwarded")
	}
}

func TestGuestsAreKeptApart(t *testing.T) {
	n := open(t, nil)
	a, b := web("a", 0, 24001), web("b", 1, 24002)
	apply(t, n, a, b)
	ga, gb := newGuest(t, device(t, n, a)), newGuest(t, device(t, n, b))
	ga.serve(t, 8080, "a")
	gb.serve(t, 8080, "b")
	for name, port := range map[string]int{"a": 24001, "b": 24002} {
		if got, err := get(t.Context(), fmt.Sprintf("http://127.0.0.1:%d/", port)); err != nil || !strings.HasPrefix(got, name) {
			t.Fatalf("port %d: got %q, %v; want guest %s", port, got, err, name)
		}
	}

	if err := ga.dial("172.16.0.6:8080"); err == nil {
		t.Error("guest a reached guest b")
	}
}

func TestGuestDoesNotReachTheHost(t *testing.T) {
	addAddress(t, "up0", "198.51.100.1/24")
	n := open(t, nil)
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))
	g.serve(t, 8080, "a")
	if _, err := get(t.Context(), "http://127.0.0.1:24001/"); err != nil {
		t.Fatalf("the guest's network does not work: %v", err)
	}
	listener, err := net.Listen("tcp4", "0.0.0.0:24500")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	for _, addr := range []string{"172.16.0.1:24500", "198.51.100.1:24500"} {
		if err := g.dial(addr); err == nil {
			t.Errorf("the guest reached the host at %s", addr)
		}
	}
	// 127.0.0.1 of the host, by a route that a hostile guest would add.
	g.run(func() {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetDown(lo)
		}
		link, err2 := netlink.LinkByName("guest0")
		if err := errors.Join(err, err2, os.WriteFile("/proc/sys/net/ipv4/conf/guest0/route_localnet", []byte("1"), 0)); err != nil {
			t.Error(err)
			return
		}
		dst := &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(32, 32)}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.IPv4(172, 16, 0, 1)}); err != nil {
			t.Error(err)
		}
	})
	if err := g.dial("127.0.0.1:24500"); err == nil {
		t.Error("the guest reached the host's loopback")
	}
}

func TestEgressLeavesBehindTheHost(t *testing.T) {
	n := open(t, nil)
	// A server of the internet, and one of a private network, beyond devices
	// of the host; up0 has the default route.
	inet := newGuest(t, plainDevice(t, "up0", "198.51.100.1/24", "198.51.100.2/24"))
	inet.serve(t, 80, "internet")
	lan := newGuest(t, plainDevice(t, "lan0", "192.168.7.1/24", "192.168.7.2/24"))
	lan.serve(t, 80, "lan")
	defaultRoute(t, "up0", "198.51.100.2")
	forwardOn(t, "lan0")
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))

	var got string
	var err error
	g.run(func() { got, err = getHere(t.Context(), "http://198.51.100.2/") })
	if err != nil || !strings.HasPrefix(got, "internet from 198.51.100.1:") {
		t.Errorf("got %q, %v; want the internet's answer, to the host's address", got, err)
	}
	if err := g.dial("192.168.7.2:80"); err == nil {
		t.Error("the guest reached a private network")
	}
	if raw, err := os.ReadFile("/proc/sys/net/ipv4/conf/up0/forwarding"); err != nil || string(raw) != "1\n" {
		t.Errorf("forwarding of the uplink is %q, %v; want it on", raw, err)
	}
	if err := n.Purge(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile("/proc/sys/net/ipv4/conf/up0/forwarding"); err != nil || string(raw) != "0\n" {
		t.Errorf("forwarding of the uplink after Purge is %q, %v; want it off again", raw, err)
	}
}

func TestSpoofedAddressesAreDropped(t *testing.T) {
	n := open(t, nil)
	inet := newGuest(t, plainDevice(t, "up0", "198.51.100.1/24", "198.51.100.2/24"))
	inet.serve(t, 80, "internet")
	defaultRoute(t, "up0", "198.51.100.2")
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))
	if err := g.dialFor("198.51.100.2:80"); err != nil {
		t.Fatalf("with its own addresses: %v, want a connection", err)
	}

	g.run(func() {
		link, err := netlink.LinkByName("guest0")
		if err == nil {
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(172, 16, 9, 9), Mask: net.CIDRMask(32, 32)}})
		}
		if err != nil {
			t.Error(err)
			return
		}
		forged := net.Dialer{Timeout: 400 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.IPv4(172, 16, 9, 9)}}
		if c, err := forged.DialContext(t.Context(), "tcp4", "198.51.100.2:80"); err == nil {
			c.Close()
			t.Error("a packet with a forged address got out")
		}
		if err := netlink.LinkSetHardwareAddr(link, net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}); err != nil {
			t.Error(err)
		}
	})
	if err := g.dial("198.51.100.2:80"); err == nil {
		t.Error("a packet with a forged hardware address got out")
	}
}

func TestApplyIsDeclarative(t *testing.T) {
	before := kernel(t)
	n := open(t, nil)
	foreign := foreignTable(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 60 {
		var leases []vmnet.Lease
		for slot := range 6 {
			if rng.IntN(2) == 0 {
				leases = append(leases, web(fmt.Sprint("vm", slot), slot, 24000+slot))
			}
		}
		if rng.IntN(5) == 0 {
			// A crash: another daemon takes over with nothing in memory.
			n = open(t, nil)
		}
		apply(t, n, leases...)
		devices, ports := 0, 0
		for _, name := range kernel(t) {
			if strings.HasPrefix(name, "device al") {
				devices++
			}
		}
		for slot := range 6 {
			if !n.PortFree(vmnet.TCP, 24000+slot) {
				ports++
			}
		}
		if devices != len(leases) || ports != len(leases) {
			t.Fatalf("step %d: %d devices and %d ports, want %d", step, devices, ports, len(leases))
		}
	}
	if err := n.Purge(); err != nil {
		t.Fatal(err)
	}
	if err := foreign(); err != nil {
		t.Errorf("the table of another is gone: %v", err)
	}
	if after := kernel(t); strings.Join(after, ",") != strings.Join(before, ",") {
		t.Errorf("after Purge the kernel has %v, want %v", after, before)
	}
}

func TestTheHostNeedNotAskForItsGuest(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	for range 2 { // It is kept, and set again.
		apply(t, n, l)
	}
	d := device(t, n, l)
	link, err := netlink.LinkByName(d.TapName)
	if err != nil {
		t.Fatal(err)
	}

	known, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		if k.IP.String() == d.Address.Addr().String() && k.HardwareAddr.String() == d.MAC && k.State == netlink.NUD_PERMANENT {
			return
		}
	}
	t.Errorf("the host knows %v, want %s at %s for good", known, d.Address.Addr(), d.MAC)
}

func TestApplyRepairs(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	apply(t, n, l)
	d := device(t, n, l)
	link, err := netlink.LinkByName(d.TapName)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := errors.Join(c.Flush(), netlink.LinkDel(link)); err != nil {
		t.Fatal(err)
	}

	apply(t, n, l)

	newGuest(t, d).serve(t, 8080, "repaired")
	if got, err := get(t.Context(), "http://127.0.0.1:24001/"); err != nil || !strings.HasPrefix(got, "repaired") {
		t.Errorf("got %q, %v; want the guest's answer", got, err)
	}
}

func TestForeignDevicesAreNotTaken(t *testing.T) {
	n := open(t, nil)
	l := web("a", 0, 24001)
	name := device(t, n, l).TapName
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := errors.Join(netlink.LinkAdd(link), netlink.LinkSetAlias(link, "somebody else's")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(link) })

	if err := n.Apply(t.Context(), []vmnet.Lease{l}); !errors.Is(err, errs.Conflict) {
		t.Errorf("Apply over a device of others: %v, want a conflict", err)
	}
	if err := n.Purge(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(name); err != nil {
		t.Errorf("Purge removed a device of others: %v", err)
	}
}

func TestSlotsAvoidOtherNetworks(t *testing.T) {
	n := open(t, nil)
	first, err := n.FreeSlot(func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	addAddress(t, "up0", fmt.Sprintf("172.16.%d.%d/30", (first+1)/64, (first+1)%64*4+1))
	taken := map[int]bool{first: true}

	got, err := n.FreeSlot(func(s int) bool { return taken[s] })

	if err != nil || got != first+2 {
		t.Errorf("FreeSlot = %d, %v; want %d: one is taken and one is another's", got, err, first+2)
	}
	if _, err := n.FreeSlot(func(int) bool { return true }); !errors.Is(err, errs.Exhausted) {
		t.Errorf("FreeSlot of a full pool: %v, want exhausted", err)
	}
}

func TestNodesOfOneHostBeginAtDifferentPlaces(t *testing.T) {
	none := func(int) bool { return false }
	slots, ports := map[int]bool{}, map[int]bool{}
	for _, name := range []string{"one", "two", "three"} {
		n := open(t, func(c *vmnet.Config) { c.Name = name })
		slot, err := n.FreeSlot(none)
		if err != nil {
			t.Fatal(err)
		}
		port, err := n.FreePort(vmnet.TCP, 0, none)
		if err != nil {
			t.Fatal(err)
		}
		slots[slot], ports[port] = true, true
	}

	if len(slots) != 3 || len(ports) != 3 {
		t.Errorf("slots are %v, ports are %v; want three of each", slots, ports)
	}
}

func TestPorts(t *testing.T) {
	one := open(t, func(c *vmnet.Config) { c.PortMin, c.PortMax = 24000, 24003 })
	other := open(t, func(c *vmnet.Config) { c.Name, c.Pool = "other", "172.16.16.0/20" })
	apply(t, other, web("a", 0, 24001))
	listener, err := net.Listen("tcp4", "127.0.0.1:24002")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	none := func(int) bool { return false }

	for prefer, want := range map[int]int{24000: 24000, 24001: 24003, 24002: 24003, 24003: 24003} {
		got, err := one.FreePort(vmnet.TCP, prefer, none)
		if err != nil || got != want {
			t.Errorf("FreePort(%d) = %d, %v; want %d", prefer, got, err, want)
		}
	}
	for _, prefer := range []int{0, 99} {
		if got, err := one.FreePort(vmnet.TCP, prefer, none); err != nil || got != 24000 && got != 24003 {
			t.Errorf("FreePort(%d) = %d, %v; want 24000 or 24003", prefer, got, err)
		}
	}
	if got, err := one.FreePort(vmnet.UDP, 24002, none); err != nil || got != 24002 {
		t.Errorf("FreePort of UDP = %d, %v; want 24002", got, err)
	}
	if _, err := one.FreePort(vmnet.TCP, 0, func(int) bool { return true }); !errors.Is(err, errs.Exhausted) {
		t.Errorf("FreePort of a full range: %v, want exhausted", err)
	}
	if one.PortFree(vmnet.TCP, 24002) || one.PortFree(vmnet.TCP, 24001) || !one.PortFree(vmnet.TCP, 24000) {
		t.Error("PortFree does not say that 24001 and 24002 are used and 24000 is not")
	}
}

func TestUserMode(t *testing.T) {
	before := kernel(t)
	n := open(t, func(c *vmnet.Config) { c.Mode = vmnet.User })
	l := web("a", 0, 24001)
	apply(t, n, l)

	d := device(t, n, l)

	if n.Mode() != vmnet.User || d.Mode != vmnet.User || d.Address.String() != "10.0.2.15/24" || d.Egress || d.Bind.String() != "127.0.0.1" {
		t.Errorf("device is %+v, want one of user mode without egress", d)
	}
	if after := kernel(t); strings.Join(after, ",") != strings.Join(before, ",") {
		t.Errorf("user mode changed the kernel from %v to %v", before, after)
	}
}

func TestAutoTakesTapWhenItMay(t *testing.T) {
	n := open(t, func(c *vmnet.Config) { c.Mode = vmnet.Auto })
	if n.Mode() != vmnet.Tap {
		t.Errorf("mode is %s, want tap", n.Mode())
	}
}

// TestTriedDevicesGoWithTheProcess: the kernel closes the files of a process that
// is killed, and the device goes with them. The table never is there: one batch
// makes and removes it.
func TestTriedDevicesGoWithTheProcess(t *testing.T) {
	before := kernel(t)
	tap, err := vmnet.TryDevice()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(tap.Name); err != nil || !strings.HasPrefix(tap.Name, "altry") {
		t.Errorf("device %q: %v, want it to be there", tap.Name, err)
	}

	for _, f := range tap.Fds {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}

	if after := kernel(t); !slices.Equal(before, after) {
		t.Errorf("left: %q, before: %q", after, before)
	}
	open(t, nil)
	if after := kernel(t); !slices.Equal(before, after) {
		t.Errorf("after Open: %q, before: %q", after, before)
	}
}

func TestBadLeasesAreRefused(t *testing.T) {
	n := open(t, nil)
	good := web("a", 0, 24001)
	for name, leases := range map[string][]vmnet.Lease{
		"id":                {{ID: "x"}},
		"slot":              {{ID: id("a"), Slot: 1 << 20}},
		"negative slot":     {{ID: id("a"), Slot: -1}},
		"protocol":          {{ID: id("a"), Forwards: []vmnet.Forward{{Protocol: "sctp", HostPort: 1, GuestPort: 1}}}},
		"port":              {{ID: id("a"), Forwards: []vmnet.Forward{{Protocol: vmnet.TCP, HostPort: 70000, GuestPort: 1}}}},
		"many forwards":     {{ID: id("a"), Forwards: make([]vmnet.Forward, 200)}},
		"the same twice":    {good, good},
		"one slot for two":  {good, web("b", 0, 24002)},
		"one port for two":  {good, web("b", 1, 24001)},
		"more than we take": make([]vmnet.Lease, 2000),
	} {
		if err := n.Apply(t.Context(), leases); err == nil || errs.KindOf(err) == errs.Internal {
			t.Errorf("%s: Apply returned %v, want a refusal", name, err)
		}
	}
}

func TestApplyEndsWithItsContext(t *testing.T) {
	n := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Apply(ctx, []vmnet.Lease{web("a", 0, 24001)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v, want it canceled", err)
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*vmnet.Config){
		"mode":        func(c *vmnet.Config) { c.Mode = "bridge" },
		"pool":        func(c *vmnet.Config) { c.Pool = "172.16.0.0" },
		"pool bits":   func(c *vmnet.Config) { c.Pool = "172.16.0.1/20" },
		"huge pool":   func(c *vmnet.Config) { c.Pool = "10.0.0.0/8" },
		"IPv6 pool":   func(c *vmnet.Config) { c.Pool = "fd00::/64" },
		"bind":        func(c *vmnet.Config) { c.Bind = "localhost" },
		"ports":       func(c *vmnet.Config) { c.PortMin, c.PortMax = 10, 5 },
		"nameservers": func(c *vmnet.Config) { c.Nameservers = []string{"dns.example"} },
	} {
		cfg := vmnet.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Validate returned %v, want invalid", name, err)
		}
	}
	cfg := vmnet.DefaultConfig()
	for _, name := range []string{"", "Über", strings.Repeat("x", 40)} {
		cfg.Name = name
		if _, err := vmnet.Open(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, errs.Invalid) {
			t.Errorf("name %q: Open returned %v, want invalid", name, err)
		}
	}
}

// getHere is get on the calling thread, which is in another namespace: a
// transport would dial from a thread of its own.
func getHere(ctx context.Context, url string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	for ctx.Err() == nil {
		d := net.Dialer{Timeout: 300 * time.Millisecond}
		var c net.Conn
		if c, err = d.DialContext(ctx, "tcp4", net.JoinHostPort(req.URL.Hostname(), "80")); err != nil {
			continue
		}
		defer c.Close()
		return roundTrip(c, req)
	}
	return "", err
}
