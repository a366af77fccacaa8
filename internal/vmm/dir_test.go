package vmm_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

func TestLockTellsWhoRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm")
	if running, err := vmm.Running(dir); err != nil || running {
		t.Errorf("Running of nothing = %t, %v", running, err)
	}
	lock, err := vmm.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if running, err := vmm.Running(dir); err != nil || !running {
		t.Errorf("Running = %t, %v; want true", running, err)
	}
	if _, err := vmm.LockDir(dir); !errors.Is(err, errs.Conflict) {
		t.Errorf("second lock: %v, want a conflict", err)
	}
	if err := vmm.Remove(dir); !errors.Is(err, errs.Conflict) {
		t.Errorf("Remove: %v, want a conflict", err)
	}
	lock.Close()
	if err := os.WriteFile(filepath.Join(dir, "disk"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(vmm.Remove(dir), vmm.Remove(dir)); err != nil {
		t.Errorf("Remove twice: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v, want none", err)
	}
}

func TestFullDiskHasItsKind(t *testing.T) {
	if err := vmm.DiskError(&os.PathError{Op: "write", Err: unix.ENOSPC}); !errors.Is(err, errs.Exhausted) {
		t.Errorf("ENOSPC is %v, want exhausted", err)
	}
	if vmm.DiskError(io.EOF) != io.EOF || //nolint:errorlint // The same error, not one like it.
		vmm.DiskError(nil) != nil {
		t.Error("other errors are changed")
	}
}

// machine is a directory with a console that a test writes as a guest does.
type machine struct {
	t   *testing.T
	dir string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	return machine{t, t.TempDir()}
}

func (m machine) print(text string) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.dir, vmm.ConsoleFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) trim() {
	m.t.Helper()
	if err := vmm.TrimConsole(m.dir); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) read(tail int64) string {
	m.t.Helper()
	r, err := vmm.Console(m.t.Context(), m.dir, tail, false)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(raw)
}

func TestConsoleIsARing(t *testing.T) {
	m := newMachine(t)
	if got := m.read(0); got != "" {
		t.Errorf("console of nothing: %q", got)
	}
	m.trim() // There is nothing to trim.
	big := strings.Repeat("x", vmm.ConsoleMax)
	m.print("old" + big)
	m.trim()
	if got := m.read(0); got != big {
		t.Errorf("after a turn: %d bytes, want the last %d", len(got), len(big))
	}
	m.print("new")
	m.trim() // Not yet again.
	for tail, want := range map[int64]string{0: big + "new", 2: "ew", 3: "new", 4: "xnew"} {
		if got := m.read(tail); got != want {
			t.Errorf("tail %d: %d bytes, want %d", tail, len(got), len(want))
		}
	}
	m.print(big)
	m.trim()
	for _, name := range []string{vmm.ConsoleFile, vmm.ConsoleOldFile} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(m.dir, name), &st); err != nil || st.Blocks*512 > vmm.ConsoleMax+64<<10 {
			t.Errorf("%s takes %d bytes, %v; want at most %d", name, st.Blocks*512, err, vmm.ConsoleMax)
		}
	}
}

func TestFollowerSeesEveryByteOverTurns(t *testing.T) {
	m := newMachine(t)
	lock, err := vmm.LockDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.print("begin ")
	r, err := vmm.Console(t.Context(), m.dir, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 6)
	if _, err := io.ReadFull(r, head); err != nil || string(head) != "begin " {
		t.Fatalf("read %q, %v", head, err)
	}

	const rest = vmm.ConsoleMax - 8
	// The ring turns under the reader, with bytes that it has not seen.
	// It is one turn behind, by less than a file holds.
	m.print("middle " + strings.Repeat("x", rest))
	m.trim()
	m.print("end")
	lock.Close()

	raw, err := io.ReadAll(r)
	if want := 7 + rest + 3; err != nil || len(raw) != want || !strings.HasPrefix(string(raw), "middle x") || !strings.HasSuffix(string(raw), "xend") {
		t.Errorf("read %d bytes, %v; want all of %d", len(raw), err, want)
	}
}

func TestFollowingEndsWithItsContext(t *testing.T) {
	m := newMachine(t)
	lock, err := vmm.LockDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r, err := vmm.Console(ctx, m.dir, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read: %v, want the deadline", err)
	}
}
