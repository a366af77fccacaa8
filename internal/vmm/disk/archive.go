package disk

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// BackupFor is how long a backup is kept.
	BackupFor = 24 * time.Hour

	tarSuffix  = ".tar"
	sumSuffix  = ".tar.sha256"
	metaSuffix = ".tar.meta.json"
	partSuffix = ".part"
	copyFile   = "copy.json"
	// trashPrefix begins the names of folders that are being removed.
	trashPrefix = ".trash"
	membersMax  = 32
	copyBytes   = 1 << 20
	// syncEvery bounds what a tar leaves to be written at once: the guests'
	// own writes would wait behind that.
	syncEvery = 16 << 20
)

// RootMember is the name of the machine's own disk in archives and exports.
const RootMember = "rootfs.qcow2"

// Backup is a copy of a machine's disks that is kept for a while: a tar of
// qcow2 images, each of which stands alone.
type Backup struct {
	ID        string           `json:"backup_id"` // {vm hash}-{20060102T150405Z}
	VM        message.ItemHash `json:"vm_hash"`
	CreatedAt time.Time        `json:"created_at"` // The moment that the disks show.
	Size      int64            `json:"size"`       // Of the tar, in bytes.
	SHA256    string           `json:"sha256"`     // Of the tar, in hex.
	Members   []string         `json:"volumes"`    // Names in the tar, RootMember first.
	// SourceSizes are the disks' sizes as the guest sees them, by member.
	SourceSizes map[string]int64 `json:"source_sizes"`
	Frozen      bool             `json:"frozen"` // The guest's file systems were at rest.
}

// ExpiresAt returns when the backup is deleted.
func (b Backup) ExpiresAt() time.Time { return b.CreatedAt.Add(BackupFor) }

// Member is a disk to put into a backup.
type Member struct {
	Name  string `json:"name"`  // RootMember, or a volume's name and ".qcow2".
	Drive int    `json:"drive"` // See vmm.BackupDisk.
	Path  string `json:"path"`  // Of the disk on this host.
}

// Members returns what a backup of the machine in dir holds: its own disk, and
// with volumes those that it writes and that persist. The drives are those
// that Prepare gave for the volumes.
func Members(dir string, volumes []Volume, drives []vmm.Volume) []Member {
	out := []Member{{RootMember, 0, filepath.Join(dir, vmm.DiskFile)}}
	for i, name := range Names(volumes) {
		if volumes[i].Kind != message.Persistent || i >= len(drives) {
			continue
		}
		member := name + overlaySuffix
		if member == RootMember {
			member = "volume-" + member
		}
		out = append(out, Member{member, i + 1, drives[i].Path})
	}
	return out
}

// ArchiveConfig bounds backups.
type ArchiveConfig struct {
	BytesPerSecond int64         // How fast a disk is read; 0 is as fast as it goes.
	Within         time.Duration // A disk that would take longer is read faster; 0 lets it.
	ReserveBytes   int64         // What stays free for the machines.
	Compress       bool
}

// speed returns how fast disks are read, the largest of which has bytes.
func (c ArchiveConfig) speed(bytes int64) int64 {
	if c.BytesPerSecond == 0 || c.Within < time.Second {
		return c.BytesPerSecond
	}
	return max(c.BytesPerSecond, bytes/int64(c.Within/time.Second))
}

// Archive keeps the backups of this node's machines in a directory of its own.
// It is safe for concurrent use, by one process.
type Archive struct {
	dir string
	cfg ArchiveConfig

	mu   sync.Mutex
	busy map[message.ItemHash]bool // Machines whose backup is being made; guarded by mu
}

// OpenArchive returns the archive in dir, which is made when it is absent.
func OpenArchive(dir string, cfg ArchiveConfig) (*Archive, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find backups: %w", err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make folder of backups: %w", err)
	}
	if err := emptyTrash(dir); err != nil {
		return nil, err
	}
	return &Archive{dir: dir, cfg: cfg, busy: map[message.ItemHash]bool{}}, nil
}

