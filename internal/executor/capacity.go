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

// used sums what is taken: all of a VM while it lives, its disk until it is
// removed, and what was promised to jobs and leases that have no VM yet.
func used(vms []state.VM, kept []state.Acceptance, leases []state.Lease) state.Resources {
	var sum state.Resources
	have := map[message.ItemHash]bool{}
	for _, vm := range vms {
		have[vm.Spec] = true
		sum.DiskMiB += vm.Resources.DiskMiB
		if vm.State != state.VMStopped && vm.State != state.VMFailed && vm.State != state.VMHalted {
			sum.VCPUs += vm.Resources.VCPUs
			sum.MemoryMiB += vm.Resources.MemoryMiB
		}
	}
	for _, a := range kept {
		if have[a.Spec] {
			continue
		}
		have[a.Spec] = true
		sum.VCPUs += a.Resources.VCPUs
		sum.MemoryMiB += a.Resources.MemoryMiB
		sum.DiskMiB += a.Resources.DiskMiB
	}
	for _, l := range leases {
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
		vms, err := v.VMs(ctx)
		if err != nil {
			return err
		}
		kept, err := v.Acceptances(ctx)
		if err != nil {
			return err
		}
		leases, err := v.Leases(ctx)
		if err != nil {
			return err
		}
		u := s.used(vms, kept, leases)
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
