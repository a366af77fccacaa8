package executor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// detect returns what the node offers: the settings where they are given, and
// else what the host has, less the reserve. Disks of machines in root count as
// free, because the rows of those machines are counted as used.
func detect(c Config, root string) (state.Resources, error) {
	r := state.Resources{VCPUs: c.VCPUs, MemoryMiB: int(c.MemoryMiB), DiskMiB: c.DiskMiB}
	if r.VCPUs == 0 {
		r.VCPUs = runtime.NumCPU() * c.OvercommitPercent / 100
	}
	if r.MemoryMiB == 0 {
		raw, err := os.ReadFile("/proc/meminfo")
		if err != nil {
			return r, fmt.Errorf("read host memory: %w", err)
		}
		total, err := memTotalMiB(raw)
		if err != nil {
			return r, err
		}
		r.MemoryMiB = int(max(0, total-c.ReserveMemoryMiB))
	}
	if r.DiskMiB == 0 {
		free, err := diskFreeMiB(root)
		if err != nil {
			return r, err
		}
		r.DiskMiB = max(0, free-c.ReserveDiskMiB)
	}
	return r, nil
}

// memTotalMiB reads MemTotal from the text of /proc/meminfo.
func memTotalMiB(meminfo []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] != "MemTotal:" || fields[2] != "kB" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || kib < 0 {
			return 0, fmt.Errorf("read host memory: MemTotal is %q, want a number", fields[1])
		}
		return kib / 1024, nil
	}
	return 0, fmt.Errorf("read host memory: /proc/meminfo has no MemTotal in kB")
}

// diskFreeMiB returns the space that is free on root's file system, together
// with what is allocated under root.
func diskFreeMiB(root string) (int64, error) {
	var fsStat unix.Statfs_t
	if err := unix.Statfs(root, &fsStat); err != nil {
		return 0, fmt.Errorf("read free disk of %s: %w", root, err)
	}
	taken, err := allocated(root)
	if err != nil {
		return 0, err
	}
	return (int64(fsStat.Bavail)*fsStat.Bsize + taken) >> 20, nil
}

// allocated returns the bytes of disk that the files under root take.
func allocated(root string) (sum int64, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return skipGone(err)
		}
		var s unix.Stat_t
		if err := unix.Lstat(path, &s); err != nil {
			return skipGone(err)
		}
		const block = 512 // st_blocks counts these, whatever the file system.
		sum += s.Blocks * block
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", root, err)
	}
	return sum, nil
}

// skipGone drops the error of a file that went away while it was looked at.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
