package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	backsUp  = "a backup is made"
	restores = "its disk is restored"
)

// BackupOptions is how a backup is made.
type BackupOptions struct {
	Volumes    bool // With the volumes that it writes and that persist.
	SkipFreeze bool // Without asking the guest to bring its file systems to rest.
}

// openArchive opens the directory of backups.
func (s *Supervisor) openArchive() (err error) {
	if s.self.Backups == "" {
		return nil
	}
	s.archive, err = disk.OpenArchive(s.self.Backups, disk.ArchiveConfig{
		BytesPerSecond: s.cfg.BackupMiBPerSecond << 20, ReserveBytes: s.cfg.ReserveDiskMiB << 20,
	})
	return err
}

var errNoArchive = errs.New(errs.Invalid, "this node makes no backups")

// BeginBackup begins a backup of a machine that runs. It returns the newest one
// instead that has not expired, and nil while one is made. errs.Exhausted means
// that the disk has too little room, errs.Conflict that something else is done
// with the machine's disks, errs.Invalid that it does not run or has no backups.
func (s *Supervisor) BeginBackup(ctx context.Context, spec message.ItemHash, o BackupOptions) (*disk.Backup, error) {
	if s.archive == nil {
		return nil, errNoArchive
	}
	if err := s.notGuarded(ctx, spec, "backed up"); err != nil {
		return nil, err
	}
	have, err := s.archive.List(spec, time.Now())
	if err != nil {
		return nil, err
	}
	if len(have) > 0 {
		return &have[0], nil
	}
	if s.claimed(spec) == backsUp {
		return nil, nil //nolint:nilnil // It is made.
	}
	m := s.machine(spec)
	if _, ok := m.(vmm.Backuper); !ok {
		return nil, errs.New(errs.Invalid, "machine %s does not run, or its driver makes no backups", spec)
	}
	members, err := s.backupMembers(ctx, spec, o.Volumes)
	if err != nil {
		return nil, err
	}
	if err := s.archive.CheckSpace(members); err != nil {
		return nil, err
	}
	return nil, s.makeBackup(ctx, m, members, !o.SkipFreeze)
}

// backupMembers returns the disks to copy.
func (s *Supervisor) backupMembers(ctx context.Context, spec message.ItemHash, volumes bool) ([]disk.Member, error) {
	vm, err := s.db.VM(ctx, spec)
	if err != nil {
		return nil, err
	}
	var all []disk.Volume
	if volumes {
		instance, _, err := s.instance(ctx, spec)
		if err != nil {
			return nil, err
		}
		for _, v := range instance.Volumes {
			all = append(all, disk.Volume{Volume: v})
		}
	}
	return disk.Members(vm.Dir, all, disk.Drives(vm.Dir, all)), nil
}

// makeBackup makes a backup, or takes up one that was begun, beside all else.
func (s *Supervisor) makeBackup(ctx context.Context, m vmm.Machine, members []disk.Member, freeze bool) error {
	spec := message.ItemHash(m.ID())
	done, err := s.claim(spec, backsUp)
	if err != nil {
		return err
	}
	s.noteBackup(spec, nil)
	err = s.submit(ctx, func(ctx context.Context) {
		defer done()
		started := time.Now()
		b, err := s.archive.Create(ctx, m, members, freeze, started)
		s.endBackup(ctx, spec, b, err, time.Since(started))
	})
	if err != nil {
		done()
	}
	return err
}

// endBackup says how a backup ended.
func (s *Supervisor) endBackup(ctx context.Context, spec message.ItemHash, b disk.Backup, err error, took time.Duration) {
	switch {
	case err == nil:
		s.outcomes.WithLabelValues("backed up").Inc()
		s.log.Info("backup made", "job_id", spec, "backup_id", b.ID, "bytes", b.Size, "frozen", b.Frozen, "took", took)
	case ctx.Err() == nil: // Else the next process takes it up.
		s.log.Warn("backup failed", "job_id", spec, "err", err)
		s.noteBackup(spec, err)
	}
}

// noteBackup keeps why a backup failed, nil for one that did not.
func (s *Supervisor) noteBackup(spec message.ItemHash, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, spec)
		return
	}
	s.failed[spec] = err
}

// LatestBackup returns the newest backup of a machine, nil while one is made, the
// error of one that failed since, or errs.NotFound.
func (s *Supervisor) LatestBackup(spec message.ItemHash) (*disk.Backup, error) {
	if s.archive == nil {
		return nil, errs.New(errs.NotFound, "%w", errNoArchive)
	}
	s.mu.Lock()
	busy, failed := s.claims[spec] == backsUp, s.failed[spec]
	s.mu.Unlock()
	if busy || failed != nil {
		return nil, failed
	}
	have, err := s.archive.List(spec, time.Now())
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		return nil, errs.New(errs.NotFound, "no backup of machine %s", spec)
	}
	return &have[0], nil
}

// OpenBackup returns a backup and its tar, which the caller closes, or
// errs.NotFound.
func (s *Supervisor) OpenBackup(spec message.ItemHash, id string) (*disk.Backup, *os.File, error) {
	if err := s.backupOf(spec, id); err != nil {
		return nil, nil, err
	}
	b, f, err := s.archive.Open(id, time.Now())
	if err != nil {
		return nil, nil, err
	}
	return &b, f, nil
}

// DeleteBackup deletes a backup, or gives errs.NotFound.
func (s *Supervisor) DeleteBackup(spec message.ItemHash, id string) error {
	if err := s.backupOf(spec, id); err != nil {
		return err
	}
	return s.archive.Delete(id)
}

