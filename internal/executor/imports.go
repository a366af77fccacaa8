package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// importKept is how long what was fetched of a machine waits for being fetched on,
// from when something of it came last.
const importKept = 2 * time.Hour

// ImportRequest asks for the machine of another node.
type ImportRequest struct {
	Spec  message.ItemHash
	From  Exporter
	Files []ExportedFile
}

// Exporter is a node that exports, and the token of the export.
type Exporter struct {
	Host  string
	Port  uint16
	Token string
}

// ExportedFile is a file of an export and its path at the exporter.
type ExportedFile struct {
	disk.File

	Path string
}

// ExportSource opens files of exports.
type ExportSource interface {
	// Open opens a file from an offset to before the end. An exporter that knows no
	// ranges sends it to its own end, and whole is true.
	Open(ctx context.Context, from Exporter, path string, offset, end int64) (f io.ReadCloser, whole bool, err error)
}

// Import is a machine on its way here.
type Import struct {
	State                 disk.MoveState // Importing or Imported.
	StartedAt, FinishedAt time.Time
	Err                   error // Why it failed, nil if it has not. To ask again goes on.
	Step                  string
	Done, Total           int64 // bytes

	needs []message.ItemHash // Files that must stay meanwhile.
}

// BeginImport fetches a machine from another node, and runs it here once its disks
// are here whole and the other node has given it away. Its room is kept meanwhile.
// One that comes already is left alone. errs.Invalid means that the machine cannot
// run here, errs.Exhausted that there is no room, errs.Conflict that it is here.
func (s *Supervisor) BeginImport(ctx context.Context, want ImportRequest) (*Import, error) {
	have, err := s.ImportOf(ctx, want.Spec)
	if err == nil && have.Err == nil || ignoreNotFound(err) != nil {
		return have, err
	}
	if err := s.mayArrive(ctx, want.Spec); err != nil {
		return nil, err
	}
	lease, err := s.read(ctx, want.Spec)
	if err != nil {
		return nil, importRefused(err)
	}
	if i, _, err := readLease(*lease); err != nil {
		return nil, importRefused(err)
	} else if why := staysHere(i); why != "" {
		return nil, errs.New(errs.Invalid, "machine %s %s, and is not moved", want.Spec, why)
	}
	lease.Kind = state.LeaseScheduled
	want.Files = slices.DeleteFunc(slices.Clone(want.Files), func(f ExportedFile) bool { return disk.IsLeftover(f.Name) })
	unclaim, err := s.claim(want.Spec, movesHere)
	if err != nil {
		return nil, err
	}
	free, err := s.Hold(ctx, want.Spec, lease.Resources)
	if err != nil {
		unclaim()
		return nil, err
	}
	done := func() {
		free()
		unclaim()
	}
	job := &Import{State: disk.Importing, StartedAt: time.Now().UTC(), Step: "waits for its turn"}
	for _, f := range want.Files {
		job.Total += f.Size
	}
	s.editImport(func() { s.imports[want.Spec] = job })
	err = s.submit(ctx, func(ctx context.Context) {
		defer done()
		s.runImport(ctx, want, *lease, job, free)
	})
	if err != nil {
		s.editImport(func() { delete(s.imports, want.Spec) })
		done()
		return nil, err
	}
	return s.ImportOf(ctx, want.Spec)
}

// importRefused gives a refusal a kind.
func importRefused(err error) error {
	var r *Refusal
	switch {
	case !errors.As(err, &r):
		return err
	case r.Why == NetworkAway || r.Why == MessageNotFound:
		return errs.New(errs.Unavailable, "%w", err)
	case r.Why == NoRoom:
		return errs.New(errs.Exhausted, "%w", err)
	default:
		return errs.New(errs.Invalid, "%w", err)
	}
}

// mayArrive reports what keeps a machine from coming here, whatever room there is:
// errs.Conflict that it is here, errs.Exhausted that the node takes nothing new. It
// is asked again before the other node gives the machine away.
func (s *Supervisor) mayArrive(ctx context.Context, spec message.ItemHash) error {
	return s.db.View(ctx, func(v *state.View) error {
		if _, err := v.VM(ctx, spec); ignoreNotFound(err) != nil || err == nil {
			return cmp.Or(ignoreNotFound(err), errs.New(errs.Conflict, "machine %s is here", spec))
		}
		l, err := v.Lease(ctx, spec)
		if ignoreNotFound(err) != nil {
			return err
		}
		if err == nil && l.Open() {
			return errs.New(errs.Conflict, "machine %s is leased here", spec)
		}
		j, err := v.Job(ctx, spec)
		if ignoreNotFound(err) != nil {
			return err
		}
		if err == nil && j.NodeID == s.self.NodeID && !j.Status.Ended() {
			return errs.New(errs.Conflict, "machine %s is a job on the chain, which gave it to this node", spec)
		}
		why, err := s.closed(ctx, v)
		if err == nil && why != "" {
			err = errs.New(errs.Exhausted, "%s", why)
		}
		return err
	})
}

