package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// LeakKind is what a leak is made of.
type LeakKind string

// The kinds of leak.
const (
	LeakProcess LeakKind = "process" // A hypervisor of no machine that should run, or a second one of a machine.
	LeakDevice  LeakKind = "device"  // A TAP device of no machine.
	LeakRule    LeakKind = "rule"    // A rule of the firewall, or a forwarded port, of no machine.
	LeakDisk    LeakKind = "disk"    // A machine's directory or backup without a row.
	LeakLock    LeakKind = "lock"    // A machine's directory that is locked, but by no hypervisor.
	LeakRow     LeakKind = "row"     // A row of a machine that should have been removed.
)

func leakKinds() []LeakKind {
	return []LeakKind{LeakProcess, LeakDevice, LeakRule, LeakDisk, LeakLock, LeakRow}
}

const (
	// leakPause is the time between two looks: what both see is no step that is
	// under way.
	leakPause = time.Second
	// leaksFor is how long what was found is told to all who scrape.
	leaksFor = 10 * time.Second
	// rowSlack is how long a row may stay beyond its time.
	rowSlack = time.Minute
)

// Leak is something on this host that no machine accounts for.
type Leak struct {
	Kind LeakKind
	What string
}

// Leaks compares what is on the host with the rows, and returns what no row accounts
// for. It changes nothing. The machines of programs are not among what it looks at,
// but for their places on the network.
func (s *Supervisor) Leaks(ctx context.Context) ([]Leak, error) {
	first, err := s.strays(ctx)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("look for leaks: %w", context.Cause(ctx))
	case <-time.After(leakPause):
	}
	second, err := s.strays(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(second, func(l Leak) bool { return !slices.Contains(first, l) }), nil
}

// strays is one look.
func (s *Supervisor) strays(ctx context.Context) ([]Leak, error) {
	v, err := s.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for leaks: %w", err)
	}
	rows := map[string]*state.VM{} // By directory.
	for i := range v.vms {
		rows[v.vms[i].Dir] = &v.vms[i]
	}
	running, err := hypervisorsBelow(s.self.Root)
	if err != nil {
		return nil, err
	}
	out := strayProcesses(rows, running)
	dirs, err := s.strayDirs(rows, running, v.now)
	if err != nil {
		return nil, err
	}
	backups, err := s.strayBackups(v)
	if err != nil {
		return nil, err
	}
	network, err := s.strayNetwork(v)
	if err != nil {
		return nil, err
	}
	return slices.Concat(out, dirs, backups, network, s.strayRows(v)), nil
}

// strayProcesses finds hypervisors of no machine that should run, and those that are
// more than one of a machine.
func strayProcesses(rows map[string]*state.VM, running map[string][]int) []Leak {
	var out []Leak
	for dir, pids := range running {
		vm := rows[dir]
		if vm != nil && !hasEnded(vm.State) && !isDown(*vm) {
			pids = pids[1:] // One is its own.
		}
		for _, pid := range pids {
			out = append(out, Leak{LeakProcess, fmt.Sprintf("process %d in %s", pid, dir)})
		}
	}
	return out
}

func hasEnded(st state.VMState) bool { return st == state.VMStopped || st == state.VMFailed }

// strayDirs finds directories without a row, and locks without a hypervisor.
func (s *Supervisor) strayDirs(rows map[string]*state.VM, running map[string][]int, now time.Time) ([]Leak, error) {
	entries, err := os.ReadDir(s.self.Root)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var out []Leak
	for _, e := range entries {
		spec, err := message.ParseItemHash(e.Name())
		dir := filepath.Join(s.self.Root, e.Name())
		vm := rows[dir]
		if err != nil || !e.IsDir() || vm == nil && s.comes(spec, now) {
			continue
		}
		if vm == nil {
			out = append(out, Leak{LeakDisk, "directory " + dir})
		}
		locked, err := vmm.Running(dir)
		if err != nil {
			return nil, err
		}
		// A machine that starts is locked by this process first, and so is one whose
		// disks are copied or exchanged.
		starts := vm != nil && !hasEnded(vm.State) && !isDown(*vm) && vm.State != state.VMRunning
		if locked && len(running[dir]) == 0 && !starts && s.claimed(spec) == "" {
			out = append(out, Leak{LeakLock, "lock of " + dir})
		}
	}
	return out, nil
}

// strayBackups finds backups of machines that are gone.
func (s *Supervisor) strayBackups(v *view) ([]Leak, error) {
	if s.self.Backups == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.self.Backups)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var out []Leak
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "."), "-")
		spec, err := message.ParseItemHash(name)
		if err == nil && !slices.ContainsFunc(v.vms, func(vm state.VM) bool { return vm.Spec == spec }) {
			out = append(out, Leak{LeakDisk, "backup " + e.Name()})
		}
	}
	return out, nil
}

