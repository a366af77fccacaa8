package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// A backup is made by QEMU itself. Above each disk comes a filter that, before
// a cluster is first overwritten, copies what was there to a file beside the
// copy (the fleece); a job reads the disk as it was through both. So the guest
// waits for a write to a local file at most, never for the copy, and when that
// write fails or takes long, the copy breaks and the guest goes on.

const (
	// backupFile in the machine's directory says that a copy is under way.
	backupFile = "backup.json"
	// nodePrefix begins the names of all nodes and jobs of backups.
	nodePrefix   = "backup-"
	fleeceSuffix = ".fleece"

	// freezeMax bounds how long the guest's file systems are at rest.
	freezeMax = 30 * time.Second
	// thawTry bounds one try to wake them.
	thawTry = 10 * time.Second
	// settleMax bounds each command of QEMU that changes its disks.
	settleMax = 30 * time.Second
	// breakAfter is how long a guest's write may wait for the fleece, in
	// seconds, before the copy is given up for it.
	breakAfter = 15
	jobPoll    = 200 * time.Millisecond
	// createMax bounds the making of an empty image.
	createMax = time.Minute
	// workersMax has the job read one piece after another, so that all before
	// its progress is copied, and the guest's reads and writes wait behind one.
	workersMax = 1
	// trimAlign is the unit in which the filter saves.
	trimAlign = 64 << 10
)

// The phases of a backup.
const (
	backupBegins = "begins" // Nothing counts yet.
	backupCopies = "copies" // The jobs run in QEMU, or have ended there.
)

// backup is backup.json.
type backup struct {
	Phase string           `json:"phase"`
	Dir   string           `json:"dir"`
	Disks []vmm.BackupDisk `json:"disks"`
	// Frozen and Paused are set before the guest's file systems come to rest,
	// or its processors: whoever finds this after a crash undoes it.
	Frozen bool      `json:"frozen"`
	Paused bool      `json:"paused"`
	At     time.Time `json:"at"`
}

// node names a node of a disk's backup; job its job.
func node(d vmm.BackupDisk, part string) string {
	return nodePrefix + strconv.Itoa(d.Drive) + "-" + part
}

func job(d vmm.BackupDisk) string { return nodePrefix + strconv.Itoa(d.Drive) }

// source is the node of the disk itself.
func source(d vmm.BackupDisk) string {
	if d.Drive == 0 {
		return "root"
	}
	return "volume" + strconv.Itoa(d.Drive-1)
}

// files are those of a disk's backup.
func (b backup) target(d vmm.BackupDisk) string { return filepath.Join(b.Dir, d.Name) }
func (b backup) fleece(d vmm.BackupDisk) string { return b.target(d) + fleeceSuffix }

func (m *machine) readBackup() (backup, error) {
	var b backup
	raw, err := os.ReadFile(filepath.Join(m.dir, backupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return b, errs.New(errs.NotFound, "no backup is under way")
	}
	if err != nil {
		return b, fmt.Errorf("read the state of a backup: %w", err)
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return b, fmt.Errorf("decode the state of a backup: %w", err)
	}
	return b, nil
}

func (m *machine) writeBackup(b backup) error {
	raw, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the state of a backup: %w", err)
	}
	return vmm.DiskError(process.ReplaceFile(filepath.Join(m.dir, backupFile), append(raw, '\n')))
}

// checkBackup reports a spec that cannot be carried out.
func checkBackup(spec vmm.BackupSpec) error {
	if !filepath.IsAbs(spec.Dir) || len(spec.Disks) == 0 || spec.BytesPerSecond < 0 {
		return errs.New(errs.Invalid, "backup of %d disks to %q, want an absolute path", len(spec.Disks), spec.Dir)
	}
	for i, d := range spec.Disks {
		if d.Drive < 0 || d.Name != filepath.Base(d.Name) || strings.HasPrefix(d.Name, ".") {
			return errs.New(errs.Invalid, "backup of drive %d to %q, want a plain name", d.Drive, d.Name)
		}
		if slices.ContainsFunc(spec.Disks[:i], func(o vmm.BackupDisk) bool { return o.Drive == d.Drive || o.Name == d.Name }) {
			return errs.New(errs.Invalid, "backup of drive %d to %q twice", d.Drive, d.Name)
		}
	}
	return nil
}