// editImport changes what is known of imports.
func (s *Supervisor) editImport(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// ImportOf returns the import of a machine, or errs.NotFound.
func (s *Supervisor) ImportOf(ctx context.Context, spec message.ItemHash) (*Import, error) {
	var job *Import
	s.editImport(func() {
		if have := s.imports[spec]; have != nil {
			now := *have
			job = &now
		}
	})
	if job != nil {
		return job, nil
	}
	switch vm, err := s.db.VM(ctx, spec); {
	case err == nil && vm.Arrived:
		return &Import{State: disk.Imported, StartedAt: vm.CreatedAt, FinishedAt: vm.CreatedAt}, nil
	case err == nil:
		return nil, errs.New(errs.NotFound, "machine %s did not come from another node", spec)
	case !errors.Is(err, errs.NotFound):
		return nil, err
	}
	m, err := disk.MoveOf(s.dir(spec))
	if err != nil {
		return nil, err
	}
	return &Import{State: disk.Importing, StartedAt: m.StartedAt, Err: errs.New(errs.Unavailable, "the node was restarted meanwhile: ask for it again")}, nil
}

// runImport fetches a machine and says how that ended. free gives up the room that
// is kept for it.
func (s *Supervisor) runImport(ctx context.Context, want ImportRequest, lease state.Lease, job *Import, free func()) {
	err := acquire(ctx, s.moving)
	if err == nil {
		err = s.fetchMachine(ctx, want, lease, job, free)
		release(s.moving)
	}
	s.editImport(func() {
		job.FinishedAt, job.Err, job.Step, job.needs = time.Now().UTC(), err, "", nil
		if err == nil {
			job.State = disk.Imported
		}
	})
	if err != nil {
		s.log.Warn("machine does not come", "job_id", want.Spec, "host", want.From.Host, "err", err)
		return
	}
	s.log.Info("machine has come", "job_id", want.Spec, "host", want.From.Host, "bytes", job.Total)
}

// fetchMachine makes the machine's disks of the other node's files, and gives it a
// lease when that node has given it away.
func (s *Supervisor) fetchMachine(ctx context.Context, want ImportRequest, lease state.Lease, job *Import, free func()) error {
	step := func(text string) { s.editImport(func() { job.Step = text }) }
	step("fetches its image")
	instance, _, err := readLease(lease)
	if err != nil {
		return err
	}
	vm := state.VM{
		Spec: want.Spec, State: state.VMWanted, Detail: "came from " + want.From.Host, Driver: s.parts.Driver.Name(), Dir: s.dir(want.Spec),
		Resources: lease.Resources, TimingsMs: map[string]int64{}, ImageRef: instance.Rootfs.Parent.Ref, Arrived: true,
	}
	if vm.ImageHash, err = s.imageHash(ctx, vm.ImageRef); err != nil {
		return err
	}
	if vm.Files, err = s.volumeFiles(ctx, instance.Volumes, nil); err != nil {
		return err
	}
	s.editImport(func() {
		job.needs = []message.ItemHash{vm.ImageHash}
		for _, file := range vm.Files {
			job.needs = append(job.needs, file)
		}
	})
	spec, err := s.importSpec(ctx, vm, instance, job)
	if err != nil {
		return err
	}
	from := newArriving(s.parts.Exports, want)
	step("fetches its disks")
	if err := disk.Import(ctx, vm.Dir, from.files, spec, from.open, time.Now()); err != nil {
		return err
	}
	step("takes over")
	if err := s.mayArrive(ctx, want.Spec); err != nil {
		return err
	}
	if err := from.take(ctx); err != nil {
		return err
	}
	lease.TakenAt, vm.CreatedAt = time.Now().UTC(), time.Now().UTC()
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.VM(ctx, want.Spec); err == nil {
			return errs.New(errs.Conflict, "machine %s is here", want.Spec)
		}
		if l, err := tx.Lease(ctx, want.Spec); err == nil && l.Open() {
			return errs.New(errs.Conflict, "machine %s is leased here", want.Spec)
		}
		free() // Nobody else can take the room before this is committed.
		if err := s.commit(ctx, tx, lease, true); err != nil {
			return importRefused(err)
		}
		return putVM(ctx, tx, &vm)
	})
	if err != nil {
		return err
	}
	return disk.TakeOver(vm.Dir)
}

