package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

// side is a node with a machine's directory and its own copy of the parent.
type side struct {
	dir    string
	parent string
}

func (s side) parents() map[string]disk.Parent {
	p := disk.Parent{Name: strings.Repeat("ab", 32), Path: s.parent, Format: vmm.Raw}
	return map[string]disk.Parent{"rootfs.qcow2": p, "over.qcow2": p}
}

func (s side) volumes() []disk.Volume {
	return []disk.Volume{persistent("data", 8), hasParent(persistent("over", 4), s.parent)}
}

func (s side) spec() disk.ImportSpec {
	return disk.ImportSpec{DiskMiB: 8, Volumes: s.volumes(), Parents: s.parents()}
}

// contents are what the guest sees.
func (s side) contents(t *testing.T) [3][]byte {
	t.Helper()
	return [3][]byte{
		content(t, filepath.Join(s.dir, "disk.qcow2"), "qcow2"), content(t, filepath.Join(s.dir, "volumes/data.ext4"), "raw"),
		content(t, filepath.Join(s.dir, "volumes/over.qcow2"), "qcow2"),
	}
}

// pair makes two nodes, the first of which has the machine. Its guest has
// written zeros over its parent, which is where copies go wrong.
func pair(t *testing.T) (from, to side) {
	t.Helper()
	dir := t.TempDir()
	bytesOf := bytes.Repeat([]byte{0xaa}, 4<<20)
	for i, s := range []*side{&from, &to} {
		*s = side{filepath.Join(dir, "vm"+string(rune('0'+i))), filepath.Join(dir, "parent"+string(rune('0'+i)))}
		if err := os.WriteFile(s.parent, bytesOf, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.Prepare(t.Context(), from.dir, 0, from.volumes()); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(from.dir, "disk.qcow2")
	if err := qcow2.WriteOverlay(root, from.parent, "raw", 8<<20); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, filepath.Join(from.dir, "volumes/over.qcow2")} {
		write(t, path, "qcow2", "write -z 1M 1M")
		write(t, path, "qcow2", "write -P 0 2M 64k")
		write(t, path, "qcow2", "write -P 0x77 3M 4k")
	}
	write(t, root, "qcow2", "write -P 0x78 6M 128k")
	write(t, filepath.Join(from.dir, "volumes/data.ext4"), "raw", "write -P 0x79 5M 4k")
	return from, to
}

// fetch reads from the source, as its door does.
func (s side) fetch(_ context.Context, name string, offset, end int64) (io.ReadCloser, error) {
	f, known, err := disk.OpenExport(s.dir, name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, min(end, known.Size-1)-offset), f}, nil // Nobody needs the last byte.
}

// mayStart reports whether a machine has a disk here and would start.
func (s side) mayStart(t *testing.T) bool {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.dir, "disk.qcow2")); err != nil {
		return false
	}
	err := vmm.CheckStart(s.dir)
	if err != nil && !errors.Is(err, errs.Conflict) {
		t.Fatal(err)
	}
	return err == nil
}

func TestAMoveKeepsEveryByte(t *testing.T) {
	from, to := pair(t)
	want := from.contents(t)

	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	if from.mayStart(t) {
		t.Error("the machine may start while it is exported")
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"rootfs.qcow2", "data.raw.qcow2", "over.qcow2"}) {
		t.Errorf("files %q", names)
	}
	raw, err := os.ReadFile(filepath.Join(from.dir, "export/rootfs.qcow2"))
	if err != nil || bytes.Contains(raw, []byte(from.parent)) || len(raw) > 1<<20 {
		t.Errorf("the export has %d bytes and may tell paths (%v), want what differs, and no path", len(raw), err)
	}
	var done, total int64
	spec := to.spec()
	spec.Progress = func(d, n int64) { done, total = d, n }
	if err := disk.Import(t.Context(), to.dir, files, spec, from.fetch, start); err != nil {
		t.Fatal(err)
	}
	if done != total || total == 0 {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	if from.mayStart(t) || to.mayStart(t) {
		t.Error("the machine may start before it is released")
	}
	if err := disk.Release(from.dir); err != nil {
		t.Fatal(err)
	}
	if err := disk.TakeOver(to.dir); err != nil {
		t.Fatal(err)
	}
	if from.mayStart(t) || !to.mayStart(t) {
		t.Errorf("the machine may start at the source %t, at the target %t", from.mayStart(t), to.mayStart(t))
	}
	drives, err := disk.Prepare(t.Context(), to.dir, 8, to.volumes())
	if err != nil || len(drives) != 2 {
		t.Fatalf("Prepare = %v, %v", drives, err)
	}
	for i, got := range to.contents(t) {
		if !bytes.Equal(got, want[i]) {
			t.Errorf("disk %d is not as it was", i)
		}
	}
	if err := disk.CallOff(from.dir, true); !errors.Is(err, errs.Conflict) {
		t.Errorf("CallOff of what was released: %v", err)
	}
}