// making is copy.json of a backup that is being made, in its folder.
type making struct {
	ID      string           `json:"id"`
	VM      message.ItemHash `json:"vm_hash"`
	Members []Member         `json:"members"`
	Freeze  bool             `json:"freeze"`
	Speed   int64            `json:"speed"` // Bytes a second; 0 is any.
	// Copied is set when the members are whole, and the machine is no longer
	// needed.
	Copied *vmm.BackupResult `json:"copied,omitempty"`
}

func (m making) spec(dir string, cfg ArchiveConfig) vmm.BackupSpec {
	s := vmm.BackupSpec{
		Dir: dir, BytesPerSecond: m.Speed, Compress: cfg.Compress, Freeze: m.Freeze, ReserveBytes: cfg.ReserveBytes,
	}
	for _, d := range m.Members {
		s.Disks = append(s.Disks, vmm.BackupDisk{Drive: d.Drive, Name: d.Name})
	}
	return s
}

// Create makes a backup of the machine that runs, and returns when it is
// whole. One that an earlier process began is finished instead. At most one is
// made of a machine at a time (errs.Conflict). errs.Exhausted means too little
// disk, errs.Invalid that this machine's driver makes none. When ctx ends
// first, or the driver, a later Create goes on; after any other error nothing is left.
func (a *Archive) Create(ctx context.Context, m vmm.Machine, members []Member, freeze bool, now time.Time) (Backup, error) {
	vm := message.ItemHash(m.ID())
	if err := a.enter(vm); err != nil {
		return Backup{}, err
	}
	defer a.leave(vm)
	backuper, ok := m.(vmm.Backuper)
	if !ok {
		return Backup{}, errs.New(errs.Invalid, "this kind of machine has no backups")
	}
	part, mk, err := a.unfinished(vm)
	if errors.Is(err, errs.NotFound) {
		part, mk, err = a.begin(vm, members, freeze, now)
	}
	if err != nil {
		return Backup{}, err
	}
	b, err := a.finish(ctx, backuper, part, mk)
	if err != nil && ctx.Err() == nil && !errors.Is(err, vmm.ErrBackupGoesOn) {
		err = errors.Join(vmm.DiskError(err), backuper.CancelBackup(ctx), a.trash(part))
	}
	return b, err
}

// Finish is Create of a backup whose members are whole, and that needs its
// machine no more. errs.NotFound means that there is none.
func (a *Archive) Finish(ctx context.Context, vm message.ItemHash) (Backup, error) {
	if err := a.enter(vm); err != nil {
		return Backup{}, err
	}
	defer a.leave(vm)
	part, mk, err := a.unfinished(vm)
	if err != nil {
		return Backup{}, err
	}
	if mk.Copied == nil {
		return Backup{}, errs.New(errs.NotFound, "the disks of machine %s are not copied yet", vm)
	}
	return a.finish(ctx, nil, part, mk)
}

// Unfinished returns the machines whose backup was begun and has not ended.
func (a *Archive) Unfinished() ([]message.ItemHash, error) {
	parts, err := filepath.Glob(filepath.Join(a.dir, ".*"+partSuffix))
	if err != nil {
		return nil, fmt.Errorf("list unfinished backups: %w", err)
	}
	var out []message.ItemHash
	for _, p := range parts {
		if vm, _, ok := parseID(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), "."), partSuffix)); ok {
			out = append(out, vm)
		}
	}
	return out, nil
}

// Abandon forgets a backup of the machine that was begun. One that is being
// made gives errs.Conflict.
func (a *Archive) Abandon(vm message.ItemHash) error {
	if err := a.enter(vm); err != nil {
		return err
	}
	defer a.leave(vm)
	part, _, err := a.unfinished(vm)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.trash(part)
}

// Busy reports whether a backup of the machine is being made.
func (a *Archive) Busy(vm message.ItemHash) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.busy[vm]
}

func (a *Archive) enter(vm message.ItemHash) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[vm] {
		return errs.New(errs.Conflict, "a backup of machine %s is already in progress", vm)
	}
	a.busy[vm] = true
	return nil
}

func (a *Archive) leave(vm message.ItemHash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, vm)
}

