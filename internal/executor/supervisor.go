package executor

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// passDelayMax bounds the pause after failed passes.
	passDelayMax = 30 * time.Second
	// passRest and adRest are how often rows that change make a pass and an ad. A
	// machine that starts changes its row some times, and a pass looks at the rows of
	// all machines: without a rest, many that start at the same time would cost the
	// square of their number.
	passRest = 100 * time.Millisecond
	adRest   = 250 * time.Millisecond
)

// Messages gets a message by its hash, from here or from another node. It has
// checked hash and signature. errs.NotFound and errs.Unavailable mean that it
// may be had later.
type Messages interface {
	Message(ctx context.Context, hash message.ItemHash) (*message.Envelope, error)
}

// Images has the files of images.
type Images interface {
	// Fetch gets a file by its hash, from here or from another node, and
	// returns where it is. It has checked the hash of one that has just come.
	// progress is told bytes; total is 0 while it is not known.
	Fetch(ctx context.Context, hash message.ItemHash, progress func(done, total int64)) (path string, err error)
	// Blob returns the sha256 under which the file is kept and its image unpacked, or the
	// hash as it is: that of a CID is known once the file has come.
	Blob(hash message.ItemHash) message.ItemHash
	// Drop deletes a file that has rotted, so that Fetch gets it anew.
	Drop(hash message.ItemHash) error
	// MakeRoom frees so many bytes of the disk by deleting files that are not
	// Needed, or returns errs.Exhausted.
	MakeRoom(ctx context.Context, sizeBytes int64) error
}

// Publisher spreads a capacity ad to the other nodes.
type Publisher interface {
	PublishCapacity(ctx context.Context, ad *wire.CapacityAd) error
}

// Chain tells whether the rows that mirror the chain are up to its head.
type Chain interface {
	Synced() bool
}

// Network is the part of *vmnet.Network that machines need.
type Network interface {
	Device(vmnet.Lease) (vmnet.Device, error)
	FreeSlot(taken func(int) bool) (int, error)
	FreeSubnet6(taken func(int) bool) (int, error)
	Admit(l vmnet.Lease, others []vmnet.Lease) error
	FreePort(protocol vmnet.Protocol, prefer int, taken func(int) bool) (int, error)
	Apply(ctx context.Context, leases []vmnet.Lease) error
	// Traffic gives errs.NotFound where nobody counts.
	Traffic(vmnet.Lease) (vmnet.Traffic, error)
	// Strays finds what the host's network has of none of the leases.
	Strays(leases []vmnet.Lease) ([]vmnet.Stray, error)
}

// CoreNodes says what core channel nodes, the servers of the message network, do.
// What none of them answers gives errs.Unavailable: that is doubt.
type CoreNodes interface {
	// Standing returns the status of a message, such as processed, removing or
	// forgotten; errs.NotFound when it is not known.
	Standing(ctx context.Context, hash message.ItemHash) (string, error)
	// Price returns what the machine of a message costs: credits or tokens per
	// second, or the tokens to hold.
	Price(ctx context.Context, hash message.ItemHash) (*big.Rat, error)
	// Balance returns what an address has: tokens held and credits.
	Balance(ctx context.Context, address string) (held, credits *big.Rat, err error)
	// Flow returns the tokens per second that flow from one to the other.
	Flow(ctx context.Context, chain message.Chain, from, to string) (*big.Rat, error)
	// Community returns the address that gets a part of streams, and since when;
	// "" if there is none.
	Community(ctx context.Context) (wallet string, since time.Time, err error)
	// Aggregate returns the value of a key of an address's aggregate, or
	// errs.NotFound.
	Aggregate(ctx context.Context, address, key string) (json.RawMessage, error)
}

// Identity is how the message network knows the node.
type Identity interface {
	// NodeHash returns the message that registered the node, and false as long as
	// it is not known.
	NodeHash() (message.ItemHash, bool)
}

// Self is the compute node that executes.
type Self struct {
	NodeID      uint32
	Key         *ecdsa.PrivateKey // Of the node's signer.
	Domain      job.Domain        // Of JobManager.
	PeerID      string
	Endpoint    string // Base URL of the node's HTTP interface, for its ads.
	PublicIP    string // Where forwarded ports are reached.
	Accelerator vmm.Accelerator
	Root        string // Directory of the machines' directories.
	ImageCache  string // Directory of unpacked images.
	Logs        string // Directory of the consoles of machines that are gone.
	Backups     string // Directory of the backups of machines; "" makes none.
}

