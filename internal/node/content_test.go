package node_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// contentOf returns a file of IPFS content.
func contentOf(t *testing.T, n *node.Node, root ipfs.Root) []byte {
	t.Helper()
	f, err := n.Content().Open(root.CID)
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

// TestContentOutlivesRestartAndReclaim adds IPFS content to a coordinator,
// starts it again, and lets it make room. What content is made of stays, though
// no message names it, until the content is deleted.
func TestContentOutlivesRestartAndReclaim(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	cfg.Storage.MaxSizeGB = 0.001
	data := bytes.Repeat([]byte("content "), 50_000)
	n, end := begin(t, cfg)
	root, err := n.Content().Add(t.Context(), bytes.NewReader(data), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}
	end()

	n, _ = begin(t, cfg)
	waitReady(t, n)
	if got := contentOf(t, n, root); !bytes.Equal(got, data) {
		t.Errorf("after a restart the content has %d bytes, want %d", len(got), len(data))
	}
	if _, metrics := get(t, n.URL()+"/metrics"); !bytes.Contains(metrics, []byte("aleph_ipfs_index_bytes")) {
		t.Error("metrics have no aleph_ipfs_index_bytes")
	}
	loose, err := n.Blobs().Put(t.Context(), strings.NewReader(strings.Repeat("l", 400_000)), "")
	if err != nil {
		t.Fatal(err)
	}
	part := message.HashOf(data)
	used := func(hash message.ItemHash, ago time.Duration) {
		t.Helper()
		if _, err := n.Blobs().Use(hash, time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	used(part, 3*time.Hour) // It would go first.
	used(loose.Hash, 2*time.Hour)

	if err := n.Images().MakeRoom(t.Context(), 500_000); err != nil {
		t.Fatal(err)
	}

	if n.Blobs().Has(loose.Hash) || !n.Blobs().Has(part) {
		t.Errorf("the loose blob is here: %t, that of content: %t; want the latter alone", n.Blobs().Has(loose.Hash), n.Blobs().Has(part))
	}
	if err := n.Content().Verify(t.Context(), root.CID); err != nil {
		t.Errorf("after room was made: %v", err)
	}
	used(part, 3*time.Hour)
	if err := n.Images().MakeRoom(t.Context(), 900_000); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("room that only content could give: %v, want exhausted", err)
	}
	if unused, err := n.Content().Delete(root.CID); err != nil || len(unused) != 1 || unused[0] != part {
		t.Errorf("deleted content leaves %v, %v; want %s", unused, err, part)
	}
	if err := n.Images().MakeRoom(t.Context(), 900_000); err != nil {
		t.Errorf("room after content was deleted: %v", err)
	}
}

// TestWhatAMessageIsJudgedByStays: a blob that a message was just found to name, or
// to be in, is not deleted for want of room before the message pins it.
func TestWhatAMessageIsJudgedByStays(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	cfg.Storage.MaxSizeGB = 0.001
	n, _ := begin(t, cfg)
	for what, look := range map[string]func(message.ItemHash) error{
		"its file": func(hash message.ItemHash) error { _, err := n.Contents().Stat(t.Context(), hash); return err },
		"its content": func(hash message.ItemHash) error {
			_, err := n.Contents().Read(t.Context(), hash, 1_000_000)
			return err
		},
	} {
		info, err := n.Blobs().Put(t.Context(), strings.NewReader(strings.Repeat(what, 80_000)), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Blobs().Use(info.Hash, time.Now().Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}

		_ = n.Blobs().MakeRoom(500_000, func() (blob.Keep, error) {
			needed, err := node.Files(n.DB(), func(message.ItemHash) (bool, error) { return false, nil }).Needed(t.Context())
			return needed, errors.Join(err, look(info.Hash)) // The pin comes after the question.
		})

		if !n.Blobs().Has(info.Hash) {
			t.Errorf("%s was deleted while the message was judged", what)
		}
		if err := n.Blobs().Delete(info.Hash); err != nil {
			t.Fatal(err)
		}
	}
}

func TestContentThatCannotBeOpenedStopsTheStart(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	if err := os.WriteFile(filepath.Join(cfg.Node.DataDir, "ipfs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, errs.Internal, "open ipfs", cfg.Dir("ipfs"))
}

// TestContentIsMadeOfBlobsThatAreThere adds blobs to IPFS content.
func TestContentIsMadeOfBlobsThatAreThere(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	n, _ := begin(t, cfg)
	info, err := n.Blobs().Put(t.Context(), strings.NewReader("a file"), "")
	if err != nil {
		t.Fatal(err)
	}

	root, err := n.Content().AddBlob(t.Context(), info.Hash, ipfs.V0)

	if err != nil || string(contentOf(t, n, root)) != "a file" {
		t.Errorf("the content of the blob: %+v, %v", root, err)
	}
	if _, err := n.Content().AddBlob(t.Context(), message.HashOf(nil), ipfs.V0); !errors.Is(err, errs.NotFound) {
		t.Errorf("a blob that is not here: %v, want not found", err)
	}
}

// TestContentComesFromOtherCoordinators: what one coordinator keeps the other gets
// over the connection that they have, with no setting. It stays for a while though no
// message wants it yet, then it goes.
func TestContentComesFromOtherCoordinators(t *testing.T) {
	chain := chaintest.Start(t)
	first, _ := join(t, chain, config.Coordinator)
	second, _ := join(t, chain, config.Coordinator)
	a, _ := begin(t, first)
	second.Network.BootstrapPeers = a.Host().Addrs()
	b, _ := begin(t, second)
	want, err := a.Content().Add(t.Context(), bytes.NewReader(bytes.Repeat([]byte("from another node "), 100_000)), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}
	p2ptest.Wait(t, "the nodes are connected", func() bool { return len(b.Host().Connected()) > 0 })
	name := message.ItemHash(want.CID.String())

	if err := b.Contents().Fetch(t.Context(), name); err != nil {
		t.Fatal(err)
	}

	if got, err := b.Contents().Stat(t.Context(), name); err != nil || got.SizeBytes != want.Size {
		t.Errorf("it has %+v, %v; want %d bytes", got, err, want.Size)
	}
	if !bytes.Equal(contentOf(t, b, want), contentOf(t, a, want)) {
		t.Error("the copy is another")
	}
	pin, err := b.DB().Pin(t.Context(), state.GraceKey(name))
	if err != nil || pin.Kind != state.PinGrace || pin.Until.Before(time.Now()) {
		t.Errorf("it is kept by %+v, %v; want a grace period", pin, err)
	}
	if err := b.Contents().Fetch(t.Context(), "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("what nobody has: %v, want unavailable", err)
	}
}

// TestStoreOfContentElsewhereIsProcessed: a STORE names content that another node of
// the network has, a file and a directory. It is fetched, and then the message alone
// keeps it.
func TestStoreOfContentElsewhereIsProcessed(t *testing.T) {
	chain := chaintest.Start(t)
	first, _ := join(t, chain, config.Coordinator)
	second, _ := join(t, chain, config.Coordinator)
	a, _ := begin(t, first)
	second.Network.BootstrapPeers = a.Host().Addrs()
	b, _ := begin(t, second)
	waitReady(t, b)
	p2ptest.Wait(t, "the nodes are connected", func() bool { return len(b.Host().Connected()) > 0 })
	file, err := a.Content().Add(t.Context(), strings.NewReader("a file elsewhere"), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := a.Content().NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(t.Context(), "in/a/folder", strings.NewReader("in a folder elsewhere")); err != nil {
		t.Fatal(err)
	}
	folder, err := tree.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []ipfs.Root{file, folder} {
		name := message.ItemHash(want.CID.String())
		hash, raw := signed(t, "elsewhere", message.TypeStore, map[string]any{"item_type": "ipfs", "item_hash": name})

		send(t, b, raw, state.MessageProcessed)

		if err := b.Content().Verify(t.Context(), want.CID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if f, err := b.DB().FileInfo(t.Context(), name); err != nil || f.SizeBytes != want.Size || f.Directory != (want.Kind == ipfs.KindDirectory) {
			t.Errorf("%s is known as %+v, %v; want %+v", name, f, err, want)
		}
		if pin, err := b.DB().Pin(t.Context(), string(hash)); err != nil || pin.File != name {
			t.Errorf("%s is kept by %+v, %v; want its message", name, pin, err)
		}
		p2ptest.Wait(t, "nothing else keeps it", func() bool {
			_, err := b.DB().Pin(t.Context(), state.GraceKey(name))
			return errors.Is(err, errs.NotFound)
		})
	}
}
