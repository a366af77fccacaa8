package firecracker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

const (
	// connectPoll is how often a socket that is not there yet is tried.
	connectPoll = 2 * time.Millisecond
	// trimEvery is how often the files that a machine writes are looked at.
	trimEvery = 2 * time.Second
	// logBytesMax bounds Firecracker's own log: it says little, but a guest can
	// make it say the same again and again.
	logBytesMax = 1 << 20
	// askMax bounds the questions of a Stop: a guest or a Firecracker that hangs
	// must not take more of its grace.
	askMax = 2 * time.Second
	// agentPause and agentPauseMax are between questions to a guest that has not
	// booted so far that its agent listens.
	agentPause    = 10 * time.Millisecond
	agentPauseMax = 200 * time.Millisecond
	// drainMax bounds the wait for the end of a machine whose guest has gone.
	drainMax = time.Second
	// tailBytes is what is read of the end of a log.
	tailBytes = 8 << 10
)

// What Firecracker and a guest say last.
const (
	endedWell = "exiting successfully"
	panicked  = "Kernel panic - not syncing"
)

// machine is a process of Firecracker.
type machine struct {
	d     *Driver
	dir   string
	rec   record
	proc  *process.Process
	root  *os.File // The jail's root directory.
	api   *client
	state string // What the process said of the guest when it was connected to.

	streams streams
	done    chan struct{}

	mu     sync.Mutex
	asked  bool   // guarded by mu
	killed string // Why this driver has killed the process; guarded by mu
	exit   vmm.Exit
}

// connect connects to the process and sees to it that it is the machine.
func (d *Driver) connect(ctx context.Context, dir string, rec record, p *process.Process) (*machine, error) {
	root, err := os.Open(rec.root(dir))
	if err != nil {
		return nil, fmt.Errorf("open jail: %w", err)
	}
	m := &machine{d: d, dir: dir, rec: rec, proc: p, root: root, api: newClient(root, apiSocket), done: make(chan struct{})}
	m.streams.listeners = map[uint32]*portListener{}
	info, err := m.api.await(ctx, p.HasEnded)
	if err == nil && info.ID != rec.ID {
		err = errs.New(errs.Conflict, "the process in %s is machine %q, not %s", dir, info.ID, rec.ID)
	}
	if err != nil {
		m.release()
		return nil, fmt.Errorf("connect to Firecracker: %w", err)
	}
	m.state = info.State
	return m, nil
}

// public is the machine with the abilities that it has.
func (m *machine) public() vmm.Machine {
	if m.rec.Function {
		return functionMachine{m}
	}
	return m
}

// release gives up what the driver has of a machine, but for its process.
func (m *machine) release() {
	m.streams.close()
	m.root.Close()
}

// watch trims what the machine writes until the process ends or the driver
// closes, and then tells the end.
func (m *machine) watch() {
	ended := make(chan error, 1)
	go func() { ended <- m.proc.Wait() }()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.d.closing:
			m.release()
			m.proc.Close()
			<-ended //nolint:errcheck // Nobody watches any more.
			return
		case <-tick.C:
			if err := errors.Join(vmm.TrimConsole(m.dir), trimLog(filepath.Join(m.dir, ownLogFile))); err != nil {
				m.d.log.Warn("console trim failed", "vm_id", m.rec.ID, "err", err)
			}
		case err := <-ended:
			m.release()
			if err != nil {
				m.d.log.Error("watch of machine failed", "vm_id", m.rec.ID, "err", err)
				return
			}
			m.finish()
			return
		}
	}
}

// trimLog empties a log that has grown too long. Its writer does not append: it
// goes on where it was, behind a hole that takes no room.
func trimLog(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at log: %w", err)
	}
	const blockBytes = 512 // Of stat.
	if blocksOf(info)*blockBytes <= logBytesMax {
		return nil
	}
	if err := os.Truncate(name, 0); err != nil {
		return fmt.Errorf("empty log: %w", err)
	}
	return nil
}

// finish is called once, when the process has ended.
func (m *machine) finish() {
	m.proc.Close()
	m.mu.Lock()
	m.exit = vmm.Exit{At: time.Now().UTC(), Asked: m.asked}
	m.exit.Reason, m.exit.Clean = m.reason()
	exit := m.exit
	m.mu.Unlock()
	if err := m.d.leave(m.dir, m.rec); err != nil {
		m.d.log.Warn("machine left something", "vm_id", m.rec.ID, "err", err)
	}
	m.d.forget(m)
	m.d.log.Info("machine ended", "vm_id", m.rec.ID, "reason", exit.Reason)
	close(m.done)
}

// reason says in one sentence how the machine ended. The process is not our
// child, so its status is unknown; it says itself when it ends in order. m.mu is
// held.
func (m *machine) reason() (reason string, clean bool) {
	last := lastLine(filepath.Join(m.dir, ownLogFile))
	switch {
	case strings.Contains(last, endedWell) && bytes.Contains(m.console(), []byte(panicked)):
		return "the guest's kernel panicked", false
	case strings.Contains(last, endedWell):
		return "the guest powered off", true
	case m.killed != "":
		return m.killed, false
	}
	if said := lastLine(filepath.Join(m.dir, logFile)); said != "" {
		last = said
	}
	if last != "" {
		return "the hypervisor ended: " + last, false
	}
	return "the hypervisor ended unexpectedly", false
}

