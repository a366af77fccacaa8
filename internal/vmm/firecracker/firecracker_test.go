package firecracker_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker/firecrackertest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// nobody owns no file of the host.
const nobody = 65534

// vmmGrace is more than a played guest needs.
const vmmGrace = 30 * time.Second

// config is a driver's, with the programs that are played here. Machines run as
// another user where the test may make files another's, so that the played
// Firecracker notices what that user may not do.
func config(t *testing.T) firecracker.Config {
	t.Helper()
	cfg := firecracker.Config{CacheDir: t.TempDir(), User: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())}
	if os.Getuid() == 0 {
		cfg.User = fmt.Sprintf("%d:%d", nobody, nobody)
	}
	cfg.Binary, cfg.Jailer = firecrackertest.Install(t)
	return cfg
}

func crash(t *testing.T, m vmm.Machine) {
	t.Helper()
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestDriver(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	vmmtest.TestDriver(t, vmmtest.Subject{
		Open:     func(*testing.T) vmm.Driver { return firecracker.New(cfg, slog.New(slog.DiscardHandler)) },
		Image:    firecrackertest.Image(t),
		Crash:    crash,
		Greeting: firecrackertest.Greeting,
	})
}

// open returns a driver that is closed when the test ends, after machines that
// were started by it have ended.
func open(t *testing.T, cfg firecracker.Config) *firecracker.Driver {
	t.Helper()
	d := firecracker.New(cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { d.Close() })
	return d
}

// start starts a machine that is killed when the test ends.
func start(t *testing.T, d *firecracker.Driver, spec vmm.Spec) vmm.Machine {
	t.Helper()
	m, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	endAfter(t, m)
	return m
}

func endAfter(t *testing.T, m vmm.Machine) {
	t.Helper()
	t.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			_ = syscall.Kill(m.PID(), syscall.SIGKILL)
		}
	})
}

func function(t *testing.T) vmm.Spec {
	t.Helper()
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	spec.Function, spec.DiskMiB = true, 0
	return spec
}

// volume makes a file for a drive, of a name that many have.
func volume(t *testing.T, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "data.ext4")
	if err := os.WriteFile(name, make([]byte, 4096), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDrivesOfOneNameDoNotClash(t *testing.T) {
	t.Parallel()
	d := open(t, config(t))
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	spec.Volumes = []vmm.Volume{
		{Path: volume(t, 0o600), Format: vmm.Raw}, {Path: volume(t, 0o600), Format: vmm.Raw, ReadOnly: true}, {Path: volume(t, 0o644), Format: vmm.Raw, ReadOnly: true},
	}
	m := start(t, d, spec)
	for n, v := range spec.Volumes {
		outside, err := os.Stat(v.Path)
		if err != nil {
			t.Fatal(err)
		}
		inside, err := os.Stat(filepath.Join(firecrackertest.Root(spec), "drives", fmt.Sprint(n+2)))
		if err != nil || !os.SameFile(inside, outside) {
			t.Errorf("drive %d is not the file of volume %d: %v", n+2, n, err)
		}
		if v.ReadOnly && inside.Mode()&0o022 != 0 {
			t.Errorf("volume %d is read only and has the mode %v", n, inside.Mode())
		}
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(spec.Dir, "jail")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("jail after the end: %v, want none", err)
	}
	for n, v := range spec.Volumes {
		if _, err := os.Stat(v.Path); err != nil {
			t.Errorf("volume %d went with the jail: %v", n, err)
		}
	}
}

func TestCallsComeInTheirOrder(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.DriveMiBPerSecond = 100
	d := open(t, cfg)
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	start(t, d, spec)
	raw, err := os.ReadFile(filepath.Join(firecrackertest.Root(spec), firecrackertest.CallsFile))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(raw)) {
		words := strings.SplitN(line, " ", 4)
		got = append(got, words[0]+" "+words[1]+" "+words[2])
		if words[1] == "/drives/root" && !strings.Contains(words[3], `"bandwidth":{"size":104857600,"refill_time":1000}`) {
			t.Errorf("the disk has the limits %s", words[3])
		}
	}
	want := []string{
		"PUT /machine-config 204", "PUT /boot-source 204", "PUT /drives/root 204", "PUT /drives/seed 204", "PUT /vsock 204",
		"PUT /entropy 204", "PUT /serial 204", "PUT /balloon 204", "PUT /actions 204",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("calls are %q, want %q", got, want)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args string
		agent      bool
		clean      bool
		reason     string
	}{
		{"by its agent", "", true, true, "the guest powered off"},
		{"by keys", firecrackertest.Mute, false, true, "the guest powered off"},
		{"not at all", firecrackertest.Deaf, true, false, "the guest did not shut down in time and was ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, config(t))
			spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
			spec.Image.Cmdline += " " + c.args
			m := start(t, d, spec)
			if c.agent {
				if err := m.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			grace := vmmGrace
			if !c.clean {
				grace /= 50
			}
			if err := m.Stop(t.Context(), grace); err != nil {
				t.Fatal(err)
			}
			if exit := m.Exit(); exit.Clean != c.clean || exit.Reason != c.reason || !exit.Asked {
				t.Errorf("exit is %+v, want %q", exit, c.reason)
			}
		})
	}
}