func TestADiskThatStandsAloneMovesAlone(t *testing.T) {
	from, to := pair(t)
	path := standalone(t, "6M")
	u, err := disk.ReceiveFile(t.Context(), from.dir, path, 8)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Restore(start); err != nil {
		t.Fatal(err)
	}
	want := from.contents(t)
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Import(t.Context(), to.dir, files, to.spec(), from.fetch, start); err != nil {
		t.Fatal(err)
	}
	for i, got := range to.contents(t) {
		if !bytes.Equal(got, want[i]) {
			t.Errorf("disk %d is not as it was", i)
		}
	}
}

func TestTheStatesOfAMove(t *testing.T) {
	from, to := pair(t)
	conflict := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errs.Conflict) {
			t.Errorf("%s: %v, want a conflict", what, err)
		}
	}
	conflict("Release before an export", disk.Release(from.dir))
	if err := disk.TakeOver(from.dir); err != nil {
		t.Errorf("TakeOver of what does not move: %v", err)
	}
	lock, err := vmm.LockDir(from.dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = disk.Export(t.Context(), from.dir, from.parents(), start)
	conflict("Export of a running machine", err)
	lock.Close()
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	again, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil || !slices.Equal(again, files) {
		t.Errorf("a second Export = %v, %v; want the first's files", again, err)
	}
	_, err = disk.Prepare(t.Context(), from.dir, 0, from.volumes())
	conflict("Prepare of what moves", err)
	conflict("Erase of what moves", disk.Erase(from.dir, true, true))
	conflict("Import over a disk", disk.Import(t.Context(), from.dir, files, from.spec(), from.fetch, start))
	conflict("TakeOver of an export", disk.TakeOver(from.dir))
	if _, _, err := disk.OpenExport(from.dir, "../disk.qcow2"); !errors.Is(err, errs.NotFound) {
		t.Errorf("OpenExport of another file: %v", err)
	}
	for _, f := range files {
		if err := disk.CallOff(from.dir, false); err != nil {
			t.Fatalf("CallOff before all is fetched: %v", err)
		}
		if !from.mayStart(t) {
			t.Fatal("the machine may not start after it was called off")
		}
		if _, err := disk.Export(t.Context(), from.dir, from.parents(), start); err != nil {
			t.Fatal(err)
		}
		for _, g := range files[:slices.Index(files, f)] {
			if err := disk.NoteServed(from.dir, g.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := disk.NoteServed(from.dir, files[2].Name); err != nil {
		t.Fatal(err)
	}
	conflict("CallOff after all is fetched", disk.CallOff(from.dir, false))
	// The target gives up whatever it has.
	for range 2 {
		if err := disk.Import(t.Context(), to.dir, files, to.spec(), from.fetch, start); err != nil {
			t.Fatal(err)
		}
		if m, err := disk.MoveOf(to.dir); err != nil || m.State != disk.Imported {
			t.Errorf("MoveOf = %+v, %v", m, err)
		}
		if err := disk.CallOff(to.dir, false); err != nil {
			t.Fatal(err)
		}
		if names, err := filepath.Glob(filepath.Join(to.dir, "*")); err != nil || len(names) != 1 {
			t.Errorf("left: %v (%v), want the lock", names, err)
		}
	}
	if err := disk.CallOff(from.dir, true); err != nil || !from.mayStart(t) {
		t.Errorf("CallOff by force: %v", err)
	}
}

func TestWhatIsFetchedIsChecked(t *testing.T) {
	from, to := pair(t)
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*disk.File)) []disk.File {
		c := slices.Clone(files)
		change(&c[0])
		return c
	}
	for name, tt := range map[string]struct {
		files []disk.File
		text  string
	}{
		"no files":       {nil, "0 files"},
		"no root":        {files[1:], "no rootfs.qcow2"},
		"no volume":      {files[:2], "volume over is not among the files"},
		"another name":   {with(func(f *disk.File) { f.Name = "../../x" }), "no disk for the file"},
		"a kept disk":    {with(func(f *disk.File) { f.Name = "disk.qcow2" }), "no disk for the file"},
		"twice":          {append(slices.Clone(files), files[0]), "twice"},
		"too large":      {with(func(f *disk.File) { f.Size = 1 << 40 }), "bytes"},
		"empty":          {with(func(f *disk.File) { f.Size = 0 }), "bytes"},
		"no hash":        {with(func(f *disk.File) { f.SHA256 = "x" }), "sha256"},
		"another hash":   {with(func(f *disk.File) { f.SHA256 = strings.Repeat("0", 64) }), "hash to"},
		"fewer bytes":    {with(func(f *disk.File) { f.Size-- }), "hash to"},
		"more than come": {with(func(f *disk.File) { f.Size++ }), "broke off"},
	} {
		to.dir = filepath.Join(t.TempDir(), "vm")
		err := disk.Import(t.Context(), to.dir, tt.files, to.spec(), from.fetch, start)
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", name, err, tt.text)
		}
		if to.mayStart(t) {
			t.Errorf("%s: the machine may start", name)
		}
	}
	// Images that hash as they are said to, and are not fit.
	evil := t.TempDir()
	over := func(base, format, size string) string {
		path := filepath.Join(evil, "rootfs.qcow2")
		img(t, "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", format, path, size)
		return path
	}
	for name, make := range map[string]func() string{
		"over a file":  func() string { return over("/etc/passwd", "raw", "8M") },
		"other format": func() string { return over(strings.Repeat("ab", 32), "qcow2", "8M") },
		"over a URL":   func() string { return over("nbd://127.0.0.1/x", "raw", "8M") },
		"larger":       func() string { return over(strings.Repeat("ab", 32), "raw", "9M") },
		"no image": func() string {
			p := filepath.Join(evil, "rootfs.qcow2")
			os.WriteFile(p, []byte("raw"), 0o600)
			return p
		},
		"broken tables": func() string { p := over(strings.Repeat("ab", 32), "raw", "8M"); corrupt(t, p); return p },
	} {
		path := make()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := slices.Clone(files[:1])
		sum[0].Size, sum[0].SHA256 = int64(len(raw)), hashOf(raw)
		to.dir = filepath.Join(t.TempDir(), "vm")
		fetch := func(context.Context, string, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		spec := to.spec()
		spec.Volumes = nil
		if err := disk.Import(t.Context(), to.dir, sum, spec, fetch, start); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
		if to.mayStart(t) {
			t.Errorf("%s: the machine may start", name)
		}
	}
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// corrupt points the table of tables to nowhere.
func corrupt(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0x80, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0}, 3<<16); err != nil {
		t.Fatal(err)
	}
}

