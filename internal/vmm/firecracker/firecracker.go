// Package firecracker runs machines with Firecracker, each in a jail.
//
// A machine is one Firecracker process that the jailer starts: as a user without
// privileges, in a root directory, a PID namespace and a control group of its
// own. The jail is below the machine's directory (see package vmm) and made anew
// at each start; what must last, the disk and the seed, is outside and linked
// into it. The jailer closes every descriptor but the standard ones, so the
// process holds the directory's lock as its standard input, and its standard
// output is the end of the console's file.
//
// The driver speaks with the process by its HTTP interface on a Unix socket, and
// with the guest by a vsock. Both are connections that a later daemon makes
// anew, so nothing is lost when this one dies.
package firecracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// Name is the driver's name.
const Name = "firecracker"

// defaultUser is whom machines run as when nothing else is said.
const defaultUser = "aleph-jail"

const (
	// startMax bounds the time from the start of the jailer to a guest that
	// begins to boot: some 50 ms are usual.
	startMax = 20 * time.Second
	// adoptMax bounds how long a process that runs may take to answer.
	adoptMax   = 10 * time.Second
	versionMax = 10 * time.Second
	// consoleSlackBytes is what a machine may write beside its disk before
	// Firecracker ends it: the console, while no daemon trims it.
	consoleSlackBytes = 1 << 30
	// filesMax bounds the descriptors of a process: drives, and streams.
	filesMax = 1024
)

// Config says where Firecracker is and what machines may use.
type Config struct {
	Binary               string `toml:"binary"`                  // Firecracker's program; "" looks for firecracker in the usual places.
	Jailer               string `toml:"jailer"`                  // The jailer's program, of the same version; "" looks for jailer in the usual places.
	User                 string `toml:"user"`                    // User that machines run as, a name or "uid:gid"; "" = aleph-jail. It should have nothing else.
	Kernel               string `toml:"kernel"`                  // Uncompressed kernel for images that bring none; "" = such images are not run.
	ProbeImage           string `toml:"probe_image"`             // Image that is booted to see whether KVM works; "" = the first machine's.
	CacheDir             string `toml:"cache_dir"`               // Where the result of that is kept, for as long as the host is up; "" = in the data directory.
	DriveMiBPerSecond    int    `toml:"drive_mib_per_second"`    // What a machine may read and write of each of its disks, in MiB a second; 0 = no bound.
	NetworkMbitPerSecond int    `toml:"network_mbit_per_second"` // What a machine may send, and what it may receive, in Mbit a second; 0 = no bound.
}

// rateMax keeps a bound in bytes within what Firecracker computes with.
const rateMax = 1 << 20

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	for name, path := range map[string]string{"kernel": c.Kernel, "probe_image": c.ProbeImage} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return errs.New(errs.Invalid, "%s is %q, want a file: %w", name, path, err)
		}
	}
	for name, rate := range map[string]int{"drive_mib_per_second": c.DriveMiBPerSecond, "network_mbit_per_second": c.NetworkMbitPerSecond} {
		if rate < 0 || rate > rateMax {
			return errs.New(errs.Invalid, "%s is %d, want 0 to %d", name, rate, rateMax)
		}
	}
	if strings.Contains(c.User, ":") {
		if _, err := lookupOwner(c.User); err != nil {
			return err
		}
	}
	return nil
}

// Driver runs machines. Use New.
type Driver struct {
	cfg     Config
	log     *slog.Logger
	cgroups cgroups
	sums    process.Sums

	probeMu sync.Mutex // held over a probe: one at a time
	caps    *vmm.Capabilities

	mu       sync.Mutex
	attached map[string]*machine // By directory, until they end; guarded by mu

	machines sync.WaitGroup // The goroutines that watch machines.
	closing  chan struct{}
	once     sync.Once
}

// New returns a driver. It starts nothing and looks for nothing: what is
// missing is reported by Probe.
func New(cfg Config, log *slog.Logger) *Driver {
	return &Driver{cfg: cfg, log: log, cgroups: cgroups{cgroupRoot}, attached: map[string]*machine{}, closing: make(chan struct{})}
}

