package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// device is the name of the TUN device of every host.
	device = "wire0"
	// threadNS is the network namespace of the thread that opens it.
	threadNS = "/proc/thread-self/ns/net"
)

// Host is a network namespace on a network.
type Host struct {
	Name string
	Addr netip.Addr // On the network; behind a router, that inside.

	ns  *os.File
	tun *os.File // nil behind a router.
}

// elsewhere runs fn on a thread that may change its network namespace, and brings the
// thread back.
func elsewhere(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open(threadNS)
	if err != nil {
		return err
	}
	defer home.Close()
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic("BUG: a thread is lost in another network: " + err.Error()) // All of the test would go on there.
		}
	}()
	return fn()
}

// Do runs fn inside the host's namespace: sockets that it opens and processes that it
// starts are there for good. fn must not hand that to another goroutine.
func (h *Host) Do(fn func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the namespace of %s: %w", h.Name, err)
		}
		return fn()
	})
}

// Start starts a process inside.
func (h *Host) Start(cmd *exec.Cmd) error { return h.Do(cmd.Start) }

// Dial connects to an address, which is no name, as a process inside would.
func (h *Host) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen listens as a process inside would.
func (h *Host) Listen(ctx context.Context, network, addr string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = new(net.ListenConfig).Listen(ctx, network, addr)
		return err
	})
	return l, err
}

// ListenPacket listens for datagrams as a process inside would.
func (h *Host) ListenPacket(ctx context.Context, network, addr string) (l net.PacketConn, err error) {
	err = h.Do(func() error {
		l, err = new(net.ListenConfig).ListenPacket(ctx, network, addr)
		return err
	})
	return l, err
}

// open makes the namespace with its TUN device, over which everything goes.
func (h *Host) open() error {
	return h.unshare(func() (err error) {
		if h.tun, err = openTUN(); err != nil {
			return err
		}
		return giveAddress(device, netip.PrefixFrom(h.Addr, h.Addr.BitLen()), netip.Addr{})
	})
}

// unshare makes the namespace and runs fn in it.
func (h *Host) unshare(fn func() error) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	return elsewhere(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network, which needs root: %w", err)
		}
		if h.ns, err = os.Open(threadNS); err != nil {
			return err
		}
		if err := bringUp("lo"); err != nil {
			return err
		}
		return fn()
	})
}

func (h *Host) close() error {
	var all error
	for _, f := range []*os.File{h.tun, h.ns} {
		if f != nil {
			all = errors.Join(all, f.Close())
		}
	}
	return all
}

// openTUN makes the device in the namespace of this thread. It is there for as long as the
// file is open.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make TUN device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), device), nil
}

// giveAddress gives a device of this thread's namespace an address and lets the rest of the
// world be behind it: directly, or, if it is valid, by way of a router.
func giveAddress(name string, addr netip.Prefix, router netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	own := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: own}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, addr, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 8*net.IPv4len)}
	route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: everywhere}
	if router.IsValid() {
		route.Gw = router.AsSlice()
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route by %s: %w", name, err)
	}
	return nil
}

func bringUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}
