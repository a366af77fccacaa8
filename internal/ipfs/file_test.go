package ipfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const chunk = 256 << 10

// noise is bytes that do not repeat.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// TestWhatIsAddedIsRead adds files whose lengths are around the ends of chunks,
// as streams and as blobs, and reads them whole and in ranges.
func TestWhatIsAddedIsRead(t *testing.T) {
	n := newNode(t)
	all := noise(7, 5*chunk)
	rapid.Check(t, func(rt *rapid.T) {
		size := max(0, min(len(all), rapid.IntRange(0, 4).Draw(rt, "chunks")*chunk+rapid.IntRange(-3, 3).Draw(rt, "more")))
		v := ipfs.Version(rapid.IntRange(0, 1).Draw(rt, "version"))
		data := all[len(all)-size:]
		root := n.add(t, data, v)
		if root.Size != int64(size) {
			rt.Fatalf("size %d, want %d", root.Size, size)
		}
		again, err := n.AddBlob(t.Context(), message.HashOf(data), v)
		if err != nil || again != root {
			rt.Fatalf("as a blob: %+v, %v; as a stream %+v", again, err, root)
		}
		f, err := n.Open(root.CID)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
			rt.Fatalf("read %d bytes, %v; want %d", len(got), err, size)
		}
		for range 5 {
			from := rapid.IntRange(0, size).Draw(rt, "from")
			length := rapid.IntRange(0, size-from).Draw(rt, "length")
			if _, err := f.Seek(int64(from), io.SeekStart); err != nil {
				rt.Fatal(err)
			}
			got := make([]byte, length)
			if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, data[from:from+length]) {
				rt.Fatalf("%d bytes at %d came back changed, %v", length, from, err)
			}
		}
	})
}

func TestFilesReadLikeFiles(t *testing.T) {
	n := newNode(t)
	data := noise(3, 3*chunk+17)
	f, err := n.Open(n.add(t, data, ipfs.V1).CID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	if _, err := f.Seek(-int64(len(data)), io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("wrote %d bytes, %v; want %d", out.Len(), err, len(data))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(struct{ io.ReadSeeker }{f}, data); err != nil {
		t.Error(err)
	}
}

// TestBytesAreKeptOnce counts what the disk has after a file was added in all
// ways there are.
func TestBytesAreKeptOnce(t *testing.T) {
	n := newNode(t)
	data := noise(9, 20*chunk)
	for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
		root := n.add(t, data, v)
		if _, err := n.AddBlob(t.Context(), message.HashOf(data), v); err != nil {
			t.Fatal(err)
		}
		tree, err := n.NewTree(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.AddBlob(t.Context(), "folder/file", message.HashOf(data)); err != nil {
			t.Fatal(err)
		}
		dir, err := tree.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := n.Resolve(t.Context(), dir.CID.String()+"/folder/file"); err != nil || c != root.CID {
			t.Errorf("the file in the folder is %s, %v; want %s", c, err, root.CID)
		}
	}
	if used := n.blobs.Used(); used != int64(len(data)) {
		t.Errorf("blobs take %d bytes, want the %d of the file", used, len(data))
	}
}

func TestAddAsStoresWhatItIsToldOnly(t *testing.T) {
	n := newNode(t)
	data := noise(12, 2*chunk+1)
	for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
		want := n.add(t, data, v)
		n.remove(t, want)

		_, err := n.AddAs(t.Context(), bytes.NewReader(data[1:]), want.CID)

		if errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(fmt.Sprint(err), "File hash does not match (") ||
			!strings.Contains(err.Error(), " != "+want.CID.String()+")") {
			t.Errorf("other bytes: %v, want invalid and both CIDs", err)
		}
		n.isEmpty(t)
		got, err := n.AddAs(t.Context(), bytes.NewReader(data), want.CID)
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		// Bytes that are somebody's content already, under a wrong name.
		if _, err := n.AddAs(t.Context(), bytes.NewReader(data), raw("other").Cid()); errs.KindOf(err) != errs.Invalid {
			t.Errorf("a wrong name: %v, want invalid", err)
		}
		if err := n.Verify(t.Context(), want.CID); err != nil {
			t.Errorf("what was there before: %v", err)
		}
		n.remove(t, got)
	}
	if _, err := n.AddAs(t.Context(), strings.NewReader("x"), ipfs.Root{}.CID); errs.KindOf(err) != errs.Invalid {
		t.Errorf("the empty CID: %v, want invalid", err)
	}
	n.isEmpty(t)
}

func TestAddThatFailsLeavesNothing(t *testing.T) {
	n := newNode(t)
	broken := errors.New("cable pulled")
	data := noise(1, 3*chunk)
	if _, err := n.Add(t.Context(), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), ipfs.V0); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, err := n.AddBlob(t.Context(), message.HashOf([]byte("nowhere")), ipfs.V0); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a blob that is not here: %v, want not found", err)
	}
	tree, err := n.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(t.Context(), "a", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if err := tree.Add(t.Context(), "b", strings.NewReader("b")); !errors.Is(err, broken) {
		t.Errorf("the next file of a broken tree: %v, want the first error", err)
	}
	if _, err := tree.Commit(); !errors.Is(err, broken) {
		t.Errorf("commit of a broken tree: %v, want the first error", err)
	}
	n.isEmpty(t)
}

