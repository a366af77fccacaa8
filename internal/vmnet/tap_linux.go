package vmnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// tryTap finds out whether this process may do what tap mode needs, by doing
// it: a device, a sysctl of it and tables come and go. Nothing of it stays when
// the process is killed in between. What only some kernels can is noted.
func (n *Network) tryTap() error {
	tap, err := tryDevice()
	if err != nil {
		return err
	}
	defer closeDevice(tap)
	if err := setSysctl(ipv4, tap.Name, "route_localnet", "1"); err != nil {
		return err
	}
	if n.set.pool6.IsValid() {
		if err := setSysctl(ipv6, tap.Name, "accept_ra", "0"); err != nil {
			return fmt.Errorf("ipv6_pool needs a kernel with IPv6: %w", err)
		}
	}
	name := "aleph_try_" + n.set.Name
	if err := tryTable(name); err != nil {
		return err
	}
	n.can = abilities{ingress: tryIngress(name, tap.Name), shaping: tryShaping(tap.Name)}
	return nil
}

// tryDevice makes a TAP device, whose name the kernel completes, that is there
// until closeDevice or the end of this process.
func tryDevice() (*netlink.Tuntap, error) {
	tap := newTap("altry%d")
	tap.NonPersist, tap.Queues = true, 1
	if err := netlink.LinkAdd(tap); err != nil {
		return nil, fmt.Errorf("make TAP device: %w", err)
	}
	return tap, nil
}

func closeDevice(tap *netlink.Tuntap) {
	for _, f := range tap.Fds {
		f.Close()
	}
}

func newTap(name string) *netlink.Tuntap {
	return &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE | netlink.TUNTAP_VNET_HDR,
		Owner:     uint32(os.Geteuid()),
		Group:     uint32(os.Getegid()),
	}
}

// makeTap makes a TAP device that stays after this process.
func makeTap(name string) (netlink.Link, error) {
	if err := netlink.LinkAdd(newTap(name)); err != nil {
		return nil, fmt.Errorf("make TAP device %s: %w", name, err)
	}
	return findDevice(name)
}

func findDevice(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", name, err)
	}
	return link, nil
}

// makeTaps makes the devices that are not among links, and adds them. They stay
// down.
func (n *Network) makeTaps(ctx context.Context, links map[string]netlink.Link, endpoints []endpoint) error {
	for _, e := range endpoints {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply network: %w", context.Cause(ctx))
		}
		link := links[e.tap]
		if link == nil {
			var err error
			if link, err = makeTap(e.tap); err != nil {
				return err
			}
			links[e.tap] = link
		}
		if a := link.Attrs().Alias; !isTap(link) || a != "" && a != e.alias {
			return errs.New(errs.Conflict, "device %s (%q) is not ours, remove it or change the node's name", e.tap, a)
		}
		if link.Attrs().Alias != "" {
			continue
		}
		if err := netlink.LinkSetAlias(link, e.alias); err != nil {
			return fmt.Errorf("mark TAP device %s: %w", e.tap, err)
		}
	}
	return nil
}

// dump lists what the kernel has, again when it changed meanwhile: other devices
// come and go at any time.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	const tries = 10
	for range tries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// devices returns the host's devices by name.
func devices() (map[string]netlink.Link, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	byName := map[string]netlink.Link{}
	for _, link := range links {
		byName[link.Attrs().Name] = link
	}
	return byName, nil
}

// settledTap is a device that this process has brought into the state that its
// lease wants. Sysctls and neighbours are not looked at again while the device
// is the same, up, and has its addresses.
type settledTap struct {
	index           int
	subnet, subnet6 netip.Prefix
	bandwidth       uint64
}

// devicesOf names the devices of endpoints.
func devicesOf(endpoints []endpoint) map[string]bool {
	all := make(map[string]bool, len(endpoints))
	for _, e := range endpoints {
		all[e.tap] = true
	}
	return all
}

// applyTaps brings the devices into the state that their leases want.
func (n *Network) applyTaps(ctx context.Context, links map[string]netlink.Link, endpoints []endpoint) error {
	var has map[int][]netip.Prefix
	look := time.Since(n.lookedAt) > lookInterval
	if look {
		var err error
		if has, err = addressesOf(netlink.FAMILY_ALL); err != nil {
			return err
		}
	}
	for _, e := range endpoints {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply network: %w", context.Cause(ctx))
		}
		link := links[e.tap]
		want := settledTap{
			index: link.Attrs().Index, subnet: netip.PrefixFrom(e.host, n.set.SubnetBits), subnet6: e.subnet6, bandwidth: e.bandwidth,
		}
		up := link.Attrs().Flags&net.FlagUp != 0
		if up && n.settled[e.tap] == want && (!look || holds(has[want.index], want)) {
			continue
		}
		if err := n.applyTap(link, e, want); err != nil {
			return err
		}
		n.settled[e.tap] = want
	}
	if len(endpoints) == 0 || !look {
		return nil
	}
	if err := n.forwardUplinks(); err != nil {
		return err
	}
	n.lookedAt = time.Now()
	return nil
}

// holds reports whether a device's addresses are those that it should have,
// beside that of the link.
func holds(has []netip.Prefix, want settledTap) bool {
	count := 0
	for _, p := range has {
		if p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if p != want.subnet && p != want.subnet6 {
			return false
		}
		count++
	}
	return count == 1 || count == 2 && want.subnet6.IsValid()
}

// addressesOf returns the addresses of all devices, by the device's index.
func addressesOf(family int) (map[int][]netip.Prefix, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			all[a.LinkIndex] = append(all[a.LinkIndex], p)
		}
	}
	return all, nil
}

