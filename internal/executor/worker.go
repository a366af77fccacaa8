package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// haltRetry is the pause after a machine could not be stopped.
	haltRetry = 2 * time.Second
	// haltMargin is what a kill may take beyond the guest's grace.
	haltMargin = 30 * time.Second

	detailRunning = "runs"
)

// errOrder is the cause when a worker was told to stop its machine.
var errOrder = errors.New("the machine is to stop")

// errFailed is the cause when a worker has nothing to do: the VM has failed for
// good. A pass that looked just before gives it a new worker.
var errFailed = errors.New("the VM has failed for good")

// errNotNow is the cause when a worker has nothing to do: the VM is not to start,
// by an order that came after the pass had looked.
var errNotNow = errors.New("the VM is not to start now")

// worker drives one VM. It is the only one that writes the VM's row while it
// runs, besides the notes of watchMoney.
type worker struct {
	s    *Supervisor
	spec message.ItemHash
	told chan struct{} // closed by obey
	done chan struct{} // closed when run has returned

	mu      sync.Mutex
	order   order         // what it was told; guarded by mu
	machine vmm.Machine   // nil while none is known; guarded by mu
	cpu     time.Duration // what of the machine's time has been metered; negative = unknown; guarded by mu
}

// doubt is an error that leaves open whether the machine runs. It is no reason
// to end its job.
type doubt struct{ error }

func (d doubt) Unwrap() error { return d.error }

func newWorker(s *Supervisor, spec message.ItemHash) *worker {
	return &worker{s: s, spec: spec, told: make(chan struct{}), done: make(chan struct{})}
}

// obey tells the worker to stop the machine, for good or until it is paid
// again. Only the first such order counts: when it is done the worker ends, and
// the next pass makes another.
func (w *worker) obey(o order) {
	if o.wish == wishKeep {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.told:
	default:
		w.order = o
		close(w.told)
	}
}

func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func (w *worker) current() vmm.Machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine
}

func (w *worker) set(m vmm.Machine, adopted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.machine, w.cpu = m, 0
	if adopted {
		w.cpu = -1 // What it used before may have been metered already.
	}
}

