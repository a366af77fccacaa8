package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// upMax bounds how long who asks for a machine is kept waiting for its
	// process; it is started all the same.
	upMax = 60 * time.Second
	// startSeconds must be paid ahead by credits to start a machine.
	startSeconds = 3600
	// takers bounds the machines of a list whose messages are asked for at one time.
	takers = 8
	// listMax bounds the machines that a list may name.
	listMax = 4096
)

// Why is why a machine of the message network is not started.
type Why int

// The reasons.
const (
	NotInstance           Why = iota + 1 // Its message is no INSTANCE.
	OtherNode                            // It names another node.
	NodeUnknown                          // It names a node, and the message network does not know this one.
	NoRoom                               // The node has no room for it.
	WrongPayment                         // Its payment starts nothing here.
	OtherReceiver                        // Its tokens flow to somebody else.
	TooLittleHeld                        // Its sender holds too little.
	TooFewCredits                        // Its owner has too few credits.
	NoFlow                               // No tokens flow.
	TooLittleFlow                        // Too few tokens flow to the node.
	TooLittleForCommunity                // Too few tokens flow to the community.
	WrongAddress                         // Its owner has no address that tokens flow from.
	WrongChain                           // No tokens flow on its chain.
	CannotRun                            // It asks for what the node cannot give.
	NetworkAway                          // Nobody could tell whether it is paid.
	MessageNotFound                      // Nobody has its message.
	DoesNotStart                         // It was tried, and did not start.
)

// Refusal is why a machine is not started, for who asked.
type Refusal struct {
	Why                 Why
	Text                string
	Required, Available *big.Rat // Of payments; nil for none.
}

func (r *Refusal) Error() string { return r.Text }

func refuse(why Why, format string, args ...any) *Refusal {
	return &Refusal{Why: why, Text: fmt.Sprintf(format, args...)}
}

// Allocated is what became of a scheduler's list.
type Allocated struct {
	Started []message.ItemHash         // Of the list, those that run.
	Failed  map[message.ItemHash]error // Of the list, those that do not.
	Stopped []message.ItemHash         // Those that the list does not name any more.
}

// Allocate makes the machines of the list run, and ends those that an earlier
// list named and this one does not. by is who signed it: the caller has checked
// that. It waits until the machines' processes are up, a minute at most.
func (s *Supervisor) Allocate(ctx context.Context, by string, list []message.ItemHash) (*Allocated, error) {
	if len(list) > listMax {
		return nil, errs.New(errs.Invalid, "the list names %d machines, at most %d are taken", len(list), listMax)
	}
	s.allocating.Lock()
	defer s.allocating.Unlock()
	out := &Allocated{Failed: map[message.ItemHash]error{}}
	if err := s.drop(ctx, by, list, out); err != nil {
		return nil, err
	}
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	// All get their lease first, so that one that does not boot delays no other.
	taken := each(list, takers, func(spec message.ItemHash) error { return s.take(ctx, spec, state.LeaseScheduled, by) })
	ctx, cancel := context.WithTimeout(ctx, upMax)
	defer cancel()
	up := each(list, len(list), func(spec message.ItemHash) error {
		if taken[spec] != nil {
			return taken[spec]
		}
		return s.waitUp(ctx, spec)
	})
	for _, spec := range list {
		if up[spec] != nil {
			out.Failed[spec] = up[spec]
			continue
		}
		out.Started = append(out.Started, spec)
	}
	return out, nil
}

// each calls do for every spec, so many at the same time, and returns the errors.
func each(list []message.ItemHash, atOnce int, do func(message.ItemHash) error) map[message.ItemHash]error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, atOnce))
	out := map[message.ItemHash]error{}
	for _, spec := range list {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := do(spec)
			mu.Lock()
			defer mu.Unlock()
			out[spec] = err
		})
	}
	wg.Wait()
	return out
}

