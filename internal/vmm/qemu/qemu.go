// Package qemu runs machines with QEMU, by KVM where that works and by
// translation (TCG) everywhere else.
//
// A machine is one QEMU process in a session of its own, working in the
// machine's directory (see package vmm), with the directory's lock inherited.
// The driver talks to it over a QMP socket and to the guest's agent over a
// virtio-serial port. Both are connections that a later daemon makes anew, so
// nothing is lost when this one dies.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit/iso"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

// Name is the driver's name.
const Name = "qemu"

const (
	// startMax bounds the time from the start of the process to its answer:
	// some 0.1 s are usual, a loaded host takes seconds.
	startMax = 20 * time.Second
	// adoptMax bounds how long a process that runs may take to answer.
	adoptMax   = 10 * time.Second
	versionMax = 10 * time.Second
	// consoleSlackBytes is what a machine may write beside its disk before
	// its files are cut off: tables of the disk, and the console.
	consoleSlackBytes = 1 << 30
)

// Config says where QEMU is.
type Config struct {
	Binary     string `toml:"binary"`      // QEMU's program; "" looks for qemu-system-x86_64 in the usual places.
	ProbeImage string `toml:"probe_image"` // Image that is booted to see whether KVM works; "" = the first machine's, and until then guests run by translation.
	CacheDir   string `toml:"cache_dir"`   // Where the result of that is kept, for as long as the host is up; "" = in the data directory.
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.ProbeImage == "" {
		return nil
	}
	if _, err := os.Stat(c.ProbeImage); err != nil {
		return errs.New(errs.Invalid, "probe_image is %q, want a file: %w", c.ProbeImage, err)
	}
	return nil
}

// Driver runs machines. Use New.
type Driver struct {
	cfg Config
	log *slog.Logger

	probeMu sync.Mutex // held over a probe: one at a time
	caps    *vmm.Capabilities

	cgroups func() (cgroups, error) // Opened once, when first needed.

	host       string     // Where the host's devices and parameters are; "/" but in tests.
	platformMu sync.Mutex // held over a question to the platform
	platform   *vmm.Platform

	mu       sync.Mutex
	attached map[string]*machine // By directory, until they end; guarded by mu
	versions map[string]string   // Of QEMU, by the sum of its program; guarded by mu

	machines sync.WaitGroup // The goroutines that watch machines.
	closing  chan struct{}
	once     sync.Once
}

// New returns a driver. It starts nothing and looks for nothing: what is
// missing is reported by Probe.
func New(cfg Config, log *slog.Logger) *Driver {
	return &Driver{
		cfg: cfg, log: log, cgroups: sync.OnceValues(hostCgroups), attached: map[string]*machine{}, versions: map[string]string{},
		closing: make(chan struct{}), host: "/",
	}
}

// Name implements vmm.Driver.
func (d *Driver) Name() string { return Name }

// Close implements vmm.Driver.
func (d *Driver) Close() error {
	d.once.Do(func() { close(d.closing) })
	d.machines.Wait()
	return nil
}

// binary finds QEMU.
func (d *Driver) binary() (string, error) {
	name := d.cfg.Binary
	if name == "" {
		name = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errs.New(errs.Unavailable, "QEMU (%s) is not installed: run apt-get install qemu-system-x86, then start the node again", name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("find QEMU: %w", err)
	}
	return path, nil
}

// version asks QEMU for its version.
func version(ctx context.Context, binary string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionMax)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return "", errs.New(errs.Unavailable, "ask QEMU for its version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(strings.TrimPrefix(line, "QEMU emulator version ")), nil
}

// Start implements vmm.Driver.
func (d *Driver) Start(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	m, err := d.start(ctx, spec, memory{}, nil)
	if err != nil {
		return nil, err
	}
	return m.public(), nil
}

// start starts the machine with its memory where mem says. A clone inherits the
// state of its devices, which is nil otherwise.
func (d *Driver) start(ctx context.Context, spec vmm.Spec, mem memory, state *os.File) (_ *machine, err error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	binary, err := d.binary()
	if err != nil {
		return nil, err
	}
	if spec.Dir, err = filepath.Abs(spec.Dir); err != nil {
		return nil, fmt.Errorf("find machine directory: %w", err)
	}
	caps, err := d.Probe(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	platform, err := d.checkConfidential(ctx, spec)
	if err != nil {
		return nil, err
	}
	if platform != nil {
		caps.Accelerator = vmm.KVM // SEV is a part of it.
	}
	_, statErr := os.Stat(spec.Dir)
	lock, err := vmm.LockDir(spec.Dir)
	if err != nil {
		return nil, vmm.DiskError(err)
	}
	defer lock.Close()
	// On an error nothing new stays: neither a directory nor a file in it.
	undo := &undo{}
	if errors.Is(statErr, os.ErrNotExist) {
		undo.add(spec.Dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), undo.run())
		}
	}()
	if err := vmm.CheckStart(spec.Dir); err != nil {
		return nil, err
	}
	if err := d.prepare(spec, caps.Accelerator, undo); err != nil {
		return nil, fmt.Errorf("prepare machine %s: %w", spec.ID, err)
	}
	if mem.share {
		undo.add(filepath.Join(spec.Dir, memoryFile))
		if spec.Net.Kind != vmm.NetNone {
			spec.Net = vmm.NetDevice{Kind: netNowhere}
		}
	}
	fileBytes, err := writeLimit(spec)
	if err != nil {
		return nil, err
	}
	groups, _ := d.cgroups() // What speaks against limits is in the capabilities.
	group, err := groups.make(spec.ID, spec.VCPUs, spec.MemoryMiB)
	if err != nil {
		return nil, err
	}
	m, err := d.launch(ctx, launch{
		binary: binary, args: machineArgs(spec, caps.Accelerator, mem, platform), dir: spec.Dir, lock: lock, cgroup: group,
		fileBytes: fileBytes, log: logFile, state: state,
	})
	if err != nil {
		return nil, errors.Join(err, groups.remove(spec.ID))
	}
	d.log.Info("machine started", "vm_id", spec.ID, "pid", m.PID(), "accelerator", caps.Accelerator)
	return m, nil
}

