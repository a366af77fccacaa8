package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/big"
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// byOwner and byScheduler say in rows who ordered something: the interface has
// checked their signatures.
const (
	byOwner     = "its owner"
	byScheduler = "a scheduler"
)

// machines starts, changes and ends machines for the interface of compute nodes.
type machines struct {
	exec *executor.Supervisor
	fns  *functions.Service // nil on a node that runs no programs.
	// domains are looked at when a machine starts; nil for none.
	domains *byDomain
}

// Allocate implements crn.Machines.
func (m machines) Allocate(ctx context.Context, want crn.Allocation) (*crn.Allocated, error) {
	got, err := m.exec.Allocate(ctx, byScheduler, want.Instances)
	if err != nil {
		return nil, err
	}
	m.domains.look()
	out := &crn.Allocated{Stopped: got.Stopped, Failed: got.Failed}
	if m.fns == nil {
		for _, program := range want.Programs {
			out.Failed[program] = errs.New(errs.Unavailable, "the node runs no programs")
		}
		return out, nil
	}
	return out, m.holdPrograms(ctx, want.Programs, out)
}

// holdsMax is how many programs are started at the same time for a scheduler.
const holdsMax = 4

// holdPrograms makes the programs run for good, and no others.
func (m machines) holdPrograms(ctx context.Context, programs []message.ItemHash, out *crn.Allocated) error {
	for _, program := range m.fns.Held() {
		if slices.Contains(programs, program) {
			continue
		}
		if err := m.fns.Stop(ctx, program); err != nil {
			return err
		}
		out.Stopped = append(out.Stopped, program)
	}
	if out.Failed == nil {
		out.Failed = map[message.ItemHash]error{}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, holdsMax)
	for _, program := range programs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.fns.Hold(ctx, program); err != nil {
				mu.Lock()
				defer mu.Unlock()
				out.Failed[program] = err
			}
		})
	}
	wg.Wait()
	return nil
}

// isProgram reports whether a program runs here, or is held.
func (m machines) isProgram(spec message.ItemHash) bool {
	return m.fns != nil && (slices.Contains(m.fns.Held(), spec) ||
		slices.ContainsFunc(m.fns.Machines(), func(st functions.Status) bool { return st.Spec == spec }))
}

// Admit implements crn.Machines.
func (m machines) Admit(ctx context.Context, vm message.ItemHash, want *message.Instance) error {
	return m.exec.Admit(ctx, vm, want)
}

// Start implements crn.Machines.
func (m machines) Start(ctx context.Context, vm message.ItemHash) error {
	err := m.exec.Request(ctx, vm)
	if err == nil {
		m.domains.look()
	}
	return err
}

// Resume implements crn.Machines.
func (m machines) Resume(ctx context.Context, vm message.ItemHash) error {
	if m.isProgram(vm) {
		return m.fns.Hold(ctx, vm)
	}
	return told(m.exec.Resume(ctx, vm))
}

// Reserve implements crn.Machines.
func (m machines) Reserve(ctx context.Context, by string, want *message.Instance) (time.Time, error) {
	return m.exec.Reserve(ctx, by, want)
}

// UpdatePorts implements crn.Machines.
func (m machines) UpdatePorts(ctx context.Context, vm message.ItemHash) error {
	err := m.exec.UpdatePorts(ctx, vm)
	if err == nil { // Anybody may ask for machines that are not here.
		m.domains.look()
	}
	return err
}

// Stop implements crn.Machines.
func (m machines) Stop(ctx context.Context, vm message.ItemHash) error {
	if m.isProgram(vm) {
		return m.fns.Stop(ctx, vm)
	}
	_, err := m.exec.Stop(ctx, vm, byOwner)
	return err
}

// Reboot implements crn.Machines. A program that is not held starts with its next call.
func (m machines) Reboot(ctx context.Context, vm message.ItemHash) error {
	if m.isProgram(vm) {
		held := slices.Contains(m.fns.Held(), vm)
		err := m.fns.Stop(ctx, vm)
		if err == nil && held {
			err = m.fns.Hold(ctx, vm)
		}
		return err
	}
	_, err := m.exec.Reboot(ctx, vm, byOwner)
	return err
}

// Expire implements crn.Machines.
func (m machines) Expire(ctx context.Context, vm message.ItemHash, after time.Duration) error {
	return m.exec.Expire(ctx, vm, byOwner, after)
}

// Erase implements crn.Machines.
func (m machines) Erase(ctx context.Context, vm message.ItemHash) error {
	if m.isProgram(vm) {
		return m.fns.Forget(ctx, vm)
	}
	return m.exec.Erase(ctx, vm, byOwner)
}

