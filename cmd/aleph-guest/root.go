package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockBytes is the block size of the root file system, as the image recipe
// makes it.
const blockBytes = 4096

// ext4Resize is EXT4_IOC_RESIZE_FS: it grows a mounted ext4 to a number of
// blocks.
const ext4Resize = 0x40086610

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// mountEarly mounts what the rest of the boot reads.
func mountEarly() error {
	return mountAll([]mount{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	})
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// mountRoot mounts the root disk beside the initrd.
func mountRoot() error {
	return mountAll([]mount{{rootDevice, newRoot, "ext4", unix.MS_NOATIME, ""}})
}

// switchRoot makes the root disk the root of this process and all that it
// starts. The initrd stays below, unreachable: it holds little more than this
// program, which runs from it.
func switchRoot() error {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return mountAll([]mount{
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	})
}

// growRoot grows the root file system to the size of its disk.
func growRoot() error {
	disk, err := os.Open(rootDevice)
	if err != nil {
		return fmt.Errorf("open root disk: %w", err)
	}
	defer disk.Close()
	var size uint64
	if err := ioctl(disk, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return fmt.Errorf("ask for the size of the root disk: %w", err)
	}
	root, err := os.Open("/")
	if err != nil {
		return fmt.Errorf("open root: %w", err)
	}
	defer root.Close()
	blocks := size / blockBytes
	if err := ioctl(root, ext4Resize, unsafe.Pointer(&blocks)); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("grow to %d blocks: %w", blocks, err)
	}
	return nil
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}
