package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) // Of the tests' time.

func img(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
	return string(out)
}

// write writes bytes into a disk image, as a guest would.
func write(t testing.TB, path, format, command string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", format, "-c", command, path).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("failed")) {
		t.Fatalf("qemu-io %s: %v: %s", command, err, out)
	}
}

// content returns what a guest sees of a disk.
func content(t testing.TB, path, format string) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	img(t, "convert", "-f", format, "-O", "raw", path, raw)
	b, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func blob(t testing.TB, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, raw, 0o400); err != nil {
		t.Fatal(err)
	}
	return path
}

// standalone makes a qcow2 image that a guest has written to.
func standalone(t testing.TB, size string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	img(t, "create", "-q", "-f", "qcow2", path, size)
	write(t, path, "qcow2", "write -P 0x42 64k 128k")
	return path
}

func persistent(name string, size int64) disk.Volume {
	return disk.Volume{Volume: message.Volume{Kind: message.Persistent, Name: &name, SizeMiB: size}}
}

func hasParent(v disk.Volume, path string) disk.Volume {
	v.Parent, v.Path = &message.Parent{}, path
	return v
}

func TestNamesAreFilesOfTheirFolder(t *testing.T) {
	var volumes []disk.Volume
	for _, name := range []string{"data", "../../etc/passwd", "a/b", "DATA", "", "käse", strings.Repeat("x", 500), strings.Repeat("x", 400), "."} {
		volumes = append(volumes, persistent(name, 1))
	}
	volumes = append(volumes, disk.Volume{Volume: message.Volume{Kind: message.Ephemeral}})

	got := disk.Names(volumes)

	x := strings.Repeat("x", 128)
	want := []string{"data", "______etc_passwd", "a_b", "DATA-3", "unamed_volume_4", "k_se", x, x[:120] + "-7", "_", "unamed_volume_9"}
	if !slices.Equal(got, want) {
		t.Errorf("Names = %q, want %q", got, want)
	}
}

func FuzzNames(f *testing.F) {
	f.Add("data", "data", "../x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		names := disk.Names([]disk.Volume{persistent(a, 1), persistent(b, 1), persistent(c, 1), persistent(a, 1)})
		seen := map[string]bool{}
		for _, n := range names {
			if n == "" || len(n) > 128 || strings.ContainsAny(n, "./\x00,\n") || seen[n] {
				t.Fatalf("names %q", names)
			}
			seen[n] = true
		}
	})
}

func TestVolumesAreMadeAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm")
	base := standalone(t, "4M")
	fixed := blob(t, []byte("hsqs and more"))
	volumes := []disk.Volume{
		persistent("data", 16),
		{Volume: message.Volume{Kind: message.Immutable}, Path: fixed},
		hasParent(persistent("over", 8), base),
		{Volume: message.Volume{Kind: message.Ephemeral, SizeMiB: 8}},
	}

	got, err := disk.Prepare(t.Context(), dir, 0, volumes)
	if err != nil {
		t.Fatal(err)
	}
	want := []vmm.Volume{
		{Path: filepath.Join(dir, "volumes/data.ext4"), Format: vmm.Raw},
		{Path: fixed, Format: vmm.Raw, ReadOnly: true},
		{Path: filepath.Join(dir, "volumes/over.qcow2"), Format: vmm.Qcow2},
		{Path: filepath.Join(dir, "ephemeral/3.ext4"), Format: vmm.Raw},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("Prepare = %+v, want %+v", got, want)
	}
	if over := content(t, got[2].Path, "qcow2"); len(over) != 8<<20 || over[64<<10] != 0x42 {
		t.Errorf("the overlay has %d bytes and %x", len(over), over[64<<10])
	}
	for _, path := range []string{got[0].Path, got[3].Path} {
		raw, err := os.ReadFile(path)
		if err != nil || binary.LittleEndian.Uint16(raw[1024+56:]) != 0xef53 {
			t.Errorf("%s is no ext4 file system (%v)", path, err)
		}
	}
	label, err := os.ReadFile(got[0].Path)
	if err != nil || !bytes.HasPrefix(label[1024+120:], []byte("data\x00")) {
		t.Errorf("the volume has no label data (%v)", err)
	}
	// The guest writes; the next start finds that, in more room, and what is
	// ephemeral is gone.
	write(t, got[0].Path, "raw", "write -P 0x11 1M 4k")
	write(t, got[2].Path, "qcow2", "write -P 0x22 1M 4k")
	write(t, got[3].Path, "raw", "write -P 0x33 1M 4k")
	volumes[0].SizeMiB, volumes[2].SizeMiB = 32, 12
	if _, err := disk.Prepare(t.Context(), dir, 0, volumes); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		format string
		size   int
		first  byte
	}{{"raw", 32, 0x11}, {}, {"qcow2", 12, 0x22}, {"raw", 8, 0}} {
		if want.size == 0 {
			continue
		}
		if c := content(t, got[i].Path, want.format); len(c) != want.size<<20 || c[1<<20] != want.first {
			t.Errorf("volume %d has %d bytes and %#x, want %d MiB and %#x", i, len(c), c[1<<20], want.size, want.first)
		}
	}
	usage, err := disk.UsageOf(dir)
	if err != nil || usage.ApparentBytes != (32+12+8)<<20 || usage.AllocatedBytes < 8<<10 || usage.ReservedBytes < 40<<20 ||
		usage.ReservedBytes > usage.ApparentBytes {
		t.Errorf("UsageOf = %+v, %v", usage, err)
	}
}

