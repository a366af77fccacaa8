package functions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Messages knows programs.
type Messages interface {
	// Program returns the program as it is now, with its amendments. One that
	// is not known, or is forgotten, gives errs.NotFound.
	Program(ctx context.Context, spec message.ItemHash) (*message.Program, error)
}

// Files brings files.
type Files interface {
	// File brings the file of the STORE message ref to this host, if it must
	// with a download, and verifies it. With latest it is the newest version
	// that the owner has made of it.
	File(ctx context.Context, owner string, ref message.ItemHash, latest bool) (File, error)
}

// Room keeps the host from being promised twice.
type Room interface {
	// Reserve takes what a machine needs until free is called: its processors,
	// its memory, and the disk of the volumes that it writes to. When there is
	// not enough it gives errs.Exhausted.
	Reserve(ctx context.Context, spec message.ItemHash, r state.Resources) (free func(), err error)
}

// Networks gives machines their networks.
type Networks interface {
	// Up makes the network of a program's machine, or takes over one that is
	// there.
	Up(ctx context.Context, spec message.ItemHash) (Network, error)
	// Down removes it. One that is not there is fine.
	Down(ctx context.Context, spec message.ItemHash) error
}

// Network is where a machine is on the network, as a Config of package guest has it: the
// addresses of the guest with the length of their prefixes.
type Network struct {
	Device            vmm.NetDevice
	IP, Route         string
	IPv6, IPv6Gateway string
	DNS               []string
}

// NetworkAt is the network of a machine at a device.
func NetworkAt(d vmnet.Device) Network {
	out := Network{
		Device: vmm.NetDevice{Kind: vmm.NetUser, MAC: d.MAC, Egress: d.Egress}, IP: d.Address.String(), Route: d.Gateway.String(),
	}
	if d.Mode == vmnet.Tap {
		out.Device = vmm.NetDevice{Kind: vmm.NetTap, MAC: d.MAC, Tap: d.TapName}
	}
	if d.Address6.IsValid() {
		out.IPv6, out.IPv6Gateway = d.Address6.String(), d.Gateway6.String()
	}
	for _, server := range d.Nameservers {
		out.DNS = append(out.DNS, server.String())
	}
	return out
}

// Boots knows what programs' machines boot.
type Boots interface {
	// Boot returns an image with a kernel and an initrd of aleph-guest. Its
	// root disk is not used.
	Boot(ctx context.Context) (vmm.Image, error)
}

// Hosts serves what programs ask their host for.
type Hosts interface {
	// ServeProgram serves the connections of one program until the listener
	// is closed.
	ServeProgram(spec message.ItemHash, program *message.Program, l net.Listener) error
}

// Parts are what a Service works with.
type Parts struct {
	Driver   vmm.Driver
	Boots    Boots
	Messages Messages
	Files    Files
	Room     Room
	Networks Networks
	Hosts    Hosts
}

// Service runs programs. Use New, then Run.
type Service struct {
	cfg   Config
	dir   string
	parts Parts
	plans planner
	log   *slog.Logger
	meter *meter
	keep  *keeper

	taken chan struct{} // Closed when what an earlier process has left is seen to.

	lookups, fetches, starts *turns

	ctx  context.Context //nolint:containedctx // The service's own: machines belong to no call. Ends when Run returns.
	end  context.CancelFunc
	work sync.WaitGroup // Goroutines of machines.

	trimming sync.Mutex // Held while logs are looked through.

	mu       sync.Mutex
	entries  map[message.ItemHash]*entry // guarded by mu
	draining bool                        // guarded by mu
	calls    int                         // guarded by mu
	placed   int                         // Machines that run or start; guarded by mu
	quiet    chan struct{}               // Closed when draining and no call is left; guarded by mu
}

// New returns a service that keeps machines, volumes and snapshots in dir. It
// starts nothing.
func New(ctx context.Context, cfg Config, dir string, parts Parts, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	meter, err := newMeter(reg)
	if err != nil {
		return nil, err
	}
	// Machines are started by calls, before Run and while it drains.
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{
		cfg: cfg, dir: dir, parts: parts, plans: planner{parts.Messages, parts.Files}, log: log, meter: meter,
		taken: make(chan struct{}), ctx: ctx, end: end, entries: map[message.ItemHash]*entry{}, quiet: make(chan struct{}),
	}
	part := func(atOnce int) int { return max(1, (atOnce+turnsWaiting)/ownerPart) }
	s.lookups = newTurns(lookupsAtOnce, turnsWaiting, 1) // Of a program, which starts once.
	s.fetches = newTurns(fetchesAtOnce, turnsWaiting, part(fetchesAtOnce))
	s.starts = newTurns(cfg.Starts, turnsWaiting, part(cfg.Starts))
	s.keep = newKeeper(s)
	return s, nil
}

// Run takes over the machines that an earlier process has left, makes
// snapshots, and at the end of ctx lets calls end and stops the machines that
// are not held.
func (s *Service) Run(ctx context.Context) error {
	if err := s.takeOver(ctx); err != nil {
		return err
	}
	close(s.taken)
	s.work.Go(func() { s.forgetLogs(ctx) })
	err := s.keep.run(ctx)
	s.drain()
	s.end()
	s.work.Wait()
	return err
}

