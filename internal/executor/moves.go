package executor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// A machine that leaves is halted by its row's Move, and its disks are copied by
// package disk, whose record in the machine's directory is the second word
// against a start. It comes back here when the copy fails or nobody has fetched
// it in time. Once all files were fetched to their end the other node may run it:
// then it starts here no more, and is removed when somebody says that it has
// arrived. The other side is in imports.go: it takes over only after it was given
// the end of each file, so whoever may start it, one of the two knows that the
// other does not.

const (
	movesAway = "it moves to another node"
	movesHere = "it comes from another node"
)

// Export is a machine whose disks another node may fetch.
type Export struct {
	State                 disk.MoveState // Exporting or Exported.
	StartedAt, FinishedAt time.Time
	Err                   error // Why it failed, nil if it has not; then the machine runs here again.
	Token                 string
	Files                 []disk.File
}

// staysHere is why a machine cannot go to another node, "" when it can: a host may have
// no such device, or none that is free, and would know only when it was given all.
func staysHere(i *message.Instance) string {
	switch {
	case isConfidential(i):
		return "is confidential"
	case hasGPU(i):
		return "has a GPU of its host"
	default:
		return ""
	}
}

// BeginExport shuts a leased machine down and copies its disks for another node.
// One that leaves already is left alone. errs.Invalid means that it is no machine
// that can, errs.Conflict that something else is done with its disks.
func (s *Supervisor) BeginExport(ctx context.Context, spec message.ItemHash) (*Export, error) {
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil || row.Move != nil {
			return err
		}
		l, err := tx.Lease(ctx, spec)
		if errors.Is(err, errs.NotFound) {
			return errs.New(errs.Invalid, "machine %s is of a job on the chain, which names its node", spec)
		}
		if err != nil {
			return err
		}
		i, _, err := readLease(*l)
		if err != nil {
			return err
		}
		if why := staysHere(i); why != "" {
			return errs.New(errs.Invalid, "machine %s %s, and is not moved", spec, why)
		}
		switch busy := s.claimed(spec); {
		case !l.Open() || row.State != state.VMRunning:
			return errs.New(errs.Invalid, "machine %s does not run: it is %s", spec, row.State)
		case row.Halt != nil:
			return errs.New(errs.Conflict, "machine %s is being halted by the order of %s", spec, row.Halt.By)
		case busy != "":
			return errs.New(errs.Conflict, "machine %s is busy: %s", spec, busy)
		}
		row.Move = &state.Move{StartedAt: time.Now().UTC()}
		return putVM(ctx, tx, row)
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.exports, spec)
	s.mu.Unlock()
	return s.ExportOf(ctx, spec)
}

// ExportOf returns the export of a machine, or errs.NotFound.
func (s *Supervisor) ExportOf(ctx context.Context, spec message.ItemHash) (*Export, error) {
	vm, err := s.db.VM(ctx, spec)
	if err != nil {
		return nil, err
	}
	if vm.Move == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e := s.exports[spec]; e != nil {
			return e, nil
		}
		return nil, errs.New(errs.NotFound, "machine %s does not move", spec)
	}
	e := &Export{State: disk.Exporting, StartedAt: vm.Move.StartedAt}
	if vm.Move.CopiedAt.IsZero() {
		return e, nil
	}
	m, err := disk.MoveOf(vm.Dir)
	if err != nil {
		return nil, err
	}
	e.State, e.FinishedAt, e.Token, e.Files = disk.Exported, vm.Move.CopiedAt, vm.Move.Token, m.Files
	return e, nil
}

// OpenExport opens a file of an export, which counts as being fetched until it is
// closed, or gives errs.NotFound. Who asks has shown the token.
func (s *Supervisor) OpenExport(ctx context.Context, spec message.ItemHash, name string) (io.ReadSeekCloser, error) {
	vm, err := s.db.VM(ctx, spec)
	if err != nil {
		return nil, err
	}
	f, known, err := disk.OpenExport(vm.Dir, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving[spec]++
	return &exported{
		File: f, left: known.Size, size: known.Size,
		note: func() error { return disk.NoteServed(vm.Dir, name) },
		done: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.serving[spec]--; s.serving[spec] == 0 {
				delete(s.serving, spec)
			}
		},
	}, nil
}

// exported is a file that is fetched. That its end was given away is noted before
// it is.
type exported struct {
	*os.File

	size, left int64
	note       func() error // nil once it was called.
	done       func()       // nil once it was called.
}

// Read implements io.Reader.
func (e *exported) Read(p []byte) (int, error) {
	n, err := e.File.Read(p)
	e.left -= int64(n)
	if n > 0 && e.left <= 0 && e.note != nil {
		if err := e.note(); err != nil {
			return 0, err
		}
		e.note = nil
	}
	return n, err
}