// Name implements vmm.Driver.
func (d *Driver) Name() string { return Name }

// Close implements vmm.Driver.
func (d *Driver) Close() error {
	d.once.Do(func() { close(d.closing) })
	d.machines.Wait()
	return nil
}

// tools are what machines are started with.
type tools struct {
	binary, jailer string // Absolute.
	version        version
	owner          owner
}

// tools finds them.
func (d *Driver) tools(ctx context.Context) (tools, error) {
	var t tools
	for _, p := range []struct {
		to               *string
		set, name, title string
	}{
		{&t.binary, d.cfg.Binary, "firecracker", "Firecracker"}, {&t.jailer, d.cfg.Jailer, "jailer", "Firecracker's jailer"},
	} {
		name := p.set
		if name == "" {
			name = p.name
		}
		path, err := exec.LookPath(name)
		if err != nil {
			return t, errs.New(errs.Unavailable, "%s (%s) is not installed: put both programs of a release of Firecracker where they are found, or set %s in [firecracker]", p.title, name, p.name)
		}
		// The jailer names its directories after the file, not after a link.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			*p.to, err = filepath.Abs(path)
		}
		if err != nil {
			return t, fmt.Errorf("find %s: %w", p.title, err)
		}
	}
	var err error
	if t.version, err = versionOf(ctx, t.binary); err != nil {
		return t, err
	}
	name := d.cfg.User
	if name == "" {
		name = defaultUser
	}
	t.owner, err = lookupOwner(name)
	return t, err
}

// version is one of Firecracker's.
type version struct {
	major, minor int
	text         string
}

// Versions that brought something that is used where it is there.
var (
	oldest        = version{major: 1, minor: 10} //nolint:gochecknoglobals // A fact, as those below.
	overrides     = version{major: 1, minor: 12} //nolint:gochecknoglobals // Networks of clones.
	pageReporting = version{major: 1, minor: 14} //nolint:gochecknoglobals // Memory goes back to the host.
	serialLimits  = version{major: 1, minor: 16} //nolint:gochecknoglobals // A console has a bound.
)

func (v version) atLeast(w version) bool {
	return v.major > w.major || v.major == w.major && v.minor >= w.minor
}

var versionLine = regexp.MustCompile(`^Firecracker v((\d{1,4})\.(\d{1,4})\.[0-9A-Za-z.+-]{1,64})`)

func parseVersion(out string) (version, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return version{}, errs.New(errs.Unavailable, "Firecracker says %.60q in place of its version", out)
	}
	major, err1 := strconv.Atoi(m[2])
	minor, err2 := strconv.Atoi(m[3])
	return version{major, minor, m[1]}, errors.Join(err1, err2)
}

// versionOf asks Firecracker for its version.
func versionOf(ctx context.Context, binary string) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionMax)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return version{}, errs.New(errs.Unavailable, "ask Firecracker for its version: %w", err)
	}
	v, err := parseVersion(string(out))
	if err == nil && !v.atLeast(oldest) {
		err = errs.New(errs.Unavailable, "Firecracker %s is too old, install %d.%d or later", v.text, oldest.major, oldest.minor)
	}
	return v, err
}

// Start implements vmm.Driver.
func (d *Driver) Start(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	m, err := d.start(ctx, spec, snapshot{}, "")
	if err != nil {
		return nil, err
	}
	return m.public(), nil
}