// undo removes files that a start has made when it fails.
type undo struct{ paths []string }

func (u *undo) add(path string) { u.paths = append(u.paths, path) }

func (u *undo) run() error {
	var all error
	for _, p := range u.paths {
		all = errors.Join(all, os.RemoveAll(p))
	}
	return all
}

// prepare writes the machine's files.
func (d *Driver) prepare(spec vmm.Spec, acc vmm.Accelerator, u *undo) error {
	for _, name := range []string{processFile, qmpSocket, agentSocket, guestSocket, backupFile, streamSocket, memoryFile} {
		if err := os.Remove(filepath.Join(spec.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what an earlier run left: %w", err)
		}
	}
	if !spec.Function {
		if err := prepareDisks(spec, u); err != nil {
			return err
		}
	}
	if spec.Confidential != nil {
		u.add(filepath.Join(spec.Dir, sessionFile))
		u.add(filepath.Join(spec.Dir, godhFile))
		if err := writeOwnerFiles(spec.Dir, spec.Confidential); err != nil {
			return err
		}
	}
	record := filepath.Join(spec.Dir, machineFile)
	if _, err := os.Stat(record); errors.Is(err, os.ErrNotExist) {
		u.add(record)
	}
	return writeRecord(spec, acc, time.Now())
}

// prepareDisks writes the disk of a machine, unless there is one, and its seed.
func prepareDisks(spec vmm.Spec, u *undo) error {
	disk := filepath.Join(spec.Dir, diskFile)
	err := qcow2.WriteOverlay(disk, spec.Image.Rootfs, string(spec.Image.Format), int64(spec.DiskMiB)<<20)
	switch {
	case errors.Is(err, errs.Conflict):
		if err := checkDisk(disk, spec); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		u.add(disk)
	}
	seed := filepath.Join(spec.Dir, seedFile)
	if _, err := os.Stat(seed); errors.Is(err, os.ErrNotExist) {
		u.add(seed)
	}
	if err := iso.Write(seed, spec.Seed); err != nil {
		return err
	}
	return nil
}

// checkDisk reports a disk that is neither an overlay over the spec's image
// nor one that stands alone: package disk has restored or brought that one.
func checkDisk(name string, spec vmm.Spec) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at disk: %w", err)
	}
	h, err := qcow2.Read(f, info.Size())
	if err != nil {
		return fmt.Errorf("read disk of machine %s: %w", spec.ID, err)
	}
	over := h.Backing == spec.Image.Rootfs && h.BackingFormat == string(spec.Image.Format)
	if !over && h.Backing != "" || h.DataFile {
		return errs.New(errs.Invalid, "disk of machine %s is over the image %q (%s), not %q", spec.ID, h.Backing, h.BackingFormat, spec.Image.Rootfs)
	}
	return nil
}

