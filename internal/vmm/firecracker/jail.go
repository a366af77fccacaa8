package firecracker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit/iso"
)

// Paths as the jailed process sees them.
const (
	apiSocket   = "api.sock"
	vsockSocket = "v.sock"
	kernelPath  = "/kernel"
	initrdPath  = "/initrd"
	drivesPath  = "/drives"
	statePath   = "/state"
	memoryPath  = "/memory"
)

// owner is whom jailed processes run as.
type owner struct{ uid, gid int }

// lookupOwner finds a user by name, or takes "uid:gid".
func lookupOwner(name string) (owner, error) {
	if u, g, ok := strings.Cut(name, ":"); ok {
		uid, err1 := strconv.ParseUint(u, 10, 31)
		gid, err2 := strconv.ParseUint(g, 10, 31)
		if err1 != nil || err2 != nil {
			return owner{}, errs.New(errs.Invalid, "user is %q, want a name, or two numbers with a colon between them", name)
		}
		return owner{int(uid), int(gid)}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return owner{}, errs.New(errs.Unavailable, "there is no user %q for machines to run as: run useradd --system --no-create-home %s, then start the node again", name, name)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return owner{}, fmt.Errorf("user %q: %w", name, err)
	}
	return owner{uid, gid}, nil
}

// take makes a file the owner's, and nobody else's.
func (o owner) take(name string) error {
	if err := os.Chown(name, o.uid, o.gid); err != nil {
		return fmt.Errorf("give %s to the machine's user: %w", filepath.Base(name), err)
	}
	return nil
}

// jail is the directory that becomes the root of a machine's process.
type jail struct {
	root  string
	owner owner
}

// make makes the directory anew: the jailer makes devices in it, and cannot when
// they are there.
func (j jail) make(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, jailDir)); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(j.root, drivesPath), 0o755); err != nil {
		return fmt.Errorf("make jail: %w", err)
	}
	return nil
}

// share puts a file that the process only reads at a path of the jail. It is the
// same file where that can be; it is copied across file systems.
func (j jail) share(name, path string) error {
	to := filepath.Join(j.root, path)
	switch err := os.Link(name, to); {
	case err == nil:
		return j.admit(to)
	case !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK):
		return fmt.Errorf("put %s into the jail: %w", filepath.Base(name), err)
	}
	if err := copySparse(name, to, 0); err != nil {
		return fmt.Errorf("copy %s into the jail: %w", filepath.Base(name), err)
	}
	return j.admit(to)
}

// admit lets the owner read a file that may be others' too: the node's own files
// are readable by their user alone, and the owner's group is let in.
func (j jail) admit(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at %s: %w", filepath.Base(name), err)
	}
	const othersRead, groupRead = 0o004, 0o040
	if info.Mode()&othersRead != 0 {
		return nil
	}
	if err := os.Chown(name, -1, j.owner.gid); err != nil {
		return fmt.Errorf("let the machine's group read %s: %w", filepath.Base(name), err)
	}
	if err := os.Chmod(name, info.Mode().Perm()&^0o030|groupRead); err != nil {
		return fmt.Errorf("let the machine's group read %s: %w", filepath.Base(name), err)
	}
	return nil
}

// give puts a file that the process writes at a path of the jail. It must be the
// same file: what is written to a copy would be lost.
func (j jail) give(name, path string) error {
	to := filepath.Join(j.root, path)
	switch err := os.Link(name, to); {
	case errors.Is(err, unix.EXDEV):
		return errs.New(errs.Invalid, "%s is written by a machine and must be on the file system of the machine's directory", name)
	case err != nil:
		return fmt.Errorf("put %s into the jail: %w", filepath.Base(name), err)
	}
	return j.owner.take(to)
}

// put puts a drive at its place in the jail, and returns its path there. Places
// are numbered: two drives may be files of one name.
func (j jail) put(n int, name string, readOnly bool) (string, error) {
	path := filepath.Join(drivesPath, strconv.Itoa(n))
	if readOnly {
		return path, j.share(name, path)
	}
	return path, j.give(name, path)
}

