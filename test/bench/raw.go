package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit/iso"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// command is the command line of a machine's QEMU and where it works.
type command struct {
	args []string
	dir  string
}

// machineCommand returns how the node runs the machine of a job.
func machineCommand(n *devnet.Network, j *aleph.Job) (*command, error) {
	node, err := n.NodeByID(j.NodeID)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(node.DataDir, "vms", string(j.Spec))
	stat, err := os.ReadFile(filepath.Join(dir, "process"))
	if err != nil {
		return nil, fmt.Errorf("find the machine's process: %w", err)
	}
	pid, _, _ := strings.Cut(string(stat), " ")
	raw, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	if err != nil {
		return nil, fmt.Errorf("read the machine's command line: %w", err)
	}
	return &command{args: strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00"), dir: dir}, nil
}

// bootRaw boots the machine's image by the same command line, without a node,
// and returns the milliseconds from the process to the first page. Only the
// network differs: QEMU's own, which needs no privileges.
func bootRaw(ctx context.Context, c *command, dir string) (float64, error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return 0, fmt.Errorf("make directory: %w", err)
	}
	disk := filepath.Join(c.dir, "disk.qcow2")
	backing, err := exec.CommandContext(ctx, "qemu-img", "info", "-U", disk).Output()
	if err != nil {
		return 0, fmt.Errorf("look at the machine's disk: %w", err)
	}
	_, rest, found := strings.Cut(string(backing), "backing file: ")
	base, _, _ := strings.Cut(rest, "\n")
	if !found {
		return 0, fmt.Errorf("the machine's disk has no backing file: %s", backing)
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", filepath.Join(dir, "disk.qcow2"), "2G").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("make disk: %w: %s", err, out)
	}
	// QEMU's own network: the guest is at .15, its gateway at .2.
	seed := cloudinit.Seed{
		InstanceID: "raw", Hostname: "raw", Network: &cloudinit.Network{
			Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2"),
		},
	}
	if err := iso.Write(filepath.Join(dir, "seed.iso"), seed); err != nil {
		return 0, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return 0, err
	}
	args := make([]string, 0, len(c.args))
	for _, a := range c.args[1:] {
		if strings.HasPrefix(a, "tap,") || strings.HasPrefix(a, "user,") {
			a = fmt.Sprintf("user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:%d-:%d", port, webPort)
		}
		args = append(args, a)
	}
	cmd := exec.CommandContext(ctx, c.args[0], args...)
	cmd.Dir = dir
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start QEMU: %w", err)
	}
	err = awaitPage(ctx, fmt.Sprintf("http://127.0.0.1:%d/", port))
	took := float64(time.Since(began).Microseconds()) / 1000
	err = errors.Join(err, cmd.Process.Kill())
	_ = cmd.Wait() // It was killed.
	if err != nil {
		return 0, fmt.Errorf("bare QEMU: %w: %s", err, said.String())
	}
	return took, nil
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%s is no TCP address", l.Addr())
	}
	return addr.Port, nil
}
