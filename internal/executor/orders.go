package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What the owner of a machine may order. Who it is the caller has checked: the
// orders say by whom they are, and are rows before they have any effect.

const (
	// expireMax bounds how far ahead a machine can be told to stop.
	expireMax = 10 * 24 * time.Hour
	// bootMax bounds the wait for a machine that was told to start anew. One that is
	// paused starts only when it is paid.
	bootMax = 10 * time.Minute
)

// Stop shuts the machine down. It keeps disk and ports and starts again when it
// is asked for. It reports whether the machine ran.
func (s *Supervisor) Stop(ctx context.Context, spec message.ItemHash, by string) (ran bool, err error) {
	vm, err := s.order(ctx, spec, &state.Halt{By: by})
	if err != nil {
		return false, err
	}
	return hasProcess(vm.State), s.awaitDown(ctx, spec)
}

// Resume starts the machine again that its owner stopped, and waits until its
// process is up. What a scheduler wants, and what a job on the chain pays, needs no
// payment; the rest is as Request.
func (s *Supervisor) Resume(ctx context.Context, spec message.ItemHash) error {
	l, err := s.db.Lease(ctx, spec)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	kind, by := state.LeaseRequested, ""
	if err == nil && l.Open() && l.Kind == state.LeaseScheduled {
		kind, by = l.Kind, l.By
	}
	return s.startFor(ctx, spec, kind, by)
}

// Reboot shuts the machine down and starts it again. It reports whether the
// machine ran; one that did not is started.
func (s *Supervisor) Reboot(ctx context.Context, spec message.ItemHash, by string) (ran bool, err error) {
	vm, err := s.order(ctx, spec, &state.Halt{By: by, Again: true})
	if err != nil {
		return false, err
	}
	return hasProcess(vm.State), s.awaitBoot(ctx, spec, vm.Starts)
}

// Reinstall shuts the machine down and starts it with a new root disk, and with
// new volumes of its own too when volumes is set. Address and ports stay.
func (s *Supervisor) Reinstall(ctx context.Context, spec message.ItemHash, by string, volumes bool) error {
	h := &state.Halt{By: by, Again: true, Wipe: state.WipeRoot}
	if volumes {
		h.Wipe = state.WipeAll
	}
	vm, err := s.order(ctx, spec, h)
	if err != nil {
		return err
	}
	return s.awaitBoot(ctx, spec, vm.Starts)
}

// Erase ends the machine and deletes its disks. A machine of a job ends on the
// chain only.
func (s *Supervisor) Erase(ctx context.Context, spec message.ItemHash, by string) error {
	err := s.editLease(ctx, spec, func(l *state.Lease, head uint64) {
		now := time.Now().UTC()
		l.End = &state.LeaseEnd{Cause: state.EndOwner, Detail: fmt.Sprintf("erased by the order of %s at %s", by, now.Format(time.RFC3339)), At: now, Head: head}
	})
	if err != nil {
		return err
	}
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) { return vm == nil, nil })
}

// Expire stops the machine after the time, by the chain's clock.
func (s *Supervisor) Expire(ctx context.Context, spec message.ItemHash, by string, after time.Duration) error {
	if after <= 0 || after >= expireMax {
		return errs.New(errs.Invalid, "Invalid timeout duration: %v, want more than 0 s and less than %v", after, expireMax)
	}
	return s.editLease(ctx, spec, func(l *state.Lease, head uint64) { l.Until, l.UntilBy = head+uint64(after.Seconds()), by })
}

// editLease changes an open lease. The machine of a job has none.
func (s *Supervisor) editLease(ctx context.Context, spec message.ItemHash, change func(l *state.Lease, head uint64)) error {
	return s.db.Update(ctx, func(tx *state.Tx) error {
		l, err := tx.Lease(ctx, spec)
		if errors.Is(err, errs.NotFound) {
			if _, jerr := tx.Job(ctx, spec); jerr == nil {
				return errs.New(errs.Conflict, "machine %s is of a job on the chain: its payer ends it there", spec)
			}
		}
		if err != nil {
			return err
		}
		head, err := headTime(ctx, tx)
		if err != nil {
			return err
		}
		change(l, head)
		return tx.PutLease(ctx, *l)
	})
}

// order writes an order to the row of a machine, and returns the row as it was.
func (s *Supervisor) order(ctx context.Context, spec message.ItemHash, h *state.Halt) (*state.VM, error) {
	var before state.VM
	h.At = time.Now().UTC()
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.VM(ctx, spec)
		if err != nil {
			return err
		}
		before = *row
		switch {
		case row.State == state.VMStopped || row.State == state.VMStopping:
			return errs.New(errs.NotFound, "machine %s has ended: %s", spec, row.StopReason)
		case row.Move != nil:
			return errs.New(errs.Conflict, "machine %s moves to another node", spec)
		case row.Halt != nil && row.Halt.Wipe != state.WipeNothing && h.Wipe == state.WipeNothing:
			return errs.New(errs.Conflict, "machine %s is being reinstalled", spec)
		case row.Halt != nil && row.Halt.Restore != "":
			return errs.New(errs.Conflict, "machine %s is being restored", spec)
		case row.State == state.VMFailed && !h.Again:
			return nil
		case h.Again:
			if err := s.roomAgain(ctx, tx, *row); err != nil {
				return err
			}
		}
		if row.State == state.VMFailed {
			row.State, row.Detail, row.StopReason, row.Failures, row.StoppedAt = state.VMWanted, "is asked for again by "+h.By, "", 0, time.Time{}
		}
		row.Halt = h
		if err := putVM(ctx, tx, row); err != nil || h.Again {
			return err
		}
		return forgetSession(ctx, tx, spec)
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("ordered by the owner", "job_id", spec, "by", h.By, "again", h.Again, "wipe", h.Wipe, "restore", h.Restore)
	return &before, nil
}

