package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	volumesFolder   = "volumes"
	ephemeralFolder = "ephemeral"
	rawSuffix       = ".ext4"
	overlaySuffix   = ".qcow2"
	// nameMax bounds a volume's name, so that its file's name has room for
	// what is added.
	nameMax = 128
	// labelMax is what ext4 takes.
	labelMax = 16
	// formatMax bounds mkfs.ext4, which writes few tables of a sparse file.
	formatMax = 2 * time.Minute
	mib       = int64(1) << 20
)

// Volume is a volume that a message wants, with the file found that it names.
type Volume struct {
	message.Volume

	// Path is that of the blob: of an immutable volume, or of the parent of a
	// persistent one. "" where there is none. Whoever prepares a volume keeps
	// that file for as long as the machine is there.
	Path string
}

// Names returns the names of the volumes' files without suffix: what owners
// call them, with characters that are not a letter, a digit, "_" or "-" made
// "_". Two that would be the same get their number.
func Names(volumes []Volume) []string {
	out, taken := make([]string, len(volumes)), map[string]bool{}
	for i, v := range volumes {
		name := "unamed_volume_" + strconv.Itoa(i) // Spelt as on the network.
		if v.Name != nil && *v.Name != "" {
			name = cleanName(*v.Name)
		}
		for n := i; taken[strings.ToLower(name)]; n++ {
			name = cleanName(name[:min(len(name), nameMax-8)] + "-" + strconv.Itoa(n))
		}
		taken[strings.ToLower(name)] = true
		out[i] = name
	}
	return out
}

