package vmnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// tryTap finds out whether this process may do what tap mode needs, by doing
// it: a device, a sysctl of it and a table come and go. Nothing of it stays when
// the process is killed in between.
func (n *Network) tryTap() error {
	tap, err := tryDevice()
	if err != nil {
		return err
	}
	defer closeDevice(tap)
	if err := setDeviceSysctl(tap.Name, "route_localnet", "1"); err != nil {
		return err
	}
	return tryTable("aleph_try_" + n.set.Name)
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
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find TAP device %s: %w", name, err)
	}
	return link, nil
}

// applyTaps removes the devices that no lease wants and makes the others.
func (n *Network) applyTaps(ctx context.Context, leases []Lease) error {
	wanted := map[string]bool{}
	for _, l := range leases {
		wanted[n.tapName(l.ID)] = true
	}
	if err := n.removeTaps(wanted); err != nil {
		return err
	}
	for _, l := range leases {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply network: %w", context.Cause(ctx))
		}
		if err := n.applyTap(l); err != nil {
			return err
		}
	}
	if len(leases) == 0 {
		return nil
	}
	return n.forwardUplink()
}

// applyTap brings one device into the state that its lease wants.
func (n *Network) applyTap(l Lease) error {
	name := n.tapName(l.ID)
	link, err := netlink.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		link, err = makeTap(name)
	}
	if err != nil {
		return fmt.Errorf("find TAP device %s: %w", name, err)
	}
	alias := n.tapAlias(l.ID)
	if !isTap(link) || link.Attrs().Alias != "" && link.Attrs().Alias != alias {
		return errs.New(errs.Conflict, "device %s (%q) is not ours, remove it or change the node's name", name, link.Attrs().Alias)
	}
	if link.Attrs().Alias == "" {
		if err := netlink.LinkSetAlias(link, alias); err != nil {
			return fmt.Errorf("mark TAP device %s: %w", name, err)
		}
	}
	for _, kv := range [][2]string{
		{"route_localnet", "1"}, // 127.0.0.1:port of the host is forwarded to the guest.
		{"forwarding", "1"},     // The guest's packets may leave.
		{"rp_filter", "1"},
		{"accept_redirects", "0"},
		{"send_redirects", "0"},
	} {
		if err := setDeviceSysctl(name, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := disableIPv6(name); err != nil {
		return err
	}
	if err := n.applyAddress(link, l); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring TAP device %s up: %w", name, err)
		}
	}
	return n.applyNeighbour(link, l)
}

// applyNeighbour tells the host which hardware address its guest has. Otherwise
// the host asks for it once a second only, so a guest that has just booted would
// wait that long for its first packet.
func (n *Network) applyNeighbour(link netlink.Link, l Lease) error {
	mac, err := net.ParseMAC(macOf(l.ID))
	if err != nil {
		return errs.New(errs.Internal, "BUG: the address of %s: %w", l.ID, err)
	}
	_, guest := n.set.addresses(l.Slot)
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: guest.AsSlice(), HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("name the neighbour of %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// applyAddress gives the device its slot's host address and no other.
func (n *Network) applyAddress(link netlink.Link, l Lease) error {
	name := link.Attrs().Name
	host, _ := n.set.addresses(l.Slot)
	want := netip.PrefixFrom(host, slotBits)
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	has := false
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && p == want {
			has = true
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s of %s: %w", a.IPNet, name, err)
		}
	}
	if has {
		return nil
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: host.AsSlice(), Mask: net.CIDRMask(slotBits, 32)}}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("give %s to %s: %w", want, name, err)
	}
	return nil
}

// removeTaps removes our devices but those that are kept.
func (n *Network) removeTaps(keep map[string]bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if keep[name] || !n.isOurs(link) {
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("remove TAP device %s: %w", name, err)
		}
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

// foreignNetworks returns the networks of this host that are not ours.
func (n *Network) foreignNetworks() ([]netip.Prefix, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ours := map[int]bool{}
	for _, link := range links {
		ours[link.Attrs().Index] = n.isOurs(link)
	}
	var all []netip.Prefix
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && !ours[a.LinkIndex] {
			all = append(all, p.Masked())
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
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

// uplinks returns the names of the devices that default routes use.
func uplinks() ([]string, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var names []string
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return nil, fmt.Errorf("find device %d of the default route: %w", r.LinkIndex, err)
		}
		names = append(names, link.Attrs().Name)
	}
	return names, nil
}

// forwardUplink lets answers to guests in at the devices of the default
// route. What it changes it writes down in our table, for Purge to undo: the
// note lives exactly as long as the setting, until the host boots again.
func (n *Network) forwardUplink() error {
	names, err := uplinks()
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, err := os.ReadFile(deviceSysctl(name, "forwarding"))
		if err != nil {
			return fmt.Errorf("read forwarding of %s: %w", name, err)
		}
		if strings.TrimSpace(string(raw)) != "0" {
			continue
		}
		if err := n.noteForwarding(name); err != nil {
			return err
		}
		if err := setDeviceSysctl(name, "forwarding", "1"); err != nil {
			return err
		}
		n.log.Info("forwarding enabled", "device", name)
	}
	return nil
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

func deviceSysctl(device, key string) string {
	return filepath.Join("/proc/sys/net/ipv4/conf", device, key)
}

func setDeviceSysctl(device, key, value string) error {
	if err := os.WriteFile(deviceSysctl(device, key), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s of %s: %w", key, device, err)
	}
	return nil
}

// disableIPv6 keeps the host from speaking IPv6 to the guest. A host without
// IPv6 has nothing to disable.
func disableIPv6(device string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", device, "disable_ipv6"), []byte("1"), 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("disable IPv6 of %s: %w", device, err)
	}
	return nil
}
