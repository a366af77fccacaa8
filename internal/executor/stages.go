package executor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// portSSH is forwarded to every machine.
	portSSH = 22
	// portsMax bounds the forwarded ports of a machine, by what a hypervisor's
	// own network takes.
	portsMax = 128
	// hostnameChars of the spec make a machine's name.
	hostnameChars = 12
	// progressEvery is how often the row tells how much of an image is here.
	progressEvery = 2 * time.Second
)

func (s *Supervisor) dir(spec message.ItemHash) string {
	return filepath.Join(s.self.Root, string(spec))
}

// bringUp fetches, prepares and starts the machine. No process runs in its
// directory.
func (w *worker) bringUp(ctx context.Context, vm state.VM) (vmm.Machine, error) {
	s := w.s
	if err := acquire(ctx, s.fetching); err != nil {
		return nil, err
	}
	f, err := w.fetch(ctx, vm)
	release(s.fetching)
	if err != nil {
		return nil, err
	}
	if f.firmware != "" {
		return w.bringUpGuarded(ctx, f)
	}
	if err := acquire(ctx, s.starting); err != nil {
		return nil, err
	}
	defer release(s.starting)
	started := time.Now()
	spec, err := w.prepare(ctx, f)
	if err != nil {
		return nil, err
	}
	return w.boot(ctx, spec, time.Since(started))
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func release(slots chan struct{}) { <-slots }

// fetched is what a machine is made of.
type fetched struct {
	instance *message.Instance
	image    string // Path of the image.
	volumes  []disk.Volume
	firmware string // Absolute path of that of a confidential machine; "" for others.
	took     time.Duration
}

// fetch gets the message, the image and the volumes' files of the VM.
func (w *worker) fetch(ctx context.Context, vm state.VM) (*fetched, error) {
	s, started := w.s, time.Now()
	_, err := s.edit(ctx, w.spec, func(row *state.VM) {
		row.State, row.Detail = state.VMFetching, "fetches the message"
	})
	if err != nil {
		return nil, err
	}
	instance, needs, err := s.instance(ctx, w.spec)
	if err != nil {
		return nil, err
	}
	ref := instance.Rootfs.Parent.Ref
	hash := vm.ImageHash
	if vm.ImageRef != ref || hash == "" { // Else its disk is over that image already, whatever the network says now.
		if hash, err = s.imageHash(ctx, ref); err != nil {
			return nil, err
		}
	}
	files, err := s.volumeFiles(ctx, instance.Volumes, vm.Files)
	if err != nil {
		return nil, err
	}
	if files, err = s.firmwareFile(ctx, instance, vm.Files, files); err != nil {
		return nil, err
	}
	_, err = s.edit(ctx, w.spec, func(row *state.VM) {
		row.ImageRef, row.ImageHash, row.Detail, row.Files = ref, hash, "fetches image "+string(hash), files
		row.Resources = state.Resources{VCPUs: needs.VCPUs, MemoryMiB: needs.MemoryMiB, DiskMiB: needs.DiskMiB}
	})
	if err != nil {
		return nil, err
	}
	path, err := s.parts.Images.Fetch(ctx, hash, w.progress(ctx, hash))
	if err != nil {
		return nil, fmt.Errorf("fetch image %s: %w", hash, err)
	}
	volumes, err := s.fetchVolumes(ctx, instance.Volumes, files, w.progress)
	if err != nil {
		return nil, err
	}
	firmware, err := w.fetchFirmware(ctx, instance, files)
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	s.stages.WithLabelValues("fetch").Observe(took.Seconds())
	return &fetched{instance, path, volumes, firmware, took}, nil
}

// progress tells in the row how much of an image or volume has come.
func (w *worker) progress(ctx context.Context, hash message.ItemHash) func(done, total int64) {
	last := time.Now()
	return func(done, total int64) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		detail := fmt.Sprintf("fetches file %s: %d MiB", hash, done>>20)
		if total > 0 {
			detail += fmt.Sprintf(" of %d (%d %%)", total>>20, done*100/total)
		}
		if _, err := w.s.edit(ctx, w.spec, func(row *state.VM) { row.Detail = detail }); err != nil && ctx.Err() == nil {
			w.s.log.Warn("writing progress failed", "job_id", w.spec, "err", err)
		}
	}
}

