package qemu_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
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
