package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// A machine moves with its disks: the node that has them exports, the other
// one imports. Both write down where they are before they act on it, and a
// machine whose directory has such a record does not start there:
//
//	source  exporting -> exported -> released (for good)
//	        exporting, exported -> called off: it may start here again
//	target  importing -> placing -> imported -> taken over: it may start here
//
// The target takes over only after the source has released, or has noted that
// all files were served, which keeps it from calling off; and the source releases
// or calls off, never both. So the machine may start at one of them at most,
// whenever either of them dies.

// MoveState is where a move stands.
type MoveState string

// The states of a move.
const (
	Exporting MoveState = "exporting" // The copies are being made.
	Exported  MoveState = "exported"  // The copies can be fetched.
	Released  MoveState = "released"  // The other node has the machine.
	Importing MoveState = "importing" // The copies are being fetched and checked.
	Placing   MoveState = "placing"   // They are being put in their place.
	Imported  MoveState = "imported"  // They are, and the machine waits to be taken over.
)

const (
	exportFolder = "export"
	importFolder = "import"
	// ExportFor is how long an export waits for who fetches it.
	ExportFor   = 30 * time.Minute
	readySuffix = ".ready"
	// rawMember marks the copy of a raw volume: a qcow2 image that becomes raw
	// again.
	rawMember = ".raw" + overlaySuffix
	filesMax  = 64
	// lockTries and lockWait bound the wait for a short hold of the lock.
	lockTries = 50
	lockWait  = 20 * time.Millisecond

	sectorBytes = 512
)

// File is a file that moves.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"` // In hex.
}

// Move is move.json.
type Move struct {
	State     MoveState `json:"state"`
	StartedAt time.Time `json:"started_at"`
	DoneAt    time.Time `json:"finished_at,omitzero"`
	Files     []File    `json:"files,omitempty"`
	// Served are the names of the files that were fetched to their end.
	Served []string `json:"served,omitempty"`
}

// Given reports whether somebody may have the machine whole: the ends of all files
// were given away.
func (m Move) Given() bool {
	return m.State == Exported && len(m.Served) >= len(m.Files)
}

// Parent is what a disk lies over, on this node. Name is what both nodes call
// it, such as the hash of the image; the file's own path is nobody's business.
type Parent struct {
	Name   string
	Path   string
	Format vmm.Format
}

// check reports a parent that cannot be written into a header.
func (p Parent) check() error {
	if p.Name == "" || p.Name != cleanName(p.Name) {
		return errs.New(errs.Invalid, "parent is called %q, want letters, digits, - and _", p.Name)
	}
	return nil
}

// MoveOf returns where the move of the machine in dir stands, or
// errs.NotFound when it does not move.
func MoveOf(dir string) (Move, error) {
	var m Move
	err := readJSON(filepath.Join(dir, vmm.MoveFile), &m)
	return m, err
}

func (m Move) write(dir string) error { return writeJSON(filepath.Join(dir, vmm.MoveFile), m) }

// lockMove takes the lock for a change of a move's state.
func lockMove(dir string) (*os.File, error) {
	if there, err := isThere(dir); err != nil || !there {
		return nil, errors.Join(err, errs.New(errs.NotFound, "no machine in %s", filepath.Base(dir)))
	}
	for try := 1; ; try++ {
		lock, err := vmm.LockDir(dir)
		if err == nil {
			if err := finish(dir); err != nil {
				lock.Close()
				return nil, err
			}
			return lock, nil
		}
		if !errors.Is(err, errs.Conflict) || try == lockTries {
			return nil, err
		}
		<-time.After(lockWait)
	}
}