// Backup implements vmm.Backuper.
func (m *machine) Backup(ctx context.Context, spec vmm.BackupSpec) (vmm.BackupResult, error) {
	if err := checkBackup(spec); err != nil {
		return vmm.BackupResult{}, err
	}
	if err := m.enterBackup(ctx); err != nil {
		return vmm.BackupResult{}, err
	}
	defer m.leaveBackup()
	b, err := m.readBackup()
	switch {
	case err == nil && b.Phase == backupCopies && b.Dir == spec.Dir && slices.Equal(b.Disks, spec.Disks):
	case err == nil:
		if err := m.dropBackup(ctx, b); err != nil {
			return vmm.BackupResult{}, err
		}
		fallthrough
	case errors.Is(err, errs.NotFound):
		if b, err = m.beginBackup(ctx, spec); err != nil {
			return vmm.BackupResult{}, err
		}
	default:
		return vmm.BackupResult{}, err
	}
	err = m.waitBackup(ctx, b, spec.ReserveBytes)
	if ctx.Err() != nil {
		return vmm.BackupResult{}, fmt.Errorf("wait for the backup: %w: %w", vmm.ErrBackupGoesOn, context.Cause(ctx))
	}
	if errors.Is(err, vmm.ErrBackupGoesOn) {
		return vmm.BackupResult{}, err
	}
	if err != nil {
		return vmm.BackupResult{}, errors.Join(err, m.dropBackup(ctx, b))
	}
	if err := m.keepBackup(ctx, b); err != nil {
		return vmm.BackupResult{}, errors.Join(err, m.dropBackup(ctx, b))
	}
	return vmm.BackupResult{At: b.At, Frozen: b.Frozen}, nil
}

// CancelBackup implements vmm.Backuper.
func (m *machine) CancelBackup(ctx context.Context) error {
	if err := m.enterBackup(ctx); err != nil {
		return err
	}
	defer m.leaveBackup()
	b, err := m.readBackup()
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.dropBackup(ctx, b)
}

// enterBackup waits until nobody else changes the machine's backup.
func (m *machine) enterBackup(ctx context.Context) error {
	select {
	case m.backups <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another backup: %w", context.Cause(ctx))
	}
}

func (m *machine) leaveBackup() { <-m.backups }

// recoverBackup undoes what a daemon has left that died while it began a
// backup: file systems at rest, processors that wait.
func (m *machine) recoverBackup(ctx context.Context) {
	b, err := m.readBackup()
	if err == nil && b.Phase == backupCopies || errors.Is(err, errs.NotFound) {
		return // It goes on, and whoever asked for it asks again.
	}
	if err == nil {
		err = m.dropBackup(ctx, b)
	}
	if err != nil {
		m.d.log.Error("backup left by a crash stayed", "vm_id", m.rec.ID, "err", err)
	}
}

// beginBackup makes the files, and everything in QEMU. After an error nothing
// is left.
func (m *machine) beginBackup(ctx context.Context, spec vmm.BackupSpec) (b backup, err error) {
	b = backup{Phase: backupBegins, Dir: spec.Dir, Disks: spec.Disks}
	if err := m.writeBackup(b); err != nil {
		return b, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), m.dropBackup(ctx, b))
		}
	}()
	devices, err := m.devices(ctx)
	if err != nil {
		return b, err
	}
	for _, d := range b.Disks {
		dev, ok := devices[source(d)]
		if !ok {
			return b, errs.New(errs.Invalid, "machine %s has no drive %d", m.rec.ID, d.Drive)
		}
		if dev.Inserted.ReadOnly {
			return b, errs.New(errs.Invalid, "drive %d of machine %s is read only: it is a file that others have too", d.Drive, m.rec.ID)
		}
		if err := m.addNodes(ctx, b, d, dev.Inserted.Image.VirtualBytes, spec.Compress); err != nil {
			return b, err
		}
	}
	if err := m.cut(ctx, &b, spec.Freeze, devices); err != nil {
		return b, err
	}
	for _, d := range b.Disks {
		if err := m.startJob(ctx, d, spec); err != nil {
			return b, err
		}
	}
	b.Phase = backupCopies
	return b, m.writeBackup(b)
}