// importSpec says what the files of a machine may become here.
func (s *Supervisor) importSpec(ctx context.Context, vm state.VM, instance *message.Instance, job *Import) (disk.ImportSpec, error) {
	image, err := s.parts.Images.Fetch(ctx, vm.ImageHash, func(int64, int64) {})
	if err != nil {
		return disk.ImportSpec{}, fmt.Errorf("fetch image %s: %w", vm.ImageHash, err)
	}
	quiet := func(context.Context, message.ItemHash) func(int64, int64) { return func(int64, int64) {} }
	volumes, err := s.fetchVolumes(ctx, instance.Volumes, vm.Files, quiet)
	if err != nil {
		return disk.ImportSpec{}, err
	}
	parents, err := s.parents(ctx, vm, image, volumes)
	if err != nil {
		return disk.ImportSpec{}, err
	}
	return disk.ImportSpec{
		DiskMiB: instance.Rootfs.SizeMiB, Volumes: volumes, Parents: parents,
		Progress: func(done, total int64) { s.editImport(func() { job.Done, job.Total = done, total }) },
	}, nil
}

// arriving fetches the files of an export, one at a time.
type arriving struct {
	source ExportSource
	from   Exporter
	files  []disk.File
	paths  map[string]string
	sizes  map[string]int64
	given  map[string]bool // Files whose end has come by this request.
}

func newArriving(source ExportSource, want ImportRequest) *arriving {
	a := &arriving{source: source, from: want.From, paths: map[string]string{}, sizes: map[string]int64{}, given: map[string]bool{}}
	for _, f := range want.Files {
		a.files = append(a.files, f.File)
		a.paths[f.Name], a.sizes[f.Name] = f.Path, f.Size
	}
	return a
}

// open is a disk.Fetch. What an exporter sends that knows no ranges is read to the
// file's end, and the end is noted to be given.
func (a *arriving) open(ctx context.Context, name string, offset, end int64) (io.ReadCloser, error) {
	r, whole, err := a.source.Open(ctx, a.from, a.paths[name], offset, end)
	if err != nil || !whole {
		return r, err
	}
	return &wholeBody{ReadCloser: r, left: end - offset, rest: a.sizes[name] - end, note: func() { a.given[name] = true }}, nil
}

// take gets the end of each file that has not come by this request: what is here
// of an earlier one may be of an export that was called off. Who gives the ends of
// all files away starts the machine no more, and has written that down before.
func (a *arriving) take(ctx context.Context) error {
	for _, f := range a.files {
		if a.given[f.Name] {
			continue
		}
		r, err := a.open(ctx, f.Name, f.Size-1, f.Size)
		if err != nil {
			return fmt.Errorf("take over %s: %w", f.Name, err)
		}
		_, err = io.ReadFull(r, make([]byte, 1))
		if err = errors.Join(err, r.Close()); err != nil {
			return errs.New(errs.Unavailable, "take over %s: %w", f.Name, err)
		}
	}
	return nil
}

// wholeBody ends where it was asked to, and reads the rest when it is closed.
type wholeBody struct {
	io.ReadCloser

	left, rest int64 // Bytes to the end that was asked for, and from there to the file's.
	note       func()
}

// Read implements io.Reader.
func (b *wholeBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *wholeBody) Close() error {
	if b.left > 0 {
		return b.ReadCloser.Close()
	}
	n, err := io.CopyN(io.Discard, b.ReadCloser, b.rest)
	if err == nil {
		b.note()
	} else {
		err = errs.New(errs.Unavailable, "it broke off %d bytes before its end: %w", b.rest-n, err)
	}
	return errors.Join(err, b.ReadCloser.Close())
}

// comes reports whether the machine is on its way from another node.
func (s *Supervisor) comes(spec message.ItemHash, now time.Time) bool {
	_, err := disk.LastImported(s.dir(spec), now)
	return err == nil || s.claimed(spec) == movesHere
}

// isComing reports whether the machine comes from another node and has no row
// yet. What was left of one that does not come any more is removed.
func (s *Supervisor) isComing(spec message.ItemHash, now time.Time) bool {
	done, err := s.claim(spec, "leftovers are deleted")
	if err != nil {
		return s.claimed(spec) == movesHere
	}
	defer done()
	dir := s.dir(spec)
	last, err := disk.LastImported(dir, now)
	if err != nil {
		return false
	}
	if now.Sub(last) < importKept {
		return true
	}
	if err := errors.Join(disk.CallOff(dir, true), vmm.Remove(dir)); err != nil {
		s.log.Warn("leftovers of an import stay", "path", path.Base(dir), "err", err)
	}
	return true
}