func TestVolumesThatCannotBe(t *testing.T) {
	qcowOver := func(t *testing.T) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "evil.qcow2")
		img(t, "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path, "1M")
		return path
	}
	store := "store"
	elsewhere := persistent("x", 1)
	elsewhere.Persistence = &store
	for name, tt := range map[string]struct {
		volume disk.Volume
		kind   errs.Kind
		text   string
	}{
		"no blob":            {disk.Volume{Volume: message.Volume{Kind: message.Immutable}, Path: "/nothing/here"}, errs.NotFound, "not here"},
		"no parent":          {hasParent(persistent("x", 1), "/nothing/here"), errs.NotFound, "no disk image"},
		"parent of others":   {hasParent(persistent("x", 1), qcowOver(t)), errs.Invalid, "backing file"},
		"larger parent":      {hasParent(persistent("x", 1), standalone(t, "4M")), errs.Invalid, "smaller than its parent"},
		"no size":            {persistent("x", 0), errs.Invalid, "0 MiB"},
		"too large":          {persistent("x", 1<<40), errs.Invalid, "want 1 to"},
		"persists elsewhere": {elsewhere, errs.Invalid, "only host"},
		"ephemeral":          {disk.Volume{Volume: message.Volume{Kind: message.Ephemeral, SizeMiB: 5000}}, errs.Invalid, "ephemeral"},
		"unknown":            {disk.Volume{}, errs.Invalid, "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "vm")

			_, err := disk.Prepare(t.Context(), dir, 0, []disk.Volume{tt.volume})

			if errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Prepare: %v, want %s and %q", err, tt.kind, tt.text)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(files) > 0 {
				t.Errorf("left: %v", files)
			}
		})
	}
}

func TestDisksNeverShrinkOrChangeTheirParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm")
	first := hasParent(persistent("over", 8), standalone(t, "4M"))
	volumes := []disk.Volume{persistent("data", 16), first}
	if _, err := disk.Prepare(t.Context(), dir, 0, volumes); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]disk.Volume){
		"raw":            func(v []disk.Volume) { v[0].SizeMiB = 15 },
		"overlay":        func(v []disk.Volume) { v[1].SizeMiB = 7 },
		"another parent": func(v []disk.Volume) { v[1].Path = standalone(t, "4M") },
	} {
		v := slices.Clone(volumes)
		change(v)
		if _, err := disk.Prepare(t.Context(), dir, 0, v); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if _, err := disk.Prepare(t.Context(), dir, 0, volumes); err != nil {
		t.Errorf("Prepare as before: %v", err)
	}
}

func TestDisksOfARunningMachineAreLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm")
	upload, err := disk.ReceiveFile(t.Context(), dir, standalone(t, "1M"), 1)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := vmm.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"Prepare": func() error { _, err := disk.Prepare(t.Context(), dir, 0, nil); return err },
		"Erase":   func() error { return disk.Erase(dir, true, true) },
		"Restore": func() error { return upload.Restore(start) },
		"Prune":   func() error { return disk.Prune(dir, start) },
	} {
		if err := try(); !errors.Is(err, errs.Conflict) {
			t.Errorf("%s beside a running machine: %v, want a conflict", name, err)
		}
	}
	lock.Close()
	if err := upload.Restore(start); err != nil {
		t.Errorf("Restore of a machine that has ended: %v", err)
	}
}