// WriteTo implements io.WriterTo by Read: that of the file notes nothing.
func (e *exported) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{e})
}

// Seek implements io.Seeker.
func (e *exported) Seek(offset int64, whence int) (int64, error) {
	at, err := e.File.Seek(offset, whence)
	e.left = e.size - at
	return at, err
}

// Close implements io.Closer.
func (e *exported) Close() error {
	if e.done != nil {
		e.done()
		e.done = nil
	}
	return e.File.Close()
}

// FinishExport ends a machine that another node has taken, and returns when
// nothing is left of it. errs.Conflict means that its files are being fetched, or
// were not all.
func (s *Supervisor) FinishExport(ctx context.Context, spec message.ItemHash) error {
	vm, err := s.db.VM(ctx, spec)
	if err != nil {
		return err
	}
	if vm.Move == nil || s.isServing(spec) {
		return errs.New(errs.Conflict, "machine %s does not move, or is being fetched", spec)
	}
	m, err := disk.MoveOf(vm.Dir)
	if err != nil {
		return errs.New(errs.Conflict, "machine %s has no export: %w", spec, err)
	}
	if m.State == disk.Exported && !m.Given() {
		return errs.New(errs.Conflict, "of machine %s only %d of %d files were fetched, so no node can have it", spec, len(m.Served), len(m.Files))
	}
	if err := disk.Release(vm.Dir); err != nil {
		return err
	}
	if err := s.movedAway(ctx, spec); err != nil {
		return err
	}
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) { return vm == nil, nil })
}

// isServing reports whether files of the machine's export are open.
func (s *Supervisor) isServing(spec message.ItemHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving[spec] > 0
}

// movedAway ends the lease of a machine that was released.
func (s *Supervisor) movedAway(ctx context.Context, spec message.ItemHash) error {
	return s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil {
			return ignoreNotFound(err)
		}
		l, err := tx.Lease(ctx, spec)
		if err == nil {
			head, herr := headTime(ctx, tx)
			now := time.Now().UTC()
			l.End = &state.LeaseEnd{Cause: state.EndMoved, Detail: "another node has fetched it and runs it", At: now, Head: head}
			err = errors.Join(herr, tx.PutLease(ctx, *l))
		}
		if ignoreNotFound(err) != nil {
			return err
		}
		row.Move = nil
		return putVM(ctx, tx, row)
	})
}

// tendMoves goes on with machines that leave.
func (s *Supervisor) tendMoves(ctx context.Context, v *view) error {
	for _, vm := range v.vms {
		if step, _ := nextMove(vm, "", s.isServing(vm.Spec), v.now); step == moveWaits || !s.mayTend(vm) {
			continue
		}
		done, err := s.claim(vm.Spec, movesAway)
		if err != nil {
			continue // Somebody is at it.
		}
		err = s.submit(ctx, func(ctx context.Context) {
			defer done()
			if err := s.moveOn(ctx, vm.Spec); err != nil && ctx.Err() == nil {
				s.log.Warn("move does not go on", "job_id", vm.Spec, "err", err)
			}
		})
		if err != nil {
			done()
			return err
		}
	}
	return nil
}

// mayTend reports whether there may be something to do about a machine that leaves. One
// that was given away waits for its end, unless that has begun: its record says so.
func (s *Supervisor) mayTend(vm state.VM) bool {
	if !vm.Move.Given() || isOver(vm) {
		return true // The record, which is a file, need not be read in each pass.
	}
	m, err := disk.MoveOf(vm.Dir)
	return err != nil || tends(vm, m.State)
}

// tends is mayTend with the record.
func tends(vm state.VM, record disk.MoveState) bool {
	return !vm.Move.Given() || isOver(vm) || record == disk.Released
}

func isOver(vm state.VM) bool { return vm.State == state.VMStopped || vm.State == state.VMFailed }

func overdue(m state.Move, now time.Time) bool { return now.Sub(m.CopiedAt) >= disk.ExportFor }

// moveStep is what becomes next of a machine that leaves.
type moveStep int

const (
	moveWaits  moveStep = iota
	moveCopies          // Its disks are copied.
	moveOff             // It is called off, unless another node may have it.
	moveEnds            // Its lease ends, since it was released.
)

// nextMove says what becomes next of a machine that leaves, and why a move is called
// off. serving is whether files of its export are open: a large disk takes its time,
// and nothing is called off while an end is on its way.
func nextMove(vm state.VM, record disk.MoveState, serving bool, now time.Time) (moveStep, error) {
	switch m := vm.Move; {
	case m == nil:
		return moveWaits, nil
	case record == disk.Released: // A crash came before its lease ended.
		return moveEnds, nil
	case serving:
		return moveWaits, nil
	case isOver(vm):
		return moveOff, errs.New(errs.Unavailable, "the machine ended before another node had it")
	case m.CopiedAt.IsZero() && isDown(vm):
		return moveCopies, nil
	case !m.CopiedAt.IsZero() && overdue(*m, now):
		return moveOff, errs.New(errs.Unavailable, "no node fetched all its files within %v", disk.ExportFor)
	default:
		return moveWaits, nil
	}
}

