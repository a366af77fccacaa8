package node

import (
	"context"
	"io"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// crnBackups gives the executor's backups to the door for owners.
type crnBackups struct{ exec *executor.Supervisor }

var _ crn.Backups = crnBackups{}

// Begin implements crn.Backups.
func (b crnBackups) Begin(ctx context.Context, vm message.ItemHash, o crn.BackupOptions) (*crn.Backup, error) {
	got, err := b.exec.BeginBackup(ctx, vm, executor.BackupOptions{Volumes: o.Volumes, SkipFreeze: o.SkipFreeze})
	return backupForOwner(got), err
}

// Latest implements crn.Backups.
func (b crnBackups) Latest(_ context.Context, vm message.ItemHash) (*crn.Backup, error) {
	got, err := b.exec.LatestBackup(vm)
	return backupForOwner(got), err
}

// Open implements crn.Backups.
func (b crnBackups) Open(_ context.Context, vm message.ItemHash, id string) (*crn.Backup, io.ReadSeekCloser, error) {
	got, f, err := b.exec.OpenBackup(vm, id)
	if err != nil {
		return nil, nil, err
	}
	return backupForOwner(got), f, nil
}

// Delete implements crn.Backups.
func (b crnBackups) Delete(_ context.Context, vm message.ItemHash, id string) error {
	return b.exec.DeleteBackup(vm, id)
}

// Restore implements crn.Backups.
func (b crnBackups) Restore(ctx context.Context, vm message.ItemHash, image io.Reader) error {
	return b.exec.Restore(ctx, vm, image)
}

// RestoreRef implements crn.Backups.
func (b crnBackups) RestoreRef(ctx context.Context, vm, ref message.ItemHash) error {
	return b.exec.RestoreRef(ctx, vm, ref)
}

func backupForOwner(b *disk.Backup) *crn.Backup {
	if b == nil {
		return nil
	}
	return &crn.Backup{
		ID: b.ID, Bytes: b.Size, Volumes: b.Members, Expires: b.ExpiresAt(), SHA256: b.SHA256, SourceBytes: b.SourceSizes,
	}
}
