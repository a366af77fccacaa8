package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	groupSupervisor = "What a machine costs the node, of which the hypervisor does nothing"

	supervisorCPUAim    = 5.0  // ms, of a start and a stop
	supervisorMemoryAim = 1.5  // MB of a machine
	supervisorStartsAim = 50.0 // a second and processor
)

// measureSupervisor starts and stops machines whose hypervisor does nothing: one
// alone, and many at the same time.
func (b *bench) measureSupervisor(ctx context.Context) (err error) {
	stub, err := filepath.Abs(b.stub)
	if err != nil {
		return fmt.Errorf("find %s: %w", b.stub, err)
	}
	if _, err := os.Stat(stub); err != nil {
		return fmt.Errorf("%w; 'go build -o build/stubvm ./test/stubvm' makes it", err)
	}
	dir, err := os.MkdirTemp("", "aleph-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	image, err := named(b.image, dir)
	if err != nil {
		return err
	}
	b.note(groupSupervisor, "A process of its own has the executor, the QEMU driver, the database and the network of machines. Machines are real processes\n"+
		"of `test/stubvm`, which answers as QEMU and a guest do. Rows of jobs appear all at once, and end all at once; what is left of machines is\n"+
		"removed at once, and that counts. Processor time is that of the process alone; starts a second are of everything on this machine, the stubs too.")
	modes := []vmnet.Mode{vmnet.User}
	if mayUnshare(ctx) {
		modes = append(modes, vmnet.Tap)
	} else {
		b.say("supervisor: no network namespace can be made, so machines have QEMU's network only")
	}
	for _, mode := range modes {
		if err := b.supervise(ctx, mode, stub, image, dir); err != nil {
			return err
		}
	}
	return nil
}

// modeText says of a network what it is.
func modeText(m vmnet.Mode) string {
	if m == vmnet.Tap {
		return "TAP devices and nftables"
	}
	return "QEMU's own network"
}

// supervise measures with one kind of network.
func (b *bench) supervise(ctx context.Context, mode vmnet.Mode, stub, image, dir string) error {
	one := supervising{stub: stub, image: image, mode: string(mode), machines: 1, rounds: b.times(20, 3), idle: 0}
	alone, err := b.supervised(ctx, one, dir)
	if err != nil {
		return err
	}
	text := modeText(mode)
	took := b.report.Add(groupSupervisor, text+": one machine, from its job's row to the word of its guest", "ms", column(alone, func(r superviseRound) float64 { return r.StartMS })...)
	took.CPUUS = 1000 * measure.Quantile(column(alone, func(r superviseRound) float64 { return r.StartCPUMS }), 0.5)
	perMachine := measure.Series{Name: text}
	sizes := []int{10, 50, 200}
	if b.quick {
		sizes = []int{10, 50}
	}
	for i, n := range sizes {
		many := supervising{stub: stub, image: image, mode: string(mode), machines: n, rounds: 1, idle: 3 * time.Second}
		if i == len(sizes)-1 && mode == vmnet.User {
			many.profile = b.profile
		}
		var all []superviseRound
		for range b.times(5, 1) {
			rounds, err := b.supervised(ctx, many, dir) // Each in a new process, or memory of the last would serve.
			if err != nil {
				return err
			}
			all = append(all, rounds...)
		}
		each := func(of func(superviseRound) float64) []float64 {
			return column(all, func(r superviseRound) float64 { return of(r) / float64(r.Machines) })
		}
		name := func(what string) string { return fmt.Sprintf("%s, %d machines: %s", text, n, what) }
		cpu := b.report.Add(groupSupervisor, name("processor time of a start and a stop"), "ms", each(func(r superviseRound) float64 { return r.StartCPUMS + r.StopCPUMS })...)
		cpu.Aim = supervisorCPUAim
		b.report.Add(groupSupervisor, name("of it, the start"), "ms", each(func(r superviseRound) float64 { return r.StartCPUMS })...)
		perMachine.X, perMachine.Y = append(perMachine.X, float64(n)), append(perMachine.Y, cpu.Median)
		b.report.Add(groupSupervisor, name("resident memory of each"), "MB", each(func(r superviseRound) float64 { return max(0, r.With-r.Before) / 1e6 })...).Aim = supervisorMemoryAim
		b.report.Add(groupSupervisor, name("starts a second and processor"), "/s",
			column(all, func(r superviseRound) float64 {
				return 1000 * float64(r.Machines) / r.StartMS / float64(runtime.NumCPU())
			})...).Aim = supervisorStartsAim
		b.report.Add(groupSupervisor, name("processor time of each that runs, a second"), "us", each(func(r superviseRound) float64 { return 1000 * r.IdleCPUMS })...)
	}
	b.report.Plot(measure.Plot{
		Name: "supervisor-" + string(mode), Title: "Processor time of a start and a stop, in ms, by how many machines there are",
		Text:   "What the node spends on starting and stopping a machine, by how many it starts and stops with it.",
		Series: []measure.Series{perMachine}, Aim: supervisorCPUAim, AimText: "aim",
	})
	return nil
}

func column[T any](all []T, of func(T) float64) []float64 {
	out := make([]float64, len(all))
	for i, one := range all {
		out[i] = of(one)
	}
	return out
}

// supervised runs the process that is measured, and returns what it says.
func (b *bench) supervised(ctx context.Context, s supervising, root string) (_ []superviseRound, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if s.dir, err = os.MkdirTemp(root, "node-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	cmd := exec.CommandContext(ctx, self,
		"-supervise", s.dir, "-supervise-net", s.mode, "-supervise-machines", strconv.Itoa(s.machines), "-supervise-rounds", strconv.Itoa(s.rounds),
		"-supervise-idle", s.idle.String(), "-supervise-stub", s.stub, "-supervise-image", s.image, "-supervise-profile", s.profile)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.mode == string(vmnet.Tap) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET // Devices and rules are of nobody else.
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, b.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("supervise %d machines: %w", s.machines, err)
	}
	var rounds []superviseRound
	for lines := json.NewDecoder(&out); ; {
		var r superviseRound
		switch err := lines.Decode(&r); {
		case errors.Is(err, io.EOF):
			return rounds, nil
		case err != nil:
			return nil, fmt.Errorf("read rounds: %w", err)
		}
		rounds = append(rounds, r)
	}
}

// mayUnshare reports whether a process may have a network of its own.
func mayUnshare(ctx context.Context) bool {
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return false
	}
	return cmd.Run() == nil
}

// named links a file into a directory under its hash, as the node has it.
func named(path, dir string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find image: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w; 'make image' makes it", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read image: %w", err)
	}
	to := filepath.Join(dir, hex.EncodeToString(sum.Sum(nil)))
	if err := os.Symlink(path, to); err != nil {
		return "", fmt.Errorf("link image: %w", err)
	}
	return to, nil
}