// applyTap brings one device into the state that its lease wants.
func (n *Network) applyTap(link netlink.Link, e endpoint, want settledTap) error {
	for _, kv := range [][2]string{
		{"route_localnet", "1"}, // 127.0.0.1:port of the host is forwarded to the guest.
		{"forwarding", "1"},     // The guest's packets may leave.
		{"rp_filter", "1"},
		{"arp_ignore", "1"}, // The host's other addresses are not the guest's business.
		{"accept_redirects", "0"},
		{"send_redirects", "0"},
	} {
		if err := setSysctl(ipv4, e.tap, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := setTapIPv6(e.tap, e.subnet6.IsValid()); err != nil {
		return err
	}
	// A device that this process has just made has no address.
	if _, known := n.settled[e.tap]; known || link.Attrs().Flags&net.FlagUp != 0 {
		if err := removeAddresses(link, want); err != nil {
			return err
		}
	}
	delete(n.settled, e.tap)
	if err := addAddresses(link, want); err != nil {
		return err
	}
	if err := n.applyShaping(link, e.bandwidth); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring TAP device %s up: %w", e.tap, err)
		}
	}
	return applyNeighbours(link, e)
}

// setTapIPv6 has the host speak IPv6 to a guest, as its router that listens to
// no other, or not at all. A host without IPv6 has nothing to turn off.
func setTapIPv6(device string, on bool) error {
	if !on {
		err := setSysctl(ipv6, device, "disable_ipv6", "1")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	for _, kv := range [][2]string{
		{"disable_ipv6", "0"},
		{"accept_ra", "0"},
		{"autoconf", "0"},
		{"accept_redirects", "0"},
		{"accept_dad", "0"}, // Nobody else is there.
		{"forwarding", "1"},
	} {
		if err := setSysctl(ipv6, device, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := setSysctl(ipv6, device, forceForwarding, "1"); err != nil && !errors.Is(err, unix.ENOENT) {
		return err // Older kernels do not have it.
	}
	return nil
}

// applyNeighbours tells the host which hardware address its guest has. Otherwise
// the host asks for it once a second only, so a guest that has just booted would
// wait that long for its first packet; and it need not believe what guests say.
func applyNeighbours(link netlink.Link, e endpoint) error {
	for _, guest := range []netip.Addr{e.guest, e.guest6} {
		if !guest.IsValid() {
			continue
		}
		family := netlink.FAMILY_V4
		if guest.Is6() {
			family = netlink.FAMILY_V6
		}
		err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: guest.AsSlice(), HardwareAddr: e.mac,
		})
		if err != nil {
			return fmt.Errorf("name the neighbour of %s: %w", e.tap, err)
		}
	}
	return nil
}

// removeAddresses takes from the device what are not the host's addresses there,
// but for that of the link.
func removeAddresses(link netlink.Link, want settledTap) error {
	name := link.Attrs().Name
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		p, ok := prefixOf(a.IPNet)
		if ok && (p.Addr().IsLinkLocalUnicast() || p == want.subnet || p == want.subnet6) {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s of %s: %w", a.IPNet, name, err)
		}
	}
	return nil
}

// addAddresses gives the device the host's addresses that it does not have.
func addAddresses(link netlink.Link, want settledTap) error {
	for _, p := range []netip.Prefix{want.subnet, want.subnet6} {
		if !p.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give %s to %s: %w", p, link.Attrs().Name, err)
		}
	}
	return nil
}

// removeTaps removes our devices among links but those that are kept, and takes them
// out of links.
func (n *Network) removeTaps(links map[string]netlink.Link, keep map[string]bool) error {
	for name, link := range links {
		if keep[name] || !n.isOurs(link) {
			continue
		}
		delete(n.settled, name)
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("remove TAP device %s: %w", name, err)
		}
		delete(links, name)
	}
	return nil
}

// isOurs reports whether a device was made by this network. One without an
// alias is from a crash between making and marking it.
func (n *Network) isOurs(link netlink.Link) bool {
	a := link.Attrs()
	return isTap(link) && strings.HasPrefix(a.Name, n.tapPrefix()) &&
		(a.Alias == "" || strings.HasPrefix(a.Alias, n.tapAlias("")))
}

func isTap(link netlink.Link) bool {
	tap, ok := link.(*netlink.Tuntap)
	return ok && tap.Mode == netlink.TUNTAP_MODE_TAP
}

// foreignNetworks returns the IPv4 networks of this host that are not ours.
func (n *Network) foreignNetworks() ([]netip.Prefix, error) {
	links, err := devices()
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{}
	for _, link := range links {
		ours[link.Attrs().Index] = n.isOurs(link)
	}
	var all []netip.Prefix
	addrs, err := addressesOf(netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for index, list := range addrs {
		for _, p := range list {
			if !ours[index] {
				all = append(all, p.Masked())
			}
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 && !ours[r.LinkIndex] {
			all = append(all, p.Masked())
		}
	}
	return all, nil
}

// uplinks returns the names of the devices that default routes of a family
// use, or the one that was set.
func (n *Network) uplinks(family int) ([]string, error) {
	if n.set.Uplink != "" {
		return []string{n.set.Uplink}, nil
	}
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var names []string
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 || r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_UNSPEC {
			continue
		}
		indices := []int{r.LinkIndex}
		if len(r.MultiPath) > 0 {
			indices = nil
			for _, hop := range r.MultiPath {
				indices = append(indices, hop.LinkIndex)
			}
		}
		for _, index := range indices {
			link, err := netlink.LinkByIndex(index)
			if err != nil {
				return nil, fmt.Errorf("find device %d of the default route: %w", index, err)
			}
			if name := link.Attrs().Name; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func prefixOf(ipnet *net.IPNet) (netip.Prefix, bool) {
	if ipnet == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(ipnet.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := ipnet.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), true
}
