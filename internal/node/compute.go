package node

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/internal/settlement"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// addCompute adds the parts that only a compute node runs: it runs the machines
// of jobs and collects what they earn.
func (n *Node) addCompute(ctx context.Context) error {
	driver, caps, err := n.openDriver(ctx)
	if err != nil {
		return err
	}
	network, err := n.openNetwork()
	if err != nil {
		return err
	}
	root, err := filepath.Abs(n.cfg.Dir("vms"))
	if err != nil {
		return fmt.Errorf("find directory of machines: %w", err)
	}
	publicIP := n.cfg.Node.PublicIP
	if publicIP == "" {
		publicIP = n.cfg.VMNet.Bind
	}
	core, err := n.openCoreNodes()
	if err != nil {
		return err
	}
	messages, own := found{n.ingest, core}, n.findIdentity(core)
	parts := executor.Parts{
		DB: n.db, Driver: driver, Network: network, Messages: messages, Images: images{n.storage, n.blobs},
		Publisher: publisher{n.host}, Chain: n.mirror, Identity: own,
	}
	if driver.Name() == qemu.Name { // The only one that gives devices to machines.
		parts.Devices = hostinfo.New(hostinfo.Options{DataDir: n.cfg.Node.DataDir})
	}
	if core != nil {
		parts.Core = core
		var servers []storage.Server
		for _, s := range core.FileServers() {
			servers = append(servers, s)
		}
		n.storage.AskServers(servers...)
	}
	if err := n.storage.FetchContent(n.cfg.Dir("cids")); err != nil {
		return err
	}
	exec, err := executor.New(n.cfg.Executor, executor.Self{
		NodeID: n.id, Key: n.keys.Signer, Domain: n.jobDomain(), PeerID: string(n.host.ID()), Endpoint: n.publicURL(), PublicIP: publicIP,
		Accelerator: caps.Accelerator, Root: root, ImageCache: filepath.Join(filepath.Dir(root), "images"),
		Logs: filepath.Join(filepath.Dir(root), "consoles"), Backups: filepath.Join(filepath.Dir(root), "backups"),
	}, parts, n.metrics, n.part("executor"))
	if err != nil {
		return fmt.Errorf("build executor: %w", err)
	}
	n.storage.Reclaim(exec)
	fns, err := n.addFunctions(ctx, driver, exec, messages)
	if err != nil {
		return err
	}
	if fns != nil {
		n.storage.Reclaim(needs{exec, fns, n.blobs})
	}
	for kind, answer := range exec.Answers() {
		n.host.HandleAsk(string(kind), answer)
	}
	settler, err := settlement.New(n.cfg.Settlement, settlement.Self{NodeID: n.id, Kind: state.KindCompute},
		n.db, n.mirror, n.metrics, n.part("settlement"))
	if err != nil {
		return fmt.Errorf("build settlement: %w", err)
	}
	n.add("executor", exec.Run)
	n.add("settlement", settler.Run)
	n.add("vmnet", network.Run)
	if err := n.addDomains(ctx, exec, core); err != nil {
		return err
	}
	if err := n.serveMachines(ctx, exec, core, own, fns, driver.Name()); err != nil {
		return err
	}
	n.serve(v1.Compute, v1.Parts{Console: exec, Machines: exec, Drainer: exec})
	return nil
}

// openDriver finds the hypervisor and what it can do here.
func (n *Node) openDriver(ctx context.Context) (vmm.Driver, vmm.Capabilities, error) {
	quick, fire := n.cfg.QEMU, n.cfg.Fire
	quick.CacheDir, fire.CacheDir = cmp.Or(quick.CacheDir, n.cfg.Dir("cache")), cmp.Or(fire.CacheDir, n.cfg.Dir("cache"))
	var driver vmm.Driver = qemu.New(quick, n.part("vmm"))
	probeImage, cacheDir := quick.ProbeImage, quick.CacheDir
	if n.cfg.Node.Driver == firecracker.Name {
		driver = firecracker.New(fire, n.part("vmm"))
		probeImage, cacheDir = fire.ProbeImage, fire.CacheDir
	}
	n.opened("vmm", driver)
	var probe vmm.Image
	if probeImage != "" {
		var err error
		if probe, err = vmm.OpenImage(ctx, probeImage, filepath.Join(cacheDir, "probe")); err != nil {
			return nil, vmm.Capabilities{}, fmt.Errorf("open probe image: %w", err)
		}
	}
	caps, err := driver.Probe(ctx, probe)
	if err != nil {
		return nil, caps, err
	}
	for _, note := range caps.Notes {
		n.log.Info("hypervisor note", "note", note)
	}
	return driver, caps, nil
}

// openNetwork opens the network of machines.
func (n *Node) openNetwork() (*vmnet.Network, error) {
	cfg := n.cfg.VMNet
	dir, err := filepath.Abs(n.cfg.Node.DataDir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	cfg.Name = vmnet.NameOf(dir)
	network, err := vmnet.Open(cfg, n.part("vmnet"))
	if err != nil {
		return nil, fmt.Errorf("open network of machines: %w", err)
	}
	n.opened("vmnet", network)
	return network, nil
}
