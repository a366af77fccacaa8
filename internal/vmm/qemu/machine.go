package qemu

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

const (
	// connectPoll is how often a socket that is not there yet is tried.
	connectPoll = 2 * time.Millisecond
	// trimEvery is how often the console is looked at: a guest writes some
	// MB/s at most, so the ring passes its bound by little.
	trimEvery = 2 * time.Second
	// askMax bounds the questions of a Stop: a guest or a QEMU that hangs
	// must not take more of its grace.
	askMax = 2 * time.Second
	// quitMax is how long QEMU has to flush its disk and go.
	quitMax = 5 * time.Second
	// drainMax bounds the wait for the last words of a process that is gone.
	drainMax = time.Second
)

// machine is a process of QEMU.
type machine struct {
	d    *Driver
	dir  string
	rec  record
	proc *process.Process

	qmp     *qmp
	qmpDone chan struct{} // Closed when the QMP connection has ended.
	agent   *agent.Client // nil for an image without agent.
	streams *streams      // nil unless it is a function.
	closers []func() error

	backups chan struct{} // Holds one value while somebody changes the backup.

	done chan struct{}

	mu       sync.Mutex
	asked    bool   // guarded by mu
	shutdown string // Why QEMU says it shuts down; guarded by mu
	exit     vmm.Exit
}

// attach connects to the process that runs in dir and begins to watch it.
func (d *Driver) attach(ctx context.Context, dir string, p *process.Process) (_ *machine, err error) {
	m := &machine{
		d: d, dir: dir, proc: p, qmpDone: make(chan struct{}), backups: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if m.rec, err = readRecord(dir); err != nil {
		return nil, err
	}
	conn, err := m.connect(ctx, qmpSocket)
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU: %w", err)
	}
	m.qmp = newQMP(conn, m.onEvent)
	go func() {
		defer close(m.qmpDone)
		_ = m.qmp.run() // It ends with the connection; do tells whoever asks.
	}()
	defer func() {
		if err != nil {
			m.release()
		}
	}()
	m.closers = append(m.closers, conn.Close)
	if err := m.identify(ctx); err != nil {
		return nil, err
	}
	if m.rec.Agent {
		if err := m.connectAgent(ctx); err != nil {
			return nil, fmt.Errorf("connect to the guest's agent: %w", err)
		}
	}
	if m.rec.Function {
		m.streams = newStreams(ctx, func(ctx context.Context) (net.Conn, error) { return m.connect(ctx, streamSocket) })
		m.closers = append(m.closers, m.streams.close)
	}
	d.keep(m)
	m.backups <- struct{}{}
	d.machines.Go(func() {
		defer m.leaveBackup()
		m.recoverBackup(context.WithoutCancel(ctx))
	})
	d.machines.Go(m.watch)
	return m, nil
}

// public is the machine with the abilities that it has.
func (m *machine) public() vmm.Machine {
	switch {
	case m.streams != nil:
		return functionMachine{m, m.streams}
	case m.rec.Guarded:
		return guardedMachine{m, m.qmp}
	}
	return m
}

// identify begins a QMP session and sees to it that it is with our machine.
func (m *machine) identify(ctx context.Context) error {
	if err := m.qmp.negotiate(ctx); err != nil {
		return err
	}
	var name struct {
		Name string `json:"name"`
	}
	if err := m.qmp.do(ctx, "query-name", nil, &name); err != nil {
		return err
	}
	if name.Name != m.rec.ID {
		return errs.New(errs.Conflict, "the process in %s is machine %q, not %s", m.dir, name.Name, m.rec.ID)
	}
	return nil
}

func (m *machine) connectAgent(ctx context.Context) error {
	conn, err := m.connect(ctx, agentSocket)
	if err != nil {
		return err
	}
	m.agent = agent.NewClient(conn, rand.Text())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.agent.Run() // As for QMP.
	}()
	m.closers = append(m.closers, func() error {
		err := conn.Close()
		<-ended
		return err
	})
	return nil
}

