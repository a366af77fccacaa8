package node

import (
	"context"
	"io"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// crnMoves gives the executor's moves to the door for schedulers.
type crnMoves struct{ exec *executor.Supervisor }

var _ crn.Migrations = crnMoves{}

// Export implements crn.Migrations.
func (m crnMoves) Export(ctx context.Context, vm message.ItemHash) (*crn.Export, error) {
	return exportForScheduler(m.exec.BeginExport(ctx, vm))
}

// Exporting implements crn.Migrations.
func (m crnMoves) Exporting(ctx context.Context, vm message.ItemHash) (*crn.Export, error) {
	return exportForScheduler(m.exec.ExportOf(ctx, vm))
}

// OpenExport implements crn.Migrations.
func (m crnMoves) OpenExport(ctx context.Context, vm message.ItemHash, name string) (io.ReadSeekCloser, error) {
	return m.exec.OpenExport(ctx, vm, name)
}

// Cleanup implements crn.Migrations.
func (m crnMoves) Cleanup(ctx context.Context, vm message.ItemHash) error {
	return m.exec.FinishExport(ctx, vm)
}

// Import implements crn.Migrations.
func (m crnMoves) Import(ctx context.Context, want crn.ImportRequest) (*crn.Import, error) {
	r := executor.ImportRequest{Spec: want.VM, From: executor.Exporter{Host: want.Host, Port: want.Port, Token: want.Token}}
	for _, f := range want.Files {
		r.Files = append(r.Files, executor.ExportedFile{File: disk.File{Name: f.Name, Size: f.Bytes, SHA256: f.SHA256}, Path: f.DownloadPath})
	}
	return importForScheduler(m.exec.BeginImport(ctx, r))
}

// Importing implements crn.Migrations.
func (m crnMoves) Importing(ctx context.Context, vm message.ItemHash) (*crn.Import, error) {
	return importForScheduler(m.exec.ImportOf(ctx, vm))
}

func exportForScheduler(e *executor.Export, err error) (*crn.Export, error) {
	if err != nil {
		return nil, err
	}
	out := &crn.Export{State: crn.Exporting, Started: e.StartedAt, Finished: e.FinishedAt, Token: e.Token}
	switch {
	case e.Err != nil:
		out.State, out.Error = crn.ExportFailed, errs.Public(e.Err)
	case e.State == disk.Exported:
		out.State = crn.Exported
	}
	for _, f := range e.Files {
		out.Files = append(out.Files, crn.DiskFile{Name: f.Name, Bytes: f.Size, SHA256: f.SHA256})
	}
	return out, nil
}

func importForScheduler(i *executor.Import, err error) (*crn.Import, error) {
	if err != nil {
		return nil, err
	}
	out := &crn.Import{
		State: crn.Importing, Started: i.StartedAt, Finished: i.FinishedAt, Step: i.Step, BytesDone: i.Done, BytesTotal: i.Total,
	}
	switch {
	case i.Err != nil:
		out.State, out.Error = crn.ImportFailed, errs.Public(i.Err)
	case i.State == disk.Imported:
		out.State, out.TransferTime = crn.Imported, i.FinishedAt.Sub(i.StartedAt)
	}
	return out, nil
}
