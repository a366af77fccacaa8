package ipfs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

func TestTar(t *testing.T) {
	n := newNode(t)
	all := files{"top.txt": "top\n", "sub/deeper/leaf.txt": strings.Repeat("l", 2*chunk), "none/": "", "日本.txt": ""}
	root := n.addFiles(t, all, ipfs.V0)
	var out bytes.Buffer
	if err := n.Tar(t.Context(), root.CID, &out); err != nil {
		t.Fatal(err)
	}
	got := files{}
	for in := tar.NewReader(&out); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(head.Name, root.CID.String()+"/")
		if !ok {
			t.Errorf("entry %q is not below %s", head.Name, root.CID)
		}
		got[name] = string(data)
	}
	all[""], all["sub/"], all["sub/deeper/"] = "", "", ""
	if len(got) != len(all) {
		t.Errorf("got %d entries, want %d", len(got), len(all))
	}
	for name, data := range all {
		if have, ok := got[name]; !ok || have != data {
			t.Errorf("%q: there %t with %d bytes, want %d", name, ok, len(have), len(data))
		}
	}
}

// TestTarsOfBadDirectories takes what an archive may hold and a tar may not.
func TestTarsOfBadDirectories(t *testing.T) {
	n := newNode(t)
	x := raw("x")
	up := pb(t, unixfs.FolderPBData())
	if err := up.AddNodeLink("../../etc/passwd", x); err != nil {
		t.Fatal(err)
	}
	endless := []ipld.Node{x}
	for range 40 {
		endless = append([]ipld.Node{pb(t, unixfs.FolderPBData(), endless[0], endless[0])}, endless...)
	}
	link, inner := pb(t, []byte("\x08\x04\x12\x04/etc")), pb(t, unixfs.FolderPBData(), x)
	twice := pb(t, unixfs.FolderPBData())
	for _, n := range []ipld.Node{link, inner} {
		if err := twice.AddNodeLink("a", n); err != nil {
			t.Fatal(err)
		}
	}
	for name, archive := range map[string][]byte{
		"a name that leads up": car(up, x), "2^40 entries": car(endless...), "a link and a folder of one name": car(twice, link, inner, x),
	} {
		root, err := n.addCAR(t, archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Tar(t.Context(), root.CID, io.Discard); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}
