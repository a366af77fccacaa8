package vmm_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

const goodManifest = `{"version":1,"name":"test","kernel":"kernel","initrd":"initrd","rootfs":"rootfs","format":"raw","cmdline":"quiet","agent":true}`

// kernel is enough of an ELF file for the check.
func kernel() string {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01")
	b[18] = 62
	return string(b)
}

// part is a member of an image's tar.
type part struct {
	name, data string
	typ        byte
}

func goodParts() []part {
	return []part{
		{name: "manifest.json", data: goodManifest},
		{name: "kernel", data: kernel()},
		{name: "initrd", data: "initrd"},
		{name: "rootfs", data: strings.Repeat("\x00", 1<<20) + strings.Repeat("data", 1<<18)},
	}
}

func pack(t testing.TB, parts []part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		h := &tar.Header{Name: p.name, Mode: 0o644, Size: int64(len(p.data)), Typeflag: p.typ, Format: tar.FormatUSTAR}
		if p.typ == 0 {
			h.Typeflag = tar.TypeReg
		}
		if p.typ == tar.TypeSymlink {
			h.Linkname, h.Size, p.data = "/etc/passwd", 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(p.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, raw []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAlephImageIsUnpackedOnce(t *testing.T) {
	path, cache := write(t, pack(t, goodParts())), t.TempDir()

	img, err := vmm.OpenImage(t.Context(), path, cache)
	if err != nil {
		t.Fatal(err)
	}

	dir := filepath.Join(cache, "image")
	want := vmm.Image{
		Name: "test", Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd"), Cmdline: "quiet",
		Rootfs: filepath.Join(dir, "rootfs"), Format: vmm.Raw, VirtualBytes: 2 << 20, Agent: true,
	}
	if img != want {
		t.Errorf("image is %+v, want %+v", img, want)
	}
	for _, p := range goodParts() {
		if got, err := os.ReadFile(filepath.Join(dir, p.name)); err != nil || string(got) != p.data {
			t.Errorf("%s has %d bytes, %v; want those of the tar", p.name, len(got), err)
		}
	}
	// The second time only what was unpacked is needed.
	if err := os.WriteFile(path, pack(t, goodParts()[:1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := vmm.OpenImage(t.Context(), path, cache); err != nil || again != want {
		t.Errorf("second time: %+v, %v; want the same", again, err)
	}
}

func TestImageIsUnpackedByOneOfMany(t *testing.T) {
	path, cache := write(t, pack(t, goodParts())), t.TempDir()
	// What a crash has left.
	if err := os.MkdirAll(filepath.Join(cache, ".unpack", "image", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := vmm.OpenImage(t.Context(), path, cache); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(cache); err != nil || len(left) != 2 {
		t.Errorf("cache has %v (%v), want the image and the place to unpack", left, err)
	}
	if left, err := os.ReadDir(filepath.Join(cache, ".unpack")); err != nil || len(left) != 1 {
		t.Errorf("the place to unpack has %v (%v), want its lock only", left, err)
	}
}

func TestPlainDisksAreUsedInPlace(t *testing.T) {
	raw := write(t, make([]byte, 4096))
	if img, err := vmm.OpenImage(t.Context(), raw, t.TempDir()); err != nil || img.Rootfs != raw || img.Format != vmm.Raw || img.VirtualBytes != 4096 {
		t.Errorf("raw: %+v, %v", img, err)
	}
	if img, err := vmm.OpenImage(t.Context(), write(t, standalone(t)), t.TempDir()); err != nil || img.Format != vmm.Qcow2 || img.VirtualBytes != 1<<20 {
		t.Errorf("qcow2: %+v, %v", img, err)
	}
}

// overlay is a qcow2 disk that is over another file.
func overlay(t testing.TB) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "overlay")
	if err := qcow2.WriteOverlay(name, "/etc/shadow", "raw", 1<<20); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// standalone is a qcow2 disk of its own.
func standalone(t testing.TB) []byte {
	t.Helper()
	raw := overlay(t)
	copy(raw[8:20], make([]byte, 12))
	return raw
}

func TestHostileImagesAreRefused(t *testing.T) {
	change := func(fn func([]part) []part) []byte { return pack(t, fn(goodParts())) }
	manifest := func(from, to string) []byte {
		return change(func(p []part) []part { p[0].data = strings.Replace(p[0].data, from, to, 1); return p })
	}
	patch := func(raw []byte, at int, v byte) []byte { raw[at] = v; return raw }
	for name, raw := range map[string][]byte{
		"backing file":      overlay(t),
		"data file":         patch(standalone(t), 79, 4),
		"encrypted":         patch(standalone(t), 35, 1),
		"snapshots":         patch(standalone(t), 63, 1),
		"huge qcow2":        patch(standalone(t), 26, 1),
		"odd raw":           make([]byte, 1000),
		"empty":             {},
		"no manifest":       change(func(p []part) []part { return p[1:] }),
		"manifest version":  manifest(`"version":1`, `"version":2`),
		"not JSON":          manifest(`{`, `[`),
		"path in manifest":  manifest(`"kernel":"kernel"`, `"kernel":"../kernel"`),
		"hidden name":       manifest(`"kernel":"kernel"`, `"kernel":".kernel"`),
		"same name":         manifest(`"kernel":"kernel"`, `"kernel":"initrd"`),
		"manifest as disk":  manifest(`"rootfs":"rootfs"`, `"rootfs":"manifest.json"`),
		"format":            manifest(`"raw"`, `"vmdk"`),
		"two command lines": manifest(`quiet`, `a\nb`),
		"long command line": manifest(`quiet`, strings.Repeat("x", 3000)),
		"long name":         manifest(`"test"`, `"`+strings.Repeat("x", 300)+`"`),
		"member missing":    change(func(p []part) []part { return p[:3] }),
		"member twice":      change(func(p []part) []part { return append(p, p[2]) }),
		"member not named":  change(func(p []part) []part { return append(p, part{name: "extra", data: "x"}) }),
		"path in tar":       change(func(p []part) []part { p[1].name = "../kernel"; return p }),
		"link":              change(func(p []part) []part { p[1].typ = tar.TypeSymlink; return p }),
		"kernel is no ELF":  change(func(p []part) []part { p[1].data = strings.Repeat("x", 64); return p }),
		"kernel too short":  change(func(p []part) []part { p[1].data = "x"; return p }),
		"qcow2 over another": change(func(p []part) []part {
			p[0].data = strings.Replace(p[0].data, "raw", "qcow2", 1)
			p[3].data = string(overlay(t))
			return p
		}),
		"cut short": pack(t, goodParts())[:8000],
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			img, err := vmm.OpenImage(t.Context(), write(t, raw), cache)
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("OpenImage = %+v, %v; want invalid", img, err)
			}
			if _, err := os.Stat(filepath.Join(cache, ".unpack", "image")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("half an image is left: %v", err)
			}
		})
	}
	if _, err := vmm.OpenImage(t.Context(), "/nowhere/image", t.TempDir()); !errors.Is(err, errs.NotFound) {
		t.Errorf("no image: %v, want not found", err)
	}
	if _, err := vmm.OpenImage(t.Context(), t.TempDir(), t.TempDir()); err == nil {
		t.Error("a directory was opened as an image")
	}
}

func TestUnpackingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := vmm.OpenImage(ctx, write(t, pack(t, goodParts())), t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenImage: %v, want it canceled", err)
	}
}

func FuzzOpenImage(f *testing.F) {
	parts := goodParts()
	parts[3].data = strings.Repeat("\x00", 512)
	f.Add(pack(f, parts))
	f.Add(standalone(f)[:4096])
	f.Add([]byte(fmt.Sprintf("%0512d", 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		img, err := vmm.OpenImage(t.Context(), write(t, raw), t.TempDir())
		if err != nil && !errors.Is(err, errs.Invalid) {
			t.Fatalf("OpenImage: %v, want invalid", err)
		}
		if err == nil && (img.VirtualBytes <= 0 || img.Rootfs == "") {
			t.Fatalf("accepted %+v", img)
		}
	})
}
