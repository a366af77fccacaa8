package vmmtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// TestMemoryDriver holds the driver in memory to the suite of the real ones,
// so that what is tested with it is tested against the same promises.
func TestMemoryDriver(t *testing.T) {
	h := vmmtest.NewHost()
	vmmtest.TestDriver(t, vmmtest.Subject{
		Open:     func(*testing.T) vmm.Driver { return h.Open() },
		Image:    image(t),
		Crash:    func(_ *testing.T, m vmm.Machine) { h.Die(m.ID(), "the test ended it") },
		Greeting: "starts",
	})
}

func image(t *testing.T) vmm.Image {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	return vmm.Image{Name: "test", Kernel: "/kernel", Initrd: "/initrd", Rootfs: disk, Format: vmm.Raw, VirtualBytes: 512, Agent: true}
}

func TestFaults(t *testing.T) {
	h := vmmtest.NewHost()
	d := h.Open()
	broken := errs.New(errs.Unavailable, "no luck")

	h.Set(vmmtest.Faults{Probe: broken, Start: broken, Adopt: broken})
	spec := vmmtest.NewSpec(t, image(t))
	if _, err := d.Probe(t.Context(), spec.Image); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Probe: %v, want the fault", err)
	}
	if _, err := d.Start(t.Context(), spec); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Start: %v, want the fault", err)
	}
	if _, err := d.Adopt(t.Context(), spec.Dir); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Adopt: %v, want the fault", err)
	}

	h.Set(vmmtest.Faults{NeverReady: true, IgnoreStop: true})
	m, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Print(spec.ID, "hello\n"); err != nil {
		t.Fatal(err)
	}
	h.MakeReady(spec.ID)
	if err := m.Ready(t.Context()); err != nil {
		t.Errorf("Ready after MakeReady: %v", err)
	}
	if got, ok := h.Spec(spec.ID); !ok || got.ID != spec.ID || len(h.Running()) != 1 || h.Starts(spec.ID) != 1 {
		t.Errorf("host has %v (%t), %v running, %d starts; want the machine once", got.ID, ok, h.Running(), h.Starts(spec.ID))
	}
	if err := m.Stop(t.Context(), time.Millisecond); err != nil || m.Exit().Clean {
		t.Errorf("Stop of a guest that ignores it: %v, %+v; want an end that is not clean", err, m.Exit())
	}
}