func hasProcess(st state.VMState) bool { return st == state.VMRunning || st == state.VMBooting }

func (s *Supervisor) awaitDown(ctx context.Context, spec message.ItemHash) error {
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) {
		return vm == nil || vm.State == state.VMFailed || vm.State == state.VMHalted && !vm.StoppedAt.IsZero(), nil
	})
}

// awaitBoot waits until the machine was started once more and its process is up,
// for bootMax at most.
func (s *Supervisor) awaitBoot(ctx context.Context, spec message.ItemHash, starts int) error {
	ctx, cancel := context.WithTimeout(ctx, bootMax)
	defer cancel()
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) {
		switch {
		case vm == nil:
			return false, errs.New(errs.NotFound, "machine %s has ended", spec)
		case vm.State == state.VMFailed:
			return false, errs.New(errs.Unavailable, "machine %s does not start: %s", spec, vm.Detail)
		default:
			return vm.Starts > starts && vm.PID != 0 && hasProcess(vm.State), nil
		}
	})
}

// exchange does what an order says to the disks of a machine whose process is gone.
func (s *Supervisor) exchange(vm state.VM) error {
	if vm.Halt == nil {
		return nil
	}
	if err := s.wipe(vm); err != nil {
		return err
	}
	return s.swap(vm)
}

// wipe deletes what an order says of the disks of a machine whose process is
// gone.
func (s *Supervisor) wipe(vm state.VM) error {
	if vm.Halt.Wipe == state.WipeNothing {
		return nil
	}
	err := disk.Erase(vm.Dir, true, vm.Halt.Wipe == state.WipeAll)
	if errors.Is(err, errs.Conflict) {
		err = doubt{err}
	}
	if err != nil {
		return fmt.Errorf("delete disks: %w", err)
	}
	return nil
}

// UpdatePorts makes the forwarded ports of a leased machine those that its owner's
// aggregate port-forwarding names. While nobody can say, they stay as they are.
func (s *Supervisor) UpdatePorts(ctx context.Context, spec message.ItemHash) error {
	l, err := s.db.Lease(ctx, spec)
	if err != nil {
		return err
	}
	want, err := s.wantedByOwner(ctx, *l)
	if err != nil {
		return err
	}
	err = s.editLease(ctx, spec, func(l *state.Lease, _ uint64) { l.Ports = want })
	if err != nil {
		return err
	}
	if err := s.replacePorts(ctx, spec, append([]state.Port{{Protocol: "tcp", Guest: portSSH}}, want...)); err != nil {
		return err
	}
	return s.applyNetwork(ctx)
}

// wantedByOwner reads the owner's aggregate.
func (s *Supervisor) wantedByOwner(ctx context.Context, l state.Lease) ([]state.Port, error) {
	if s.parts.Core == nil {
		return l.Ports, nil
	}
	raw, err := s.parts.Core.Aggregate(ctx, l.Owner, "port-forwarding")
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read the ports that %s wants: %w; they stay as they are", l.Owner, err)
	}
	return parsePorts(raw, l.Spec)
}

// parsePorts reads the ports of a machine from the aggregate of its owner.
func parsePorts(raw []byte, spec message.ItemHash) ([]state.Port, error) {
	var all map[message.ItemHash]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, errs.New(errs.Invalid, "aggregate port-forwarding is not an object of machines: %w", err)
	}
	var own *struct {
		Ports map[uint16]struct{ TCP, UDP bool } `json:"ports"`
	}
	if len(all[spec]) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(all[spec], &own); err != nil {
		return nil, errs.New(errs.Invalid, "aggregate port-forwarding of machine %s: %w", spec, err)
	}
	if own == nil {
		return nil, nil
	}
	var ports []state.Port
	for guest := 1; guest <= 65535; guest++ {
		flags, ok := own.Ports[uint16(guest)]
		if !ok {
			continue
		}
		if flags.TCP && guest != portSSH {
			ports = append(ports, state.Port{Protocol: "tcp", Guest: uint16(guest)})
		}
		if flags.UDP {
			ports = append(ports, state.Port{Protocol: "udp", Guest: uint16(guest)})
		}
	}
	if len(ports) >= portsMax {
		return nil, errs.New(errs.Invalid, "machine %s asks for %d forwarded ports, at most %d", spec, len(ports), portsMax-1)
	}
	return ports, nil
}
