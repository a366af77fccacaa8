package vmnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// guest stands for a machine: a network namespace whose only device is wired
// to the TAP device, as a hypervisor does it.
type guest struct {
	do chan func()
}

// newGuest makes a guest with the addresses of the device.
func newGuest(t *testing.T, d vmnet.Device) *guest {
	t.Helper()
	tap := openTap(t, d.TapName)
	g := &guest{do: make(chan func())}
	wire := make(chan *os.File, 1)
	failed := make(chan error, 1)
	go func() {
		// The thread belongs to the other namespace from now on, and ends with
		// this goroutine.
		runtime.LockOSThread()
		f, err := enterGuest(d)
		wire <- f
		failed <- err
		for fn := range g.do {
			fn()
		}
	}()
	inner := <-wire
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	go pump(inner, tap)
	go pump(tap, inner)
	t.Cleanup(func() {
		close(g.do)
		tap.Close()
		inner.Close()
	})
	return g
}

// enterGuest makes a namespace with one device and moves the calling thread
// there. It returns the other end of the device.
func enterGuest(d vmnet.Device) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	f, err := attachTap("guest0")
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return f, err
	}
	defer h.Close()
	link, err := h.LinkByName("guest0")
	if err != nil {
		return f, err
	}
	mac, err := net.ParseMAC(d.MAC)
	if err != nil {
		return f, err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: d.Address.Addr().AsSlice(), Mask: net.CIDRMask(d.Address.Bits(), 32)}}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: d.Gateway.AsSlice()}
	lo, err := h.LinkByName("lo")
	return f, errors.Join(err,
		h.LinkSetUp(lo), h.LinkSetHardwareAddr(link, mac), h.AddrAdd(link, address), h.LinkSetUp(link), h.RouteAdd(route))
}

// attachTap opens a TAP device, and makes it when it is not there.
func attachTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, fmt.Errorf("attach to %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openTap(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := attachTap(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pump carries frames until a side is closed.
func pump(to io.Writer, from io.Reader) {
	frame := make([]byte, 64<<10)
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

// run runs fn in the guest.
func (g *guest) run(fn func()) {
	done := make(chan struct{})
	g.do <- func() { fn(); close(done) }
	<-done
}

// serve answers HTTP in the guest with a text.
func (g *guest) serve(t *testing.T, port int, text string) {
	t.Helper()
	var l net.Listener
	var err error
	g.run(func() { l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port)) })
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s", text, r.RemoteAddr)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

// dial connects from the guest, within a time that a drop takes up whole.
func (g *guest) dial(addr string) error {
	var err error
	g.run(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", addr, 400*time.Millisecond); err == nil {
			c.Close()
		}
	})
	return err
}

// dialFor is dial, again and again for a while.
func (g *guest) dialFor(addr string) (err error) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if err = g.dial(addr); err == nil {
			return nil
		}
	}
	return err
}

// get fetches from the host's side. It tries again for a while: the kernel
// takes up to a second to notice that a TAP device has somebody at its end.
func get(ctx context.Context, url string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if text, err = getOnce(ctx, url); err == nil {
			return text, nil
		}
	}
	return "", err
}

func getOnce(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}