// run drives the VM until it was told to stop it and has, it has failed for
// good, or the node exits.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	alive, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select {
	case <-w.told:
		cancel(errOrder) // Nothing is begun for a machine that is to stop.
	default:
	}
	go func() {
		select {
		case <-w.told:
			cancel(errOrder)
		case <-alive.Done():
		}
	}()
	log := w.s.log.With("job_id", w.spec)
	for tries := 0; ; tries++ {
		ran, err := false, context.Cause(alive)
		if err == nil {
			ran, err = w.keep(alive)
		}
		if ran {
			tries = 0
		}
		switch {
		case errors.Is(context.Cause(alive), errOrder):
			w.stop(ctx)
			return
		case ctx.Err() != nil:
			w.leave(ctx)
			return
		case errors.Is(err, errFailed), errors.Is(err, errNotNow):
			return
		}
		over, pause, ferr := w.failed(ctx, err, tries)
		if ferr != nil {
			// Without its row nothing can be decided; the machine, if there is
			// one, is adopted by the next try.
			log.Error("writing VM failed", "err", ferr)
			pause = w.s.cfg.BackoffMax
		}
		if over {
			return
		}
		log.Warn("machine does not run", "err", err, "retry_in", pause)
		sleep(alive, pause)
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// keep brings the machine up, or takes it over, and returns when it has ended
// or could not be brought up, never without an error. It reports whether the
// guest was up.
func (w *worker) keep(ctx context.Context) (ran bool, err error) {
	vm, err := w.begin(ctx)
	if err != nil {
		return false, err
	}
	m, err := w.s.parts.Driver.Adopt(ctx, vm.Dir)
	adopted := err == nil
	switch {
	case adopted:
		w.s.outcomes.WithLabelValues("adopted").Inc()
	case errors.Is(err, errs.NotFound):
		if m, err = w.bringUp(ctx, *vm); err != nil {
			return false, err
		}
	default:
		return false, doubt{fmt.Errorf("look for a running machine: %w", err)}
	}
	w.set(m, adopted)
	defer w.set(nil, false)
	if err := w.settle(ctx, m); err != nil {
		return false, err
	}
	stable := time.AfterFunc(w.s.cfg.StableAfter, func() { w.forgive(ctx) })
	defer stable.Stop()
	select {
	case <-m.Done():
		w.s.outcomes.WithLabelValues("died").Inc()
		return true, errs.New(errs.Unavailable, "the machine ended: %s", m.Exit().Reason)
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// begin returns the row of a machine that is to run, after putting right what
// says that it does not.
func (w *worker) begin(ctx context.Context) (*state.VM, error) {
	s := w.s
	vm, err := s.db.VM(ctx, w.spec)
	if err != nil {
		return nil, err
	}
	switch {
	case vm.State == state.VMFailed:
		return nil, errFailed
	case vm.Move != nil:
		return nil, errNotNow
	}
	// A crash has left it half down: its guest may be shutting down.
	if (vm.State == state.VMPaused || vm.State == state.VMHalted) && vm.StoppedAt.IsZero() {
		if err := s.down(ctx, vm.Dir); err != nil {
			return nil, doubt{err}
		}
	}
	down := vm.State == state.VMPaused || vm.State == state.VMHalted || vm.State == state.VMStopped
	if down && vm.Halt != nil {
		s.exchanging.Lock()
		defer s.exchanging.Unlock()
		if vm, err = s.db.VM(ctx, w.spec); err != nil { // The order may have been taken back.
			return nil, err
		}
		// Before the order is forgotten, so that a crash repeats it.
		if err := s.exchange(*vm); err != nil {
			return nil, err
		}
	}
	obeyed, resumed := vm.Halt, false
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, w.spec)
		if err != nil {
			return err
		}
		vm, resumed = row, row.State == state.VMPaused
		if row.Move != nil || down && row.Halt != nil && !row.Halt.Again {
			return errNotNow
		}
		if down && row.Halt.Same(obeyed) { // Else another one came meanwhile, and is obeyed next.
			row.Halt = nil
		}
		switch {
		case row.State == state.VMHalted:
			row.Detail = "starts again"
		case resumed:
			head, err := tx.Head(ctx)
			if err != nil {
				return err
			}
			row.Detail, row.DryAt, row.PausedAt, row.ResumedAt = "is paid again and starts", 0, 0, head.Time
		case row.State == state.VMStopped: // The chain brought the job back.
			row.Detail, row.StopReason, row.Removing = "starts again", "", false
		default:
			return nil
		}
		row.State, row.StoppedAt = state.VMWanted, time.Time{}
		return putVM(ctx, tx, row)
	})
	if err != nil {
		return nil, fmt.Errorf("begin VM %s: %w", w.spec, err)
	}
	if resumed {
		s.outcomes.WithLabelValues("resumed").Inc()
		s.log.Info("resumed", "job_id", w.spec)
	}
	return vm, nil
}

// forgive forgets the failures of a machine that has run long enough.
func (w *worker) forgive(ctx context.Context) {
	_, err := w.s.edit(ctx, w.spec, func(row *state.VM) { row.Failures = 0 })
	if err != nil && ctx.Err() == nil {
		w.s.log.Warn("forgetting failures failed", "job_id", w.spec, "err", err)
	}
}

// settle waits until the guest is ready and says so, to the row and, the first
// time, to the chain.
func (w *worker) settle(ctx context.Context, m vmm.Machine) error {
	started := time.Now()
	vm, err := w.s.edit(ctx, w.spec, func(row *state.VM) {
		row.PID, row.Accelerator = m.PID(), string(m.Accelerator())
		if row.State != state.VMRunning {
			row.State, row.Detail = state.VMBooting, "the guest boots"
		}
	})
	if err != nil {
		return err
	}
	if vm.State != state.VMRunning {
		timed, cancel := context.WithTimeout(ctx, w.s.cfg.ReadyTimeout)
		defer cancel()
		if err := m.Ready(timed); err != nil {
			return w.notReady(ctx, m, err)
		}
		w.s.stages.WithLabelValues("boot").Observe(time.Since(started).Seconds())
	}
	return w.confirm(ctx, started, vm.State == state.VMRunning)
}