func TestErase(t *testing.T) {
	for _, tt := range []struct {
		root, volumes bool
		left          []string
	}{
		{false, true, []string{"disk.pre-restore-20261127T120000Z.qcow2", "disk.qcow2"}},
		{true, false, []string{"ephemeral", "volumes"}},
		{true, true, nil},
	} {
		dir := filepath.Join(t.TempDir(), "vm")
		for range 2 {
			u, err := disk.ReceiveFile(t.Context(), dir, standalone(t, "1M"), 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Restore(start); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := disk.Prepare(t.Context(), dir, 1, []disk.Volume{persistent("data", 4), {Volume: message.Volume{Kind: message.Ephemeral, SizeMiB: 4}}}); err != nil {
			t.Fatal(err)
		}

		if err := disk.Erase(dir, tt.root, tt.volumes); err != nil {
			t.Fatal(err)
		}

		var left []string
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "lock" && e.Name() != "upload" {
				left = append(left, e.Name())
			}
		}
		if !slices.Equal(left, tt.left) {
			t.Errorf("Erase(%t, %t) leaves %q, want %q", tt.root, tt.volumes, left, tt.left)
		}
	}
}

func TestRestoreKeepsTheLastDiskForAWhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vm")
	restore := func(pattern string, at time.Time) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "new.qcow2")
		img(t, "create", "-q", "-f", "qcow2", path, "1M")
		write(t, path, "qcow2", "write -P "+pattern+" 0 4k")
		u, err := disk.ReceiveFile(t.Context(), dir, path, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Restore(at); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() []string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "disk.pre-restore-*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	restore("1", start)
	if len(kept()) != 0 {
		t.Errorf("kept %v of no disk", kept())
	}
	restore("2", start.Add(time.Second))
	restore("3", start.Add(time.Second)) // Within the same second.

	got := content(t, filepath.Join(dir, "disk.qcow2"), "qcow2")
	if got[0] != 3 || len(got) != 2<<20 {
		t.Errorf("the disk begins with %d and has %d bytes, want the last, grown to 2 MiB", got[0], len(got))
	}
	if k := kept(); len(k) != 1 || content(t, k[0], "qcow2")[0] != 2 {
		t.Errorf("kept: %v, want the disk before", k)
	}
	if err := disk.Prune(dir, start.Add(disk.KeptFor)); err != nil || len(kept()) != 1 {
		t.Errorf("after almost a week: %v, %v", kept(), err)
	}
	if err := disk.Prune(dir, start.Add(disk.KeptFor+time.Second)); err != nil || len(kept()) != 0 {
		t.Errorf("after a week: %v, %v", kept(), err)
	}
}

