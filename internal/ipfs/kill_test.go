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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
)

// killedDir and killedArchive tell a process of this test where it takes content in,
// and from which archive.
const killedDir, killedArchive = "ALEPH_TEST_ARRIVE_DIR", "ALEPH_TEST_ARRIVE_ARCHIVE"

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