// instance returns the job's message and what it needs.
func (s *Supervisor) instance(ctx context.Context, spec message.ItemHash) (*message.Instance, job.Needs, error) {
	lease, err := s.db.Lease(ctx, spec)
	if err == nil {
		return readLease(*lease)
	}
	if !errors.Is(err, errs.NotFound) {
		return nil, job.Needs{}, err
	}
	env, err := s.parts.Messages.Message(ctx, spec)
	if err != nil {
		return nil, job.Needs{}, fmt.Errorf("fetch message %s: %w", spec, err)
	}
	instance, err := env.Instance()
	if err != nil {
		return nil, job.Needs{}, errs.New(errs.Invalid, "message %s: %w", spec, err)
	}
	needs, err := job.NeedsOf(instance)
	if err != nil {
		return nil, job.Needs{}, errs.New(errs.Invalid, "message %s: %w", spec, err)
	}
	return instance, needs, nil
}

// imageHash returns the hash of the file that the STORE message ref names.
func (s *Supervisor) imageHash(ctx context.Context, ref message.ItemHash) (message.ItemHash, error) {
	file, err := s.db.File(ctx, ref)
	if err == nil {
		return file.Hash, nil
	}
	if !errors.Is(err, errs.NotFound) {
		return "", err
	}
	env, err := s.parts.Messages.Message(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("fetch STORE message %s of the image: %w", ref, err)
	}
	store, err := env.Store()
	if err != nil {
		return "", errs.New(errs.Invalid, "image %s: %w", ref, err)
	}
	return store.ItemHash, nil
}

// prepare unpacks the image, makes the volumes, and the machine's place in the
// network.
func (w *worker) prepare(ctx context.Context, f *fetched) (vmm.Spec, error) {
	s, started := w.s, time.Now()
	ports, err := s.portsOf(ctx, w.spec, f.instance)
	if err != nil {
		return vmm.Spec{}, err
	}
	vm, err := s.settleNetwork(ctx, w.spec, ports, f.took)
	if err != nil {
		return vmm.Spec{}, fmt.Errorf("give the machine its ports: %w", err)
	}
	image, err := s.openImage(ctx, vm.ImageHash, f.image)
	if err != nil {
		return vmm.Spec{}, err
	}
	drives, err := s.prepareDisks(ctx, *vm, f)
	if err != nil {
		return vmm.Spec{}, err
	}
	gpus, err := s.gpusOf(ctx, w.spec)
	if err != nil {
		return vmm.Spec{}, err
	}
	if err := s.applyNetwork(ctx); err != nil {
		return vmm.Spec{}, fmt.Errorf("set up the network: %w", err)
	}
	device, err := s.parts.Network.Device(lease(*vm))
	if err != nil {
		return vmm.Spec{}, fmt.Errorf("plan the network device: %w", err)
	}
	s.stages.WithLabelValues("prepare").Observe(time.Since(started).Seconds())
	return vmm.Spec{
		ID: string(w.spec), VCPUs: vm.Resources.VCPUs, MemoryMiB: vm.Resources.MemoryMiB, DiskMiB: int(f.instance.Rootfs.SizeMiB),
		Image: image, Dir: vm.Dir, Seed: seed(w.spec, f.instance, device), Net: netDevice(device, *vm), Volumes: drives, GPUs: gpus,
	}, nil
}

// boot starts the process. The row says so before, so that after a crash the
// process is looked for; and how long its preparation took, since each writing of a row
// costs the host.
func (w *worker) boot(ctx context.Context, spec vmm.Spec, prepared time.Duration) (vmm.Machine, error) {
	s := w.s
	_, err := s.edit(ctx, w.spec, func(row *state.VM) {
		row.State, row.Detail = state.VMBooting, "the machine starts"
		row.Starts++
		if row.RunningAt.IsZero() {
			timing(row, "prepare", prepared)
		}
	})
	if err != nil {
		return nil, err
	}
	m, err := s.parts.Driver.Start(ctx, spec)
	if errors.Is(err, errs.Conflict) {
		m, err = s.parts.Driver.Adopt(ctx, spec.Dir)
	}
	if errs.KindOf(err) == errs.Exhausted {
		s.makeRoom(ctx, bootBytes) // For the next try.
	}
	if err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	s.outcomes.WithLabelValues("started").Inc()
	s.log.Info("started", "job_id", w.spec, "pid", m.PID())
	return m, nil
}

