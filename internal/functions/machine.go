package functions

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// haltMax is how long a program may take to end.
	haltMax = 10 * time.Second
	// killMax bounds the end of a machine's process.
	killMax = 30 * time.Second
)

// How a machine was started.
const (
	howBoot     = "boot"
	howSnapshot = "snapshot"
	howAdopted  = "adopted"
)

// machine is one that runs a program.
type machine struct {
	e         *entry
	plan      *plan
	vm        vmm.Machine
	streams   vmm.Streamer
	ready     guest.Ready
	network   Network
	how       string
	startedAt time.Time
	free      func() // Gives back what was reserved.
	listeners []net.Listener

	begun  atomic.Bool   // It was told what it is.
	slots  chan struct{} // One for each call that runs.
	ending chan struct{} // Closed when no call may begin any more.
	gone   chan struct{} // Closed when it has ended and everything is free.

	mu        sync.Mutex
	calls     int         // guarded by mu
	idleAt    time.Time   // When the last call ended; guarded by mu
	idle      *time.Timer // Ends it; nil while it is not idle; guarded by mu
	checkedAt time.Time   // When its plan was found to be the program's; guarded by mu
	isOver    bool        // ending is closed; guarded by mu
}

// begin counts a call in, unless the machine is ending.
func (m *machine) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isOver {
		return false
	}
	m.calls++
	if m.idle != nil {
		m.idle.Stop()
		m.idle = nil
	}
	return true
}

// release counts a call out and gives its place back.
func (m *machine) release() {
	m.mu.Lock()
	m.calls--
	m.idleAt = time.Now()
	last := m.calls == 0
	over := m.isOver
	m.mu.Unlock()
	<-m.slots
	switch {
	case last && over:
		m.e.s.work.Go(m.halt)
	case last:
		m.rest()
	}
}

// rest sees to it that a machine that is idle, and not held, ends after a while.
func (m *machine) rest() {
	m.e.mu.Lock()
	held := m.e.held
	m.e.mu.Unlock()
	m.setIdle(held, 0)
}

// firstCallMax is how long a machine waits for the call that it was started for, however
// short others wait for the next.
const firstCallMax = 10 * time.Second

// setIdle ends the machine after the reuse timeout, but no sooner than least, unless a
// call begins.
func (m *machine) setIdle(held bool, least time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle != nil {
		m.idle.Stop()
		m.idle = nil
	}
	if held || m.isOver || m.calls > 0 {
		return
	}
	m.idle = time.AfterFunc(max(m.e.s.cfg.ReuseTimeout, least), m.endIdle)
}

// endIdle ends the machine if no call has begun meanwhile.
func (m *machine) endIdle() {
	m.mu.Lock()
	idle := m.calls == 0
	m.mu.Unlock()
	if idle {
		m.end()
	}
}

// idleSince tells since when no call runs.
func (m *machine) idleSince() (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.idleAt, m.calls == 0 && !m.isOver
}

func (m *machine) isEnding() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isOver
}

func (m *machine) isStale(after time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.checkedAt) > after
}

func (m *machine) checked(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkedAt = now
}

// end lets no call begin any more; the machine is halted after the last.
func (m *machine) end() {
	m.mu.Lock()
	first := !m.isOver
	if first {
		m.isOver = true
		close(m.ending)
	}
	idle := m.calls == 0
	m.mu.Unlock()
	if first && idle {
		m.e.s.work.Go(m.halt)
	}
}

// cut ends the machine without waiting for calls.
func (m *machine) cut() {
	m.end()
	m.mu.Lock()
	busy := m.calls > 0
	m.mu.Unlock()
	if busy {
		m.e.s.work.Go(m.halt)
	}
}

// leave lets the machine run on without this process.
func (m *machine) leave() {
	for _, l := range m.listeners {
		l.Close()
	}
}

