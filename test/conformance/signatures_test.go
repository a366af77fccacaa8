//go:build conformance

package conformance_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// vector is a case of signatures.
type vector struct {
	Name     string
	Valid    bool
	Envelope json.RawMessage
}

// TestCase01To08Signatures hands in every vector of signatures. A valid one is
// processed, or waits or is refused for what this empty node lacks; any other is
// refused for its signature.
func TestCase01To08Signatures(t *testing.T) {
	c := open(t)
	files, err := filepath.Glob("../../protocol/testdata/vectors/signature_*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	// What comes after the signature: ownership, files, balances, references.
	later := []string{"processed", "pending", "rejected 2", "rejected 5", "rejected 6"}
	for _, file := range files {
		var vectors struct{ Cases []vector }
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &vectors)
		}
		if err != nil {
			t.Fatal(err)
		}
		family := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "signature_"), ".json")
		// Those that are not valid come first: of what is processed, a copy is not looked at.
		slices.SortStableFunc(vectors.Cases, func(a, b vector) int { return cmp.Compare(number(a.Valid), number(b.Valid)) })
		known := map[string]bool{}
		for _, v := range vectors.Cases {
			var e struct {
				Hash string `json:"item_hash"`
			}
			if err := json.Unmarshal(v.Envelope, &e); err != nil {
				t.Fatal(err)
			}
			if known[e.Hash] {
				continue // A second signature of one message.
			}
			a := c.submit(v.Envelope)
			got := c.verdict(e.Hash)
			unread := a.status == http.StatusUnprocessableEntity && strings.Contains(a.body, "InvalidMessageFormat")
			switch {
			case v.Valid && !slices.Contains(later, got) && (!unread || v.Name != oldProgram):
				t.Errorf("%s, %s: %s, want past the signature; answered %d %s", family, v.Name, got, a.status, a.body)
			case !v.Valid && (a.status != http.StatusUnprocessableEntity || !unread && got != "rejected 1"):
				t.Errorf("%s, %s: %d and %s, want 422 and rejected 1; answered %s", family, v.Name, a.status, got, a.body)
			}
			known[e.Hash] = v.Valid
		}
	}
}

// oldProgram is a message of the network whose metadata is a list, which is refused
// today.
const oldProgram = "network PROGRAM 9"

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