// unfinished returns the folder of the machine's unfinished backup.
func (a *Archive) unfinished(vm message.ItemHash) (string, making, error) {
	parts, err := filepath.Glob(filepath.Join(a.dir, "."+string(vm)+"-*"+partSuffix))
	if err != nil {
		return "", making{}, fmt.Errorf("look for an unfinished backup: %w", err)
	}
	for _, p := range parts {
		var mk making
		err := readJSON(filepath.Join(p, copyFile), &mk)
		if err == nil && mk.VM == vm && len(mk.Members) > 0 {
			return p, mk, nil
		}
		// A crash came before anything else did.
		if err := os.RemoveAll(p); err != nil {
			return "", making{}, fmt.Errorf("remove unfinished backup: %w", err)
		}
	}
	return "", making{}, errs.New(errs.NotFound, "no backup of machine %s is unfinished", vm)
}

// begin makes the folder of a new backup.
func (a *Archive) begin(vm message.ItemHash, members []Member, freeze bool, now time.Time) (string, making, error) {
	if len(members) == 0 || len(members) > membersMax {
		return "", making{}, errs.New(errs.Invalid, "VM has no disk image: %d members, at most %d", len(members), membersMax)
	}
	if err := a.CheckSpace(members); err != nil {
		return "", making{}, err
	}
	id, err := a.newID(vm, now)
	if err != nil {
		return "", making{}, err
	}
	largest, err := largestOf(members)
	if err != nil {
		return "", making{}, err
	}
	mk := making{ID: id, VM: vm, Members: members, Freeze: freeze, Speed: a.cfg.speed(largest)}
	part := filepath.Join(a.dir, "."+id+partSuffix)
	if err := os.Mkdir(part, dirMode); err != nil {
		return "", making{}, vmm.DiskError(fmt.Errorf("begin backup: %w", err))
	}
	if err := writeJSON(filepath.Join(part, copyFile), mk); err != nil {
		return "", making{}, errors.Join(err, os.RemoveAll(part))
	}
	return part, mk, nil
}

// largestOf returns the size of the largest disk as a guest sees it.
func largestOf(members []Member) (int64, error) {
	var largest int64
	for _, m := range members {
		format := vmm.Raw
		if filepath.Ext(m.Path) == overlaySuffix {
			format = vmm.Qcow2
		}
		size, err := sizeOf(m.Path, format)
		if err != nil {
			return 0, err
		}
		largest = max(largest, size)
	}
	return largest, nil
}

// newID returns a name that no backup has: of a later second than now when
// that has one already.
func (a *Archive) newID(vm message.ItemHash, now time.Time) (string, error) {
	const secondsMax = 60
	for s := range secondsMax {
		id := string(vm) + "-" + now.Add(time.Duration(s)*time.Second).UTC().Format(timeLayout)
		free := true
		for _, name := range []string{id + tarSuffix, "." + id + partSuffix} {
			there, err := isThere(filepath.Join(a.dir, name))
			if err != nil {
				return "", err
			}
			free = free && !there
		}
		if free {
			return id, nil
		}
	}
	return "", errs.New(errs.Unavailable, "too many backups in one minute")
}

// parseID takes the name of a backup apart.
func parseID(id string) (vm message.ItemHash, at time.Time, ok bool) {
	hash, stamp, ok := strings.Cut(id, "-")
	if !ok || hash == "" || strings.ContainsAny(id, "/\x00") {
		return "", time.Time{}, false
	}
	at, err := time.Parse(timeLayout, stamp)
	return message.ItemHash(hash), at, err == nil
}

// CheckSpace gives errs.Exhausted when the copies might not fit: each disk
// with what it takes now, as a copy and in the tar.
func (a *Archive) CheckSpace(members []Member) error {
	var need int64
	for _, m := range members {
		n, err := takes(m.Path)
		if err != nil {
			return err
		}
		need += 2 * n
	}
	free, err := freeBytes(a.dir)
	if err != nil {
		return err
	}
	if need += a.cfg.ReserveBytes; free < need {
		return errs.New(errs.Exhausted, "Insufficient disk space: %d MiB are free, the backup may need %d", free>>20, need>>20)
	}
	return nil
}

