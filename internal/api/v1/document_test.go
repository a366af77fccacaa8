package v1_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
)

var update = flag.Bool("update", false, "rewrite docs/api/v1.yaml")

// TestDocumentIsCommitted holds the committed document to the types that serve
// the interface. A difference is a change of the interface: look at it, then
// run the test with -update.
func TestDocumentIsCommitted(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "api", "v1.yaml")
	got, err := v1.Document()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/api/v1.yaml is not the interface's; look at the difference and run this test with -update")
	}
	if !bytes.Contains(got, []byte("openapi: 3.1.0")) || bytes.Contains(got, []byte("$schema")) {
		t.Error("the document is not plain OpenAPI 3.1.0")
	}
}

// TestEveryDocumentedPathIsServed asks both roles for each path of the
// document: one of them has it.
func TestEveryDocumentedPathIsServed(t *testing.T) {
	doc, err := v1.Document()
	if err != nil {
		t.Fatal(err)
	}
	coordinator, compute := newNode(t), newNode(t, func(s *v1.Self, _ *v1.Parts) { s.Role = v1.Compute })
	paths := 0
	for line := range strings.Lines(string(doc)) {
		path, ok := strings.CutSuffix(strings.TrimSpace(line), ":")
		if !ok || !strings.HasPrefix(path, "/") {
			continue
		}
		paths++
		url := strings.NewReplacer("{spec}", "x", "{hash}", "x", "{address}", "x").Replace(path)
		served := false
		for _, n := range []*node{coordinator, compute} {
			w := n.do(t, "OPTIONS", url, "")
			served = served || w.Code == 405 && w.Header().Get("Allow") != ""
		}
		if !served {
			t.Errorf("%s is documented, but nobody serves it", path)
		}
	}
	if paths < 17 {
		t.Errorf("the document has %d paths, want all of them", paths)
	}
}
