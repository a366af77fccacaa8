package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// The files of a machine's directory that speak against its start. Package
// disk writes them.
const (
	// MoveFile says that the machine moves to another node, or comes from one.
	MoveFile = "move.json"
	// PlanFile says that the machine's disks are being exchanged.
	PlanFile = "plan.json"
)

// DiskFile is the machine's own disk in its directory.
const DiskFile = "disk.qcow2"

// CheckStart reports why the machine in dir must not start, as errs.Conflict:
// its disks are about to be others, or are another node's. The caller holds
// the lock of the directory.
func CheckStart(dir string) error {
	for file, reason := range map[string]string{
		MoveFile: "it moves between nodes: finish that or call it off",
		PlanFile: "a change of its disks was interrupted: prepare its disks first",
	} {
		_, err := os.Lstat(filepath.Join(dir, file))
		if err == nil {
			return errs.New(errs.Conflict, "the machine in %s may not start: %s", filepath.Base(dir), reason)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for %s: %w", file, err)
		}
	}
	return nil
}

// OpenDisk tells format and size of a disk image that may be a stranger's.
// One that is damaged or would reach for other files of this host gives
// errs.Invalid. A tar is a raw disk here.
func OpenDisk(path string) (Format, int64, error) {
	img, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, errs.New(errs.NotFound, "no disk image %s", filepath.Base(path))
	}
	if err != nil {
		return "", 0, fmt.Errorf("open disk image: %w", err)
	}
	defer img.Close()
	format := formatOf(img)
	size, err := checkDisk(img, format)
	return format, size, err
}