// Call calls a program with a request, of which the path is what the program is
// to see, and returns its reply. The body of the reply must be closed. Errors
// are Faults, or that of ctx.
func (s *Service) Call(ctx context.Context, spec message.ItemHash, r *http.Request) (*http.Response, error) {
	if err := s.awaitTaken(ctx); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	resp, err := s.call(ctx, spec, r)
	if err != nil {
		s.leave()
		s.meter.calls.WithLabelValues(outcomeOf(err)).Inc()
		return nil, err
	}
	s.meter.calls.WithLabelValues("answered").Inc()
	resp.Body = &closer{readCloser: resp.Body, after: s.leave}
	return resp, nil
}

// awaitTaken waits until no machine of an earlier process can be mistaken for one
// that was just started.
func (s *Service) awaitTaken(ctx context.Context) error {
	select {
	case <-s.taken:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the machines of before: %w", context.Cause(ctx))
	case <-s.ctx.Done():
		return fault(http.StatusServiceUnavailable, textDraining, nil)
	}
}

// call is Call but for what drains.
func (s *Service) call(ctx context.Context, spec message.ItemHash, r *http.Request) (*http.Response, error) {
	begin := time.Now()
	for range startsMax {
		m, err := s.acquire(ctx, spec)
		if err != nil {
			return nil, err
		}
		s.meter.wait.WithLabelValues(m.how).Observe(time.Since(begin).Seconds())
		resp, err := m.serve(ctx, r)
		if err == nil {
			return resp, nil
		}
		m.release()
		if !errors.Is(err, errGone) {
			return nil, err
		}
		// The machine ended before it was called, and nothing of the request
		// was read.
	}
	return nil, fault(http.StatusBadGateway, textNoAnswer, nil)
}

// startsMax is how many machines one call tries that end before it reaches
// them.
const startsMax = 3

// closer does something after a body was closed, once.
type closer struct {
	readCloser
	after func()
	once  sync.Once
}

func (c *closer) Close() error {
	err := c.readCloser.Close()
	c.once.Do(c.after)
	return err
}

// enter counts a call in, unless the service drains.
func (s *Service) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return fault(http.StatusServiceUnavailable, textDraining, nil)
	}
	s.calls++
	return nil
}

func (s *Service) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.draining && s.calls == 0 {
		close(s.quiet)
	}
}

// drain refuses new calls, waits for those that run, and stops the machines
// that are not held.
func (s *Service) drain() {
	s.mu.Lock()
	s.draining = true
	if s.calls == 0 {
		close(s.quiet)
	}
	s.mu.Unlock()
	select {
	case <-s.quiet:
	case <-time.After(s.cfg.DrainTimeout):
		s.log.Warn("calls were cut off", "timeout", s.cfg.DrainTimeout)
	}
	var stops sync.WaitGroup
	for _, e := range s.all() {
		stops.Go(func() { e.drain() })
	}
	stops.Wait()
}

func (s *Service) all() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, e)
	}
	return out
}

// Hold starts a program that runs for good, and starts it again whenever it
// ends, until Stop. It returns when the program is up; one that does not start
// is not held, unless it was before.
func (s *Service) Hold(ctx context.Context, spec message.ItemHash) error {
	if err := s.awaitTaken(ctx); err != nil {
		return err
	}
	e, done := s.use(spec)
	defer done()
	was := e.setHeld(true)
	_, err := e.machine(ctx)
	if err != nil && !was {
		e.setHeld(false)
	}
	return err
}

// Stop stops the machine of a program, if there is one, and holds it no
// longer. The next call starts another.
func (s *Service) Stop(ctx context.Context, spec message.ItemHash) error {
	e, done := s.use(spec)
	defer done()
	e.setHeld(false)
	return e.stop(ctx)
}

// Forget stops a program and removes what is kept of it: volumes and
// snapshots.
func (s *Service) Forget(ctx context.Context, spec message.ItemHash) error {
	if err := s.Stop(ctx, spec); err != nil {
		return err
	}
	return errors.Join(s.keep.forget(spec), removeAll(s.programDir(spec)))
}

// Uses reports whether a machine that runs was made of the file: it must stay.
func (s *Service) Uses(path string) bool {
	for _, e := range s.all() {
		e.mu.Lock()
		m := e.current
		e.mu.Unlock()
		if m != nil && m.plan.uses(path) {
			return true
		}
	}
	return false
}

// Held lists the programs that are held, whether their machines run at this moment
// or are about to be started again.
func (s *Service) Held() []message.ItemHash {
	var out []message.ItemHash
	for _, e := range s.all() {
		if s.isHeld(e) {
			out = append(out, e.spec)
		}
	}
	return out
}

// Status is a machine of a program.
type Status struct {
	Spec      message.ItemHash
	Owner     string
	Held      bool
	Calls     int // That run.
	StartedAt time.Time
	Network   Network
	How       string // It was started: "boot", "snapshot" or "adopted".
	Resources message.Resources
}

// Machines lists the machines that run.
func (s *Service) Machines() []Status {
	var out []Status
	for _, e := range s.all() {
		if st, ok := e.status(); ok {
			out = append(out, st)
		}
	}
	return out
}

// programDir is where everything of a program is kept. Hashes of contents of
// IPFS are names of files too.
func (s *Service) programDir(spec message.ItemHash) string {
	return filepath.Join(s.dir, "programs", string(spec))
}
