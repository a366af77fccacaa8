package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
)

// stubName is the name under which a process of this test is the stub.
const stubName = "stubvm-under-test"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == stubName {
		main()
		return
	}
	os.Exit(m.Run())
}

// driver is that of QEMU, with the stub in its place.
func driver(t *testing.T) (*qemu.Driver, vmm.Spec) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, root := filepath.Join(dir, stubName), filepath.Join(dir, "root.raw")
	if err := errors.Join(os.Symlink(self, binary), os.WriteFile(root, make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	d := qemu.New(qemu.Config{Binary: binary, CacheDir: filepath.Join(dir, "cache")}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { d.Close() })
	return d, vmm.Spec{
		ID: "00000000000000000000000000000000000000000000000000000000000000aa", VCPUs: 1, MemoryMiB: 128, DiskMiB: 8, Dir: filepath.Join(dir, "vm"),
		Image: vmm.Image{Name: "stub", Rootfs: root, Format: vmm.Raw, VirtualBytes: 1 << 20, Agent: true},
		Net:   vmm.NetDevice{Kind: vmm.NetNone}, Seed: cloudinit.Seed{InstanceID: "stub", Hostname: "stub"},
	}
}

func start(t *testing.T, d *qemu.Driver, spec vmm.Spec) vmm.Machine {
	t.Helper()
	m, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(m.PID(), unix.SIGKILL) }) // What has ended need not be killed.
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTheDriverTakesItForQEMU starts a machine, finds it again as a later process
// would, backs it up and stops it.
func TestTheDriverTakesItForQEMU(t *testing.T) {
	d, spec := driver(t)
	m := start(t, d, spec)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	later, _ := driver(t)

	again, err := later.Adopt(t.Context(), spec.Dir)
	if err != nil || again.PID() != m.PID() {
		t.Fatalf("adopted %v, %v, want process %d", again, err, m.PID())
	}
	if info, err := again.Info(t.Context()); err != nil || info.Hostname != "stubvm" {
		t.Errorf("info %+v, %v", info, err)
	}
	copies := vmm.BackupSpec{Dir: t.TempDir(), Disks: []vmm.BackupDisk{{Drive: 0, Name: "rootfs.qcow2"}}}
	if _, err := again.(vmm.Backuper).Backup(t.Context(), copies); err != nil {
		t.Errorf("back up: %v", err)
	}
	if err := again.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if e := again.Exit(); !e.Clean || !e.Asked {
		t.Errorf("it ended with %+v, want by its guest, as asked", e)
	}
}

// TestAGuestEndsByItself powers a guest off, and lets others panic and reset.
func TestAGuestEndsByItself(t *testing.T) {
	for sig, want := range map[unix.Signal]string{
		unix.SIGUSR1: "the guest powered off", unix.SIGUSR2: "the guest's kernel panicked", unix.SIGHUP: "the guest reset the machine",
	} {
		d, spec := driver(t)
		m := start(t, d, spec)
		if err := unix.Kill(m.PID(), sig); err != nil {
			t.Fatal(err)
		}
		<-m.Done()
		if e := m.Exit(); e.Reason != want || e.Asked {
			t.Errorf("after %v: %+v, want %q", sig, e, want)
		}
	}
}

// TestADiskHasOneMachine starts a second process over the same disk.
func TestADiskHasOneMachine(t *testing.T) {
	d, spec := driver(t)
	start(t, d, spec)
	if _, err := d.Start(t.Context(), spec); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a second machine in the same directory: %v, want a conflict", err)
	}
	args := []string{"-name", "x", "-blockdev", "driver=qcow2,node-name=root,file.filename=" + filepath.Join(spec.Dir, vmm.DiskFile)}
	if err := run(args, io.Discard); err == nil {
		t.Error("a second process has the disk of the first")
	}
}
