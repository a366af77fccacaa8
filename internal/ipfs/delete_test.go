package ipfs_test

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestDeleteTakesNothingFromOthers deletes content that shares blocks and blobs
// with other content, and then deletes the other.
func TestDeleteTakesNothingFromOthers(t *testing.T) {
	n := newNode(t)
	data := noise(5, 200*chunk)
	blob := message.HashOf(data)
	v0, v1 := n.add(t, data, ipfs.V0), n.add(t, data, ipfs.V1)
	part := n.add(t, data[:180*chunk], ipfs.V1) // Its first 174 leaves and their node are v1's too.
	dir := n.addFiles(t, files{"same": string(data), "other": "x"}, ipfs.V1)

	unused, err := n.Delete(v1.CID)
	if err != nil || len(unused) != 0 {
		t.Errorf("deleted v1: blobs %v, %v; v0 needs its blob", unused, err)
	}
	if _, err := n.Root(v1.CID); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the deleted root: %v, want not found", err)
	}
	for _, r := range []ipfs.Root{v0, part, dir} {
		if err := n.Verify(t.Context(), r.CID); err != nil {
			t.Errorf("what stays: %v", err)
		}
	}
	if used, err := n.Uses(blob); err != nil || !used {
		t.Errorf("the blob is in use: %t, %v", used, err)
	}
	unused, err = n.Delete(v0.CID)
	if err != nil || !slices.Equal(unused, []message.ItemHash{blob}) {
		t.Errorf("deleted v0: blobs %v, %v; want %s", unused, err, blob)
	}
	if used, err := n.Uses(blob); err != nil || used {
		t.Errorf("the blob is in use: %t, %v", used, err)
	}
	if unused, err = n.Delete(v0.CID); err != nil || len(unused) != 0 {
		t.Errorf("deleted again: %v, %v", unused, err)
	}
	for _, r := range []ipfs.Root{part, dir} {
		unused, err := n.Delete(r.CID)
		if err != nil || len(unused) != 1 {
			t.Errorf("deleted %s: %v, %v", r.CID, unused, err)
		}
		for _, blob := range unused {
			if err := n.blobs.Delete(blob); err != nil {
				t.Error(err)
			}
		}
	}
	if err := n.blobs.Delete(blob); err != nil {
		t.Error(err)
	}
	n.isEmpty(t)
	if has, err := n.Has(part.CID); err != nil || has {
		t.Errorf("a deleted block is there: %t, %v", has, err)
	}
}

func TestRotIsFound(t *testing.T) {
	n := newNode(t)
	data := noise(6, 400*chunk)
	root := n.add(t, data, ipfs.V0)
	path, err := n.blobs.Path(message.HashOf(data))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{^data[100*chunk+5]}, 100*chunk+5); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	err = n.Verify(t.Context(), root.CID)
	if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), string(message.HashOf(data))) {
		t.Errorf("a bit that flipped: %v, want an internal error that names the blob", err)
	}
	file, err := n.Open(root.CID)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	if read, err := file.WriteTo(&out); read != 100*chunk || errs.KindOf(err) != errs.Internal {
		t.Errorf("read %d bytes, %v; want what is before the bad leaf, then an error", read, err)
	}

	// A second copy, in another pack and blob, serves instead.
	n.add(t, data[:300*chunk], ipfs.V0)
	if err := n.Verify(t.Context(), root.CID); err != nil {
		t.Errorf("with a second copy: %v", err)
	}

	whole := n.add(t, noise(8, 2*chunk), ipfs.V1)
	if err := n.Rot(whole.CID); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Stat(whole.CID); errs.KindOf(err) != errs.Internal {
		t.Errorf("a node in the index that rotted: %v, want internal", err)
	}
}

// TestDeletedMeanwhileIsNotRot deletes content between the look into the index
// and the read.
func TestDeletedMeanwhileIsNotRot(t *testing.T) {
	b, err := blob.Open(t.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	hooked := &brokenBlobs{Blobs: content.Blobs(b)}
	reg := prometheus.NewRegistry()
	s, err := ipfs.Open(t.TempDir(), hooked, ipfs.DefaultConfig(), reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n := node{Store: s, blobs: b}
	defer n.Close()
	root := n.add(t, []byte("read and deleted"), ipfs.V0)
	hooked.opening = func() { n.remove(t, root) }

	_, err = n.Block(root.CID)

	if errs.KindOf(err) != errs.NotFound {
		t.Errorf("a block that was deleted meanwhile: %v, want not found", err)
	}
	if count := rotten(t, reg); count != 0 {
		t.Errorf("%g rotten blocks were counted, want 0", count)
	}
}

// rotten returns how many rotten blocks the metrics tell of.
func rotten(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "aleph_ipfs_rotten_blocks_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("no metric of rotten blocks")
	return 0
}

// TestAddsOfTheSameContentMeet adds and deletes the same content from many
// sides at once.
func TestAddsOfTheSameContentMeet(t *testing.T) {
	n := newNode(t)
	data := noise(2, 3*chunk+1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				root, err := n.Add(t.Context(), bytes.NewReader(data), ipfs.V0)
				if err != nil {
					t.Error(err)
					return
				}
				if i%4 == 3 {
					n.remove(t, root)
				}
			}
		})
	}
	wg.Wait()
	root := n.add(t, data, ipfs.V0)
	if !bytes.Equal(n.read(t, root.CID), data) {
		t.Error("the content is damaged")
	}
	if left, err := n.Leftovers(); err != nil || left != 0 {
		t.Errorf("%d entries without a root, %v", left, err)
	}
	if _, err := n.Delete(root.CID); err != nil {
		t.Error(err)
	}
	if used, err := n.Uses(message.HashOf(data)); err != nil || used {
		t.Errorf("the blob is still in use: %t, %v", used, err)
	}
}