// Reinstall implements crn.Machines.
func (m machines) Reinstall(ctx context.Context, vm message.ItemHash, volumes bool) error {
	return m.exec.Reinstall(ctx, vm, byOwner, volumes)
}

// RecreateNetwork implements crn.Machines. The rules are a whole that is compared
// with what there should be, so nothing that is right is taken away for it.
func (m machines) RecreateNetwork(ctx context.Context) (*crn.Recreated, error) {
	placed, err := m.exec.MendNetwork(ctx)
	if err != nil {
		return nil, err
	}
	return &crn.Recreated{VMs: placed}, nil
}

// executions tells what runs here.
type executions struct {
	db       *state.DB
	exec     *executor.Supervisor
	fns      *functions.Service // nil on a node that runs no programs.
	messages executor.Messages
	driver   string // Of the machines of programs.
}

// remembered remembers messages, which do not change: lists of what runs are asked for
// by anybody, and must not ask the network for each program.
type remembered struct {
	messages executor.Messages
	known    *lru.Cache[message.ItemHash, *message.Envelope]
}

// Message implements executor.Messages.
func (r remembered) Message(ctx context.Context, hash message.ItemHash) (*message.Envelope, error) {
	if env, ok := r.known.Get(hash); ok {
		return env, nil
	}
	env, err := r.messages.Message(ctx, hash)
	if err == nil {
		r.known.Add(hash, env)
	}
	return env, err
}

// List implements crn.Executions.
func (e executions) List(ctx context.Context) ([]crn.Execution, error) {
	var out []crn.Execution
	err := e.db.View(ctx, func(v *state.View) error {
		vms, err := v.VMs(ctx)
		if err != nil {
			return err
		}
		for _, vm := range vms {
			x, err := e.execution(ctx, v, vm)
			if err != nil {
				return err
			}
			out = append(out, *x)
		}
		return nil
	})
	if err != nil || e.fns == nil {
		return out, err
	}
	for _, st := range e.fns.Machines() {
		x, err := e.program(ctx, st)
		if errors.Is(err, errs.Unavailable) || errors.Is(err, errs.NotFound) {
			continue // One that nobody can tell about keeps no other from the list.
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *x)
	}
	return out, nil
}

// program is what clients are told of a program's machine.
func (e executions) program(ctx context.Context, st functions.Status) (*crn.Execution, error) {
	env, err := e.messages.Message(ctx, st.Spec)
	if err != nil {
		return nil, err
	}
	x := &crn.Execution{
		Hash: st.Spec, Kind: crn.MicroVM, Owner: st.Owner, Channel: env.Channel, Running: true, Persistent: st.Held, Hypervisor: e.driver,
		Times: crn.Times{Defined: st.StartedAt, Preparing: st.StartedAt, Prepared: st.StartedAt, Starting: st.StartedAt, Started: st.StartedAt},
	}
	if st.Held {
		x.Kind = crn.PersistentProgram
	}
	d, err := e.exec.Lent(st.Spec)
	switch {
	case err == nil:
		x.Network = networkOf(d)
	case !errors.Is(err, errs.NotFound):
		return nil, err
	}
	return x, nil
}

// Find implements crn.Executions.
func (e executions) Find(ctx context.Context, spec message.ItemHash) (out *crn.Execution, err error) {
	err = e.db.View(ctx, func(v *state.View) error {
		vm, err := v.VM(ctx, spec)
		if err != nil {
			return err
		}
		out, err = e.execution(ctx, v, *vm)
		return err
	})
	if !errors.Is(err, errs.NotFound) || e.fns == nil {
		return out, err
	}
	for _, st := range e.fns.Machines() {
		if st.Spec == spec {
			return e.program(ctx, st)
		}
	}
	return nil, err
}

// Past implements crn.Executions.
func (e executions) Past(ctx context.Context, spec message.ItemHash) (out *crn.Execution, err error) {
	if out, err = e.Find(ctx, spec); !errors.Is(err, errs.NotFound) {
		return out, err
	}
	err = e.db.View(ctx, func(v *state.View) error {
		out, err = e.execution(ctx, v, state.VM{Spec: spec, State: state.VMStopped})
		if err == nil && out.Owner == "" {
			return errs.New(errs.NotFound, "no machine %s was here", spec)
		}
		return err
	})
	if !errors.Is(err, errs.NotFound) || e.fns == nil {
		return out, err
	}
	owner, err := e.fns.LogOwner(spec)
	if err != nil {
		return nil, err
	}
	return &crn.Execution{Hash: spec, Kind: crn.MicroVM, Owner: owner, Hypervisor: e.driver}, nil
}