// TestOtherSoftwareMovesMachinesHereAndAway does with the files of an export what
// aleph-vm does: it flattens disks for an export, and puts whatever it has fetched
// over the image.
func TestOtherSoftwareMovesMachinesHereAndAway(t *testing.T) {
	for _, restored := range []bool{false, true} {
		from, to := pair(t)
		if restored {
			u, err := disk.ReceiveFile(t.Context(), from.dir, standalone(t, "6M"), 8)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Restore(start); err != nil {
				t.Fatal(err)
			}
		}
		want := content(t, filepath.Join(from.dir, "disk.qcow2"), "qcow2")
		if _, err := disk.Export(t.Context(), from.dir, from.parents(), start); err != nil {
			t.Fatal(err)
		}
		away := filepath.Join(t.TempDir(), "rootfs.qcow2")
		raw, err := os.ReadFile(filepath.Join(from.dir, "export/rootfs.qcow2"))
		if err == nil {
			err = os.WriteFile(away, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		img(t, "rebase", "-u", "-b", to.parent, "-F", "raw", away)
		if !bytes.Equal(content(t, away, "qcow2"), want) {
			t.Errorf("restored %v: the disk is another one where aleph-vm has put it over its image", restored)
		}
		flat := filepath.Join(t.TempDir(), "rootfs.qcow2")
		img(t, "convert", "-c", "-O", "qcow2", filepath.Join(from.dir, "disk.qcow2"), flat)
		if raw, err = os.ReadFile(flat); err != nil {
			t.Fatal(err)
		}
		spec := to.spec()
		spec.Volumes = nil
		fetch := func(_ context.Context, _ string, offset, _ int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw[offset:])), nil
		}
		files := []disk.File{{Name: "rootfs.qcow2", Size: int64(len(raw)), SHA256: hashOf(raw)}}
		if err := disk.Import(t.Context(), to.dir, files, spec, fetch, start); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, filepath.Join(to.dir, "disk.qcow2"), "qcow2"), want) {
			t.Errorf("restored %v: the disk that aleph-vm has flattened is another one here", restored)
		}
	}
	for name, want := range map[string]bool{
		"rootfs.pre-restore-20260807T152948Z.qcow2": true, "rootfs.restore-staging.qcow2": true, "rootfs.qcow2.export.qcow2": true,
		"rootfs.qcow2": false, "data.raw.qcow2": false, "rootfs2.qcow2": false,
	} {
		if got := disk.IsLeftover(name); got != want {
			t.Errorf("%s is left over: %v, want %v", name, got, want)
		}
	}
}