// isEmpty checks that nothing is there, whether visible or not.
func (n node) isEmpty(t testing.TB) {
	t.Helper()
	for r, err := range n.Roots(t.Context()) {
		t.Errorf("content %s is there, %v", r.CID, err)
	}
	if left, err := n.Leftovers(); err != nil || left != 0 {
		t.Errorf("%d entries without a root, %v", left, err)
	}
	if used := n.blobs.Used(); used != 0 {
		t.Errorf("%d bytes of blobs", used)
	}
}

func TestTreeRefuses(t *testing.T) {
	n := newNode(t)
	tree, err := n.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	add := func(path string) error { return tree.Add(t.Context(), path, strings.NewReader("x")) }
	if err := errors.Join(add("a/b"), add("c")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]errs.Kind{
		"": errs.Invalid, "/": errs.Invalid, "a//b": errs.Invalid, "../x": errs.Invalid, "a/./b": errs.Invalid,
		"x\x00": errs.Invalid, "\xff": errs.Invalid, strings.Repeat("n", 256): errs.Invalid,
		strings.Repeat("n/", ipfs.DepthMax+1): errs.Invalid,
		"a":                                   errs.Conflict, "a/b": errs.Conflict, "c/d": errs.Conflict,
	} {
		if err := add(path); errs.KindOf(err) != want {
			t.Errorf("path %.20q: %v, want %s", path, err, want)
		}
	}
	if _, err := tree.Commit(); err != nil {
		t.Errorf("paths that were refused broke the tree: %v", err)
	}
}

func TestTreeHasBounds(t *testing.T) {
	n := newNode(t)
	tree, err := n.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	name := []byte("00000000")
	for i := range ipfs.TreeMax + 1 {
		for j, v := len(name)-1, i; j >= 0; j, v = j-1, v/10 {
			name[j] = byte('0' + v%10)
		}
		err = tree.MakeFolder(string(name))
		if (i == ipfs.TreeMax) != (err != nil) {
			t.Fatalf("folder %d: %v", i, err)
		}
	}
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestFullStoreRefuses(t *testing.T) {
	n := openNode(t, t.TempDir(), 2*chunk)
	defer n.Close()
	if _, err := n.Add(t.Context(), bytes.NewReader(noise(1, 3*chunk)), ipfs.V0); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("a file beyond the blobs' quota: %v, want exhausted", err)
	}
	n.isEmpty(t)
	tree, err := n.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	n.SetIndexMax(1)
	for i := 0; err == nil && i < 2*ipfs.IndexEntries; i++ {
		err = tree.Add(t.Context(), fmt.Sprint(i), strings.NewReader(fmt.Sprint(i)))
	}
	if errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "max_index_gb") {
		t.Errorf("an index that fills up in the middle: %v, want exhausted and the setting", err)
	}
	if err := tree.Abort(); err != nil {
		t.Error(err)
	}
	n.isEmpty(t)
	if _, err := n.Add(t.Context(), strings.NewReader("x"), ipfs.V0); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "max_index_gb") {
		t.Errorf("a full index: %v, want exhausted and the setting", err)
	}
	n.isEmpty(t)
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := ipfs.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, gb := range []float64{0, -1, math.NaN(), math.Inf(1), 10_001} {
		if err := (ipfs.Config{MaxIndexGB: gb}).Validate(); err == nil || !strings.Contains(err.Error(), "max_index_gb") {
			t.Errorf("max_index_gb %g: %v, want an error that names it", gb, err)
		}
	}
}

func TestPaths(t *testing.T) {
	n := newNode(t)
	root := n.addFiles(t, files{"a/b/c.txt": "c", "d": "d"}, ipfs.V1)
	for path, want := range map[string]string{"": "", "/": "", "/a/b/c.txt": "c", "/d": "d"} {
		for _, prefix := range []string{"", "/ipfs/"} {
			c, err := n.Resolve(t.Context(), prefix+root.CID.String()+path)
			if err != nil {
				t.Errorf("%q: %v", prefix+path, err)
			} else if want != "" && string(n.read(t, c)) != want {
				t.Errorf("%q leads to %q, want %q", path, n.read(t, c), want)
			}
		}
	}
	for path, want := range map[string]errs.Kind{
		"/x": errs.NotFound, "/d/e": errs.NotFound, "/a//b": errs.Invalid, "/../a": errs.Invalid,
	} {
		if _, err := n.Resolve(t.Context(), root.CID.String()+path); errs.KindOf(err) != want {
			t.Errorf("%q: %v, want %s", path, err, want)
		}
	}
	for _, path := range []string{"", "/ipfs/", "Qm", "/ipfs/zzz/a", "bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje"} {
		if _, err := n.Resolve(t.Context(), path); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v, want invalid", path, err)
		}
	}
	if _, err := n.Open(root.CID); errs.KindOf(err) != errs.Invalid {
		t.Errorf("open of a directory: %v, want invalid", err)
	}
	if err := n.List(t.Context(), n.add(t, []byte("f"), ipfs.V0).CID, nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("list of a file: %v, want invalid", err)
	}
}
