package ipfs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// TestMatcherKnowsTheFilesOfGoldens holds it to the CIDs of Kubo, by the network's
// vectors, in both spellings.
func TestMatcherKnowsTheFilesOfGoldens(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "protocol", "testdata", "vectors", "unixfs_cids.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Name, Cid string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, v := range vectors {
		if v.Name != "hello_world" && !strings.HasPrefix(v.Name, "file_x_") {
			continue
		}
		files++
		data := goldenFile(t, v.Name)
		id, err := ipfs.ParseCID(v.Cid)
		if err != nil {
			t.Fatal(err)
		}
		for _, spelling := range ipfs.Spellings(id) {
			if id.Prefix().Codec == cid.Raw && spelling != id.String() {
				t.Fatalf("%s is spelled %s", id, spelling)
			}
			m := matcher(t, spelling)
			write(t, m, []byte("something before"))
			m.Reset()
			for rest := data; len(rest) > 0; { // In pieces that fall on no border of a leaf.
				n := min(len(rest), 100_003)
				write(t, m, rest[:n])
				rest = rest[n:]
			}
			for range 2 { // Asking changes nothing.
				if !matches(t, m) {
					t.Errorf("%s is not found to be %s", v.Name, spelling)
				}
			}
			write(t, m, []byte("y"))
			if matches(t, m) {
				t.Errorf("%s and more is found to be %s", v.Name, spelling)
			}
		}
	}
	if files < 12 {
		t.Errorf("%d files among the vectors, want at least 12", files)
	}
}

func TestMatcherTellsFilesApart(t *testing.T) {
	n := newNode(t)
	data := bytes.Repeat([]byte("0123456789"), 60_000)
	for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
		id := n.add(t, data, v).CID.String()
		for name, other := range map[string][]byte{"cut": data[:len(data)-1], "changed": append([]byte("1"), data[1:]...), "empty": nil} {
			m := matcher(t, id)
			write(t, m, other)
			if matches(t, m) {
				t.Errorf("v%d: a file that is %s is found to be it", v, name)
			}
		}
	}
	if _, err := ipfs.NewMatcher(cid.Undef); errs.KindOf(err) != errs.Invalid {
		t.Errorf("no CID: %v", err)
	}
}

func matcher(t *testing.T, text string) *ipfs.Matcher {
	t.Helper()
	id, err := ipfs.ParseCID(text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ipfs.NewMatcher(id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t *testing.T, m *ipfs.Matcher, p []byte) {
	t.Helper()
	if n, err := m.Write(p); err != nil || n != len(p) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
	}
}

func matches(t *testing.T, m *ipfs.Matcher) bool {
	t.Helper()
	ok, err := m.Matches()
	if err != nil {
		t.Fatal(err)
	}
	return ok
}
