//go:build e2e

package e2e_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// TestImageCorruptedAtItsSourceIsRefusedAndAnotherTried corrupts the image at
// both nodes that have it, then mends it at the one that is asked last.
func TestImageCorruptedAtItsSourceIsRefusedAndAnotherTried(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	u := n.user(t, enough, enough)
	coordinator, taker, other := n.Nodes[0], n.Nodes[1], n.Nodes[2]
	image := n.imageHash(t)
	first, err := n.open(t, u, n.small("first"), other.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	// A node that still has to unpack its copy would see that it has rotted.
	eventually(t, other.Name+" has the image too, and unpacked it", func() error {
		_, err := os.Stat(filepath.Join(other.DataDir, "images", string(image), "manifest.json"))
		return err
	})
	sources := n.asked(t, coordinator, other)
	for _, node := range sources {
		flip(t, blobPath(node, image))
	}

	second, err := n.open(t, u, n.small("second"), taker.NodeID)
	if err != nil {
		t.Fatal(err)
	}

	var told string
	eventually(t, "the user is told that no source is good", func() error {
		j, err := n.node.Job(t.Context(), second.Spec)
		if err != nil {
			return err
		}
		if j.VM == nil || j.VM.State != string(state.VMFetching) || !strings.Contains(j.VM.Detail, "2 peers and servers asked, none gave it") ||
			strings.Count(j.VM.Detail, "hash to") != len(sources) || !strings.Contains(j.VM.Detail, "tried again at") {
			return fmt.Errorf("machine is %+v", j.VM)
		}
		told = j.VM.Detail
		return nil
	})
	for _, node := range sources {
		if id := n.peerID(t, node); !strings.Contains(told, id) {
			t.Errorf("the user is told %q, want %s (%s) named", told, node.Name, id)
		}
	}
	eventually(t, "nothing of the image is left between two tries", func() error { return noBlobs(taker) })
	if started := n.starts(t, second.Spec); len(started) > 0 || len(hypervisors(t, machineDir(taker, second.Spec))) > 0 {
		t.Errorf("the job is billed as %+v without an image", started)
	}
	refusals := metric(t, taker, `aleph_storage_fetches_total{outcome="corrupt"}`)
	if refusals < float64(len(sources)) {
		t.Errorf("the metrics count %g refusals, want one of each source at least", refusals)
	}
	for _, node := range sources {
		n.wantDropped(t, taker, image, node)
	}

	flip(t, blobPath(sources[1], image))
	m := n.running(t, second.Spec)

	if m.Host.NodeID != taker.NodeID {
		t.Errorf("the machine runs on %s, want %s", m.Host.Name, taker.Name)
	}
	log := readFile(t, taker.DataDir, "node.log")
	fetched := []byte(`msg="fetched blob" part=storage item_hash=` + string(image))
	at := bytes.Index(log, fetched)
	if at < 0 || !strings.Contains(strings.SplitN(string(log[at:]), "\n", 2)[0], n.peerID(t, sources[1])) {
		t.Errorf("the log does not say that the image came from %s", sources[1].Name)
	}
	if now := metric(t, taker, `aleph_storage_fetches_total{outcome="corrupt"}`); now <= refusals {
		t.Errorf("the metrics count %g refusals, as before: the corrupt source was not asked again", now)
	}
	if hash := message.HashOf(readFile(t, blobPath(taker, image))); hash != image {
		t.Errorf("the image that was taken hashes to %s, want %s", hash, image)
	}
	n.stop(t, u, second.Spec)
	n.running(t, first.Spec)
	n.checkReceipt(t, n.stop(t, u, first.Spec))
}

// imageHash is the hash of the guest image's file.
func (n *network) imageHash(t *testing.T) message.ItemHash {
	t.Helper()
	db, err := sql.Open("sqlite", database(n.Nodes[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var hash message.ItemHash
	if err := db.QueryRowContext(t.Context(), "SELECT file FROM pins WHERE pk = ?", string(n.image)).Scan(&hash); err != nil {
		t.Fatalf("find the file of the image: %v", err)
	}
	return hash
}

// blobPath is where a node keeps a file.
func blobPath(node devnet.Node, hash message.ItemHash) string {
	return filepath.Join(node.DataDir, "blobs", "objects", string(hash[:2]), string(hash))
}

// noBlobs reports any file in a node's storage, whole or not.
func noBlobs(node devnet.Node) error {
	return filepath.WalkDir(filepath.Join(node.DataDir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // It has just gone.
		}
		if err == nil && !d.IsDir() {
			err = fmt.Errorf("%s is there", path)
		}
		return err
	})
}

// flip inverts a byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] = ^b[0]
	if _, err := f.WriteAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// peerID is the name of a node among peers.
func (n *network) peerID(t *testing.T, node devnet.Node) string {
	t.Helper()
	client, err := aleph.New(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	info, err := client.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.PeerID
}

// asked puts nodes in the order in which a third one asks them for a file.
func (n *network) asked(t *testing.T, nodes ...devnet.Node) []devnet.Node {
	t.Helper()
	ids := map[string]string{}
	for _, node := range nodes {
		ids[node.Name] = n.peerID(t, node)
	}
	slices.SortFunc(nodes, func(a, b devnet.Node) int { return strings.Compare(ids[a.Name], ids[b.Name]) })
	return nodes
}

// wantDropped wants the log of a node to say that it refused a file from
// another.
func (n *network) wantDropped(t *testing.T, node devnet.Node, hash message.ItemHash, source devnet.Node) {
	t.Helper()
	id := n.peerID(t, source)
	for line := range bytes.Lines(readFile(t, node.DataDir, "node.log")) {
		if bytes.Contains(line, []byte(`msg="source dropped"`)) && bytes.Contains(line, []byte("item_hash="+string(hash)+" peer="+id)) &&
			bytes.Contains(line, []byte("bytes hash to")) {
			return
		}
	}
	t.Errorf("the log of %s does not say that %s sent other bytes", node.Name, source.Name)
}