// connect connects to a socket of the machine's directory as soon as it is
// there. The path goes through the open directory, since a socket's address
// has 108 bytes only.
func (m *machine) connect(ctx context.Context, name string) (net.Conn, error) {
	dir, err := os.Open(m.dir)
	if err != nil {
		return nil, fmt.Errorf("open machine directory: %w", err)
	}
	defer dir.Close()
	path := filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), name)
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		if m.proc.HasEnded() {
			return nil, errs.New(errs.Unavailable, "the process has ended")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(connectPoll):
		}
	}
}

// release closes the connections.
func (m *machine) release() {
	for _, c := range m.closers {
		_ = c() // A connection that the other end has closed is closed.
	}
	<-m.qmpDone
}

// watch trims the console until the process ends or the driver closes, and
// then tells the end.
func (m *machine) watch() {
	defer m.release()
	ended := make(chan error, 1)
	go func() { ended <- m.proc.Wait() }()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.d.closing:
			m.proc.Close()
			<-ended //nolint:errcheck // Nobody watches any more.
			return
		case <-tick.C:
			if err := vmm.TrimConsole(m.dir); err != nil {
				m.d.log.Warn("console trim failed", "vm_id", m.rec.ID, "err", err)
			}
		case err := <-ended:
			if err != nil {
				m.d.log.Error("watch of machine failed", "vm_id", m.rec.ID, "err", err)
				return
			}
			m.finish()
			return
		}
	}
}

// finish is called once, when the process has ended.
func (m *machine) finish() {
	// What it said last may still be on its way.
	select {
	case <-m.qmpDone:
	case <-time.After(drainMax):
	}
	status, ours := m.proc.Reap()
	m.proc.Close()
	groups, _ := m.d.cgroups() // What speaks against limits is in the capabilities.
	if err := groups.remove(m.rec.ID); err != nil {
		m.d.log.Warn("control group stayed", "vm_id", m.rec.ID, "err", err)
	}
	m.mu.Lock()
	m.exit = vmm.Exit{At: time.Now().UTC(), Asked: m.asked, Clean: m.shutdown == guestShutdown}
	m.exit.Reason = m.reason(status, ours)
	exit := m.exit
	m.mu.Unlock()
	m.d.forget(m)
	m.d.log.Info("machine ended", "vm_id", m.rec.ID, "reason", exit.Reason)
	close(m.done)
}

// Why QEMU shuts down, in its own words.
const (
	guestShutdown = "guest-shutdown"
	guestReset    = "guest-reset"
	guestPanic    = "guest-panic"
	hostQuit      = "host-qmp-quit"
)

// reason says in one sentence how the machine ended. m.mu is held.
func (m *machine) reason(status unix.WaitStatus, ours bool) string {
	switch m.shutdown {
	case guestShutdown:
		return "the guest powered off"
	case guestReset:
		return "the guest reset the machine"
	case guestPanic:
		return "the guest's kernel panicked"
	case hostQuit:
		return "the guest did not shut down in time and was ended"
	}
	switch {
	case m.asked:
		return "the machine was killed"
	case ours && status.Signaled():
		return fmt.Sprintf("the hypervisor was killed by signal %d (%s)", status.Signal(), status.Signal())
	case m.shutdown != "":
		return "the hypervisor was ended from outside: " + m.shutdown
	}
	if said := lastLine(filepath.Join(m.dir, logFile)); said != "" {
		return "the hypervisor ended: " + said
	}
	return "the hypervisor ended unexpectedly"
}

