package vmnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Families of sysctls.
const (
	ipv4 = "ipv4"
	ipv6 = "ipv6"
)

const (
	// forceForwarding lets packets of IPv6 that come in at a device pass
	// through the host. Kernels before 6.17 only have one switch for all.
	forceForwarding = "force_forwarding"
	// everywhere is the name for all devices.
	everywhere = "all"
)

// What Purge undoes is written down in our table, in names of chains: the note
// lives exactly as long as the setting, until the host boots again.
const (
	forwardingTag  = "forwarded_"  // Forwarding of IPv4 of the device was off.
	force6Tag      = "forced6_"    // forceForwarding of the device was off.
	forwarding6Tag = "forwarded6_" // Forwarding of IPv6 was off.
	routersTag     = "routers_"    // The device listened to routers because the host was none.
)

// undoing is how notes are undone, in this order: a host that becomes none any
// more listens to routers by itself.
func undoing() [][4]string {
	return [][4]string{
		{forwardingTag, ipv4, "forwarding", "0"},
		{force6Tag, ipv6, forceForwarding, "0"},
		{forwarding6Tag, ipv6, "forwarding", "0"},
		{routersTag, ipv6, "accept_ra", "1"},
	}
}

func isNote(chain string) bool {
	for _, u := range undoing() {
		if strings.HasPrefix(chain, u[0]) {
			return true
		}
	}
	return false
}

// undoNotes sets back what notes among the chains tell of.
func undoNotes(chains map[string]bool) error {
	for _, u := range undoing() {
		for name := range chains {
			device, ok := strings.CutPrefix(name, u[0])
			if !ok {
				continue
			}
			// A device that is gone has taken its setting along.
			if err := setSysctl(u[1], device, u[2], u[3]); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}

// turn sets a sysctl that has the value from to another one, and notes it
// first. It reports whether it did, and whether there is such a sysctl.
func (n *Network) turn(tag, family, device, key, from, to string) (done, exists bool, err error) {
	value, err := readSysctl(family, device, key)
	if errors.Is(err, unix.ENOENT) {
		return false, false, nil
	}
	if err != nil || value != from {
		return false, true, err
	}
	c, err := openNetfilter()
	if err != nil {
		return false, true, err
	}
	c.AddChain(&nftables.Chain{Table: n.table(), Name: tag + device})
	if err := c.Flush(); err != nil {
		return false, true, fmt.Errorf("note %s of %s: %w", key, device, err)
	}
	return true, true, setSysctl(family, device, key, to)
}

// forwardUplinks lets answers to guests in at the devices to the internet.
func (n *Network) forwardUplinks() error {
	names, err := n.uplinks(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, name := range names {
		done, _, err := n.turn(forwardingTag, ipv4, name, "forwarding", "0", "1")
		if err != nil {
			return err
		}
		if done {
			n.log.Info("forwarding enabled", "device", name)
		}
	}
	if n.set.pool6.IsValid() {
		return n.forwardUplinks6()
	}
	return nil
}

// forwardUplinks6 is the same for IPv6. Where each device has a switch of its
// own the host stays what it was to its routers.
func (n *Network) forwardUplinks6() error {
	names, err := n.uplinks(netlink.FAMILY_V6)
	if err != nil {
		return err
	}
	for _, name := range names {
		if n.oldForwarding {
			return n.forwardAll6()
		}
		done, exists, err := n.turn(force6Tag, ipv6, name, forceForwarding, "0", "1")
		if err != nil {
			return err
		}
		if !exists {
			return n.forwardAll6()
		}
		if done {
			n.log.Info("forwarding of IPv6 enabled", "device", name)
		}
	}
	return nil
}

// forwardAll6 makes the whole host a router of IPv6. Routers do not listen to
// others: a host that has its address or its default route from one would lose
// both, so devices that listen are told first to do so in any case.
func (n *Network) forwardAll6() error {
	links, err := devices()
	if err != nil {
		return err
	}
	for name, link := range links {
		if n.isOurs(link) {
			continue
		}
		forwards, err := readSysctl(ipv6, name, "forwarding")
		if errors.Is(err, unix.ENOENT) {
			continue // The device has no IPv6, or is gone.
		}
		if err != nil {
			return err
		}
		if forwards != "0" {
			continue
		}
		if _, _, err := n.turn(routersTag, ipv6, name, "accept_ra", "1", "2"); err != nil {
			return err
		}
	}
	done, _, err := n.turn(forwarding6Tag, ipv6, everywhere, "forwarding", "0", "1")
	if done && err == nil {
		n.log.Info("forwarding of IPv6 enabled", "device", everywhere)
	}
	return err
}

func sysctl(family, device, key string) string {
	return filepath.Join("/proc/sys/net", family, "conf", device, key)
}

func readSysctl(family, device, key string) (string, error) {
	raw, err := os.ReadFile(sysctl(family, device, key))
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", key, device, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func setSysctl(family, device, key, value string) error {
	if err := os.WriteFile(sysctl(family, device, key), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s of %s: %w", key, device, err)
	}
	return nil
}
