package vmnet_test

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet/nsguest"
)

// TestMachinesOfTwoHostsReachEachOther has a second host in a namespace at the
// other end of the uplink, with a network and a machine of its own. Each host
// has a route to the other's pool, as a provider's router would.
func TestMachinesOfTwoHostsReachEachOther(t *testing.T) {
	other := uplink(t)
	one := open(t, func(c *vmnet.Config) { withIPv6(c); c.Bind = "198.51.100.1" })
	a := web("a", 0, 24001)
	apply(t, one, a)
	da := device(t, one, a)
	ga := newGuest(t, da)
	ga.serve(t, 8080, "a")
	ga.serve(t, 9090, "a")
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	_, pool, err := net.ParseCIDR("2001:db8:2::/64")
	if err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: pool, Gw: net.ParseIP("2001:db8:1:2::ffff")}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	running(t, one) // The other host has the pool on its link.

	// Both use the same addresses of IPv4: each is behind its host's.
	b := web("b", 0, 24002)
	var two *vmnet.Network
	var db vmnet.Device
	var gb *nsguest.Guest
	other.run(func() {
		cfg := vmnet.DefaultConfig()
		cfg.Mode, cfg.Name, cfg.IPv6Pool, cfg.Bind = vmnet.Tap, "two", "2001:db8:2::/64", "198.51.100.2"
		if two, err = vmnet.Open(cfg, slog.New(slog.DiscardHandler)); err != nil {
			return
		}
		if err = two.Apply(t.Context(), []vmnet.Lease{b}); err != nil {
			return
		}
		if db, err = two.Device(b); err != nil {
			return
		}
		gb, err = nsguest.Open(nsguest.Config{
			Tap: db.TapName, MAC: db.MAC, Addresses: []netip.Prefix{db.Address, db.Address6}, Gateways: []netip.Addr{db.Gateway, db.Gateway6},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		other.run(func() { err = errors.Join(gb.Close(), two.Purge()) })
		if err != nil {
			t.Error(err)
		}
	})
	far := &guest{gb}
	far.serve(t, 8080, "b")
	far.serve(t, 9090, "b")

	for what, path := range map[string]struct {
		from *guest
		to   string
	}{
		"a to b by the forwarded port": {ga, "198.51.100.2:24002"},
		"b to a by the forwarded port": {far, "198.51.100.1:24001"},
		"a to b over IPv6":             {ga, at6(db, 9090)},
		"b to a over IPv6":             {far, at6(da, 9090)},
	} {
		if err := path.from.dialFor(path.to); err != nil {
			t.Errorf("%s: %v, want a connection", what, err)
		}
	}
	for what, path := range map[string]struct {
		from *guest
		to   string
	}{
		"a to b past its firewall": {ga, "198.51.100.2:9090"},
		"b to a past its firewall": {far, "198.51.100.1:9090"},
	} {
		if err := path.from.dial(path.to); err == nil {
			t.Errorf("%s: a connection", what)
		}
	}
}
