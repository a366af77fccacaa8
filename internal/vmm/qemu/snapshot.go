package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// The files of a snapshot. Beside the guest's memory, which clones map and copy
// page by page as they write to it, there is the state of the devices in
// QEMU's stream for migrations.
const (
	snapshotFile = "snapshot.json"
	stateFile    = "state"
)

const (
	// settle is how long a guest has to notice that its streams have ended, and to
	// come to rest, before it is stopped. What it has not done it does as a clone.
	settle = 500 * time.Millisecond
	// quietMax is how long streams may take to end by themselves.
	quietMax  = 5 * time.Second
	quietPoll = 10 * time.Millisecond
	// migratePoll is how often a migration is asked whether it has ended; it
	// moves some hundred kilobytes.
	migratePoll = time.Millisecond
	// snapshotBytesMax bounds snapshot.json.
	snapshotBytesMax = 1 << 20
	// inheritedState is the descriptor by which a clone has the state: after
	// the standard streams and the lock.
	inheritedState = 4
	// ignoreShared leaves memory that is a shared file out of a migration.
	ignoreShared = "x-ignore-shared"
	// netNowhere is a network device that leads nowhere and has no state.
	netNowhere vmm.NetKind = "nowhere"
)

// snapshotRecord is snapshot.json.
type snapshotRecord struct {
	Host      snapshotHost `json:"host"`
	Args      []string     `json:"args"` // Those that must be the same, see shape.
	StateSum  string       `json:"state_sha256"`
	Session   bool         `json:"session"` // The guest is in a session of streams, and has none in it.
	CreatedAt time.Time    `json:"created_at"`
}

// snapshotHost is what a snapshot was made by.
type snapshotHost struct {
	BinarySum   string          `json:"binary_sha256"`
	Version     string          `json:"version"`
	Accelerator vmm.Accelerator `json:"accelerator"`
	// Boot is the boot of the host: the memory is not forced to disk, and the
	// processor may be another one after the next.
	Boot string `json:"boot_id"`
}

// functionMachine is a machine with streams.
type functionMachine struct {
	*machine
	*streams
}

// template is a machine whose memory is a file.
type template struct {
	functionMachine
	record snapshotRecord
}

// StartTemplate implements vmm.Snapshotter.
func (d *Driver) StartTemplate(ctx context.Context, spec vmm.Spec) (vmm.Template, error) {
	if !spec.Function {
		return nil, errs.New(errs.Invalid, "machine %s is no function, and only functions become templates", spec.ID)
	}
	if spec.Net.Kind != vmm.NetNone {
		spec.Net.Kind = vmm.NetUser // As valid; nothing of it is used.
	}
	m, err := d.start(ctx, spec, memory{file: memoryFile, share: true}, nil)
	if err != nil {
		return nil, err
	}
	record := snapshotRecord{}
	if record.Host, err = d.snapshotHost(ctx, m.rec.Accelerator); err == nil {
		record.Args, err = shape(spec, m.rec.Accelerator)
	}
	if err != nil {
		return nil, errors.Join(err, m.Kill(ctx))
	}
	return &template{functionMachine{m, m.streams}, record}, nil
}

// Save implements vmm.Template.
func (t *template) Save(ctx context.Context, dir string) (err error) {
	defer func() {
		// Its disks are given up already, so it cannot go on in any case.
		if kerr := t.Kill(ctx); err == nil {
			err = kerr
		}
	}()
	if t.record.Session, err = t.settle(ctx); err != nil {
		return err
	}
	tmp := dir + ".new"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("make snapshot directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), os.RemoveAll(tmp))
		}
	}()
	state := filepath.Join(tmp, stateFile)
	if err := t.migrate(ctx, state); err != nil {
		return fmt.Errorf("save snapshot of machine %s: %w", t.rec.ID, err)
	}
	// Nothing writes to the memory any more once the process is gone.
	if err := t.Kill(ctx); err != nil {
		return err
	}
	if t.record.StateSum, err = process.SumFile(state); err != nil {
		return err
	}
	t.record.CreatedAt = time.Now().UTC()
	raw, err := json.MarshalIndent(t.record, "", "  ")
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if err := os.Rename(filepath.Join(t.dir, memoryFile), filepath.Join(tmp, memoryFile)); err != nil {
		return fmt.Errorf("keep memory of snapshot: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tmp, snapshotFile), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("put snapshot in place: %w", err)
	}
	return nil
}

