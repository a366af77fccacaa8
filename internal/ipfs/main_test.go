package ipfs_test

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
)

// node is a store with its blobs, and where they are.
type node struct {
	*ipfs.Store
	blobs *blob.Store
	dir   string
}

func openNode(t testing.TB, dir string, maxBytes int64) node {
	t.Helper()
	b, err := blob.Open(filepath.Join(dir, "blobs"), blob.Config{MaxSizeGB: float64(maxBytes) / 1e9}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ipfs.Open(filepath.Join(dir, "ipfs"), content.Blobs(b), ipfs.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return node{Store: s, blobs: b, dir: dir}
}

func newNode(t testing.TB) node {
	t.Helper()
	n := openNode(t, t.TempDir(), 8e9)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// add adds the bytes as a file.
func (n node) add(t testing.TB, data []byte, v ipfs.Version) ipfs.Root {
	t.Helper()
	r, err := n.Add(t.Context(), bytes.NewReader(data), v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read returns the bytes of a file.
func (n node) read(t testing.TB, c cid.Cid) []byte {
	t.Helper()
	f, err := n.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// remove deletes content, and the bytes that nothing else needs.
func (n node) remove(t testing.TB, root ipfs.Root) {
	t.Helper()
	unused, err := n.Delete(root.CID)
	if err != nil {
		t.Error(err)
	}
	for _, blob := range unused {
		if _, err := n.Free(blob, func() error { return n.blobs.Delete(blob) }); err != nil {
			t.Error(err)
		}
	}
}
