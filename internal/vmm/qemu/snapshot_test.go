package qemu

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// TestASnapshotServesWhatMadeItOnly: whatever differs, a machine is not started
// from it, and the reason is told.
func TestASnapshotServesWhatMadeItOnly(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	binary := file("qemu", "#!/bin/sh\necho QEMU emulator version 7.2\n", 0o700)
	newer := file("qemu-newer", "#!/bin/sh\necho QEMU emulator version 7.3\n", 0o700)
	spec := vmm.Spec{
		ID: strings.Repeat("0a", 32), VCPUs: 1, MemoryMiB: 64, Dir: files, Function: true,
		Image:   vmm.Image{Kernel: file("kernel", "k", 0o600), Initrd: file("initrd", "i", 0o600), Rootfs: file("root", "r", 0o600), Format: vmm.Raw},
		Net:     vmm.NetDevice{Kind: vmm.NetTap, Tap: "al0", MAC: "52:54:00:00:00:01"},
		Volumes: []vmm.Volume{{Path: file("volume", "v", 0o600), Format: vmm.Raw, ReadOnly: true}},
	}
	d := New(Config{Binary: binary}, slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	rec := snapshotRecord{}
	var err error
	if rec.Host, err = d.snapshotHost(t.Context(), vmm.TCG); err != nil {
		t.Fatal(err)
	}
	template := spec
	template.ID, template.Net = strings.Repeat("0b", 32), vmm.NetDevice{Kind: vmm.NetUser}
	if rec.Args, err = shape(template, vmm.TCG); err != nil {
		t.Fatal(err)
	}
	write := func(rec snapshotRecord, state string) {
		t.Helper()
		raw, err := json.Marshal(rec)
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, snapshotFile), raw, 0o600),
			os.WriteFile(filepath.Join(dir, stateFile), []byte(state), 0o600),
			os.WriteFile(filepath.Join(dir, memoryFile), nil, 0o600), os.Truncate(filepath.Join(dir, memoryFile), 64<<20))
		if err != nil {
			t.Fatal(err)
		}
	}
	write(rec, "state")
	if rec.StateSum, err = process.SumFile(filepath.Join(dir, stateFile)); err != nil {
		t.Fatal(err)
	}
	write(rec, "state")
	f, _, err := d.openSnapshot(t.Context(), spec, vmm.TCG, dir)
	if err != nil {
		t.Fatalf("a machine with another name and network: %v", err)
	}
	f.Close()

	for name, c := range map[string]struct {
		spec   func(*vmm.Spec)
		rec    func(*snapshotRecord)
		acc    vmm.Accelerator
		state  string
		binary string
		want   string
	}{
		"memory":       {spec: func(s *vmm.Spec) { s.MemoryMiB = 65 }, want: "another shape"},
		"processors":   {spec: func(s *vmm.Spec) { s.VCPUs = 2 }, want: "another shape"},
		"kernel":       {spec: func(s *vmm.Spec) { s.Image.Kernel = s.Image.Initrd }, want: "another shape"},
		"no volume":    {spec: func(s *vmm.Spec) { s.Volumes = nil }, want: "another shape"},
		"large volume": {spec: func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: binary, Format: vmm.Raw, ReadOnly: true}} }, want: "another shape"},
		"written":      {spec: func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: s.Volumes[0].Path, Format: vmm.Raw}} }, want: "another shape"},
		"no network":   {spec: func(s *vmm.Spec) { s.Net = vmm.NetDevice{Kind: vmm.NetNone} }, want: "another shape"},
		"boot":         {rec: func(r *snapshotRecord) { r.Host.Boot = "before" }, want: "was made by"},
		"accelerator":  {acc: vmm.KVM, want: "was made by"},
		"version":      {binary: newer, want: "was made by"},
		"state":        {state: "stale", want: "is damaged"},
		"record":       {rec: func(r *snapshotRecord) { r.StateSum = "" }, want: "is damaged"},
	} {
		s, r, acc, state, driver := spec, rec, vmm.TCG, "state", d
		if c.spec != nil {
			c.spec(&s)
		}
		if c.rec != nil {
			c.rec(&r)
		}
		if c.acc != "" {
			acc = c.acc
		}
		if c.state != "" {
			state = c.state
		}
		if c.binary != "" {
			driver = New(Config{Binary: c.binary}, slog.New(slog.DiscardHandler))
		}
		write(r, state)
		f, _, err := driver.openSnapshot(t.Context(), s, acc, dir)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want not found, %q", name, err, c.want)
		}
	}
	if _, _, err := d.openSnapshot(t.Context(), spec, vmm.TCG, filepath.Join(dir, "absent")); !errors.Is(err, errs.NotFound) {
		t.Errorf("no snapshot: %v, want not found", err)
	}
}

// TestWhatAMachineMayWrite is as much as its largest disk, of any kind.
func TestWhatAMachineMayWrite(t *testing.T) {
	t.Parallel()
	volume := filepath.Join(t.TempDir(), "volume")
	if err := errors.Join(os.WriteFile(volume, nil, 0o600), os.Truncate(volume, 40<<30)); err != nil {
		t.Fatal(err)
	}
	spec := vmm.Spec{MemoryMiB: 2048, DiskMiB: 1024, Volumes: []vmm.Volume{{Path: volume, Format: vmm.Raw}}}
	if n, err := writeLimit(spec); err != nil || n < 40<<30 {
		t.Errorf("limit is %d, %v; want the volume's size at least", n, err)
	}
	spec.Volumes = nil
	if n, err := writeLimit(spec); err != nil || n < 2<<30 || n > 8<<30 {
		t.Errorf("limit is %d, %v; want some of the memory's size", n, err)
	}
}
