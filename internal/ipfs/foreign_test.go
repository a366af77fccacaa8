package ipfs_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// FuzzCAR adds archives. Those that are taken must be whole, come out as they
// went in, and go away again without a trace.
func FuzzCAR(f *testing.F) {
	n := newNode(f)
	dir := pb(f, unixfs.FolderPBData(), raw("x"), raw("y"))
	f.Add(car(dir, raw("x"), raw("y")), false)
	f.Add(car(raw("x")), false)
	f.Add(carHeader(1, raw("x").Cid(), raw("y").Cid()), false)
	f.Add([]byte("\x02\x08\x01\x00\x00\x02\x08\x01\x01\x00"), true)
	f.Add([]byte("\x01x\x00\x08\x08\x02\x18\x02\x20\x01\x20\x01\x02\x00\x00"), true)
	f.Add([]byte("\x01x\x00\x09\x08\x05\x12\x01\x01\x28\x22\x30\x80\x02\x01\x00"), true)
	f.Fuzz(func(t *testing.T, data []byte, build bool) {
		if build {
			data = archiveOf(t, data)
		}
		root, err := n.addCAR(t, data)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("got %v, want invalid", err)
			}
			return
		}
		n.use(t, root)
	})
}

// archiveOf reads data as a program that makes nodes with right hashes, each
// with UnixFS data and children among those before it. The last is the root.
func archiveOf(t *testing.T, data []byte) []byte {
	t.Helper()
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	nodes := []ipld.Node{merkledag.NewRawNode([]byte("x"))}
	for len(data) > 0 && len(nodes) < 50 {
		size := min(next(), len(data))
		content := data[:size]
		data = data[size:]
		var children []ipld.Node
		for range next() % 8 {
			children = append(children, nodes[next()%len(nodes)])
		}
		nodes = append([]ipld.Node{pb(t, content, children...)}, nodes...)
	}
	return car(nodes...)
}

// use does with content all that one can do, and then deletes it.
func (n node) use(t *testing.T, root ipfs.Root) {
	t.Helper()
	if err := n.Verify(t.Context(), root.CID); err != nil {
		t.Fatalf("what was taken is damaged: %v", err)
	}
	if info, err := n.Stat(root.CID); err != nil || info != ipfs.Info(root) {
		t.Fatalf("stat says %+v, %v; the root %+v", info, err, root)
	}
	if root.Kind == ipfs.KindFile {
		f, err := n.Open(root.CID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.Copy(io.Discard, io.LimitReader(f, 1<<20)) // A file may claim to be one block again and again.
		if err != nil || got != min(root.Size, 1<<20) {
			t.Fatalf("read %d bytes, %v; want %d", got, err, root.Size)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if root.Kind == ipfs.KindDirectory {
		// Shards may lie about what is in them; no more than an error may come.
		err := n.List(t.Context(), root.CID, func(e ipfs.Entry) error {
			_, err := n.Resolve(t.Context(), root.CID.String()+"/"+e.Name)
			if errs.KindOf(err) == errs.Internal {
				t.Fatal(err)
			}
			return nil
		})
		if errs.KindOf(err) == errs.Internal {
			t.Fatal(err)
		}
	}
	archive := n.export(t, root.CID)
	if again, err := n.addCAR(t, archive); err != nil || again != root {
		t.Fatalf("its archive gives %+v, %v; want %+v", again, err, root)
	}
	unused, err := n.Delete(root.CID)
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range unused {
		if err := n.blobs.Delete(blob); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := n.Leftovers(); err != nil || left != 0 {
		t.Fatalf("%d entries without a root, %v", left, err)
	}
}

// FuzzUnixFSNode decodes blocks.
func FuzzUnixFSNode(f *testing.F) {
	for _, n := range []ipld.Node{
		pb(f, unixfs.FolderPBData(), raw("x")), pb(f, unixfs.FilePBData([]byte("f"), 1)),
		pb(f, []byte("\x08\x05\x12\x01\x01\x28\x22\x30\x80\x02"), raw("x")),
		pb(f, []byte("\x08\x02\x18\x03\x20\x01\x20\x02"), raw("x"), raw("yy")),
		pb(f, []byte("\x08\x02\x18\x03\x22\x02\x01\x02"), raw("x"), raw("yy")),
		pb(f, []byte("\x08\x04\x12\x01/")),
	} {
		f.Add(n.RawData())
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		links, err := ipfs.DecodeNode(block)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("got %v, want invalid", err)
			}
			return
		}
		// What this package takes, Kubo's library takes too, and sees the same.
		theirs, err := merkledag.DecodeProtobuf(block)
		if err == nil && len(theirs.Links()) != links {
			t.Fatalf("%d links, Kubo's library sees %d", links, len(theirs.Links()))
		}
	})
}

// FuzzPath reads paths. Names that are taken lead nowhere but down.
func FuzzPath(f *testing.F) {
	c := raw("x").Cid().String()
	for _, path := range []string{c, c + "/a/b", "/ipfs/" + c + "/a/", c + "/../a", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH/x", "/ipfs//"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c, names, err := ipfs.ParsePath(path)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("got %v, want invalid", err)
			}
			return
		}
		for _, name := range names {
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				t.Fatalf("name %q was taken", name)
			}
		}
		again, same, err := ipfs.ParsePath(c.String() + "/" + strings.Join(names, "/"))
		if err != nil || again != c || len(same) != len(names) {
			t.Fatalf("%q reads as %s %q, and that as %s %q, %v", path, c, names, again, same, err)
		}
	})
}

// TestWrongUse takes CIDs that no parser let pass.
func TestWrongUse(t *testing.T) {
	n := newNode(t)
	for _, c := range []ipld.Node{raw("nowhere")} {
		if _, err := n.Block(c.Cid()); errs.KindOf(err) != errs.NotFound {
			t.Errorf("a block that is not here: %v, want not found", err)
		}
		if err := n.Export(t.Context(), c.Cid(), &bytes.Buffer{}); errs.KindOf(err) != errs.NotFound {
			t.Errorf("an archive of what is not here: %v, want not found", err)
		}
	}
	var empty ipfs.Root
	if _, err := n.Block(empty.CID); errs.KindOf(err) != errs.Invalid {
		t.Errorf("the empty CID: %v, want invalid", err)
	}
	if _, err := n.Delete(empty.CID); errs.KindOf(err) != errs.Invalid {
		t.Errorf("delete of the empty CID: %v, want invalid", err)
	}
	if _, err := n.Root(empty.CID); errs.KindOf(err) != errs.Invalid {
		t.Errorf("the root of the empty CID: %v, want invalid", err)
	}
}
