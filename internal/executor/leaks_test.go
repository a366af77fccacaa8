package executor_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// kindsOf are the kinds of leaks, each once.
func kindsOf(leaks []executor.Leak) []executor.LeakKind {
	var out []executor.LeakKind
	for _, l := range leaks {
		out = append(out, l.Kind)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestLeaksOfEachKindAreFound plants one after the other, in a node that otherwise has
// one machine that has ended and been removed.
func TestLeaksOfEachKindAreFound(t *testing.T) {
	t.Parallel()
	stray := message.HashOf([]byte("stray"))
	dirOf := func(w *world) string { return filepath.Join(w.dir, "vms", string(stray)) }
	old := func(w *world, s state.VMState) state.VM {
		return state.VM{Spec: stray, State: s, Dir: dirOf(w), StoppedAt: time.Now().Add(-time.Hour)}
	}
	put := func(w *world, vm state.VM) {
		w.update(func(ctx context.Context, tx *state.Tx) error { return tx.PutVM(ctx, vm) })
	}
	for name, c := range map[string]struct {
		plant func(t *testing.T, w *world)
		want  []executor.LeakKind
	}{
		"nothing": {func(*testing.T, *world) {}, nil},
		"a process of no row": {func(t *testing.T, w *world) {
			t.Helper()
			vmmtest.Occupy(t, dirOf(w))
		}, []executor.LeakKind{executor.LeakDisk, executor.LeakProcess}},
		"a process of an ended machine": {func(t *testing.T, w *world) {
			t.Helper()
			put(w, old(w, state.VMStopped))
			vmmtest.Occupy(t, dirOf(w))
		}, []executor.LeakKind{executor.LeakProcess, executor.LeakRow}},
		"a process whose directory was deleted": {func(t *testing.T, w *world) {
			t.Helper()
			vmmtest.Occupy(t, dirOf(w))
			if err := os.RemoveAll(dirOf(w)); err != nil {
				t.Fatal(err)
			}
		}, []executor.LeakKind{executor.LeakProcess}},
		"a second process": {func(t *testing.T, w *world) {
			t.Helper()
			put(w, old(w, state.VMRunning))
			vmmtest.Occupy(t, dirOf(w))
			if err := os.Rename(dirOf(w), dirOf(w)+".old"); err != nil {
				t.Fatal(err)
			}
			vmmtest.Occupy(t, dirOf(w))
		}, []executor.LeakKind{executor.LeakProcess}},
		"a machine that runs": {func(t *testing.T, w *world) {
			t.Helper()
			put(w, old(w, state.VMRunning))
			vmmtest.Occupy(t, dirOf(w))
		}, nil},
		"a directory": {func(t *testing.T, w *world) {
			t.Helper()
			if err := os.Mkdir(dirOf(w), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []executor.LeakKind{executor.LeakDisk}},
		"a backup": {func(t *testing.T, w *world) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(w.dir, "backups", string(stray)+"-20260101T000000.tar"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []executor.LeakKind{executor.LeakDisk}},
		"a lock": {func(t *testing.T, w *world) {
			t.Helper()
			vm := old(w, state.VMHalted)
			put(w, vm)
			lock, err := vmm.LockDir(vm.Dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lock.Close() })
		}, []executor.LeakKind{executor.LeakLock}},
		"a row": {func(_ *testing.T, w *world) { put(w, old(w, state.VMStopped)) }, []executor.LeakKind{executor.LeakRow}},
		"a device with its rules": {func(t *testing.T, w *world) {
			t.Helper()
			if err := w.net.Apply(t.Context(), []vmnet.Lease{{ID: string(stray)}}); err != nil {
				t.Fatal(err)
			}
		}, []executor.LeakKind{executor.LeakDevice, executor.LeakRule}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.supervisor()
			c.plant(t, w)

			leaks, err := s.Leaks(t.Context())

			if got := kindsOf(leaks); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("leaks %v, %v, want of kinds %v", leaks, err, c.want)
			}
		})
	}
}

// TestLeaksAreCounted reads the metric.
// TestDisksThatAreCopiedAreNoLeak: who copies them has the lock.
func TestDisksThatAreCopiedAreNoLeak(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.supervisor()
	vm := state.VM{Spec: message.HashOf([]byte("copied")), State: state.VMHalted, StoppedAt: time.Now()}
	vm.Dir = filepath.Join(w.dir, "vms", string(vm.Spec))
	w.update(func(ctx context.Context, tx *state.Tx) error { return tx.PutVM(ctx, vm) })
	lock, err := vmm.LockDir(vm.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	done, err := s.Claim(vm.Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{0, 1} {
		leaks, err := s.Leaks(t.Context())
		if err != nil || len(leaks) != want {
			t.Errorf("leaks %v, %v, want %d", leaks, err, want)
		}
		done() // From here it is locked for nothing.
	}
}

func TestLeaksAreCounted(t *testing.T) {
	w := newWorld(t)
	w.supervisor()
	if err := os.Mkdir(filepath.Join(w.dir, "vms", string(message.HashOf([]byte("stray")))), 0o700); err != nil {
		t.Fatal(err)
	}

	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "aleph_executor_leaks" {
				got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	want := map[string]float64{"process": 0, "device": 0, "rule": 0, "disk": 1, "lock": 0, "row": 0}
	if !maps.Equal(got, want) {
		t.Errorf("leaks are %v, want %v", got, want)
	}
}