// TestWhatHasComeLastIsKnown: how long what was fetched waits is counted from there.
func TestWhatHasComeLastIsKnown(t *testing.T) {
	from, to := pair(t)
	if _, err := disk.LastImported(to.dir, start.Add(2*time.Hour)); !errors.Is(err, errs.NotFound) {
		t.Errorf("of what does not come: %v, want not found", err)
	}
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.LastImported(from.dir, start); !errors.Is(err, errs.NotFound) {
		t.Errorf("of what leaves: %v, want not found", err)
	}
	cut := func(ctx context.Context, name string, offset, end int64) (io.ReadCloser, error) {
		return from.fetch(ctx, name, offset, end-1)
	}
	if err := disk.Import(t.Context(), to.dir, files, to.spec(), cut, start); !errors.Is(err, errs.Unavailable) {
		t.Fatalf("import of what breaks off: %v", err)
	}
	last := start.Add(time.Hour)
	if err := os.Chtimes(filepath.Join(to.dir, "import/rootfs.qcow2.part"), last, last); err != nil {
		t.Fatal(err)
	}
	for now, want := range map[time.Time]time.Time{start.Add(2 * time.Hour): last, start.Add(time.Minute): start} {
		if at, err := disk.LastImported(to.dir, now); err != nil || !at.Equal(want) {
			t.Errorf("at %v something came last at %v (%v), want %v", now, at, err, want)
		}
	}
}

// TestAFetchGoesOnWhereItBrokeOff: a source that breaks off at every few bytes
// gives the file all the same, and no byte is asked for twice.
func TestAFetchGoesOnWhereItBrokeOff(t *testing.T) {
	from, to := pair(t)
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	var total, sent int64
	for _, f := range files {
		total += f.Size - 1
	}
	piece := total / 7
	flaky := func(ctx context.Context, name string, offset, end int64) (io.ReadCloser, error) {
		r, err := from.fetch(ctx, name, offset, end)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.TeeReader(io.LimitReader(r, piece), counter{&sent}), r}, nil
	}
	tries := 0
	for ; ; tries++ {
		err := disk.Import(t.Context(), to.dir, files, to.spec(), flaky, start)
		if err == nil {
			break
		}
		if !errors.Is(err, errs.Unavailable) || tries > 20 {
			t.Fatal(err)
		}
	}
	if tries < 5 || sent != total {
		t.Errorf("%d bytes were sent in %d tries, want %d", sent, tries, total)
	}
}

type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }

// runImport is the target that is killed: it fetches slowly.
func runImport(from, to, files string) error {
	source := side{dir: from}
	target := side{dir: to, parent: filepath.Join(filepath.Dir(to), "parent1")}
	var all []disk.File
	if err := json.Unmarshal([]byte(files), &all); err != nil {
		return err
	}
	slow := func(ctx context.Context, name string, offset, end int64) (io.ReadCloser, error) {
		r, err := source.fetch(ctx, name, offset, end)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{pausing{io.LimitReader(r, 1<<40)}, r}, nil
	}
	return disk.Import(context.Background(), to, all, target.spec(), slow, start)
}

type pausing struct{ r io.Reader }

func (p pausing) Read(b []byte) (int, error) {
	<-time.After(5 * time.Millisecond)
	return p.r.Read(b[:min(len(b), 4<<10)])
}

// importTakes is how long a whole import takes on this host as it is now.
func importTakes(t *testing.T) time.Duration {
	t.Helper()
	from, to := pair(t)
	files, err := disk.Export(t.Context(), from.dir, from.parents(), start)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if !killed(t, time.Hour, "import", from.dir, to.dir, string(raw)) {
		t.Fatal("it was killed")
	}
	return time.Since(began)
}

// TestAMachineNeverStartsAtTwoNodes takes random steps of a move on both
// sides, with kills of the target in between, and looks after each where the
// machine may start.
func TestAMachineNeverStartsAtTwoNodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	kills, moved, called := 0, 0, 0
	took := importTakes(t)
	for range 6 {
		from, to := pair(t)
		want := from.contents(t)
		released := false
		for step := 0; step < 60 && !to.mayStart(t); step++ {
			move, err := disk.MoveOf(from.dir)
			if err != nil && !errors.Is(err, errs.NotFound) {
				t.Fatal(err)
			}
			switch action := rng.IntN(12); {
			case action == 0 && !released:
				if disk.CallOff(from.dir, rng.IntN(4) == 0) == nil {
					called++
				}
			case action == 1:
				if m, err := disk.MoveOf(to.dir); err == nil && m.State != disk.Imported {
					if err := disk.CallOff(to.dir, false); err != nil {
						t.Fatal(err)
					}
				}
			case action < 5:
				if _, err := disk.Export(t.Context(), from.dir, from.parents(), start); err != nil && !released {
					t.Fatal(err)
				}
			case action < 9 && move.State == disk.Exported:
				files, err := json.Marshal(move.Files)
				if err != nil {
					t.Fatal(err)
				}
				if m, err := disk.MoveOf(to.dir); err == nil && m.State != disk.Importing && !slices.Equal(m.Files, move.Files) {
					continue // What is imported is of an earlier export.
				}
				if !killed(t, time.Duration(rng.Int64N(int64(took+took/2))), "import", from.dir, to.dir, string(files)) {
					kills++
				}
			default:
				m, err := disk.MoveOf(to.dir)
				if err != nil || m.State != disk.Imported || !slices.Equal(m.Files, move.Files) {
					continue
				}
				if disk.Release(from.dir) == nil {
					released = true
					if err := disk.TakeOver(to.dir); err != nil {
						t.Fatal(err)
					}
				}
			}
			if from.mayStart(t) && to.mayStart(t) {
				t.Fatal("the machine may start at both nodes")
			}
		}
		at := from
		if to.mayStart(t) {
			at = to
			moved++
		} else if err := disk.CallOff(from.dir, true); err != nil {
			t.Fatal(err)
		}
		for i, got := range at.contents(t) {
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("disk %d is not as it was", i)
			}
		}
	}
	t.Logf("%d moved, %d kills, %d called off", moved, kills, called)
	if moved == 0 || kills == 0 {
		t.Errorf("%d moved and %d kills, want some of both", moved, kills)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"state":"exported","files":[{"name":"rootfs.qcow2","size_bytes":1,"sha256":"00"}]}`), []byte(`{"remove":["disk.qcow2"]}`))
	f.Fuzz(func(t *testing.T, move, plan []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "vm")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, raw := range map[string][]byte{"vm/move.json": move, "vm/plan.json": plan, "beside": []byte("x")} {
			if err := os.WriteFile(filepath.Join(outer, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_ = disk.CallOff(dir, true)
		_ = disk.TakeOver(dir)
		if raw, err := os.ReadFile(filepath.Join(outer, "beside")); err != nil || string(raw) != "x" {
			t.Fatal("a file outside was changed")
		}
	})
}
