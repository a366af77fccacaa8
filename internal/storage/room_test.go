package storage_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// room needs some blobs.
type room struct {
	needs []message.ItemHash
	err   error
	freed int
}

func (r *room) Needed(context.Context) (blob.Keep, error) {
	return func(h message.ItemHash, _ time.Time) bool { return slices.Contains(r.needs, h) }, r.err
}

func (r *room) FreeDisk(context.Context) error { r.freed++; return nil }

// fullNode returns a node that has room for four of the images and has four,
// the one that was used last at the end, and a node with another.
func fullNode(t *testing.T) (n *node, have []message.ItemHash, next message.ItemHash) {
	t.Helper()
	const size = 1 << 20
	source := open(t, "source", 1e9)
	n = open(t, "small", 4*size, source.host.Addrs()...)
	p2ptest.Start(t, source.host)
	p2ptest.Start(t, n.host)
	p2ptest.Meet(t, source.host, n.host)
	for i := range 4 {
		have = append(have, n.put(t, bytes.Repeat([]byte{byte(i)}, size)))
	}
	for i, h := range have {
		if _, err := n.blobs.Use(h, time.Now().Add(time.Duration(i-10)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return n, have, source.put(t, bytes.Repeat([]byte{9}, size))
}

func TestANodeFullOfUnusedImagesFetchesANewOne(t *testing.T) {
	n, have, next := fullNode(t)
	n.keep.Reclaim(&room{needs: have[1:2]})
	if _, err := n.keep.Fetch(t.Context(), have[0]); err != nil { // It is used again.
		t.Fatal(err)
	}

	if _, err := n.keep.Fetch(t.Context(), next); err != nil {
		t.Fatalf("Fetch into a full store: %v", err)
	}

	for i, want := range []bool{true, true, false, true} {
		if n.blobs.Has(have[i]) != want {
			t.Errorf("blob %d is here: %v, want %v", i, !want, want)
		}
	}
	if err := n.blobs.Verify(t.Context(), next); err != nil {
		t.Error(err)
	}
}

func TestANodeFullOfUsedImagesSaysSo(t *testing.T) {
	n, have, next := fullNode(t)
	n.keep.Reclaim(&room{needs: have})

	_, err := n.keep.Fetch(t.Context(), next)

	if errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "4194304 of 4194304 bytes used") || !strings.Contains(err.Error(), "4194304 bytes are in use and stay") {
		t.Errorf("Fetch: %v, want errs.Exhausted that says what is used", err)
	}
	for i, h := range have {
		if !n.blobs.Has(h) {
			t.Errorf("blob %d is gone", i)
		}
	}
}

func TestNothingIsDeletedWithoutAnAnswer(t *testing.T) {
	n, have, next := fullNode(t)
	if _, err := n.keep.Fetch(t.Context(), next); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("Fetch without a Room: %v, want errs.Exhausted", err)
	}
	broken := errors.New("the database is away")
	r := &room{err: broken}
	n.keep.Reclaim(r)
	if err := n.keep.MakeRoom(t.Context(), 1); !errors.Is(err, broken) || r.freed != 0 {
		t.Errorf("MakeRoom: %v with %d looks at the disk, want the error of the Room and none", err, r.freed)
	}
	for i, h := range have {
		if !n.blobs.Has(h) {
			t.Errorf("blob %d is gone", i)
		}
	}
}

func TestADroppedBlobIsFetchedAnew(t *testing.T) {
	nodes := network(t, 2)
	data := image(1 << 20)
	hash := nodes[1].put(t, data)
	if _, err := nodes[0].blobs.Put(t.Context(), bytes.NewReader(data), ""); err != nil {
		t.Fatal(err)
	}

	if err := nodes[0].keep.Drop(hash); err != nil || nodes[0].blobs.Has(hash) {
		t.Fatalf("Drop: %v, want the blob gone", err)
	}
	if _, err := nodes[0].keep.Fetch(t.Context(), hash); err != nil {
		t.Error(err)
	}
}
