package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

const (
	uploadFolder = "upload"
	keptPrefix   = "disk.pre-restore-"
	// timeLayout is how times are written in names of files.
	timeLayout = "20060102T150405Z"
	// KeptMax bounds the disks from before restores: the last one is kept, for
	// who has restored the wrong one.
	KeptMax = 1
	// KeptFor is how long such a disk is kept.
	KeptFor = 7 * 24 * time.Hour
	// checkMax bounds the check of an image, which reads its tables only.
	checkMax = 10 * time.Minute
)

// Upload is a disk image that came for a machine and was checked.
type Upload struct {
	dir, name string
}

// Receive writes a qcow2 image that an owner sends for the machine in dir,
// which may run meanwhile, and checks it: it must stand alone and have at most
// diskMiB as a guest sees it. One that is not fit gives errs.Invalid, one with
// more bytes than such a disk can have also ErrTooLarge. A broken upload
// leaves nothing. Restore or Close what is returned.
func Receive(ctx context.Context, dir string, r io.Reader, diskMiB int64) (_ *Upload, err error) {
	folder := filepath.Join(dir, uploadFolder)
	if err := os.MkdirAll(folder, dirMode); err != nil {
		return nil, vmm.DiskError(fmt.Errorf("make folder of uploads: %w", err))
	}
	f, err := os.CreateTemp(folder, "disk-*.qcow2")
	if err != nil {
		return nil, vmm.DiskError(fmt.Errorf("make upload: %w", err))
	}
	defer func() {
		f.Close()
		if err != nil {
			err = errors.Join(vmm.DiskError(err), os.Remove(f.Name()))
		}
	}()
	most := fileMax(diskMiB * mib)
	n, err := io.Copy(f, &limited{ctx, io.LimitReader(r, most+1)})
	if err != nil {
		return nil, fmt.Errorf("receive disk after %d bytes: %w", n, err)
	}
	if n > most {
		return nil, fmt.Errorf("the image is of no disk of %d MiB: %w", diskMiB, ErrTooLarge)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("sync upload: %w", err)
	}
	if err := checkUpload(ctx, f.Name(), diskMiB*mib); err != nil {
		return nil, err
	}
	if err := Grow(ctx, f.Name(), vmm.Qcow2, diskMiB*mib); err != nil {
		return nil, err
	}
	if err := syncFile(f.Name()); err != nil {
		return nil, err
	}
	return &Upload{dir, filepath.Base(f.Name())}, nil
}

// ErrTooLarge is in the errors of what has more bytes than it may.
var ErrTooLarge = errs.New(errs.Invalid, "too many bytes")

// Name is what OpenUpload finds the upload by.
func (u *Upload) Name() string { return u.name }

// OpenUpload returns an upload that was received for the machine in dir, also by
// an earlier process. One that is gone was restored: to Restore it is fine.
func OpenUpload(dir, name string) (*Upload, error) {
	if !filepath.IsLocal(name) || name != filepath.Base(name) || name == "." {
		return nil, errs.New(errs.Invalid, "no upload is called %q", name)
	}
	return &Upload{dir, name}, nil
}

// ReceiveFile is Receive of a file of this host, such as the blob of a STORE
// message. The file itself stays as it is.
func ReceiveFile(ctx context.Context, dir, path string, diskMiB int64) (*Upload, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "file %s is not here", filepath.Base(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open file to restore: %w", err)
	}
	defer f.Close()
	return Receive(ctx, dir, f, diskMiB)
}

// fileMax is the size that the file of a qcow2 disk can have: its tables are
// less than an eighth of it.
func fileMax(virtual int64) int64 { return virtual + virtual/8 + 16*mib }

// limited ends reading with a context.
type limited struct {
	ctx context.Context //nolint:containedctx // A reader's Read has no ctx; it belongs to one call.
	r   io.Reader
}

func (l *limited) Read(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	return l.r.Read(p)
}

// checkUpload reports an image that must not become a machine's disk.
func checkUpload(ctx context.Context, path string, most int64) error {
	format, size, err := vmm.OpenDisk(path)
	switch {
	case err != nil:
		return err
	case format != vmm.Qcow2:
		return errs.New(errs.Invalid, "uploaded file is not a valid QCOW2 disk image")
	case size > most:
		return errs.New(errs.Invalid, "the image is a disk of %d MiB, the machine's has %d", (size+mib-1)>>20, most>>20)
	}
	ctx, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	return checkTables(ctx, path)
}

// Restore makes the upload the machine's disk. The machine must not run
// (errs.Conflict). The disk that was there is kept, see Kept; there is a whole
// disk at every moment, whatever happens.
func (u *Upload) Restore(now time.Time) error {
	lock, err := lockIdle(u.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	name, err := keptName(u.dir, now)
	if err != nil {
		return err
	}
	err = carryOut(u.dir, plan{Place: []place{{From: filepath.Join(uploadFolder, u.name), To: vmm.DiskFile, Keep: name}}})
	if err != nil {
		return err
	}
	return prune(u.dir, now)
}

// Close deletes an upload that was not restored.
func (u *Upload) Close() error {
	err := os.Remove(filepath.Join(u.dir, uploadFolder, u.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove upload: %w", err)
	}
	return nil
}

// keptName returns a name that no kept disk has.
func keptName(dir string, now time.Time) (string, error) {
	for n := range 100 {
		name := keptPrefix + now.UTC().Format(timeLayout)
		if n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		name += overlaySuffix
		there, err := isThere(filepath.Join(dir, name))
		if err != nil || !there {
			return name, err
		}
	}
	return "", errs.New(errs.Unavailable, "too many restores in one second")
}

// kept is a disk from before a restore.
type kept struct {
	name string
	at   time.Time
}

// keptFiles lists the disks from before restores, newest first.
func keptFiles(dir string) ([]kept, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list machine directory: %w", err)
	}
	var out []kept
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), keptPrefix)
		if !ok || len(stamp) < len(timeLayout) {
			continue
		}
		at, err := time.Parse(timeLayout, stamp[:len(timeLayout)])
		if err != nil {
			continue
		}
		out = append(out, kept{e.Name(), at})
	}
	slices.SortFunc(out, func(a, b kept) int {
		// Of one second, the longer name has the higher number.
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(len(b.name), len(a.name)), cmp.Compare(b.name, a.name))
	})
	return out, nil
}

// Prune deletes what the machine in dir no longer needs: old disks from before
// restores, and uploads that a crash has left. A machine that runs gives
// errs.Conflict. Call it when no upload is under way.
func Prune(dir string, now time.Time) error {
	there, err := isThere(dir)
	if err != nil || !there {
		return err
	}
	lock, err := vmm.LockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := finish(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, uploadFolder)); err != nil {
		return fmt.Errorf("remove uploads: %w", err)
	}
	return prune(dir, now)
}

// prune deletes kept disks beyond the bounds.
func prune(dir string, now time.Time) error {
	all, err := keptFiles(dir)
	if err != nil {
		return err
	}
	for i, k := range all {
		if i < KeptMax && now.Sub(k.at) < KeptFor {
			continue
		}
		if err := os.Remove(filepath.Join(dir, k.name)); err != nil {
			return fmt.Errorf("remove old disk: %w", err)
		}
	}
	return nil
}
