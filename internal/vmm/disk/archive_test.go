package disk_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

var vm = message.ItemHash(strings.Repeat("0a", 32))

// machine is one whose disks are copied by qemu-img.
type machine struct {
	vmm.Machine

	sources  map[int]string
	wait     func(ctx context.Context) error // Before the copy is whole; may be nil.
	canceled int
	asked    vmm.BackupSpec
}

func (m *machine) ID() string { return string(vm) }

func (m *machine) Backup(ctx context.Context, s vmm.BackupSpec) (vmm.BackupResult, error) {
	m.asked = s
	for _, d := range s.Disks {
		// The tool may outlive this process for a moment when that is killed.
		tmp := filepath.Join(s.Dir, fmt.Sprintf(".%s-%d", d.Name, os.Getpid()))
		out, err := exec.CommandContext(ctx, "qemu-img", "convert", "-O", "qcow2", m.sources[d.Drive], tmp).CombinedOutput()
		if err != nil {
			return vmm.BackupResult{}, fmt.Errorf("%w: %s", err, out)
		}
		if err := os.Rename(tmp, filepath.Join(s.Dir, d.Name)); err != nil {
			return vmm.BackupResult{}, err
		}
	}
	if m.wait != nil {
		if err := m.wait(ctx); err != nil {
			return vmm.BackupResult{}, err
		}
	}
	return vmm.BackupResult{At: start.Add(time.Second), Frozen: s.Freeze}, nil
}

func (m *machine) CancelBackup(context.Context) error { m.canceled++; return nil }

