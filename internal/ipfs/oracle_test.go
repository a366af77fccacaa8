package ipfs_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	mdtest "github.com/ipfs/boxo/ipld/merkledag/test"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// boxoFile is the CID that Kubo's own library gives a file.
func boxoFile(t testing.TB, data []byte, v ipfs.Version) cid.Cid {
	t.Helper()
	prefix, err := merkledag.PrefixForCidVersion(int(v))
	if err != nil {
		t.Fatal(err)
	}
	params := helpers.DagBuilderParams{
		Maxlinks: helpers.DefaultLinksPerBlock, RawLeaves: v == ipfs.V1, CidBuilder: prefix, Dagserv: mdtest.Mock(),
	}
	b, err := params.New(chunker.NewSizeSplitter(bytes.NewReader(data), 256<<10))
	if err != nil {
		t.Fatal(err)
	}
	nd, err := balanced.Layout(b)
	if err != nil {
		t.Fatal(err)
	}
	return nd.Cid()
}

// boxoLeaf is the file "x" as Kubo's library makes it.
func boxoLeaf(v ipfs.Version) ipld.Node {
	if v == ipfs.V1 {
		return merkledag.NewRawNode([]byte("x"))
	}
	return merkledag.NodeWithData(unixfs.FilePBData([]byte("x"), 1))
}

// TestFilesAreKubos compares with Kubo's library where a level of nodes, or
// half of one, ends.
func TestFilesAreKubos(t *testing.T) {
	n := newNode(t)
	const leaf, full = 256 << 10, 174 * (256 << 10)
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 2*full+3*leaf)
	if _, err := random.Read(data); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, leaf - 1, leaf, leaf + 1, 173 * leaf, full - 1, full, full + 1, full + leaf, full + leaf + 1, 2 * full, 2*full + 1, len(data)} {
		for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
			if got, want := n.add(t, data[:size], v).CID, boxoFile(t, data[:size], v); got != want {
				t.Errorf("%d bytes, version %d: got %s, want %s", size, v, got, want)
			}
		}
	}
}

// TestShardsAreKubos compares directories that Kubo's library sharded, some with
// shards below shards.
func TestShardsAreKubos(t *testing.T) {
	n := newNode(t)
	for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
		for _, count := range []int{1100, 7000, 20_000} {
			t.Run(fmt.Sprintf("%d names v%d", count, v), func(t *testing.T) {
				tree, err := n.NewTree(v)
				if err != nil {
					t.Fatal(err)
				}
				ds := mdtest.Mock()
				shard, err := hamt.NewShard(ds, 256)
				if err != nil {
					t.Fatal(err)
				}
				prefix, err := merkledag.PrefixForCidVersion(int(v))
				if err != nil {
					t.Fatal(err)
				}
				shard.SetCidBuilder(prefix)
				name := func(i int) string { return fmt.Sprintf("%d%s", i, strings.Repeat("n", 220*1100/count)) }
				leaf := boxoLeaf(v)
				for i := range count {
					if err := tree.Add(t.Context(), name(i), strings.NewReader("x")); err != nil {
						t.Fatal(err)
					}
					if err := shard.Set(context.WithoutCancel(t.Context()), name(i), leaf); err != nil {
						t.Fatal(err)
					}
				}
				want, err := shard.Node()
				if err != nil {
					t.Fatal(err)
				}
				got, err := tree.Commit()
				if err != nil {
					t.Fatal(err)
				}
				if got.CID != want.Cid() {
					t.Errorf("got %s, want %s", got.CID, want.Cid())
				}
				var names []string
				err = n.List(t.Context(), got.CID, func(e ipfs.Entry) error {
					names = append(names, e.Name)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(names)
				if names = slices.Compact(names); len(names) != count {
					t.Errorf("listed %d names, want %d", len(names), count)
				}
				if c, err := n.Resolve(t.Context(), got.CID.String()+"/"+name(count/2)); err != nil || c != leaf.Cid() {
					t.Errorf("resolve: %s, %v", c, err)
				}
			})
		}
	}
}
