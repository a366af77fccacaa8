package qemu_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

const waitMax = 60 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	t.Cleanup(cancel)
	return ctx
}

func TestMissingQEMUIsSaidInOneSentence(t *testing.T) {
	t.Parallel()
	d := qemu.New(qemu.Config{Binary: "qemu-that-is-not-there"}, slog.New(slog.DiscardHandler))
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))

	_, err := d.Start(t.Context(), spec)

	if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "apt-get install qemu-system-x86") {
		t.Errorf("Start: %v, want unavailable and what to install", err)
	}
	if _, err := os.Stat(spec.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v, want none", err)
	}
}

func TestBrokenQEMUIsQuoted(t *testing.T) {
	t.Parallel()
	// A QEMU that answers for its version and then refuses.
	script := filepath.Join(t.TempDir(), "qemu")
	text := "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 0.1'; exit; }\necho 'no such machine' >&2\nexit 1\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	d := qemu.New(qemu.Config{Binary: script, CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))

	if _, err := d.Probe(bounded(t), spec.Image); !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("Probe: %v, want unavailable and QEMU's own words", err)
	}
	spec.Image.Agent = false // So that nothing is probed.
	if _, err := d.Start(bounded(t), spec); !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("Start: %v, want unavailable and QEMU's own words", err)
	}
	if _, err := os.Stat(spec.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v, want none", err)
	}
}

func TestFullDiskLeavesNothing(t *testing.T) {
	t.Parallel()
	d := open(t)
	img := vmmtest.GuestImage(t)
	dir := t.TempDir()
	// Room for the directory, not for its files.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A process that another test is just starting may still hold what was open here.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	spec := vmmtest.NewSpec(t, img)
	spec.Dir = filepath.Join(dir, spec.ID)

	_, err := d.Start(bounded(t), spec)

	if !errors.Is(err, errs.Exhausted) {
		t.Errorf("Start: %v, want exhausted", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("after a failed start there is %v (%v), want nothing", left, err)
	}
}

func TestDiskOfAnotherImageIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	img := vmmtest.GuestImage(t)
	spec := vmmtest.NewSpec(t, img)
	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "rootfs")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Image.Rootfs = other

	if _, err := d.Start(bounded(t), spec); !errors.Is(err, errs.Invalid) {
		t.Errorf("Start: %v, want invalid", err)
	}
}

// runDaemon is the process that starts a machine and is killed: it reads the
// spec from a file, says the machine's process number and waits.
func runDaemon(file string) error {
	spec, err := readRole(file)
	if err != nil {
		return err
	}
	d := qemu.New(qemu.Config{CacheDir: spec.Cache}, slog.New(slog.DiscardHandler))
	m, err := d.Start(context.Background(), spec.Spec)
	if err != nil {
		return err
	}
	fmt.Println(m.PID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// role is what another process of a test is told.
type role struct {
	Spec  vmm.Spec
	Cache string
}

func writeRole(t *testing.T, spec vmm.Spec) string {
	t.Helper()
	raw, err := json.Marshal(role{spec, probeCache(t)})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "role.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func readRole(file string) (r role, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(raw, &r)
}

func TestMachineOutlivesItsDaemon(t *testing.T) {
	t.Parallel()
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))
	file := writeRole(t, spec)
	cmd := exec.CommandContext(bounded(t), os.Args[0], file)
	cmd.Env = append(os.Environ(), roleVar+"="+daemon)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the daemon said nothing: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.

	m, err := open(t).Adopt(bounded(t), spec.Dir)
	if err != nil {
		t.Fatalf("Adopt: %v", err)
	}

	if got := fmt.Sprintln(m.PID()); got != line {
		t.Errorf("adopted process %s, want %s", got, line)
	}
	if err := m.Ready(bounded(t)); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if err := m.Stop(bounded(t), waitMax); err != nil || !m.Exit().Clean {
		t.Errorf("Stop: %v, %+v; want a clean end", err, m.Exit())
	}
}

// processes returns the hypervisors that work below dir.
func processes(t *testing.T, dir string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		cwd, err := os.Readlink(p)
		if err != nil || !strings.HasPrefix(cwd, dir) {
			continue
		}
		pids = append(pids, p)
	}
	return pids
}

