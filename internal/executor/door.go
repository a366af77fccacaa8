package executor

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// reserveFor is how long who asks whether there is room may rely on the answer.
const reserveFor = time.Minute

// Admit gives errs.Exhausted if there is no room for an instance beside the others.
func (s *Supervisor) Admit(ctx context.Context, spec message.ItemHash, i *message.Instance) error {
	need := state.Resources{VCPUs: i.Resources.VCPUs, MemoryMiB: i.Resources.MemoryMiB, DiskMiB: i.Rootfs.SizeMiB}
	return s.db.View(ctx, func(v *state.View) error {
		p, err := promisesOf(ctx, v)
		if err != nil {
			return err
		}
		p.vms = slices.DeleteFunc(p.vms, func(vm state.VM) bool { return vm.Spec == spec })
		p.leases = slices.DeleteFunc(p.leases, func(l state.Lease) bool { return l.Spec == spec })
		if err := s.fits(need, s.used(p)); err != nil {
			return errs.New(errs.Exhausted, "%w", err)
		}
		return nil
	})
}

// Reserve tells until when an instance of these needs would have room. Nothing but
// GPUs is worth being kept for strangers: those are the address's until then, and
// errs.Conflict names one that is not free.
func (s *Supervisor) Reserve(ctx context.Context, by string, i *message.Instance) (time.Time, error) {
	if err := s.Admit(ctx, "", i); err != nil {
		return time.Time{}, err
	}
	until := time.Now().Add(reserveFor).UTC()
	return until, s.reserveGPUs(ctx, by, i, until)
}

// Place returns where a machine is on the network, as long as it has a place
// there.
func (s *Supervisor) Place(vm state.VM) (vmnet.Device, error) {
	if len(vm.Ports) == 0 {
		return vmnet.Device{}, errs.New(errs.NotFound, "machine %s has no place on the network yet", vm.Spec)
	}
	return s.parts.Network.Device(lease(vm))
}

// MendNetwork makes the host's network what the rows say, and returns the machines
// that have a place there.
func (s *Supervisor) MendNetwork(ctx context.Context) ([]message.ItemHash, error) {
	if err := s.applyNetwork(ctx); err != nil {
		return nil, err
	}
	vms, err := s.db.VMs(ctx)
	var placed []message.ItemHash
	for _, vm := range vms {
		if len(vm.Ports) > 0 && !isDown(vm) {
			placed = append(placed, vm.Spec)
		}
	}
	return placed, err
}

// Disk returns how much disk the node offers, and how much of it is free, in bytes.
func (s *Supervisor) Disk(ctx context.Context) (total, free int64, err error) {
	ad, err := s.capacity(ctx)
	if err != nil {
		return 0, 0, err
	}
	return s.totals.DiskMiB << 20, ad.DiskFreeMiB << 20, nil
}

// Console returns what a machine has written, also one that is gone while that is
// kept. The caller has checked who asks.
func (s *Supervisor) Console(ctx context.Context, spec message.ItemHash, follow bool) (io.ReadCloser, error) {
	return s.console(ctx, LogRequest{Spec: spec, Follow: follow})
}
