// Package vmmtest helps to test drivers of virtual machines and their users:
// a driver in memory with switches for faults, and the suite that every
// driver passes.
package vmmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// firstPID is the process number of a Host's first machine, far above those
// of real processes so that a mistaken kill hits nothing.
const firstPID = 1 << 30

// Faults are what goes wrong in a Host. The zero Faults is a host where all
// goes well.
type Faults struct {
	Probe      error // Probe returns it.
	Start      error // Start returns it and starts nothing.
	Adopt      error // Adopt returns it.
	NeverReady bool  // Machines started from now on do not become ready.
	IgnoreStop bool  // Guests ignore Stop until its grace is over.
	Unkillable bool  // Stop and Kill do not end a machine: they wait for ctx.
}

// Host is a computer with machines that live in memory. They outlive the
// drivers that Open returns, as real ones outlive the daemon.
type Host struct {
	mu       sync.Mutex
	faults   Faults              // guarded by mu
	machines map[string]*machine // by directory; guarded by mu
	starts   map[string]int      // how often each id was started; guarded by mu
	pids     int                 // guarded by mu
}

// NewHost returns a host without machines or faults.
func NewHost() *Host {
	return &Host{machines: map[string]*machine{}, starts: map[string]int{}, pids: firstPID}
}

// Open returns a driver of the host's machines.
func (h *Host) Open() vmm.Driver { return &driver{h} }

// Set replaces the faults.
func (h *Host) Set(f Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// Starts returns how often a machine with the id was started.
func (h *Host) Starts(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.starts[id]
}

// Running returns the ids of the machines that run.
func (h *Host) Running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for _, m := range h.machines {
		if !m.ended() {
			ids = append(ids, m.spec.ID)
		}
	}
	return ids
}

// Spec returns what the running machine with the id was started with.
func (h *Host) Spec(id string) (vmm.Spec, bool) {
	if m := h.find(id); m != nil {
		return m.spec, true
	}
	return vmm.Spec{}, false
}

// Die ends the machine with the id, as a crash of its process would.
func (h *Host) Die(id, reason string) {
	if m := h.find(id); m != nil {
		m.finish(vmm.Exit{Reason: reason})
	}
}

// MakeReady makes the machine with the id ready.
func (h *Host) MakeReady(id string) {
	if m := h.find(id); m != nil {
		m.makeReady()
	}
}

// Print writes text to the console of the machine with the id.
func (h *Host) Print(id, text string) error {
	m := h.find(id)
	if m == nil {
		return errs.New(errs.NotFound, "no machine %s runs", id)
	}
	return m.print(text)
}

func (h *Host) find(id string) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.machines {
		if m.spec.ID == id && !m.ended() {
			return m
		}
	}
	return nil
}

func (h *Host) current() Faults {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults
}

type driver struct{ h *Host }

func (d *driver) Name() string { return "memory" }

func (d *driver) Close() error { return nil }

func (d *driver) Probe(context.Context, vmm.Image) (vmm.Capabilities, error) {
	if err := d.h.current().Probe; err != nil {
		return vmm.Capabilities{}, err
	}
	return vmm.Capabilities{Driver: "memory", Version: "1", Accelerator: vmm.TCG, Notes: []string{"Machines are pretended."}}, nil
}