func TestHostileUploads(t *testing.T) {
	patch := func(t *testing.T, at int64, bytes ...byte) io.Reader {
		t.Helper()
		path := standalone(t, "1M")
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes, at); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReader(string(raw))
	}
	file := func(t *testing.T, args ...string) io.Reader {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "x.qcow2")
		for i, a := range args {
			args[i] = strings.ReplaceAll(a, "DIR", dir)
		}
		img(t, append([]string{"create", "-q", "-f", "qcow2"}, append(args, path)...)...)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(raw)
	}
	sized := func(t *testing.T, size string) io.Reader {
		t.Helper()
		path := standalone(t, size)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(raw)
	}
	for name, tt := range map[string]struct {
		image io.Reader
		text  string
	}{
		"raw":           {bytes.NewReader(make([]byte, 1<<20)), "not a valid QCOW2"},
		"empty":         {strings.NewReader(""), "disk of 0 bytes"},
		"backing file":  {patch(t, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11), "backing file"},
		"data file":     {file(t, "-o", "data_file=DIR/data,size=1M"), "another file"},
		"huge L1":       {patch(t, 36, 0x7f, 0xff, 0xff, 0xff), "table"},
		"L1 outside":    {patch(t, 40, 0, 0, 0, 0x7f, 0xff, 0xff, 0, 0), "not in the file"},
		"L2 outside":    {patch(t, 3<<16, 0x80, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0), "damaged"},
		"encrypted":     {patch(t, 35, 1), "encrypted"},
		"snapshots":     {patch(t, 63, 9), "snapshots"},
		"larger":        {sized(t, "3M"), "machine's has 2"},
		"immense":       {patch(t, 24, 0x7f), "table"},
		"too many":      {io.LimitReader(zeros{}, 1<<30), "too many bytes"},
		"marked broken": {patch(t, 79, 2), "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()

			_, err := disk.Receive(t.Context(), dir, tt.image, 2)

			if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Receive: %v, want invalid and %q", err, tt.text)
			}
			if files, err := filepath.Glob(filepath.Join(dir, "upload", "*")); err != nil || len(files) > 0 {
				t.Errorf("left: %v (%v)", files, err)
			}
		})
	}
	dir := t.TempDir()
	if _, err := disk.Receive(t.Context(), dir, iotest.TimeoutReader(bytes.NewReader(make([]byte, 1<<20))), 2); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("an upload that breaks off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := disk.Receive(ctx, dir, zeros{}, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("an upload that is canceled: %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "upload", "*")); err != nil || len(files) > 0 {
		t.Errorf("left: %v (%v)", files, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestAPlanIsFinishedAfterACrash kills what changes disks at each of its
// writes to the directory, by a plan that is left as a crash leaves it.
func TestAPlanIsFinishedAfterACrash(t *testing.T) {
	for _, tt := range []struct {
		name string
		have []string // Files beside the plan.
		want string   // What the disk says.
		kept string
	}{
		{"before all", []string{"disk.qcow2=old", "upload/new=new"}, "new", "old"},
		{"after the link", []string{"disk.qcow2=old", "upload/new=new", "kept=old"}, "new", "old"},
		{"after the rename", []string{"disk.qcow2=new", "kept=old"}, "new", "old"},
		{"no disk before", []string{"upload/new=new"}, "new", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, h := range tt.have {
				name, text, _ := strings.Cut(h, "=")
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			plan := `{"place":[{"from":"upload/new","to":"disk.qcow2","keep":"kept"}]}`
			if err := os.WriteFile(filepath.Join(dir, vmm.PlanFile), []byte(plan), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := vmm.CheckStart(dir); !errors.Is(err, errs.Conflict) {
				t.Errorf("CheckStart: %v, want a conflict", err)
			}

			if _, err := disk.Prepare(t.Context(), dir, 0, nil); err != nil {
				t.Fatal(err)
			}

			for name, want := range map[string]string{"disk.qcow2": tt.want, "kept": tt.kept} {
				raw, err := os.ReadFile(filepath.Join(dir, name))
				if want != "" && err != nil || string(raw) != want {
					t.Errorf("%s is %q (%v), want %q", name, raw, err, want)
				}
			}
			if err := vmm.CheckStart(dir); err != nil {
				t.Errorf("CheckStart: %v", err)
			}
		})
	}
	for _, evil := range []string{`{"remove":["../x"]}`, `{"remove":["."]}`, `{"place":[{"from":"/etc/passwd","to":"disk.qcow2"}]}`, `{`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, vmm.PlanFile), []byte(evil), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.Prepare(t.Context(), dir, 0, nil); err == nil {
			t.Errorf("the plan %s was carried out", evil)
		}
	}
}

func TestRootGrows(t *testing.T) {
	dir := t.TempDir()
	base := blob(t, bytes.Repeat([]byte("base"), 1<<18))
	if err := qcow2.WriteOverlay(filepath.Join(dir, "disk.qcow2"), base, "raw", 2<<20); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mib  int64
		kind errs.Kind
	}{{2, ""}, {5, ""}, {4, errs.Invalid}} {
		if _, err := disk.Prepare(t.Context(), dir, tt.mib, nil); errs.KindOf(err) != tt.kind {
			t.Errorf("Prepare with %d MiB: %v, want %q", tt.mib, err, tt.kind)
		}
	}
	if c := content(t, filepath.Join(dir, "disk.qcow2"), "qcow2"); len(c) != 5<<20 || !bytes.HasPrefix(c, []byte("base")) {
		t.Errorf("the disk has %d bytes", len(c))
	}
}