// Parts are what the Supervisor works with.
type Parts struct {
	DB        *state.DB
	Driver    vmm.Driver
	Network   Network
	Messages  Messages
	Images    Images
	Publisher Publisher
	Chain     Chain
	Core      CoreNodes    // nil on a node that takes no machines from the message network.
	Exports   ExportSource // nil fetches by HTTP.
	Identity  Identity     // nil knows what the settings say.
	Devices   Devices      // nil on a host without GPUs.
}

// Supervisor runs machines. Use New.
type Supervisor struct {
	cfg    Config
	self   Self
	parts  Parts
	db     *state.DB
	table  *pricing.Table
	log    *slog.Logger
	totals state.Resources
	images *vmm.Cache
	// archive is nil on a node that makes no backups.
	archive *disk.Archive
	tasks   chan func(context.Context) // what Run runs beside its passes

	fetching   chan struct{}                    // slots
	starting   chan struct{}                    // slots
	allocating sync.Mutex                       // held over a scheduler's list
	network    sync.Mutex                       // held while ports and slots are chosen, and over Apply
	lent       map[message.ItemHash]vmnet.Lease // of programs; guarded by network
	exchanging sync.Mutex                       // held while disks are exchanged as an order says, until the order is done

	mu      sync.Mutex
	workers map[message.ItemHash]*worker // guarded by mu
	holds   map[*hold]bool               // of programs; guarded by mu
	// gpuHolds are GPUs that are kept for who asked, by their addresses; guarded by mu
	gpuHolds  map[string]gpuHold
	reserving sync.Mutex                            // Held while GPUs are chosen for who asks.
	cleaned   time.Time                             // of the last look for leftovers; guarded by mu
	metered   time.Time                             // guarded by mu
	ad        wire.CapacityAd                       // the last one; guarded by mu
	warmed    map[message.ItemHash]message.ItemHash // images of promised jobs that were asked for, "" while not known; guarded by mu
	warming   sync.WaitGroup
	claims    map[message.ItemHash]string  // what is done with a machine's disks; guarded by mu
	failed    map[message.ItemHash]error   // backups that failed last; guarded by mu
	exports   map[message.ItemHash]*Export // those that failed last; guarded by mu
	imports   map[message.ItemHash]*Import // guarded by mu
	serving   map[message.ItemHash]int     // files of exports that are open; guarded by mu
	moving    chan struct{}                // slots

	states   *prometheus.GaugeVec
	outcomes *prometheus.CounterVec
	stages   *prometheus.HistogramVec
}

// New returns a Supervisor. It makes its directories and looks at the host.
func New(cfg Config, self Self, parts Parts, reg prometheus.Registerer, log *slog.Logger) (*Supervisor, error) {
	for _, dir := range []string{self.Root, self.ImageCache, self.Logs} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory for machines: %w", err)
		}
	}
	totals, err := detect(cfg, self.Root)
	if err != nil {
		return nil, err
	}
	table, err := pricing.Default()
	if err != nil {
		return nil, fmt.Errorf("read price table: %w", err)
	}
	lent, err := readLent(self.Root)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		cfg: cfg, self: self, parts: parts, db: parts.DB, table: table, log: log, totals: totals,
		fetching: make(chan struct{}, cfg.Fetches), starting: make(chan struct{}, cfg.Boots),
		lent: lent, holds: map[*hold]bool{}, gpuHolds: map[string]gpuHold{},
		workers: map[message.ItemHash]*worker{}, warmed: map[message.ItemHash]message.ItemHash{},
		images: vmm.NewCache(self.ImageCache), tasks: make(chan func(context.Context)),
		claims: map[message.ItemHash]string{}, failed: map[message.ItemHash]error{},
		exports: map[message.ItemHash]*Export{}, imports: map[message.ItemHash]*Import{}, serving: map[message.ItemHash]int{},
		moving: make(chan struct{}, 1),
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "aleph_executor_vms", Help: "VMs of this node by state.",
		}, []string{"state"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_executor_outcomes_total",
			Help: "Accepted and declined jobs; machines started, adopted, died, paused, resumed, stopped, failed, removed.",
		}, []string{"outcome"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aleph_executor_stage_seconds", Help: "Time of each stage of a machine's start.",
			Buckets: prometheus.ExponentialBuckets(0.005, 3, 10),
		}, []string{"stage"}),
	}
	if s.parts.Exports == nil {
		s.parts.Exports = NewExports()
	}
	if err := s.openArchive(); err != nil {
		return nil, err
	}
	for _, c := range []prometheus.Collector{s.states, s.outcomes, s.stages, newMachineMetrics(s), newLeakMetrics(s)} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// Totals returns what this node offers.
