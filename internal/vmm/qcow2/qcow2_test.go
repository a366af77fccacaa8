package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

func overlay(t testing.TB, size int64) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := qcow2.WriteOverlay(name, "/images/base", "raw", size); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOverlayIsReadBack(t *testing.T) {
	for _, size := range []int64{512, 1 << 30, 2 << 40, qcow2.OverlayMax} {
		raw := overlay(t, size)

		h, err := qcow2.Read(bytes.NewReader(raw), int64(len(raw)))

		want := qcow2.Header{Version: 3, ClusterBits: 16, VirtualBytes: size, Backing: "/images/base", BackingFormat: "raw"}
		if err != nil || h != want {
			t.Errorf("size %d: Read = %+v, %v; want %+v", size, h, err, want)
		}
	}
}

// TestQEMUTakesOverlays asks QEMU's own tool about a written overlay: that it
// finds the base, and no fault in the tables.
func TestQEMUTakesOverlays(t *testing.T) {
	dir := t.TempDir()
	base, name := filepath.Join(dir, "a base, with a comma"), filepath.Join(dir, "disk.qcow2")
	content := bytes.Repeat([]byte("aleph on chain! "), 1<<16)
	if err := os.WriteFile(base, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := qcow2.WriteOverlay(name, base, "raw", 64<<30); err != nil {
		t.Fatal(err)
	}
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal("qemu-img is missing, run packaging/setup/debian.sh test")
	}

	out, err := exec.CommandContext(t.Context(), tool, "check", "-f", "qcow2", name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors were found") {
		t.Errorf("qemu-img check: %v: %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), tool, "info", "--output=json", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Virtual       int64  `json:"virtual-size"`
		Backing       string `json:"full-backing-filename"`
		BackingFormat string `json:"backing-filename-format"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	if info.Virtual != 64<<30 || info.Backing != base || info.BackingFormat != "raw" {
		t.Errorf("qemu-img info says %+v, want 64 GiB over %s", info, base)
	}
	raw := filepath.Join(dir, "raw")
	if out, err := exec.CommandContext(t.Context(), tool, "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=1", "if="+name, "of="+raw).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img dd: %v: %s", err, out)
	}
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, content[:1<<20]) {
		t.Errorf("the overlay does not show its base (%v)", err)
	}
}

func TestOverlayNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(name, []byte("a tenant's data"), 0o600); err != nil {
		t.Fatal(err)
	}

	err := qcow2.WriteOverlay(name, "/base", "raw", 1<<20)

	if !errors.Is(err, errs.Conflict) {
		t.Errorf("WriteOverlay over a disk: %v, want a conflict", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v (%v), want the disk only", left, err)
	}
}

func TestBadOverlaysAreRefused(t *testing.T) {
	for name, err := range map[string]error{
		"relative base": qcow2.WriteOverlay("/nowhere/x", "base", "raw", 1<<20),
		"long base":     qcow2.WriteOverlay("/nowhere/x", "/"+strings.Repeat("x", 2000), "raw", 1<<20),
		"format":        qcow2.WriteOverlay("/nowhere/x", "/base", "vmdk", 1<<20),
		"odd size":      qcow2.WriteOverlay("/nowhere/x", "/base", "raw", 1000),
		"huge size":     qcow2.WriteOverlay("/nowhere/x", "/base", "raw", 1<<62),
	} {
		if !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if err := qcow2.WriteOverlay(filepath.Join(t.TempDir(), "no", "x"), "/base", "raw", 1<<20); err == nil {
		t.Error("an overlay was written into no directory")
	}
}

func TestDamagedHeadersAreRefused(t *testing.T) {
	be := binary.BigEndian
	for name, damage := range map[string]func([]byte){
		"magic":             func(b []byte) { b[0] = 'X' },
		"version":           func(b []byte) { be.PutUint32(b[4:], 9) },
		"header size":       func(b []byte) { be.PutUint32(b[100:], 7) },
		"clusters":          func(b []byte) { be.PutUint32(b[20:], 60) },
		"no disk":           func(b []byte) { be.PutUint64(b[24:], 0) },
		"negative disk":     func(b []byte) { be.PutUint64(b[24:], 1<<63) },
		"unknown features":  func(b []byte) { b[72] = 0x80 },
		"corrupt":           func(b []byte) { b[79] |= 2 },
		"short table":       func(b []byte) { be.PutUint32(b[36:], 1) },
		"huge table":        func(b []byte) { be.PutUint32(b[36:], 1<<31) },
		"table outside":     func(b []byte) { be.PutUint64(b[40:], 1<<40) },
		"table not aligned": func(b []byte) { be.PutUint64(b[40:], 65537) },
		"no references":     func(b []byte) { be.PutUint32(b[56:], 0) },
		"references beyond": func(b []byte) { be.PutUint64(b[48:], 1<<63) },
		"backing beyond":    func(b []byte) { be.PutUint64(b[8:], 1<<20) },
		"backing too long":  func(b []byte) { be.PutUint32(b[16:], 5000) },
		"extension beyond":  func(b []byte) { be.PutUint32(b[108:], 1<<30) },
		"long format":       func(b []byte) { be.PutUint32(b[108:], 17) },
	} {
		raw := overlay(t, 4<<30)
		damage(raw)
		if h, err := qcow2.Read(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Read = %+v, %v; want invalid", name, h, err)
		}
	}
	if _, err := qcow2.Read(bytes.NewReader([]byte("QFI\xfb")), 4); !errors.Is(err, errs.Invalid) {
		t.Errorf("four bytes: %v, want invalid", err)
	}
}

func TestIs(t *testing.T) {
	if !qcow2.Is(bytes.NewReader(overlay(t, 1<<20))) || qcow2.Is(strings.NewReader("QFI")) || qcow2.Is(strings.NewReader("raw disk")) {
		t.Error("Is does not tell qcow2 from others")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(overlay(f, 1<<30)[:512])
	f.Add([]byte("QFI\xfb\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := qcow2.Read(bytes.NewReader(raw), 1<<20)
		if err != nil && !errors.Is(err, errs.Invalid) {
			t.Fatalf("Read: %v, want invalid", err)
		}
		if err == nil && (h.VirtualBytes <= 0 || len(h.Backing) > 1023) {
			t.Fatalf("accepted %+v", h)
		}
	})
}
