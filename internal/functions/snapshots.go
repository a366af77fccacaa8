package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// wantedMax is how many snapshots wait to be made. What is not made now is
	// made after another boot.
	wantedMax = 32
	// saveMax bounds the saving of one.
	saveMax = time.Minute
	// triesMax is how often a snapshot is tried that fails, in this process.
	triesMax = 2
)

// keeper keeps snapshots, each in a directory that is named by the key of its
// plan, and makes them one after another.
type keeper struct {
	s           *Service
	snapshotter vmm.Snapshotter // nil if the driver has none.
	dir         string
	wanted      chan *plan

	mu    sync.Mutex
	tries map[string]int // Of snapshots that failed or are being made, by key; guarded by mu
}

// kept is a snapshot.
type kept struct {
	Spec  message.ItemHash `json:"program"`
	Level string           `json:"level"`
	Ready guest.Ready      `json:"ready"` // What its guest said.

	snapshotter vmm.Snapshotter
	dir, vm     string
}

const (
	keptFile = "kept.json"
	keptVM   = "vm"
)

func newKeeper(s *Service) *keeper {
	k := &keeper{s: s, dir: filepath.Join(s.dir, "snapshots"), wanted: make(chan *plan, wantedMax), tries: map[string]int{}}
	if s.cfg.Snapshots {
		k.snapshotter, _ = s.parts.Driver.(vmm.Snapshotter)
	}
	return k
}

// find returns the snapshot of a plan, and notes that it is used.
func (k *keeper) find(p *plan) (kept, bool) {
	out := kept{snapshotter: k.snapshotter, dir: filepath.Join(k.dir, p.key)}
	out.vm = filepath.Join(out.dir, keptVM)
	if k.snapshotter == nil || p.level == levelNone {
		return out, false
	}
	if _, err := os.Stat(out.vm); err != nil {
		return out, false
	}
	raw, err := os.ReadFile(filepath.Join(out.dir, keptFile))
	if err != nil || json.Unmarshal(raw, &out) != nil {
		return out, false
	}
	now := time.Now()
	return out, os.Chtimes(out.dir, now, now) == nil
}

// drop removes a snapshot that does not serve.
func (k *keeper) drop(s kept) {
	if err := os.RemoveAll(s.dir); err != nil {
		k.s.log.Warn("snapshot stayed", "err", err)
	}
}

// forget removes the snapshots of a program.
func (k *keeper) forget(spec message.ItemHash) error {
	found, err := filepath.Glob(filepath.Join(k.dir, "*", keptFile))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	var all error
	for _, name := range found {
		var s kept
		raw, err := os.ReadFile(name)
		if err == nil && json.Unmarshal(raw, &s) == nil && s.Spec == spec {
			all = errors.Join(all, os.RemoveAll(filepath.Dir(name)))
		}
	}
	if all != nil {
		return fmt.Errorf("forget snapshots: %w", all)
	}
	return nil
}

// want asks for a snapshot of a plan.
func (k *keeper) want(p *plan) {
	if k.snapshotter == nil || p.level == levelNone {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tries[p.key] >= triesMax {
		return
	}
	if len(k.tries) > 64*wantedMax {
		clear(k.tries)
	}
	select {
	case k.wanted <- p:
		k.tries[p.key]++
	default:
	}
}

// run makes snapshots until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	if err := k.sweep(ctx); err != nil {
		k.s.log.Error("template of before not ended", "err", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-k.wanted:
			if _, ok := k.find(p); ok {
				continue
			}
			begin := time.Now()
			err := k.make(ctx, p)
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // It ended as asked.
			case err != nil:
				k.s.meter.snapshots.WithLabelValues("failed").Inc()
				k.s.log.Warn("snapshot not made", "item_hash", p.spec, "err", err)
			default:
				k.s.meter.snapshots.WithLabelValues("made").Inc()
				k.s.log.Info("snapshot made", "item_hash", p.spec, "took", time.Since(begin))
			}
			if err := k.trim(); err != nil {
				k.s.log.Warn("snapshots not trimmed", "err", err)
			}
		}
	}
}

// sweep removes what an earlier process was in the middle of.
func (k *keeper) sweep(ctx context.Context) error {
	dir := k.templateDir()
	vm, err := k.s.parts.Driver.Adopt(ctx, filepath.Join(dir, machineDir))
	switch {
	case errors.Is(err, errs.NotFound):
	case err != nil:
		return fmt.Errorf("end template: %w", err)
	default:
		if err := vm.Kill(ctx); err != nil {
			return fmt.Errorf("end template: %w", err)
		}
	}
	if err := vmm.Remove(filepath.Join(dir, machineDir)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove template: %w", err)
	}
	return k.trim()
}

func (k *keeper) templateDir() string { return filepath.Join(k.s.dir, "template") }

// make makes the snapshot of a plan: of its program, or of the runtime if the
// program cannot start without a network.
func (k *keeper) make(ctx context.Context, p *plan) error {
	free, err := k.s.parts.Room.Reserve(ctx, message.ItemHash(idOf("template "+string(p.spec))), p.resources())
	if err != nil {
		return err
	}
	defer free()
	err = k.makeAt(ctx, p, p.level)
	var failed *failedError
	if p.level == levelProgram && errors.As(err, &failed) {
		k.s.log.Info("program does not start alone, its runtime is kept", "item_hash", p.spec, "err", err)
		err = k.makeAt(ctx, p, levelRuntime)
	}
	return err
}

