package functions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// evictionsMax is how many idle machines make room for one.
const evictionsMax = 8

// start starts the machine of a program. Its errors are Faults, or that of ctx.
func (s *Service) start(ctx context.Context, e *entry) (*machine, error) {
	begin := time.Now()
	p, leave, err := s.planInTurn(ctx, e)
	if err != nil {
		if errors.Is(err, errs.Exhausted) {
			s.meter.starts.WithLabelValues("refused").Inc()
		}
		return nil, startFault(err)
	}
	defer leave()
	m, err := s.startPlan(ctx, e, p)
	if err != nil {
		s.meter.starts.WithLabelValues("failed").Inc()
		s.log.Warn("program did not start", "item_hash", e.spec, "err", err)
		return nil, startFault(err)
	}
	s.meter.starts.WithLabelValues(m.how).Inc()
	s.meter.start.WithLabelValues(m.how).Observe(time.Since(begin).Seconds())
	s.meter.machines.Inc()
	s.log.Info("program started", "item_hash", e.spec, "how", m.how, "took", time.Since(begin))
	if m.how == howBoot && m.ready.Has(guest.FeatureReseed) {
		s.keep.want(p)
	}
	return m, nil
}

// startPlan reserves what the plan needs, and starts it.
func (s *Service) startPlan(ctx context.Context, e *entry, p *plan) (_ *machine, err error) {
	free, err := s.reserve(ctx, p)
	if err != nil {
		return nil, err
	}
	m := &machine{
		e: e, plan: p, free: free, slots: make(chan struct{}, s.cfg.Concurrency), ending: make(chan struct{}), gone: make(chan struct{}),
	}
	defer func() { //nolint:contextcheck // A machine is ended also when nobody waits any more.
		if err != nil {
			if m.vm != nil {
				err = errors.Join(err, m.kill())
			}
			m.cleanUp()
		}
	}()
	held := s.isHeld(e)
	if err := os.MkdirAll(filepath.Join(s.programDir(p.spec), volumeDir), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of program: %w", err)
	}
	if err := s.writeNote(p.spec, p.note(held)); err != nil {
		return nil, err
	}
	spec, err := s.machineSpec(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.program.Environment.Internet {
		if m.network, err = s.parts.Networks.Up(ctx, p.spec); err != nil {
			return nil, fault(http.StatusInternalServerError, textSetup, fmt.Errorf("make network: %w", err))
		}
		spec.Net = m.network.Device
	}
	if err := s.bring(ctx, m, spec); err != nil {
		return nil, err
	}
	m.begun.Store(true)
	now := time.Now()
	m.startedAt, m.idleAt, m.checkedAt = now, now, now
	return m, nil
}

func (s *Service) isHeld(e *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held
}

// reserve takes a place and the room of a machine, for which idle ones are ended.
func (s *Service) reserve(ctx context.Context, p *plan) (free func(), err error) {
	for range evictionsMax {
		free, err = s.tryReserve(ctx, p)
		if err == nil || !errors.Is(err, errs.Exhausted) || !s.evict(ctx) {
			return free, err
		}
	}
	return nil, err
}

func (s *Service) tryReserve(ctx context.Context, p *plan) (free func(), err error) {
	leave, ok := s.place()
	if !ok {
		return nil, errs.New(errs.Exhausted, "%d machines of programs run or start, no more may", s.cfg.Machines)
	}
	room, err := s.parts.Room.Reserve(ctx, p.spec, p.resources())
	if err != nil {
		leave()
		return nil, err
	}
	return func() { room(); leave() }, nil
}

// machineSpec is the machine of a plan, without a network, with its volumes
// made.
func (s *Service) machineSpec(ctx context.Context, p *plan) (vmm.Spec, error) {
	img, err := s.image(ctx, p)
	if err != nil {
		return vmm.Spec{}, err
	}
	spec := vmm.Spec{
		ID: idOf(string(p.spec)), VCPUs: p.program.Resources.VCPUs, MemoryMiB: p.program.Resources.MemoryMiB, Image: img,
		Dir: filepath.Join(s.programDir(p.spec), machineDir), Net: vmm.NetDevice{Kind: vmm.NetNone}, Function: true,
	}
	for _, d := range p.drives {
		name := d.Path
		switch d.Kind {
		case message.Immutable:
		case message.Persistent:
			name = filepath.Join(s.programDir(p.spec), volumeDir, d.Path)
			err = makeVolume(ctx, name, d.SizeMiB)
		case message.Ephemeral:
			name = filepath.Join(s.programDir(p.spec), tmpDir, d.Path)
			err = errors.Join(removeFile(name), makeVolume(ctx, name, d.SizeMiB))
		}
		if err != nil {
			return vmm.Spec{}, fault(http.StatusInternalServerError, textSetup, err)
		}
		spec.Volumes = append(spec.Volumes, vmm.Volume{Path: name, Format: vmm.Raw, ReadOnly: !d.writable()})
	}
	return spec, nil
}

// image is what machines of the plan boot.
func (s *Service) image(ctx context.Context, p *plan) (vmm.Image, error) {
	img, err := s.parts.Boots.Boot(ctx)
	if err != nil {
		return vmm.Image{}, fault(http.StatusInternalServerError, textSetup, fmt.Errorf("find kernel: %w", err))
	}
	info, err := os.Stat(p.runtime.Path)
	if err != nil {
		return vmm.Image{}, fault(http.StatusBadRequest, textMissing, err)
	}
	img.Name, img.Rootfs, img.Format, img.VirtualBytes = string(p.runtime.Hash), p.runtime.Path, vmm.Raw, info.Size()
	return img, nil
}

// idOf is the id of the machine of something.
func idOf(what string) string {
	if raw, err := hex.DecodeString(what); err == nil && len(raw) == sha256.Size {
		return hex.EncodeToString(raw)
	}
	sum := sha256.Sum256([]byte(what))
	return hex.EncodeToString(sum[:])
}

// newSeed is randomness for one machine.
func newSeed() []byte {
	seed := make([]byte, guest.SeedBytes)
	_, _ = rand.Read(seed) // Never fails.
	return seed
}

// bring starts the machine's process and brings its program up: from a
// snapshot, or else by a boot.
func (s *Service) bring(ctx context.Context, m *machine, spec vmm.Spec) error {
	if kept, ok := s.keep.find(m.plan); ok {
		err := s.restore(ctx, m, spec, kept)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.log.Warn("snapshot does not serve", "item_hash", m.plan.spec, "err", err)
		s.keep.drop(kept)
		if m.vm != nil {
			if err := m.kill(); err != nil { //nolint:contextcheck // As above.
				return err
			}
			m.closeListeners()
			m.vm = nil
		}
	}
	vm, err := s.parts.Driver.Start(ctx, spec)
	if err != nil {
		return fault(http.StatusInternalServerError, textSetup, err)
	}
	m.how = howBoot
	ready, err := s.attach(m, vm) //nolint:contextcheck // What a machine says is heard for as long as it runs.
	if err != nil {
		return fault(http.StatusInternalServerError, textSetup, err)
	}
	if m.ready, err = s.awaitReady(ctx, vm, ready, s.cfg.InitTimeout); err != nil {
		return fault(http.StatusInternalServerError, textRuntime, err)
	}
	return s.begin(ctx, m)
}

// begin configures a machine of which the guest is up.
func (s *Service) begin(ctx context.Context, m *machine) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConfigTimeout)
	defer cancel()
	err := m.configure(ctx, m.ready, m.network)
	var failed *failedError
	switch {
	case errors.As(err, &failed):
		return &Fault{Status: http.StatusInternalServerError, Text: textSetup, Cause: fmt.Errorf("%w\n%s", err, failed.result.Traceback)}
	case err != nil:
		return fault(http.StatusInternalServerError, textRuntime, err)
	}
	return nil
}

