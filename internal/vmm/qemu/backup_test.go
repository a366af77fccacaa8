package qemu_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// shell boots a machine with the drives and returns it and what runs commands
// in it.
func shell(t testing.TB, d vmm.Driver, volumes ...vmm.Volume) (vmm.Machine, vmm.Spec, func(string) string) {
	t.Helper()
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	spec.Net = vmm.NetDevice{Kind: vmm.NetUser, MAC: "52:54:00:12:34:56", Forwards: []vmm.Forward{
		{Protocol: vmm.TCP, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port, GuestPort: 22},
	}}
	spec.Seed.AuthorizedKeys = []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}
	spec.Seed.Network = &cloudinit.Network{
		MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2"),
	}
	spec.Volumes = volumes
	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close() // A machine listens to one daemon at a time.
		last := opener(t)(nil)
		defer last.Close()
		m, err := last.Adopt(context.Background(), spec.Dir)
		if errors.Is(err, errs.NotFound) {
			return
		}
		if err == nil {
			err = m.Kill(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := m.Ready(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return m, spec, login(t, port, key)
}

// volume makes an empty drive.
func volume(t testing.TB, mib int64) vmm.Volume {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, mib<<20); err != nil {
		t.Fatal(err)
	}
	return vmm.Volume{Path: path, Format: vmm.Raw}
}

func backuper(t testing.TB, m vmm.Machine) vmm.Backuper {
	t.Helper()
	b, ok := m.(vmm.Backuper)
	if !ok {
		t.Fatalf("a %T makes no backups", m)
	}
	return b
}

// rawOf returns what a guest saw of a copied disk.
func rawOf(t testing.TB, path string) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	for _, argv := range [][]string{{"check", "-q", path}, {"convert", "-f", "qcow2", "-O", "raw", path, raw}} {
		if out, err := exec.CommandContext(t.Context(), "qemu-img", argv...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %v: %v: %s", argv, err, out)
		}
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// counter writes rising numbers to two drives in turn, each on disk before the
// next, all over the drives, until the file stop is there.
const counter = `rm -f /run/stop; (i=1; while [ ! -e /run/stop ]; do
for d in vdc vdd; do printf "%08x" $i | dd of=/dev/$d bs=4096 seek=$((i*37%4096)) conv=notrunc,fsync; done
i=$((i+1)); echo $i > /run/count; done; touch /run/stopped) >/dev/null 2>&1 &`

// newest returns the highest number on a drive, and fails when a lower one is
// missing that nothing has overwritten.
func newest(t *testing.T, raw []byte) (n int) {
	t.Helper()
	const sectors, step = 4096, 37
	have := map[int]bool{}
	for s := range sectors {
		var i int
		if _, err := fmt.Sscanf(string(raw[s*4096:s*4096+8]), "%08x", &i); err == nil {
			have[i] = true
			n = max(n, i)
		}
	}
	for i := max(1, n-sectors+1); i <= n; i++ {
		if !have[i] {
			t.Errorf("number %d of %d is missing", i, n)
		}
	}
	return n
}

func TestABackupShowsAllDisksAtOneMoment(t *testing.T) {
	t.Parallel()
	d := open(t)
	m, spec, run := shell(t, d, volume(t, 64), volume(t, 64))
	run("head -c 20M /dev/urandom > /root/before; sha256sum /root/before > /root/sum; sync")
	run(counter)
	run("while [ ! -e /run/count ] || [ $(cat /run/count) -lt 20 ]; do sleep 0.1; done")
	for _, compress := range []bool{false, true} {
		dir := t.TempDir()

		got, err := backuper(t, m).Backup(bounded(t), vmm.BackupSpec{
			Dir: dir, Disks: []vmm.BackupDisk{{Drive: 0, Name: "rootfs.qcow2"}, {Drive: 1, Name: "a.qcow2"}, {Drive: 2, Name: "b.qcow2"}},
			Compress: compress, Freeze: true,
		})

		if err != nil || got.Frozen || time.Since(got.At) > waitMax {
			t.Fatalf("Backup = %+v, %v; want one of a guest without agent", got, err)
		}
		a, b := newest(t, rawOf(t, filepath.Join(dir, "a.qcow2"))), newest(t, rawOf(t, filepath.Join(dir, "b.qcow2")))
		if a < 20 || a-b < 0 || a-b > 1 {
			t.Errorf("the copies end with %d and %d, want one moment", a, b)
		}
		if len(rawOf(t, filepath.Join(dir, "rootfs.qcow2"))) != spec.DiskMiB<<20 {
			t.Error("the root's copy has another size")
		}
		leftNothing(t, spec.Dir, dir, 3)
	}
	run("touch /run/stop; while [ ! -e /run/stopped ]; do sleep 0.1; done")
	run("sha256sum -c /root/sum")
}

// leftNothing reports what a backup has left beside its copies.
func leftNothing(t *testing.T, machine, dir string, copies int) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(machine, "backup.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("backup.json: %v, want none", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != copies {
		t.Errorf("there are %v (%v), want %d copies", files, err, copies)
	}
}

func TestABackupGoesOnWithoutItsDaemon(t *testing.T) {
	t.Parallel()
	first := opener(t)(nil)
	drive := volume(t, 256)
	raw := bytes.Repeat([]byte("what was there before"), 256<<20/21)
	if err := os.WriteFile(drive.Path, append(raw, make([]byte, 256<<20-len(raw))...), 0o600); err != nil {
		t.Fatal(err)
	}
	m, spec, run := shell(t, first, drive)
	dir := t.TempDir()
	want := vmm.BackupSpec{Dir: dir, Disks: []vmm.BackupDisk{{Drive: 1, Name: "a.qcow2"}}, BytesPerSecond: 48 << 20}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()

	_, err := backuper(t, m).Backup(ctx, want)

	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Backup: %v, want it to take longer", err)
	}
	// Nobody looks; the guest overwrites what is not copied yet.
	first.Close()
	run("dd if=/dev/zero of=/dev/vdc bs=1M count=256 oflag=direct 2>/dev/null; sync")
	second := opener(t)(nil)
	defer second.Close()
	again, err := second.Adopt(bounded(t), spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backuper(t, again).Backup(bounded(t), want); err != nil {
		t.Fatal(err)
	}
	if got := rawOf(t, filepath.Join(dir, "a.qcow2")); !bytes.HasPrefix(got, raw) {
		t.Error("the copy is not of the moment when it began")
	}
	leftNothing(t, spec.Dir, dir, 1)
	if got := run("dd if=/dev/vdc bs=1M count=256 2>/dev/null | tr -d '\\0' | wc -c"); got != "0" {
		t.Errorf("the guest's own disk has %s bytes that are not zero, want what it wrote", got)
	}
}

func TestABackupThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	d := open(t)
	drive := volume(t, 256)
	m, spec, run := shell(t, d, drive)
	run("dd if=/dev/urandom of=/dev/vdc bs=1M count=96 oflag=direct 2>/dev/null")
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
	b := backuper(t, m)
	disks := []vmm.BackupDisk{{Drive: 1, Name: "a.qcow2"}}
	for name, tt := range map[string]struct {
		spec vmm.BackupSpec
		kind errs.Kind
		text string
	}{
		"full disk": {vmm.BackupSpec{Dir: small, Disks: disks}, errs.Exhausted, "full"},
		"reserve":   {vmm.BackupSpec{Dir: small, Disks: disks, BytesPerSecond: 16 << 20, ReserveBytes: 16 << 20}, errs.Exhausted, "must stay free"},
		"no drive":  {vmm.BackupSpec{Dir: small, Disks: []vmm.BackupDisk{{Drive: 7, Name: "a.qcow2"}}}, errs.Invalid, "no drive 7"},
		"a path":    {vmm.BackupSpec{Dir: small, Disks: []vmm.BackupDisk{{Drive: 1, Name: "../a.qcow2"}}}, errs.Invalid, "plain name"},
		"twice":     {vmm.BackupSpec{Dir: small, Disks: append(disks, disks...)}, errs.Invalid, "twice"},
		"no disk":   {vmm.BackupSpec{Dir: small}, errs.Invalid, "0 disks"},
	} {
		_, err := b.Backup(bounded(t), tt.spec)

		if errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %s and %q", name, err, tt.kind, tt.text)
		}
		leftNothing(t, spec.Dir, small, 0)
	}
	// The guest fills the disk with what it overwrites: the copy ends, the
	// guest does not notice.
	ended := make(chan error, 1)
	go func() {
		_, err := b.Backup(bounded(t), vmm.BackupSpec{Dir: small, Disks: disks, BytesPerSecond: 1 << 20})
		ended <- err
	}()
	for begun := false; !begun; {
		raw, _ := os.ReadFile(filepath.Join(spec.Dir, "backup.json"))
		begun = bytes.Contains(raw, []byte("copies"))
	}
	run("dd if=/dev/zero of=/dev/vdc bs=1M count=96 oflag=direct && sync")
	if err := <-ended; !errors.Is(err, errs.Exhausted) {
		t.Errorf("a backup whose fleece is full: %v, want exhausted", err)
	}
	leftNothing(t, spec.Dir, small, 0)
	if got := run("dd if=/dev/vdc bs=1M count=96 2>/dev/null | tr -d '\\0' | wc -c"); got != "0" {
		t.Errorf("the guest's disk has %s bytes that are not zero", got)
	}

	// One that is canceled, and one whose machine ends.
	dir := t.TempDir()
	slow := vmm.BackupSpec{Dir: dir, Disks: disks, BytesPerSecond: 1 << 20}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := b.Backup(ctx, slow); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, vmm.ErrBackupGoesOn) {
		t.Errorf("Backup: %v, want it to take longer", err)
	}
	if err := b.CancelBackup(bounded(t)); err != nil {
		t.Error(err)
	}
	leftNothing(t, spec.Dir, dir, 0)
	go func() {
		_, err := b.Backup(bounded(t), slow)
		ended <- err
	}()
	for begun := false; !begun; {
		raw, _ := os.ReadFile(filepath.Join(spec.Dir, "backup.json"))
		begun = bytes.Contains(raw, []byte("copies"))
	}
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, errs.Unavailable) || errors.Is(err, vmm.ErrBackupGoesOn) {
		t.Errorf("a backup whose machine is killed: %v", err)
	}
	leftNothing(t, spec.Dir, dir, 0)
	<-m.Done()
	if _, err := b.Backup(bounded(t), slow); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Backup of a machine that has ended: %v", err)
	}
	leftNothing(t, spec.Dir, dir, 0)
}