// settle waits until the guest has nothing to do. It reports whether clones go on
// in its session; they can unless a program keeps streams open, which are ended.
func (t *template) settle(ctx context.Context) (session bool, err error) {
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("save snapshot: %w", context.Cause(ctx))
		}
	}
	for late := time.Now().Add(quietMax); !t.streams.areQuiet() && time.Now().Before(late); {
		if err := wait(quietPoll); err != nil {
			return false, err
		}
	}
	if err := wait(settle); err != nil {
		return false, err
	}
	if t.streams.areQuiet() {
		return true, nil
	}
	if err := t.streams.close(); err != nil {
		return false, err
	}
	return false, wait(settle)
}

// migrate stops the guest and writes the state of its devices to a file.
func (t *template) migrate(ctx context.Context, name string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make state file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := t.qmp.do(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := t.qmp.setCapability(ctx, ignoreShared); err != nil {
		return err
	}
	const fdName = "state"
	if err := t.qmp.doWith(ctx, f, "getfd", map[string]string{"fdname": fdName}, nil); err != nil {
		return err
	}
	if err := t.qmp.do(ctx, "migrate", map[string]string{"uri": "fd:" + fdName}, nil); err != nil {
		return err
	}
	for {
		var out struct {
			Status string `json:"status"`
			Reason string `json:"error-desc"`
		}
		if err := t.qmp.do(ctx, "query-migrate", nil, &out); err != nil {
			return err
		}
		switch out.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("migration %s: %s", out.Status, out.Reason)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for migration: %w", context.Cause(ctx))
		case <-time.After(migratePoll):
		}
	}
}