func (s *Supervisor) Totals() state.Resources { return s.totals }

// Run runs machines until ctx ends, then lets go of them or stops them, as the
// settings say. It returns when nothing of it runs any more.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.applyNetwork(ctx); err != nil {
		// Forwarding is tried again with every machine; none is lost by it.
		s.log.Warn("network not applied", "err", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		wake := s.db.Wake("vms", "acceptances", "nodes", "leases", "meta")
		pace := loop.Pace{Interval: s.cfg.AdInterval, MaxDelay: passDelayMax, Rest: adRest}
		_ = loop.Spaced(ctx, s.log, pace, wake, s.advertise) // It ends with ctx, as the pass below.
	})
	wg.Go(func() { s.watchLeases(ctx) })
	wg.Go(func() { s.runTasks(ctx) })
	wake := s.db.Wake("jobs", "vms", "acceptances", "accounts", "leases")
	err := loop.Spaced(ctx, s.log, loop.Pace{Interval: s.cfg.Interval, MaxDelay: passDelayMax, Rest: passRest}, wake, s.pass)
	wg.Wait()
	s.wait()
	if s.cfg.OnExit == OnExitStop {
		err = errors.Join(err, s.freeNetwork(ctx))
	}
	return err
}

// wait returns when all workers have ended.
func (s *Supervisor) wait() {
	s.mu.Lock()
	workers := make([]*worker, 0, len(s.workers))
	for _, w := range s.workers {
		workers = append(workers, w)
	}
	s.mu.Unlock()
	for _, w := range workers {
		<-w.done
	}
	s.warming.Wait()
}

// view is what a pass knows.
type view struct {
	now      time.Time
	synced   bool // the rows were up to the chain's head before they were read
	head     state.Block
	jobs     map[message.ItemHash]*state.Job // of all live jobs of this node, and of all VMs
	live     []state.Job
	vms      []state.VM
	kept     []state.Acceptance
	leases   map[message.ItemHash]*state.Lease
	params   *state.Params            // nil for none
	accounts map[payer]*state.Account // of the jobs' payers; nil for none

	leaseGrace, leaseKeep uint64 // seconds
}

// pass compares what is wanted with what is there.
func (s *Supervisor) pass(ctx context.Context) error {
	v, err := s.look(ctx)
	if err != nil {
		return fmt.Errorf("look at jobs and machines: %w", err)
	}
	var failed error
	for _, step := range []func(context.Context, *view) error{s.adopt, s.reconcile, s.tendMoves, s.warm, s.forgetAcceptances, s.meter, s.clean} {
		failed = errors.Join(failed, step(ctx, v))
	}
	return failed
}

// look reads one consistent picture. Whether it is up to date is asked first:
// asked after, rows of yesterday would pass for evidence when the mirror has
// just caught up.
func (s *Supervisor) look(ctx context.Context) (*view, error) {
	v := &view{
		now: time.Now(), synced: s.parts.Chain.Synced(),
		jobs: map[message.ItemHash]*state.Job{}, accounts: map[payer]*state.Account{}, leases: map[message.ItemHash]*state.Lease{},
		leaseGrace: uint64(s.cfg.LeaseGrace.Seconds()), leaseKeep: uint64(s.cfg.LeaseKeep.Seconds()),
	}
	err := s.db.View(ctx, func(r *state.View) error {
		head, err := r.Head(ctx)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		if head != nil {
			v.head = *head
		}
		if v.live, err = r.JobsOfNode(ctx, s.self.NodeID, state.JobAssigned, state.JobRunning); err != nil {
			return err
		}
		for i := range v.live {
			v.jobs[v.live[i].Spec] = &v.live[i]
		}
		if v.kept, err = r.Acceptances(ctx); err != nil {
			return err
		}
		leases, err := r.Leases(ctx)
		if err != nil {
			return err
		}
		for i := range leases {
			v.leases[leases[i].Spec] = &leases[i]
		}
		if v.vms, err = r.VMs(ctx); err != nil {
			return err
		}
		for _, vm := range v.vms {
			if v.jobs[vm.Spec] != nil {
				continue
			}
			j, err := r.Job(ctx, vm.Spec)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			v.jobs[vm.Spec] = j
		}
		return v.lookAtMoney(ctx, r)
	})
	return v, err
}