func TestAPanicIsNoShutdown(t *testing.T) {
	t.Parallel()
	d := open(t, config(t))
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	spec.Image.Cmdline += " " + firecrackertest.Panics
	m := start(t, d, spec)
	<-m.Done()
	if exit := m.Exit(); exit.Clean || exit.Reason != "the guest's kernel panicked" {
		t.Errorf("exit is %+v, want a panic", exit)
	}
}

// talk sends a text to the guest's port and returns what it says back.
func talk(t *testing.T, s vmm.Streamer, text string) string {
	t.Helper()
	c, err := s.Dial(t.Context(), guest.PortRun)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		t.Fatal(err)
	}
	return string(back)
}

func TestStreams(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	d := open(t, cfg)
	spec := function(t)
	m := start(t, d, spec)
	s, ok := m.(vmm.Streamer)
	if !ok {
		t.Fatal("a function has no streams")
	}
	// The guest called before anybody listened.
	l, err := s.Listen(guest.PortRun)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(guest.PortRun); !errors.Is(err, errs.Conflict) {
		t.Errorf("second listener of a port: %v, want a conflict", err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(c); err != nil || string(raw) != "up" {
		t.Errorf("the guest says %q, %v", raw, err)
	}
	if got := talk(t, s, "hello"); got != "hello" {
		t.Errorf("the guest answers %q", got)
	}
	closed, err := s.Dial(t.Context(), 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a port on which nobody listens: %v, want the end", err)
	}

	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a listener of a driver that was closed goes on")
	}
	again, err := open(t, cfg).Adopt(t.Context(), spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := talk(t, again.(vmm.Streamer), "still there"); got != "still there" {
		t.Errorf("the adopted guest answers %q", got)
	}
	if err := again.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := again.(vmm.Streamer).Dial(t.Context(), guest.PortRun); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a stream to a machine that has ended: %v, want unavailable", err)
	}
	if _, err := again.(vmm.Streamer).Listen(60); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a listener of a machine that has ended: %v, want unavailable", err)
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	d := open(t, config(t))
	spec := function(t)
	spec.Volumes = []vmm.Volume{{Path: volume(t, 0o600), Format: vmm.Raw, ReadOnly: true}}
	tmpl, err := d.StartTemplate(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	endAfter(t, tmpl)
	talk(t, tmpl, "up?")
	dir := filepath.Join(t.TempDir(), "snapshot")
	if err := tmpl.Save(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-tmpl.Done():
	default:
		t.Error("the template runs on")
	}

	clone := func(change func(*vmm.Spec)) (vmm.Machine, error) {
		other := vmmtest.NewSpec(t, spec.Image)
		other.Function, other.DiskMiB, other.Volumes = true, 0, []vmm.Volume{{Path: volume(t, 0o600), Format: vmm.Raw, ReadOnly: true}}
		change(&other)
		return d.StartClone(t.Context(), other, dir)
	}
	for range 2 {
		m, err := clone(func(*vmm.Spec) {})
		if err != nil {
			t.Fatal(err)
		}
		endAfter(t, m)
		if got := talk(t, m.(vmm.Streamer), "clone"); got != "clone" {
			t.Errorf("the clone answers %q", got)
		}
	}
	for name, change := range map[string]func(*vmm.Spec){
		"more memory":   func(s *vmm.Spec) { s.MemoryMiB *= 2 },
		"another drive": func(s *vmm.Spec) { s.Volumes = nil },
	} {
		if _, err := clone(change); !errors.Is(err, errs.NotFound) {
			t.Errorf("a clone with %s: %v, want not found", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "state.new"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "state.new"), filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if _, err := clone(func(*vmm.Spec) {}); !errors.Is(err, errs.NotFound) {
		t.Errorf("a clone of a damaged snapshot: %v, want not found", err)
	}
}

func TestWhatFirecrackerCannotDo(t *testing.T) {
	t.Parallel()
	d := open(t, config(t))
	for name, change := range map[string]func(*vmm.Spec){
		"33 processors":        func(s *vmm.Spec) { s.VCPUs = 33 },
		"user-mode networking": func(s *vmm.Spec) { s.Net.Kind = vmm.NetUser },
		"a confidential one": func(s *vmm.Spec) {
			s.Confidential = &vmm.Confidential{Firmware: "/f", Session: []byte("s"), GODH: []byte("g")}
		},
		"a disk without kernel":  func(s *vmm.Spec) { s.Image.Kernel, s.Image.Initrd, s.Image.Cmdline = "", "", "" },
		"a qcow2 image":          func(s *vmm.Spec) { s.Image.Format = vmm.Qcow2 },
		"a qcow2 volume":         func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: "/v", Format: vmm.Qcow2}} },
		"a disk of another size": func(s *vmm.Spec) { s.Dir = otherDisk(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
			change(&spec)
			if _, err := d.Start(t.Context(), spec); !errors.Is(err, errs.Invalid) {
				t.Errorf("Start: %v, want invalid", err)
			}
		})
	}
}

// otherDisk is a machine's directory with a disk of a page.
func otherDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disk.raw"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Parallel()
	img := firecrackertest.Image(t)
	for name, c := range map[string]struct {
		change func(*firecracker.Config)
		want   string
	}{
		"Firecracker": {func(c *firecracker.Config) { c.Binary = "/nowhere/firecracker" }, "Firecracker (/nowhere/firecracker) is not installed"},
		"the jailer":  {func(c *firecracker.Config) { c.Jailer = "/nowhere/jailer" }, "jailer (/nowhere/jailer) is not installed"},
		"the user":    {func(c *firecracker.Config) { c.User = "no-such-user" }, "run useradd --system"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			c.change(&cfg)
			_, err := open(t, cfg).Probe(t.Context(), img)
			if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Probe: %v, want %q", err, c.want)
			}
		})
	}
}