func seed(spec message.ItemHash, i *message.Instance, d vmnet.Device) cloudinit.Seed {
	out := cloudinit.Seed{
		InstanceID: string(spec), Hostname: "aleph-" + string(spec)[:hostnameChars],
		AuthorizedKeys: i.AuthorizedKeys, Variables: i.Variables,
	}
	if d.Address.IsValid() {
		out.Network = &cloudinit.Network{
			MAC: d.MAC, Address: d.Address, Gateway: d.Gateway, Address6: d.Address6, Gateway6: d.Gateway6, Nameservers: d.Nameservers,
		}
	}
	return out
}

func netDevice(d vmnet.Device, vm state.VM) vmm.NetDevice {
	if d.Mode == vmnet.Tap {
		return vmm.NetDevice{Kind: vmm.NetTap, Tap: d.TapName, MAC: d.MAC}
	}
	out := vmm.NetDevice{Kind: vmm.NetUser, MAC: d.MAC, Egress: d.Egress}
	for _, p := range vm.Ports {
		out.Forwards = append(out.Forwards, vmm.Forward{
			Protocol: vmm.Protocol(p.Protocol), HostIP: d.Bind, HostPort: int(p.Host), GuestPort: int(p.Guest),
		})
	}
	return out
}

// wantedPorts returns the guest ports to forward: SSH, then the published
// ones.
func wantedPorts(i *message.Instance) ([]state.Port, error) {
	ports := []state.Port{{Protocol: string(vmnet.TCP), Guest: portSSH}}
	seen := map[message.PublishedPort]bool{{Protocol: string(vmnet.TCP), Port: portSSH}: true}
	for _, p := range i.Resources.PublishedPorts {
		if seen[p] {
			continue
		}
		seen[p] = true
		ports = append(ports, state.Port{Protocol: p.Protocol, Guest: uint16(p.Port)})
	}
	if len(ports) > portsMax {
		return nil, errs.New(errs.Invalid, "%d forwarded ports, at most %d", len(ports), portsMax)
	}
	return ports, nil
}

// portsOf returns the guest ports to forward: of a lease those that its owner
// wants, of a job those that its message publishes.
func (s *Supervisor) portsOf(ctx context.Context, spec message.ItemHash, i *message.Instance) ([]state.Port, error) {
	l, err := s.db.Lease(ctx, spec)
	if errors.Is(err, errs.NotFound) {
		return wantedPorts(i)
	}
	if err != nil {
		return nil, err
	}
	want, err := s.wantedByOwner(ctx, *l)
	if err != nil {
		s.log.Warn("ports stay as they were", "job_id", spec, "err", err)
		want = l.Ports
	} else if err := s.editLease(ctx, spec, func(l *state.Lease, _ uint64) { l.Ports = want }); err != nil {
		return nil, err
	}
	return append([]state.Port{{Protocol: string(vmnet.TCP), Guest: portSSH}}, want...), nil
}

// replacePorts makes the VM's ports those of the list. Who has a host port keeps
// it.
func (s *Supervisor) replacePorts(ctx context.Context, spec message.ItemHash, ports []state.Port) error {
	s.network.Lock()
	defer s.network.Unlock()
	all, err := s.db.VMs(ctx)
	if err != nil {
		return err
	}
	taken := map[vmnet.Protocol]map[int]bool{vmnet.TCP: {}, vmnet.UDP: {}}
	var own *state.VM
	for i, vm := range all {
		for _, p := range vm.Ports {
			taken[vmnet.Protocol(p.Protocol)][int(p.Host)] = true
		}
		if vm.Spec == spec {
			own = &all[i]
		}
	}
	if own == nil || len(own.Ports) == 0 {
		return nil // It gets them when its place in the network is made.
	}
	next, err := s.choosePorts(ports, own.Ports, taken)
	if err != nil {
		return err
	}
	for i := range next {
		next[i].HostIP = own.Ports[0].HostIP
	}
	_, err = s.edit(ctx, spec, func(row *state.VM) { row.Ports = next })
	return err
}

