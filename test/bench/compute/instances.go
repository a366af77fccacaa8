package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	groupInstances = "An instance, from its message to the banner of its SSH"
	bareQEMU       = "bare QEMU"

	portEvery    = 25 * time.Millisecond
	consoleEvery = 5 * time.Millisecond
	// guestReady is what the guest says on its console when its services are up. Tries
	// to reach SSH before would each take it a process, and some seconds by translation.
	guestReady = "ready after"
)

// created is one machine beside its twin. Times are milliseconds.
type created struct {
	message, notify, banner float64 // From the message: taken in, asked for, there.
	nodeCPU, qemuCPU        float64
	raw, rawCPU             float64
}

// measureInstances creates machines, and boots the same image by a bare QEMU in turns.
func (b *bench) measureInstances(ctx context.Context) (err error) {
	w, err := b.newWorld(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	image, err := w.storeFile(ctx, b.image)
	if err != nil {
		return err
	}
	n := b.times(15, 2)
	b.say("creating %d machines, and booting as many by a bare QEMU", n)
	var all []created
	for i := -1; i < n; i++ { // The first brings the image to the node, and is not counted.
		c, err := w.createInstance(ctx, image)
		if err != nil {
			return fmt.Errorf("machine %d: %w", i+1, err)
		}
		b.say("machine %d of %d: %.0f ms, bare QEMU %.0f ms", i+1, n, c.banner, c.raw)
		if i >= 0 {
			all = append(all, *c)
		}
	}
	b.addInstances(all)
	return nil
}

func (b *bench) addInstances(all []created) {
	raw := column(all, func(c created) float64 { return c.raw })
	b.note(groupInstances, "The message goes to the coordinator, the notification to the compute node, as the clients of the network send them. The bare QEMU has the\n"+
		"same command line, kernel, image and seed, and a new disk; machines and bare QEMUs boot in turns. SSH is tried when\n"+
		"the guest says on its console that its services are up. Processor time of QEMU is until the banner.")
	whole := b.report.Add(groupInstances, "message to banner", "ms", column(all, func(c created) float64 { return c.banner })...)
	whole.Against(bareQEMU, measure.Quantile(raw, 0.5))
	whole.CPUUS = 1000 * measure.Quantile(column(all, func(c created) float64 { return c.nodeCPU }), 0.5)
	b.report.Add(groupInstances, "of it, the coordinator takes the message", "ms", column(all, func(c created) float64 { return c.message })...)
	b.report.Add(groupInstances, "of it, until the compute node has answered the notification", "ms", column(all, func(c created) float64 { return c.notify })...)
	b.report.Add(groupInstances, "bare QEMU: process to banner", "ms", raw...).CPUUS = 1000 * measure.Quantile(column(all, func(c created) float64 { return c.rawCPU }), 0.5)
	b.report.Add(groupInstances, "more than the bare QEMU, pair by pair", "ms", column(all, func(c created) float64 { return c.banner - c.raw })...)
	b.report.Add(groupInstances, "processor time of the compute node's process", "ms", column(all, func(c created) float64 { return c.nodeCPU })...)
	b.report.Add(groupInstances, "processor time of the machine's QEMU", "ms", column(all, func(c created) float64 { return c.qemuCPU })...).
		Against(bareQEMU, measure.Quantile(column(all, func(c created) float64 { return c.rawCPU }), 0.5))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// createInstance creates a machine, waits for it, boots its twin and erases it.
func (w *world) createInstance(ctx context.Context, image message.ItemHash) (*created, error) {
	before, err := w.compute.cpu()
	if err != nil {
		return nil, err
	}
	c, began := &created{}, time.Now()
	vm, err := w.instance(ctx, image)
	if err != nil {
		return nil, err
	}
	c.message = milliseconds(time.Since(began))
	if err := w.notify(ctx, vm); err != nil {
		return nil, err
	}
	c.notify = milliseconds(time.Since(began))
	port := 0
	err = until(ctx, "the port of SSH", portEvery, func() (bool, error) {
		port, err = w.sshPort(ctx, vm)
		return port != 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := awaitBanner(ctx, filepath.Join(w.compute.dir, "vms", string(vm)), port); err != nil {
		return nil, err
	}
	c.banner = milliseconds(time.Since(began))
	after, err := w.compute.cpu()
	if err != nil {
		return nil, err
	}
	c.nodeCPU = milliseconds(after - before)
	command, err := commandIn(filepath.Join(w.compute.dir, "vms", string(vm)))
	if err != nil {
		return nil, err
	}
	used, err := measure.CPUOf(command.pid)
	if err != nil {
		return nil, err
	}
	c.qemuCPU = milliseconds(used)
	// Both at the same time would be in each other's way. The disk goes with it, the
	// seed is kept.
	dir := filepath.Join(w.dir, "raw")
	if err := command.copyMachine(ctx, dir); err != nil {
		return nil, err
	}
	if err := w.erase(ctx, vm); err != nil {
		return nil, err
	}
	c.raw, c.rawCPU, err = command.boot(ctx, dir)
	return c, err
}

// awaitBanner returns when the SSH server of a guest greets at a port of the host. dir
// is where its QEMU works.
func awaitBanner(ctx context.Context, dir string, port int) error {
	err := until(ctx, "the services of a guest", consoleEvery, func() (bool, error) {
		raw, err := os.ReadFile(filepath.Join(dir, "console.log"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return bytes.Contains(raw, []byte(guestReady)), err
	})
	if err != nil {
		return err
	}
	return until(ctx, "SSH", portEvery, func() (bool, error) { return greets(ctx, port), nil })
}

// greets reports whether an SSH server greets at a port.
func greets(ctx context.Context, port int) bool {
	ctx, cancel := context.WithTimeout(ctx, awaitMax)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "SSH-2.0-")
}

// command is the command line of a machine's QEMU and where it works.
type command struct {
	pid  int
	args []string
	dir  string
}

// commandIn returns how the node runs the machine in a directory.
func commandIn(dir string) (*command, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "process"))
	if err != nil {
		return nil, fmt.Errorf("find the machine's process: %w", err)
	}
	text, _, _ := strings.Cut(string(stat), " ")
	pid, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("find the machine's process: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join("/proc", text, "cmdline"))
	if err != nil {
		return nil, fmt.Errorf("read the machine's command line: %w", err)
	}
	return &command{pid: pid, args: strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00"), dir: dir}, nil
}

// copyMachine gives a directory what the machine had when it started: a new disk over
// the same image, and its seed.
func (c *command) copyMachine(ctx context.Context, dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	info, err := exec.CommandContext(ctx, "qemu-img", "info", "-U", filepath.Join(c.dir, "disk.qcow2")).Output()
	if err != nil {
		return fmt.Errorf("look at the machine's disk: %w", err)
	}
	_, rest, found := strings.Cut(string(info), "backing file: ")
	base, _, _ := strings.Cut(rest, "\n")
	if !found {
		return fmt.Errorf("the machine's disk has no backing file: %s", info)
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", filepath.Join(dir, "disk.qcow2"), fmt.Sprintf("%dM", diskMiB)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make disk: %w: %s", err, out)
	}
	seed, err := os.ReadFile(filepath.Join(c.dir, "seed.iso"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "seed.iso"), seed, 0o600)
	}
	if err != nil {
		return fmt.Errorf("copy seed: %w", err)
	}
	return nil
}

// boot boots the machine by a bare QEMU, and returns the milliseconds from its process
// to the banner, and those of its processor time.
func (c *command) boot(ctx context.Context, dir string) (ms, cpuMS float64, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return 0, 0, err
	}
	args := make([]string, 0, len(c.args))
	for _, a := range c.args[1:] {
		if strings.HasPrefix(a, "user,") {
			a = fmt.Sprintf("user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", port)
		}
		args = append(args, a)
	}
	cmd := exec.CommandContext(ctx, c.args[0], args...)
	cmd.Dir = dir
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start QEMU: %w", err)
	}
	err = awaitBanner(ctx, dir, port)
	ms = milliseconds(time.Since(began))
	used, cpuErr := measure.CPUOf(cmd.Process.Pid)
	err = errors.Join(err, cpuErr, cmd.Process.Kill())
	_ = cmd.Wait() // It was killed.
	if err != nil {
		return 0, 0, fmt.Errorf("bare QEMU: %w: %s", err, said.String())
	}
	return ms, milliseconds(used), nil
}
