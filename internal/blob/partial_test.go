package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func partials(t *testing.T, s *blob.Store) *blob.Partials {
	t.Helper()
	p, err := blob.OpenPartials(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t *testing.T, p *blob.Partials, size int64, now time.Time) string {
	t.Helper()
	part, err := p.Begin(size, []byte("note"), now)
	if err != nil {
		t.Fatal(err)
	}
	return part.ID
}

// whole are the bytes that are here.
func whole(t *testing.T, p *blob.Partials, id string) (out string) {
	t.Helper()
	err := p.Read(id, func(part blob.Partial, r io.Reader) error {
		raw, err := io.ReadAll(r)
		if int64(len(raw)) != part.Offset || string(part.Note) != "note" {
			t.Errorf("%d bytes are here with the note %q, it says %d", len(raw), part.Note, part.Offset)
		}
		out = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFileComesInPiecesOverRestarts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	p := partials(t, s)
	now := time.Now()
	id := begin(t, p, 10, now)
	if s.Used() != 10 {
		t.Errorf("%d bytes are used, want those that are to come", s.Used())
	}
	part, err := p.Append(id, 0, strings.NewReader("abc"))
	if err != nil || part.Offset != 3 {
		t.Fatalf("Append: %+v, %v", part, err)
	}
	broken := errors.New("the line broke")
	if part, err = p.Append(id, 3, io.MultiReader(strings.NewReader("de"), iotest.ErrReader(broken))); !errors.Is(err, broken) || part.Offset != 5 {
		t.Errorf("a broken line: %+v, %v, want 5 bytes", part, err)
	}
	for _, offset := range []int64{0, 4, 6} {
		if _, err := p.Append(id, offset, strings.NewReader("x")); errs.KindOf(err) != errs.Conflict {
			t.Errorf("at %d of 5: %v, want conflict", offset, err)
		}
	}

	s.Close()
	s = open(t, dir, 1000)
	p = partials(t, s)

	if part, err := p.Look(id); err != nil || part.Offset != 5 || part.SizeBytes != 10 || !part.CreatedAt.Equal(now) || s.Used() != 10 {
		t.Fatalf("after a restart: %+v, %v, %d bytes used", part, err, s.Used())
	}
	if part, err := p.Append(id, 5, strings.NewReader("fghijk")); errs.KindOf(err) != errs.Invalid || part.Offset != 10 {
		t.Errorf("a byte too many: %+v, %v", part, err)
	}
	same := whole(t, p, id)
	if same != "abcdefghij" {
		t.Errorf("the file is %q", same)
	}
	if err := errors.Join(p.Drop(id), p.Drop(id)); err != nil || s.Used() != 0 {
		t.Errorf("Drop: %v, %d bytes used", err, s.Used())
	}
	if left, err := os.ReadDir(dir + "/partial"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFilesInPiecesAreBounded(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	p := partials(t, s)
	now := time.Now()
	if _, err := p.Begin(1001, nil, now); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("more than the quota: %v", err)
	}
	if _, err := p.Begin(-1, nil, now); errs.KindOf(err) != errs.Invalid {
		t.Errorf("less than nothing: %v", err)
	}
	if _, err := p.Begin(1, make([]byte, 1<<20), now); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a long note: %v", err)
	}
	old := begin(t, p, 1, now)
	for range 127 {
		begin(t, p, 1, now.Add(time.Hour))
	}
	if _, err := p.Begin(1, nil, now.Add(time.Hour)); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("one more: %v", err)
	}

	if _, err := p.Begin(1, nil, now.Add(24*time.Hour+time.Second)); err != nil {
		t.Errorf("after the first is over: %v", err)
	}

	if _, err := p.Look(old); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the first: %v, want not found", err)
	}
	for _, id := range []string{"", "../objects", old} {
		if _, err := p.Append(id, 0, strings.NewReader("x")); errs.KindOf(err) != errs.NotFound {
			t.Errorf("Append to %q: %v", id, err)
		}
	}
}

func TestOneAtATimeUsesAFileInPieces(t *testing.T) {
	p := partials(t, open(t, t.TempDir(), 1000))
	id := begin(t, p, 10, time.Now())
	err := p.Read(id, func(blob.Partial, io.Reader) error {
		_, err := p.Append(id, 0, strings.NewReader("x"))
		return err
	})
	if errs.KindOf(err) != errs.Conflict {
		t.Errorf("got %v, want conflict", err)
	}
}

// killedDir is where the process that is killed writes.
const killedDir = "ALEPH_TEST_KILLED_DIR"

// TestKilledUploadGoesOn kills a process that is in the middle of a file.
func TestKilledUploadGoesOn(t *testing.T) {
	const size = 64 << 20
	if dir := os.Getenv(killedDir); dir != "" {
		p := partials(t, open(t, dir, 1e9))
		id := begin(t, p, size, time.Now())
		told := false
		_, err := p.Append(id, 0, reader(func(b []byte) (int, error) {
			if !told {
				told = true
				fmt.Println("ID " + id)
			}
			clear(b)
			return min(len(b), 4096), nil
		}))
		t.Fatalf("it came to an end: %v", err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledUploadGoesOn$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir, "GOCOVERDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	if _, err := fmt.Fscanf(out, "ID %s\n", &id); err != nil {
		t.Fatal(err)
	}
	for { // Until something is written.
		if fi, err := os.Stat(dir + "/partial/" + id); err == nil && fi.Size() > 0 {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	p := partials(t, open(t, dir, 1e9))

	part, err := p.Look(id)
	if err != nil || part.Offset == 0 || part.Offset >= size || part.SizeBytes != size {
		t.Fatalf("after the kill: %+v, %v", part, err)
	}
	if part, err = p.Append(id, part.Offset, bytes.NewReader(make([]byte, size-part.Offset))); err != nil || part.Offset != size {
		t.Errorf("the rest: %+v, %v", part, err)
	}
	if got := whole(t, p, id); got != string(make([]byte, size)) {
		t.Errorf("the file has %d bytes, or others than came", len(got))
	}
}

type reader func([]byte) (int, error)

func (f reader) Read(p []byte) (int, error) { return f(p) }
