package ipfs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	chunker "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	mdtest "github.com/ipfs/boxo/ipld/merkledag/test"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/boxo/ipld/unixfs/importer/trickle"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// varint is a number as archives write it.
func varint(v int) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// sized puts the length before what it is the length of.
func sized(b []byte) []byte { return append(varint(len(b)), b...) }

// carHeader is the header of an archive with these roots.
func carHeader(version byte, roots ...cid.Cid) []byte {
	h := append([]byte{0xa2, 0x65}, "roots"...)
	h = append(h, 0x80|byte(len(roots)))
	for _, r := range roots {
		h = append(h, 0xd8, 42, 0x58, byte(r.ByteLen()+1), 0)
		h = append(h, r.Bytes()...)
	}
	h = append(append(h, 0x67), "version"...)
	return sized(append(h, version))
}

func section(c cid.Cid, data []byte) []byte {
	return sized(append(c.Bytes(), data...))
}

// car is an archive of the nodes with the first as root.
func car(nodes ...ipld.Node) []byte {
	out := carHeader(1, nodes[0].Cid())
	for _, n := range nodes {
		out = append(out, section(n.Cid(), n.RawData())...)
	}
	return out
}

func (n node) addCAR(t testing.TB, raw []byte) (ipfs.Root, error) {
	t.Helper()
	c, err := ipfs.OpenCAR(bytes.NewReader(raw))
	if err != nil {
		return ipfs.Root{}, err
	}
	return n.AddCAR(t.Context(), c)
}

func (n node) export(t testing.TB, c cid.Cid) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := n.Export(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func raw(data string) ipld.Node { return merkledag.NewRawNode([]byte(data)) }

// pb is a node with UnixFS data and children, by "name" of their place.
func pb(t testing.TB, data []byte, children ...ipld.Node) *merkledag.ProtoNode {
	t.Helper()
	n := merkledag.NodeWithData(data)
	if err := n.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.SHA2_256}); err != nil {
		t.Fatal(err)
	}
	for i, c := range children {
		if err := n.AddNodeLink(fmt.Sprintf("%03d", i), c); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestArchivesGoAround(t *testing.T) {
	a, b := newNode(t), newNode(t)
	roots := []ipfs.Root{
		a.add(t, nil, ipfs.V0), a.add(t, []byte("x"), ipfs.V1), a.add(t, noise(4, 180*chunk+5), ipfs.V0),
		a.addFiles(t, goldenDirectories()["nested_dir"], ipfs.V0), a.addFiles(t, goldenDirectories()["hamt_long_names"], ipfs.V1),
		a.addFiles(t, files{}, ipfs.V1),
	}
	for _, want := range roots {
		archive := a.export(t, want.CID)
		got, err := b.addCAR(t, archive)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", want.CID, got, err, want)
			continue
		}
		if !bytes.Equal(b.export(t, got.CID), archive) {
			t.Errorf("%s: the archive of the copy is another", want.CID)
		}
		if again, err := b.addCAR(t, archive); err != nil || again != got {
			t.Errorf("%s added again: %+v, %v", want.CID, again, err)
		}
	}
	for _, r := range roots {
		unused, err := b.Delete(r.CID)
		if err != nil {
			t.Error(err)
		}
		for _, blob := range unused {
			if err := b.blobs.Delete(blob); err != nil {
				t.Error(err)
			}
		}
	}
	b.isEmpty(t)
}