// halt lets the program end and then ends the machine.
func (m *machine) halt() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.e.s.ctx), haltMax)
	err := m.sayHalt(ctx)
	cancel()
	if err != nil {
		m.e.s.log.Debug("program was not halted", "item_hash", m.e.spec, "err", err)
	}
	if err := m.kill(); err != nil {
		m.e.s.log.Error("machine of program not ended", "item_hash", m.e.spec, "err", err)
	}
}

func (m *machine) kill() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.e.s.ctx), killMax)
	defer cancel()
	return m.vm.Kill(ctx)
}

// sayHalt returns when the guest says that its file systems are written.
func (m *machine) sayHalt(ctx context.Context) error {
	c, err := m.streams.Dial(ctx, guest.PortRun)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := io.WriteString(c, guest.Halt); err != nil {
		return fmt.Errorf("say halt: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(c, int64(len(guest.HaltStop+guest.HaltStopped))))
	if !strings.HasSuffix(string(raw), guest.HaltStopped) {
		return fmt.Errorf("guest answered halt with %q: %w", raw, err)
	}
	return nil
}

// watch waits for the end of the machine and frees what it had.
func (m *machine) watch() {
	select {
	case <-m.vm.Done():
	case <-m.e.s.ctx.Done():
		return // It is left to the next process.
	}
	m.mu.Lock()
	asked := m.isOver
	if !asked {
		m.isOver = true
		close(m.ending)
	}
	if m.idle != nil {
		m.idle.Stop()
	}
	m.mu.Unlock()
	if !asked {
		m.e.s.log.Warn("machine of program ended", "item_hash", m.e.spec, "reason", m.vm.Exit().Reason)
	}
	m.cleanUp()
	m.e.s.meter.machines.Dec()
	m.e.ended(m)
	close(m.gone)
}

// cleanUp frees what a machine had whose process has ended.
func (m *machine) cleanUp() {
	for _, l := range m.listeners {
		l.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.e.s.ctx), killMax)
	defer cancel()
	if err := m.e.s.sweep(ctx, m.e.spec, m.e.s.isHeld(m.e)); err != nil {
		m.e.s.log.Error("files of machine stayed", "item_hash", m.e.spec, "err", err)
	}
	m.free()
}

// sweep removes what a machine that has ended had of the host. Persistent
// volumes stay, and so does the note of a program that is held: a process that comes
// before its next machine must know of it.
func (s *Service) sweep(ctx context.Context, spec message.ItemHash, held bool) error {
	dir := s.programDir(spec)
	if err := s.keepLog(spec); err != nil {
		s.log.Error("log of program's machine lost", "item_hash", spec, "err", err)
	}
	err := errors.Join(vmm.Remove(filepath.Join(dir, machineDir)), s.parts.Networks.Down(ctx, spec), os.RemoveAll(filepath.Join(dir, tmpDir)))
	if held {
		return err
	}
	return errors.Join(err, removeFile(filepath.Join(dir, noteFile)))
}

// What is in the directory of a program.
const (
	machineDir = "machine"       // Of its machine; see package vmm.
	tmpDir     = "ephemeral"     // Volumes that go with the machine.
	volumeDir  = "volumes"       // Volumes that stay.
	noteFile   = "function.json" // What the machine is.
)

// note is function.json: what another process has to know of the machine.
type note struct {
	Key   string `json:"plan"` // Of the plan.
	Held  bool   `json:"held"`
	Owner string `json:"owner"` // Of the program.
}

func (p *plan) note(held bool) note { return note{p.key, held, p.program.Address} }

// note writes what the machine is.
func (m *machine) note(held bool) error { return m.e.s.writeNote(m.e.spec, m.plan.note(held)) }

func (s *Service) writeNote(spec message.ItemHash, n note) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode note: %w", err)
	}
	name := filepath.Join(s.programDir(spec), noteFile)
	if err := os.WriteFile(name+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write note of machine: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write note of machine: %w", err)
	}
	return nil
}

