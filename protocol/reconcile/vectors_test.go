package reconcile_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

var update = flag.Bool("update", false, "rewrite the vectors in protocol/testdata/vectors")

const vectorsPath = "../testdata/vectors/reconcile.json"

type vectors struct {
	About string `json:"about"`
	// Sums: the digest and the fingerprint of the first items.
	Sums []sumVector `json:"sums"`
	// Items that a node has who is asked, and, by their places, those that the other lacks.
	Items []itemVector `json:"items"`
	// Sessions: who asks lacks some of the items.
	Sessions []sessionVector `json:"sessions"`
}

type sumVector struct {
	N      int    `json:"n"`
	Digest string `json:"digest"`
	Print  string `json:"print"`
}

type itemVector struct {
	At   int64            `json:"at"`
	Hash message.ItemHash `json:"hash"`
}

type sessionVector struct {
	Lacks  []int      `json:"lacks"`
	Rounds [][]string `json:"rounds"` // Question and answer, in hex.
}

// makeVectors computes all cases; they are the same every time.
func makeVectors(t *testing.T) *vectors {
	t.Helper()
	v := &vectors{About: "Sums and fingerprints of items, and comparisons byte by byte: docs/protocol/reconcile.md. A node may cut ranges elsewhere than these answers do."}
	var all []reconcile.Point
	for i := range 120 {
		all = append(all, item(uint64(i), int64(i/2)*1_500_000))
	}
	set := newMemory(all)
	for i, p := range set.items {
		v.Items = append(v.Items, itemVector{p.At, p.Hash})
		if i < 5 || i == 100 {
			print := set.sums[i].Print()
			v.Sums = append(v.Sums, sumVector{i, hex.EncodeToString(set.sums[i].Digest()), hex.EncodeToString(print[:])})
		}
	}
	for _, lacks := range [][]int{{}, {3}, {0, 40, 41, 42, 119}} {
		s := sessionVector{Lacks: lacks}
		some := append([]reconcile.Point{}, set.items...)
		for i := len(lacks) - 1; i >= 0; i-- {
			some = append(some[:lacks[i]], some[lacks[i]+1:]...)
		}
		session := reconcile.NewSession(newMemory(some))
		found := 0
		for !session.Done() {
			q, err := session.Question()
			if err != nil {
				t.Fatal(err)
			}
			a, err := reconcile.Reply(set, q, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Rounds = append(s.Rounds, []string{hex.EncodeToString(q.Encode()), hex.EncodeToString(a.Encode(q))})
			f, err := session.Take(q, a)
			if err != nil {
				t.Fatal(err)
			}
			found += len(f.Lacks)
		}
		if found != len(lacks) {
			t.Fatalf("%d of %d were found", found, len(lacks))
		}
		v.Sessions = append(v.Sessions, s)
	}
	return v
}

func TestVectors(t *testing.T) {
	want := makeVectors(t)
	if *update {
		raw, err := json.MarshalIndent(want, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsPath, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	got := new(vectors)
	if err := json.Unmarshal(raw, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vectors (-computed +file):\n%s", diff)
	}
}