// notReady kills a machine whose guest did not come up.
func (w *worker) notReady(ctx context.Context, m vmm.Machine, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errs.New(errs.Unavailable, "the guest was not ready after %v", w.s.cfg.ReadyTimeout)
	}
	killing, cancel := context.WithTimeout(ctx, haltMargin)
	defer cancel()
	if kerr := m.Kill(killing); kerr != nil {
		return errors.Join(err, fmt.Errorf("kill machine: %w", kerr))
	}
	return err
}

// confirm commits that the machine runs, together with the transaction that
// starts its billing.
func (w *worker) confirm(ctx context.Context, bootAt time.Time, adopted bool) error {
	err := w.s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, w.spec)
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		if !adopted {
			row.State, row.Detail, row.AwaitsOwner = state.VMRunning, detailRunning, false
			if _, ok := w.current().(vmm.Guarded); ok {
				row.Detail = detailMeasured
			}
			if row.RunningAt.IsZero() {
				row.RunningAt = now
				timing(row, "boot", time.Since(bootAt))
				timing(row, "total", now.Sub(row.CreatedAt))
			}
		}
		row.RetryAt = time.Time{}
		if err := putVM(ctx, tx, row); err != nil {
			return err
		}
		j, err := tx.Job(ctx, w.spec)
		if err != nil || j.Status != state.JobAssigned {
			return ignoreNotFound(err) // Without a row the job may be billed already, or come back assigned.
		}
		intent, err := confirmRunning(ctx, tx, *row, *j)
		if err != nil {
			return err
		}
		_, err = tx.Enqueue(ctx, intent)
		return err
	})
	if err != nil {
		return fmt.Errorf("commit that machine runs: %w", err)
	}
	w.s.log.Info("machine runs", "job_id", w.spec, "adopted", adopted)
	return nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// confirmRunning is the transaction that starts billing. Its key is the same
// however often the machine starts.
func confirmRunning(ctx context.Context, tx *state.Tx, vm state.VM, j state.Job) (state.Intent, error) {
	args, err := json.Marshal([]any{[]string{"0x" + string(vm.Spec)}})
	if err != nil {
		return state.Intent{}, fmt.Errorf("encode arguments of confirmRunning: %w", err)
	}
	i := state.Intent{
		Key:      runningBase(vm.Spec, vm.Attempt),
		Contract: "JobManager", Method: "confirmRunning", Args: args, Reason: "the guest is ready",
	}
	params, err := tx.Params(ctx)
	switch {
	case err == nil:
		i.Deadline = j.AssignedAt + params.StartSeconds
	case !errors.Is(err, errs.NotFound):
		return state.Intent{}, err
	}
	return i, nil
}

// failed writes down that the machine does not run. It returns over when it
// will not be tried again, and else how long to wait.
func (w *worker) failed(ctx context.Context, cause error, tries int) (over bool, pause time.Duration, err error) {
	s := w.s
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, w.spec)
		if errors.Is(err, errs.NotFound) {
			over = true
			return nil
		}
		if err != nil {
			return err
		}
		if errors.As(cause, new(doubt)) {
			pause = backoff(s.cfg, tries)
			row.Detail = cause.Error()
			return putVM(ctx, tx, row)
		}
		row.PID = 0
		// A file that cannot be had yet is no failure of the machine: the
		// chain's start window bounds the wait. Once billed, it is.
		if row.State != state.VMFetching || !row.RunningAt.IsZero() {
			row.Failures++
		}
		final := errors.Is(cause, errs.Invalid)
		if final || row.Failures >= s.cfg.FailuresMax {
			over = true
			return s.giveUp(ctx, tx, row, cause, final)
		}
		pause = backoff(s.cfg, max(row.Failures-1, tries))
		row.RetryAt = time.Now().Add(pause).UTC()
		row.Detail = fmt.Sprintf("%s; tried again at %s", cause, row.RetryAt.Format(time.TimeOnly))
		if row.State == state.VMRunning {
			row.State = state.VMBooting
		}
		return putVM(ctx, tx, row)
	})
	if err != nil || !over {
		return false, pause, err
	}
	s.outcomes.WithLabelValues("failed").Inc()
	s.log.Error("gave up", "job_id", w.spec, "err", cause)
	return true, 0, s.applyNetwork(ctx)
}