func (s *Service) readNote(spec message.ItemHash) (note, error) {
	var n note
	raw, err := os.ReadFile(filepath.Join(s.programDir(spec), noteFile))
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return n, fmt.Errorf("read note of machine: %w", err)
	}
	return n, nil
}

// listenReady takes what the guest says when it is up, for as long as the
// machine runs: a guest that has booted anew gets its configuration again. The
// first word goes to ready, which has room for it, unless that is nil: a copy was
// up before it began.
func (m *machine) listenReady(l net.Listener, ready chan<- guest.Ready) {
	for first := ready != nil; ; {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(readyMax)) // A stream that has ended fails the read.
		r, err := guest.ReadReady(bufio.NewReader(c))
		c.Close()
		if err != nil {
			m.e.s.log.Debug("guest said something else than ready", "item_hash", m.e.spec, "err", err)
			continue
		}
		if first {
			ready <- r
			first = false
			continue
		}
		if r.Configured || ready == nil && !m.begun.Load() {
			continue // Nothing to do, or a copy that is being told what it is.
		}
		m.e.s.log.Info("guest has booted anew", "item_hash", m.e.spec)
		ctx, cancel := context.WithTimeout(m.e.s.ctx, m.e.s.cfg.ConfigTimeout)
		if err := m.configure(ctx, r, m.network); err != nil {
			m.e.s.log.Warn("program did not start anew", "item_hash", m.e.spec, "err", err)
			m.cut()
		}
		cancel()
	}
}

// readyMax bounds how long a guest may take to say that it is ready, once it
// has begun.
const readyMax = 10 * time.Second

// configure tells the guest what it is for.
func (m *machine) configure(ctx context.Context, ready guest.Ready, network Network) error {
	config := m.plan.config
	config.IP, config.Route, config.DNSServers = network.IP, network.Route, network.DNS
	if !ready.Has(guest.FeatureReseed) {
		// A published runtime reads no prefix and takes its network for a /24, of which
		// nothing but the host is on its link anyway.
		config.IP, _, _ = strings.Cut(network.IP, "/")
	}
	config.IPv6, config.IPv6Gateway = network.IPv6, network.IPv6Gateway
	raw, err := config.Encode(ready.Version)
	if err != nil {
		return err
	}
	return tell(ctx, m.streams, guest.PortRun, "config", raw)
}

// reseed tells a copy of a snapshot who it is. Its name is that of all machines of
// the program, which it has already, or gets with its configuration.
func (m *machine) reseed(ctx context.Context, rehearsal bool) error {
	r := guest.Reseed{
		Seed: newSeed(), Time: time.Now().UnixNano(), MAC: m.network.Device.MAC,
		IP: m.network.IP, Route: m.network.Route, IPv6: m.network.IPv6, IPv6Gateway: m.network.IPv6Gateway, DNSServers: m.network.DNS,
		Rehearsal: rehearsal,
	}
	raw, err := r.Encode()
	if err != nil {
		return err
	}
	return tell(ctx, m.streams, guest.PortReseed, "reseed", raw)
}

// tell says something to the guest that it answers with a Result.
func tell(ctx context.Context, streams vmm.Streamer, port uint32, what string, raw []byte) error {
	c, err := streams.Dial(ctx, port)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	if _, err := c.Write(raw); err != nil {
		return errs.New(errs.Unavailable, "send %s: %w", what, err)
	}
	result, err := guest.ReadResult(bufio.NewReader(c))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("wait for an answer to %s: %w", what, context.Cause(ctx))
	case err != nil:
		return errs.New(errs.Unavailable, "read answer to %s: %w", what, err)
	case !result.Success:
		return &failedError{what: what, result: result}
	}
	return nil
}

// failedError is that a guest could not do what it was told.
type failedError struct {
	what   string
	result guest.Result
}

func (f *failedError) Error() string {
	return fmt.Sprintf("guest could not take its %s: %s", f.what, f.result.Error)
}
