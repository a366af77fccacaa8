package blob_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// all says that whatever is there is good, and keep what to keep of it.
func all(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

func stage(t *testing.T, s *blob.Store, name string, check func(io.Reader) (int64, error)) *blob.Writer {
	t.Helper()
	w, err := s.Stage(name, check)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, w *blob.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// TestStagedBlobsGoOn writes a blob in three lives of the store. One ends in order,
// one without a word; of what the latter left the end is bad.
func TestStagedBlobsGoOn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	w := stage(t, s, "b", all)
	write(t, w, "one ")
	if err := w.Suspend(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil || s.Used() != 4 {
		t.Errorf("an abort after it was left for later: %v, %d bytes used; want 4", err, s.Used())
	}
	w = stage(t, s, "b", all)
	write(t, w, "two xxxx")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir, 1000)
	if s.Used() != 12 || len(here(t, s)) != 0 {
		t.Errorf("%d bytes used and blobs %v; want 12 and none", s.Used(), here(t, s))
	}
	var found []byte
	w = stage(t, s, "b", func(r io.Reader) (int64, error) {
		var err error
		found, err = io.ReadAll(r)
		return 8, err
	})
	if string(found) != "one two xxxx" || s.Used() != 8 || w.Size() != 8 {
		t.Errorf("found %q, %d bytes used, %d of it; want all, and 8 kept", found, s.Used(), w.Size())
	}
	write(t, w, "three")
	got := make([]byte, 3)
	if _, err := w.ReadAt(got, 4); err != nil || string(got) != "two" {
		t.Errorf("reads %q, %v", got, err)
	}
	info, err := w.Commit(message.HashOf([]byte("one two three")))
	if err != nil {
		t.Fatal(err)
	}

	if data := content(t, s, info.Hash); !bytes.Equal(data, []byte("one two three")) || s.Used() != 13 {
		t.Errorf("the blob is %q with %d bytes used", data, s.Used())
	}
	if w := stage(t, s, "b", all); w.Size() != 0 {
		t.Errorf("after the commit %d bytes are left", w.Size())
	}
}

func content(t *testing.T, s *blob.Store, hash message.ItemHash) []byte {
	t.Helper()
	r, err := s.Open(hash)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAStagedBlobHasOneWriter(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	w := stage(t, s, "b", all)
	if _, err := s.Stage("b", all); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a second writer: %v, want conflict", err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if w = stage(t, s, "b", all); w.Size() != 0 || s.Used() != 0 {
		t.Errorf("after an abort %d bytes are left, %d used", w.Size(), s.Used())
	}
	broken := errors.New("broken")
	if err := w.Suspend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stage("b", func(io.Reader) (int64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("a check that fails: %v", err)
	}
	stage(t, s, "b", all) // Nobody holds it.
	for _, name := range []string{"", "a/b", "..", strings.Repeat("a", 300)} {
		if _, err := s.Stage(name, all); err == nil {
			t.Errorf("%.20q is taken for a name", name)
		}
	}
}

// TestStagedBlobsYield: what waits to be gone on with goes before anything else when
// there is no room, but not what somebody writes to.
func TestStagedBlobsYield(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	kept := put(t, s, bytes.Repeat([]byte("k"), 300))
	idle, busy := stage(t, s, "idle", all), stage(t, s, "busy", all)
	write(t, idle, strings.Repeat("i", 300))
	write(t, busy, strings.Repeat("b", 300))
	if err := idle.Suspend(); err != nil {
		t.Fatal(err)
	}
	if _, err := busy.Write(make([]byte, 200)); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("more than fits: %v, want exhausted", err)
	}

	if err := s.MakeRoom(400, keeping()); err != nil {
		t.Fatal(err)
	}

	if s.Used() != 600 || !s.Has(kept.Hash) {
		t.Errorf("%d bytes used, the blob is here: %t; want the idle bytes gone alone", s.Used(), s.Has(kept.Hash))
	}
	if err := s.MakeRoom(900, keeping()); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("room that only the busy one could give: %v", err)
	}
	if err := busy.Abort(); err != nil {
		t.Fatal(err)
	}
}

func TestStagedBlobsExpire(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	w := stage(t, s, "old", all)
	write(t, w, "old")
	if err := w.Suspend(); err != nil {
		t.Fatal(err)
	}
	s.AgeStage(t, "old", 25*time.Hour)

	stage(t, s, "new", all)

	if s.Used() != 0 {
		t.Errorf("%d bytes used after a day, want none", s.Used())
	}
}