// onEvent takes what QEMU tells.
func (m *machine) onEvent(e event) {
	if e.Event != "SHUTDOWN" {
		return
	}
	var data struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		m.d.log.Warn("shutdown without reason", "vm_id", m.rec.ID, "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shutdown = data.Reason
}

// ID implements vmm.Machine.
func (m *machine) ID() string { return m.rec.ID }

// PID implements vmm.Machine.
func (m *machine) PID() int { return m.proc.PID }

// Accelerator implements vmm.Machine.
func (m *machine) Accelerator() vmm.Accelerator { return m.rec.Accelerator }

// Done implements vmm.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Exit implements vmm.Machine.
func (m *machine) Exit() vmm.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

// Ready implements vmm.Machine.
func (m *machine) Ready(ctx context.Context) error {
	if m.agent == nil {
		return m.alive()
	}
	if _, err := m.agent.Do(ctx, agent.Ready); err != nil {
		// A machine that ends takes the channel along; say what happened.
		select {
		case <-m.done:
		case <-time.After(drainMax):
		}
		if ended := m.alive(); ended != nil {
			return ended
		}
		return fmt.Errorf("wait for machine %s: %w", m.rec.ID, err)
	}
	return nil
}

// alive reports a machine that has ended.
func (m *machine) alive() error {
	select {
	case <-m.done:
		return errs.New(errs.Unavailable, "machine %s has ended: %s", m.rec.ID, m.Exit().Reason)
	default:
		return nil
	}
}

// Info implements vmm.Machine.
func (m *machine) Info(ctx context.Context) (vmm.Info, error) {
	if m.agent == nil {
		return vmm.Info{}, errs.New(errs.NotFound, "image %q has no agent", m.rec.Image)
	}
	info, err := m.agent.Do(ctx, agent.GetInfo)
	if err != nil {
		return vmm.Info{}, err
	}
	if info == nil {
		return vmm.Info{}, errs.New(errs.Unavailable, "the guest of machine %s gave no info", m.rec.ID)
	}
	return vmm.Info{Hostname: info.Hostname, Kernel: info.Kernel, Timings: info.Timings}, nil
}

// Stats implements vmm.Machine.
func (m *machine) Stats(context.Context) (vmm.Stats, error) {
	s, err := process.ReadStat(m.proc.PID)
	if err != nil {
		return vmm.Stats{}, err
	}
	if s.Start != m.proc.Start || m.alive() != nil {
		return vmm.Stats{}, errs.New(errs.NotFound, "machine %s has ended", m.rec.ID)
	}
	return vmm.Stats{
		CPU:      s.CPU(),
		RSSBytes: s.RSSBytes(),
	}, nil
}

// Stop implements vmm.Machine.
func (m *machine) Stop(ctx context.Context, grace time.Duration) error {
	m.setAsked()
	// Both ways: an image without agent knows the power button, and a guest
	// that hears both shuts down once.
	ask, cancel := context.WithTimeout(ctx, min(askMax, grace))
	if m.agent != nil {
		if _, err := m.agent.Do(ask, agent.Shutdown); err != nil {
			m.d.log.Debug("shutdown by agent failed", "vm_id", m.rec.ID, "err", err)
		}
	}
	if err := m.qmp.do(ask, "system_powerdown", nil, nil); err != nil {
		m.d.log.Debug("shutdown by power button failed", "vm_id", m.rec.ID, "err", err)
	}
	cancel()
	switch ended, err := m.waitDone(ctx, grace); {
	case err != nil:
		return fmt.Errorf("stop machine %s: %w", m.rec.ID, err)
	case ended:
		return nil
	}
	return m.Kill(ctx)
}

// Kill implements vmm.Machine.
func (m *machine) Kill(ctx context.Context) error {
	m.setAsked()
	// QEMU itself first: it writes back what the guest has flushed.
	ask, cancel := context.WithTimeout(ctx, askMax)
	err := m.qmp.do(ask, "quit", nil, nil)
	cancel()
	if err == nil {
		switch ended, err := m.waitDone(ctx, quitMax); {
		case err != nil:
			return fmt.Errorf("kill machine %s: %w", m.rec.ID, err)
		case ended:
			return nil
		}
	}
	if m.alive() != nil {
		return nil //nolint:nilerr // What is dead need not be killed.
	}
	if err := m.proc.Kill(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("kill machine %s: %w", m.rec.ID, err)
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill machine %s: %w", m.rec.ID, context.Cause(ctx))
	}
}

func (m *machine) setAsked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = true
}

// waitDone waits for the end of the process, at most for a time.
func (m *machine) waitDone(ctx context.Context, most time.Duration) (ended bool, err error) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-m.done:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}
