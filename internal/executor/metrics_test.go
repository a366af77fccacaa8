package executor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// series returns the machines' metrics, as name{spec} to value.
func (w *world) series() map[string]float64 {
	w.t.Helper()
	all, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "aleph_vm_") {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := m.GetLabel()
			if len(labels) != 1 || labels[0].GetName() != "spec" {
				w.t.Errorf("%s has the labels %v, want only spec", f.GetName(), labels)
			}
			out[fmt.Sprintf("%s{%s}", f.GetName(), labels[0].GetValue())] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestMachinesAreMeasuredWhileTheyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, second := w.job(1), w.job(2)
		s := w.supervisor()
		stop := w.run(s)
		defer stop()
		time.Sleep(3 * time.Second)
		if err := os.WriteFile(filepath.Join(w.vm(first).Dir, "disk"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}

		got := w.series()
		counted := 0
		for _, spec := range []message.ItemHash{first, second} {
			label := "{" + string(spec[:12]) + "}"
			if got["aleph_vm_cpu_seconds_total"+label] != 1 || got["aleph_vm_memory_bytes"+label] < 1<<20 {
				t.Errorf("series are %v, want CPU time and memory of %s", got, spec)
			}
			if w.vm(spec).Net%2 == 1 { // See network.Device: the others are in user mode.
				counted++
				if got["aleph_vm_network_receive_bytes_total"+label] != 1000 || got["aleph_vm_network_transmit_bytes_total"+label] != 2000 {
					t.Errorf("series are %v, want what went through the device of %s", got, spec)
				}
			}
		}
		if want := 2*3 + 2*counted; len(got) != want || counted != 1 {
			t.Errorf("%d series of 2 machines, %d of them with a device of the host; want %d: %v", len(got), counted, want, got)
		}
		if disk := got["aleph_vm_disk_bytes{"+string(first[:12])+"}"]; disk < 1<<20 {
			t.Errorf("the disk takes %v bytes, want the file's at least", disk)
		}
		vm, err := s.Status(t.Context(), first)
		if err != nil || vm.Usage == nil || vm.Usage.CPUMS != 1000 || vm.Usage.AtMS != time.Now().UnixMilli() || vm.Usage.DiskBytes < 1<<20 {
			t.Errorf("status has the usage %+v (%v), want the same", vm.Usage, err)
		}

		for _, spec := range []message.ItemHash{first, second} {
			w.setJob(spec, func(j *state.Job) { j.Status, j.StoppedAt = state.JobStopped, w.head })
		}
		w.block(10)
		time.Sleep(2 * time.Minute)
		if _, err := w.db.VM(t.Context(), first); !errors.Is(err, errs.NotFound) {
			t.Fatalf("the machine is still there: %v", err)
		}
		if got := w.series(); len(got) != 0 {
			t.Errorf("series of machines that are gone: %v", got)
		}
		if vm, err := s.Status(t.Context(), first); err != nil || vm.Usage != nil {
			t.Errorf("a machine that is gone uses %+v (%v)", vm.Usage, err)
		}
	})
}

func TestHashesThatBeginAlikeHaveNamesOfTheirOwn(t *testing.T) {
	named := map[string]bool{}
	a := message.ItemHash("0123456789ab" + strings.Repeat("0", 52))
	b := message.ItemHash("0123456789ab" + strings.Repeat("1", 52))
	if x, y := executor.LabelOf(a, named), executor.LabelOf(b, named); x != "0123456789ab" || y != string(b) {
		t.Errorf("labels are %s and %s, want 12 digits and the whole hash", x, y)
	}
}
