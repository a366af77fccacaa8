package vmmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

// stepMax bounds each step of the suite: a boot under TCG on a loaded machine
// takes some seconds.
const stepMax = 60 * time.Second

// Subject is a kind of driver under test.
type Subject struct {
	// Open returns a driver. A second one sees the machines of the first, as
	// after a restart of the daemon.
	Open func(t *testing.T) vmm.Driver
	// Image boots within some seconds and has an agent.
	Image vmm.Image
	// Crash ends the machine's process from outside.
	Crash func(t *testing.T, m vmm.Machine)
	// Greeting is a text that a machine prints on its console.
	Greeting string
}

// NewSpec returns the spec of a small machine with a new id, in a directory
// of the test.
func NewSpec(t testing.TB, img vmm.Image) vmm.Spec {
	t.Helper()
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString(raw)
	return vmm.Spec{
		ID: id, VCPUs: 1, MemoryMiB: 256, DiskMiB: 1024, Image: img, Dir: filepath.Join(t.TempDir(), id),
		Seed: cloudinit.Seed{InstanceID: id, Hostname: "vm-" + id[:12]},
		Net:  vmm.NetDevice{Kind: vmm.NetNone},
	}
}

// TestDriver holds a driver to what package vmm promises.
func TestDriver(t *testing.T, s Subject) {
	t.Run("a machine starts, is ready, tells about itself and stops", s.lives)
	t.Run("a machine that runs is not started again", s.startsOnce)
	t.Run("a later driver adopts a running machine", s.adopts)
	t.Run("a machine that crashes is noticed", s.crashes)
	t.Run("a machine keeps its disk over a restart", s.restarts)
	t.Run("a machine is killed", s.kills)
	t.Run("bad specs are refused and leave nothing", s.refuses)
	t.Run("a machine whose disks are being exchanged does not start", s.waits)
	t.Run("calls end with their context", s.obeys)
}

func (s Subject) driver(t *testing.T) vmm.Driver {
	t.Helper()
	d := s.Open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// start starts a machine that is killed when the test ends.
func (s Subject) start(t *testing.T, d vmm.Driver, spec vmm.Spec) vmm.Machine {
	t.Helper()
	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		// By a driver of its own: the test may have closed d, and a machine
		// listens to one daemon at a time.
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		last := s.Open(t)
		defer last.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stepMax)
		defer cancel()
		m, err := last.Adopt(ctx, spec.Dir)
		if errors.Is(err, errs.NotFound) {
			return
		}
		if err != nil {
			t.Errorf("Adopt to clean up: %v", err)
			return
		}
		if err := m.Kill(ctx); err != nil {
			t.Errorf("Kill to clean up: %v", err)
		}
	})
	return m
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stepMax)
	t.Cleanup(cancel)
	return ctx
}

func ready(t *testing.T, m vmm.Machine) {
	t.Helper()
	if err := m.Ready(bounded(t)); err != nil {
		t.Fatalf("Ready: %v", err)
	}
}

func waitDone(t *testing.T, m vmm.Machine) {
	t.Helper()
	select {
	case <-m.Done():
	case <-bounded(t).Done():
		t.Fatal("machine has not ended")
	}
}

func (s Subject) lives(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)
	ready(t, m)

	if m.ID() != spec.ID || m.PID() <= 0 {
		t.Errorf("machine is %s with process %d, want %s", m.ID(), m.PID(), spec.ID)
	}
	info, err := m.Info(bounded(t))
	if err != nil || info.Hostname != spec.Seed.Hostname || info.Timings["ready"] <= 0 {
		t.Errorf("Info = %+v, %v; want host %s and the time when it was ready", info, err, spec.Seed.Hostname)
	}
	stats, err := m.Stats(bounded(t))
	if err != nil || stats.RSSBytes <= 0 || stats.CPU <= 0 {
		t.Errorf("Stats = %+v, %v; want some memory and time", stats, err)
	}
	if exit := m.Exit(); exit != (vmm.Exit{}) {
		t.Errorf("Exit of a running machine = %+v, want none", exit)
	}
	if got := s.console(t, spec.Dir); !strings.Contains(got, s.Greeting) {
		t.Errorf("console has %q, want %q in it", got, s.Greeting)
	}

	if err := m.Stop(bounded(t), stepMax); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	waitDone(t, m)
	if exit := m.Exit(); !exit.Asked || !exit.Clean || exit.Reason == "" || exit.At.IsZero() {
		t.Errorf("Exit = %+v, want a clean one that was asked for", exit)
	}
	if _, err := m.Stats(bounded(t)); !errors.Is(err, errs.NotFound) {
		t.Errorf("Stats of an ended machine: %v, want not found", err)
	}
	if err := m.Stop(bounded(t), stepMax); err != nil {
		t.Errorf("Stop of an ended machine: %v, want nothing to do", err)
	}
	if err := vmm.Remove(spec.Dir); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := os.Stat(spec.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Remove: %v, want none", err)
	}
}