// backupOf reports a backup that cannot be the machine's.
func (s *Supervisor) backupOf(spec message.ItemHash, id string) error {
	if s.archive == nil || !strings.HasPrefix(id, string(spec)+"-") {
		return errs.New(errs.NotFound, "no backup %q of machine %s", id, spec)
	}
	return nil
}

// tendBackups takes up backups that an earlier process began, and deletes those
// that have expired.
func (s *Supervisor) tendBackups(ctx context.Context, v *view) error {
	if s.archive == nil {
		return nil
	}
	begun, err := s.archive.Unfinished()
	if err != nil {
		return err
	}
	for _, spec := range begun {
		done, err := s.claim(spec, backsUp)
		if err != nil {
			continue // Somebody is at it.
		}
		err = s.submit(ctx, func(ctx context.Context) {
			defer done()
			s.resumeBackup(ctx, spec)
		})
		if err != nil {
			done()
			return err
		}
	}
	return s.archive.Expire(v.now)
}

// resumeBackup finishes a backup that was begun. One of a machine that does not
// run waits for it until it has expired.
func (s *Supervisor) resumeBackup(ctx context.Context, spec message.ItemHash) {
	started := time.Now()
	b, err := s.archive.Finish(ctx, spec)
	if errors.Is(err, errs.NotFound) {
		m := s.machine(spec)
		if m == nil {
			return
		}
		b, err = s.archive.Create(ctx, m, nil, false, started) // Its members were written down.
	}
	s.endBackup(ctx, spec, b, err, time.Since(started))
}

// forgetBackups deletes the backups of a machine that is removed.
func (s *Supervisor) forgetBackups(spec message.ItemHash) error {
	if s.archive == nil {
		return nil
	}
	s.noteBackup(spec, nil)
	return s.archive.DeleteAll(spec)
}

// Restore makes a qcow2 image the root disk of a machine and starts it anew. The
// image is read to its end and checked before anything changes, and the disk
// that was there is kept for a while. errs.Invalid means that the image cannot be
// its disk, errs.Conflict that something else is done with its disks.
func (s *Supervisor) Restore(ctx context.Context, spec message.ItemHash, image io.Reader) error {
	return s.restore(ctx, spec, func(vm *state.VM, diskMiB int64) (*disk.Upload, error) {
		return disk.Receive(ctx, vm.Dir, image, diskMiB)
	})
}

// RestoreRef is Restore of the file that a STORE message names.
func (s *Supervisor) RestoreRef(ctx context.Context, spec, ref message.ItemHash) error {
	return s.restore(ctx, spec, func(vm *state.VM, diskMiB int64) (*disk.Upload, error) {
		hash, err := s.imageHash(ctx, ref)
		if err != nil {
			return nil, err
		}
		path, err := s.parts.Images.Fetch(ctx, hash, func(int64, int64) {})
		if err != nil {
			return nil, fmt.Errorf("fetch file %s: %w", hash, err)
		}
		return disk.ReceiveFile(ctx, vm.Dir, path, diskMiB)
	})
}

// restore writes down which upload becomes the disk, and waits until the machine
// has started with it. From then on a crash repeats the rest. When the machine has
// not come to it in bootMax, as one that is paused does not, the order is taken back
// and the machine goes on with the disk that it had.
func (s *Supervisor) restore(ctx context.Context, spec message.ItemHash, receive func(*state.VM, int64) (*disk.Upload, error)) error {
	done, err := s.claim(spec, restores)
	if err != nil {
		return err
	}
	defer done()
	vm, err := s.db.VM(ctx, spec)
	if err != nil {
		return err
	}
	instance, _, err := s.instance(ctx, spec)
	if err != nil {
		return err
	}
	up, err := receive(vm, instance.Rootfs.SizeMiB)
	if err != nil {
		return err
	}
	h := &state.Halt{By: "a restore", Again: true, Restore: up.Name()}
	before, err := s.order(ctx, spec, h)
	if errors.Is(err, errs.Conflict) || errors.Is(err, errs.NotFound) || errors.Is(err, errs.Exhausted) {
		return errors.Join(err, up.Close())
	}
	if err != nil {
		return err // The order may be there: the next start deletes what it does not name.
	}
	err = s.awaitBoot(ctx, spec, before.Starts)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, s.takeBackRestore(ctx, spec, h, up))
}

// takeBackRestore takes back an order to restore that nothing was done for, and says
// what is so now.
func (s *Supervisor) takeBackRestore(ctx context.Context, spec message.ItemHash, h *state.Halt, up *disk.Upload) error {
	s.exchanging.Lock()
	defer s.exchanging.Unlock()
	taken := false
	vm, err := s.edit(ctx, spec, func(row *state.VM) {
		if taken = row.Halt.Same(h); taken {
			row.Halt = nil
		}
	})
	switch {
	case errors.Is(err, errs.NotFound):
		return up.Close()
	case err != nil:
		return err
	case !taken:
		return errs.New(errs.Unavailable, "its disk was restored all the same, and the disk before that is kept: it is %s: %s", vm.State, vm.Detail)
	}
	s.log.Warn("restore taken back", "job_id", spec, "state", vm.State, "detail", vm.Detail)
	return errors.Join(errs.New(errs.Unavailable, "nothing was restored within %v: the machine keeps its disk", bootMax), up.Close())
}

// swap makes an upload the root disk of a machine whose process is gone.
func (s *Supervisor) swap(vm state.VM) error {
	if vm.Halt.Restore == "" {
		return nil
	}
	up, err := disk.OpenUpload(vm.Dir, vm.Halt.Restore)
	if err == nil {
		err = up.Restore(time.Now())
	}
	if errors.Is(err, errs.Conflict) {
		err = doubt{err}
	}
	if err != nil {
		return fmt.Errorf("restore disk: %w", err)
	}
	return nil
}
