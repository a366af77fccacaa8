package vmm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// The files of a machine's directory that this package itself knows.
const (
	lockFile       = "lock"
	ConsoleFile    = "console.log"   // The newest bytes of the serial console.
	ConsoleOldFile = "console.log.1" // The bytes before them.
)

// dirMode keeps the guests' disks, keys and consoles from other users.
const dirMode = 0o700

// LockFile returns the path of a machine directory's lock, which every process of the
// machine has open.
func LockFile(dir string) string { return filepath.Join(dir, lockFile) }

// LockDir makes dir when it is absent and takes its lock, which whoever holds
// the returned file has: a process that inherits the file keeps the lock after
// the caller closed it or died. A lock that another process has gives
// errs.Conflict.
func LockDir(dir string) (*os.File, error) {
	// Somebody may remove the directory at any moment, and then the file that
	// we hold is not the one that others will see.
	for range lockTriesMax {
		f, err := tryLock(dir)
		if err != nil || f != nil {
			return f, err
		}
	}
	return nil, errs.New(errs.Conflict, "directory %s is being removed", dir)
}

// lockTriesMax bounds the races against removals that LockDir loses.
const lockTriesMax = 10

// tryLock is LockDir, or nil and no error when the directory went away.
func tryLock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make machine directory: %w", err)
	}
	name := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open machine lock: %w", err)
	}
	// An open-file-description lock: unlike flock it can be asked about
	// without taking it, so Running never makes a Start fail.
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errs.New(errs.Conflict, "a process runs in %s", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	held, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("look at machine lock: %w", err)
	}
	if seen, err := os.Stat(name); err != nil || !os.SameFile(held, seen) {
		f.Close()
		return nil, nil //nolint:nilerr // The file is another one now; try again.
	}
	return f, nil
}

// Running reports whether a process of the machine in dir lives.
func Running(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open machine lock: %w", err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("ask for the lock of %s: %w", dir, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

// Remove deletes the directory of a machine that does not run, disk included.
// A directory that is not there is fine; a machine that runs gives
// errs.Conflict.
func Remove(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := LockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The lock goes last, so that a removal that was cut short is seen as the
	// directory of a machine and can be repeated.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list machine directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove machine: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove machine: %w", err)
	}
	return nil
}

// DiskError gives errs.Exhausted to an error that is a full disk, and returns
// others as they are.
func DiskError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errs.New(errs.Exhausted, "the disk is full, make room on it: %w", err)
	}
	return err
}