func (s Subject) console(t *testing.T, dir string) string {
	t.Helper()
	r, err := vmm.Console(bounded(t), dir, 0, false)
	if err != nil {
		t.Fatalf("Console: %v", err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read console: %v", err)
	}
	return string(bytes.ReplaceAll(raw, []byte("\r"), nil))
}

func (s Subject) startsOnce(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)

	if same, err := d.Adopt(bounded(t), spec.Dir); err != nil || same.PID() != m.PID() {
		t.Errorf("Adopt of a machine that the driver has: %v, want the same", err)
	}
	if _, err := d.Start(bounded(t), spec); !errors.Is(err, errs.Conflict) {
		t.Errorf("second Start: %v, want a conflict", err)
	}
	if err := vmm.Remove(spec.Dir); !errors.Is(err, errs.Conflict) {
		t.Errorf("Remove while it runs: %v, want a conflict", err)
	}
	ready(t, m)
}

func (s Subject) adopts(t *testing.T) {
	first, spec := s.driver(t), NewSpec(t, s.Image)
	if _, err := first.Adopt(bounded(t), spec.Dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("Adopt of nothing: %v, want not found", err)
	}
	m := s.start(t, first, spec)
	ready(t, m)
	if err := first.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}

	second := s.driver(t)
	again, err := second.Adopt(bounded(t), spec.Dir)
	if err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	if again.ID() != spec.ID || again.PID() != m.PID() || again.Accelerator() != m.Accelerator() {
		t.Errorf("adopted %s, process %d, %s; want %s, %d, %s",
			again.ID(), again.PID(), again.Accelerator(), spec.ID, m.PID(), m.Accelerator())
	}
	ready(t, again)
	if err := again.Stop(bounded(t), stepMax); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := again.Exit(); !exit.Clean {
		t.Errorf("Exit = %+v, want a clean one", exit)
	}
	if _, err := second.Adopt(bounded(t), spec.Dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("Adopt of an ended machine: %v, want not found", err)
	}
}

func (s Subject) crashes(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)

	s.Crash(t, m)

	waitDone(t, m)
	if exit := m.Exit(); exit.Asked || exit.Clean || exit.Reason == "" {
		t.Errorf("Exit = %+v, want one that nobody asked for, with a reason", exit)
	}
	if err := m.Ready(bounded(t)); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Ready of a crashed machine: %v, want unavailable", err)
	}
	if running, err := vmm.Running(spec.Dir); err != nil || running {
		t.Errorf("Running = %t, %v; want it ended", running, err)
	}
}

func (s Subject) restarts(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)
	ready(t, m)
	s.Crash(t, m)
	waitDone(t, m)

	again := s.start(t, d, spec)

	ready(t, again)
	if again.PID() == m.PID() {
		t.Errorf("both processes have the number %d", m.PID())
	}
}

func (s Subject) kills(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)

	if err := m.Kill(bounded(t)); err != nil {
		t.Fatalf("Kill: %v", err)
	}

	waitDone(t, m)
	if exit := m.Exit(); !exit.Asked || exit.Clean {
		t.Errorf("Exit = %+v, want one that was asked for and not clean", exit)
	}
}

func (s Subject) refuses(t *testing.T) {
	d := s.driver(t)
	for name, change := range map[string]func(*vmm.Spec){
		"an id that is no hash":     func(s *vmm.Spec) { s.ID = "../../etc" },
		"no vCPUs":                  func(s *vmm.Spec) { s.VCPUs = 0 },
		"too little memory":         func(s *vmm.Spec) { s.MemoryMiB = 1 },
		"a disk below its image's":  func(s *vmm.Spec) { s.DiskMiB = 1; s.Image.VirtualBytes = 2 << 20 },
		"an image without a disk":   func(s *vmm.Spec) { s.Image.Rootfs = "" },
		"a format that is not ours": func(s *vmm.Spec) { s.Image.Format = "vmdk" },
		"an unknown device":         func(s *vmm.Spec) { s.Net.Kind = "token ring" },
		"options in a device name":  func(s *vmm.Spec) { s.Net = vmm.NetDevice{Kind: vmm.NetTap, Tap: "tap0,script=/bin/x"} },
		"a hardware address that is none": func(s *vmm.Spec) {
			s.Net = vmm.NetDevice{Kind: vmm.NetUser, MAC: "x,y"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := NewSpec(t, s.Image)
			change(&spec)

			_, err := d.Start(bounded(t), spec)

			if !errors.Is(err, errs.Invalid) {
				t.Errorf("Start: %v, want invalid", err)
			}
			if _, err := os.Stat(spec.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("directory after a refused start: %v, want none", err)
			}
		})
	}
}

func (s Subject) waits(t *testing.T) {
	d := s.driver(t)
	for _, file := range []string{vmm.MoveFile, vmm.PlanFile} {
		spec := NewSpec(t, s.Image)
		if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(spec.Dir, file), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}

		_, err := d.Start(bounded(t), spec)

		if !errors.Is(err, errs.Conflict) {
			t.Errorf("Start beside %s: %v, want a conflict", file, err)
		}
		if running, err := vmm.Running(spec.Dir); err != nil || running {
			t.Errorf("beside %s a machine runs: %t, %v", file, running, err)
		}
	}
}

func (s Subject) obeys(t *testing.T) {
	d, spec := s.driver(t), NewSpec(t, s.Image)
	m := s.start(t, d, spec)
	ready(t, m)
	over, cancel := context.WithCancel(t.Context())
	cancel()

	if err := m.Stop(over, stepMax); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v, want it canceled", err)
	}
	if err := m.Kill(bounded(t)); err != nil {
		t.Errorf("Kill: %v", err)
	}
}
