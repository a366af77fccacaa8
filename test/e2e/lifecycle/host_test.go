//go:build e2e

package lifecycle_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// apartVar is set in the process that has namespaces of its own. In one word: of two,
// nodes take the first for a section of their settings.
const apartVar = "ALEPH_APART"

// apart runs the test in namespaces of its own, network and mounts: nothing of what it
// breaks can be reached from outside, and nothing outside is counted. It reports
// whether it is in them, which is when the test is to go on.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartVar) != "" {
		furnish(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("machines get devices, and disks a size: that needs root")
	}
	args := []string{"-test.run=^" + t.Name() + "$"}
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.run") && !strings.HasPrefix(a, "-test.testlogfile") && !strings.HasPrefix(a, "-test.paniconexit0") {
			args = append(args, a)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", append(args, "-test.v")...)
	cmd.Env = append(os.Environ(), apartVar+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		t.Errorf("in namespaces of its own: %v", err)
	}
	return false
}

// furnish makes the namespaces a host: a loopback, and an uplink that leads nowhere.
func furnish(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	uplink := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "uplink0"}, Mode: netlink.TUNTAP_MODE_TAP}
	if err == nil {
		if err = netlink.LinkAdd(uplink); err == nil {
			err = netlink.LinkSetUp(uplink)
		}
	}
	if err == nil {
		err = netlink.AddrAdd(uplink, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(203, 0, 113, 2), Mask: net.CIDRMask(24, 32)}})
	}
	if err == nil {
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Index, Gw: net.IPv4(203, 0, 113, 1)})
	}
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		t.Fatalf("make a host: %v", err)
	}
}

// mountDisk makes a directory a disk of its own, in memory.
func mountDisk(t *testing.T, dir string, mib int) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // The namespace ends with the process.
}

// fill leaves no room on the disk of a directory, and free gives it back.
func fill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return err
		}
	}
	return nil
}

func free(dir string) error {
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// gate is a way to a server that can be shut.
type gate struct {
	addr string // Where it listens.
	shut atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
}

// newGate makes a gate before a server.
func newGate(t *testing.T, server string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &gate{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(c, server)
		}
	}()
	return g
}

func (g *gate) pass(c net.Conn, server string) {
	defer c.Close()
	if g.shut.Load() {
		return
	}
	to, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer to.Close()
	g.mu.Lock()
	g.conns[c] = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.conns, c)
		g.mu.Unlock()
	}()
	go func() {
		_, _ = io.Copy(to, c)
		to.Close()
	}()
	_, _ = io.Copy(c, to)
}

// set shuts the gate, whoever is in it, or opens it.
func (g *gate) set(shut bool) {
	g.shut.Store(shut)
	if !shut {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close()
	}
}

// freeAddr is an address to listen on that is free now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).String()
}

// plantDevice leaves a device that a network marked, and a rule that names it.
func plantDevice(t *testing.T, network, id string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Alias, "aleph:"+network+":") {
			name = l.Attrs().Name[:7] + "01234567"
		}
	}
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatalf("plant device %q: %v", name, err)
	}
	if err := netlink.LinkSetAlias(tap, "aleph:"+network+":"+id); err != nil {
		t.Fatal(err)
	}
	rule := []string{"add", "element", "inet", "aleph_" + network, "guests", "{ 172.16.15.254 }"}
	if out, err := exec.CommandContext(t.Context(), "nft", rule...).CombinedOutput(); err != nil {
		t.Fatalf("plant a rule: %v: %s", err, out)
	}
}