// drop ends the leases that the list does not name.
func (s *Supervisor) drop(ctx context.Context, by string, list []message.ItemHash, out *Allocated) error {
	named := map[message.ItemHash]bool{}
	for _, spec := range list {
		named[spec] = true
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		all, err := tx.Leases(ctx)
		if err != nil {
			return err
		}
		head, err := headTime(ctx, tx)
		if err != nil {
			return err
		}
		for _, l := range all {
			if named[l.Spec] || !l.Open() {
				continue
			}
			ended := dropped(l, by, head, time.Now())
			if ended.Open() {
				continue
			}
			if err := tx.PutLease(ctx, ended); err != nil {
				return err
			}
			out.Stopped = append(out.Stopped, l.Spec)
		}
		return nil
	})
}

func headTime(ctx context.Context, tx *state.Tx) (uint64, error) {
	head, err := tx.Head(ctx)
	if errors.Is(err, errs.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return head.Time, nil
}

// Request starts the machine of an INSTANCE message that its payment pays, and
// waits until its process is up. A refusal is a *Refusal. The machine of a job,
// which the chain pays, is started when an order had stopped it.
func (s *Supervisor) Request(ctx context.Context, spec message.ItemHash) error {
	return s.startFor(ctx, spec, state.LeaseRequested, "")
}

// startFor starts the machine of a job that an order had stopped, or takes the machine
// by a lease of the kind, and waits until its process is up.
func (s *Supervisor) startFor(ctx context.Context, spec message.ItemHash, kind state.LeaseKind, by string) error {
	if again, err := s.startJobAgain(ctx, spec); err != nil {
		return err
	} else if again {
		return s.waitUp(ctx, spec)
	}
	if err := s.take(ctx, spec, kind, by); err != nil {
		return err
	}
	return s.waitUp(ctx, spec)
}

// startJobAgain takes back the order that has stopped the machine of a live job. It
// reports whether there was one. errs.Exhausted means that there is no room.
func (s *Supervisor) startJobAgain(ctx context.Context, spec message.ItemHash) (again bool, err error) {
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		again = false
		j, err := tx.Job(ctx, spec)
		if err != nil || j.NodeID != s.self.NodeID || j.Status.Ended() {
			return ignoreNotFound(err)
		}
		if l, err := tx.Lease(ctx, spec); ignoreNotFound(err) != nil || err == nil && l.Open() {
			return ignoreNotFound(err) // It keeps the machine, and is asked.
		}
		row, err := tx.VM(ctx, spec)
		if err != nil || row.Halt == nil || row.Halt.Again || isOver(*row) || row.State == state.VMStopping {
			return ignoreNotFound(err)
		}
		if err := s.roomAgain(ctx, tx, *row); err != nil {
			return err
		}
		again = true
		startAgain(row)
		return putVM(ctx, tx, row)
	})
	return again, err
}

// startAgain takes back the order that has stopped a machine. One that goes down, or
// is down, keeps its room until it starts, as after a reboot.
func startAgain(row *state.VM) {
	if row.Halt = nil; row.State == state.VMHalted {
		row.Halt = &state.Halt{By: "a request", At: time.Now().UTC(), Again: true}
	}
}

