package executor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// promises are the rows of all to whom this host has promised something.
type promises struct {
	vms    []state.VM
	kept   []state.Acceptance
	leases []state.Lease
}

// promisesOf reads them, within a transaction or a view of it.
func promisesOf(ctx context.Context, r interface {
	VMs(ctx context.Context, states ...state.VMState) ([]state.VM, error)
	Acceptances(ctx context.Context) ([]state.Acceptance, error)
	Leases(ctx context.Context) ([]state.Lease, error)
},
) (p promises, err error) {
	if p.vms, err = r.VMs(ctx); err != nil {
		return p, err
	}
	if p.kept, err = r.Acceptances(ctx); err != nil {
		return p, err
	}
	p.leases, err = r.Leases(ctx)
	return p, err
}

// takesProcessors reports whether a VM has its processors and memory, and not its
// disk alone. So does one that is down and will start again by itself: after a
// reboot, or when its move is called off.
func takesProcessors(vm state.VM) bool {
	switch vm.State {
	case state.VMStopped, state.VMFailed:
		return false
	case state.VMHalted:
		return vm.Halt != nil && vm.Halt.Again || vm.Move != nil && !vm.Move.Given()
	default:
		return true
	}
}

// used sums what is taken: all of a VM while it lives, its disk until it is
// removed, and what was promised to jobs and leases that have no VM yet.
func (p promises) used() state.Resources {
	var sum state.Resources
	have := map[message.ItemHash]bool{}
	for _, vm := range p.vms {
		have[vm.Spec] = true
		sum.DiskMiB += vm.Resources.DiskMiB
		if takesProcessors(vm) {
			sum.VCPUs += vm.Resources.VCPUs
			sum.MemoryMiB += vm.Resources.MemoryMiB
		}
	}
	for _, a := range p.kept {
		if have[a.Spec] {
			continue
		}
		have[a.Spec] = true
		sum.VCPUs += a.Resources.VCPUs
		sum.MemoryMiB += a.Resources.MemoryMiB
		sum.DiskMiB += a.Resources.DiskMiB
	}
	for _, l := range p.leases {
		if have[l.Spec] || !l.Open() {
			continue
		}
		sum.VCPUs += l.Resources.VCPUs
		sum.MemoryMiB += l.Resources.MemoryMiB
		sum.DiskMiB += l.Resources.DiskMiB
	}
	return sum
}

// advertise publishes what is free, at each interval and when it has changed.
func (s *Supervisor) advertise(ctx context.Context) error {
	ad, err := s.capacity(ctx)
	if err != nil {
		return fmt.Errorf("measure capacity: %w", err)
	}
	s.mu.Lock()
	last := s.ad
	s.mu.Unlock()
	age := time.Duration(ad.AtMS-last.AtMS) * time.Millisecond
	last.AtMS, last.Signature = ad.AtMS, ""
	if reflect.DeepEqual(last, *ad) && age < s.cfg.AdInterval {
		return nil
	}
	if err := ad.Sign(s.self.Key); err != nil {
		return err
	}
	if err := s.parts.Publisher.PublishCapacity(ctx, ad); err != nil {
		return fmt.Errorf("publish capacity: %w", err)
	}
	s.mu.Lock()
	s.ad = *ad
	s.mu.Unlock()
	return nil
}

// capacity returns the ad of this moment, not signed.
func (s *Supervisor) capacity(ctx context.Context) (*wire.CapacityAd, error) {
	ad := &wire.CapacityAd{
		NodeID: s.self.NodeID, PeerID: s.self.PeerID, Endpoint: s.self.Endpoint, PublicIP: s.self.PublicIP,
		VCPUsTotal: s.totals.VCPUs, MemoryTotalMiB: int64(s.totals.MemoryMiB), DiskTotalMiB: s.totals.DiskMiB,
		PriceBps: s.cfg.PriceBps, Accelerator: string(s.self.Accelerator), Drivers: []string{s.parts.Driver.Name()},
		ScoreBps: wire.Bps, AtMS: time.Now().UnixMilli(),
	}
	err := s.db.View(ctx, func(v *state.View) error {
		p, err := promisesOf(ctx, v)
		if err != nil {
			return err
		}
		u := s.used(p)
		ad.VCPUsFree = max(0, s.totals.VCPUs-u.VCPUs)
		ad.MemoryFreeMiB = max(0, int64(s.totals.MemoryMiB-u.MemoryMiB))
		ad.DiskFreeMiB = max(0, s.totals.DiskMiB-u.DiskMiB)
		self, err := v.Node(ctx, s.self.NodeID)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		// A node that the chain does not know takes no jobs.
		ad.Draining = err != nil || self.Status != state.NodeActive
		d, err := drains(ctx, v)
		ad.Draining = ad.Draining || d != nil
		return err
	})
	return ad, err
}