// TestOtherLayoutsAreRead takes files that are cut and laid out as Kubo does it
// only when asked.
func TestOtherLayoutsAreRead(t *testing.T) {
	n := newNode(t)
	data := noise(11, 3<<20)
	ctx := context.WithoutCancel(t.Context())
	for _, rawLeaves := range []bool{false, true} {
		ds := mdtest.Mock()
		params := helpers.DagBuilderParams{Maxlinks: 5, RawLeaves: rawLeaves, CidBuilder: cid.V0Builder{}, Dagserv: ds}
		b, err := params.New(chunker.NewRabin(bytes.NewReader(data), 20_000))
		if err != nil {
			t.Fatal(err)
		}
		root, err := trickle.Layout(b)
		if err != nil {
			t.Fatal(err)
		}
		nodes := []ipld.Node{root}
		for i := 0; i < len(nodes); i++ {
			for _, l := range nodes[i].Links() {
				child, err := ds.Get(ctx, l.Cid)
				if err != nil {
					t.Fatal(err)
				}
				nodes = append(nodes, child)
			}
		}
		got, err := n.addCAR(t, car(nodes...))
		if err != nil || got.Size != int64(len(data)) || got.Kind != ipfs.KindFile {
			t.Fatalf("raw leaves %t: %+v, %v", rawLeaves, got, err)
		}
		if !bytes.Equal(n.read(t, got.CID), data) {
			t.Error("the file came back changed")
		}
		f, err := n.Open(got.CID)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, at := range []int64{2 << 20, 5, 3<<20 - 1, 1 << 20} {
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1)
			if _, err := io.ReadFull(f, p); err != nil || p[0] != data[at] {
				t.Errorf("byte %d: %v, %v", at, p, err)
			}
		}
	}
}

func TestIdentityCIDs(t *testing.T) {
	n := newNode(t)
	identity := func(codec uint64, data []byte) cid.Cid {
		hash, err := mh.Sum(data, mh.IDENTITY, -1)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(codec, hash)
	}
	small := identity(cid.Raw, []byte("small"))
	dir := pb(t, unixfs.FolderPBData())
	if err := dir.AddRawLink("small.txt", &ipld.Link{Cid: small, Size: 5}); err != nil {
		t.Fatal(err)
	}
	root, err := n.addCAR(t, car(dir))
	if err != nil {
		t.Fatalf("a link that holds its block: %v", err)
	}
	if got := n.readFiles(t, root.CID); got["small.txt"] != "small" {
		t.Errorf("read %q", got)
	}
	if _, err := n.addCAR(t, n.export(t, root.CID)); err != nil {
		t.Errorf("its archive: %v", err)
	}
	lie := append(car(dir), section(small, []byte("other"))...)
	if _, err := n.addCAR(t, lie); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an identity CID with another block: %v, want invalid", err)
	}
	huge := identity(cid.Raw, make([]byte, 129))
	if _, err := n.addCAR(t, append(car(dir), section(huge, make([]byte, 129))...)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an identity CID of 129 bytes: %v, want invalid", err)
	}
	// The root itself, with a link below to what is missing.
	inner := pb(t, unixfs.FolderPBData(), raw("missing"))
	if _, err := n.addCAR(t, carHeader(1, identity(cid.DagProtobuf, inner.RawData()))); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "missing") {
		t.Errorf("an identity root without its child: %v, want invalid and missing", err)
	}
}