// guestAgent answers on the port of QEMU's guest agent as that does, and notes
// what it was asked.
const guestAgent = `for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && port=/dev/${p##*/}; done
cat > /run/agent <<'EOF'
exec 3<>$1
while :; do
read -r line <&3 || { sleep 0.05; continue; } # Nobody is at the host's end.
case "$line" in
*guest-sync-delimited*) id=${line##*:}; printf '\377{"return": %s}\n' "${id%%\}*}" >&3 ;;
*guest-fsfreeze-freeze*) echo freeze >> /run/asked; printf '{"return": 1}\n' >&3 ;;
*guest-fsfreeze-thaw*) echo thaw >> /run/asked; printf '{"return": 1}\n' >&3 ;;
esac
done
EOF
: > /run/asked; sh /run/agent $port >/dev/null 2>&1 &`

func TestAGuestWithAnAgentIsAtRestForTheMoment(t *testing.T) {
	t.Parallel()
	first := opener(t)(nil)
	m, spec, run := shell(t, first, volume(t, 16))
	run(guestAgent)
	want := vmm.BackupSpec{
		Dir: t.TempDir(), Disks: []vmm.BackupDisk{{Drive: 0, Name: "rootfs.qcow2"}, {Drive: 1, Name: "a.qcow2"}}, Freeze: true,
	}

	got, err := backuper(t, m).Backup(bounded(t), want)

	if err != nil || !got.Frozen {
		t.Errorf("Backup = %+v, %v; want a frozen guest", got, err)
	}
	if asked := run("tr '\\n' ' ' < /run/asked"); asked != "freeze thaw" {
		t.Errorf("the agent was asked to %q, want freeze and thaw", asked)
	}
	// A daemon dies while the guest is at rest and its processors are stopped.
	if err := qemu.Do(bounded(t), m, "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	left, err := json.Marshal(map[string]any{"phase": "begins", "dir": want.Dir, "disks": want.Disks, "frozen": true, "paused": true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(spec.Dir, "backup.json"), left, 0o600); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := opener(t)(nil)
	defer second.Close()
	if _, err := second.Adopt(bounded(t), spec.Dir); err != nil {
		t.Fatal(err)
	}
	if asked := run("i=0; while [ $(wc -l < /run/asked) -lt 3 ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done; tr '\\n' ' ' < /run/asked"); asked != "freeze thaw thaw" {
		t.Errorf("the agent was asked to %q, want another thaw", asked)
	}
}