// take gives the machine a lease, or takes back what keeps the machine of one
// from running.
func (s *Supervisor) take(ctx context.Context, spec message.ItemHash, kind state.LeaseKind, by string) error {
	have, err := s.db.Lease(ctx, spec)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	var lease *state.Lease
	if have != nil {
		l := *have
		lease = &l
	} else if lease, err = s.read(ctx, spec); err != nil {
		return err
	}
	instance, _, err := readLease(*lease)
	if err != nil {
		return err
	}
	if have != nil && !have.Open() && have.End.Cause == state.EndMoved {
		return refuse(DoesNotStart, "the machine moved to another node: %s", have.End.Detail)
	}
	if have == nil || !have.Open() {
		if err := s.notGone(ctx, *lease); err != nil {
			return err
		}
		if s.isComing(spec, time.Now()) {
			return refuse(DoesNotStart, "the machine comes from another node: its disks are not here yet")
		}
	}
	if kind == state.LeaseRequested {
		if err := s.mayRequest(ctx, *lease, instance); err != nil {
			return err
		}
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		// As it is now: the network was asked for a while.
		l := *lease
		switch now, err := tx.Lease(ctx, spec); {
		case err == nil:
			if !now.Open() && (have == nil || have.Open()) {
				return refuse(DoesNotStart, "it has just ended: %s", now.End.Detail)
			}
			l = *now
		case !errors.Is(err, errs.NotFound):
			return err
		}
		if have == nil || !l.Open() {
			l.Kind, l.TakenAt = kind, time.Now().UTC()
		}
		if !l.Open() {
			l.End, l.Watch, l.Session = nil, state.Watch{}, nil
		}
		head, err := headTime(ctx, tx)
		if err != nil {
			return err
		}
		if l.Until != 0 && head > l.Until { // It has been stopped as was ordered; an order that is to come stays.
			l.Until, l.UntilBy = 0, ""
		}
		if kind == state.LeaseScheduled {
			l.By = by
		}
		return s.commit(ctx, tx, l, false)
	})
}

// notGone refuses a machine whose message the network has not any more. A lease
// that ended for that needs an answer that it is there again.
func (s *Supervisor) notGone(ctx context.Context, l state.Lease) error {
	if s.parts.Core == nil {
		return nil
	}
	status, err := s.parts.Core.Standing(ctx, l.Spec)
	switch {
	case err == nil && isGone(status):
		return refuse(MessageNotFound, "message %s is %s", l.Spec, status)
	case err != nil && !l.Open() && l.End.Cause == state.EndMessage:
		return away(err)
	default:
		return nil
	}
}

// commit writes a lease for which there is room, and sees to it that its machine
// is tried. arrives is set for one that another node has given away: it was asked before
// whether this one takes machines, and is nowhere else by now.
func (s *Supervisor) commit(ctx context.Context, tx *state.Tx, l state.Lease, arrives bool) error {
	p, err := promisesOf(ctx, tx)
	if err != nil {
		return err
	}
	var own *state.VM
	if i := slices.IndexFunc(p.vms, func(vm state.VM) bool { return vm.Spec == l.Spec }); i >= 0 {
		vm := p.vms[i]
		own = &vm
		p.vms = slices.Delete(p.vms, i, i+1)
	}
	open := slices.ContainsFunc(p.leases, func(o state.Lease) bool { return o.Spec == l.Spec && o.Open() })
	p.leases = slices.DeleteFunc(p.leases, func(o state.Lease) bool { return o.Spec == l.Spec })
	switch j, err := tx.Job(ctx, l.Spec); {
	case err == nil && j.NodeID == s.self.NodeID && !j.Status.Ended():
		return refuse(DoesNotStart, "the machine is a job on the chain, which pays it")
	case err != nil && !errors.Is(err, errs.NotFound):
		return err
	case own != nil && own.Move != nil:
		return refuse(DoesNotStart, "the machine moves to another node")
	case own != nil && own.Removing:
		return refuse(DoesNotStart, "what is left of the machine is being removed; ask again in a minute")
	}
	if !open && !arrives {
		why, err := s.closed(ctx, tx)
		if err != nil {
			return err
		}
		if why != "" {
			return refuse(NoRoom, "%s", why)
		}
	}
	if open && own != nil && takesProcessors(*own) && (own.Halt == nil || own.Halt.Again) {
		return tx.PutLease(ctx, l) // It has its room, however little the host has by now.
	}
	if err := s.fits(l.Resources, s.used(p)); err != nil {
		return refuse(NoRoom, "%v", err)
	}
	instance, _, err := readLease(l)
	if err != nil {
		return err
	}
	if l.GPUs, err = s.chooseGPUs(ctx, instance, l.Owner, l.GPUs, p); err != nil {
		return refuse(NoRoom, "%v", err)
	}
	if err := tx.PutLease(ctx, l); err != nil {
		return err
	}
	switch {
	case own == nil:
		return nil
	case own.State == state.VMFailed:
		own.State, own.Detail, own.StopReason, own.Failures, own.StoppedAt = state.VMWanted, "is asked for again", "", 0, time.Time{}
		return putVM(ctx, tx, own)
	case own.Halt != nil && (!own.Halt.Again || own.State == state.VMStopped && own.Halt.Wipe == state.WipeNothing && own.Halt.Restore == ""):
		startAgain(own) // A reboot that was under way when the machine ended asks for nothing more.
		return putVM(ctx, tx, own)
	default:
		return nil
	}
}