// restore starts the machine from a snapshot.
func (s *Service) restore(ctx context.Context, m *machine, spec vmm.Spec, k kept) error {
	vm, err := k.snapshotter.StartClone(ctx, spec, k.vm)
	if err != nil {
		return err
	}
	m.how, m.ready = howSnapshot, k.Ready
	if _, err := s.attach(m, vm); err != nil { //nolint:contextcheck // What a machine says is heard for as long as it runs.
		return err
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.RestoreTimeout)
	defer cancel()
	if err := m.reseed(limited, false); err != nil {
		return err
	}
	if k.Level == levelProgram {
		return nil
	}
	return s.begin(ctx, m)
}

// attach takes what the guest says from now on. The channel has its first word;
// there is none for a copy, which has said it in the template.
func (s *Service) attach(m *machine, vm vmm.Machine) (<-chan guest.Ready, error) {
	m.vm = vm
	streams, ok := vm.(vmm.Streamer)
	if !ok {
		return nil, fmt.Errorf("driver %s has no streams", s.parts.Driver.Name())
	}
	m.streams = streams
	// What a program may ask for while it starts must be there before.
	api, err := streams.Listen(guest.PortAPI)
	if err != nil {
		return nil, err
	}
	m.listeners = append(m.listeners, api)
	s.work.Go(func() {
		if err := s.parts.Hosts.ServeProgram(m.plan.spec, m.plan.program, api); err != nil {
			s.log.Debug("service of program's questions ended", "item_hash", m.plan.spec, "err", err)
		}
	})
	run, err := streams.Listen(guest.PortRun)
	if err != nil {
		return nil, err
	}
	m.listeners = append(m.listeners, run)
	var ready chan guest.Ready
	if m.how != howSnapshot {
		ready = make(chan guest.Ready, 1)
	}
	s.work.Go(func() { m.listenReady(run, ready) })
	return ready, nil
}

func (m *machine) closeListeners() {
	for _, l := range m.listeners {
		l.Close()
	}
	m.listeners = nil
}

