//go:build e2e

package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// roomy is the size of a disk at first; only what is written takes memory.
	roomy = 16 << 30
	// slack is what is free when a node begins to take in what it missed, and much the files
	// that it missed, each, in bytes.
	slack, much = 2 << 20, 500_000
	// muchFiles of them do not fit.
	muchFiles = 16
)

// smallDisk gives a node that does not run yet a disk of its own, and returns how to change
// its size.
func (n *node) smallDisk(t *testing.T) (resize func(size uint64)) {
	t.Helper()
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount := func(flags uintptr, size uint64) {
		t.Helper()
		if err := unix.Mount("aleph-e2e", n.dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
			t.Fatalf("mount a small disk: %v", err)
		}
	}
	mount(0, roomy)
	t.Cleanup(func() {
		if n.cmd != nil {
			n.kill(t)
		}
		if err := unix.Unmount(n.dir, 0); err != nil {
			t.Errorf("unmount: %v", errors.Join(err, unix.Unmount(n.dir, unix.MNT_DETACH)))
		}
	})
	return func(size uint64) { t.Helper(); mount(unix.MS_REMOUNT, size) }
}

// used is how much of the node's disk is.
func (n *node) used(t *testing.T) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(n.dir, &fs); err != nil {
		t.Fatal(err)
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
}

// TestDiskFullWhileSyncing has the disk of a node run full while it takes in what it missed.
func TestDiskFullWhileSyncing(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b")
	late := w.add(t, "late", w.nodes...)
	resize := late.smallDisk(t)
	late.start(t)
	late.waitUp(t)
	w.nodes = append(w.nodes, late)
	w.waitMet(t, w.nodes)
	w.converge(t, w.nodes)

	// It hears nothing of what the others take in, and takes in something itself.
	w.part(w.nodes[:2], w.nodes[2:])
	for i := range muchFiles {
		w.store(t, w.nodes[i%2], w.authors[1], much)
	}
	w.talk(t, w.nodes[:2], 20)
	w.talk(t, w.nodes[2:], 5)
	own := w.post(t, late, w.authors[2])
	resize(late.used(t) + slack)
	w.heal()

	late.says(t, "is full")

	t.Run("it is told to who hands something in, and what was acknowledged is there", func(t *testing.T) {
		taken, refused := late.fillUp(t, resize)
		for _, s := range append(taken, own) {
			if err := late.has(t.Context(), s); err != nil {
				t.Error(err)
			}
		}
		if status, err := late.statusOf(t.Context(), refused.hash); err != nil || status != "" {
			t.Errorf("%s was refused, and is %q, %v", refused.hash, status, err)
		}
		eventually(t, "it says that it is not ready", func(ctx context.Context) error {
			code, answer, err := late.request(ctx, http.MethodGet, "/readyz", "", nil)
			if err == nil && strings.Contains(string(answer), late.dir) {
				t.Errorf("it tells anybody where its data is: %s", answer)
			}
			if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(string(answer), "is full")) {
				late.fillUp(t, resize) // What the chain does may have found room.
				err = fmt.Errorf("got %d %s", code, answer)
			}
			return err
		})
	})
	t.Run("with room it goes on by itself", func(t *testing.T) {
		resize(roomy)
		w.talk(t, w.nodes, 1)
		w.converge(t, w.nodes)
		eventually(t, "it is ready", func(ctx context.Context) error { return late.get(ctx, "/readyz", &struct{}{}) })
	})
	t.Run("with too little room at its start, too", func(t *testing.T) {
		late.kill(t)
		for i := range muchFiles {
			w.store(t, w.nodes[i%2], w.authors[3], much)
		}
		resize(late.used(t) + slack)
		late.start(t)
		late.says(t, "is full")
		late.kill(t)
		resize(roomy)
		late.start(t)
		late.waitUp(t)
		w.converge(t, w.nodes)
	})
	check(t, w.nodes)
}

// handedMax bounds what is handed in until a full disk has no room for it: the database has
// some in its files, and writes its log over again.
const handedMax = 500

// fillUp leaves no room on the node's disk and hands in messages until one is refused for
// that, and returns it and those that were taken.
func (n *node) fillUp(t *testing.T, resize func(size uint64)) (taken []*said, refused *said) {
	t.Helper()
	w := n.world
	for range handedMax {
		resize(n.used(t))
		s := w.post(t, n, w.authors[2])
		if !s.acked {
			if s.code != http.StatusServiceUnavailable || !strings.Contains(s.answer, "is full") {
				t.Fatalf("got %d %q, want 503 and that the disk is full", s.code, s.answer)
			}
			return taken, s
		}
		taken = append(taken, s)
	}
	t.Fatalf("%s took in %d messages with a full disk", n.name, handedMax)
	return nil, nil
}

// has reports an error unless the message is processed.
func (n *node) has(ctx context.Context, s *said) error {
	status, err := n.statusOf(ctx, s.hash)
	if err == nil && !strings.EqualFold(status, "processed") {
		err = fmt.Errorf("%s %s is %q on %s", s.typ, s.hash, status, n.name)
	}
	return err
}