func archive(t *testing.T) (*disk.Archive, string) {
	t.Helper()
	dir := t.TempDir()
	a, err := disk.OpenArchive(dir, disk.ArchiveConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

// subject is a machine with two disks, and what its backup has of them.
func subject(t *testing.T) (*machine, []disk.Member) {
	t.Helper()
	root, data := standalone(t, "4M"), standalone(t, "2M")
	return &machine{sources: map[int]string{0: root, 1: data}}, []disk.Member{{Name: "rootfs.qcow2", Path: root}, {Name: "data.qcow2", Drive: 1, Path: data}}
}

// files lists a directory, without what is in its folders.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// checkTar reports a backup that is not as it says.
func checkTar(t *testing.T, a *disk.Archive, dir string, b disk.Backup, members []disk.Member) {
	t.Helper()
	_, f, err := a.Open(b.ID, b.CreatedAt)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	if hex.EncodeToString(sum[:]) != b.SHA256 || int64(len(raw)) != b.Size {
		t.Errorf("the tar has %d bytes with the sum %x, want %d and %s", len(raw), sum, b.Size, b.SHA256)
	}
	line, err := os.ReadFile(filepath.Join(dir, b.ID+".tar.sha256"))
	if want := b.SHA256 + "  " + b.ID + ".tar\n"; err != nil || string(line) != want {
		t.Errorf("the sum's file says %q (%v), want %q", line, err, want)
	}
	r := tar.NewReader(strings.NewReader(string(raw)))
	for _, m := range members {
		h, err := r.Next()
		if err != nil || h.Name != m.Name {
			t.Fatalf("the tar has %v (%v), want %s", h, err, m.Name)
		}
		path := filepath.Join(t.TempDir(), "member")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, r); err != nil {
			t.Fatal(err)
		}
		out.Close()
		img(t, "compare", "-q", path, m.Path)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the tar has more: %v", err)
	}
}

func TestABackupIsATarOfWholeDisks(t *testing.T) {
	a, dir := archive(t)
	m, members := subject(t)

	first, err := a.Create(t.Context(), m, members, true, start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.Create(t.Context(), m, members, false, start) // In the same second.
	if err != nil {
		t.Fatal(err)
	}

	if want := string(vm) + "-20261127T120000Z"; first.ID != want || second.ID == want {
		t.Errorf("the backups are %s and %s, want two, the first %s", first.ID, second.ID, want)
	}
	if !first.Frozen || second.Frozen || first.CreatedAt != start.Add(time.Second) || first.SourceSizes["data.qcow2"] != 2<<20 {
		t.Errorf("the backup is %+v", first)
	}
	for _, b := range []disk.Backup{first, second} {
		checkTar(t, a, dir, b, members)
	}
	all, err := a.List(vm, start.Add(disk.BackupFor))
	if err != nil || len(all) != 2 {
		t.Errorf("List = %v, %v; want both", all, err)
	}
	if other, err := a.List(message.ItemHash(strings.Repeat("0b", 32)), start); err != nil || len(other) != 0 {
		t.Errorf("another machine has %v, %v", other, err)
	}
	if err := a.Delete(first.ID); err != nil {
		t.Error(err)
	}
	for id, kind := range map[string]errs.Kind{first.ID: errs.NotFound, "../x": errs.Invalid, "": errs.Invalid, string(vm) + "-x": errs.Invalid} {
		if _, _, err := a.Open(id, start); errs.KindOf(err) != kind {
			t.Errorf("Open(%q): %v, want %s", id, err, kind)
		}
		if err := a.Delete(id); errs.KindOf(err) != kind {
			t.Errorf("Delete(%q): %v, want %s", id, err, kind)
		}
	}
	late := start.Add(disk.BackupFor + time.Second)
	if _, _, err := a.Open(second.ID, late); !errors.Is(err, errs.NotFound) {
		t.Errorf("Open of an expired one: %v", err)
	}
	if err := a.Expire(start); err != nil || len(files(t, dir)) != 3 {
		t.Errorf("Expire: %v, left %v", err, files(t, dir))
	}
	if err := a.Expire(late); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("Expire: %v, left %v", err, files(t, dir))
	}
}

func TestALargeDiskIsReadFaster(t *testing.T) {
	m, members := subject(t)
	for _, tt := range []struct {
		perSecond int64
		within    time.Duration
		want      int64
	}{{0, time.Minute, 0}, {1 << 10, 0, 1 << 10}, {1 << 10, 4 * time.Second, 1 << 20}, {8 << 20, 4 * time.Second, 8 << 20}} {
		a, err := disk.OpenArchive(t.TempDir(), disk.ArchiveConfig{BytesPerSecond: tt.perSecond, Within: tt.within, Compress: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Create(t.Context(), m, members, false, start); err != nil {
			t.Fatal(err)
		}
		if m.asked.BytesPerSecond != tt.want || !m.asked.Compress {
			t.Errorf("with %d a second within %v the disks are read with %d, want %d", tt.perSecond, tt.within, m.asked.BytesPerSecond, tt.want)
		}
	}
}

func TestABackupThatCannotBe(t *testing.T) {
	m, members := subject(t)
	broken := errors.New("the machine ended")
	for name, tt := range map[string]struct {
		cfg     disk.ArchiveConfig
		members []disk.Member
		machine vmm.Machine
		kind    errs.Kind
		text    string
	}{
		"no room":    {disk.ArchiveConfig{ReserveBytes: 1 << 60}, members, m, errs.Exhausted, "Insufficient disk space"},
		"no disk":    {disk.ArchiveConfig{}, nil, m, errs.Invalid, "no disk image"},
		"lost disk":  {disk.ArchiveConfig{}, []disk.Member{{Name: "rootfs.qcow2", Path: "/nothing"}}, m, errs.NotFound, "no disk image"},
		"other kind": {disk.ArchiveConfig{}, members, struct{ vmm.Machine }{idOnly{}}, errs.Invalid, "no backups"},
		"ended": {disk.ArchiveConfig{}, members, &machine{sources: m.sources, wait: func(context.Context) error {
			return errs.New(errs.Unavailable, "%w", broken)
		}}, errs.Unavailable, "ended"},
	} {
		dir := t.TempDir()
		a, err := disk.OpenArchive(dir, tt.cfg)
		if err != nil {
			t.Fatal(err)
		}

		_, err = a.Create(t.Context(), tt.machine, tt.members, false, start)

		if errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %s and %q", name, err, tt.kind, tt.text)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

type idOnly struct{ vmm.Machine }

func (idOnly) ID() string { return string(vm) }

func TestAnUnfinishedBackupIsFinished(t *testing.T) {
	a, dir := archive(t)
	m, members := subject(t)
	entered := make(chan struct{})
	m.wait = func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := a.Create(ctx, m, members, false, start)
		ended <- err
	}()
	<-entered
	if _, err := a.Create(t.Context(), m, members, false, start); !errors.Is(err, errs.Conflict) || !a.Busy(vm) {
		t.Errorf("a second Create: %v, busy %t; want a conflict", err, a.Busy(vm))
	}
	if err := a.Abandon(vm); !errors.Is(err, errs.Conflict) {
		t.Errorf("Abandon of what is being made: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || m.canceled != 0 {
		t.Errorf("Create: %v, canceled %d times; want the copy to go on", err, m.canceled)
	}
	// As after a restart.
	a, err := disk.OpenArchive(dir, disk.ArchiveConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Unfinished(); err != nil || !slices.Equal(got, []message.ItemHash{vm}) {
		t.Errorf("Unfinished = %v, %v", got, err)
	}
	if _, err := a.Finish(t.Context(), vm); !errors.Is(err, errs.NotFound) {
		t.Errorf("Finish without a machine: %v", err)
	}
	m.wait = nil
	b, err := a.Create(t.Context(), m, nil, false, start.Add(time.Hour))
	if err != nil || b.ID != string(vm)+"-20261127T120000Z" {
		t.Fatalf("Create = %s, %v; want the first to be finished", b.ID, err)
	}
	checkTar(t, a, dir, b, members)
	if left := files(t, dir); len(left) != 3 {
		t.Errorf("left: %v", left)
	}
	if err := a.DeleteAll(vm); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("DeleteAll: %v, left %v", err, files(t, dir))
	}
}

// TestMain is also the process that is killed while it makes a backup or moves
// a machine.
func TestMain(m *testing.M) {
	switch os.Getenv("ALEPH_DISK_TEST_ROLE") {
	case "archive":
		if err := runArchive(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "import":
		if err := runImport(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// runArchive makes a backup of a machine with two disks.
func runArchive(dir, root, data string) error {
	a, err := disk.OpenArchive(dir, disk.ArchiveConfig{})
	if err != nil {
		return err
	}
	m := &machine{sources: map[int]string{0: root, 1: data}}
	members := []disk.Member{{Name: "rootfs.qcow2", Path: root}, {Name: "data.qcow2", Drive: 1, Path: data}}
	if _, err := a.Finish(context.Background(), vm); errors.Is(err, errs.NotFound) {
		_, err = a.Create(context.Background(), m, members, false, start)
		return err
	}
	return err
}

// killed runs this program in a role and kills it after a while; it reports
// whether it ended before.
func killed(t *testing.T, after time.Duration, role string, args ...string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "ALEPH_DISK_TEST_ROLE="+role)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return false
	}
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	return true
}

func TestABackupSurvivesBeingKilled(t *testing.T) {
	dir := t.TempDir()
	_, members := subject(t)
	rng := rand.New(rand.NewPCG(1, 2))
	began, kills, whole := time.Now(), 0, 0
	if !killed(t, time.Hour, "archive", t.TempDir(), members[0].Path, members[1].Path) {
		t.Fatal("it was killed")
	}
	took := time.Since(began)
	for range 30 {
		ended := killed(t, time.Duration(rng.Int64N(int64(took+took/2))), "archive", dir, members[0].Path, members[1].Path)
		if !ended {
			kills++
		}
		a, err := disk.OpenArchive(dir, disk.ArchiveConfig{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := a.List(vm, start)
		if err != nil || len(all) > 1 || ended && len(all) != 1 {
			t.Fatalf("after %d kills, ended %t: %v, %v", kills, ended, all, err)
		}
		for _, b := range all {
			checkTar(t, a, dir, b, members)
		}
		left, err := a.Unfinished()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && len(left) == 0 {
			if left := files(t, dir); len(left) != 3 {
				t.Fatalf("left: %v", left)
			}
			whole++
			if err := a.DeleteAll(vm); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kills == 0 || whole == 0 {
		t.Errorf("%d kills and %d whole backups, want some of both", kills, whole)
	}
	t.Logf("%d kills, %d whole backups", kills, whole)
}
