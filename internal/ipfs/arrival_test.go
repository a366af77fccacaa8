package ipfs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// arriveMax is more than any content of these tests has.
const arriveMax = 1 << 30

func (n node) arrive(t testing.TB, c cid.Cid, maxBytes int64) *ipfs.Arrival {
	t.Helper()
	a, err := n.Arrive(t.Context(), c, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bring gives an arrival the blocks that it asks for, at most so many, from another
// store. It says how many that were, and whether none is missing any more.
func bring(t testing.TB, a *ipfs.Arrival, from node, most int) (n int, whole bool) {
	t.Helper()
	for ; n < most; n++ {
		c, ok, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return n, true
		}
		block, err := from.Block(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Put(c, block); err != nil {
			t.Fatal(err)
		}
	}
	return n, false
}

// blocksOf says how many blocks content has.
func (n node) blocksOf(t testing.TB, c cid.Cid) int {
	t.Helper()
	other := newNode(t)
	a := other.arrive(t, c, arriveMax)
	count, _ := bring(t, a, n, 1<<20)
	if err := a.Abort(); err != nil {
		t.Error(err)
	}
	return count
}

// checkEmpty wants nothing to be left of an arrival.
func (n node) checkEmpty(t testing.TB) {
	t.Helper()
	blobs, err := n.blobs.List()
	if err != nil {
		t.Fatal(err)
	}
	left, err := n.Leftovers()
	if err != nil || left > 0 || len(blobs) > 0 || n.blobs.Used() > 0 {
		t.Errorf("%d entries of the index, blobs %v and %d bytes are left, %v", left, blobs, n.blobs.Used(), err)
	}
}

func TestContentArrivesBlockByBlock(t *testing.T) {
	a, b := newNode(t), newNode(t)
	roots := []ipfs.Root{
		a.add(t, nil, ipfs.V0), a.add(t, []byte("x"), ipfs.V1), a.add(t, noise(4, 180*chunk+5), ipfs.V0), a.add(t, make([]byte, 400*chunk), ipfs.V1),
		a.addFiles(t, goldenDirectories()["nested_dir"], ipfs.V0), a.addFiles(t, goldenDirectories()["hamt_long_names"], ipfs.V1),
	}
	for _, want := range roots {
		in := b.arrive(t, want.CID, arriveMax)
		if _, whole := bring(t, in, a, 1<<20); !whole {
			t.Fatalf("%s: blocks are missing", want.CID)
		}
		if ok, err := b.Has(want.CID); ok || err != nil {
			t.Errorf("%s is visible before its commit: %v", want.CID, err)
		}
		got, err := in.Commit()
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", want.CID, got, err, want)
			continue
		}
		if !bytes.Equal(b.export(t, got.CID), a.export(t, want.CID)) {
			t.Errorf("%s: the copy is another", want.CID)
		}
	}
	for _, r := range roots {
		b.remove(t, r)
	}
	b.checkEmpty(t)
}

// TestArrivalsGoOnAfterARestart takes in content in lives of a store that end without
// a word, one of them with a torn block on the disk.
func TestArrivalsGoOnAfterARestart(t *testing.T) {
	from := newNode(t)
	want := from.addFiles(t, files{"a": string(noise(1, 20*chunk)), "b": string(noise(2, 3*chunk+1)), "c": "c"}, ipfs.V0)
	total := from.blocksOf(t, want.CID)
	dir := t.TempDir()
	got := 0
	for life := range 3 {
		n := openNode(t, dir, 8e9)
		if blobs, err := n.blobs.List(); err != nil || len(blobs) > 0 {
			t.Errorf("life %d has blobs %v, %v before it has all", life, blobs, err)
		}
		in := n.arrive(t, want.CID, arriveMax)
		count, whole := bring(t, in, from, 7)
		got += count
		if whole {
			t.Fatalf("life %d has all after %d blocks", life, got)
		}
		if err := n.Close(); err != nil { // The arrival is not ended, and its file has what was written.
			t.Fatal(err)
		}
	}
	staged := filepath.Join(dir, "blobs", "staged")
	names, err := os.ReadDir(staged)
	if err != nil || len(names) != 1 {
		t.Fatalf("staged are %v, %v; want one", names, err)
	}
	path := filepath.Join(staged, names[0].Name())
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, fi.Size()-10); err != nil {
		t.Fatal(err)
	}

	n := openNode(t, dir, 8e9)
	defer n.Close()
	in := n.arrive(t, want.CID, arriveMax)
	count, whole := bring(t, in, from, 1<<20)
	root, err := in.Commit()

	if !whole || err != nil || root != want {
		t.Errorf("got %+v, %v; want %+v", root, err, want)
	}
	if got+count != total+1 { // The torn one came twice.
		t.Errorf("%d blocks came, then %d; want %d in all", got, count, total+1)
	}
	if !bytes.Equal(n.export(t, root.CID), from.export(t, want.CID)) {
		t.Error("the copy is another")
	}
	n.remove(t, root)
	n.checkEmpty(t)
}