// console is the end of what this run of the guest has said.
func (m *machine) console() []byte {
	name := filepath.Join(m.dir, vmm.ConsoleFile)
	info, err := os.Stat(name)
	if err != nil {
		return nil
	}
	from := m.rec.ConsoleAt
	if from > info.Size() {
		from = 0 // The ring has turned.
	}
	return tail(name, max(from, info.Size()-tailBytes))
}

// ID implements vmm.Machine.
func (m *machine) ID() string { return m.rec.ID }

// PID implements vmm.Machine.
func (m *machine) PID() int { return m.proc.PID }

// Accelerator implements vmm.Machine.
func (m *machine) Accelerator() vmm.Accelerator { return vmm.KVM }

// Done implements vmm.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Exit implements vmm.Machine.
func (m *machine) Exit() vmm.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
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

// ask puts a question to the guest's agent, on a stream of its own.
func (m *machine) ask(ctx context.Context, cmd agent.Command) (*agent.Info, error) {
	conn, err := m.connectPort(ctx, agent.VsockPort)
	if err != nil {
		return nil, err
	}
	c := agent.NewClient(conn, rand.Text())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run() // It ends with the connection; Do tells why.
	}()
	info, err := c.Do(ctx, cmd)
	conn.Close()
	<-ended
	return info, err
}

// Ready implements vmm.Machine.
func (m *machine) Ready(ctx context.Context) error {
	if err := m.alive(); err != nil || !m.rec.Agent {
		return err
	}
	for pause := agentPause; ; pause = min(2*pause, agentPauseMax) {
		_, err := m.ask(ctx, agent.Ready)
		if err == nil {
			return nil
		}
		if m.proc.HasEnded() {
			// Say what happened.
			select {
			case <-m.done:
			case <-time.After(drainMax):
			}
		}
		if ended := m.alive(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for machine %s: %w: %w", m.rec.ID, context.Cause(ctx), err)
		case <-m.done:
		case <-time.After(pause):
		}
	}
}

// Info implements vmm.Machine.
func (m *machine) Info(ctx context.Context) (vmm.Info, error) {
	if !m.rec.Agent {
		return vmm.Info{}, errs.New(errs.NotFound, "image %q has no agent", m.rec.Image)
	}
	info, err := m.ask(ctx, agent.GetInfo)
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
	return vmm.Stats{CPU: s.CPU(), RSSBytes: s.RSSBytes()}, nil
}

// Stop implements vmm.Machine.
func (m *machine) Stop(ctx context.Context, grace time.Duration) error {
	if m.alive() != nil {
		return nil //nolint:nilerr // What is dead need not be ended.
	}
	m.setAsked("")
	deadline := time.Now().Add(grace)
	if m.rec.Agent {
		ask, cancel := context.WithTimeout(ctx, min(askMax, grace))
		_, err := m.ask(ask, agent.Shutdown)
		cancel()
		if err != nil {
			m.d.log.Debug("shutdown by agent failed", "vm_id", m.rec.ID, "err", err)
		} else if ended, err := m.waitDone(ctx, grace/2); ended || err != nil {
			return stopped(m.rec.ID, err)
		}
	}
	// The keys that make a computer restart end this one. A guest whose agent
	// has heard of it gets half of the time before, since a kernel may restart
	// at once.
	press, cancel := context.WithTimeout(ctx, min(askMax, grace))
	err := m.api.do(press, put("/actions", action{"SendCtrlAltDel"}), nil)
	cancel()
	if err != nil {
		m.d.log.Debug("shutdown by keys failed", "vm_id", m.rec.ID, "err", err)
	}
	if ended, err := m.waitDone(ctx, time.Until(deadline)); ended || err != nil {
		return stopped(m.rec.ID, err)
	}
	return m.end(ctx, "the guest did not shut down in time and was ended")
}

func stopped(id string, err error) error {
	if err != nil {
		return fmt.Errorf("stop machine %s: %w", id, err)
	}
	return nil
}

// Kill implements vmm.Machine.
func (m *machine) Kill(ctx context.Context) error { return m.end(ctx, "the machine was killed") }

// end ends the process. What the guest has written is in the host's files: the
// process keeps nothing back.
func (m *machine) end(ctx context.Context, why string) error {
	if m.alive() != nil {
		return nil //nolint:nilerr // What is dead need not be ended.
	}
	m.setAsked(why)
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

func (m *machine) setAsked(kill string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = true
	if kill != "" {
		m.killed = kill
	}
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

// lastLine returns the last line of a text file, "" when there is none.
func lastLine(name string) string {
	info, err := os.Stat(name)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.Trim(string(tail(name, max(0, info.Size()-tailBytes))), "\x00 \n"), "\n")
	return lines[len(lines)-1]
}

// tail returns what a file has from an offset on, tailBytes at most.
func tail(name string, from int64) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if err != nil {
		return nil
	}
	return raw
}
