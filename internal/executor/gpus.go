package executor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// displayClass is the class of GPUs that can be a machine's display.
const displayClass = "0300"

// Devices knows the GPUs that this host keeps for machines.
type Devices interface {
	GPUs(ctx context.Context) []hostinfo.GPU
}

// gpuHold keeps a GPU for an address that has asked for it.
type gpuHold struct {
	by    string
	until time.Time
}

// errNoGPU is of a GPU that is not there, or that somebody else has. The text is that of
// published nodes.
func errNoGPU(want message.GPURequirement) error {
	return errs.New(errs.Conflict, "Failed to find available GPU matching spec vendor='%s' device_name='%s' device_class='%s' device_id='%s'",
		want.Vendor, want.DeviceName, want.DeviceClass, want.DeviceID)
}

// takenGPUs are the addresses of GPUs that leases have: until the lease has ended, and its
// machine is down.
func takenGPUs(p promises) map[string]bool {
	up := map[message.ItemHash]bool{}
	for _, vm := range p.vms {
		up[vm.Spec] = takesProcessors(vm)
	}
	taken := map[string]bool{}
	for _, l := range p.leases {
		if !l.Open() && !up[l.Spec] {
			continue
		}
		for _, g := range l.GPUs {
			taken[g.PCIHost] = true
		}
	}
	return taken
}

// chooseGPUs finds a free GPU for each that an instance asks for, in their order. A lease
// that had GPUs gets the same if they are free. What is held for another address than by
// is not free.
func (s *Supervisor) chooseGPUs(ctx context.Context, i *message.Instance, by string, had []state.GPU, p promises) ([]state.GPU, error) {
	if !hasGPU(i) {
		return nil, nil
	}
	taken, now := takenGPUs(p), time.Now()
	s.mu.Lock()
	for host, hold := range s.gpuHolds {
		if !now.Before(hold.until) {
			delete(s.gpuHolds, host)
		} else if !authz.Same(hold.by, by) {
			taken[host] = true
		}
	}
	s.mu.Unlock()
	var here []hostinfo.GPU
	if s.parts.Devices != nil {
		here = s.parts.Devices.GPUs(ctx)
	}
	first := func(g hostinfo.GPU) int {
		if slices.ContainsFunc(had, func(h state.GPU) bool { return h.PCIHost == g.PCIHost }) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(here, func(a, b hostinfo.GPU) int { return cmp.Compare(first(a), first(b)) })
	var chosen []state.GPU
	for _, want := range i.Requirements.GPU {
		at := slices.IndexFunc(here, func(g hostinfo.GPU) bool { return g.DeviceID == want.DeviceID && !taken[g.PCIHost] })
		if at < 0 {
			return nil, errNoGPU(want)
		}
		taken[here[at].PCIHost] = true
		chosen = append(chosen, state.GPU{PCIHost: here[at].PCIHost, DeviceID: want.DeviceID, Display: here[at].DeviceClass == displayClass})
	}
	return chosen, nil
}

// reserveGPUs keeps what an instance asks for for an address.
func (s *Supervisor) reserveGPUs(ctx context.Context, by string, i *message.Instance, until time.Time) error {
	if !hasGPU(i) {
		return nil
	}
	return s.db.View(ctx, func(v *state.View) error {
		p, err := promisesOf(ctx, v)
		if err != nil {
			return err
		}
		// Chosen and kept under one lock of those who reserve.
		s.reserving.Lock()
		defer s.reserving.Unlock()
		chosen, err := s.chooseGPUs(ctx, i, by, nil, p)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, g := range chosen {
			s.gpuHolds[g.PCIHost] = gpuHold{by, until}
		}
		return nil
	})
}

// gpusOf are the devices of a machine, which the host must still keep for machines.
func (s *Supervisor) gpusOf(ctx context.Context, spec message.ItemHash) ([]vmm.GPU, error) {
	l, err := s.db.Lease(ctx, spec)
	if errs.KindOf(err) == errs.NotFound {
		return nil, nil // A job of the chain has none.
	}
	if err != nil || len(l.GPUs) == 0 {
		return nil, err
	}
	var here []hostinfo.GPU
	if s.parts.Devices != nil {
		here = s.parts.Devices.GPUs(ctx)
	}
	out := make([]vmm.GPU, 0, len(l.GPUs))
	for _, g := range l.GPUs {
		if !slices.ContainsFunc(here, func(h hostinfo.GPU) bool { return h.PCIHost == g.PCIHost && h.DeviceID == g.DeviceID }) {
			return nil, errs.New(errs.Unavailable, "GPU %s at %s is not there, or the driver vfio-pci does not hold it any more", g.DeviceID, g.PCIHost)
		}
		out = append(out, vmm.GPU{PCIHost: g.PCIHost, Display: g.Display})
	}
	return out, nil
}

// UsedGPUs returns the addresses of the GPUs that machines have.
func (s *Supervisor) UsedGPUs(ctx context.Context) (all []string, err error) {
	err = s.db.View(ctx, func(v *state.View) error {
		p, err := promisesOf(ctx, v)
		if err != nil {
			return err
		}
		for host := range takenGPUs(p) {
			all = append(all, host)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list GPUs of machines: %w", err)
	}
	slices.Sort(all)
	return all, nil
}
