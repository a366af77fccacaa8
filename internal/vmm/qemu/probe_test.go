package qemu_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// TestProbeBootsOncePerHostBoot probes by booting, and then answers from the
// file that it has kept, unless that is damaged.
func TestProbeBootsOncePerHostBoot(t *testing.T) {
	t.Parallel()
	img, cache := vmmtest.GuestImage(t), t.TempDir()
	probe := func() (vmm.Capabilities, time.Duration) {
		d := qemu.New(qemu.Config{CacheDir: cache}, slog.New(slog.DiscardHandler))
		defer d.Close()
		begin := time.Now()
		caps, err := d.Probe(bounded(t), img)
		if err != nil {
			t.Fatal(err)
		}
		return caps, time.Since(begin)
	}

	first, slow := probe()
	second, quick := probe()

	if first.Driver != qemu.Name || first.Version == "" || first.Accelerator != vmm.KVM && first.Accelerator != vmm.TCG {
		t.Errorf("capabilities are %+v", first)
	}
	if first.Accelerator == vmm.TCG && !strings.Contains(strings.Join(first.Notes, " "), "by translation") {
		t.Errorf("notes are %q, want why there is no KVM", first.Notes)
	}
	if strings.Join(second.Notes, " ") != strings.Join(first.Notes, " ") || second.Accelerator != first.Accelerator || quick > slow {
		t.Errorf("second probe took %v and says %+v, want less than %v and %+v", quick, second, slow, first)
	}
	t.Logf("probed in %v, then %v: %s %q", slow, quick, first.Accelerator, first.Notes)
	if err := os.WriteFile(filepath.Join(cache, "probe.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third, _ := probe(); third.Accelerator != first.Accelerator {
		t.Errorf("after a damaged file: %s, want %s", third.Accelerator, first.Accelerator)
	}
}

// runProber is the process that probes and is killed: its QEMU is a script.
func runProber(script string) error {
	d := qemu.New(qemu.Config{Binary: script, CacheDir: filepath.Dir(script)}, slog.New(slog.DiscardHandler))
	_, err := d.Probe(context.Background(), vmm.Image{Kernel: script, Initrd: script, Agent: true})
	return err
}

// TestAProbeEndsWithItsDaemon: a boot by a KVM that hangs would stay for ever.
func TestAProbeEndsWithItsDaemon(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = --version ] || exec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(bounded(t), os.Args[0], script)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), roleVar+"="+prober)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sleeps := func() (n int) {
		for _, p := range processes(t, dir) {
			if name, err := os.ReadFile(filepath.Join(filepath.Dir(p), "comm")); err == nil && string(name) == "sleep\n" {
				n++
			}
		}
		return n
	}
	wait(t, "QEMU boots", func() bool { return sleeps() > 0 })

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.

	wait(t, "QEMU has ended", func() bool { return sleeps() == 0 })
}

// TestAProbeIsNotHeldByAKVMThatHangs: translation boots at once, KVM never.
func TestAProbeIsNotHeldByAKVMThatHangs(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "qemu")
	boot := "#!/bin/sh\n[ \"$1\" = --version ] && exit\ncase \"$*\" in *'-accel kvm'*) exec sleep 600;; esac\necho '" + agent.ProbeMarker + "'\n"
	if err := os.WriteFile(script, []byte(boot), 0o755); err != nil {
		t.Fatal(err)
	}
	d := qemu.New(qemu.Config{Binary: script, CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	defer d.Close()

	caps, err := d.Probe(bounded(t), vmm.Image{Kernel: script, Initrd: script, Agent: true})
	if err != nil || caps.Accelerator != vmm.TCG {
		t.Errorf("Probe = %+v, %v, want translation", caps, err)
	}
}

// wait polls until the condition holds.
func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := bounded(t); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
