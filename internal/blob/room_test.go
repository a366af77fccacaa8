package blob_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// keeping is a test for blobs that keeps those with the hashes.
func keeping(hashes ...message.ItemHash) func() (blob.Keep, error) {
	return func() (blob.Keep, error) {
		return func(h message.ItemHash, _ time.Time) bool { return slices.Contains(hashes, h) }, nil
	}
}

// full returns a store of 1000 bytes with three blobs of 300, used in the order
// c, a, b.
func full(t *testing.T) (s *blob.Store, a, b, c message.ItemHash) {
	t.Helper()
	s = open(t, t.TempDir(), 1000)
	var hashes []message.ItemHash
	for i, ago := range []time.Duration{2 * time.Hour, time.Hour, 3 * time.Hour} {
		info := put(t, s, bytes.Repeat([]byte{byte(i)}, 300))
		if _, err := s.Use(info.Hash, time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, info.Hash)
	}
	return s, hashes[0], hashes[1], hashes[2]
}

func here(t *testing.T, s *blob.Store) (out []message.ItemHash) {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		out = append(out, b.Hash)
	}
	return out
}

func sorted(h ...message.ItemHash) []message.ItemHash { slices.Sort(h); return h }

func TestRoomIsMadeOfWhatWasNotUsedForLongest(t *testing.T) {
	tests := []struct {
		name string
		size int64
		keep func(a, b, c message.ItemHash) []message.ItemHash
		left func(a, b, c message.ItemHash) []message.ItemHash
		err  string
	}{
		{"it fits", 100, func(_, _, _ message.ItemHash) []message.ItemHash { return nil }, func(a, b, c message.ItemHash) []message.ItemHash { return sorted(a, b, c) }, ""},
		{"one goes", 400, func(_, _, _ message.ItemHash) []message.ItemHash { return nil }, func(a, b, _ message.ItemHash) []message.ItemHash { return sorted(a, b) }, ""},
		{"two go", 401, func(_, _, _ message.ItemHash) []message.ItemHash { return nil }, func(_, b, _ message.ItemHash) []message.ItemHash { return sorted(b) }, ""},
		{"what is in use stays", 401, func(a, _, _ message.ItemHash) []message.ItemHash { return sorted(a) }, func(a, _, _ message.ItemHash) []message.ItemHash { return sorted(a) }, ""},
		{"all in use", 101, func(a, b, c message.ItemHash) []message.ItemHash { return sorted(a, b, c) }, func(a, b, c message.ItemHash) []message.ItemHash { return sorted(a, b, c) }, "900 of 1000 bytes used, 101 more needed; raise [storage] max_size_gb or delete blobs; 900 bytes are in use and stay"},
		{"nothing in vain", 701, func(a, _, _ message.ItemHash) []message.ItemHash { return sorted(a) }, func(a, b, c message.ItemHash) []message.ItemHash { return sorted(a, b, c) }, "300 bytes are in use and stay"},
		{"larger than the store", 1001, func(_, _, _ message.ItemHash) []message.ItemHash { return nil }, func(a, b, c message.ItemHash) []message.ItemHash { return sorted(a, b, c) }, "blob store is full"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b, c := full(t)

			err := s.MakeRoom(tt.size, keeping(tt.keep(a, b, c)...))

			if tt.err == "" && err != nil || tt.err != "" && (errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("MakeRoom: %v, want %q", err, tt.err)
			}
			left := here(t, s)
			if diff := cmp.Diff(tt.left(a, b, c), left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if s.Used() != int64(300*len(left)) {
				t.Errorf("used %d, want 300 for each of %d", s.Used(), len(left))
			}
		})
	}
}

// Whoever uses a blob before it is deleted keeps it, even if the test for what
// must stay was answered before.
func TestABlobThatIsUsedMeanwhileStays(t *testing.T) {
	s, a, b, c := full(t)

	err := s.MakeRoom(400, func() (blob.Keep, error) {
		if _, err := s.Use(c, time.Now()); err != nil {
			t.Error(err)
		}
		return func(message.ItemHash, time.Time) bool { return false }, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(b, c), here(t, s)); diff != "" {
		t.Errorf("left (-want +got):\n%s, want all but %s", diff, a)
	}
}

func TestRoomIsMadeOnADiskThatIsShort(t *testing.T) {
	s, a, b, c := full(t)
	s.SetFree(func() int64 { return 900 - s.Used() + 10 })
	if err := s.Fits(11); !errors.Is(err, blob.ErrDisk) || errs.KindOf(err) != errs.Exhausted {
		t.Errorf("Fits: %v, want that the disk is full", err)
	}

	if err := s.MakeRoom(50, keeping(c)); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(sorted(b, c), here(t, s)); diff != "" {
		t.Errorf("left (-want +got):\n%s, want all but %s", diff, a)
	}
	s.SetFree(func() int64 { return 10 })
	if err := s.MakeRoom(350, keeping(c)); !errors.Is(err, blob.ErrDisk) || len(here(t, s)) != 2 {
		t.Errorf("MakeRoom of more than there is: %v with %d blobs left, want none deleted", err, len(here(t, s)))
	}
	broken := errors.New("the database is away")
	if err := s.MakeRoom(400, func() (blob.Keep, error) { return nil, broken }); !errors.Is(err, broken) || len(here(t, s)) != 2 {
		t.Errorf("MakeRoom without an answer: %v, want nothing deleted", err)
	}
}

func TestUseNamesWhatIsNotHere(t *testing.T) {
	s := open(t, t.TempDir(), 1000)

	for hash, want := range map[message.ItemHash]errs.Kind{message.HashOf(nil): errs.NotFound, "nonsense": errs.Invalid} {
		if _, err := s.Use(hash, time.Now()); errs.KindOf(err) != want {
			t.Errorf("Use(%s): %v, want %s", hash, err, want)
		}
	}
}
