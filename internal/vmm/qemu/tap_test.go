package qemu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// TestMachineOnATapDevice runs driver and network together, as a privileged
// node does, in a network namespace of its own.
func TestMachineOnATapDevice(t *testing.T) {
	t.Parallel()
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))
	cmd := exec.CommandContext(bounded(t), os.Args[0], writeRole(t, spec))
	cmd.Env = append(os.Environ(), roleVar+"="+tapHost)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// runTapHost boots a machine on a TAP device and fetches its page through a
// forwarded port, and over IPv6.
func runTapHost(file string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	r, err := readRole(file)
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	cfg := vmnet.DefaultConfig()
	cfg.Mode, cfg.Name, cfg.IPv6Pool = vmnet.Tap, "qemu_test", "2001:db8:1:2::/64"
	log := slog.New(slog.DiscardHandler)
	network, err := vmnet.Open(cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Purge()) }()
	lease := vmnet.Lease{ID: r.Spec.ID, Forwards: []vmnet.Forward{{Protocol: vmnet.TCP, HostPort: 24080, GuestPort: 8080}}}
	if err := network.Apply(ctx, []vmnet.Lease{lease}); err != nil {
		return err
	}
	dev, err := network.Device(lease)
	if err != nil {
		return err
	}
	r.Spec.Net = vmm.NetDevice{Kind: vmm.NetTap, Tap: dev.TapName, MAC: dev.MAC}
	r.Spec.Seed.Network = &cloudinit.Network{
		MAC: dev.MAC, Address: dev.Address, Gateway: dev.Gateway, Address6: dev.Address6, Gateway6: dev.Gateway6, Nameservers: dev.Nameservers,
	}
	d := qemu.New(qemu.Config{CacheDir: r.Cache}, log)
	defer d.Close()
	m, err := d.Start(ctx, r.Spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Kill(ctx)) }()
	if err := m.Ready(ctx); err != nil {
		return err
	}
	if err := fetchToken(ctx, "http://127.0.0.1:24080/token"); err != nil {
		return err
	}
	return greetedBySSH(ctx, netip.AddrPortFrom(dev.Address6.Addr(), 22).String())
}

// greetedBySSH connects to a machine's SSH server.
func greetedBySSH(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	greeting := make([]byte, len("SSH-2.0-"))
	if _, err := io.ReadFull(c, greeting); err != nil {
		return err
	}
	if string(greeting) != "SSH-2.0-" {
		return fmt.Errorf("SSH server says %q", greeting)
	}
	return nil
}

// fetchToken fetches a page that only the machine has.
func fetchToken(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	const tokenMin = 64
	if err != nil || len(token) < tokenMin {
		return fmt.Errorf("page has %q: %w", token, err)
	}
	return nil
}