// start starts a machine: from a snapshot, unless it is the zero one, and with a
// TAP device of its own where ownTap names one.
func (d *Driver) start(ctx context.Context, spec vmm.Spec, from snapshot, ownTap string) (_ *machine, err error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	spec = d.withKernel(spec)
	if err := fits(spec); err != nil {
		return nil, err
	}
	t, err := d.tools(ctx)
	if err != nil {
		return nil, err
	}
	if spec.Dir, err = filepath.Abs(spec.Dir); err != nil {
		return nil, fmt.Errorf("find machine directory: %w", err)
	}
	if _, err := d.Probe(ctx, spec.Image); err != nil {
		return nil, err
	}
	_, statErr := os.Stat(spec.Dir)
	lock, err := vmm.LockDir(spec.Dir)
	if err != nil {
		return nil, vmm.DiskError(err)
	}
	defer lock.Close()
	if err := vmm.CheckStart(spec.Dir); err != nil {
		return nil, err
	}
	// On an error nothing new stays: neither a directory nor a file in it.
	undo := &undo{}
	undo.add(filepath.Join(spec.Dir, jailDir))
	if errors.Is(statErr, os.ErrNotExist) {
		undo.add(spec.Dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(vmm.DiskError(err), undo.run())
		}
	}()
	rec := recordOf(spec, filepath.Base(t.binary), time.Now())
	rec.OwnTap = ownTap
	l := launch{d: d, tools: t, spec: spec, rec: rec, lock: lock, from: from}
	if err := l.prepare(undo); err != nil {
		return nil, fmt.Errorf("prepare machine %s: %w", spec.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	m, err := l.start(ctx)
	if err != nil {
		return nil, errors.Join(err, d.cgroups.remove(spec.ID))
	}
	d.keep(m)
	d.machines.Go(m.watch)
	d.log.Info("machine started", "vm_id", spec.ID, "pid", m.PID(), "driver", Name)
	return m, nil
}

// withKernel gives an image without a kernel the operator's.
func (d *Driver) withKernel(spec vmm.Spec) vmm.Spec {
	if spec.Image.Kernel == "" {
		spec.Image.Kernel = d.cfg.Kernel
	}
	return spec
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

// launch is a start that is under way.
type launch struct {
	d *Driver
	tools
	spec vmm.Spec
	rec  record
	lock *os.File // Inherited: held until the process ends.
	from snapshot
	hw   hardware
}

// prepare writes the machine's files.
func (l *launch) prepare(u *undo) error {
	dir := l.spec.Dir
	for _, name := range []string{processFile, ownLogFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what an earlier run left: %w", err)
		}
	}
	j := jail{l.rec.root(dir), l.owner}
	if err := j.make(dir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, ownLogFile), nil, 0o600); err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	if err := j.give(filepath.Join(dir, ownLogFile), ownLogFile); err != nil {
		return err
	}
	var err error
	if l.hw, err = j.furnish(l.spec, l.d.cfg, u); err != nil {
		return err
	}
	if err := l.from.place(j); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(dir, vmm.ConsoleFile)); err == nil {
		l.rec.ConsoleAt = info.Size()
	}
	if _, err := os.Stat(filepath.Join(dir, machineFile)); errors.Is(err, os.ErrNotExist) {
		u.add(filepath.Join(dir, machineFile))
	}
	return writeRecord(dir, l.rec)
}

// args is the jailer's command line, without the program.
func (l *launch) args() []string {
	fileBytes := int64(l.spec.DiskMiB+l.spec.MemoryMiB)<<20*9/8 + consoleSlackBytes
	args := []string{
		"--id", l.spec.ID, "--exec-file", l.binary, "--uid", strconv.Itoa(l.owner.uid), "--gid", strconv.Itoa(l.owner.gid),
		"--chroot-base-dir", filepath.Join(l.spec.Dir, jailDir), "--new-pid-ns",
		"--resource-limit", fmt.Sprintf("fsize=%d", fileBytes), "--resource-limit", fmt.Sprintf("no-file=%d", filesMax),
	}
	args = append(args, l.d.cgroups.args(l.spec.VCPUs, l.spec.MemoryMiB)...)
	return append(args, "--", "--api-sock", "/"+apiSocket, "--log-path", "/"+ownLogFile, "--level", "Info")
}

// jail runs the jailer, which ends when Firecracker runs.
func (l *launch) jail(ctx context.Context) error {
	const flags = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	console, err := os.OpenFile(filepath.Join(l.spec.Dir, vmm.ConsoleFile), flags, 0o600)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	defer console.Close()
	log, err := os.OpenFile(filepath.Join(l.spec.Dir, logFile), flags|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make hypervisor log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, l.jailer, l.args()...)
	cmd.Dir, cmd.Env = l.spec.Dir, []string{"PATH=/usr/bin:/bin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.lock, console, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return errs.New(errs.Unavailable, "the jailer did not start Firecracker: %w: %s", err, lastLine(filepath.Join(l.spec.Dir, logFile)))
	}
	return nil
}

