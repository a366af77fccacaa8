// Package nsguest stands in for a virtual machine where only its network
// matters: a network namespace whose one device is wired to a TAP device of the
// host, as a hypervisor does it. It boots in a millisecond, needs no image, and
// can be as hostile as a guest. It needs CAP_SYS_ADMIN.
package nsguest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is the guest's one device.
const Device = "guest0"

// frameMax is more than a frame has that a kernel did not cut, in bytes.
const frameMax = 68 << 10

// Config is a guest.
type Config struct {
	Tap       string // The host's device.
	MAC       string
	Addresses []netip.Prefix
	Gateways  []netip.Addr // Of default routes.
}

// Guest is a guest that runs. Use Open, and Close it.
type Guest struct {
	do         chan func()
	tap, inner *os.File
	over       sync.WaitGroup
}

// Open starts a guest.
func Open(c Config) (*Guest, error) {
	tap, err := Attach(c.Tap)
	if err != nil {
		return nil, err
	}
	g := &Guest{do: make(chan func()), tap: tap}
	failed := make(chan error, 1)
	g.over.Go(func() {
		// The thread belongs to the other namespace from now on, and ends with
		// this goroutine.
		runtime.LockOSThread()
		failed <- g.enter(c)
		for fn := range g.do {
			fn()
		}
	})
	if err := <-failed; err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.over.Go(func() { pump(g.inner, g.tap) })
	g.over.Go(func() { pump(g.tap, g.inner) })
	return g, nil
}

// Do runs fn in the guest: sockets that it opens are the guest's. It must not
// leave its goroutine to do so.
func (g *Guest) Do(fn func()) {
	done := make(chan struct{})
	g.do <- func() {
		defer close(done)
		fn()
	}
	<-done
}

// Close ends the guest. The host's device stays.
func (g *Guest) Close() error {
	close(g.do)
	err := g.tap.Close()
	if g.inner != nil {
		err = errors.Join(err, g.inner.Close())
	}
	g.over.Wait()
	return err
}

// enter makes a namespace with one device and moves the calling thread there.
func (g *Guest) enter(c Config) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	if g.inner, err = Attach(Device); err != nil {
		return err
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(Device)
	if err != nil {
		return fmt.Errorf("find the guest's device: %w", err)
	}
	mac, err := net.ParseMAC(c.MAC)
	if err != nil {
		return fmt.Errorf("read the guest's hardware address: %w", err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	// The guest's addresses are nobody else's, and needed at once.
	dad := filepath.Join("/proc/sys/net/ipv6/conf", Device, "accept_dad")
	if err := os.WriteFile(dad, []byte("0"), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("turn off a question for duplicates: %w", err)
	}
	if err := errors.Join(h.LinkSetUp(lo), h.LinkSetHardwareAddr(link, mac)); err != nil {
		return fmt.Errorf("set up the guest's devices: %w", err)
	}
	for _, p := range c.Addresses {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give the guest %s: %w", p, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the guest's device up: %w", err)
	}
	for _, gateway := range c.Gateways {
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("give the guest a route by %s: %w", gateway, err)
		}
	}
	return nil
}

// Attach opens a TAP device, and makes it when it is not there, until the file
// is closed.
func Attach(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pump carries frames until a side is closed. A device that is down takes none,
// and they get lost.
func pump(to io.Writer, from io.Reader) {
	frame := make([]byte, frameMax)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		if _, err := to.Write(frame[:n]); err != nil && errors.Is(err, os.ErrClosed) {
			return
		}
	}
}
