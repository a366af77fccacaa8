package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func open(t *testing.T, dir string, maxBytes int64) *blob.Store {
	t.Helper()
	s, err := blob.Open(dir, blob.Config{MaxSizeGB: float64(maxBytes) / 1e9}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *blob.Store, data []byte) blob.Info {
	t.Helper()
	info, err := s.Put(t.Context(), bytes.NewReader(data), "")
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// files returns the names of all files below dir, for what was left behind.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConfig(t *testing.T) {
	if err := blob.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, gb := range []float64{0, -1, 2e6} {
		if err := (blob.Config{MaxSizeGB: gb}).Validate(); err == nil || !strings.Contains(err.Error(), "max_size_gb") {
			t.Errorf("max_size_gb %g: %v, want an error that names it", gb, err)
		}
	}
}

func TestPutThenRead(t *testing.T) {
	s := open(t, t.TempDir(), 1e9)
	data := bytes.Repeat([]byte("aleph"), 200_000)
	want := blob.Info{Hash: message.HashOf(data), Size: int64(len(data))}

	info := put(t, s, data)

	if info != want {
		t.Fatalf("Put = %+v, want %+v", info, want)
	}
	if again := put(t, s, data); again != want || s.Used() != want.Size {
		t.Errorf("Put again = %+v, used %d; want the same blob once", again, s.Used())
	}
	r, err := s.Open(info.Hash)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	part := make([]byte, 10)
	if _, err := r.ReadAt(part, 500_000); err != nil || !bytes.Equal(part, data[500_000:500_010]) {
		t.Errorf("ReadAt = %q, %v", part, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) || r.Info != want {
		t.Errorf("read %d bytes of %+v, %v", len(got), r.Info, err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("List = %v, %v", list, err)
	}
	if err := s.Verify(t.Context(), info.Hash); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := errors.Join(s.Delete(info.Hash), s.Delete(info.Hash)); err != nil || s.Has(info.Hash) || s.Used() != 0 {
		t.Errorf("Delete: %v, has %v, used %d", err, s.Has(info.Hash), s.Used())
	}
}

func TestWhatIsNotABlob(t *testing.T) {
	s := open(t, t.TempDir(), 1e9)
	absent := message.HashOf([]byte("absent"))
	for name, err := range map[string]error{
		"Stat": second(s.Stat(absent)), "Open": second(s.Open(absent)), "Verify": s.Verify(t.Context(), absent),
	} {
		if errs.KindOf(err) != errs.NotFound {
			t.Errorf("%s of an absent blob: %v, want errs.NotFound", name, err)
		}
	}
	for _, bad := range []message.ItemHash{"", "../../etc/passwd", "QmXXX", message.ItemHash(strings.Repeat("G", 64))} {
		for name, err := range map[string]error{
			"Stat": second(s.Stat(bad)), "Open": second(s.Open(bad)), "Delete": s.Delete(bad), "Path": second(s.Path(bad)),
		} {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s(%q): %v, want errs.Invalid", name, bad, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNothingStaysOfAPutThatFails(t *testing.T) {
	broken := errors.New("line went dead")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want message.ItemHash
		kind errs.Kind
	}{
		{"other bytes than promised", t.Context(), strings.NewReader("x"), message.HashOf([]byte("y")), errs.Invalid},
		{"a reader that breaks", t.Context(), io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), "", errs.Internal},
		{"a context that ended", ended, strings.NewReader("x"), "", errs.Internal},
		{"more than the quota", t.Context(), bytes.NewReader(make([]byte, 1001)), "", errs.Exhausted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, 1000)

			_, err := s.Put(tt.ctx, tt.r, tt.want)

			if errs.KindOf(err) != tt.kind {
				t.Errorf("Put: %v, want kind %s", err, tt.kind)
			}
			if left := files(t, dir); len(left) > 0 || s.Used() != 0 {
				t.Errorf("left behind: %v, used %d", left, s.Used())
			}
		})
	}
}

func TestQuotaCountsEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	put(t, s, make([]byte, 600))
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 300)); err != nil {
		t.Fatal(err)
	}

	if err := s.Fits(101); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "max_size_gb") {
		t.Errorf("Fits(101): %v, want errs.Exhausted that names the setting", err)
	}
	if err := s.Fits(100); err != nil {
		t.Errorf("Fits(100): %v", err)
	}
	if err := w.Reset(); err != nil || w.Size() != 0 || s.Used() != 600 {
		t.Errorf("Reset: %v, size %d, used %d", err, w.Size(), s.Used())
	}
	if _, err := w.Write([]byte("new")); err != nil || w.Sum() != message.HashOf([]byte("new")) {
		t.Errorf("after Reset: %v, sum %s", err, w.Sum())
	}
	if info, err := w.Commit(message.HashOf([]byte("new"))); err != nil || info.Size != 3 {
		t.Errorf("Commit = %+v, %v", info, err)
	}
	if err := w.Abort(); err != nil || s.Used() != 603 {
		t.Errorf("Abort after Commit: %v, used %d", err, s.Used())
	}
	if again := open(t, dir, 1000); again.Used() != 603 {
		t.Errorf("used after opening again = %d, want 603", again.Used())
	}
}

func TestOpenSweepsWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1000)
	kept := put(t, s, []byte("kept"))
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}

	again := open(t, dir, 1000) // as after kill -9: w was never ended

	if left := files(t, filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if !again.Has(kept.Hash) || again.Used() != kept.Size {
		t.Errorf("kept blob is gone, or used is %d", again.Used())
	}
}

func TestConcurrentPutsOfOneBlob(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1e9)
	data := bytes.Repeat([]byte("x"), 1<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Put(context.WithoutCancel(t.Context()), bytes.NewReader(data), message.HashOf(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := files(t, dir); len(left) != 1 || s.Used() != 1<<20 {
		t.Errorf("%d files, %d bytes used; want one blob", len(left), s.Used())
	}
}

func TestVerifyFindsRot(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	info := put(t, s, []byte("fresh"))
	path, err := s.Path(info.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("fr3sh"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), info.Hash); errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "rotted") {
		t.Errorf("Verify: %v, want errs.Internal", err)
	}
}

// fullDiskDir makes the test binary, run again below, write beyond the limit
// of its file size.
const fullDiskDir = "BLOB_TEST_FULL_DISK_DIR"

// A real ENOSPC needs a full disk; the limit of the file size fails the same
// write in the middle, in a process of its own.
func TestDiskFullLeavesNothing(t *testing.T) {
	if dir := os.Getenv(fullDiskDir); dir != "" {
		writeBeyondTheLimit(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFullLeavesNothing$")
	cmd.Env = append(os.Environ(), fullDiskDir+"="+t.TempDir(), "GOCOVERDIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func writeBeyondTheLimit(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir, 1e9)
	small := put(t, s, []byte("small"))
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}

	_, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 3<<20)), "")

	if errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("Put: %v, want errs.Exhausted", err)
	}
	if said := errs.Public(err); said != blob.ErrDisk.Error() {
		t.Errorf("strangers are told %q, want no path", said)
	}
	if left := files(t, dir); len(left) != 1 || s.Used() != small.Size {
		t.Errorf("left behind: %v, used %d", left, s.Used())
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	put(t, s, make([]byte, 3<<20)) // room again: it works again
}

// With the right to mount, the disk is really full.
func TestTinyDiskFullLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("cannot mount (%v): the file size limit stands in, see TestDiskFullLeavesNothing", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, dir, 1e9)

	_, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 3<<20)), "")

	if errs.KindOf(err) != errs.Exhausted || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Put: %v, want errs.Exhausted for ENOSPC", err)
	}
	if left := files(t, dir); len(left) != 0 || s.Used() != 0 {
		t.Errorf("left behind: %v, used %d", left, s.Used())
	}
	put(t, s, make([]byte, 100_000))
}

func TestAStoreThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(file, blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Open made a store in a file")
	}
	reg := prometheus.NewRegistry()
	for i, want := range []bool{true, false} {
		_, err := blob.Open(t.TempDir(), blob.DefaultConfig(), reg, slog.New(slog.DiscardHandler))
		if (err == nil) != want {
			t.Errorf("store %d on one registry: %v", i, err)
		}
	}
}

func FuzzPutIsReadBack(f *testing.F) {
	f.Add([]byte(""), "")
	f.Add([]byte("aleph"), strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		s := open(t, t.TempDir(), 1e9)
		info, err := s.Put(t.Context(), bytes.NewReader(data), message.ItemHash(name))
		if right := name == "" || name == string(message.HashOf(data)); (err == nil) != right {
			t.Fatalf("Put under %q: %v", name, err)
		}
		if err == nil && s.Verify(t.Context(), info.Hash) != nil {
			t.Fatal("the blob is not what was put")
		}
	})
}