// device is a disk of the machine as QEMU describes it.
type device struct {
	Path     string `json:"qdev"`
	Inserted struct {
		Node     string `json:"node-name"`
		ReadOnly bool   `json:"ro"`
		Image    struct {
			VirtualBytes int64 `json:"virtual-size"`
		} `json:"image"`
	} `json:"inserted"`
}

// devices returns the machine's disks by the names of their nodes.
func (m *machine) devices(ctx context.Context) (map[string]device, error) {
	var all []device
	if err := m.command(ctx, "query-block", nil, &all); err != nil {
		return nil, err
	}
	out := map[string]device{}
	for _, d := range all {
		out[d.Inserted.Node] = d
	}
	return out, nil
}

// command executes a command of QEMU, which a loaded host may take long for,
// whether or not ctx ends meanwhile: what began must be known to have ended.
func (m *machine) command(ctx context.Context, name string, arguments, out any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	return m.qmp.do(ctx, name, arguments, out)
}

// args are the arguments of a command.
type args = map[string]any

// addNodes makes the files of a disk's backup and has QEMU open them. The
// filter copies nothing before the disk's device is put above it.
func (m *machine) addNodes(ctx context.Context, b backup, d vmm.BackupDisk, bytes int64, compress bool) error {
	if err := makeTarget(ctx, b.target(d), bytes, compress); err != nil {
		return err
	}
	f, err := os.OpenFile(b.fleece(d), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make fleece: %w", err)
	}
	err = errors.Join(f.Truncate(bytes), f.Close())
	if err != nil {
		return fmt.Errorf("size fleece: %w", err)
	}
	for _, n := range []args{
		{"driver": "raw", "node-name": node(d, "fleece"), "file": args{"driver": "file", "filename": b.fleece(d)}},
		{"driver": "qcow2", "node-name": node(d, "target"), "file": args{"driver": "file", "filename": b.target(d)}},
		{
			"driver": "copy-before-write", "node-name": node(d, "filter"), "file": source(d), "target": node(d, "fleece"),
			"on-cbw-error": "break-snapshot", "cbw-timeout": breakAfter,
		},
	} {
		if err := m.command(ctx, "blockdev-add", n, nil); err != nil {
			return errs.New(errs.Unavailable, "begin backup: %w", err)
		}
	}
	return nil
}

// makeTarget makes an empty qcow2 image.
func makeTarget(ctx context.Context, path string, bytes int64, compress bool) error {
	ctx, cancel := context.WithTimeout(ctx, createMax)
	defer cancel()
	argv := []string{"create", "-q", "-f", "qcow2"}
	if compress {
		argv = append(argv, "-o", "compression_type=zstd")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an earlier copy: %w", err)
	}
	out, err := exec.CommandContext(ctx, "qemu-img", append(argv, path, strconv.FormatInt(bytes, 10))...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errs.New(errs.Unavailable, "qemu-img is not installed: run apt-get install qemu-utils")
	}
	if err != nil {
		if strings.Contains(string(out), "No space left") {
			return errs.New(errs.Exhausted, "the disk is full, make room on it: %s", out)
		}
		return errs.New(errs.Unavailable, "make an empty image: %w: %.200s", err, out)
	}
	return nil
}

// cut puts the filters above all disks at one moment, which is that of the
// copy.
func (m *machine) cut(ctx context.Context, b *backup, freeze bool, devices map[string]device) (err error) {
	if freeze {
		if err := m.freeze(ctx, b); err != nil {
			return err
		}
	}
	frozen := b.Frozen
	defer func() {
		if frozen {
			err = errors.Join(err, m.thaw(ctx))
		}
		if frozen && err == nil {
			m.d.log.Debug("file systems of guest frozen", "vm_id", m.rec.ID, "took", time.Since(b.At))
		}
	}()
	// One disk changes at one moment anyway, and nothing is written by a guest
	// that is at rest.
	if !frozen && len(b.Disks) > 1 {
		if err := m.pause(ctx, b); err != nil {
			return err
		}
		defer func() {
			if b.Paused {
				err = errors.Join(err, m.command(ctx, "cont", nil, nil))
			}
		}()
	}
	b.At = time.Now().UTC()
	for _, d := range b.Disks {
		if err := m.putAbove(ctx, devices[source(d)].Path, node(d, "filter")); err != nil {
			return errs.New(errs.Unavailable, "begin backup: %w", err)
		}
	}
	return nil
}