// awaitReady waits for the guest's first word.
func (s *Service) awaitReady(ctx context.Context, vm vmm.Machine, ready <-chan guest.Ready, most time.Duration) (guest.Ready, error) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case r := <-ready:
		return r, nil
	case <-vm.Done():
		return guest.Ready{}, errs.New(errs.Unavailable, "the machine ended before its guest was up: %s", vm.Exit().Reason)
	case <-timer.C:
		return guest.Ready{}, errs.New(errs.Unavailable, "the guest was not up in %v", most)
	case <-ctx.Done():
		return guest.Ready{}, fmt.Errorf("wait for the guest: %w", context.Cause(ctx))
	}
}

// makeVolume makes a disk with an empty ext4, unless it is there.
func makeVolume(ctx context.Context, name string, sizeMiB int64) (err error) {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	tmp := name + ".new"
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), removeFile(tmp)); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if err = errors.Join(f.Truncate(sizeMiB<<20), f.Close()); err != nil {
		return vmm.DiskError(errors.Join(fmt.Errorf("make volume of %d MiB: %w", sizeMiB, err), removeFile(tmp)))
	}
	tool, err := findTool("mkfs.ext4")
	if err != nil {
		return errors.Join(err, removeFile(tmp))
	}
	// Tables are written when they are used; nothing is discarded, as all is a
	// hole.
	cmd := exec.CommandContext(ctx, tool, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return vmm.DiskError(errors.Join(fmt.Errorf("make file system: %w: %.300s", err, out), removeFile(tmp)))
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	return nil
}

// findTool finds a program that may not be where users look.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path, nil
		}
	}
	return "", errs.New(errs.Unavailable, "%s is not installed: run apt-get install e2fsprogs", name)
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// takeOver ends the machines that an earlier process has left, but for those
// that were held: they run on.
func (s *Service) takeOver(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "programs", "*"))
	if err != nil {
		return fmt.Errorf("list programs: %w", err)
	}
	for _, dir := range dirs {
		spec, err := message.ParseItemHash(filepath.Base(dir))
		if err != nil || !isFile(filepath.Join(dir, noteFile)) {
			continue // Nothing that runs.
		}
		if err := s.takeOverOne(ctx, spec); err != nil {
			s.log.Error("machine of program not taken over", "item_hash", spec, "err", err)
		}
	}
	return nil
}

// takeOverOne takes over one machine, or ends it.
func (s *Service) takeOverOne(ctx context.Context, spec message.ItemHash) error {
	n, err := s.readNote(spec)
	if err != nil {
		s.log.Warn("note of machine not read", "item_hash", spec, "err", err)
	}
	vm, err := s.parts.Driver.Adopt(ctx, filepath.Join(s.programDir(spec), machineDir))
	if errors.Is(err, errs.NotFound) {
		vm, err = nil, nil
	}
	if err != nil {
		return err // It may run: nothing of it is touched.
	}
	e, done := s.use(spec)
	defer done()
	if n.Held {
		e.setHeld(true)
		if vm != nil {
			err := s.adopt(ctx, e, vm, n)
			if err == nil {
				return nil
			}
			s.log.Warn("machine of held program is started anew", "item_hash", spec, "err", err)
		}
	}
	if vm != nil {
		kill, cancel := context.WithTimeout(ctx, killMax)
		defer cancel()
		if err := vm.Kill(kill); err != nil {
			return err
		}
	}
	if err := s.sweep(ctx, spec, n.Held); err != nil {
		return err
	}
	if n.Held {
		s.work.Go(func() { e.hold(0) })
	}
	return nil
}

// adopt makes a machine that runs the entry's, if its program is what it was.
func (s *Service) adopt(ctx context.Context, e *entry, vm vmm.Machine, n note) (err error) {
	p, err := s.plans.plan(ctx, e.spec)
	if err != nil {
		return err
	}
	if p.key != n.Key {
		return errs.New(errs.Conflict, "the program has changed")
	}
	room, err := s.parts.Room.Reserve(ctx, e.spec, p.resources())
	if err != nil {
		return err
	}
	s.mu.Lock()
	leave := s.placeLocked() // It runs, however many may.
	s.mu.Unlock()
	free := func() { room(); leave() }
	m := &machine{
		e: e, plan: p, free: free, how: howAdopted, slots: make(chan struct{}, s.cfg.Concurrency),
		ending: make(chan struct{}), gone: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			m.closeListeners()
			free()
		}
	}()
	if p.program.Environment.Internet {
		if m.network, err = s.parts.Networks.Up(ctx, p.spec); err != nil {
			return err
		}
	}
	ready, err := s.attach(m, vm) //nolint:contextcheck // What a machine says is heard for as long as it runs.
	if err != nil {
		return err
	}
	if m.ready, err = s.awaitReady(ctx, vm, ready, s.cfg.RestoreTimeout); err != nil {
		return err
	}
	if !m.ready.Configured {
		if err := s.begin(ctx, m); err != nil {
			return err
		}
	}
	now := time.Now()
	m.startedAt, m.idleAt = now, now
	e.mu.Lock()
	e.current = m
	e.mu.Unlock()
	s.meter.machines.Inc()
	s.work.Go(m.watch)
	s.log.Info("machine of held program taken over", "item_hash", e.spec)
	return nil
}
