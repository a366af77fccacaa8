package qemu_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
)

// driveMiB is the size of the drive that the bench copies, all of it bytes
// that do not compress.
const driveMiB = 384

// ways are those in which a running machine's drive could be copied. The first
// ones are what Backup does.
var ways = []struct {
	name string
	copy func(ctx context.Context, m vmm.Machine, dir string) error
}{
	{"fleece", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, false, 0) }},
	{"fleece-zstd", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, true, 0) }},
	{"fleece-64", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, false, 64<<20) }},
	{"fleece-zstd-64", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, true, 64<<20) }},
	{"fleece-32", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, false, 32<<20) }},
	{"fleece-zstd-16", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, true, 16<<20) }},
	{"fleece-zstd-32", func(ctx context.Context, m vmm.Machine, dir string) error { return backup(ctx, m, dir, true, 32<<20) }},
	{"filter-only", func(ctx context.Context, m vmm.Machine, dir string) error { return plain(ctx, m, dir, 0) }},
	{"filter-only-32", func(ctx context.Context, m vmm.Machine, dir string) error { return plain(ctx, m, dir, 32<<20) }},
	{"overlay-and-commit", func(ctx context.Context, m vmm.Machine, dir string) error { return overlay(ctx, m, dir, 0) }},
	{"overlay-and-commit-32", func(ctx context.Context, m vmm.Machine, dir string) error { return overlay(ctx, m, dir, 32<<20) }},
}

func backup(ctx context.Context, m vmm.Machine, dir string, compress bool, speed int64) error {
	b, ok := m.(vmm.Backuper)
	if !ok {
		return errors.New("makes no backups")
	}
	_, err := b.Backup(ctx, vmm.BackupSpec{Dir: dir, Disks: []vmm.BackupDisk{{Drive: 1, Name: "a.qcow2"}}, Compress: compress, BytesPerSecond: speed})
	return err
}

type args = map[string]any

