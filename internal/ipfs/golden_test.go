package ipfs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// files is the content of a directory by path; a path that ends in a slash is
// an empty folder.
type files map[string]string

func numbered(n int, format string) files {
	f := files{}
	for i := range n {
		f[fmt.Sprintf(format, i)] = "x"
	}
	return f
}

// goldenDirectories are the directories that the vectors describe in words.
func goldenDirectories() map[string]files {
	flat := files{}
	for c := 'a'; c <= 'j'; c++ {
		flat[string(c)+".txt"] = string(c)
	}
	return map[string]files{
		"single_file_small":       {"hello.txt": "hello\n"},
		"single_file_multi_chunk": {"big.bin": strings.Repeat("x", 1<<20)},
		"flat_dir_small":          flat,
		"nested_dir":              {"top.txt": "top\n", "sub/inner.txt": "inner\n", "sub/deeper/leaf.txt": "leaf\n"},
		"hamt_short_names":        numbered(6000, "%08d"),
		"hamt_long_names":         numbered(920, "%04d"+strings.Repeat("z", 246)),
		"hamt_multi_level":        {"col00000017.txt": "a", "col00000029.txt": "b", "Z": "c"},
		"empty_directory":         {},
		"empty_file_dir":          {"empty": ""},
		"utf8_names":              {"café.txt": "a\n", "日本.txt": "b\n", "🚀.txt": "c\n"},
		"threshold_below":         numbered(5957, "%08d"),
		"threshold_above":         numbered(5958, "%08d"),
	}
}

func (n node) addFiles(t testing.TB, all files, v ipfs.Version) ipfs.Root {
	t.Helper()
	tree, err := n.NewTree(v)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range all {
		if folder, ok := strings.CutSuffix(path, "/"); ok {
			err = tree.MakeFolder(folder)
		} else {
			err = tree.Add(t.Context(), path, strings.NewReader(data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := tree.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readFiles reads a directory with all below it.
func (n node) readFiles(t testing.TB, c cid.Cid) files {
	t.Helper()
	all := files{}
	err := n.List(t.Context(), c, func(e ipfs.Entry) error {
		info, err := n.Stat(e.CID)
		if err != nil {
			return err
		}
		if info.Cumulative != e.Cumulative {
			t.Errorf("%s: the link says %d bytes, the block %d", e.Name, e.Cumulative, info.Cumulative)
		}
		if info.Kind == ipfs.KindFile {
			all[e.Name] = string(n.read(t, e.CID))
			return nil
		}
		below := n.readFiles(t, e.CID)
		if len(below) == 0 {
			all[e.Name+"/"] = ""
		}
		for path, data := range below {
			all[e.Name+"/"+path] = data
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGoldens holds the CIDs to those of Kubo, by the network's vectors.
func TestGoldens(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "protocol", "testdata", "vectors", "unixfs_cids.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name       string
		CidVersion ipfs.Version
		Cid        string
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	directories := goldenDirectories()
	for _, v := range vectors {
		t.Run(fmt.Sprintf("%s v%d", v.Name, v.CidVersion), func(t *testing.T) {
			var got ipfs.Root
			if all, ok := directories[v.Name]; ok {
				got = n.addFiles(t, all, v.CidVersion)
				if back := n.readFiles(t, got.CID); len(back) != len(all) {
					t.Errorf("read %d files, want %d", len(back), len(all))
				} else {
					for path, data := range all {
						if back[path] != data {
							t.Errorf("%s came back with %d bytes, want %d", path, len(back[path]), len(data))
						}
					}
				}
			} else {
				data := goldenFile(t, v.Name)
				got = n.add(t, data, v.CidVersion)
				if !bytes.Equal(n.read(t, got.CID), data) {
					t.Error("the file came back changed")
				}
			}
			if got.CID.String() != v.Cid {
				t.Errorf("got %s, want %s", got.CID, v.Cid)
			}
			if info, err := n.Stat(got.CID); err != nil || info != ipfs.Info(got) {
				t.Errorf("stat says %+v, %v; the root says %+v", info, err, got)
			}
		})
	}
	if len(vectors) < 28 {
		t.Errorf("%d vectors, want 28", len(vectors))
	}
}

func goldenFile(t *testing.T, name string) []byte {
	t.Helper()
	if name == "hello_world" {
		return []byte("hello world")
	}
	size, err := strconv.Atoi(strings.TrimPrefix(name, "file_x_"))
	if err != nil {
		t.Fatalf("vector %s is not known here", name)
	}
	return bytes.Repeat([]byte("x"), size)
}