// Export copies all disks of a machine that does not run into files that
// another node can fetch, and returns them. From its begin on the machine does
// not start here until CallOff. Parents are those of the disks that lie over
// an image that the other node has too, by member: only what differs moves.
// Each copy is compared with its disk, byte by byte as a guest sees them.
// When it fails the machine may start again; when it is cut short, Export it
// again or CallOff.
func Export(ctx context.Context, dir string, parents map[string]Parent, now time.Time) (_ []File, err error) {
	lock, err := lockMove(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	m, err := MoveOf(dir)
	switch {
	case errors.Is(err, errs.NotFound) || err == nil && m.State == Exporting:
	case err != nil:
		return nil, err
	case m.State == Exported:
		return m.Files, nil
	default:
		return nil, errs.New(errs.Conflict, "the machine is %s", m.State)
	}
	m = Move{State: Exporting, StartedAt: now.UTC()}
	if err := m.write(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), forget(dir, exportFolder))
		}
	}()
	folder := filepath.Join(dir, exportFolder)
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, dirMode)); err != nil {
		return nil, fmt.Errorf("make folder of exports: %w", err)
	}
	disks, err := moving(dir)
	if err != nil {
		return nil, err
	}
	if err := exportSpace(dir, disks); err != nil {
		return nil, err
	}
	for _, d := range disks {
		f, err := exportOne(ctx, folder, d, parents)
		if err != nil {
			return nil, fmt.Errorf("export %s: %w", d.name, err)
		}
		m.Files = append(m.Files, f)
	}
	if err := syncDir(folder); err != nil {
		return nil, err
	}
	m.State, m.DoneAt = Exported, now.UTC()
	return m.Files, m.write(dir)
}

// member is a disk that moves.
type member struct {
	name   string // Of the file that moves.
	path   string // Of the disk here.
	format vmm.Format
}

// moving lists the disks of a machine that move.
func moving(dir string) ([]member, error) {
	root := filepath.Join(dir, vmm.DiskFile)
	if there, err := isThere(root); err != nil || !there {
		return nil, errors.Join(err, errs.New(errs.NotFound, "the machine has no disk"))
	}
	out := []member{{RootMember, root, vmm.Qcow2}}
	entries, err := os.ReadDir(filepath.Join(dir, volumesFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, volumesFolder, e.Name())
		if stem, ok := strings.CutSuffix(e.Name(), rawSuffix); ok {
			out = append(out, member{stem + rawMember, path, vmm.Raw})
		} else if stem, ok := strings.CutSuffix(e.Name(), overlaySuffix); ok {
			out = append(out, member{volumeMember(stem), path, vmm.Qcow2})
		}
	}
	return out, nil
}

// volumeMember names the copy of a volume that is qcow2 here too.
func volumeMember(stem string) string {
	if stem+overlaySuffix == RootMember {
		return "volume-" + RootMember
	}
	return stem + overlaySuffix
}

