//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	// roomy is the size of a node's disk at first: more than it keeps in
	// reserve. Only what is written takes memory.
	roomy = 16 << 30
	// slack is what the database may need while the disk is full for files.
	slack = 24 << 20
)

// TestDiskFullIsToldAndRecoversFrom lets the disk of a compute node run full
// before an image has come, then before it is unpacked, then makes room.
func TestDiskFullIsToldAndRecoversFrom(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small disk needs a mount, and that needs root; TestStorageQuota fills a node without")
	}
	disk := filepath.Join(t.TempDir(), "compute-1")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("aleph-e2e", disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", roomy)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(disk, 0); err != nil {
				t.Errorf("unmount: %v", errors.Join(err, unix.Unmount(disk, unix.MNT_DETACH)))
			}
		}
	}
	t.Cleanup(unmount)
	n := startNetwork(t, devnet.Options{DataDir: filepath.Dir(disk)})
	t.Cleanup(func() {
		// The disk goes before the test looks for what is left.
		if err := n.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop network: %v", err)
		}
		checkNoMachineLeft(t, n.Nodes[1])
		unmount()
	})
	u, host, image := n.user(t, enough, enough), n.Nodes[1], n.imageHash(t)
	pid, err := n.PID(host.Name)
	if err != nil {
		t.Fatal(err)
	}

	resize(t, disk, usedOf(t, disk)+slack)
	j, err := n.open(t, u, n.small("full"), host.NodeID)
	if err != nil {
		t.Fatal(err)
	}

	n.waitsForRoom(t, j.Spec, state.VMFetching, "the disk is full, make room on it")
	eventually(t, "nothing of the image is left between two tries", func() error { return noBlobs(host) })

	resize(t, disk, usedOf(t, disk)+n.imageBytes(t)+slack)

	n.waitsForRoom(t, j.Spec, state.VMPreparing, "the disk is full, make room on it")
	if hash := message.HashOf(readFile(t, blobPath(host, image))); hash != image {
		t.Errorf("the image that came hashes to %s, want %s", hash, image)
	}
	eventually(t, "nothing half unpacked is left between two tries", func() error {
		return errors.Join(empty(host.DataDir, "images", string(image)), empty(host.DataDir, "images", ".unpack", "image"), empty(machineDir(host, j.Spec)))
	})
	if now, err := n.PID(host.Name); err != nil || now != pid {
		t.Errorf("the node is process %d (%v), was %d: it ended", now, err, pid)
	}
	if started := n.starts(t, j.Spec); len(started) > 0 {
		t.Errorf("the job is billed as %+v without a machine", started)
	}

	resize(t, disk, roomy)

	m := n.running(t, j.Spec)
	if m.Host.NodeID != host.NodeID {
		t.Errorf("the machine runs on %s, want %s", m.Host.Name, host.Name)
	}
	n.checkReceipt(t, n.stop(t, u, j.Spec))
	if now, err := n.PID(host.Name); err != nil || now != pid {
		t.Errorf("the node is process %d (%v), was %d: it ended", now, err, pid)
	}
}

// TestStorageQuota gives a compute node less room for files than the image
// takes, and then more. It needs no mount, so it runs without root too.
func TestStorageQuota(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	u, host := n.user(t, enough, enough), n.Nodes[2]
	bytes := n.imageBytes(t)
	n.reconfigure(t, host, "[storage]\nmax_size_gb = "+gigabytes(bytes-1)+"\n", "")
	j, err := n.open(t, u, n.small("quota"), host.NodeID)
	if err != nil {
		t.Fatal(err)
	}

	n.waitsForRoom(t, j.Spec, state.VMFetching, fmt.Sprintf("blob store is full: 0 of %d bytes used", bytes-1),
		fmt.Sprintf("%d more needed", bytes), "raise [storage] max_size_gb or delete blobs")
	if err := noBlobs(host); err != nil {
		t.Error(err)
	}

	n.reconfigure(t, host, gigabytes(bytes-1), gigabytes(bytes))

	if m := n.running(t, j.Spec); m.Host.NodeID != host.NodeID {
		t.Errorf("the machine runs on %s, want %s", m.Host.Name, host.Name)
	}
	n.checkReceipt(t, n.stop(t, u, j.Spec))
}

// waitsForRoom waits until the user of a job is told, while its machine is in
// the state, what is full, what to do, and what happens next.
func (n *network) waitsForRoom(t *testing.T, spec message.ItemHash, in state.VMState, words ...string) {
	t.Helper()
	eventually(t, "the user is told that there is no room", func() error {
		j, err := n.node.Job(t.Context(), spec)
		if err != nil {
			return err
		}
		if j.Status != aleph.JobAssigned || j.VM == nil || j.VM.State != string(in) {
			return fmt.Errorf("job is %s (%s), machine %+v", j.Status, j.StatusReason, j.VM)
		}
		for _, want := range append(words, "tried again at ") {
			if !strings.Contains(j.VM.Detail, want) {
				return fmt.Errorf("machine is %s: %s", j.VM.State, j.VM.Detail)
			}
		}
		return nil
	})
}

// imageBytes is the length of the guest image's file.
func (n *network) imageBytes(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(blobPath(n.Nodes[0], n.imageHash(t)))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func gigabytes(bytes int64) string { return fmt.Sprintf("%.9f", float64(bytes)/1e9) }

// reconfigure changes a node's settings and starts it anew by killing it: text
// takes the place of old, or is added when there is no old.
func (n *network) reconfigure(t *testing.T, node devnet.Node, old, text string) {
	t.Helper()
	path := filepath.Join(node.DataDir, "config.toml")
	config := string(readFile(t, path))
	if text == "" {
		config += "\n" + old
	} else {
		if !strings.Contains(config, old) {
			t.Fatalf("%s has no %q", path, old)
		}
		config = strings.Replace(config, old, text, 1)
	}
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	n.ready(t, node.Name)
}

// usedOf is how many bytes of a disk are taken.
func usedOf(t *testing.T, disk string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(disk, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

// resize gives a disk another size.
func resize(t *testing.T, disk string, bytes int64) {
	t.Helper()
	if err := unix.Mount("aleph-e2e", disk, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatalf("give the disk %d bytes: %v", bytes, err)
	}
}

// empty reports a directory that has something in it.
func empty(path ...string) error {
	dir := filepath.Join(path...)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s has %v", dir, entries)
	}
	return err
}