// cleanName makes a name that is nothing but a file of its folder.
func cleanName(name string) string {
	var b strings.Builder
	for _, c := range name {
		if b.Len() == nameMax {
			break
		}
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			b.WriteRune(c)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}

// Prepare makes the disks in dir ready for a start of the machine, which must
// not run (errs.Conflict), and returns its drives in the order of volumes.
//
// A persistent volume that is there is used again, grown when the message
// wants more, and never shrunk (errs.Invalid). An ephemeral one is made anew.
// An immutable one is the blob, read only and raw whatever its bytes say. The
// machine's own disk, when there is one already, is grown to diskMiB. A
// message that can never work gives errs.Invalid, a full disk errs.Exhausted.
func Prepare(ctx context.Context, dir string, diskMiB int64, volumes []Volume) ([]vmm.Volume, error) {
	lock, err := lockIdle(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := os.RemoveAll(filepath.Join(dir, ephemeralFolder)); err != nil {
		return nil, fmt.Errorf("remove ephemeral volumes: %w", err)
	}
	if err := growRoot(ctx, dir, diskMiB); err != nil {
		return nil, err
	}
	names := Names(volumes)
	out := make([]vmm.Volume, len(volumes))
	for i, v := range volumes {
		if out[i], err = prepare(ctx, dir, i, names[i], v); err != nil {
			return nil, fmt.Errorf("volume %d (%s): %w", i, names[i], err)
		}
	}
	return out, nil
}

// Drives returns the drives that Prepare gives for the volumes of the machine
// in dir, and touches nothing.
func Drives(dir string, volumes []Volume) []vmm.Volume {
	names, out := Names(volumes), make([]vmm.Volume, len(volumes))
	for i, v := range volumes {
		out[i] = driveOf(dir, i, names[i], v)
	}
	return out
}

func driveOf(dir string, i int, name string, v Volume) vmm.Volume {
	switch {
	case v.Kind == message.Immutable:
		return vmm.Volume{Path: v.Path, Format: vmm.Raw, ReadOnly: true}
	case v.Kind == message.Ephemeral:
		return vmm.Volume{Path: filepath.Join(dir, ephemeralFolder, strconv.Itoa(i)+rawSuffix), Format: vmm.Raw}
	case v.Parent != nil:
		return vmm.Volume{Path: filepath.Join(dir, volumesFolder, name+overlaySuffix), Format: vmm.Qcow2}
	default:
		return vmm.Volume{Path: filepath.Join(dir, volumesFolder, name+rawSuffix), Format: vmm.Raw}
	}
}

// growRoot grows the machine's own disk, where there is one.
func growRoot(ctx context.Context, dir string, diskMiB int64) error {
	path := filepath.Join(dir, vmm.DiskFile)
	there, err := isThere(path)
	if err != nil || !there || diskMiB == 0 {
		return err
	}
	return Grow(ctx, path, vmm.Qcow2, diskMiB*mib)
}

func prepare(ctx context.Context, dir string, i int, name string, v Volume) (vmm.Volume, error) {
	drive := driveOf(dir, i, name, v)
	switch v.Kind {
	case message.Immutable:
		return drive, immutable(v)
	case message.Ephemeral:
		if v.SizeMiB < 1 || v.SizeMiB > message.MaxEphemeral {
			return vmm.Volume{}, errs.New(errs.Invalid, "ephemeral volume of %d MiB, want 1 to %d", v.SizeMiB, message.MaxEphemeral)
		}
		return drive, makeRaw(ctx, drive.Path, name, v.SizeMiB*mib)
	case message.Persistent:
		return drive, persistent(ctx, drive.Path, name, v)
	}
	return vmm.Volume{}, errs.New(errs.Invalid, "volume of kind %q", v.Kind)
}

// immutable checks a blob. Its bytes are a stranger's: they are never taken
// for a format that could name other files.
func immutable(v Volume) error {
	info, err := os.Stat(v.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.NotFound, "file %s is not here", v.Ref)
	case err != nil:
		return fmt.Errorf("look at volume: %w", err)
	case !info.Mode().IsRegular() || info.Size() == 0:
		return errs.New(errs.Invalid, "file %s is empty", v.Ref)
	}
	return nil
}

func persistent(ctx context.Context, path, name string, v Volume) error {
	if v.SizeMiB < 1 || v.SizeMiB > message.MaxVolumeMiB {
		return errs.New(errs.Invalid, "persistent volume of %d MiB, want 1 to %d", v.SizeMiB, message.MaxVolumeMiB)
	}
	if v.Persistence != nil && *v.Persistence != "host" {
		return errs.New(errs.Invalid, "volume persists in %q: only host is supported", *v.Persistence)
	}
	if v.Parent == nil {
		return makeRaw(ctx, path, name, v.SizeMiB*mib)
	}
	return makeOverlay(ctx, path, v.Path, v.SizeMiB*mib)
}

// makeRaw makes a sparse file with an ext4 file system, or grows it. A file
// system that is in use is its owner's: who asked for more grows it inside.
func makeRaw(ctx context.Context, path, label string, size int64) (err error) {
	there, err := isThere(path)
	if err != nil {
		return err
	}
	if there {
		return Grow(ctx, path, vmm.Raw, size)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return vmm.DiskError(fmt.Errorf("make folder of volumes: %w", err))
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".volume-*")
	if err != nil {
		return vmm.DiskError(fmt.Errorf("make volume: %w", err))
	}
	defer func() {
		tmp.Close()
		if err != nil {
			err = errors.Join(vmm.DiskError(err), os.Remove(tmp.Name()))
		}
	}()
	if err := tmp.Truncate(size); err != nil {
		return fmt.Errorf("size volume: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, formatMax)
	defer cancel()
	_, err = runTool(ctx, "mkfs.ext4", "-q", "-F", "-L", label[:min(len(label), labelMax)],
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", tmp.Name())
	if err != nil {
		return fmt.Errorf("format volume: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("sync volume: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("put volume in place: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// makeOverlay makes a volume that starts as its parent is, or grows it.
func makeOverlay(ctx context.Context, path, parent string, size int64) error {
	format, parentBytes, err := vmm.OpenDisk(parent)
	if err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	if parentBytes > size {
		return errs.New(errs.Invalid, "volume of %d MiB is smaller than its parent, which has %d", size>>20, (parentBytes+mib-1)>>20)
	}
	there, err := isThere(path)
	if err != nil {
		return err
	}
	if there {
		if err := checkParent(path, parent, format); err != nil {
			return err
		}
		return Grow(ctx, path, vmm.Qcow2, size)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return vmm.DiskError(fmt.Errorf("make folder of volumes: %w", err))
	}
	return vmm.DiskError(qcow2.WriteOverlay(path, parent, string(format), size))
}

// checkParent reports an overlay over another file than the parent. One over
// none was moved here whole.
func checkParent(path, parent string, format vmm.Format) error {
	h, err := header(path)
	if err != nil {
		return err
	}
	if h.DataFile || h.Backing != "" && (h.Backing != parent || h.BackingFormat != string(format)) {
		return errs.New(errs.Invalid, "the volume is over %q (%s), not over %q: erase it first", h.Backing, h.BackingFormat, parent)
	}
	return nil
}

// header reads the header of a qcow2 image.
func header(path string) (qcow2.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return qcow2.Header{}, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return qcow2.Header{}, fmt.Errorf("look at disk: %w", err)
	}
	return qcow2.Read(f, info.Size())
}

// sizeOf returns the size of a disk as a guest sees it.
func sizeOf(path string, format vmm.Format) (int64, error) {
	if format == vmm.Qcow2 {
		h, err := header(path)
		return h.VirtualBytes, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look at disk: %w", err)
	}
	return info.Size(), nil
}
