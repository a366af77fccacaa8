//go:build e2e

package messages_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// roomy is more than the node keeps in reserve; only what is written takes
	// memory.
	roomy = 16 << 30
	// slack is what is left when the disk is about to be full.
	slack = 1 << 20
)

// small mounts a disk of its own and returns where, and how to change its size.
func small(t *testing.T) (dir string, resize func(size uint64)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small disk needs a mount, and that needs root; internal/state fills one without")
	}
	dir = t.TempDir()
	mount := func(flags uintptr, size uint64) {
		t.Helper()
		if err := unix.Mount("aleph-e2e", dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
			t.Fatalf("mount a small disk: %v", err)
		}
	}
	mount(0, roomy)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir, func(size uint64) { t.Helper(); mount(unix.MS_REMOUNT, size) }
}

// used is how much of a disk is.
func used(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
}

// TestFullDiskRefusesMessages lets the disk run full while messages come in, looks
// at what is there, kills the node, and makes room.
func TestFullDiskRefusesMessages(t *testing.T) {
	dir, resize := small(t)
	w := &world{options: state.Options{Dir: dir + "/current"}, owner: newDev(t, dir, "")}
	w.owner.start(t)
	t.Cleanup(func() { w.owner.kill(t) })
	w.owner.waitReady(t)
	keys, err := node.DevKeys(clientsMax)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		w.clients = append(w.clients, newClient(k, *seed+uint64(i)))
	}
	w.until(t, "messages are taken in", func(c *client) bool { return len(c.stores) > 0 })

	resize(used(t, dir) + slack)
	w.until(t, "all are refused for want of room", func(c *client) bool { return c.refusedFor("the disk that holds") >= 5 })

	w.verify(t, w.owner.url)
	w.refusals(t)
	w.owner.kill(t)
	resize(roomy)
	w.owner.start(t)
	w.owner.waitReady(t)
	w.verify(t, w.owner.url)

	// It goes on by itself, too.
	resize(used(t, dir) + slack)
	for _, c := range w.clients {
		c.refused = map[string]int{}
	}
	w.until(t, "all are refused again", func(c *client) bool { return c.refusedFor("the disk that holds") >= 5 })
	w.refusals(t)
	resize(roomy)
	before := map[*client]int{}
	for _, c := range w.clients {
		before[c] = len(c.stores)
	}
	w.until(t, "messages are taken in again", func(c *client) bool { return len(c.stores) > before[c] })
	w.verify(t, w.owner.url)
}

// until lets all clients send until something holds for each of them.
func (w *world) until(t *testing.T, what string, holds func(*client) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyMax)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range w.clients {
		wg.Go(func() {
			for !holds(c) && ctx.Err() == nil {
				c.once(ctx, w.owner.url)
			}
			if ctx.Err() != nil {
				t.Errorf("%v long not: %s: %v", readyMax, what, c.refused)
			}
		})
	}
	wg.Wait()
}

// refusedFor is how many requests were refused with a text.
func (c *client) refusedFor(text string) (n int) {
	for answer, times := range c.refused {
		if strings.Contains(answer, text) {
			n += times
		}
	}
	return n
}

// refusals checks that clients were told why they were refused.
func (w *world) refusals(t *testing.T) {
	t.Helper()
	for _, c := range w.clients {
		for answer := range c.refused {
			said := strings.Contains(answer, "full") || strings.Contains(answer, "room") || strings.Contains(answer, "space")
			if strings.HasPrefix(answer, fmt.Sprint(http.StatusInternalServerError)) || !said {
				t.Errorf("for want of room the answer is %q, want the reason", answer)
			}
		}
	}
}