// create makes an image and has QEMU open it.
func create(ctx context.Context, m vmm.Machine, path, node string, options ...string) error {
	argv := append([]string{"create", "-q", "-f", "qcow2"}, options...)
	if out, err := exec.CommandContext(ctx, "qemu-img", append(argv, path, fmt.Sprint(driveMiB<<20))...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return qemu.Do(ctx, m, "blockdev-add", args{
		"driver": "qcow2", "node-name": node, "backing": nil, "file": args{"driver": "file", "filename": path},
	}, nil)
}

// job runs a job to its end.
func job(ctx context.Context, m vmm.Machine, command string, a args) error {
	a["job-id"], a["auto-dismiss"] = "bench", false
	if err := qemu.Do(ctx, m, command, a, nil); err != nil {
		return err
	}
	for {
		var jobs []struct{ Status, Error string }
		if err := qemu.Do(ctx, m, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		if len(jobs) != 1 || jobs[0].Error != "" {
			return fmt.Errorf("jobs %+v", jobs)
		}
		switch jobs[0].Status {
		case "ready":
			if err := qemu.Do(ctx, m, "job-complete", args{"id": "bench"}, nil); err != nil {
				return err
			}
		case "concluded":
			return qemu.Do(ctx, m, "job-dismiss", args{"id": "bench"}, nil)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// plain has the guest wait for the copy itself.
func plain(ctx context.Context, m vmm.Machine, dir string, speed int64) error {
	if err := create(ctx, m, filepath.Join(dir, "a.qcow2"), "target"); err != nil {
		return err
	}
	err := job(ctx, m, "blockdev-backup", args{"device": "volume0", "target": "target", "sync": "full", "speed": speed})
	return errors.Join(err, qemu.Do(ctx, m, "blockdev-del", args{"node-name": "target"}, nil))
}

// overlay has the guest write to an overlay, and merges it afterwards.
func overlay(ctx context.Context, m vmm.Machine, dir string, speed int64) error {
	if err := create(ctx, m, filepath.Join(dir, "over.qcow2"), "over", "-o", "extended_l2=on,cluster_size=128k"); err != nil {
		return err
	}
	if err := qemu.Do(ctx, m, "blockdev-snapshot", args{"node": "volume0", "overlay": "over"}, nil); err != nil {
		return err
	}
	if err := create(ctx, m, filepath.Join(dir, "a.qcow2"), "target"); err != nil {
		return err
	}
	err := job(ctx, m, "blockdev-backup", args{"device": "volume0", "target": "target", "sync": "full", "speed": speed})
	if err != nil {
		return err
	}
	if err := job(ctx, m, "block-commit", args{"device": "over"}); err != nil {
		return err
	}
	return errors.Join(qemu.Do(ctx, m, "blockdev-del", args{"node-name": "over"}, nil), qemu.Do(ctx, m, "blockdev-del", args{"node-name": "target"}, nil))
}

// BenchmarkGuestWritesDuringABackup measures what a guest's writes to a drive
// cost while the drive is copied, against the same writes in between: in
// percent of time, by means, medians and the slowest tenth, and the longest
// write of each. The guest's clock has steps of 10 ms.
func BenchmarkGuestWritesDuringABackup(b *testing.B) {
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			d := open(b)
			drive := volume(b, driveMiB)
			m, _, run := shell(b, d, drive)
			fill(b, drive.Path)
			run(writer)
			var windows [][2]float64
			var took time.Duration
			for range b.N {
				for range copies {
					<-time.After(calmFor)
					dir := b.TempDir()
					begin, from := time.Now(), uptime(b, run)
					if err := way.copy(b.Context(), m, dir); err != nil {
						b.Fatal(err)
					}
					took += time.Since(begin) / copies
					windows = append(windows, [2]float64{from, uptime(b, run)})
				}
			}
			<-time.After(calmFor)
			calm, busy := sortOut(b, run("touch /run/stop; cat /run/writes"), windows)
			if len(busy) < 10 {
				b.Fatalf("only %d writes fit into the copies", len(busy))
			}
			slices.Sort(calm)
			slices.Sort(busy)
			at := func(all []float64, q float64) float64 { return all[int(float64(len(all)-1)*q)] }
			mean := func(all []float64) (sum float64) {
				for _, v := range all {
					sum += v
				}
				return sum / float64(len(all))
			}
			b.ReportMetric(100*(mean(busy)/mean(calm)-1), "mean-slower-%")
			b.ReportMetric(100*(at(busy, 0.5)/at(calm, 0.5)-1), "p50-slower-%")
			b.ReportMetric(100*(at(busy, 0.9)/at(calm, 0.9)-1), "p90-slower-%")
			b.ReportMetric(at(calm, 0.5), "calm-p50-ms")
			b.ReportMetric(at(busy, 0.5), "busy-p50-ms")
			b.ReportMetric(at(calm, 1), "calm-max-ms")
			b.ReportMetric(at(busy, 1), "busy-max-ms")
			b.ReportMetric(float64(len(busy)), "writes")
			b.ReportMetric(took.Seconds()/float64(b.N), "copy-s")
		})
	}
}

// fill fills a drive with random bytes.
func fill(b *testing.B, path string) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, driveMiB<<20); err != nil {
		b.Fatal(err)
	}
}

const (
	copies = 3
	// calmFor is how long the guest writes between copies.
	calmFor = 5 * time.Second
)

// writer has the guest write 8 MiB in pieces of 64 KiB, each on the drive
// before the next, at a random place, again and again, and note when.
const writer = `(while [ ! -e /run/stop ]; do at=$(( $(od -An -N2 -tu2 /dev/urandom) % 47 * 128 )); read a x < /proc/uptime
dd if=/dev/zero of=/dev/vdc bs=64k count=128 seek=$at oflag=direct 2>/dev/null; read b x < /proc/uptime; echo $a $b >> /run/writes; done) >/dev/null 2>&1 &`

// uptime returns the guest's clock.
func uptime(b *testing.B, run func(string) string) (at float64) {
	b.Helper()
	if _, err := fmt.Sscan(run("cat /proc/uptime"), &at); err != nil {
		b.Fatal(err)
	}
	return at
}

// sortOut tells the writes that fell into a window, by their milliseconds,
// from those that touched none.
func sortOut(b *testing.B, lines string, windows [][2]float64) (calm, busy []float64) {
	b.Helper()
	for line := range strings.Lines(lines) {
		var from, to float64
		if _, err := fmt.Sscan(line, &from, &to); err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		within, touches := false, false
		for _, w := range windows {
			within = within || from >= w[0] && to <= w[1]
			touches = touches || from <= w[1] && to >= w[0]
		}
		switch {
		case within:
			busy = append(busy, (to-from)*1000)
		case !touches:
			calm = append(calm, (to-from)*1000)
		}
	}
	return calm, busy
}