// Records implements crn.Executions.
func (e executions) Records(ctx context.Context, limit int) ([]crn.Record, error) {
	var out []crn.Record
	err := e.db.View(ctx, func(v *state.View) error {
		vms, err := v.VMs(ctx)
		if err != nil {
			return err
		}
		for _, vm := range vms[:min(len(vms), limit)] {
			x, err := e.execution(ctx, v, vm)
			if err != nil {
				return err
			}
			out = append(out, crn.Record{
				Execution: *x, ID: fmt.Sprintf("%s-%d", vm.Spec, vm.Starts), VCPUs: vm.Resources.VCPUs, Memory: vm.Resources.MemoryMiB,
			})
		}
		return nil
	})
	return out, err
}

// execution is what clients are told of a machine.
func (e executions) execution(ctx context.Context, v *state.View, vm state.VM) (*crn.Execution, error) {
	x := &crn.Execution{
		Hash: vm.Spec, Kind: crn.Instance, Times: timesOf(vm), Running: vm.State == state.VMRunning || vm.State == state.VMBooting && vm.PID != 0,
		Persistent: true, Hypervisor: vm.Driver, RootfsBytes: vm.Resources.DiskMiB << 20,
	}
	l, err := v.Lease(ctx, vm.Spec)
	switch {
	case err == nil:
		x.Owner = l.Owner
		env, err := message.Parse(l.Message)
		if err != nil {
			return nil, fmt.Errorf("read message of machine %s: %w", vm.Spec, err)
		}
		x.Channel = env.Channel
		instance, err := env.Instance()
		if err != nil {
			return nil, fmt.Errorf("read message of machine %s: %w", vm.Spec, err)
		}
		x.RootfsBytes = instance.Rootfs.SizeMiB << 20
		x.Confidential = instance.Environment.TrustedExecution != nil
		x.AwaitingOwner = x.Confidential && awaitsOwner(vm, l)
	case !errors.Is(err, errs.NotFound):
		return nil, err
	default:
		j, err := v.Job(ctx, vm.Spec)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		if err == nil {
			x.Owner = j.Payer.Hex()
		}
	}
	x.Network, err = e.place(vm)
	return x, err
}

// awaitsOwner reports whether a confidential machine waits for nothing but the session
// of its owner. Its row says that it did also when it has stopped, or is made anew.
func awaitsOwner(vm state.VM, l *state.Lease) bool {
	return vm.AwaitsOwner && vm.State == state.VMPreparing && vm.Halt == nil && l.Open() && l.Session == nil
}

// place is where a machine is reached; nil while it has no addresses.
func (e executions) place(vm state.VM) (*crn.Network, error) {
	d, err := e.exec.Place(vm)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := networkOf(d)
	for _, p := range vm.Ports {
		port := out.Ports[p.Guest]
		port.Host = p.Host
		port.TCP, port.UDP = port.TCP || p.Protocol == "tcp", port.UDP || p.Protocol == "udp"
		out.Ports[p.Guest] = port
		if host, err := netip.ParseAddr(p.HostIP); err == nil {
			out.HostIPv4 = host
		}
	}
	return out, nil
}

// networkOf is the place of a device, without forwarded ports.
func networkOf(d vmnet.Device) *crn.Network {
	out := &crn.Network{IPv4Network: d.IPv4Network(), IPv4: d.Address.Addr(), Ports: map[uint16]crn.Port{}}
	if d.Address6.IsValid() {
		out.IPv6Network, out.IPv6 = d.IPv6Network(), d.Address6.Addr()
	}
	return out
}

// timesOf is when a machine came to the stages that clients know, since it was
// last asked for.
func timesOf(vm state.VM) crn.Times {
	since := vm.Entered[state.VMWanted]
	at := func(states ...state.VMState) (latest time.Time) {
		for _, st := range states {
			if t := vm.Entered[st]; !t.Before(since) && t.After(latest) {
				latest = t
			}
		}
		return latest
	}
	t := crn.Times{
		Defined: vm.CreatedAt, Preparing: at(state.VMFetching), Prepared: at(state.VMPreparing), Starting: at(state.VMBooting), Started: at(state.VMRunning),
		Stopping: at(state.VMStopping, state.VMPaused, state.VMHalted),
	}
	if !t.Stopping.IsZero() {
		t.Stopped = vm.StoppedAt
	}
	return t
}

// found finds messages for the interface of compute nodes: from peers, and else
// from core channel nodes.
type found struct {
	pipeline *ingest.Pipeline
	core     *corenode.Client // nil for none.
}

// Message implements executor.Messages.
func (f found) Message(ctx context.Context, hash message.ItemHash) (*message.Envelope, error) {
	env, err := f.pipeline.Obtain(ctx, hash)
	if err == nil || f.core == nil {
		return env, err
	}
	return f.core.Message(ctx, hash)
}