// writeLimit bounds the files that a machine writes: its disk with the tables
// of that, the largest of its volumes, the memory of a template, a console.
func writeLimit(spec vmm.Spec) (int64, error) {
	most := int64(spec.MemoryMiB) << 20
	if !spec.Function {
		most = max(most, int64(spec.DiskMiB)<<20*9/8)
	}
	for _, v := range spec.Volumes {
		if v.ReadOnly {
			continue
		}
		info, err := os.Stat(v.Path)
		if err != nil {
			return 0, errs.New(errs.Unavailable, "look at volume: %w", err)
		}
		size := info.Size()
		if v.Format == vmm.Qcow2 {
			if size, err = virtualBytes(v.Path, size); err != nil {
				return 0, err
			}
		}
		most = max(most, size*9/8)
	}
	return most + consoleSlackBytes, nil
}

// virtualBytes returns the size of a qcow2 disk as a guest sees it.
func virtualBytes(name string, fileBytes int64) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, fmt.Errorf("open volume: %w", err)
	}
	defer f.Close()
	h, err := qcow2.Read(f, fileBytes)
	if err != nil {
		return 0, fmt.Errorf("read volume: %w", err)
	}
	return h.VirtualBytes, nil
}

// launch starts the process and waits until it answers.
func (d *Driver) launch(ctx context.Context, l launch) (*machine, error) {
	child, err := l.start()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	m, err := d.attachChild(ctx, l.dir, child.Pid)
	// From here on the process is reached by its descriptor.
	if err := errors.Join(err, child.Release()); err != nil {
		return nil, err
	}
	return m, nil
}

// attachChild attaches to a process that this one has just started, and ends
// it when that fails.
func (d *Driver) attachChild(ctx context.Context, dir string, pid int) (*machine, error) {
	s, err := process.ReadStat(pid)
	if err != nil {
		return nil, err
	}
	p, err := process.Open(pid, s.Start)
	if err != nil {
		return nil, err
	}
	m, err := d.attach(ctx, dir, p)
	if err == nil {
		return m, nil
	}
	said := lastLine(filepath.Join(dir, logFile))
	kill := p.Kill()
	kill = errors.Join(kill, p.Wait())
	p.Reap()
	p.Close()
	if said != "" {
		return nil, errs.New(errs.Unavailable, "QEMU did not start: %s", said)
	}
	return nil, errs.New(errs.Unavailable, "QEMU did not start: %w", errors.Join(err, kill))
}

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(ctx context.Context, dir string) (vmm.Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find machine directory: %w", err)
	}
	if m := d.find(dir); m != nil {
		return m.public(), nil
	}
	running, err := vmm.Running(dir)
	if err != nil {
		return nil, err
	}
	if !running {
		d.cleanUp(dir)
		return nil, errs.New(errs.NotFound, "no machine runs in %s", dir)
	}
	raw, err := os.ReadFile(filepath.Join(dir, processFile))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "a process holds %s and has not said which yet: %w", dir, err)
	}
	s, err := process.ParseStat(string(raw))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read the process of %s: %w", dir, err)
	}
	p, err := process.Open(s.PID, s.Start)
	if err != nil {
		// Not NotFound: somebody holds the lock, a daemon in the middle of
		// something for example.
		return nil, errs.New(errs.Unavailable, "the lock of %s is held, but not by its process: %v", dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, adoptMax)
	defer cancel()
	m, err := d.attach(ctx, dir, p)
	if err != nil {
		ended := p.HasEnded()
		p.Close()
		if ended {
			d.cleanUp(dir)
			return nil, errs.New(errs.NotFound, "the machine in %s has just ended", dir)
		}
		return nil, errs.New(errs.Unavailable, "adopt process %d: %w", s.PID, err)
	}
	d.log.Info("machine adopted", "vm_id", m.ID(), "pid", m.PID())
	return m.public(), nil
}

// cleanUp removes the control group that a machine has left which ended while
// nobody watched.
func (d *Driver) cleanUp(dir string) {
	rec, err := readRecord(dir)
	if err != nil {
		return // No machine of ours was ever started there.
	}
	groups, _ := d.cgroups() // What speaks against limits is in the capabilities.
	if err := groups.remove(rec.ID); err != nil {
		d.log.Warn("control group stayed", "vm_id", rec.ID, "err", err)
	}
}

// find returns the machine of the directory that this driver has already.
func (d *Driver) find(dir string) *machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attached[dir]
}

// keep remembers a machine, and forget forgets it when it has ended.
func (d *Driver) keep(m *machine) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached[m.dir] = m
}

func (d *Driver) forget(m *machine) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attached[m.dir] == m {
		delete(d.attached, m.dir)
	}
}

// lastLine returns the last line of a small text file, "" when there is none.
func lastLine(name string) string {
	const tailBytes = 4096
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(info.Size(), tailBytes))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