func backoff(c Config, n int) time.Duration {
	const doublings = 20 // Far above any BackoffMax, far below an overflow.
	return min(c.BackoffMin<<min(n, doublings), c.BackoffMax)
}

// giveUp fails the VM and tells the chain, so that billing ends.
func (s *Supervisor) giveUp(ctx context.Context, tx *state.Tx, row *state.VM, cause error, final bool) error {
	row.State, row.StoppedAt = state.VMFailed, time.Now().UTC()
	row.Detail = fmt.Sprintf("failed %d times in a row, at last: %s", row.Failures, cause)
	reason := job.NodeCannotStart
	switch {
	case final:
		row.Detail, reason = cause.Error(), job.NodeRefused
	case !row.RunningAt.IsZero():
		reason = job.NodeCrashed
	}
	row.StopReason = row.Detail
	if err := putVM(ctx, tx, row); err != nil {
		return err
	}
	if _, err := tx.Job(ctx, row.Spec); errors.Is(err, errs.NotFound) {
		if _, err := tx.Lease(ctx, row.Spec); err == nil {
			return nil // No chain bills it.
		}
	}
	args, err := json.Marshal([]any{"0x" + string(row.Spec), fmt.Sprint(int(reason))})
	if err != nil {
		return fmt.Errorf("encode arguments of nodeStop: %w", err)
	}
	_, err = tx.Enqueue(ctx, state.Intent{
		Key: nodeStopBase(row.Spec), Contract: "JobManager", Method: "nodeStop", Args: args, Reason: row.Detail,
	})
	return err
}

// stop stops the machine as the worker was told, again and again until it is
// gone. Only the node's exit interrupts it.
func (w *worker) stop(ctx context.Context) {
	w.mu.Lock()
	o := w.order
	w.mu.Unlock()
	once, outcome := w.endOnce, "stopped"
	switch o.wish {
	case wishPause:
		once, outcome = w.pauseOnce, "paused"
	case wishHalt:
		once, outcome = w.haltOnce, "halted"
	case wishEnd, wishKeep:
	}
	for {
		err := once(ctx, o)
		if err == nil {
			w.s.outcomes.WithLabelValues(outcome).Inc()
			w.s.log.Info("machine stopped", "job_id", w.spec, "outcome", outcome, "reason", o.reason)
			return
		}
		if ctx.Err() != nil {
			w.lastStop(ctx, o, once)
			return
		}
		w.s.log.Warn("stopping failed", "job_id", w.spec, "err", err, "retry_in", haltRetry)
		sleep(ctx, haltRetry)
	}
}

// lastStop is for a node that exits while a machine stops: the row says so, and
// the next start goes on, unless the machine must not outlive the node.
func (w *worker) lastStop(ctx context.Context, o order, once func(context.Context, order) error) {
	if w.s.cfg.OnExit != OnExitStop {
		return
	}
	ctx, cancel := w.s.afterlife(ctx)
	defer cancel()
	if err := once(ctx, o); err != nil {
		w.s.log.Error("stopping at exit failed", "job_id", w.spec, "err", err)
	}
}

// afterlife is the context of what must be done although ctx has ended.
func (s *Supervisor) afterlife(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopGrace+2*haltMargin)
}

// endOnce stops the machine for good and frees what it had on the host.
func (w *worker) endOnce(ctx context.Context, o order) error {
	vm, err := w.s.edit(ctx, w.spec, func(row *state.VM) {
		if row.State != state.VMStopped { // Else it is tried again, since the network stayed.
			row.State, row.Detail, row.StopReason, row.RetryAt = state.VMStopping, o.reason, o.reason, time.Time{}
		}
	})
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.s.down(ctx, vm.Dir); err != nil {
		return err
	}
	_, err = w.s.edit(ctx, w.spec, func(row *state.VM) {
		row.State, row.PID, row.StoppedAt = state.VMStopped, 0, time.Now().UTC()
	})
	if err != nil {
		return err
	}
	return w.s.applyNetwork(ctx)
}