// settleNetwork gives the VM its subnet and host ports, once: what its row has
// already stays as it is, so that ports are stable over restarts. The row also gets how
// long its files took to come.
func (s *Supervisor) settleNetwork(ctx context.Context, spec message.ItemHash, ports []state.Port, fetched time.Duration) (*state.VM, error) {
	s.network.Lock()
	defer s.network.Unlock()
	all, err := s.db.VMs(ctx)
	if err != nil {
		return nil, err
	}
	slots, subnets, taken := map[int]bool{}, map[int]bool{}, map[vmnet.Protocol]map[int]bool{vmnet.TCP: {}, vmnet.UDP: {}}
	var have []state.Port
	others := s.lentLeases()
	for _, l := range others {
		slots[l.Slot], subnets[l.Subnet6] = true, true
	}
	slot, subnet := 0, 0
	for _, vm := range all {
		for _, p := range vm.Ports { // Its own too: a new port must not get what another one of them keeps.
			taken[vmnet.Protocol(p.Protocol)][int(p.Host)] = true
		}
		if vm.Spec == spec {
			have, slot, subnet = vm.Ports, vm.Net, vm.Net6
			continue
		}
		if len(vm.Ports) > 0 {
			slots[vm.Net], subnets[vm.Net6] = true, true
			others = append(others, lease(vm))
		}
	}
	if len(have) == 0 {
		if slot, err = s.parts.Network.FreeSlot(func(n int) bool { return slots[n] }); err != nil {
			return nil, err
		}
		if subnet, err = s.parts.Network.FreeSubnet6(func(n int) bool { return subnets[n] }); err != nil {
			return nil, err
		}
	}
	if have, err = s.choosePorts(ports, have, taken); err != nil {
		return nil, err
	}
	bind, err := s.bind(spec, slot, have)
	if err != nil {
		return nil, err
	}
	for i := range have {
		have[i].HostIP = bind
	}
	if err := s.parts.Network.Admit(lease(state.VM{Spec: spec, Net: slot, Net6: subnet, Ports: have}), others); err != nil {
		return nil, err
	}
	return s.edit(ctx, spec, func(row *state.VM) {
		row.State, row.Detail, row.Net, row.Net6, row.Ports = state.VMPreparing, "makes disk and network", slot, subnet, have
		if row.RunningAt.IsZero() {
			timing(row, "fetch", fetched)
		}
	})
}

// choosePorts gives the ports host ports: those that they have, and else free
// ones, the same for both protocols of a guest's port where that is free.
func (s *Supervisor) choosePorts(ports, have []state.Port, taken map[vmnet.Protocol]map[int]bool) ([]state.Port, error) {
	by := map[uint16]int{}
	for i := range ports {
		for _, h := range have {
			if h.Guest == ports[i].Guest {
				by[h.Guest] = int(h.Host)
				if h.Protocol == ports[i].Protocol {
					ports[i].Host = h.Host
				}
			}
		}
		if ports[i].Host != 0 {
			continue
		}
		protocol := vmnet.Protocol(ports[i].Protocol)
		host, err := s.parts.Network.FreePort(protocol, by[ports[i].Guest], func(n int) bool { return taken[protocol][n] })
		if err != nil {
			return nil, err
		}
		taken[protocol][host] = true
		ports[i].Host, by[ports[i].Guest] = uint16(host), host
	}
	return ports, nil
}

// bind returns the address at which the ports are reached: the public one,
// when the host listens on all of its addresses.
func (s *Supervisor) bind(spec message.ItemHash, slot int, ports []state.Port) (string, error) {
	device, err := s.parts.Network.Device(lease(state.VM{Spec: spec, Net: slot, Ports: ports}))
	if err != nil {
		return "", err
	}
	if !device.Bind.IsValid() || device.Bind.IsUnspecified() {
		return s.self.PublicIP, nil
	}
	return netip.Addr.String(device.Bind), nil
}

func lease(vm state.VM) vmnet.Lease {
	l := vmnet.Lease{ID: string(vm.Spec), Slot: vm.Net, Kind: vmnet.Instance, Subnet6: vm.Net6}
	for _, p := range vm.Ports {
		l.Forwards = append(l.Forwards, vmnet.Forward{
			Protocol: vmnet.Protocol(p.Protocol), HostPort: int(p.Host), GuestPort: int(p.Guest),
		})
	}
	return l
}

// applyNetwork makes the host's network what the rows and the programs' places say.
func (s *Supervisor) applyNetwork(ctx context.Context) error {
	s.network.Lock()
	defer s.network.Unlock()
	all, err := s.db.VMs(ctx, state.VMPreparing, state.VMBooting, state.VMRunning, state.VMPaused, state.VMHalted, state.VMStopping)
	if err != nil {
		return err
	}
	leases := s.lentLeases()
	for _, vm := range all {
		if len(vm.Ports) > 0 && !isDown(vm) {
			leases = append(leases, lease(vm))
		}
	}
	return s.parts.Network.Apply(ctx, leases)
}

// freeNetwork removes everything of ours from the host's network; ctx has
// ended.
func (s *Supervisor) freeNetwork(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), haltMargin)
	defer cancel()
	return s.applyNetwork(ctx)
}