// takes returns how many bytes of a disk have something in them, at most.
func takes(path string) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errs.New(errs.NotFound, "VM has no disk image %s", filepath.Base(path))
	}
	if err != nil {
		return 0, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at disk: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size(), nil
	}
	taken := st.Blocks * statBlock
	if filepath.Ext(path) != overlaySuffix {
		return min(taken, info.Size()), nil
	}
	h, err := qcow2.Read(f, info.Size())
	if err != nil {
		return 0, fmt.Errorf("read disk: %w", err)
	}
	if h.Backing != "" {
		below, err := os.Stat(h.Backing)
		if err != nil {
			return 0, fmt.Errorf("look at the image under the disk: %w", err)
		}
		if st, ok := below.Sys().(*syscall.Stat_t); ok {
			taken += st.Blocks * statBlock
		}
	}
	return min(taken, fileMax(h.VirtualBytes)), nil
}

// finish copies the members unless that is done, and makes the tar.
func (a *Archive) finish(ctx context.Context, m vmm.Backuper, part string, mk making) (Backup, error) {
	if mk.Copied == nil {
		got, err := m.Backup(ctx, mk.spec(part, a.cfg))
		if err != nil {
			return Backup{}, err
		}
		mk.Copied = &got
		if err := writeJSON(filepath.Join(part, copyFile), mk); err != nil {
			return Backup{}, err
		}
	}
	b := Backup{ID: mk.ID, VM: mk.VM, CreatedAt: mk.Copied.At, Frozen: mk.Copied.Frozen, SourceSizes: map[string]int64{}}
	for _, member := range mk.Members {
		path := filepath.Join(part, member.Name)
		if err := checkTables(ctx, path); err != nil {
			return Backup{}, fmt.Errorf("check copy %s: %w", member.Name, err)
		}
		h, err := header(path)
		if err != nil {
			return Backup{}, err
		}
		b.Members = append(b.Members, member.Name)
		b.SourceSizes[member.Name] = h.VirtualBytes
	}
	if err := a.pack(ctx, part, &b); err != nil {
		return Backup{}, fmt.Errorf("pack backup: %w", err)
	}
	return b, nil
}

// pack writes the tar and what is beside it, and puts them in their place, the
// tar last: it is what makes a backup.
func (a *Archive) pack(ctx context.Context, part string, b *Backup) (err error) {
	name := filepath.Join(part, "backup"+tarSuffix)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("make tar: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	w := &counted{w: io.MultiWriter(f, sum), f: f}
	t := tar.NewWriter(w)
	for _, m := range b.Members {
		if err := packOne(ctx, t, filepath.Join(part, m), b.CreatedAt); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("end tar: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync tar: %w", err)
	}
	b.Size, b.SHA256 = w.n, hex.EncodeToString(sum.Sum(nil))
	to := filepath.Join(a.dir, b.ID)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.remove(b.ID))
		}
	}()
	if err := writeFile(filepath.Join(part, "backup"+sumSuffix), []byte(b.SHA256+"  "+b.ID+tarSuffix+"\n")); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(part, "backup"+metaSuffix), b); err != nil {
		return err
	}
	for _, suffix := range []string{sumSuffix, metaSuffix, tarSuffix} {
		if err := os.Rename(filepath.Join(part, "backup"+suffix), to+suffix); err != nil {
			return fmt.Errorf("put backup in place: %w", err)
		}
	}
	if err := syncDir(a.dir); err != nil {
		return err
	}
	return a.trash(part)
}

// trash removes the folder of a backup so that it is gone at once.
func (a *Archive) trash(part string) error {
	gone := filepath.Join(a.dir, trashPrefix+strings.TrimSuffix(filepath.Base(part), partSuffix))
	if err := os.Rename(part, gone); err != nil {
		return fmt.Errorf("remove what a backup was made of: %w", err)
	}
	return emptyTrash(a.dir)
}

// emptyTrash removes folders that were thrown away, those that a crash has
// left too.
func emptyTrash(dir string) error {
	all, err := filepath.Glob(filepath.Join(dir, trashPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for what was thrown away: %w", err)
	}
	for _, name := range all {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("remove what was thrown away: %w", err)
		}
	}
	return nil
}

func packOne(ctx context.Context, t *tar.Writer, path string, at time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open copy: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at copy: %w", err)
	}
	err = t.WriteHeader(&tar.Header{Name: filepath.Base(path), Mode: 0o600, Size: info.Size(), ModTime: at, Typeflag: tar.TypeReg})
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{t}, &limited{ctx, f}, make([]byte, copyBytes)); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