// exportSpace gives errs.Exhausted when the copies might not fit.
func exportSpace(dir string, disks []member) error {
	var need int64
	for _, d := range disks {
		n, err := takes(d.path)
		if err != nil {
			return err
		}
		need += n
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	if free < need {
		return errs.New(errs.Exhausted, "Insufficient disk space: %d MiB are free, the export may need %d", free>>20, need>>20)
	}
	return nil
}

// exportOne copies a disk. A disk becomes an image over its parent with what
// differs, zeros over its bytes included: an image without parent that is put over
// one later would show the parent wherever the guest had written zeros. So does
// one that stands alone, as after a restore: nodes of other software put every
// image over the parent.
func exportOne(ctx context.Context, folder string, d member, parents map[string]Parent) (File, error) {
	path := filepath.Join(folder, d.name)
	argv := []string{"convert", "-f", string(d.format), "-O", "qcow2", "-c"}
	p, over := parents[d.name]
	if d.format == vmm.Raw {
		over = false
	} else {
		h, err := header(d.path)
		if err != nil {
			return File{}, err
		}
		if over && h.Backing != "" && h.Backing != p.Path {
			return File{}, errs.New(errs.Invalid, "the disk is over %q, not over %q", h.Backing, p.Path)
		}
	}
	if over {
		if err := p.check(); err != nil {
			return File{}, err
		}
		argv = append(argv, "-B", p.Path, "-F", string(p.Format))
	}
	if err := qemuImg(ctx, append(argv, d.path, path)...); err != nil {
		return File{}, err
	}
	if err := qemuImg(ctx, "compare", "-q", "-f", string(d.format), "-F", "qcow2", d.path, path); err != nil {
		return File{}, errs.New(errs.Internal, "the copy is not as the disk: %w", err)
	}
	if over {
		if err := qemuImg(ctx, "rebase", "-u", "-f", "qcow2", "-b", p.Name, "-F", string(p.Format), path); err != nil {
			return File{}, err
		}
	}
	if err := syncFile(path); err != nil {
		return File{}, err
	}
	return hashFile(ctx, path)
}

// hashFile describes a file.
func hashFile(ctx context.Context, path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("open copy: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, &limited{ctx, f}, make([]byte, copyBytes))
	if err != nil {
		return File{}, fmt.Errorf("hash copy: %w", err)
	}
	return File{filepath.Base(path), n, hex.EncodeToString(sum.Sum(nil))}, nil
}

// OpenExport opens a file of an export for who fetches it. A name that is not
// one of it gives errs.NotFound.
func OpenExport(dir, name string) (*os.File, File, error) {
	m, err := MoveOf(dir)
	if err != nil {
		return nil, File{}, err
	}
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if m.State != Exported || i < 0 {
		return nil, File{}, errs.New(errs.NotFound, "Disk file not found: %s", name)
	}
	f, err := os.Open(filepath.Join(dir, exportFolder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, File{}, errs.New(errs.NotFound, "Disk file not found: %s", name)
	}
	if err != nil {
		return nil, File{}, fmt.Errorf("open export: %w", err)
	}
	return f, m.Files[i], nil
}

// NoteServed notes that a file was fetched to its end. Call it before the last
// byte is sent: once all are, the other node may have the machine, and CallOff
// needs force.
func NoteServed(dir, name string) error {
	return change(dir, func(m *Move) error {
		if m.State != Exported {
			return errs.New(errs.Conflict, "the machine is %s", m.State)
		}
		if !slices.Contains(m.Served, name) {
			m.Served = append(m.Served, name)
		}
		return nil
	})
}

// change rewrites the record of a move.
func change(dir string, edit func(*Move) error) error {
	lock, err := lockMove(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := MoveOf(dir)
	if err != nil {
		return err
	}
	if err := edit(&m); err != nil {
		return err
	}
	return m.write(dir)
}

// Release gives the machine away: it never starts here again, and its
// directory may be removed. An export that is not finished, or was called off,
// gives errs.Conflict; to release twice is fine.
func Release(dir string) error {
	err := change(dir, func(m *Move) error {
		if m.State != Exported && m.State != Released {
			return errs.New(errs.Conflict, "No completed export to clean up: the machine is %s", m.State)
		}
		m.State = Released
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		return errs.New(errs.Conflict, "No completed export to clean up")
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, exportFolder)); err != nil {
		return fmt.Errorf("remove export: %w", err)
	}
	return nil
}

// CallOff ends a move on either side, as if it had not begun: the machine may
// start at the source, and the target has nothing of it. A machine that was
// released or taken over gives errs.Conflict, and so does one whose files were
// all fetched, unless force says that the other node does not run it.
func CallOff(dir string, force bool) error {
	lock, err := lockMove(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := MoveOf(dir)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch m.State {
	case Exporting, Exported:
		if m.Given() && !force {
			return errs.New(errs.Conflict, "all files were fetched, so the machine may run elsewhere")
		}
		return forget(dir, exportFolder)
	case Importing, Placing, Imported:
		// Not imported any more, before a disk is missing.
		m.State = Importing
		if err := m.write(dir); err != nil {
			return err
		}
		if err := carryOut(dir, plan{Remove: []string{vmm.DiskFile, volumesFolder}}); err != nil {
			return err
		}
		return forget(dir, importFolder)
	case Released:
	}
	return errs.New(errs.Conflict, "the machine is %s", m.State)
}

// forget removes the copies of a move and then its record.
func forget(dir, folder string) error {
	if err := os.RemoveAll(filepath.Join(dir, folder)); err != nil {
		return fmt.Errorf("remove copies: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, vmm.MoveFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end move: %w", err)
	}
	return syncDir(dir)
}

// Fetch opens a file of the source from an offset to before the end.
type Fetch func(ctx context.Context, name string, offset, end int64) (io.ReadCloser, error)

// IsLeftover reports whether a file of an export is no disk of the machine but
// what another implementation has left beside them: it exports every image of the
// folder, those from before a restore too.
func IsLeftover(name string) bool {
	stem, _ := strings.CutSuffix(RootMember, overlaySuffix)
	return strings.HasPrefix(name, stem+".pre-restore-") || name == stem+".restore-staging"+overlaySuffix || strings.HasSuffix(name, ".export"+overlaySuffix)
}

// ImportSpec is what the target knows of the machine by its message.
type ImportSpec struct {
	DiskMiB int64
	Volumes []Volume
	Parents map[string]Parent // As for Export: where they are here.
	// Progress is told how many bytes of all files are here; may be nil.
	Progress func(done, total int64)
}

// wants returns what the file may become: the disk's place and its size.
func (s ImportSpec) wants(name string) (place, vmm.Format, int64, error) {
	if name == RootMember {
		return place{To: vmm.DiskFile}, vmm.Qcow2, s.DiskMiB * mib, nil
	}
	for i, stem := range Names(s.Volumes) {
		v := s.Volumes[i]
		raw, size := filepath.Join(volumesFolder, stem+rawSuffix), v.SizeMiB*mib
		if v.Kind != message.Persistent {
			continue
		}
		switch {
		case v.Parent == nil && name == stem+rawMember:
			return place{To: raw}, vmm.Raw, size, nil
		case v.Parent != nil && name == volumeMember(stem):
			return place{To: filepath.Join(volumesFolder, stem+overlaySuffix)}, vmm.Qcow2, size, nil
		}
	}
	return place{}, "", 0, errs.New(errs.Invalid, "the machine has no disk for the file %q", name)
}

// check reports files that cannot be those of the machine.
func (s ImportSpec) check(files []File) error {
	if len(files) == 0 || len(files) > filesMax {
		return errs.New(errs.Invalid, "%d files to import, want 1 to %d", len(files), filesMax)
	}
	seen := map[string]bool{}
	for _, f := range files {
		_, _, size, err := s.wants(f.Name)
		if err != nil {
			return err
		}
		if f.Size < 1 || f.Size > fileMax(size) {
			return errs.New(errs.Invalid, "file %s has %d bytes, want those of a disk of %d MiB", f.Name, f.Size, size>>20)
		}
		if raw, err := hex.DecodeString(f.SHA256); err != nil || len(raw) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256) {
			return errs.New(errs.Invalid, "file %s has the sha256 %q", f.Name, f.SHA256)
		}
		if seen[f.Name] {
			return errs.New(errs.Invalid, "file %s is named twice", f.Name)
		}
		seen[f.Name] = true
	}
	if !seen[RootMember] {
		return errs.New(errs.Invalid, "there is no %s among the files", RootMember)
	}
	for i, stem := range Names(s.Volumes) {
		v := s.Volumes[i]
		name := stem + rawMember
		if v.Parent != nil {
			name = volumeMember(stem)
		}
		if v.Kind == message.Persistent && !seen[name] {
			return errs.New(errs.Invalid, "volume %s is not among the files as %s: the machine would lose it; nodes of other software do not move volumes", stem, name)
		}
	}
	return nil
}

// Import fetches the files of an export and makes the machine's disks of them
// in dir, which has none yet (errs.Conflict). What is here already is not
// fetched again, also after a crash. Each file must hash to what it is said
// to, and be a disk that the machine may have; its parent is this node's. The
// last byte of each file is never asked for: it follows from the hash. So the
// source, which starts the machine no more once it has given all ends away, gives
// none before all is here and has been found good. The machine does not start
// before TakeOver.
func Import(ctx context.Context, dir string, files []File, spec ImportSpec, fetch Fetch, now time.Time) error {
	if err := spec.check(files); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return vmm.DiskError(fmt.Errorf("make machine directory: %w", err))
	}
	lock, err := lockMove(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := beginImport(dir, files, now)
	if err != nil || m.State == Imported {
		return vmm.DiskError(err)
	}
	if m.State == Importing {
		if err := importAll(ctx, dir, files, spec, fetch); err != nil {
			return vmm.DiskError(err)
		}
		m.State = Placing
		if err := m.write(dir); err != nil {
			return err
		}
	}
	var p plan
	for _, f := range files {
		to, _, _, err := spec.wants(f.Name)
		if err != nil {
			return err
		}
		to.From = filepath.Join(importFolder, f.Name+readySuffix)
		p.Place = append(p.Place, to)
	}
	if err := carryOut(dir, p); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, importFolder)); err != nil {
		return fmt.Errorf("remove what was fetched: %w", err)
	}
	m.State, m.DoneAt = Imported, now.UTC()
	return m.write(dir)
}

// beginImport writes down that the files come, or goes on with them.
func beginImport(dir string, files []File, now time.Time) (Move, error) {
	m, err := MoveOf(dir)
	switch {
	case err == nil && (m.State == Importing || m.State == Placing || m.State == Imported) && slices.Equal(m.Files, files):
		return m, nil
	case err == nil && m.State == Importing:
		// Another export of the same machine: what was fetched is of none.
		if err := os.RemoveAll(filepath.Join(dir, importFolder)); err != nil {
			return m, fmt.Errorf("remove what was fetched: %w", err)
		}
	case err == nil:
		return m, errs.New(errs.Conflict, "the machine is %s", m.State)
	case !errors.Is(err, errs.NotFound):
		return m, err
	}
	there, err := isThere(filepath.Join(dir, vmm.DiskFile))
	if err != nil {
		return m, err
	}
	if there {
		return m, errs.New(errs.Conflict, "the machine has a disk here already")
	}
	m = Move{State: Importing, StartedAt: now.UTC(), Files: files}
	return m, m.write(dir)
}

// importAll fetches the files and makes disks of them that are ready to be put
// in their place.
func importAll(ctx context.Context, dir string, files []File, spec ImportSpec, fetch Fetch) error {
	folder := filepath.Join(dir, importFolder)
	if err := os.MkdirAll(folder, dirMode); err != nil {
		return fmt.Errorf("make folder of imports: %w", err)
	}
	c := &coming{folder: folder, fetch: fetch, progress: spec.Progress}
	for _, f := range files {
		c.total += f.Size
	}
	for _, f := range files {
		ready, err := isThere(filepath.Join(folder, f.Name+readySuffix))
		if err != nil {
			return err
		}
		if !ready {
			if err := c.get(ctx, f); err != nil {
				return fmt.Errorf("fetch %s: %w", f.Name, err)
			}
			if err := makeReady(ctx, folder, f.Name, spec); err != nil {
				return fmt.Errorf("import %s: %w", f.Name, err)
			}
		}
		c.count(f.Size - c.here)
		c.here = 0
	}
	return syncDir(folder)
}

// coming is what is being fetched.
type coming struct {
	folder   string
	fetch    Fetch
	progress func(done, total int64)

	done, total int64
	here        int64 // Of the file that is being fetched.
}

func (c *coming) count(n int64) {
	c.done += n
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
}

// get fetches a file, from where an earlier try ended, unless it is here.
func (c *coming) get(ctx context.Context, f File) error {
	path := filepath.Join(c.folder, f.Name)
	if there, err := isThere(path); err != nil || there {
		return err
	}
	part, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	defer part.Close()
	sum := sha256.New()
	have, err := io.Copy(sum, &limited{ctx, io.LimitReader(part, f.Size)})
	if err != nil {
		return fmt.Errorf("read what is here: %w", err)
	}
	c.here = have
	c.count(have)
	if have < f.Size-1 {
		if err := c.stream(ctx, f, part, sum); err != nil {
			return err
		}
	}
	whole := hex.EncodeToString(sum.Sum(nil)) == f.SHA256
	if c.here < f.Size {
		last, ok, err := lastByte(sum, f.SHA256)
		if err != nil {
			return err
		}
		if whole = ok; ok {
			if _, err := part.WriteAt([]byte{last}, c.here); err != nil {
				return fmt.Errorf("write file: %w", err)
			}
			c.here++
			c.count(1)
		}
	}
	if !whole {
		if err := os.Remove(path + partSuffix); err != nil {
			return fmt.Errorf("remove what is wrong: %w", err)
		}
		c.count(-c.here)
		c.here = 0
		return errs.New(errs.Unavailable, "its bytes do not hash to %s: they were changed on the way, or are not those that were exported", f.SHA256)
	}
	if err := errors.Join(part.Truncate(f.Size), part.Sync()); err != nil {
		return fmt.Errorf("sync file: %w", err)
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return fmt.Errorf("put file in place: %w", err)
	}
	return syncDir(c.folder)
}

// lastByte returns the byte after what was hashed that makes all of it hash to
// want, and false if none does.
func lastByte(sum hash.Hash, want string) (last byte, ok bool, err error) {
	before, can := sum.(hash.Cloner)
	if !can {
		return 0, false, errs.New(errs.Internal, "a hash of type %T cannot be copied", sum)
	}
	for b := range 256 {
		h, err := before.Clone()
		if err != nil {
			return 0, false, fmt.Errorf("copy hash: %w", err)
		}
		h.Write([]byte{byte(b)}) // A hash never fails.
		if hex.EncodeToString(h.Sum(nil)) == want {
			return byte(b), true, nil
		}
	}
	return 0, false, nil
}

// stream appends the rest of a file, but its last byte, to what is here of it.
func (c *coming) stream(ctx context.Context, f File, part *os.File, sum hash.Hash) (err error) {
	end := f.Size - 1
	r, err := c.fetch(ctx, f.Name, c.here, end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := io.LimitReader(&limited{ctx, r}, end-c.here)
	buf := make([]byte, copyBytes)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := part.WriteAt(buf[:n], c.here); err != nil {
				return fmt.Errorf("write file: %w", err)
			}
			sum.Write(buf[:n]) // A hash never fails.
			c.here += int64(n)
			c.count(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && c.here < end:
			return errs.New(errs.Unavailable, "it broke off after %d of %d bytes", c.here, f.Size)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errs.New(errs.Unavailable, "it broke off after %d of %d bytes: %w", c.here, f.Size, err)
		}
	}
}

// makeReady checks a file that has come and makes the machine's disk of it.
func makeReady(ctx context.Context, folder, name string, spec ImportSpec) error {
	path := filepath.Join(folder, name)
	_, format, size, err := spec.wants(name)
	if err != nil {
		return err
	}
	parent, err := checkFetched(path, size, spec.Parents[name])
	if err != nil {
		return err
	}
	if parent != nil {
		// Before anything opens the image with what it says that it is over.
		if err := qemuImg(ctx, "rebase", "-u", "-f", "qcow2", "-b", parent.Path, "-F", string(parent.Format), path); err != nil {
			return errs.New(errs.Invalid, "put it over its parent: %w", err)
		}
	}
	checked, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	if err := checkTables(checked, path); err != nil {
		return err
	}
	if format == vmm.Raw {
		if err := qemuImg(ctx, "convert", "-f", "qcow2", "-O", "raw", path, path+".raw"); err != nil {
			return err
		}
		path += ".raw"
	}
	if err := Grow(ctx, path, format, size); err != nil {
		return err
	}
	if err := syncFile(path); err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(folder, name+readySuffix)); err != nil {
		return fmt.Errorf("put disk in place: %w", err)
	}
	return nil
}

// checkFetched reports a file whose header is not that of a disk that the
// machine may have, and returns the parent that it is over, nil for none.
func checkFetched(path string, most int64, p Parent) (*Parent, error) {
	h, err := header(path)
	if err != nil {
		return nil, err
	}
	// Over the path, where a crash came after it was put over its parent.
	over := p.Name != "" && h.BackingFormat == string(p.Format) && (h.Backing == p.Name || h.Backing == p.Path)
	switch {
	case h.Backing != "" && !over:
		return nil, errs.New(errs.Invalid, "it is over %q (%s), want %q (%s) or none", h.Backing, h.BackingFormat, p.Name, p.Format)
	case h.DataFile || h.Encrypted || h.Snapshots != 0:
		return nil, errs.New(errs.Invalid, "it has its data elsewhere, is encrypted or has snapshots")
	case h.VirtualBytes > most || h.VirtualBytes%sectorBytes != 0:
		return nil, errs.New(errs.Invalid, "it is a disk of %d bytes, the machine's has %d", h.VirtualBytes, most)
	case h.Backing == "":
		return nil, nil
	}
	return &p, nil
}

// LastImported returns when something last came, until now, of a machine that is
// on its way to dir, or errs.NotFound when none is. What came later was written
// under another clock and tells nothing.
func LastImported(dir string, now time.Time) (time.Time, error) {
	m, err := MoveOf(dir)
	if err != nil {
		return time.Time{}, err
	}
	if m.State != Importing && m.State != Placing && m.State != Imported {
		return time.Time{}, errs.New(errs.NotFound, "the machine is %s", m.State)
	}
	last := m.StartedAt
	if m.DoneAt.After(last) && !m.DoneAt.After(now) {
		last = m.DoneAt
	}
	entries, err := os.ReadDir(filepath.Join(dir, importFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return last, fmt.Errorf("list what was fetched: %w", err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return last, fmt.Errorf("look at what was fetched: %w", err)
		}
		if at := fi.ModTime(); at.After(last) && !at.After(now) {
			last = at
		}
	}
	return last, nil
}

// TakeOver lets the machine start here. Call it when the source has released
// it, or has served the end of each file of an export that stands, and never
// before. One that is not imported whole gives errs.Conflict; to
// take over twice is fine.
func TakeOver(dir string) error {
	lock, err := lockMove(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := MoveOf(dir)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if m.State != Imported {
		return errs.New(errs.Conflict, "the machine is %s, not imported", m.State)
	}
	return forget(dir, importFolder)
}