// Find implements crn.Messages.
func (f found) Find(ctx context.Context, hash message.ItemHash) (*crn.Message, error) {
	env, err := f.Message(ctx, hash)
	if err != nil {
		return nil, err
	}
	content, err := env.Content()
	if err != nil {
		return nil, errs.New(errs.Invalid, "message %s: %w", hash, err)
	}
	return &crn.Message{Hash: hash, Sender: env.Sender, Content: content}, nil
}

// payments knows what is paid for: the executor, which decides by it, too.
type payments struct{ exec *executor.Supervisor }

// Check implements crn.Payments.
func (p payments) Check(ctx context.Context, m *crn.Message, want *message.Instance) error {
	return told(p.exec.Paid(ctx, m.Hash, m.Sender, want))
}

// told is a refusal of the executor as clients are told it.
func told(err error) error {
	var r *executor.Refusal
	if !errors.As(err, &r) {
		return err
	}
	out := &crn.Unpaid{Required: decimal(r.Required), Available: decimal(r.Available), Detail: r.Text}
	switch r.Why {
	case executor.WrongPayment:
		out.Why = crn.WrongMethod
	case executor.OtherReceiver:
		out.Why = crn.WrongReceiver
	case executor.TooLittleHeld:
		out.Why = crn.LowBalance
	case executor.TooFewCredits:
		out.Why = crn.LowCredits
	case executor.NoFlow:
		out.Why = crn.NoStream
	case executor.TooLittleFlow:
		out.Why = crn.LowStream
	case executor.TooLittleForCommunity:
		out.Why = crn.LowCommunityStream
	case executor.WrongAddress:
		out.Why = crn.WrongAddress
	case executor.WrongChain:
		out.Why = crn.WrongChain
	default:
		return errs.New(errs.Unavailable, "%s", r.Text)
	}
	return out
}

// decimal writes an amount with the 18 digits that tokens have, "" for none.
func decimal(r *big.Rat) string {
	if r == nil {
		return ""
	}
	return r.FloatString(18)
}

// rights knows whom owners let act for them.
type rights struct{ core *corenode.Client }

// Security implements crn.Rights.
func (r rights) Security(ctx context.Context, owner string) (authz.Security, error) {
	if r.core == nil {
		return authz.Security{}, nil // Owners act for themselves.
	}
	return r.core.Security(ctx, owner)
}

// used keeps which signed requests were used.
type used struct{ db *state.DB }

// Use implements crn.Used.
func (u used) Use(ctx context.Context, request string, now, until time.Time) (good bool, err error) {
	err = u.db.Update(ctx, func(tx *state.Tx) error {
		good, err = tx.UseRequest(ctx, request, now, until)
		return err
	})
	return good, err
}

// List implements crn.Used.
func (u used) List(ctx context.Context, signer string, issuedAt int64) (newest bool, err error) {
	err = u.db.Update(ctx, func(tx *state.Tx) error {
		newest, err = tx.TakeList(ctx, signer, issuedAt)
		return err
	})
	return newest, err
}

// consoles reads what machines have written.
type consoles struct {
	exec *executor.Supervisor
	fns  *functions.Service // nil on a node that runs no programs.
}

// lineMax bounds a line of a console; a longer one is cut into several.
const lineMax = 64 << 10

// Lines implements crn.Logs. A console has no times: lines have that of the
// reading.
func (c consoles) Lines(ctx context.Context, vm message.ItemHash, q crn.LogQuery) iter.Seq2[crn.Line, error] {
	return func(yield func(crn.Line, error) bool) {
		skip := 0
		if q.Tail >= 0 {
			past := 0
			for _, err := range c.read(ctx, vm, false) {
				if err != nil {
					yield(crn.Line{}, err)
					return
				}
				past++
			}
			skip = max(0, past-q.Tail)
		}
		for text, err := range c.read(ctx, vm, q.Follow) {
			if skip > 0 && err == nil {
				skip--
				continue
			}
			if !yield(crn.Line{At: time.Now().UTC(), Stream: "stdout", Text: text}, err) || err != nil {
				return
			}
		}
	}
}

// read reads the lines of a console.
func (c consoles) read(ctx context.Context, vm message.ItemHash, follow bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		r, err := c.exec.Console(ctx, vm, follow)
		if errors.Is(err, errs.NotFound) && c.fns != nil {
			r, err = c.fns.Console(ctx, vm, follow)
		}
		if err != nil {
			yield("", err)
			return
		}
		defer r.Close()
		lines := bufio.NewReaderSize(r, lineMax)
		for {
			text, _, err := lines.ReadLine()
			if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
				return
			}
			if !yield(string(text), err) || err != nil {
				return
			}
		}
	}
}