// counted counts what is written, and has the file written back steadily.
type counted struct {
	w         io.Writer
	f         *os.File
	n, synced int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err == nil && c.n-c.synced >= syncEvery {
		c.synced = c.n
		err = c.f.Sync()
	}
	return n, err
}

// List returns the machine's backups that have not expired, newest first; of
// all machines for "".
func (a *Archive) List(vm message.ItemHash, now time.Time) ([]Backup, error) {
	tars, err := filepath.Glob(filepath.Join(a.dir, string(vm)+"*"+tarSuffix))
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var out []Backup
	for _, name := range tars {
		b, err := a.read(strings.TrimSuffix(filepath.Base(name), tarSuffix))
		if errors.Is(err, errs.NotFound) {
			continue // Deleted meanwhile.
		}
		if err != nil {
			return nil, err
		}
		if (vm == "" || b.VM == vm) && now.Before(b.ExpiresAt()) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(x, y Backup) int { return y.CreatedAt.Compare(x.CreatedAt) })
	return out, nil
}

// read reads what is known of a backup that is there.
func (a *Archive) read(id string) (Backup, error) {
	var b Backup
	if _, _, ok := parseID(id); !ok {
		return b, errs.New(errs.Invalid, "Invalid backup_id")
	}
	there, err := isThere(filepath.Join(a.dir, id+tarSuffix))
	if err != nil {
		return b, err
	}
	if !there {
		return b, errs.New(errs.NotFound, "no backup %s", id)
	}
	err = readJSON(filepath.Join(a.dir, id+metaSuffix), &b)
	if err == nil && b.ID != id {
		err = fmt.Errorf("backup %s says that it is %q", id, b.ID)
	}
	return b, err
}

// Open returns a backup and its tar, which the caller closes. One that is not
// there, or has expired, gives errs.NotFound, a name that none can have
// errs.Invalid.
func (a *Archive) Open(id string, now time.Time) (Backup, *os.File, error) {
	b, err := a.read(id)
	if err != nil {
		return b, nil, err
	}
	if !now.Before(b.ExpiresAt()) {
		return b, nil, errs.New(errs.NotFound, "backup %s has expired", id)
	}
	f, err := os.Open(filepath.Join(a.dir, id+tarSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil, errs.New(errs.NotFound, "no backup %s", id)
	}
	if err != nil {
		return b, nil, fmt.Errorf("open backup: %w", err)
	}
	return b, f, nil
}

// Delete deletes a backup. Whoever reads it reads it to its end.
func (a *Archive) Delete(id string) error {
	if _, err := a.read(id); err != nil {
		return err
	}
	return a.remove(id)
}

// remove deletes the files of a backup, the tar first.
func (a *Archive) remove(id string) error {
	for _, suffix := range []string{tarSuffix, sumSuffix, metaSuffix} {
		if err := os.Remove(filepath.Join(a.dir, id+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove backup: %w", err)
		}
	}
	return nil
}

// DeleteAll deletes all backups of a machine, for whose owner it is gone.
func (a *Archive) DeleteAll(vm message.ItemHash) error {
	if err := a.Abandon(vm); err != nil {
		return err
	}
	all, err := a.List(vm, time.Time{})
	if err != nil {
		return err
	}
	for _, b := range all {
		if err := a.remove(b.ID); err != nil {
			return err
		}
	}
	return nil
}

// Expire deletes backups that have expired, and what crashes have left beside
// backups.
func (a *Archive) Expire(now time.Time) error {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	for _, e := range entries {
		name, begun := strings.CutPrefix(e.Name(), ".")
		id, rest, _ := strings.Cut(name, ".")
		vm, at, ok := parseID(id)
		if !ok || rest == "" || a.Busy(vm) || now.Before(at.Add(BackupFor)) {
			continue
		}
		if begun {
			if err := a.Abandon(vm); err != nil && !errors.Is(err, errs.Conflict) {
				return err
			}
			continue
		}
		b, err := a.read(id)
		if err == nil && now.Before(b.ExpiresAt()) {
			continue
		}
		if err := a.remove(id); err != nil {
			return err
		}
	}
	return nil
}