func TestBadHeaders(t *testing.T) {
	x, y := raw("x").Cid(), raw("y").Cid()
	tests := []struct {
		name, want string
		raw        []byte
	}{
		{"nothing", "malformed varint", nil},
		{"half a number", "malformed varint: truncated", []byte{0x80}},
		{"a number without end", "malformed varint: exceeds", bytes.Repeat([]byte{0xff}, 12)},
		{"a header too long", fmt.Sprintf("header exceeds maximum size (%d > 8192)", ipfs.HeaderMax+1), append(varint(ipfs.HeaderMax+1), make([]byte, ipfs.HeaderMax+1)...)},
		{"a header of terabytes", "header exceeds maximum size", varint(1 << 45)},
		{"half a header", "truncated header", carHeader(1, x)[:20]},
		{"no roots", "expected exactly 1 root, got 0", carHeader(1)},
		{"two roots", "expected exactly 1 root, got 2", carHeader(1, x, y)},
		{"version 2", "unsupported CAR version (got 2, expected 1)", carHeader(2, x)},
		{"the version of CARv2 files", "unsupported CAR version (got 2, expected 1)", append([]byte{0x0a, 0xa1, 0x67}, "version\x02"...)},
		{"roots missing", "malformed DAG-CBOR header: roots is not a list", append([]byte{0x0a, 0xa1, 0x67}, "version\x01"...)},
		{"roots of another type", "malformed DAG-CBOR header: roots is not a list", sized(append(append([]byte{0xa2, 0x65}, "roots\x01\x67"...), "version\x01"...))},
		{"version missing", "unsupported CAR version (got None, expected 1)", bytes.Replace(carHeader(1, x), []byte("version"), []byte("another"), 1)},
		{"no map", "malformed DAG-CBOR header: not a map", sized([]byte{0x80})},
		{"empty", "malformed DAG-CBOR header", sized(nil)},
		{"lengths without end", "indefinite lengths", sized([]byte{0xbf, 0xff})},
		{"a map that lies", "truncated value", sized([]byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
		{"a deep value", "nested deeper", sized(append([]byte{0xa1, 0x61, 'a'}, bytes.Repeat([]byte{0x81}, 100)...))},
		{"a large array", "malformed DAG-CBOR header", sized([]byte{0xa1, 0x61, 'a', 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
		{"bytes after it", "after its end", func() []byte {
			h := carHeader(1, x)
			return append(append(varint(len(h)), h[1:]...), 0)
		}()},
		{"a root with another tag", "unexpected tag 43", bytes.Replace(carHeader(1, x), []byte{0xd8, 42}, []byte{0xd8, 43}, 1)},
		{"a root without prefix", "missing identity multibase prefix", bytes.Replace(carHeader(1, x), []byte{37, 0, 1}, []byte{37, 1, 1}, 1)},
		{"a root of bytes alone", "malformed root CID: it has no tag", sized(append(append([]byte{0xa2, 0x65}, "roots\x81\x41x\x67"...), "version\x01"...))},
		{"a root that is no CID", "malformed root CID", bytes.Replace(carHeader(1, x), []byte{0, 1, 0x55, 0x12}, []byte{0, 9, 0x55, 0x12}, 1)},
		{"a root of another codec", "codec 0x71 is not supported", carHeader(1, cid.NewCidV1(cid.DagCBOR, x.Hash()))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ipfs.OpenCAR(bytes.NewReader(test.raw))
			if errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v, want invalid with %q", err, test.want)
			}
		})
	}
	broken := errors.New("cable pulled")
	if _, err := ipfs.OpenCAR(iotest.ErrReader(broken)); !errors.Is(err, broken) || errs.KindOf(err) == errs.Invalid {
		t.Errorf("a reader that fails: %v, want its error", err)
	}
	odd := append([]byte{0xa3, 0x61, 'z', 0xa1, 0x61, 'k', 0x82, 0x20, 0x43, 1, 2, 3}, carHeader(1, x)[2:]...)
	if c, err := ipfs.OpenCAR(bytes.NewReader(sized(odd))); err != nil || c.Root != x {
		t.Errorf("a header with a key more: %v", err)
	}
}

func TestBadArchives(t *testing.T) {
	x, y := raw("x"), raw("y")
	dir := pb(t, unixfs.FolderPBData(), x, y)
	file := func(sizes ...uint64) *merkledag.ProtoNode {
		data := unixfs.NewFSNode(unixfs.TFile)
		for _, s := range sizes {
			data.AddBlockSize(s)
		}
		b, err := data.GetBytes()
		if err != nil {
			t.Fatal(err)
		}
		return pb(t, b, x, y)
	}
	deep := func(levels int) []ipld.Node {
		nodes := []ipld.Node{x}
		for range levels - 1 {
			nodes = append([]ipld.Node{pb(t, unixfs.FolderPBData(), nodes[0])}, nodes...)
		}
		return nodes
	}
	cbor := cid.NewCidV1(cid.DagCBOR, x.Cid().Hash())
	sum512, err := mh.Sum([]byte("x"), mh.SHA2_512, -1)
	if err != nil {
		t.Fatal(err)
	}
	withLink := func(c cid.Cid) ipld.Node {
		n := pb(t, unixfs.FolderPBData())
		if err := n.AddRawLink("l", &ipld.Link{Cid: c}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	good := car(dir, x, y)
	long := raw(strings.Repeat("l", ipfs.BlockMax+1))
	tests := []struct {
		name, want string
		raw        []byte
	}{
		{"a block missing", "missing from the archive", car(dir, x)},
		{"the root missing", "missing from the archive", carHeader(1, dir.Cid())},
		{"only others", "missing from the archive", append(carHeader(1, dir.Cid()), car(x, y)[len(carHeader(1, x.Cid())):]...)},
		{"a root with much beside it", "bytes of blocks that its root does not lead to", car(x, y, raw("z"))},
		{"a wrong hash", "does not hash to its CID", append(good, section(raw("z").Cid(), []byte("y"))...)},
		{"a bad length", "malformed varint", append(bytes.Clone(good), bytes.Repeat([]byte{0x80}, 11)...)},
		{"an end in a length", "malformed varint: truncated", append(bytes.Clone(good), 0x80)},
		{"an end in a block", "truncated block", good[:len(good)-1]},
		{"an end in a CID", "truncated block", good[:len(good)-20]},
		{"an empty section", "malformed CID", append(bytes.Clone(good), 0)},
		{"a block of terabytes", "want at most", append(bytes.Clone(good), append(varint(1<<45), append(x.Cid().Bytes(), make([]byte, 200)...)...)...)},
		{"a block too long", "want at most 2097152", car(dir, x, y, long)},
		{"an unknown codec", "codec 0x71 is not supported", append(bytes.Clone(good), section(cbor, []byte("x"))...)},
		{"an unknown hash", "hash function 0x13", append(bytes.Clone(good), section(cid.NewCidV1(cid.Raw, sum512), []byte("x"))...)},
		{"a link of an unknown codec", "codec 0x71 is not supported", car(withLink(cbor))},
		{"a node without UnixFS", "no UnixFS", car(pb(t, nil, x), x)},
		{"a node of nonsense", "no UnixFS node", car(pb(t, []byte("\xff\xff")), x)},
		{"an unknown kind of node", "unixfs type 3", car(pb(t, []byte{8, 3}))},
		{"a file of too many bytes", "claims", car(pb(t, []byte{8, 2, 0x18, 9}))},
		{"a file whose parts are longer", "want 2 bytes", car(file(2, 1), x, y)},
		{"a file with a size too few", "1 block sizes", car(file(1), x, y)},
		{"a file beyond the largest", "a file longer than", car(file(1<<44, 1), x, y)},
		{"a file of folders", "want 1 bytes of a file", car(func() ipld.Node {
			b := []byte{8, 2, 0x18, 1, 0x20, 1}
			return pb(t, b, dir)
		}(), dir, x, y)},
		{"a chain too deep", "blocks deep", car(deep(ipfs.DepthMax + 1)...)},
		{"a shard of another hash", "hash function is 0x12", car(pb(t, []byte{8, 5, 0x28, 0x12, 0x30, 0x80, 2}))},
		{"a shard of three", "fan-out is 3", car(pb(t, []byte{8, 5, 0x28, 0x22, 0x30, 3}))},
	}
	n := newNode(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := n.addCAR(t, test.raw)
			if errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v, want invalid with %q", err, test.want)
			}
			n.isEmpty(t)
		})
	}
	if _, err := n.addCAR(t, car(deep(ipfs.DepthMax)...)); err != nil {
		t.Errorf("a chain as deep as may be: %v", err)
	}
	if _, err := n.addCAR(t, car(raw(strings.Repeat("l", ipfs.BlockMax)))); err != nil {
		t.Errorf("a block as long as may be: %v", err)
	}
}

// TestBlocksTwiceAndInAnyOrder takes what is odd and still right.
func TestBlocksTwiceAndInAnyOrder(t *testing.T) {
	n := newNode(t)
	x, y, stray := raw("x"), raw("y"), raw("stray")
	sub := pb(t, unixfs.FolderPBData(), x, y)
	dir := pb(t, unixfs.FolderPBData(), sub, x, sub, sub)
	archive := carHeader(1, dir.Cid())
	for _, b := range []ipld.Node{y, stray, x, x, sub, dir, sub, x} {
		archive = append(archive, section(b.Cid(), b.RawData())...)
	}
	root, err := n.addCAR(t, archive)
	if err != nil {
		t.Fatal(err)
	}
	if got := n.readFiles(t, root.CID); len(got) != 7 || got["003/001"] != "y" {
		t.Errorf("read %q", got)
	}
	if has, err := n.Has(stray.Cid()); err != nil || has {
		t.Errorf("a block that nothing links to is there: %t, %v", has, err)
	}
	size, err := dir.Size()
	if err != nil || root.Size != int64(size) {
		t.Errorf("size %d, Kubo's library says %d, %v", root.Size, size, err)
	}
}

// TestAnotherArchiveOfARootLeavesNothing: its bytes are in another order, or have come block
// by block while others brought them.
func TestAnotherArchiveOfARootLeavesNothing(t *testing.T) {
	n := newNode(t)
	x, y := raw("x"), raw("y")
	dir := pb(t, unixfs.FolderPBData(), x, y)
	in := n.arrive(t, dir.Cid(), arriveMax)
	for _, b := range []ipld.Node{dir, x, y} {
		if c, ok, err := in.Next(); err != nil || !ok || c != b.Cid() {
			t.Fatalf("next is %s, %t, %v, want %s", c, ok, err, b.Cid())
		}
		if err := in.Put(b.Cid(), b.RawData()); err != nil {
			t.Fatal(err)
		}
	}
	root, err := n.addCAR(t, car(dir, y, x))
	if err != nil {
		t.Fatal(err)
	}
	before, err := n.blobs.List()
	if err != nil || len(before) != 1 {
		t.Fatalf("blobs %v, %v, want one", before, err)
	}

	again, err := n.addCAR(t, car(dir, x, y))
	arrived, arriveErr := in.Commit()

	if err != nil || arriveErr != nil || again != root || arrived != root {
		t.Errorf("the second is %+v, %v, what arrived is %+v, %v; want %+v", again, err, arrived, arriveErr, root)
	}
	after, err := n.blobs.List()
	if err != nil || !slices.Equal(after, before) || n.blobs.Used() != before[0].Size {
		t.Errorf("blobs are %v of %d bytes, %v; were %v", after, n.blobs.Used(), err, before)
	}
	if err := n.Verify(t.Context(), root.CID); err != nil {
		t.Error(err)
	}
	n.remove(t, root)
	n.checkEmpty(t)
}

func TestArchivesHaveBounds(t *testing.T) {
	n := newNode(t)
	block := make([]byte, 4)
	archive := carHeader(1, raw("x").Cid())
	for i := range ipfs.CARBlocksMax + 1 {
		binary.BigEndian.PutUint32(block, uint32(i))
		sum := sha256.Sum256(block)
		c := cid.NewCidV1(cid.Raw, append(mh.Multihash{mh.SHA2_256, 32}, sum[:]...))
		archive = append(append(append(archive, byte(c.ByteLen()+len(block))), c.Bytes()...), block...)
	}
	if _, err := n.addCAR(t, archive); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "more than 262144 blocks") {
		t.Errorf("too many blocks: %v, want invalid", err)
	}
	// Blocks that link to one child again and again, of which there may be many.
	link := sized(append([]byte{0x0a, 36}, raw("x").Cid().Bytes()...))
	var many []byte
	for range 50_000 {
		many = append(append(many, 0x12), link...)
	}
	archive = carHeader(1, raw("x").Cid())
	for i := range 22 {
		b := append(bytes.Clone(many), 0x0a, 4, 8, 1, 0x40, byte(i)) // an unknown field tells them apart
		sum := sha256.Sum256(b)
		archive = append(archive, section(cid.NewCidV1(cid.DagProtobuf, append(mh.Multihash{mh.SHA2_256, 32}, sum[:]...)), b)...)
	}
	if _, err := n.addCAR(t, archive); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "links") {
		t.Errorf("too many links: %v, want invalid", err)
	}
	n.isEmpty(t)
}