// makeAt makes the snapshot of a plan at a level.
func (k *keeper) makeAt(ctx context.Context, p *plan, level string) (err error) {
	dir := k.templateDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make template directory: %w", err)
	}
	spec, err := k.spec(ctx, p, dir)
	if err != nil {
		return err
	}
	t, err := k.snapshotter.StartTemplate(ctx, spec)
	if err != nil {
		return fmt.Errorf("start template: %w", err)
	}
	// It has an end like others: its guest may say at any time that it has booted anew.
	m := &machine{e: newEntry(k.s, p.spec), plan: p, ending: make(chan struct{}), gone: make(chan struct{})}
	defer func() {
		m.closeListeners()
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killMax)
		defer cancel()
		err = errors.Join(err, t.Kill(kill), vmm.Remove(spec.Dir), removeAll(dir))
	}()
	ready, err := k.s.attach(m, t) //nolint:contextcheck // What a machine says is heard for as long as it runs.
	if err != nil {
		return err
	}
	if m.ready, err = k.s.awaitReady(ctx, t, ready, k.s.cfg.InitTimeout); err != nil {
		return err
	}
	if !m.ready.Has(guest.FeatureReseed) {
		return errs.New(errs.Invalid, "copies of this runtime could not be told apart")
	}
	if level == levelProgram {
		limited, cancel := context.WithTimeout(ctx, k.s.cfg.ConfigTimeout)
		defer cancel()
		if err := m.configure(limited, m.ready, Network{}); err != nil {
			return err
		}
	}
	if err := k.rehearse(ctx, m); err != nil {
		return err
	}
	return k.save(ctx, t, m, level)
}

// rehearse has the guest do once what each copy does first: what is set up then, in
// its libraries and caches, is in the snapshot. That is a third of a copy's start.
func (k *keeper) rehearse(ctx context.Context, m *machine) error {
	ctx, cancel := context.WithTimeout(ctx, k.s.cfg.RestoreTimeout)
	defer cancel()
	return m.reseed(ctx, true)
}

// spec is a template's machine: in place of volumes that are written to there
// are empty files of the same size, which nothing mounts.
func (k *keeper) spec(ctx context.Context, p *plan, dir string) (vmm.Spec, error) {
	img, err := k.s.image(ctx, p)
	if err != nil {
		return vmm.Spec{}, err
	}
	spec := vmm.Spec{
		ID: idOf("template " + string(p.spec)), VCPUs: p.program.Resources.VCPUs, MemoryMiB: p.program.Resources.MemoryMiB, Image: img,
		Dir: filepath.Join(dir, machineDir), Net: vmm.NetDevice{Kind: vmm.NetNone}, Function: true,
	}
	if p.program.Environment.Internet {
		spec.Net.Kind = vmm.NetUser // Leads nowhere in a template.
	}
	for i, d := range p.drives {
		name := d.Path
		if d.writable() {
			name = filepath.Join(dir, fmt.Sprintf("scratch-%d", i))
			if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, d.SizeMiB<<20)); err != nil {
				return vmm.Spec{}, fmt.Errorf("make scratch volume: %w", err)
			}
		}
		spec.Volumes = append(spec.Volumes, vmm.Volume{Path: name, Format: vmm.Raw, ReadOnly: !d.writable()})
	}
	return spec, nil
}

// save puts the snapshot where find finds it.
func (k *keeper) save(ctx context.Context, t vmm.Template, m *machine, level string) (err error) {
	out := filepath.Join(k.dir, m.plan.key)
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o700)); err != nil {
		return fmt.Errorf("make snapshot directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(out))
		}
	}()
	ready := m.ready
	ready.Configured = level == levelProgram
	raw, err := json.Marshal(kept{Spec: m.plan.spec, Level: level, Ready: ready})
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if err := os.WriteFile(filepath.Join(out, keptFile), raw, 0o600); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, saveMax)
	defer cancel()
	return t.Save(ctx, filepath.Join(out, keptVM))
}

// trim removes the snapshots that were not used for longest, until the others
// take no more than they may.
func (k *keeper) trim() error {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	type one struct {
		dir    string
		usedAt time.Time
		bytes  int64
	}
	var all []one
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // It has just gone.
		}
		o := one{dir: filepath.Join(k.dir, e.Name()), usedAt: info.ModTime()}
		if o.bytes, err = taken(o.dir); err != nil {
			return err
		}
		total += o.bytes
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int { return a.usedAt.Compare(b.usedAt) })
	for _, o := range all {
		if total <= k.s.cfg.SnapshotMiB<<20 {
			break
		}
		if err := os.RemoveAll(o.dir); err != nil {
			return fmt.Errorf("remove snapshot: %w", err)
		}
		total -= o.bytes
	}
	k.s.meter.snapshotBytes.Set(float64(total))
	return nil
}

// taken is what a directory takes of the disk.
func taken(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // It has just gone.
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			const blockBytes = 512
			total += st.Blocks * blockBytes
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure snapshot: %w", err)
	}
	return total, nil
}
