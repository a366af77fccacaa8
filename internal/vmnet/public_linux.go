package vmnet

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// notGlobal are the networks of IPv4 that are nobody's on the internet, from
// IANA's registry of special addresses.
const notGlobal = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 " +
	"192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"

// HostIPv4 returns the address at which others reach this host: the first of an
// uplink that is global, else the first. errs.NotFound if there is none.
func (n *Network) HostIPv4() (netip.Addr, error) {
	names, err := n.uplinks(netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, err
	}
	var all []netip.Addr
	for _, name := range names {
		link, err := findDevice(name)
		if err != nil {
			return netip.Addr{}, err
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
		if err != nil {
			return netip.Addr{}, errs.New(errs.Unavailable, "list addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok {
				all = append(all, p.Addr())
			}
		}
	}
	if len(all) == 0 {
		return netip.Addr{}, errs.New(errs.NotFound, "no address of IPv4 on uplinks %q, set [node] public_ip", names)
	}
	if i := slices.IndexFunc(all, isGlobal); i >= 0 {
		return all[i], nil
	}
	return all[0], nil
}

func isGlobal(a netip.Addr) bool {
	for _, text := range strings.Fields(notGlobal) {
		if netip.MustParsePrefix(text).Contains(a) {
			return false
		}
	}
	return true
}