func (d *driver) Start(_ context.Context, spec vmm.Spec) (vmm.Machine, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.faults.Start != nil {
		return nil, d.h.faults.Start
	}
	if m := d.h.machines[spec.Dir]; m != nil && !m.ended() {
		return nil, errs.New(errs.Conflict, "a process runs in %s", spec.Dir)
	}
	lock, err := vmm.LockDir(spec.Dir)
	if err != nil {
		return nil, err
	}
	if err := vmm.CheckStart(spec.Dir); err != nil {
		lock.Close()
		return nil, err
	}
	d.h.pids++
	m := &machine{
		h: d.h, spec: spec, pid: d.h.pids, lock: lock,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	if err := m.print("machine " + spec.ID + " starts\n"); err != nil {
		lock.Close()
		return nil, err
	}
	d.h.machines[spec.Dir] = m
	d.h.starts[spec.ID]++
	if !d.h.faults.NeverReady {
		m.makeReady()
	}
	return m, nil
}

func (d *driver) Adopt(_ context.Context, dir string) (vmm.Machine, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.faults.Adopt != nil {
		return nil, d.h.faults.Adopt
	}
	if m := d.h.machines[dir]; m != nil && !m.ended() {
		return m, nil
	}
	return nil, errs.New(errs.NotFound, "no machine runs in %s", dir)
}

type machine struct {
	h    *Host
	spec vmm.Spec
	pid  int
	lock io.Closer

	readyOnce, doneOnce sync.Once
	ready, done         chan struct{}

	mu   sync.Mutex
	exit vmm.Exit // guarded by mu
}

func (m *machine) ID() string                   { return m.spec.ID }
func (m *machine) PID() int                     { return m.pid }
func (m *machine) Accelerator() vmm.Accelerator { return vmm.TCG }
func (m *machine) Done() <-chan struct{}        { return m.done }
func (m *machine) makeReady()                   { m.readyOnce.Do(func() { close(m.ready) }) }

func (m *machine) Exit() vmm.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

func (m *machine) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *machine) Ready(ctx context.Context) error {
	select {
	case <-m.done:
		return errs.New(errs.Unavailable, "machine %s ended before it was ready: %s", m.spec.ID, m.Exit().Reason)
	default:
	}
	select {
	case <-m.ready:
		return nil
	case <-m.done:
		return errs.New(errs.Unavailable, "machine %s ended before it was ready: %s", m.spec.ID, m.Exit().Reason)
	case <-ctx.Done():
		return fmt.Errorf("wait for machine %s: %w", m.spec.ID, context.Cause(ctx))
	}
}

func (m *machine) Info(ctx context.Context) (vmm.Info, error) {
	if !m.spec.Image.Agent {
		return vmm.Info{}, errs.New(errs.NotFound, "image %q has no agent", m.spec.Image.Name)
	}
	if err := m.Ready(ctx); err != nil {
		return vmm.Info{}, err
	}
	return vmm.Info{
		Hostname: m.spec.Seed.Hostname, Kernel: "memory",
		Timings: map[string]int64{"init": 1, "root": 2, "network": 3, "services": 4, "ready": 5},
	}, nil
}

func (m *machine) Stats(context.Context) (vmm.Stats, error) {
	if m.ended() {
		return vmm.Stats{}, errs.New(errs.NotFound, "machine %s has ended", m.spec.ID)
	}
	return vmm.Stats{CPU: time.Second, RSSBytes: int64(m.spec.MemoryMiB) << 20}, nil
}

func (m *machine) Stop(ctx context.Context, grace time.Duration) error {
	f := m.h.current()
	if f.IgnoreStop && !f.Unkillable {
		select {
		case <-m.done:
		case <-time.After(grace):
			m.finish(vmm.Exit{Reason: "the guest did not shut down in time and was ended", Asked: true})
		case <-ctx.Done():
			return fmt.Errorf("stop machine %s: %w", m.spec.ID, context.Cause(ctx))
		}
		return nil
	}
	return m.end(ctx, f, vmm.Exit{Reason: "the guest powered off", Asked: true, Clean: true})
}

func (m *machine) Kill(ctx context.Context) error {
	return m.end(ctx, m.h.current(), vmm.Exit{Reason: "the machine was killed", Asked: true})
}

func (m *machine) end(ctx context.Context, f Faults, exit vmm.Exit) error {
	if f.Unkillable && !m.ended() {
		<-ctx.Done()
		return fmt.Errorf("end machine %s: %w", m.spec.ID, context.Cause(ctx))
	}
	m.finish(exit)
	return nil
}

// finish ends the machine; only the first call counts.
func (m *machine) finish(exit vmm.Exit) {
	m.doneOnce.Do(func() {
		exit.At = time.Now()
		m.mu.Lock()
		m.exit = exit
		m.mu.Unlock()
		m.lock.Close()
		close(m.done)
	})
}

func (m *machine) print(text string) error {
	f, err := os.OpenFile(filepath.Join(m.spec.Dir, vmm.ConsoleFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("write console: %w", err)
	}
	return nil
}
