package firecracker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
// page by page as they write to it, there is the state of the devices.
const (
	snapshotFile = "snapshot.json"
	stateFile    = "state"
	memoryFile   = "memory"
)

const (
	// snapshotBytesMax bounds snapshot.json.
	snapshotBytesMax = 1 << 20
	// tapPrefix begins the name of a template's own network device.
	tapPrefix = "alt"
	bootID    = "/proc/sys/kernel/random/boot_id"
)

// snapshot is one to start from; the zero value is none.
type snapshot struct{ dir string }

// snapshotRecord is snapshot.json.
type snapshotRecord struct {
	Host      snapshotHost `json:"host"`
	Shape     []string     `json:"shape"` // What must be the same in a clone, see shape.
	StateSum  string       `json:"state_sha256"`
	CreatedAt time.Time    `json:"created_at"`
}

// snapshotHost is what a snapshot was made by.
type snapshotHost struct {
	BinarySum string `json:"binary_sha256"`
	// Boot is the boot of the host: the memory is not forced to disk, and the
	// processor may be another one after the next.
	Boot string `json:"boot_id"`
}

// template is a machine that becomes a snapshot.
type template struct {
	functionMachine
	record snapshotRecord
}

// StartTemplate implements vmm.Snapshotter.
func (d *Driver) StartTemplate(ctx context.Context, spec vmm.Spec) (vmm.Template, error) {
	if !spec.Function {
		return nil, errs.New(errs.Invalid, "machine %s is no function, and only functions become templates", spec.ID)
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	t, err := d.tools(ctx)
	if err != nil {
		return nil, err
	}
	ownTap := ""
	if spec.Net.Kind != vmm.NetNone {
		if !t.version.atLeast(overrides) {
			return nil, errs.New(errs.Unavailable, "Firecracker %s cannot give clones network devices of their own, install %d.%d or later", t.version.text, overrides.major, overrides.minor)
		}
		ownTap = tapPrefix + spec.ID[:10]
		if err := makeTap(ownTap, t.owner); err != nil {
			return nil, err
		}
		spec.Net = vmm.NetDevice{Kind: vmm.NetTap, Tap: ownTap, MAC: spec.Net.MAC}
	}
	var rec snapshotRecord
	if rec.Host, err = d.hostOf(t); err == nil {
		rec.Shape, err = d.shape(spec)
	}
	var m *machine
	if err == nil {
		m, err = d.start(ctx, spec, snapshot{}, ownTap)
	}
	if err != nil {
		if ownTap != "" {
			err = errors.Join(err, dropTap(ownTap))
		}
		return nil, err
	}
	return &template{functionMachine{m}, rec}, nil
}

// Save implements vmm.Template.
func (t *template) Save(ctx context.Context, dir string) (err error) {
	defer func() {
		if kerr := t.Kill(ctx); err == nil {
			err = kerr
		}
	}()
	t.streams.close()
	tmp := dir + ".new"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("make snapshot directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), os.RemoveAll(tmp))
		}
	}()
	err = t.api.all(ctx, []call{
		{http.MethodPatch, "/vm", vmState{"Paused"}},
		put("/snapshot/create", snapshotCreate{State: statePath, Memory: memoryPath, Type: "Full"}),
	})
	if err != nil {
		return fmt.Errorf("save snapshot of machine %s: %w", t.rec.ID, err)
	}
	root := t.rec.root(t.dir)
	for path, name := range map[string]string{statePath: stateFile, memoryPath: memoryFile} {
		to := filepath.Join(tmp, name)
		if err := os.Rename(filepath.Join(root, path), to); err != nil {
			return fmt.Errorf("keep %s of snapshot: %w", name, err)
		}
		if err := seal(to); err != nil {
			return err
		}
	}
	// Nothing writes to the files any more once the process is gone.
	if err := t.Kill(ctx); err != nil {
		return err
	}
	if t.record.StateSum, err = process.SumFile(filepath.Join(tmp, stateFile)); err != nil {
		return err
	}
	t.record.CreatedAt = time.Now().UTC()
	raw, err := json.MarshalIndent(t.record, "", "  ")
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tmp, snapshotFile), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("put snapshot in place: %w", err)
	}
	return nil
}