// putAbove makes the node the one that the device writes to.
func (m *machine) putAbove(ctx context.Context, device, node string) error {
	return m.command(ctx, "qom-set", args{"path": device, "property": "drive", "value": node}, nil)
}

// pause stops the guest's processors, unless they stand still already.
func (m *machine) pause(ctx context.Context, b *backup) error {
	var status struct {
		Running bool `json:"running"`
	}
	if err := m.command(ctx, "query-status", nil, &status); err != nil || !status.Running {
		return err
	}
	b.Paused = true
	if err := m.writeBackup(*b); err != nil {
		b.Paused = false
		return err
	}
	return m.command(ctx, "stop", nil, nil)
}

// freeze brings the guest's file systems to rest when it has an agent that can.
func (m *machine) freeze(ctx context.Context, b *backup) error {
	ctx, cancel := context.WithTimeout(ctx, freezeMax)
	defer cancel()
	g, err := m.guestAgent(ctx)
	if errors.Is(err, errs.NotFound) {
		m.d.log.Info("guest not frozen for its backup", "vm_id", m.rec.ID, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer g.conn.Close()
	b.Frozen = true
	if err := m.writeBackup(*b); err != nil {
		b.Frozen = false
		return err
	}
	var frozen int
	if err := g.do(ctx, "guest-fsfreeze-freeze", &frozen); err != nil {
		m.d.log.Warn("guest not frozen for its backup", "vm_id", m.rec.ID, "err", err)
		b.Frozen = false
		// Some of its file systems may be.
		return m.thaw(ctx)
	}
	return nil
}

// thaw wakes the guest's file systems, and tries for a while: a guest that
// stays at rest is of no use to anybody.
func (m *machine) thaw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezeMax)
	defer cancel()
	for {
		err := m.thawOnce(ctx)
		if err == nil || m.alive() != nil {
			return nil // A machine that has ended is not at rest.
		}
		m.d.log.Warn("guest not thawed yet", "vm_id", m.rec.ID, "err", err)
		select {
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "the guest's file systems are still frozen: %w", err)
		case <-m.d.closing: // A later daemon tries again.
			return errs.New(errs.Unavailable, "the guest's file systems are still frozen: %w", err)
		case <-time.After(jobPoll):
		}
	}
}

func (m *machine) thawOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, thawTry)
	defer cancel()
	g, err := m.guestAgent(ctx)
	if err != nil {
		return err
	}
	defer g.conn.Close()
	var thawed int
	return g.do(ctx, "guest-fsfreeze-thaw", &thawed)
}

// guestAgent connects to the guest's agent. A machine that an earlier version
// started has no channel for it.
func (m *machine) guestAgent(ctx context.Context) (*guestAgent, error) {
	if there, err := os.Stat(filepath.Join(m.dir, guestSocket)); err != nil || there.Mode()&fs.ModeSocket == 0 {
		return nil, errs.New(errs.NotFound, "the machine has no channel for an agent")
	}
	ctx, cancel := context.WithTimeout(ctx, thawTry)
	defer cancel()
	conn, err := m.connect(ctx, guestSocket)
	if err != nil {
		return nil, fmt.Errorf("connect to the guest's agent: %w", err)
	}
	g, err := openGuestAgent(ctx, conn)
	if err != nil {
		conn.Close()
	}
	return g, err
}