// makeDisk makes the disk of a machine that has none: a copy of the image's,
// which shares its blocks where the file system can do that.
func makeDisk(spec vmm.Spec, u *undo) error {
	name := filepath.Join(spec.Dir, diskFile)
	bytes := int64(spec.DiskMiB) << 20
	info, err := os.Stat(name)
	if err == nil {
		if info.Size() != bytes {
			return errs.New(errs.Invalid, "disk of machine %s has %d bytes, want %d", spec.ID, info.Size(), bytes)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at disk: %w", err)
	}
	tmp := name + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	u.add(tmp)
	u.add(name)
	if err := copySparse(spec.Image.Rootfs, tmp, bytes); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("put disk in place: %w", err)
	}
	return nil
}

// copySparse copies a file, without its holes, to one that is not there and has
// at least so many bytes in the end. It is on disk when copySparse returns.
func copySparse(from, to string, bytes int64) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		// Another file system, or one that shares no blocks.
		if err := copyData(in, out, info.Size()); err != nil {
			return err
		}
	}
	if err := out.Truncate(max(bytes, info.Size())); err != nil {
		return err
	}
	return out.Sync()
}

// copyData copies the parts of a file that are no holes.
func copyData(in, out *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // Nothing but a hole is left.
		}
		if err != nil {
			return fmt.Errorf("look for data: %w", err)
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for a hole: %w", err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return fmt.Errorf("copy data: %w", err)
		}
		at = end
	}
	return nil
}

// furnish puts everything of a machine into its jail and returns the calls that
// describe the machine.
func (j jail) furnish(spec vmm.Spec, cfg Config, u *undo) (hardware, error) {
	var h hardware
	h.machine = machineConfig{VCPUs: spec.VCPUs, MemoryMiB: spec.MemoryMiB}
	if err := j.share(spec.Image.Kernel, kernelPath); err != nil {
		return h, err
	}
	h.boot = bootSource{Kernel: kernelPath, Args: bootArgs(spec)}
	if spec.Image.Initrd != "" {
		if err := j.share(spec.Image.Initrd, initrdPath); err != nil {
			return h, err
		}
		h.boot.Initrd = initrdPath
	}
	volumes := []vmm.Volume{{Path: spec.Image.Rootfs, Format: vmm.Raw, ReadOnly: true}}
	ids := []string{"root"}
	if !spec.Function {
		if err := makeDisk(spec, u); err != nil {
			return h, err
		}
		seed := filepath.Join(spec.Dir, seedFile)
		if _, err := os.Stat(seed); errors.Is(err, os.ErrNotExist) {
			u.add(seed)
		}
		if err := iso.Write(seed, spec.Seed); err != nil {
			return h, err
		}
		volumes = []vmm.Volume{{Path: filepath.Join(spec.Dir, diskFile)}, {Path: seed, ReadOnly: true}}
		ids = append(ids, "seed")
	}
	volumes = append(volumes, spec.Volumes...)
	for n, v := range volumes {
		path, err := j.put(n, v.Path, v.ReadOnly)
		if err != nil {
			return h, err
		}
		id := fmt.Sprintf("volume%d", n-len(ids))
		if n < len(ids) {
			id = ids[n]
		}
		d := drive{ID: id, Path: path, Root: n == 0, ReadOnly: v.ReadOnly, Limiter: limit(cfg.DriveMiBPerSecond << 20)}
		if !v.ReadOnly {
			d.Cache = "Writeback" // What the guest flushes is on the host's disk.
		}
		h.drives = append(h.drives, d)
	}
	if spec.Net.Kind == vmm.NetTap {
		if err := grantTap(spec.Net.Tap, j.owner); err != nil {
			return h, err
		}
		bits := limit(cfg.NetworkMbitPerSecond * 1_000_000 / 8)
		h.net = &networkInterface{ID: netID, Tap: spec.Net.Tap, MAC: spec.Net.MAC, Rx: bits, Tx: bits}
	}
	return h, nil
}