// read gets the message of a machine and makes a lease of it.
func (s *Supervisor) read(ctx context.Context, spec message.ItemHash) (*state.Lease, error) {
	env, err := s.parts.Messages.Message(ctx, spec)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil, refuse(MessageNotFound, "no node has message %s", spec)
	case err != nil:
		return nil, refuse(NetworkAway, "message %s: %v", spec, err)
	case env.Type != message.TypeInstance:
		return nil, refuse(NotInstance, "message %s is a %s, not an INSTANCE", spec, env.Type)
	}
	instance, err := env.Instance()
	if err != nil {
		return nil, refuse(CannotRun, "message %s: %v", spec, err)
	}
	raw, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", spec, err)
	}
	l := state.Lease{
		Spec: spec, Owner: instance.Address, Sender: env.Sender, Payment: string(instance.PaymentType()), Message: raw,
		Sticky: instance.PaymentType() != message.PayHold || isConfidential(instance) || hasGPU(instance),
	}
	_, needs, err := readLease(l)
	if err != nil {
		return nil, err
	}
	if err := s.mayGuard(ctx, instance.Environment.TrustedExecution); err != nil {
		return nil, err
	}
	if needs.Driver != s.parts.Driver.Name() {
		return nil, refuse(CannotRun, "the node has no %s, only %s", needs.Driver, s.parts.Driver.Name())
	}
	l.Resources = state.Resources{VCPUs: needs.VCPUs, MemoryMiB: needs.MemoryMiB, DiskMiB: needs.DiskMiB}
	return &l, nil
}

// readLease returns what a lease's message asks for.
func readLease(l state.Lease) (*message.Instance, job.Needs, error) {
	env, err := message.Parse(l.Message)
	if err != nil {
		return nil, job.Needs{}, errs.New(errs.Invalid, "message %s: %w", l.Spec, err)
	}
	instance, err := env.Instance()
	if err != nil {
		return nil, job.Needs{}, errs.New(errs.Invalid, "message %s: %w", l.Spec, err)
	}
	if err := checkVolumes(instance.Volumes); err != nil {
		return nil, job.Needs{}, refuse(CannotRun, "%v", err)
	}
	n := job.Needs{
		Driver: message.QEMU, VCPUs: instance.Resources.VCPUs, MemoryMiB: instance.Resources.MemoryMiB,
		DiskMiB: instance.Rootfs.SizeMiB + volumesMiB(instance.Volumes),
	}
	if h := instance.Environment.Hypervisor; h != nil {
		n.Driver = *h
	}
	return instance, n, nil
}

func isConfidential(i *message.Instance) bool { return i.Environment.TrustedExecution != nil }

func hasGPU(i *message.Instance) bool { return i.Requirements != nil && len(i.Requirements.GPU) > 0 }

// Paid refuses, with a *Refusal, an instance that its payment does not start here.
func (s *Supervisor) Paid(ctx context.Context, spec message.ItemHash, sender string, i *message.Instance) error {
	return s.mayRequest(ctx, state.Lease{Spec: spec, Owner: i.Address, Sender: sender, Payment: string(i.PaymentType())}, i)
}