// TestArrivalsShareWhatIsHere takes in content whose parts other content has: they
// are not asked for, take no room, and outlive the other content.
func TestArrivalsShareWhatIsHere(t *testing.T) {
	from, n := newNode(t), newNode(t)
	big := noise(3, 10*chunk)
	want := from.addFiles(t, files{"big": string(big), "small": "small"}, ipfs.V1)
	other := n.add(t, big, ipfs.V1)
	used := n.blobs.Used()

	in := n.arrive(t, want.CID, arriveMax)
	count, _ := bring(t, in, from, 1<<20)
	got, err := in.Commit()

	if err != nil || got != want || count != 2 {
		t.Errorf("%d blocks came for %+v, %v; want the folder and the small file", count, got, err)
	}
	if more := n.blobs.Used() - used; more > 1000 {
		t.Errorf("%d more bytes are used", more)
	}
	n.remove(t, other)
	if err := n.Verify(t.Context(), want.CID); err != nil {
		t.Errorf("without the other content: %v", err)
	}
	n.remove(t, got)
	n.checkEmpty(t)
}

// TestPartsOfContentBecomeContent: what is part of other content is content of its
// own without a byte from elsewhere.
func TestPartsOfContentBecomeContent(t *testing.T) {
	n := newNode(t)
	dir := n.addFiles(t, files{"f": string(noise(5, 3*chunk))}, ipfs.V0)
	part, err := n.Resolve(t.Context(), dir.CID.String()+"/f")
	if err != nil {
		t.Fatal(err)
	}
	in := n.arrive(t, part, arriveMax)
	if c, ok, err := in.Next(); ok || err != nil {
		t.Errorf("asks for %s, %v; want nothing", c, err)
	}
	root, err := in.Commit()
	if err != nil {
		t.Fatal(err)
	}
	n.remove(t, dir)
	if got := n.read(t, root.CID); !bytes.Equal(got, noise(5, 3*chunk)) {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestBadBlocksChangeNothing(t *testing.T) {
	n := newNode(t)
	child := raw("child")
	dir := pb(t, unixfs.FolderPBData(), child)
	in := n.arrive(t, dir.Cid(), arriveMax)
	for what, put := range map[string]func() error{
		"other bytes":               func() error { return in.Put(dir.Cid(), []byte("other")) },
		"no bytes":                  func() error { return in.Put(dir.Cid(), nil) },
		"one that nobody asked for": func() error { return in.Put(raw("stray").Cid(), []byte("stray")) },
		"a child before its parent": func() error { return in.Put(child.Cid(), child.RawData()) },
		"too many bytes":            func() error { return in.Put(dir.Cid(), make([]byte, ipfs.BlockMax+1)) },
	} {
		if err := put(); !errors.Is(err, ipfs.ErrBadBlock) || errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v, want a bad block", what, err)
		}
	}
	for _, node := range []ipld.Node{dir, child, child} {
		if err := in.Put(node.Cid(), node.RawData()); err != nil {
			t.Error(err)
		}
	}
	if root, err := in.Commit(); err != nil || root.CID != dir.Cid() {
		t.Errorf("got %+v, %v", root, err)
	}
}

// TestBoundsOfArrivals: content that is too much ends its arrival, and nothing is
// left of it.
func TestBoundsOfArrivals(t *testing.T) {
	deep := []ipld.Node{raw("x")}
	for range ipfs.DepthMax {
		deep = append(deep, pb(t, unixfs.FolderPBData(), deep[len(deep)-1]))
	}
	liar := pb(t, unixfs.FolderPBData())
	if err := liar.AddRawLink("big", &ipld.Link{Cid: raw("x").Cid(), Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	file := pb(t, unixfs.FilePBData(nil, 0), raw("x")) // It claims no bytes and has a child.
	tests := []struct {
		name  string
		nodes []ipld.Node // parents first
		max   int64
		want  errs.Kind
	}{
		{"too deep", reversed(deep), arriveMax, errs.Invalid},
		{"too large, as it says itself", []ipld.Node{liar}, 1000, errs.Exhausted},
		{"too large, in fact", []ipld.Node{pb(t, unixfs.FolderPBData(), raw("12345"), raw("67890")), raw("12345")}, 100, errs.Exhausted},
		{"no files", []ipld.Node{file}, arriveMax, errs.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			in := n.arrive(t, tt.nodes[0].Cid(), tt.max)
			var err error
			for _, node := range tt.nodes {
				if err = in.Put(node.Cid(), node.RawData()); err != nil {
					break
				}
			}
			if errs.KindOf(err) != tt.want || errors.Is(err, ipfs.ErrBadBlock) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err := in.Abort(); err != nil {
				t.Error(err)
			}
			n.checkEmpty(t)
		})
	}
}

func reversed(nodes []ipld.Node) []ipld.Node {
	out := make([]ipld.Node, 0, len(nodes))
	for i := len(nodes) - 1; i >= 0; i-- {
		out = append(out, nodes[i])
	}
	return out
}

func TestArrivalsWithoutRoomLeaveNothing(t *testing.T) {
	from := newNode(t)
	want := from.add(t, noise(6, 10*chunk), ipfs.V0)
	n := openNode(t, t.TempDir(), 5*chunk)
	defer n.Close()
	in := n.arrive(t, want.CID, arriveMax)
	var err error
	for err == nil {
		c, ok, nextErr := in.Next()
		if nextErr != nil || !ok {
			t.Fatalf("all is here, %v", nextErr)
		}
		block, blockErr := from.Block(c)
		if blockErr != nil {
			t.Fatal(blockErr)
		}
		err = in.Put(c, block)
	}
	if errs.KindOf(err) != errs.Exhausted {
		t.Errorf("got %v, want exhausted", err)
	}
	if err := in.Abort(); err != nil {
		t.Error(err)
	}
	n.checkEmpty(t)
}

func TestUnfinishedContentIsNotCommitted(t *testing.T) {
	from, n := newNode(t), newNode(t)
	want := from.add(t, noise(7, 3*chunk), ipfs.V0)
	in := n.arrive(t, want.CID, arriveMax)
	bring(t, in, from, 2)
	if _, err := n.Arrive(t.Context(), want.CID, arriveMax); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a second arrival: %v, want conflict", err)
	}
	if root, err := in.Commit(); errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %+v, %v; want invalid", root, err)
	}
	n.checkEmpty(t)
}