// startJob begins to copy a disk as it was at the cut.
func (m *machine) startJob(ctx context.Context, d vmm.BackupDisk, spec vmm.BackupSpec) error {
	err := m.command(ctx, "blockdev-add", args{"driver": "snapshot-access", "node-name": node(d, "moment"), "file": node(d, "filter")}, nil)
	if err == nil {
		err = m.command(ctx, "blockdev-add", args{
			"driver": "snapshot-access", "node-name": node(d, "trim"), "file": node(d, "filter"), "discard": "unmap",
		}, nil)
	}
	if err == nil {
		err = m.command(ctx, "blockdev-backup", args{
			"job-id": job(d), "device": node(d, "moment"), "target": node(d, "target"), "sync": "full", "auto-dismiss": false,
			"speed": spec.BytesPerSecond, "compress": spec.Compress, "x-perf": args{"max-workers": workersMax},
		}, nil)
	}
	if err != nil {
		return errs.New(errs.Unavailable, "begin backup: %w", err)
	}
	return nil
}

// jobInfo is a job of QEMU.
type jobInfo struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
	Done   int64  `json:"current-progress"`
	Total  int64  `json:"total-progress"`
}

const jobConcluded = "concluded"

// jobs returns QEMU's jobs of the backup by their names.
func (m *machine) jobs(ctx context.Context, b backup) (map[string]jobInfo, error) {
	var all []jobInfo
	if err := m.command(ctx, "query-jobs", nil, &all); err != nil {
		return nil, err
	}
	out := map[string]jobInfo{}
	for _, j := range all {
		if slices.ContainsFunc(b.Disks, func(d vmm.BackupDisk) bool { return job(d) == j.ID }) {
			out[j.ID] = j
		}
	}
	return out, nil
}