// haltOnce shuts the machine down and keeps its row, disk and ports. The row says
// so before.
func (w *worker) haltOnce(ctx context.Context, o order) error {
	vm, err := w.s.edit(ctx, w.spec, func(row *state.VM) {
		if row.State != state.VMHalted {
			row.State, row.Detail, row.StoppedAt, row.RetryAt = state.VMHalted, o.reason, time.Time{}, time.Time{}
		}
	})
	return w.endDown(ctx, vm, err)
}

// pauseOnce shuts the machine down and keeps its row, disk, ports and
// resources. The row says so before, and since when nothing is metered.
func (w *worker) pauseOnce(ctx context.Context, o order) error {
	vm, err := w.s.markPaused(ctx, w.spec, o)
	return w.endDown(ctx, vm, err)
}

// endDown shuts down the machine whose row has just been written, and says so.
func (w *worker) endDown(ctx context.Context, vm *state.VM, err error) error {
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.s.down(ctx, vm.Dir); err != nil {
		return err
	}
	_, err = w.s.edit(ctx, w.spec, func(row *state.VM) { row.PID, row.StoppedAt = 0, time.Now().UTC() })
	if err != nil {
		return err
	}
	return w.s.applyNetwork(ctx)
}

// markPaused commits that the machine is paused, with its usage until now.
func (s *Supervisor) markPaused(ctx context.Context, spec message.ItemHash, o order) (*state.VM, error) {
	var out *state.VM
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil {
			return err
		}
		out = row
		if row.State == state.VMPaused {
			return nil // A crash, or a guest that does not go, interrupted it.
		}
		head, err := tx.Head(ctx)
		if err != nil {
			return err
		}
		j, err := tx.Job(ctx, spec)
		if err == nil {
			err = s.record(ctx, tx, *j, head.Time, vmm.Stats{}, 0)
		}
		if ignoreNotFound(err) != nil {
			return err
		}
		row.State, row.PausedAt, row.StoppedAt, row.RetryAt = state.VMPaused, head.Time, time.Time{}, time.Time{}
		if row.DryAt, row.Detail = o.dues.dryAt, o.reason; o.reason == "" {
			row.Detail = o.dues.paused(head.Time)
		}
		return putVM(ctx, tx, row)
	})
	if err != nil {
		return nil, fmt.Errorf("pause VM %s: %w", spec, err)
	}
	return out, nil
}

// down stops the machine that runs in dir, if one does.
func (s *Supervisor) down(ctx context.Context, dir string) error {
	m, err := s.parts.Driver.Adopt(ctx, dir)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a running machine: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, s.cfg.StopGrace+haltMargin)
	defer cancel()
	if err := m.Stop(timed, s.cfg.StopGrace); err != nil {
		return fmt.Errorf("stop machine: %w", err)
	}
	return nil
}

// leave ends the worker because the node exits: the machine runs on, or is
// stopped in such a way that the next start boots it again.
func (w *worker) leave(ctx context.Context) {
	if w.s.cfg.OnExit != OnExitStop {
		return
	}
	ctx, cancel := w.s.afterlife(ctx)
	defer cancel()
	vm, err := w.s.db.VM(ctx, w.spec)
	if err == nil {
		err = w.s.down(ctx, vm.Dir)
	}
	if err == nil {
		_, err = w.s.edit(ctx, w.spec, func(row *state.VM) {
			row.State, row.Detail, row.PID = state.VMWanted, "the node was shut down; the machine starts again with it", 0
		})
	}
	if err != nil {
		w.s.log.Error("stopping at exit failed", "job_id", w.spec, "err", err)
	}
}

// edit changes the VM's row in one transaction and returns it.
func (s *Supervisor) edit(ctx context.Context, spec message.ItemHash, change func(*state.VM)) (*state.VM, error) {
	var out *state.VM
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil {
			return err
		}
		change(row)
		out = row
		return putVM(ctx, tx, row)
	})
	if err != nil {
		return nil, fmt.Errorf("change VM %s: %w", spec, err)
	}
	return out, nil
}

func timing(row *state.VM, stage string, took time.Duration) {
	if row.TimingsMs == nil {
		row.TimingsMs = map[string]int64{}
	}
	row.TimingsMs[stage] = took.Milliseconds()
}
