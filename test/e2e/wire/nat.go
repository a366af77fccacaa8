package wire

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
)

// NAT is how a router translates the address of who is behind it. Either lets in only what
// answers: from an address and port to which something went before.
type NAT string

const (
	// Cone keeps ports: whatever a socket inside sends to comes from the same port outside, as most
	// home routers do it. RFC 4787 calls it endpoint-independent mapping with address- and
	// port-dependent filtering.
	Cone NAT = "cone"
	// Symmetric takes another port for each destination, as many routers of companies
	// and of mobile networks do.
	Symmetric NAT = "symmetric"
)

// Inside and outside of a router, and who is behind it. They are the same at each router, as
// in homes.
const (
	insideDevice = "inside0"
	hostDevice   = "home0"
	insideBits   = 24
)

func insideAddr() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, 1}) }
func homeAddr() netip.Addr   { return netip.AddrFrom4([4]byte{192, 168, 1, 2}) }

// Behind adds a host that is on the network only by way of another one, which becomes its
// router and is nothing else.
func (n *Net) Behind(router *Host, name string, nat NAT) (*Host, error) {
	h := &Host{Name: name, Addr: homeAddr()}
	if err := h.unshare(func() error { return nil }); err != nil {
		return nil, fmt.Errorf("make a namespace for %s: %w", name, err)
	}
	n.mu.Lock()
	n.all = append(n.all, h)
	n.mu.Unlock()
	err := router.Do(func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: insideDevice}, PeerName: hostDevice, PeerNamespace: netlink.NsFd(h.ns.Fd())}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("lay a cable: %w", err)
		}
		own := &net.IPNet{IP: insideAddr().AsSlice(), Mask: net.CIDRMask(insideBits, 8*net.IPv4len)}
		if err := netlink.AddrAdd(cable, &netlink.Addr{IPNet: own}); err != nil {
			return fmt.Errorf("give the router an address inside: %w", err)
		}
		if err := bringUp(insideDevice); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return fmt.Errorf("let the router forward: %w", err)
		}
		return loadRules(nat)
	})
	if err == nil {
		err = h.Do(func() error { return giveAddress(hostDevice, netip.PrefixFrom(h.Addr, insideBits), insideAddr()) })
	}
	if err != nil {
		return nil, fmt.Errorf("put %s behind %s: %w", name, router.Name, err)
	}
	return h, nil
}

// loadRules makes the namespace of this thread a router that translates. What is not asked for
// is dropped before it is tracked: else a packet that comes too early would take the port
// of the answer that is to let it in.
func loadRules(nat NAT) error {
	how := ""
	if nat == Symmetric {
		how = "fully-random"
	}
	cmd := exec.Command("nft", "-f", "-") //nolint:noctx // It is at once.
	cmd.Stdin = bytes.NewBufferString(fmt.Sprintf(`
table ip translate {
	chain out { type nat hook postrouting priority srcnat; oifname %q masquerade %s; }
}
table ip guard {
	chain in { type filter hook input priority filter; policy drop; ct state established,related accept; iifname != %q accept; }
	chain through { type filter hook forward priority filter; policy drop; iifname %q accept; ct state established,related accept; }
}
`, device, how, device, insideDevice))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}
