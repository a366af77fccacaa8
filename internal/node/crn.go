package node

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// openCoreNodes makes the client of core channel nodes; nil when the settings name
// none.
func (n *Node) openCoreNodes() (*corenode.Client, error) {
	if !n.cfg.CoreNode.On() {
		return nil, nil
	}
	core, err := corenode.New(n.cfg.CoreNode, n.metrics, n.part("corenode"))
	if err != nil {
		return nil, fmt.Errorf("build client of core channel nodes: %w", err)
	}
	return core, nil
}

// gpuNames is what the network calls GPUs; nil without one.
func gpuNames(core *corenode.Client) func(ctx context.Context, id string) (string, bool) {
	if core == nil {
		return nil
	}
	return core.GPU
}

// serveMachines makes the interface that clients and schedulers of the Aleph
// network know of compute nodes, beside the product's own.
func (n *Node) serveMachines(ctx context.Context, exec *executor.Supervisor, core *corenode.Client, own *identity, fns *functions.Service, driver string) error {
	secret, err := crn.ReadSecret(filepath.Join(n.cfg.Node.DataDir, "login_token"))
	if err != nil {
		return err
	}
	host := hostinfo.New(hostinfo.Options{
		DataDir: n.cfg.Node.DataDir, Domain: n.cfg.CRN.Domain,
		Disk: func(ctx context.Context) (total, available int64, err error) { return exec.Disk(ctx) },
		GPU:  gpuNames(core), UsedGPUs: exec.UsedGPUs,
	})
	messages := found{n.ingest, core}
	known, err := lru.New[message.ItemHash, *message.Envelope](librarySize)
	if err != nil {
		return fmt.Errorf("build memory of messages: %w", err)
	}
	parts := crn.Parts{
		Machines: machines{exec, fns, n.domains}, Executions: executions{n.db, exec, fns, remembered{messages, known}, driver}, Messages: messages, Payments: payments{exec},
		Rights: rights{core}, Identity: own, Host: host, Logs: consoles{exec, fns}, Used: used{n.db}, Resolver: net.DefaultResolver,
		Backups: crnBackups{exec}, Migrations: crnMoves{exec},
	}
	door := n.cfg.CRN
	if core != nil {
		parts.Schedulers = core
	} else if door.AllocationTokenHash == crn.DefaultConfig().AllocationTokenHash {
		door.AllocationTokenHash = "" // The public network's: this node is none of it.
	}
	if n.domains != nil {
		parts.Proxy = n.domains
	}
	if fns != nil {
		parts.Functions = calls{fns}
	}
	if _, err := exec.Certificates(ctx); err != nil {
		n.log.Info("hypervisor note", "note", err.Error())
	} else {
		parts.Confidential = crnGuard{exec}
	}
	// Whether there are any is to be known: their names would be asked of servers.
	unnamed := hostinfo.New(hostinfo.Options{DataDir: n.cfg.Node.DataDir})
	public := crn.PublicConfig{
		Networking: crn.PublicNetworking{
			IPv6Pool: n.cfg.VMNet.IPv6Pool, IPv6Policy: "IPv6AllocationPolicy." + string(n.cfg.VMNet.IPv6Policy), IPv6SubnetPrefix: n.cfg.VMNet.IPv6SubnetBits,
			IPv6Forwarding: n.cfg.VMNet.IPv6Pool != "", UseNDPProxy: n.cfg.VMNet.NDPProxy,
		},
		Security:  crn.PublicSecurity{PrintSystemLogs: true, WatchForUpdates: core != nil, AllowNetworking: true},
		Payment:   crn.PublicPayment{Receiver: n.cfg.Executor.Receiver, MonitorInterval: crn.PythonFloat(n.cfg.Executor.WatchInterval.Seconds())},
		Computing: crn.PublicComputing{QEMU: n.cfg.Node.Driver == message.QEMU, DefaultHypervisor: n.cfg.Node.Driver, Confidential: parts.Confidential != nil, GPU: len(unnamed.GPUs(ctx)) > 0},
	}
	if core != nil {
		public.References.APIServer = n.cfg.CoreNode.Servers[0]
	}
	self := crn.Self{Config: door, Secret: secret, Public: public}
	if u, err := url.Parse(n.cfg.Node.PublicURL); err == nil && u.Hostname() != "" {
		self.Names = append(self.Names, u.Hostname())
	}
	n.machines, err = crn.New(self, parts, n.part("crn"))
	if err != nil {
		return fmt.Errorf("build interface of the compute node: %w", err)
	}
	return nil
}

// isProducts reports whether a path is of the product's own interface rather than
// of one that clients of the Aleph network know.
func isProducts(path string) bool {
	return isWatched(path) || strings.HasPrefix(path, "/api/v1/")
}

// isWatched reports whether a path is for what watches the node, and must be answered
// whatever the domain name system does.
func isWatched(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics"
}