// StartClone implements vmm.Snapshotter.
func (d *Driver) StartClone(ctx context.Context, spec vmm.Spec, dir string) (vmm.Machine, error) {
	if !spec.Function {
		return nil, errs.New(errs.Invalid, "machine %s is no function, and only functions have snapshots", spec.ID)
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find snapshot: %w", err)
	}
	caps, err := d.Probe(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	state, session, err := d.openSnapshot(ctx, spec, caps.Accelerator, dir)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	m, err := d.start(ctx, spec, memory{file: filepath.Join(dir, memoryFile)}, state)
	if err != nil {
		return nil, err
	}
	err = m.resumeSession(ctx, session)
	if err == nil {
		err = m.restore(ctx)
	}
	if err != nil {
		said := lastLine(filepath.Join(m.dir, logFile))
		err = errors.Join(err, m.Kill(context.WithoutCancel(ctx)))
		if ctx.Err() != nil {
			return nil, fmt.Errorf("restore machine %s: %w", spec.ID, err)
		}
		return nil, errs.New(errs.NotFound, "the snapshot cannot be restored: %s: %v", said, err)
	}
	return m.public(), nil
}

// openSnapshot returns the state of the devices of a snapshot that fits, and
// whether its guest is in a session.
func (d *Driver) openSnapshot(ctx context.Context, spec vmm.Spec, acc vmm.Accelerator, dir string) (_ *os.File, session bool, err error) {
	if strings.ContainsAny(dir, ",\n") {
		return nil, false, errs.New(errs.Invalid, "directory of snapshots %q has a comma", dir)
	}
	rec, err := readSnapshot(dir)
	if err != nil {
		return nil, false, err
	}
	host, err := d.snapshotHost(ctx, acc)
	if err != nil {
		return nil, false, err
	}
	if host != rec.Host {
		return nil, false, errs.New(errs.NotFound, "the snapshot was made by %+v, and this is %+v", rec.Host, host)
	}
	args, err := shape(spec, acc)
	if err != nil {
		return nil, false, err
	}
	if !slices.Equal(args, rec.Args) {
		return nil, false, errs.New(errs.NotFound, "the snapshot is of a machine of another shape: %q, want %q", rec.Args, args)
	}
	if info, err := os.Stat(filepath.Join(dir, memoryFile)); err != nil || info.Size() != int64(spec.MemoryMiB)<<20 {
		return nil, false, errs.New(errs.NotFound, "the snapshot has no memory of %d MiB", spec.MemoryMiB)
	}
	name := filepath.Join(dir, stateFile)
	sum, err := process.SumFile(name)
	if err != nil || sum != rec.StateSum {
		return nil, false, errs.New(errs.NotFound, "the snapshot is damaged: its state hashes to %s, want %s: %v", sum, rec.StateSum, err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, false, fmt.Errorf("open state of snapshot: %w", err)
	}
	return f, rec.Session, nil
}

// resumeSession connects to the streams of a guest that is in a session, before
// there is a guest which would notice that it had been left.
func (m *machine) resumeSession(ctx context.Context, session bool) error {
	if !session {
		return nil
	}
	conn, err := m.connect(ctx, streamSocket)
	if err != nil {
		return fmt.Errorf("connect to the guest's streams: %w", err)
	}
	m.streams.resume(conn)
	return nil
}

// restore makes a machine that waits for its state what the snapshot was.
func (m *machine) restore(ctx context.Context) error {
	if err := m.qmp.setCapability(ctx, ignoreShared); err != nil {
		return err
	}
	if err := m.qmp.do(ctx, "migrate-incoming", map[string]string{"uri": fmt.Sprintf("fd:%d", inheritedState)}, nil); err != nil {
		return err
	}
	for {
		var out struct {
			Status string `json:"status"`
		}
		if err := m.qmp.do(ctx, "query-status", nil, &out); err != nil {
			return err
		}
		if out.Status != "inmigrate" {
			return m.qmp.do(ctx, "cont", nil, nil)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for state: %w", context.Cause(ctx))
		case <-time.After(migratePoll):
		}
	}
}

// readSnapshot reads the record of the snapshot in dir.
func readSnapshot(dir string) (snapshotRecord, error) {
	f, err := os.Open(filepath.Join(dir, snapshotFile))
	if errors.Is(err, os.ErrNotExist) {
		return snapshotRecord{}, errs.New(errs.NotFound, "no snapshot in %s", dir)
	}
	if err != nil {
		return snapshotRecord{}, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, snapshotBytesMax))
	if err != nil {
		return snapshotRecord{}, fmt.Errorf("read snapshot: %w", err)
	}
	return parseSnapshot(raw)
}

func parseSnapshot(raw []byte) (snapshotRecord, error) {
	var rec snapshotRecord
	if err := json.Unmarshal(raw, &rec); err != nil {
		return rec, errs.New(errs.NotFound, "the snapshot is damaged: %v", err)
	}
	if rec.StateSum == "" || len(rec.Args) == 0 {
		return rec, errs.New(errs.NotFound, "the snapshot is damaged: its record is not whole")
	}
	return rec, nil
}

// snapshotHost says what would make a snapshot now.
func (d *Driver) snapshotHost(ctx context.Context, acc vmm.Accelerator) (snapshotHost, error) {
	binary, err := d.binary()
	if err != nil {
		return snapshotHost{}, err
	}
	sum, err := fileSums.Of(binary)
	if err != nil {
		return snapshotHost{}, err
	}
	ver, err := d.versionOf(ctx, binary, sum)
	if err != nil {
		return snapshotHost{}, err
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return snapshotHost{}, fmt.Errorf("read boot id: %w", err)
	}
	return snapshotHost{BinarySum: sum, Version: ver, Accelerator: acc, Boot: strings.TrimSpace(string(boot))}, nil
}

// versionOf asks QEMU for its version, once for each program.
func (d *Driver) versionOf(ctx context.Context, binary, sum string) (string, error) {
	d.mu.Lock()
	ver, ok := d.versions[sum]
	d.mu.Unlock()
	if ok {
		return ver, nil
	}
	ver, err := version(ctx, binary)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.versions[sum] = ver
	return ver, nil
}

// shape is the command line of a function without what may differ between a
// template and its clones: who it is, where its files are, and where its
// network device leads. In place of a file is what QEMU and the guest know of
// it: the bytes of kernel and initrd, the size of a drive.
func shape(spec vmm.Spec, acc vmm.Accelerator) ([]string, error) {
	spec.ID = strings.Repeat("0", len(spec.ID))
	for _, name := range []*string{&spec.Image.Kernel, &spec.Image.Initrd} {
		if *name == "" {
			continue
		}
		sum, err := fileSums.Of(*name)
		if err != nil {
			return nil, err
		}
		*name = sum
	}
	size, err := sizeOf(spec.Image.Rootfs)
	if err != nil {
		return nil, err
	}
	spec.Image.Rootfs = size
	spec.Volumes = slices.Clone(spec.Volumes)
	for i := range spec.Volumes {
		if spec.Volumes[i].Path, err = sizeOf(spec.Volumes[i].Path); err != nil {
			return nil, err
		}
	}
	if spec.Net.Kind != vmm.NetNone {
		spec.Net = vmm.NetDevice{Kind: netNowhere}
	}
	return machineArgs(spec, acc, memory{}, nil), nil
}

func sizeOf(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("look at drive: %w", err)
	}
	return fmt.Sprint(info.Size()), nil
}

// fileSums remembers sums of large files that are read at each start.
var fileSums process.Sums //nolint:gochecknoglobals // A cache of facts about files, the same for every driver.