// mayRequest refuses what this node does not start on anybody's word.
func (s *Supervisor) mayRequest(ctx context.Context, l state.Lease, i *message.Instance) error {
	if r := i.Requirements; r != nil && r.Node != nil && r.Node.NodeHash != nil {
		switch own, known := s.nodeHash(); {
		case !known:
			return refuse(NodeUnknown, "Node hash not yet discovered, cannot accept targeted allocations")
		case own != *r.Node.NodeHash:
			return refuse(OtherNode, "Instance is allocated to a different node")
		}
	}
	if s.parts.Core == nil {
		return refuse(NetworkAway, "the node asks no core channel node")
	}
	switch i.PaymentType() {
	case message.PayCredit:
		return s.enoughCredits(ctx, l)
	case message.PaySuperfluid:
		return s.enoughFlow(ctx, l, i)
	case message.PayHold:
		if !isConfidential(i) && !hasGPU(i) {
			return refuse(WrongPayment, "Invalid payment method")
		}
		return s.enoughHeld(ctx, l)
	default:
		return refuse(WrongPayment, "Invalid payment method")
	}
}

// nodeHash is the message under which the network knows the node.
func (s *Supervisor) nodeHash() (message.ItemHash, bool) {
	if s.cfg.NodeHash != "" || s.parts.Identity == nil {
		return message.ItemHash(s.cfg.NodeHash), s.cfg.NodeHash != ""
	}
	return s.parts.Identity.NodeHash()
}

// away says that nobody could tell.
func away(err error) error {
	if err == nil {
		return nil
	}
	return refuse(NetworkAway, "nobody could tell whether the machine is paid: %v", err)
}

func (s *Supervisor) enoughCredits(ctx context.Context, l state.Lease) error {
	price, err := s.parts.Core.Price(ctx, l.Spec)
	if err != nil {
		return away(err)
	}
	_, credits, err := s.parts.Core.Balance(ctx, l.Owner)
	if err != nil {
		return away(err)
	}
	if need := new(big.Rat).Mul(price, big.NewRat(startSeconds, 1)); credits.Cmp(need) < 0 {
		return &Refusal{Why: TooFewCredits, Text: "Insufficient credits for this instance", Required: need, Available: credits}
	}
	return nil
}

func (s *Supervisor) enoughHeld(ctx context.Context, l state.Lease) error {
	price, err := s.parts.Core.Price(ctx, l.Spec)
	if err != nil {
		return away(err)
	}
	held, _, err := s.parts.Core.Balance(ctx, l.Sender)
	if err != nil {
		return away(err)
	}
	if held.Cmp(price) < 0 {
		return &Refusal{Why: TooLittleHeld, Text: "Insufficient balance for this instance", Required: price, Available: held}
	}
	return nil
}

// waitUp waits until the machine's process is up, or it has failed.
func (s *Supervisor) waitUp(ctx context.Context, spec message.ItemHash) error {
	ctx, cancel := context.WithTimeout(ctx, upMax)
	defer cancel()
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) {
		switch {
		case vm == nil:
			return false, nil
		case vm.State == state.VMFailed:
			return false, refuse(DoesNotStart, "%s", vm.Detail)
		default:
			return vm.AwaitsOwner || isUp(vm), nil
		}
	})
}

func isUp(vm *state.VM) bool {
	return vm.State == state.VMRunning || vm.State == state.VMBooting && vm.PID != 0
}

// await returns when the VM is as holds wants it; it is nil while it has no row.
func (s *Supervisor) await(ctx context.Context, spec message.ItemHash, holds func(*state.VM) (bool, error)) error {
	wake := s.db.Wake("vms")
	tick := time.NewTicker(time.Second) // A wake that another reader had.
	defer tick.Stop()
	var vm *state.VM
	for {
		now, err := s.db.VM(ctx, spec)
		switch {
		case ctx.Err() != nil: // Told below, by what was there last.
		case err != nil && !errors.Is(err, errs.NotFound):
			return err
		default:
			vm = now
			if done, err := holds(vm); done || err != nil {
				return err
			}
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			text := "it is not there yet"
			if vm != nil {
				text = fmt.Sprintf("it is %s: %s", vm.State, vm.Detail)
			}
			return errs.New(errs.Unavailable, "machine %s is not as wanted yet, %s; the node goes on with it", spec, text)
		}
	}
}