// seal takes a file away from the machines' user, who may read it: the clones of
// a snapshot share it, and one that breaks out of its guest must not write to it.
func seal(name string) error {
	if err := os.Chown(name, os.Geteuid(), -1); err != nil {
		return fmt.Errorf("take %s from the machine's user: %w", filepath.Base(name), err)
	}
	if err := os.Chmod(name, 0o440); err != nil { //nolint:gosec // The machines' group reads it.
		return fmt.Errorf("make %s read only: %w", filepath.Base(name), err)
	}
	return nil
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
	t, err := d.tools(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.checkSnapshot(spec, t, dir); err != nil {
		return nil, err
	}
	m, err := d.start(ctx, spec, snapshot{dir}, "")
	if err != nil {
		return nil, err
	}
	return m.public(), nil
}

// checkSnapshot reports, as errs.NotFound, why a snapshot does not fit.
func (d *Driver) checkSnapshot(spec vmm.Spec, t tools, dir string) error {
	rec, err := readSnapshot(dir)
	if err != nil {
		return err
	}
	host, err := d.hostOf(t)
	if err != nil {
		return err
	}
	if host != rec.Host {
		return errs.New(errs.NotFound, "the snapshot was made by %+v, and this is %+v", rec.Host, host)
	}
	shape, err := d.shape(spec)
	if err != nil {
		return err
	}
	if !slices.Equal(shape, rec.Shape) {
		return errs.New(errs.NotFound, "the snapshot is of a machine of another shape: %q, want %q", rec.Shape, shape)
	}
	if info, err := os.Stat(filepath.Join(dir, memoryFile)); err != nil || info.Size() != int64(spec.MemoryMiB)<<20 {
		return errs.New(errs.NotFound, "the snapshot has no memory of %d MiB", spec.MemoryMiB)
	}
	sum, err := process.SumFile(filepath.Join(dir, stateFile))
	if err != nil || sum != rec.StateSum {
		return errs.New(errs.NotFound, "the snapshot is damaged: its state hashes to %s, want %s: %v", sum, rec.StateSum, err)
	}
	return nil
}

// place puts the snapshot's files into the jail of a clone.
func (s snapshot) place(j jail) error {
	if s.dir == "" {
		return nil
	}
	return errors.Join(
		j.share(filepath.Join(s.dir, stateFile), statePath),
		j.share(filepath.Join(s.dir, memoryFile), memoryPath),
	)
}

// load makes a process what the snapshot was, and lets the guest go on. Drives
// and sockets are where they were, in another jail.
func (s snapshot) load(ctx context.Context, m *machine, hw hardware) error {
	body := snapshotLoad{State: statePath, Memory: memoryBackend{Type: "File", Path: memoryPath}, Resume: true}
	if hw.net != nil {
		body.Networks = []networkOverride{{ID: hw.net.ID, Tap: hw.net.Tap}}
	}
	if err := m.api.do(ctx, put("/snapshot/load", body), nil); err != nil {
		if ctx.Err() != nil || m.proc.HasEnded() {
			return fmt.Errorf("restore machine: %w", err)
		}
		return errs.New(errs.NotFound, "the snapshot cannot be restored: %w", err)
	}
	return nil
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
		return rec, errs.New(errs.NotFound, "the snapshot is damaged: %w", err)
	}
	if rec.StateSum == "" || len(rec.Shape) == 0 {
		return rec, errs.New(errs.NotFound, "the snapshot is damaged: its record is not whole")
	}
	return rec, nil
}

// hostOf says what would make a snapshot now.
func (d *Driver) hostOf(t tools) (snapshotHost, error) {
	sum, err := d.sums.Of(t.binary)
	if err != nil {
		return snapshotHost{}, err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return snapshotHost{}, fmt.Errorf("read boot id: %w", err)
	}
	return snapshotHost{BinarySum: sum, Boot: strings.TrimSpace(string(boot))}, nil
}

// shape is what a template and its clones have in common: all of a machine but
// who it is, where its files are, and where its network device leads. In place of
// a file is what the guest knows of it: the bytes of kernel and initrd, the size
// of a drive.
func (d *Driver) shape(spec vmm.Spec) ([]string, error) {
	spec = d.withKernel(spec)
	if err := fits(spec); err != nil {
		return nil, err
	}
	shape := []string{
		fmt.Sprintf("cpus=%d", spec.VCPUs), fmt.Sprintf("mib=%d", spec.MemoryMiB), "args=" + bootArgs(spec),
		fmt.Sprintf("net=%t", spec.Net.Kind != vmm.NetNone),
		fmt.Sprintf("limits=%d,%d", d.cfg.DriveMiBPerSecond, d.cfg.NetworkMbitPerSecond),
	}
	for _, name := range []string{spec.Image.Kernel, spec.Image.Initrd} {
		if name == "" {
			continue
		}
		sum, err := d.sums.Of(name)
		if err != nil {
			return nil, err
		}
		shape = append(shape, "boot="+sum)
	}
	for _, v := range append([]vmm.Volume{{Path: spec.Image.Rootfs, ReadOnly: true}}, spec.Volumes...) {
		info, err := os.Stat(v.Path)
		if err != nil {
			return nil, fmt.Errorf("look at drive: %w", err)
		}
		shape = append(shape, fmt.Sprintf("drive=%d,%t", info.Size(), v.ReadOnly))
	}
	return shape, nil
}
