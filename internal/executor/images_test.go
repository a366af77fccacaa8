package executor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestAnImageThatRottedIsFetchedAnewAndNotBooted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		stop()
		w.host.Die(string(spec), "host was rebooted")
		raw := imageBytes()
		raw[4096] = 1
		if err := os.WriteFile(w.src.path, raw, 0o600); err != nil {
			t.Fatal(err)
		}

		stop = w.start()
		defer stop()
		time.Sleep(10 * time.Second)

		vm := w.wantState(spec, state.VMRunning)
		if vm.Starts != 2 || w.src.dropped != 1 {
			t.Errorf("%d starts, %d images dropped; want 2, 1", vm.Starts, w.src.dropped)
		}
		if now, err := os.ReadFile(w.src.path); err != nil || !bytes.Equal(now, imageBytes()) {
			t.Errorf("the image that was booted is not the one that was fetched (%v)", err)
		}
	})
}

func TestRoomIsMadeWhenTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		unused := filepath.Join(w.dir, "images", string(message.HashOf([]byte("unused"))))
		if err := os.MkdirAll(unused, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(unused, time.Now(), time.Now().Add(-time.Second)); err != nil { // In the time of the bubble.
			t.Fatal(err)
		}
		w.host.Set(vmmtest.Faults{Start: errs.New(errs.Exhausted, "the disk is full, make room on it")})
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(time.Second)
		w.host.Set(vmmtest.Faults{})

		time.Sleep(10 * time.Second)

		w.wantState(spec, state.VMRunning)
		w.src.mu.Lock()
		defer w.src.mu.Unlock()
		if len(w.src.room) != 1 {
			t.Errorf("room was asked for %v, want once", w.src.room)
		}
		if _, err := os.Stat(unused); err == nil {
			t.Error("the unpacked image that nobody uses is still there")
		}
	})
}

func TestOnlyUnusedImagesGoAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		old := time.Now().Add(-time.Minute)
		for _, hash := range []message.ItemHash{imageHash(), message.HashOf([]byte("unused"))} {
			dir := filepath.Join(w.dir, "images", string(hash))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
		stop := w.start()
		defer stop()
		time.Sleep(50 * time.Minute)
		if left, err := filepath.Glob(filepath.Join(w.dir, "images", "*")); err != nil || len(left) != 2 {
			t.Errorf("before an hour: %v (%v), want both images", left, err)
		}

		time.Sleep(15 * time.Minute)

		w.wantState(spec, state.VMRunning)
		want := filepath.Join(w.dir, "images", string(imageHash()))
		if left, err := filepath.Glob(filepath.Join(w.dir, "images", "*")); err != nil || len(left) != 1 || left[0] != want {
			t.Errorf("after an hour: %v (%v), want %s", left, err, want)
		}
	})
}

func TestImagesOfMachinesAndPromisesAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.supervisor()
		is := func() bool {
			needed, err := s.Needed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if needed(message.HashOf([]byte("other")), time.Now()) {
				t.Error("a file that nobody names is needed")
			}
			return needed(imageHash(), time.Time{})
		}
		if is() {
			t.Error("the image is needed before anything names it")
		}
		if r := s.Accept(t.Context(), peerOf(t, coordinator), w.ask(1, nil)); !r.Accepted {
			t.Fatalf("node declined: %s%s", r.Reason, r.Error)
		}
		stop := w.run(s)
		defer stop()
		time.Sleep(3 * time.Second)
		if !is() {
			t.Error("the image of a promise is not needed")
		}
		w.block(400)
		time.Sleep(3 * time.Second)
		if is() {
			t.Error("the image is needed after the promise has ended")
		}
		spec := w.job(2)
		time.Sleep(3 * time.Second)
		w.end(spec, state.JobStopped, "stopped")
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMStopped)
		if !is() {
			t.Error("the image of a machine that may come back is not needed")
		}
		time.Sleep(w.cfg.Retention + 5*time.Second)
		if is() {
			t.Error("the image is needed after its machine is gone")
		}
	})
}

// A file that is known by its CID stays under the name by which it is kept.
func TestImagesAreNeededUnderTheNamesOfTheirBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		kept := message.HashOf([]byte("kept"))
		w.src.blobs = map[message.ItemHash]message.ItemHash{imageHash(): kept}
		s := w.supervisor()
		if r := s.Accept(t.Context(), peerOf(t, coordinator), w.ask(1, nil)); !r.Accepted {
			t.Fatalf("node declined: %s%s", r.Reason, r.Error)
		}
		defer w.run(s)()
		time.Sleep(3 * time.Second)
		needed, err := s.Needed(t.Context())
		if err != nil || !needed(kept, time.Time{}) || !needed(imageHash(), time.Time{}) || needed(message.HashOf([]byte("other")), time.Time{}) {
			t.Errorf("the image of a promise is not needed under both its names, or another is (%v)", err)
		}
	})
}
