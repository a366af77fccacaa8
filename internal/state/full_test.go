package state_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// checkFull fails unless err says that the disk of dir is full and what to do.
func checkFull(t *testing.T, dir string, err error) {
	t.Helper()
	if !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "the disk that holds "+dir+" is full, free some space there") {
		t.Errorf("got %v (%v), want exhausted, the directory and what to do", err, errs.KindOf(err))
	}
	if said := errs.Public(err); said != "the disk that holds the database is full, free some space there" {
		t.Errorf("strangers are told %q, want no place", said)
	}
}

// grow writes more and more, in transactions of ten rows, until one fails.
func grow(t *testing.T, db *state.DB) (committed int, err error) {
	t.Helper()
	pad := []string{strings.Repeat("x", 2000)}
	for ; err == nil && committed < 1000; committed += 10 {
		err = db.Update(t.Context(), func(tx *state.Tx) error {
			for i := range 10 {
				if err := tx.PutPeer(t.Context(), state.Peer{ID: fmt.Sprint(committed + i), Addrs: pad}); err != nil {
					return fmt.Errorf("put: %w", err)
				}
			}
			return nil
		})
	}
	return committed - 10, err
}

// wantRows fails unless there are n peers and more can be written.
func wantRows(t *testing.T, db *state.DB, n int) {
	t.Helper()
	for more := range 2 {
		if more > 0 {
			putPeers(t, db, "more")
		}
		peers, err := db.Peers(t.Context(), 10_000)
		if err != nil || len(peers) != n+more {
			t.Errorf("%d peers, %v, want %d: those that were committed", len(peers), err, n+more)
		}
	}
}

func TestFullDatabase(t *testing.T) {
	aboutFiles(t)
	dir := t.TempDir()
	db := open(t, dir)
	if err := db.LimitPages(t.Context(), 100); err != nil {
		t.Fatal(err)
	}

	n, err := grow(t, db)

	checkFull(t, dir, err)
	checkFull(t, dir, db.Ready(t.Context()))
	if err := db.Update(t.Context(), func(*state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	checkFull(t, dir, db.Ready(t.Context())) // Nothing has been written since.
	if err := db.LimitPages(t.Context(), 100_000); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, n)
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("with room it is not ready: %v", err)
	}
}

// TestFullDisk runs itself in a mount namespace, where anybody may mount.
func TestFullDisk(t *testing.T) {
	aboutFiles(t)
	if os.Getenv(roleVar) != mounter {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), roleVar+"="+mounter)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if uid := os.Getuid(); uid != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	t.Run("while it runs", func(t *testing.T) {
		dir := mount(t, "size=2m")
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 200_000), 0o600); err != nil {
			t.Fatal(err)
		}
		db := open(t, dir)

		n, err := grow(t, db)

		checkFull(t, dir, err)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		wantRows(t, db, n)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if ids := peerIDs(t, open(t, dir)); len(ids) != n+1 {
			t.Errorf("%d peers after a restart, want %d", len(ids), n+1)
		}
	})
	for _, free := range []int{0, 4096, 40_000, 100_000} {
		t.Run(fmt.Sprintf("at the start with %d bytes", free), func(t *testing.T) {
			dir := mount(t, "size=2m") // Of the schema, and of the log that writes it.
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 2<<20-free), 0o600); err != nil {
				t.Fatal(err)
			}

			_, err := state.Open(t.Context(), dir)

			checkFull(t, dir, err)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			wantRows(t, open(t, dir), 0)
		})
	}
	t.Run("with no room for a directory", func(t *testing.T) {
		dir := mount(t, "nr_inodes=1")
		_, err := state.Open(t.Context(), filepath.Join(dir, "new"))
		checkFull(t, dir, err)
	})
	t.Run("with no room for a lock", func(t *testing.T) {
		dir := mount(t, "nr_inodes=1")
		_, err := state.Open(t.Context(), dir)
		checkFull(t, dir, err)
	})
}

// mount mounts a small disk and returns where. It goes with the namespace.
func mount(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