// FuzzArrival goes on with whatever is on the disk. What it takes for good must be
// blocks of the content.
func FuzzArrival(f *testing.F) {
	from := newNode(f)
	want := from.addFiles(f, files{"a": "a", "b": "b"}, ipfs.V1)
	archive := from.export(f, want.CID)
	f.Add(archive)
	f.Add(archive[:len(archive)-1])
	f.Add(append(bytes.Clone(archive), 1, 2, 3))
	f.Add([]byte{})
	f.Add(car(raw("x")))
	name := cid.NewCidV1(cid.DagProtobuf, want.CID.Hash()).String()
	dir := f.TempDir()
	n := openNode(f, dir, 8e9)
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, left []byte) {
		n.stage(t, name, left)
		in := n.arrive(t, want.CID, arriveMax)
		bring(t, in, from, 1<<20)
		root, err := in.Commit()
		if err != nil || root != want {
			t.Fatalf("got %+v, %v", root, err)
		}
		if !bytes.Equal(n.export(t, root.CID), archive) {
			t.Fatal("the copy is another")
		}
		n.remove(t, root)
		n.checkEmpty(t)
	})
}

// nothing of what is there is good.
func nothing(io.Reader) (int64, error) { return 0, nil }

// stage leaves bytes as an earlier arrival would.
func (n node) stage(t testing.TB, name string, left []byte) {
	t.Helper()
	w, err := n.blobs.Stage(name, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(left); err != nil {
		t.Fatal(err)
	}
	if err := w.Suspend(); err != nil {
		t.Fatal(err)
	}
}
