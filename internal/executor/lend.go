package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// lentFile has the places on the network of machines that no row has: those of
// programs that run on without the node keep theirs.
const lentFile = "lent.json"

// readLent returns the places that an earlier process has given.
func readLent(root string) (map[message.ItemHash]vmnet.Lease, error) {
	lent := map[message.ItemHash]vmnet.Lease{}
	raw, err := os.ReadFile(filepath.Join(root, lentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return lent, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &lent)
	}
	if err != nil {
		return nil, fmt.Errorf("read the places of programs on the network: %w", err)
	}
	return lent, nil
}

// writeLent keeps the places. The caller holds network.
func (s *Supervisor) writeLent(lent map[message.ItemHash]vmnet.Lease) error {
	raw, err := json.Marshal(lent)
	if err != nil {
		return fmt.Errorf("encode the places of programs on the network: %w", err)
	}
	name := filepath.Join(s.self.Root, lentFile)
	if err := os.WriteFile(name+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write the places of programs on the network: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write the places of programs on the network: %w", err)
	}
	return nil
}

// Lend gives the machine of a program a place on the network, or returns the one
// that it has. It stays until Unlend, over restarts of the node too.
func (s *Supervisor) Lend(ctx context.Context, spec message.ItemHash) (vmnet.Device, error) {
	l, err := s.lend(ctx, spec)
	if err != nil {
		return vmnet.Device{}, err
	}
	if err := s.applyNetwork(ctx); err != nil {
		return vmnet.Device{}, fmt.Errorf("set up the network of program %s: %w", spec, err)
	}
	return s.parts.Network.Device(l)
}

// lend chooses a place.
func (s *Supervisor) lend(ctx context.Context, spec message.ItemHash) (vmnet.Lease, error) {
	s.network.Lock()
	defer s.network.Unlock()
	if l, ok := s.lent[spec]; ok {
		return l, nil
	}
	all, err := s.db.VMs(ctx)
	if err != nil {
		return vmnet.Lease{}, err
	}
	slots, subnets, others := map[int]bool{}, map[int]bool{}, s.lentLeases()
	for _, vm := range all {
		if len(vm.Ports) > 0 {
			others = append(others, lease(vm))
		}
	}
	for _, o := range others {
		slots[o.Slot], subnets[o.Subnet6] = true, true
	}
	l := vmnet.Lease{ID: string(spec), Kind: vmnet.MicroVM}
	if l.Slot, err = s.parts.Network.FreeSlot(func(n int) bool { return slots[n] }); err != nil {
		return l, err
	}
	if l.Subnet6, err = s.parts.Network.FreeSubnet6(func(n int) bool { return subnets[n] }); err != nil {
		return l, err
	}
	if err := s.parts.Network.Admit(l, others); err != nil {
		return l, err
	}
	s.lent[spec] = l
	if err := s.writeLent(s.lent); err != nil {
		delete(s.lent, spec)
		return l, err
	}
	return l, nil
}

// Unlend takes the place of a program's machine away. One that has none is fine.
func (s *Supervisor) Unlend(ctx context.Context, spec message.ItemHash) error {
	s.network.Lock()
	_, there := s.lent[spec]
	delete(s.lent, spec)
	err := error(nil)
	if there {
		err = s.writeLent(s.lent)
	}
	s.network.Unlock()
	if !there || err != nil {
		return err
	}
	return s.applyNetwork(ctx)
}

// Lent returns the place that the machine of a program has on the network, or gives
// errs.NotFound.
func (s *Supervisor) Lent(spec message.ItemHash) (vmnet.Device, error) {
	s.network.Lock()
	l, ok := s.lent[spec]
	s.network.Unlock()
	if !ok {
		return vmnet.Device{}, errs.New(errs.NotFound, "program %s has no place on the network", spec)
	}
	return s.parts.Network.Device(l)
}

// lentLeases lists the places of programs. The caller holds network.
func (s *Supervisor) lentLeases() []vmnet.Lease {
	out := make([]vmnet.Lease, 0, len(s.lent))
	for _, l := range s.lent {
		out = append(out, l)
	}
	return out
}
