package vmm

import (
	"context"
	"errors"
	"time"
)

// ErrBackupGoesOn is in the errors of a Backup that has returned before its
// copy was whole: the machine's process goes on with it.
var ErrBackupGoesOn = errors.New("the copy goes on")

// Backuper is a Machine whose disks can be copied while the guest uses them.
type Backuper interface {
	// Backup copies disks, all as they are at one moment, to standalone qcow2
	// images in spec.Dir, and returns when they are whole and on disk.
	//
	// The copy is made by the machine's own process. When ctx or the driver
	// ends first, that goes on (ErrBackupGoesOn), and a later call with the
	// same Dir, by this or a later process, takes it up; with another Dir that
	// copy is thrown away. Any other error leaves nothing of it: errs.Exhausted means that the disk is
	// full or would be, errs.Unavailable that the machine ended or the copy
	// failed. The guest itself never sees an error of its backup.
	Backup(ctx context.Context, spec BackupSpec) (BackupResult, error)

	// CancelBackup ends a copy that is under way and leaves nothing of it.
	CancelBackup(ctx context.Context) error
}

// BackupSpec says what to copy.
type BackupSpec struct {
	Dir   string       // Absolute, there, and used by this copy alone.
	Disks []BackupDisk // At least one.
	// BytesPerSecond bounds how fast each disk is read; 0 does not.
	BytesPerSecond int64
	// Compress has the copies compressed, which costs the machine time.
	Compress bool
	// Freeze asks the guest's agent to bring its file systems to rest for the
	// moment of the copy. A guest without agent is copied as it is, like a
	// computer that loses its power.
	Freeze bool
	// ReserveBytes is what must stay free where Dir is: below that the copy
	// ends, so that the guests have room.
	ReserveBytes int64
}

// BackupDisk is a disk to copy.
type BackupDisk struct {
	Drive int    `json:"drive"` // 0 is the machine's own disk, n the n-th of Spec.Volumes, counted from 1.
	Name  string `json:"name"`  // Of the file in Dir.
}

// BackupResult tells about a copy.
type BackupResult struct {
	At     time.Time `json:"at"`     // The moment that the copy shows.
	Frozen bool      `json:"frozen"` // The guest's file systems were at rest.
}
