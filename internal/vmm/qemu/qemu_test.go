package qemu_test

import (
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// opener returns what makes drivers that share the result of one probe.
func opener(t testing.TB) func(*testing.T) vmm.Driver {
	t.Helper()
	cache := probeCache(t)
	return func(*testing.T) vmm.Driver {
		return qemu.New(qemu.Config{CacheDir: cache}, slog.New(slog.DiscardHandler))
	}
}

// probeCache is where the result of the probe is kept.
func probeCache(t testing.TB) string {
	t.Helper()
	return filepath.Join(filepath.Dir(vmmtest.GuestImageFile(t)), "probe")
}

// open returns a driver that is closed when the test ends.
func open(t testing.TB) vmm.Driver {
	t.Helper()
	d := opener(t)(nil)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDriver(t *testing.T) {
	t.Parallel()
	vmmtest.TestDriver(t, vmmtest.Subject{
		Open:  opener(t),
		Image: vmmtest.GuestImage(t),
		Crash: func(t *testing.T, m vmm.Machine) {
			t.Helper()
			if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		Greeting: "aleph-guest: ready",
	})
}
