// Package disk keeps the disks of machines: it makes, grows, measures, erases
// and restores them, puts copies of them into archives, and moves them from
// node to node.
//
// What it adds to a machine's directory (see package vmm):
//
//	volumes/NAME.ext4         a persistent volume: raw, sparse, formatted
//	volumes/NAME.qcow2        a persistent volume over a parent
//	ephemeral/N.ext4          a volume that is made anew at each start
//	disk.pre-restore-TIME.qcow2  the disk before a restore
//	plan.json                 files that are being exchanged or removed
//	move.json                 where a move between nodes stands
//	upload/ export/ import/   disks that come or go
//
// Nothing here touches a disk of a machine that runs: whatever changes one
// holds the directory's lock. A change of several files is written down as a
// plan first, so that after a crash it is repeated and not left half done.
package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// saidMax bounds what is kept of a tool's words.
	saidMax = 4 << 10
	// toolMemoryKiB and toolCPUSeconds bound what an image of a stranger can
	// make qemu-img use: tables of the largest disk have 300 MB, and to copy
	// it compressed takes some hours.
	toolMemoryKiB  = 4 << 20
	toolCPUSeconds = 8 * 3600
	// toolWait is how long a tool that was told to end may take.
	toolWait = 5 * time.Second
)

// runTool runs a program of the host, niced and with bounds. Its exit code is
// not 0 when it said itself that it failed. It ends with ctx and with this
// process.
func runTool(ctx context.Context, name string, args ...string) (code int, err error) {
	path, err := lookTool(name)
	if err != nil {
		return 0, err
	}
	const bounded = `ulimit -v "$1" && ulimit -t "$2" || exit 126; shift 2; exec nice -n 10 "$@"`
	argv := append([]string{"-c", bounded, "sh", strconv.Itoa(toolMemoryKiB), strconv.Itoa(toolCPUSeconds), path}, args...)
	cmd := exec.CommandContext(ctx, "/bin/sh", argv...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = toolWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said := &head{max: saidMax}
	cmd.Stderr = said
	err = cmd.Run()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("run %s: %w", name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		text := strings.TrimSpace(said.String())
		if strings.Contains(text, unix.ENOSPC.Error()) || strings.Contains(text, "No space left on device") {
			return exit.ExitCode(), errs.New(errs.Exhausted, "the disk is full, make room on it: %s: %s", name, text)
		}
		return exit.ExitCode(), fmt.Errorf("%s ended with %d: %s", name, exit.ExitCode(), text)
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", name, err)
	}
	return 0, nil
}

// head keeps the first bytes that are written to it.
type head struct {
	bytes.Buffer

	max int
}

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), max(0, h.max-h.Len()))])
	return len(p), nil
}

// packages tells which Debian package has a tool.
var packages = map[string]string{"qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs"} //nolint:gochecknoglobals // A constant table.

// lookTool finds a program, also where only administrators look.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errs.New(errs.Unavailable, "%s is not installed: run apt-get install %s", name, packages[name])
}

// qemuImg runs qemu-img.
func qemuImg(ctx context.Context, args ...string) error {
	_, err := runTool(ctx, "qemu-img", args...)
	return err
}

// checkTables has qemu-img read all tables of a qcow2 image. One that is
// damaged gives errs.Invalid; clusters that nothing uses are no damage.
func checkTables(ctx context.Context, path string) error {
	code, err := runTool(ctx, "qemu-img", "check", "-q", "-f", "qcow2", path)
	const leaks = 3
	if err == nil || code == leaks {
		return nil
	}
	if code == 0 {
		return err
	}
	return errs.New(errs.Invalid, "the image is damaged: %w", err)
}

// Grow makes the disk in the file as large as bytes. A disk that is larger
// already gives errs.Invalid: what is in its end would be lost.
func Grow(ctx context.Context, path string, format vmm.Format, bytes int64) error {
	size, err := sizeOf(path, format)
	if err != nil {
		return err
	}
	switch {
	case size == bytes:
		return nil
	case size > bytes:
		return errs.New(errs.Invalid, "disk %s has %d MiB and cannot shrink to %d: ask for at least as much, or erase it first",
			filepath.Base(path), size>>20, bytes>>20)
	case format == vmm.Raw:
		if err := os.Truncate(path, bytes); err != nil {
			return vmm.DiskError(fmt.Errorf("grow disk: %w", err))
		}
		return nil
	}
	return qemuImg(ctx, "resize", "-q", "-f", "qcow2", path, strconv.FormatInt(bytes, 10))
}

// isThere reports whether a file is there.
func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", filepath.Base(path), err)
	}
	return true, nil
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// syncFile makes a file's bytes last.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return vmm.DiskError(fmt.Errorf("sync %s: %w", filepath.Base(path), err))
	}
	return nil
}

// writeJSON writes a file that is there whole, old or new, at any time, and
// on disk when it returns.
func writeJSON(path string, v any) (err error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return writeFile(path, append(raw, '\n'))
}

// writeFile is writeJSON for bytes.
func writeFile(path string, raw []byte) error {
	if err := process.ReplaceFile(path, raw); err != nil {
		return vmm.DiskError(err)
	}
	return syncDir(filepath.Dir(path))
}

// recordMax bounds the JSON files that are read back.
const recordMax = 1 << 20

// readJSON reads a file of ours; one that is absent gives errs.NotFound.
func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "no %s", filepath.Base(path))
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", filepath.Base(path), err)
	}
	if info.Size() > recordMax {
		return fmt.Errorf("%s has %d bytes, at most %d", filepath.Base(path), info.Size(), recordMax)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode %s: %w", filepath.Base(path), err)
	}
	return nil
}

// freeBytes returns how much an unprivileged user may still write where the
// directory is.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