// strayNetwork finds what the host's network has of machines that have no place there.
func (s *Supervisor) strayNetwork(v *view) ([]Leak, error) {
	s.network.Lock()
	leases := s.lentLeases()
	s.network.Unlock()
	for _, vm := range v.vms {
		if len(vm.Ports) > 0 {
			leases = append(leases, lease(vm)) // Also one that is down: its place goes a moment later.
		}
	}
	found, err := s.parts.Network.Strays(leases)
	if err != nil {
		return nil, err
	}
	var out []Leak
	for _, f := range found {
		kind := LeakRule
		if f.Kind == vmnet.StrayDevice {
			kind = LeakDevice
		}
		out = append(out, Leak{kind, f.What})
	}
	return out, nil
}

// strayRows finds rows of ended machines that stay too long.
func (s *Supervisor) strayRows(v *view) []Leak {
	var out []Leak
	for _, vm := range v.vms {
		j := v.jobs[vm.Spec]
		over := hasEnded(vm.State) && !v.leased(vm.Spec) && (j == nil || j.NodeID != s.self.NodeID || j.Status.Ended()) && vm.Move == nil
		if over && v.now.Sub(vm.StoppedAt) > s.retention(v.leases[vm.Spec])+rowSlack {
			out = append(out, Leak{LeakRow, fmt.Sprintf("row of %s, %s since %s", vm.Spec, vm.State, vm.StoppedAt.UTC().Format(time.RFC3339))})
		}
	}
	return out
}

// hypervisorsBelow finds the hypervisors that work below root, by directory: a machine's
// process works in its directory and has the directory's lock open, whatever the
// files say of it.
func hypervisorsBelow(root string) (map[string][]int, error) {
	resolved, err := filepath.Abs(root)
	if err == nil {
		resolved, err = filepath.EvalSymlinks(resolved) // As the kernel names where processes are.
	}
	if err != nil {
		return nil, fmt.Errorf("find machines: %w", err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	out := map[string][]int{}
	for _, link := range links {
		dir, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(dir, resolved+"/") {
			continue // It has ended, or is somebody else's.
		}
		proc := filepath.Dir(link)
		dir = strings.TrimSuffix(dir, " (deleted)")
		var pid int
		if _, err := fmt.Sscan(filepath.Base(proc), &pid); err == nil && hasLock(proc, dir) {
			dir = filepath.Join(root, strings.TrimPrefix(dir, resolved))
			out[dir] = append(out[dir], pid)
		}
	}
	return out, nil
}

// hasLock reports whether the process has the lock of the directory open.
func hasLock(proc, dir string) bool {
	fds, err := filepath.Glob(filepath.Join(proc, "fd/*"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, err := os.Readlink(fd)
		return err == nil && strings.TrimSuffix(to, " (deleted)") == vmm.LockFile(dir)
	})
}

// leakMetrics counts leaks when it is asked.
type leakMetrics struct {
	s    *Supervisor
	desc *prometheus.Desc

	mu     sync.Mutex       // Held over a look.
	at     time.Time        // Of the last; guarded by mu
	counts map[LeakKind]int // guarded by mu
	known  map[Leak]bool    // Those that were logged; guarded by mu
}

func newLeakMetrics(s *Supervisor) *leakMetrics {
	return &leakMetrics{s: s, desc: prometheus.NewDesc(
		"aleph_executor_leaks", "What is on the host of machines, and no machine accounts for it.", []string{"kind"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *leakMetrics) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector. What cannot be looked at has no value.
func (c *leakMetrics) Collect(out chan<- prometheus.Metric) {
	counts, ok := c.look()
	if !ok {
		return
	}
	for _, kind := range leakKinds() {
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(counts[kind]), string(kind))
	}
}

// look counts the leaks. Anybody may scrape: one look serves all for a while.
func (c *leakMetrics) look() (counts map[LeakKind]int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts != nil && time.Since(c.at) < leaksFor {
		return c.counts, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeMax+leakPause) //nolint:forbidigo // A Collector is given none.
	defer cancel()
	leaks, err := c.s.Leaks(ctx)
	if err != nil {
		if !errors.Is(err, errs.NotFound) {
			c.s.log.Warn("leaks not looked for", "err", err)
		}
		return nil, false
	}
	counts, known := map[LeakKind]int{}, map[Leak]bool{}
	for _, l := range leaks {
		counts[l.Kind]++
		known[l] = true
		if !c.known[l] {
			c.s.log.Warn("leak", "kind", l.Kind, "what", l.What)
		}
	}
	c.at, c.counts, c.known = time.Now(), counts, known
	return counts, true
}