// TestRandomStepsLeakNothing starts, stops, kills, crashes, adopts and removes
// in any order, over restarts of the driver, and compares what there is with
// what there should be.
func TestRandomStepsLeakNothing(t *testing.T) {
	t.Parallel()
	const steps, count = 60, 3
	img, newOne, base := vmmtest.GuestImage(t), opener(t), t.TempDir()
	d := newOne(t)
	defer func() { d.Close() }()
	specs := make([]vmm.Spec, count)
	machines := make([]vmm.Machine, count)
	for i := range specs {
		specs[i] = vmmtest.NewSpec(t, img)
		specs[i].Dir = filepath.Join(base, fmt.Sprint(i))
	}
	rng := rand.New(rand.NewPCG(7, 7))
	check := func(step int, what string, err error) {
		if err != nil {
			t.Fatalf("step %d, %s: %v", step, what, err)
		}
	}
	for step := range steps {
		i := rng.IntN(count)
		m := machines[i]
		switch action := rng.IntN(6); {
		case action == 5:
			check(step, "close", d.Close())
			d = newOne(t)
			for j, spec := range specs {
				m, err := d.Adopt(bounded(t), spec.Dir)
				if machines[j] == nil && errors.Is(err, errs.NotFound) {
					continue
				}
				check(step, "adopt", err)
				machines[j] = m
			}
		case m == nil:
			m, err := d.Start(bounded(t), specs[i])
			check(step, "start", err)
			machines[i] = m
		case action == 0:
			check(step, "stop", m.Stop(bounded(t), 50*time.Millisecond))
			machines[i] = nil
		case action == 1:
			check(step, "kill", m.Kill(bounded(t)))
			check(step, "remove", vmm.Remove(specs[i].Dir))
			machines[i] = nil
		case action == 2:
			check(step, "crash", syscall.Kill(m.PID(), syscall.SIGKILL))
			<-m.Done()
			machines[i] = nil
		default:
			if _, err := d.Start(bounded(t), specs[i]); !errors.Is(err, errs.Conflict) {
				t.Fatalf("step %d: a second Start: %v, want a conflict", step, err)
			}
		}
		running := 0
		for _, m := range machines {
			if m != nil {
				running++
			}
		}
		if got := processes(t, base); len(got) != running {
			t.Fatalf("step %d: processes %v, want %d", step, got, running)
		}
	}
	for i, m := range machines {
		if m != nil {
			check(steps, "kill", m.Kill(bounded(t)))
		}
		check(steps, "remove", vmm.Remove(specs[i].Dir))
	}
	if left, err := os.ReadDir(base); err != nil || len(left) > 0 || len(processes(t, base)) > 0 {
		t.Errorf("left: %v (%v), processes %v; want nothing", left, err, processes(t, base))
	}
}

// TestImageWithoutAgent boots a disk by firmware: a boot sector that writes to
// the serial port and halts.
func TestImageWithoutAgent(t *testing.T) {
	t.Parallel()
	sector := make([]byte, 1<<20)
	// mov dx,0x3f8; mov al,'A'; out dx,al; cli; hlt; jmp $-1
	copy(sector, []byte{0xba, 0xf8, 0x03, 0xb0, 'A', 0xee, 0xfa, 0xf4, 0xeb, 0xfd})
	sector[510], sector[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := vmm.OpenImage(t.Context(), path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := qemu.New(qemu.Config{CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { d.Close() })
	spec := vmmtest.NewSpec(t, img)

	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})

	if err := m.Ready(bounded(t)); err != nil {
		t.Errorf("Ready: %v, want it ready as its process is up", err)
	}
	if _, err := m.Info(bounded(t)); !errors.Is(err, errs.NotFound) {
		t.Errorf("Info: %v, want not found", err)
	}
	r, err := vmm.Console(bounded(t), spec.Dir, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all bytes.Buffer
	for b := make([]byte, 64); !bytes.HasSuffix(all.Bytes(), []byte("A")); {
		n, err := r.Read(b)
		if err != nil {
			t.Fatalf("console ended (%v) with %q, want an A", err, all.String())
		}
		all.Write(b[:n])
	}
	if err := m.Stop(bounded(t), 100*time.Millisecond); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if exit := m.Exit(); exit.Clean || !exit.Asked || !strings.Contains(exit.Reason, "in time") {
		t.Errorf("Exit = %+v, want one after a guest that did not listen", exit)
	}
}
