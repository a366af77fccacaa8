package executor_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// leased starts a machine of a lease that has a root disk.
func (w *world) leased(s *executor.Supervisor, spec message.ItemHash) {
	w.t.Helper()
	if err := s.Request(w.t.Context(), spec); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Second)
	w.wantState(spec, state.VMRunning)
	w.writeDisk(spec)
}

// qcow2Image returns an empty qcow2 image of a disk of that size.
func qcow2Image(t *testing.T, size string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.qcow2")
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", path, size).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestABackupOfALeasedMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx := t.Context()
		spec := w.src.withVolumes(`{"persistence":"host","name":"data","size_mib":3}`)
		if _, err := s.BeginBackup(ctx, spec, executor.BackupOptions{}); !errors.Is(err, errs.Invalid) {
			t.Errorf("a backup of what does not run: %v, want invalid", err)
		}
		w.leased(s, spec)
		if _, err := s.LatestBackup(spec); !errors.Is(err, errs.NotFound) {
			t.Errorf("before there is one: %v, want not found", err)
		}
		if b, err := s.BeginBackup(ctx, spec, executor.BackupOptions{Volumes: true}); b != nil || err != nil {
			t.Fatalf("BeginBackup: %+v, %v, want one that is made", b, err)
		}
		time.Sleep(time.Second)
		b, err := s.LatestBackup(spec)
		if err != nil || b == nil || !slices.Equal(b.Members, []string{"rootfs.qcow2", "data.qcow2"}) || !b.Frozen {
			t.Fatalf("LatestBackup: %+v, %v, want both disks, at rest", b, err)
		}
		if again, err := s.BeginBackup(ctx, spec, executor.BackupOptions{}); err != nil || again == nil || again.ID != b.ID {
			t.Errorf("a second one within a day: %+v, %v, want the first", again, err)
		}
		_, f, err := s.OpenBackup(spec, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		other := w.src.instance(9).ItemHash
		if err := s.DeleteBackup(other, b.ID); !errors.Is(err, errs.NotFound) {
			t.Errorf("another machine's backup is deleted: %v", err)
		}
		if err := s.DeleteBackup(spec, b.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.OpenBackup(spec, b.ID); !errors.Is(err, errs.NotFound) {
			t.Errorf("a deleted backup: %v, want not found", err)
		}
		if err := s.Erase(ctx, spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestABackupIsTakenUpByTheNextProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core = newCore()
		w.copying = func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		s := w.supervisor()
		stop := w.run(s)
		spec := w.src.instance(1).ItemHash
		w.leased(s, spec)
		if _, err := s.BeginBackup(t.Context(), spec, executor.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if b, err := s.LatestBackup(spec); b != nil || err != nil {
			t.Errorf("while it is made: %+v, %v, want neither", b, err)
		}
		if err := s.Restore(t.Context(), spec, bytes.NewReader(nil)); !errors.Is(err, errs.Conflict) {
			t.Errorf("a restore during a backup: %v, want a conflict", err)
		}
		stop()
		w.copying = nil
		s = w.supervisor()
		defer w.run(s)()
		time.Sleep(3 * time.Minute)
		if b, err := s.LatestBackup(spec); err != nil || b == nil {
			t.Errorf("after the restart: %+v, %v, want a backup", b, err)
		}
	})
}

func TestABackupThatFailsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core = newCore()
		w.copying = func(context.Context) error { return errs.New(errs.Exhausted, "the disk is full") }
		s := w.supervisor()
		defer w.run(s)()
		spec := w.src.instance(1).ItemHash
		w.leased(s, spec)
		if _, err := s.BeginBackup(t.Context(), spec, executor.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := s.LatestBackup(spec); !errors.Is(err, errs.Exhausted) {
			t.Errorf("LatestBackup: %v, want why it failed", err)
		}
		w.wantState(spec, state.VMRunning)
	})
}

func TestARestoreReplacesTheRootDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		w.leased(s, spec)
		dir := w.vm(spec).Dir
		for name, image := range map[string][]byte{"no image": []byte("work"), "a larger disk": qcow2Image(t, "1001M")} {
			if err := s.Restore(ctx, spec, bytes.NewReader(image)); !errors.Is(err, errs.Invalid) {
				t.Errorf("%s: %v, want invalid", name, err)
			}
		}
		if err := s.RestoreRef(ctx, spec, w.src.image().ItemHash); !errors.Is(err, errs.Invalid) {
			t.Errorf("a raw file of the network: %v, want invalid", err)
		}
		if n := w.host.Starts(string(spec)); n != 1 {
			t.Errorf("the machine was started %d times, want what cannot be restored to change nothing", n)
		}
		if err := s.Restore(ctx, spec, bytes.NewReader(qcow2Image(t, "10M"))); err != nil {
			t.Fatal(err)
		}
		if n := w.host.Starts(string(spec)); n != 2 || w.vm(spec).Halt != nil {
			t.Errorf("%d starts and the order %+v, want a second start and none", n, w.vm(spec).Halt)
		}
		if kept, _ := filepath.Glob(filepath.Join(dir, "disk.pre-restore-*.qcow2")); len(kept) != 1 {
			t.Errorf("%d disks from before are kept, want 1", len(kept))
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "upload")); len(left) != 0 {
			t.Errorf("uploads are left: %v", left)
		}
	})
}

// TestARestoreOfAPausedMachineIsTakenBack when it has not come to it in ten minutes:
// the machine goes on with its disk when it is paid.
func TestARestoreOfAPausedMachineIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		w.leased(s, spec)
		w.core.set(func(c *core) { c.credits = 0 })
		w.pass(2 * time.Hour)
		dir := w.wantState(spec, state.VMPaused).Dir
		began := time.Now()
		err := s.Restore(ctx, spec, bytes.NewReader(qcow2Image(t, "10M")))
		if took := time.Since(began); !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "not paid") || took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("restore of a paused machine: %v after %v, want that it is not paid after ten minutes", err, took)
		}
		if vm := w.wantState(spec, state.VMPaused); vm.Halt != nil {
			t.Errorf("the order is %+v, want none", vm.Halt)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "upload/*"))
		kept, _ := filepath.Glob(filepath.Join(dir, "disk.pre-restore-*.qcow2"))
		if len(left)+len(kept) > 0 {
			t.Errorf("there are the uploads %q and the disks from before %q, want none", left, kept)
		}
		w.core.set(func(c *core) { c.credits = 1_000_000 })
		w.pass(5 * time.Minute)
		w.wantState(spec, state.VMRunning)
	})
}

// TestARestoreOutlivesACrash stops the node at each of the calls of a restore:
// the machine runs again, with the new disk if it was ordered.
func TestARestoreOutlivesACrash(t *testing.T) {
	image := qcow2Image(t, "10M")
	for at := 1; ; at++ {
		reached := false
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w, s, stop := leasing(t)
				ctx, spec := t.Context(), w.src.instance(1).ItemHash
				w.leased(s, spec)
				dir := w.vm(spec).Dir
				stop()
				w.hook = &hook{at: at, after: after}
				s = w.supervisor()
				stop = w.run(s)
				waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
				err := s.Restore(waiting, spec, bytes.NewReader(image))
				cancel()
				reached = reached || w.hook.reached()
				stop()
				w.hook = nil
				ordered := w.vm(spec).Halt != nil || err == nil
				stop = w.start()
				time.Sleep(time.Minute)
				w.wantState(spec, state.VMRunning)
				kept, _ := filepath.Glob(filepath.Join(dir, "disk.pre-restore-*.qcow2"))
				if ordered && len(kept) != 1 {
					t.Errorf("crash at call %d (after it: %v): %d disks from before are kept, want 1", at, after, len(kept))
				}
				if len(w.host.Running()) != 1 || w.vm(spec).Halt != nil {
					t.Errorf("crash at call %d: %d machines run, want 1, with no order left", at, len(w.host.Running()))
				}
				stop()
			})
		}
		if !reached || t.Failed() {
			break
		}
	}
}