// TestAMachineWhoseDaemonDiedEarly: the process of a machine is found even when
// nobody wrote down which it is, and one whose guest never began is ended.
func TestAMachineWhoseDaemonDiedEarly(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	first := open(t, cfg)
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	m := start(t, first, spec)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(spec.Dir, "process")); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, cfg).Adopt(t.Context(), spec.Dir)
	if err != nil || again.PID() != m.PID() {
		t.Fatalf("Adopt: %v, want process %d", err, m.PID())
	}
	endAfter(t, again)
}

func TestAHostThatBootsNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	spec.Image.Cmdline = firecrackertest.Broken
	if _, err := open(t, cfg).Probe(t.Context(), spec.Image); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Probe: %v, want unavailable", err)
	}
	if _, err := open(t, cfg).Start(t.Context(), spec); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Start: %v, want unavailable", err)
	}
	if _, err := os.Stat(spec.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after that: %v, want none", err)
	}
	if left, err := os.ReadDir(cfg.CacheDir); err != nil || len(left) > 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}

	// Nothing is tried again where a boot was seen before.
	img := firecrackertest.Image(t)
	first, err := open(t, cfg).Probe(t.Context(), img)
	if err != nil || first.Accelerator != vmm.KVM || first.Version != firecrackertest.Version {
		t.Fatalf("Probe: %+v, %v", first, err)
	}
	cfg.Jailer = filepath.Join(t.TempDir(), "jailer")
	if err := os.WriteFile(cfg.Jailer, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if again, err := open(t, cfg).Probe(t.Context(), img); err != nil || again.Version != first.Version {
		t.Errorf("a later Probe: %+v, %v", again, err)
	}
	// And what starts nothing says so.
	other := vmmtest.NewSpec(t, img)
	if _, err := open(t, cfg).Start(t.Context(), other); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Start by a jailer that fails: %v, want unavailable", err)
	}
	if _, err := os.Stat(other.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after that: %v, want none", err)
	}
}
