package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestIPv6IsSetUp gives a device of a namespace its address and route as in a
// machine.
func TestIPv6IsSetUp(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is in the namespace from now on and ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); errors.Is(err, unix.EPERM) {
			t.Log("needs root: nothing was tried")
			return
		} else if err != nil {
			t.Error(err)
			return
		}
		setUpCable(t)
	}()
	<-done
}

func setUpCable(t *testing.T) {
	t.Helper()
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "host0"}
	if err := errors.Join(netlink.LinkAdd(cable), linkUp("host0")); err != nil {
		t.Error(err)
		return
	}
	address, gateway := netip.MustParsePrefix("2001:db8::dec1/124"), netip.MustParseAddr("2001:db8::dec0")
	if err := linkUp("eth0"); err != nil {
		t.Error(err)
	}

	if err := setUpIPv6("eth0", address, gateway); err != nil {
		t.Error(err)
	}

	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Error(err)
		return
	}
	addrs, err := device.Addrs()
	found := false
	for _, a := range addrs {
		found = found || a.String() == address.String()
	}
	if !found {
		t.Errorf("eth0 has %v, %v; want %s", addrs, err, address)
	}
	// Of the thread, not of the process, which is in another namespace.
	routes, err := os.ReadFile("/proc/thread-self/net/ipv6_route")
	const want = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db800000000000000000000dec0"
	if err != nil || !strings.Contains(string(routes), want) {
		t.Errorf("routes are %s (%v), want a default route by %s", routes, err, gateway)
	}
}