// moveOn copies the disks of a machine that is down, or calls off an export that
// waits for too long.
func (s *Supervisor) moveOn(ctx context.Context, spec message.ItemHash) error {
	vm, err := s.db.VM(ctx, spec)
	if err != nil || vm.Move == nil {
		return err
	}
	record, err := disk.MoveOf(vm.Dir)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	switch step, cause := nextMove(*vm, record.State, s.isServing(spec), time.Now()); step {
	case moveEnds:
		return s.movedAway(ctx, spec)
	case moveOff:
		return s.callOff(ctx, *vm, cause)
	case moveWaits:
		return nil
	case moveCopies:
	}
	if err := acquire(ctx, s.moving); err != nil {
		return err
	}
	defer release(s.moving)
	files, err := s.copyDisks(ctx, *vm)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return s.callOff(ctx, *vm, err)
	}
	_, err = s.edit(ctx, spec, func(row *state.VM) {
		if row.Move != nil {
			row.Move.CopiedAt, row.Move.Token = time.Now().UTC(), rand.Text()
		}
	})
	s.log.Info("machine can be fetched", "job_id", spec, "files", len(files))
	return err
}

// copyDisks makes the files of an export.
func (s *Supervisor) copyDisks(ctx context.Context, vm state.VM) ([]disk.File, error) {
	instance, _, err := s.instance(ctx, vm.Spec)
	if err != nil {
		return nil, err
	}
	path, err := s.parts.Images.Fetch(ctx, vm.ImageHash, func(int64, int64) {})
	if err != nil {
		return nil, fmt.Errorf("fetch image %s: %w", vm.ImageHash, err)
	}
	quiet := func(context.Context, message.ItemHash) func(int64, int64) { return func(int64, int64) {} }
	volumes, err := s.fetchVolumes(ctx, instance.Volumes, vm.Files, quiet)
	if err != nil {
		return nil, err
	}
	parents, err := s.parents(ctx, vm, path, volumes)
	if err != nil {
		return nil, err
	}
	return disk.Export(ctx, vm.Dir, parents, time.Now())
}

// parents returns what the disks of a machine lie over, by the names of the files
// that move.
func (s *Supervisor) parents(ctx context.Context, vm state.VM, imagePath string, volumes []disk.Volume) (map[string]disk.Parent, error) {
	image, err := s.openImage(ctx, vm.ImageHash, imagePath)
	if err != nil {
		return nil, err
	}
	out := map[string]disk.Parent{disk.RootMember: {Name: string(vm.ImageHash), Path: image.Rootfs, Format: image.Format}}
	for _, m := range disk.Members(vm.Dir, volumes, disk.Drives(vm.Dir, volumes))[1:] {
		v := volumes[m.Drive-1]
		if v.Parent == nil {
			continue
		}
		format, _, err := vmm.OpenDisk(v.Path)
		if err != nil {
			return nil, fmt.Errorf("parent of volume %s: %w", m.Name, err)
		}
		out[m.Name] = disk.Parent{Name: string(vm.Files[v.Parent.Ref]), Path: v.Path, Format: format}
	}
	return out, nil
}

// callOff has the machine start here again, unless another node may run it.
func (s *Supervisor) callOff(ctx context.Context, vm state.VM, cause error) error {
	err := disk.CallOff(vm.Dir, false)
	if errors.Is(err, errs.Conflict) {
		if vm.Move.Given() {
			return nil
		}
		s.log.Warn("machine waits for word that it has arrived elsewhere", "job_id", vm.Spec, "err", err)
		_, err = s.edit(ctx, vm.Spec, func(row *state.VM) {
			row.Detail = "another node has fetched it and may run it; it waits until that is confirmed"
			if row.Move != nil {
				row.Move.GivenAt = time.Now().UTC()
			}
		})
		return err
	}
	if ignoreNotFound(err) != nil {
		return fmt.Errorf("call off move: %w", err)
	}
	s.mu.Lock()
	s.exports[vm.Spec] = &Export{State: disk.Exporting, StartedAt: vm.Move.StartedAt, FinishedAt: time.Now().UTC(), Err: cause}
	s.mu.Unlock()
	s.log.Warn("machine does not leave", "job_id", vm.Spec, "err", cause)
	_, err = s.edit(ctx, vm.Spec, func(row *state.VM) { row.Move = nil })
	return err
}
