package ipfs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// killedDir and killedArchive tell a process of this test where it takes content in,
// and from which archive.
const killedDir, killedArchive = "ALEPH_TEST_ARRIVE_DIR", "ALEPH_TEST_ARRIVE_ARCHIVE"

// killedCommit tells a process of this test where it adds a file, and ends in the middle.
const killedCommit = "ALEPH_TEST_COMMIT_DIR"

// orphaned is that file, whose blob is there when the process ends.
func orphaned() []byte { return noise(7, 3*chunk) }

// stuck is blobs that say so when one is there for good, and go no further.
type stuck struct{ ipfs.Blobs }

func (s stuck) Create() (ipfs.BlobWriter, error) {
	w, err := s.Blobs.Create()
	return stuckWriter{w}, err
}

type stuckWriter struct{ ipfs.BlobWriter }

func (w stuckWriter) Commit() error {
	if err := w.BlobWriter.Commit(); err != nil {
		return err
	}
	fmt.Println("committed")
	_, err := io.Copy(io.Discard, os.Stdin) // Which does not end before this process does.
	return err
}

// commitUntilKilled adds a file, and says so when its blob is there and its root is not.
func commitUntilKilled(dir string) error {
	log := slog.New(slog.DiscardHandler)
	b, err := blob.Open(filepath.Join(dir, "blobs"), blob.DefaultConfig(), prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	s, err := ipfs.Open(filepath.Join(dir, "ipfs"), stuck{content.Blobs(b)}, ipfs.DefaultConfig(), prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	_, err = s.Add(context.Background(), bytes.NewReader(orphaned()), ipfs.V1)
	return fmt.Errorf("ended by itself: %w", err)
}

// TestABlobThatLostItsRootGoesForRoom kills a process between a file's blob and its root. The
// blob is nobody's then: it stays while it may be on its way to somebody, is taken by who
// brings the file again, and is deleted for others that need room. What is in use stays.
func TestABlobThatLostItsRootGoesForRoom(t *testing.T) {
	dir := t.TempDir()
	before := openNode(t, dir, 8e9)
	kept := before.add(t, noise(8, chunk), ipfs.V1)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), killedCommit+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	if !said.Scan() || said.Text() != "committed" {
		t.Fatalf("the process said %q", said.Text())
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // It was killed.

	orphan := message.HashOf(orphaned())
	n := openNode(t, dir, 7*chunk+chunk/2)
	defer n.Close()
	roots := 0
	for r, err := range n.Roots(t.Context()) {
		if roots++; err != nil || r != kept {
			t.Errorf("content %s is here, %v, want %s only", r.CID, err, kept.CID)
		}
	}
	left, err := n.Leftovers()
	used, usedErr := n.Uses(orphan)
	if roots != 1 || left != 0 || used || err != nil || usedErr != nil || !n.blobs.Has(orphan) || n.blobs.Used() != 4*chunk {
		t.Fatalf("%d roots, %d entries without one, the blob is used: %t, %v, %v; %d bytes of blobs", roots, left, used, err, usedErr, n.blobs.Used())
	}
	inUse := func(hash message.ItemHash) bool {
		used, err := n.Uses(hash)
		return used || err != nil
	}
	room := func(grace time.Duration) error {
		since := time.Now().Add(-grace)
		return n.blobs.MakeRoom(5*chunk, func() (blob.Keep, error) {
			return func(hash message.ItemHash, usedAt time.Time) bool { return usedAt.After(since) || inUse(hash) }, nil
		})
	}

	if err := room(time.Hour); errs.KindOf(err) != errs.Exhausted || !n.blobs.Has(orphan) {
		t.Errorf("room while it may be on its way: %v, want none", err)
	}
	again := n.add(t, orphaned(), ipfs.V1)
	if err := room(-time.Hour); errs.KindOf(err) != errs.Exhausted || n.blobs.Used() != 4*chunk {
		t.Errorf("room after the file came again: %v, %d bytes of blobs, want no room", err, n.blobs.Used())
	}
	if _, err := n.Delete(again.CID); err != nil { // Its blob is left again.
		t.Fatal(err)
	}
	if err := room(-time.Hour); err != nil || n.blobs.Has(orphan) {
		t.Errorf("room after a while: %v, the blob is here: %t", err, n.blobs.Has(orphan))
	}
	if err := n.Verify(t.Context(), kept.CID); err != nil {
		t.Error(err)
	}
}

// arriveUntilKilled takes in block after block, says so, and never has all of them.
func arriveUntilKilled(dir, archive string) error {
	log := slog.New(slog.DiscardHandler)
	b, err := blob.Open(filepath.Join(dir, "blobs"), blob.DefaultConfig(), prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	s, err := ipfs.Open(filepath.Join(dir, "ipfs"), content.Blobs(b), ipfs.DefaultConfig(), prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	car, err := ipfs.OpenCAR(f)
	if err != nil {
		return err
	}
	blocks := map[string][]byte{}
	for {
		c, block, err := car.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		blocks[c.KeyString()] = bytes.Clone(block)
	}
	a, err := s.Arrive(context.Background(), car.Root, arriveMax)
	if err != nil {
		return err
	}
	for {
		c, ok, err := a.Next()
		if err != nil || !ok {
			return fmt.Errorf("ended by itself: %w", err)
		}
		if err := a.Put(c, blocks[c.KeyString()]); err != nil {
			return err
		}
		fmt.Println(c)
	}
}

// TestKilledArrivalsLeaveNothingToBeSeen kills a process that takes content in, at
// another moment each time. Nothing is visible afterwards, the bound counts what is
// there, and the rest is all that must come.
func TestKilledArrivalsLeaveNothingToBeSeen(t *testing.T) {
	from := newNode(t)
	want := from.addFiles(t, files{"a": string(noise(1, 100*chunk)), "b": string(noise(2, 100*chunk))}, ipfs.V1)
	archive := filepath.Join(t.TempDir(), "content.car")
	if err := os.WriteFile(archive, from.export(t, want.CID), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, lines := range []int{1, 20, 60} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killedDir+"="+dir, killedArchive+"="+archive)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for range lines {
			if !said.Scan() {
				t.Fatal("the process ended by itself")
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // It was killed.

		n := openNode(t, dir, 8e9)
		all, err := n.blobs.List()
		left, leftErr := n.Leftovers()
		if err != nil || leftErr != nil || len(all) > 0 || left > 0 {
			t.Errorf("after %d blocks: blobs %v, %d entries of the index; %v, %v", lines, all, left, err, leftErr)
		}
		for r, err := range n.Roots(t.Context()) {
			t.Errorf("content %s is here, %v", r.CID, err)
		}
		if n.blobs.Used() == 0 {
			t.Error("what came does not count")
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}

	n := openNode(t, dir, 8e9)
	defer n.Close()
	in := n.arrive(t, want.CID, arriveMax)
	count, _ := bring(t, in, from, 1<<20)
	root, err := in.Commit()
	if err != nil || root != want {
		t.Fatalf("got %+v, %v; want %+v", root, err, want)
	}
	if total := from.blocksOf(t, want.CID); count > total-81 {
		t.Errorf("%d blocks of %d came anew, and 81 had come before for sure", count, total)
	}
	if !bytes.Equal(n.export(t, root.CID), from.export(t, want.CID)) {
		t.Error("the copy is another")
	}
	n.remove(t, root)
	n.checkEmpty(t)
}