// waitBackup returns nil when all jobs have ended well.
func (m *machine) waitBackup(ctx context.Context, b backup, reserve int64) error {
	tick := time.NewTicker(jobPoll)
	defer tick.Stop()
	trimmed := map[int]int64{} // Up to where, by drive.
	for {
		jobs, err := m.jobs(ctx, b)
		if err != nil {
			return m.lostSight(err)
		}
		done := 0
		for _, d := range b.Disks {
			j, ok := jobs[job(d)]
			switch {
			case !ok:
				return errs.New(errs.Unavailable, "the backup of drive %d was lost", d.Drive)
			case j.Error != "":
				return m.jobError(b, d, j)
			case j.Status == jobConcluded:
				done++
			}
			trimmed[d.Drive] = m.trim(ctx, d, trimmed[d.Drive], j.Done)
		}
		if done == len(b.Disks) {
			return nil
		}
		if err := checkFree(b.Dir, reserve); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// lostSight says why QEMU does not answer any more: it has ended, or it goes
// on and only the connection has ended.
func (m *machine) lostSight(err error) error {
	select {
	case <-m.done:
		return errs.New(errs.Unavailable, "the backup was lost: %w", m.alive())
	case <-time.After(2 * drainMax): // What ends takes its connection along first.
		return errs.New(errs.Unavailable, "%w: %w", vmm.ErrBackupGoesOn, err)
	}
}

// trim tells the filter that what is copied need not be saved any more: the
// guest overwrites that as if there were no backup. QEMU has no command for it
// but that of its debugging tool; when that fails, the guest is slower. It
// returns up to where the disk is trimmed.
func (m *machine) trim(ctx context.Context, d vmm.BackupDisk, from, to int64) int64 {
	to -= to % trimAlign
	if to <= from {
		return from
	}
	line := fmt.Sprintf("qemu-io %s \"discard %d %d\"", node(d, "trim"), from, to-from)
	var said string
	if err := m.command(ctx, "human-monitor-command", args{"command-line": line}, &said); err != nil || !strings.HasPrefix(said, "discard") {
		m.d.log.Debug("copied part of a disk not trimmed", "vm_id", m.rec.ID, "said", said, "err", err)
		return from
	}
	return to
}

// jobError says why a job has failed. A filter whose fleece could not be
// written only says that what the job reads is no more.
func (m *machine) jobError(b backup, d vmm.BackupDisk, j jobInfo) error {
	const little = 1 << 20
	if strings.Contains(j.Error, unix.ENOSPC.Error()) || strings.Contains(j.Error, "No space left") || checkFree(b.Dir, little) != nil {
		return errs.New(errs.Exhausted, "the disk is full, make room on it: backup of drive %d: %s", d.Drive, j.Error)
	}
	return errs.New(errs.Unavailable, "backup of drive %d: %s", d.Drive, j.Error)
}

// checkFree gives errs.Exhausted when less than reserve is free.
func checkFree(dir string, reserve int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < reserve {
		return errs.New(errs.Exhausted, "the disk has %d MiB left, %d must stay free: the backup was given up", free>>20, reserve>>20)
	}
	return nil
}

// keepBackup ends a backup whose jobs have ended well: the copies stay, and
// are on disk when it returns.
func (m *machine) keepBackup(ctx context.Context, b backup) error {
	if err := m.removeNodes(ctx, b); err != nil {
		return err
	}
	for _, d := range b.Disks {
		f, err := os.OpenFile(b.target(d), os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("open copy: %w", err)
		}
		err = errors.Join(f.Sync(), f.Close())
		if err != nil {
			return vmm.DiskError(fmt.Errorf("sync copy: %w", err))
		}
		if err := os.Remove(b.fleece(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove fleece: %w", err)
		}
	}
	return m.endBackup()
}

func (m *machine) endBackup() error {
	if err := os.Remove(filepath.Join(m.dir, backupFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end backup: %w", err)
	}
	return nil
}

// dropBackup ends a backup at any point of it and leaves nothing.
func (m *machine) dropBackup(ctx context.Context, b backup) error {
	var failed error
	// A guest whose processors stand still cannot thaw.
	if b.Phase == backupBegins && b.Paused {
		failed = errors.Join(failed, m.command(ctx, "cont", nil, nil))
	}
	if b.Phase == backupBegins && b.Frozen {
		failed = errors.Join(failed, m.thaw(ctx))
	}
	failed = errors.Join(failed, m.removeNodes(ctx, b))
	if m.alive() != nil {
		failed = nil // All of it went with the process.
	}
	for _, d := range b.Disks {
		for _, name := range []string{b.target(d), b.fleece(d)} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, fmt.Errorf("remove copy: %w", err))
			}
		}
	}
	if failed != nil {
		return failed // The file stays, so that it is tried again.
	}
	return m.endBackup()
}

// removeNodes ends the jobs of a backup and takes all of it out of QEMU,
// however much is there.
func (m *machine) removeNodes(ctx context.Context, b backup) error {
	if err := m.endJobs(ctx, b); err != nil {
		return err
	}
	there, err := m.nodes(ctx)
	if err != nil {
		return err
	}
	devices, err := m.devices(ctx)
	if err != nil {
		return err
	}
	for _, d := range b.Disks {
		if err := m.removeDisk(ctx, d, there, devices); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) removeDisk(ctx context.Context, d vmm.BackupDisk, there map[string]bool, devices map[string]device) error {
	// What reads the filter goes first: only then does it let others write to
	// the disk.
	for _, part := range []string{"moment", "trim", "filter", "fleece", "target"} {
		if dev, above := devices[node(d, "filter")]; above && part == "filter" {
			if err := m.putAbove(ctx, dev.Path, source(d)); err != nil {
				return err
			}
		}
		if !there[node(d, part)] {
			continue
		}
		if err := m.command(ctx, "blockdev-del", args{"node-name": node(d, part)}, nil); err != nil {
			return err
		}
	}
	return nil
}

// nodes returns the names of QEMU's nodes.
func (m *machine) nodes(ctx context.Context) (map[string]bool, error) {
	var all []struct {
		Name string `json:"node-name"`
	}
	if err := m.command(ctx, "query-named-block-nodes", args{"flat": true}, &all); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, n := range all {
		out[n.Name] = true
	}
	return out, nil
}

// endJobs cancels the jobs that run and forgets all.
func (m *machine) endJobs(ctx context.Context, b backup) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	for {
		jobs, err := m.jobs(ctx, b)
		if err != nil || len(jobs) == 0 {
			return err
		}
		for _, j := range jobs {
			// One that ends meanwhile refuses; the next look finds it ended.
			if j.Status == jobConcluded {
				_ = m.command(ctx, "job-dismiss", args{"id": j.ID}, nil)
			} else {
				_ = m.command(ctx, "job-cancel", args{"id": j.ID}, nil)
			}
		}
		select {
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "a backup does not end: %w", context.Cause(ctx))
		case <-time.After(jobPoll / 10):
		}
	}
}