// start starts the process, tells it what the machine is, and starts the guest.
func (l *launch) start(ctx context.Context) (_ *machine, err error) {
	if err := l.jail(ctx); err != nil {
		return nil, err
	}
	p, err := jailedProcess(ctx, l.spec.Dir, l.rec)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "Firecracker did not start: %w: %s", err, lastLine(filepath.Join(l.spec.Dir, logFile)))
	}
	m, err := l.d.connect(ctx, l.spec.Dir, l.rec, p)
	if err == nil {
		if err = l.configure(ctx, m); err != nil {
			m.release()
		}
	}
	if err == nil {
		return m, nil
	}
	err = errors.Join(err, p.Kill(), p.Wait())
	p.Close()
	if ctx.Err() == nil {
		if said := lastLine(filepath.Join(l.spec.Dir, logFile)); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	return nil, err
}

// configure tells a process that has no machine yet what it is.
func (l *launch) configure(ctx context.Context, m *machine) error {
	if l.rec.Function {
		// The guest may call before anybody listens to it.
		if err := m.bindPorts(ctx); err != nil {
			return err
		}
	}
	if l.from.dir != "" {
		return l.from.load(ctx, m, l.hw)
	}
	if err := m.api.all(ctx, l.hw.calls(l.spec, l.version)); err != nil {
		return err
	}
	return m.api.do(ctx, put("/actions", action{"InstanceStart"}), nil)
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
	rec, err := readRecord(dir)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "a process holds %s and has not said which yet: %w", dir, err)
	}
	p, err := findProcess(ctx, dir, rec)
	if err != nil {
		// Not NotFound: somebody holds the lock, a daemon in the middle of
		// something for example.
		return nil, errs.New(errs.Unavailable, "the lock of %s is held, but not by its process: %w", dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, adoptMax)
	defer cancel()
	m, err := d.takeOver(ctx, dir, rec, p)
	if err != nil {
		p.Close()
		return nil, err
	}
	d.keep(m)
	d.machines.Go(m.watch)
	d.log.Info("machine adopted", "vm_id", m.ID(), "pid", m.PID(), "driver", Name)
	return m.public(), nil
}

// takeOver connects to a process that an earlier daemon has started. One whose
// guest never began, or is held for a snapshot that nobody waits for any more, is
// ended.
func (d *Driver) takeOver(ctx context.Context, dir string, rec record, p *process.Process) (*machine, error) {
	m, err := d.connect(ctx, dir, rec, p)
	if err == nil && m.state == running {
		return m, nil
	}
	if err != nil && !p.HasEnded() {
		return nil, errs.New(errs.Unavailable, "adopt process %d: %w", p.PID, err)
	}
	if err == nil {
		m.release()
		if err := errors.Join(p.Kill(), p.Wait()); err != nil {
			return nil, fmt.Errorf("end a machine whose guest does not run: %w", err)
		}
	}
	d.cleanUp(dir)
	return nil, errs.New(errs.NotFound, "the machine in %s has just ended", dir)
}

// cleanUp removes what a machine has left that ended while nobody watched.
func (d *Driver) cleanUp(dir string) {
	rec, err := readRecord(dir)
	if err != nil {
		return // No machine of ours was ever started there.
	}
	if err := d.leave(dir, rec); err != nil {
		d.log.Warn("machine left something", "vm_id", rec.ID, "err", err)
	}
}

// leave removes the jail, the control group and the TAP device of its own of a
// machine that has ended.
func (d *Driver) leave(dir string, rec record) error {
	err := errors.Join(os.RemoveAll(filepath.Join(dir, jailDir)), d.cgroups.remove(rec.ID))
	if rec.OwnTap != "" {
		err = errors.Join(err, dropTap(rec.OwnTap))
	}
	return err
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