// adopt makes a row for every job that the chain gave to this node, and for every
// open lease, that has none.
func (s *Supervisor) adopt(ctx context.Context, v *view) error {
	have := map[message.ItemHash]bool{}
	for _, vm := range v.vms {
		have[vm.Spec] = true
	}
	for _, j := range v.live {
		if have[j.Spec] {
			continue
		}
		vm := state.VM{
			Spec: j.Spec, Attempt: j.Attempt, State: state.VMWanted, Detail: "the chain gave the job to this node",
			Driver: s.parts.Driver.Name(), Dir: s.dir(j.Spec), TimingsMs: map[string]int64{}, CreatedAt: v.now.UTC(),
		}
		for _, a := range v.kept {
			if a.Spec == j.Spec && a.Attempt == j.Attempt {
				vm.Resources, vm.Until, vm.TimingsMs["accept"] = a.Resources, a.Until, a.TookMs
			}
		}
		if err := s.takeOn(ctx, v, vm); err != nil {
			return err
		}
		have[j.Spec] = true
	}
	for spec, l := range v.leases {
		if have[spec] || !l.Open() {
			continue
		}
		err := s.takeOn(ctx, v, state.VM{
			Spec: spec, State: state.VMWanted, Detail: "the message network gave the machine to this node: it is " + string(l.Kind), Resources: l.Resources,
			Driver: s.parts.Driver.Name(), Dir: s.dir(spec), TimingsMs: map[string]int64{}, CreatedAt: l.TakenAt,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeOn writes the first row of a VM.
func (s *Supervisor) takeOn(ctx context.Context, v *view, vm state.VM) error {
	if err := s.db.Update(ctx, func(tx *state.Tx) error { return putVM(ctx, tx, &vm) }); err != nil {
		return fmt.Errorf("take on machine %s: %w", vm.Spec, err)
	}
	s.log.Info("took on machine", "job_id", vm.Spec, "detail", vm.Detail)
	v.vms = append(v.vms, vm)
	return nil
}

// reconcile does with each VM what its job says.
func (s *Supervisor) reconcile(ctx context.Context, v *view) error {
	var failed error
	counts := map[state.VMState]int{}
	for _, vm := range v.vms {
		counts[vm.State]++
		if err := s.reconcileOne(ctx, v, vm); err != nil {
			failed = errors.Join(failed, fmt.Errorf("VM %s: %w", vm.Spec, err))
		}
	}
	s.states.Reset()
	for st, n := range counts {
		s.states.WithLabelValues(string(st)).Set(float64(n))
	}
	return failed
}

func (s *Supervisor) reconcileOne(ctx context.Context, v *view, vm state.VM) error {
	o := decide(v, vm, s.self.NodeID)
	gone := vm.State == state.VMStopped || vm.State == state.VMFailed
	switch {
	case vm.State == state.VMStopping && o.wish != wishEnd:
		// What has begun is done first; what is wanted since then comes after it.
		s.work(ctx, vm.Spec, order{wish: wishEnd, reason: vm.StopReason})
		return nil
	case o.wish == wishKeep && vm.State == state.VMFailed && v.jobs[vm.Spec] == nil:
		return nil // It is tried again when somebody asks for it.
	case o.wish == wishKeep && vm.State == state.VMFailed:
		return s.insist(ctx, v, vm) // Its job ends when the chain has the node's word.
	case o.wish == wishKeep && vm.State == state.VMStopped && v.jobs[vm.Spec] == nil && !v.leased(vm.Spec):
		return nil // Nothing is started on doubt either.
	case o.wish == wishKeep:
		s.work(ctx, vm.Spec, o)
		return errors.Join(s.watchMoney(ctx, v, vm), s.tellRunning(ctx, v, vm))
	case o.wish == wishPause && vm.State == state.VMPaused && !vm.StoppedAt.IsZero():
		return s.watchMoney(ctx, v, vm)
	case o.wish != wishEnd && gone, o.wish == wishHalt && vm.State == state.VMHalted && !vm.StoppedAt.IsZero():
		return nil
	case o.wish != wishEnd || !gone:
		s.work(ctx, vm.Spec, o)
		return nil
	case v.now.Sub(vm.StoppedAt) < s.retention(v.leases[vm.Spec]):
		return nil
	default:
		return s.remove(ctx, vm)
	}
}

// leased reports whether a lease wants the machine.
func (v *view) leased(spec message.ItemHash) bool {
	l := v.leases[spec]
	return l != nil && l.Open()
}

// retention is how long what an ended machine leaves is kept.
func (s *Supervisor) retention(l *state.Lease) time.Duration {
	switch {
	case l == nil:
		return s.cfg.Retention
	case l.End != nil && (l.End.Cause == state.EndOwner || l.End.Cause == state.EndMoved):
		return 0 // Its owner had it erased, or another node has it.
	default:
		return s.cfg.LeaseRetention
	}
}

// insistAfter is how long, times the number of tries, the node waits before it
// tells the chain again that it cannot run a job.
const insistAfter = time.Minute

// insist tells the chain again that a VM has failed, when the word before did
// not get through.
func (s *Supervisor) insist(ctx context.Context, v *view, vm state.VM) error {
	base := nodeStopBase(vm.Spec)
	return s.db.Update(ctx, func(tx *state.Tx) error {
		told, err := tries(ctx, tx, base)
		if err != nil {
			return err
		}
		if len(told) == 0 {
			return errs.New(errs.NotFound, "no intent %s", base)
		}
		last := told[len(told)-1]
		if !lost(last) || v.now.Sub(vm.StoppedAt) < time.Duration(len(told))*insistAfter {
			return nil
		}
		_, err = tx.Enqueue(ctx, state.Intent{
			Key: tryKey(base, len(told)), Contract: last.Contract, Method: last.Method, Args: last.Args, Reason: last.Reason,
		})
		return err
	})
}

// work gives the order to the VM's worker, a new one if there is none at work.
func (s *Supervisor) work(ctx context.Context, spec message.ItemHash, o order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[spec]
	if w != nil && !w.ended() {
		w.obey(o)
		return
	}
	w = newWorker(s, spec)
	w.obey(o)
	s.workers[spec] = w
	go w.run(ctx)
}

// remove deletes what is left of an ended VM: the directory first, so that a
// crash leaves the row to try again.
func (s *Supervisor) remove(ctx context.Context, vm state.VM) error {
	s.mu.Lock()
	w := s.workers[vm.Spec]
	busy := w != nil && !w.ended()
	if !busy {
		delete(s.workers, vm.Spec)
		delete(s.exports, vm.Spec)
		delete(s.imports, vm.Spec)
	}
	s.mu.Unlock()
	if busy {
		return nil
	}
	if ok, err := s.markRemoving(ctx, vm.Spec); !ok || err != nil {
		return err
	}
	if err := s.keepLogs(vm); err != nil {
		return err
	}
	if err := s.forgetBackups(vm.Spec); err != nil {
		return err
	}
	if err := vmm.Remove(vm.Dir); err != nil {
		if errors.Is(err, errs.Conflict) {
			return s.evict(ctx, vm.Dir)
		}
		return err
	}
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		// The promise goes with the VM, or it would be counted on its own.
		return errors.Join(tx.RemoveVM(ctx, vm.Spec), tx.RemoveAcceptance(ctx, vm.Spec, vm.Attempt))
	})
	if err != nil {
		return err
	}
	s.outcomes.WithLabelValues("removed").Inc()
	s.log.Info("removed", "job_id", vm.Spec)
	return nil
}

// markRemoving writes down that what is left of an ended VM is about to be deleted,
// unless it is asked for again by now.
func (s *Supervisor) markRemoving(ctx context.Context, spec message.ItemHash) (ok bool, err error) {
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil {
			return err
		}
		l, err := tx.Lease(ctx, spec)
		if ignoreNotFound(err) != nil {
			return err
		}
		if !mayRemove(*row, l) {
			return nil
		}
		ok, row.Removing = true, true
		return tx.PutVM(ctx, *row)
	})
	return ok, ignoreNotFound(err)
}

// mayRemove reports whether what is left of a VM may be deleted; l is nil for none.
// What is exported may be the only copy, until another node was given it or the
// move is called off.
func mayRemove(vm state.VM, l *state.Lease) bool {
	if !isOver(vm) || l != nil && l.Open() {
		return false
	}
	moved := l != nil && l.End.Cause == state.EndMoved
	return vm.Move == nil || vm.Move.Given() || moved
}

// forgetAcceptances frees what was kept for jobs that cannot come any more.
// An acceptance stays to its end even when the chain has the job, because a
// reorganisation may take the job back and bring it again.
func (s *Supervisor) forgetAcceptances(ctx context.Context, v *view) error {
	for _, a := range v.kept {
		if v.head.Time <= a.Until {
			continue
		}
		err := s.db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveAcceptance(ctx, a.Spec, a.Attempt) })
		if err != nil {
			return fmt.Errorf("forget acceptance of %s: %w", a.Spec, err)
		}
	}
	return nil
}
