package devnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/corechannel"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

const (
	loopback = "127.0.0.1"
	// A compute node forwards from a range of ports of its own.
	portFirst, portsEach = 24000, 2400
	// Any free port is one of these: of no compute node, and below the range of
	// ephemeral ports, from which the kernel would give it to somebody else
	// before a node listens, or while it is started again.
	anyFirst, anyLast = 12000, 23999
	// anyTries bounds the search.
	anyTries = 1000
	// pollInterval and the outbox's are short: the chain is on this machine.
	pollInterval = "100ms"
	// memoryMin is offered by a compute node of a small host too.
	memoryMinMiB = 512
	// reserveMiB of the host's memory are kept for the network itself.
	reserveMiB = 2048

	probeDir = "probe"
)

// table is a table of a configuration file.
type table map[string]any

// configure writes the node's configuration file.
func (m *member) configure(n *Network) error {
	contracts := table{}
	for name, address := range n.deployed.Contracts.ByName() {
		contracts[name] = address.Hex()
	}
	file := map[string]table{
		"node": {"role": role(m.index), "data_dir": m.dir},
		"chain": {
			"rpc_url": n.chain.URL(), "chain_id": devchain.ChainID, "from_block": n.deployed.FromBlock, "confirmations": 2,
			"poll_interval": pollInterval,
			"contracts":     contracts,
		},
		"network": {"listen_addr": fmt.Sprintf("/ip4/%s/tcp/%d", loopback, m.p2p)},
		"api":     {"bind": net.JoinHostPort(loopback, strconv.Itoa(m.api))},
		"outbox":  {"interval": pollInterval},
		// Nobody publishes the list of nodes of such a network.
		"corechannel": {"serve": corechannel.ServeOwn, "interval": "1s"},
	}
	if n.opts.LogLevel != "" {
		file["log"] = table{"level": n.opts.LogLevel}
	}
	if m.index > 0 {
		first := n.members[0]
		peer, err := p2p.PeerIDOf(first.keys.Identity)
		if err != nil {
			return err
		}
		file["network"]["bootstrap_peers"] = []string{fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", loopback, first.p2p, peer)}
		memory, err := memoryMiB()
		if err != nil {
			return err
		}
		file["executor"] = table{"on_exit": executor.OnExitStop, "memory_mib": memory}
		start := portFirst + (m.index-1)*portsEach
		file["vmnet"] = table{"port_min": start, "port_max": start + portsEach - 1}
		file["qemu"] = table{"probe_image": n.opts.Image, "cache_dir": filepath.Join(n.opts.DataDir, probeDir)}
	}
	raw, err := toml.Marshal(file)
	if err != nil {
		return fmt.Errorf("encode configuration of %s: %w", m.name, err)
	}
	path := filepath.Join(m.dir, configFile)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	// Once here, instead of by each start of the node.
	cfg, err := config.Load(path, nil)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return fmt.Errorf("settings of %s: %w", m.name, err)
	}
	return nil
}

// memoryMiB is what each compute node offers: an equal part of the host's.
func memoryMiB() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read host memory: %w", err)
	}
	total := int64(info.Totalram) * int64(info.Unit) >> 20
	return max(memoryMinMiB, (total-reserveMiB)/computeNodes), nil
}

// ports are the ports of the members.
type ports struct{ api, p2p []int }

// choosePorts finds free ports: for the HTTP interfaces those from first on, or
// any.
func choosePorts(first, count int) (p ports, err error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	take := func(port int) (int, error) {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))) //nolint:noctx // it is at once
		if errors.Is(err, syscall.EADDRINUSE) {
			return 0, errs.New(errs.Conflict, "another process already listens on %s:%d; stop it, or choose another --api-port", loopback, port)
		}
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		return port, nil
	}
	takeAny := func() (port int, err error) {
		for range anyTries {
			// By chance, so that networks that start together do not meet.
			port, err = take(anyFirst + rand.IntN(anyLast-anyFirst+1)) //nolint:gosec // nothing is secret here
			if errs.KindOf(err) != errs.Conflict {
				break
			}
		}
		return port, err
	}
	for i := range count {
		var api int
		if first != 0 {
			api, err = take(first + i)
		} else {
			api, err = takeAny()
		}
		if err != nil {
			return p, err
		}
		peer, err := takeAny()
		if err != nil {
			return p, err
		}
		p.api, p.p2p = append(p.api, api), append(p.p2p, peer)
	}
	return p, nil
}

// probeAhead finds out whether KVM works while the contracts are deployed. The
// nodes find the answer where they would keep theirs.
func (n *Network) probeAhead(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	n.running.Go(func() { done <- n.probe(ctx) })
	return done
}

func (n *Network) probe(ctx context.Context) error {
	dir := filepath.Join(n.opts.DataDir, probeDir)
	driver := qemu.New(qemu.Config{CacheDir: dir}, n.log.With("part", "vmm"))
	var img vmm.Image
	if n.opts.Image != "" {
		var err error
		if img, err = vmm.OpenImage(ctx, n.opts.Image, filepath.Join(dir, probeDir)); err != nil {
			return fmt.Errorf("open guest image: %w", err)
		}
	}
	_, err := driver.Probe(ctx, img)
	return errors.Join(err, driver.Close())
}

// sweepGrace is what a machine gets to shut down when its node could not see to
// it.
const sweepGrace = 10 * time.Second

// sweep ends what the node has left on the host: nothing, unless it was killed.
func (m *member) sweep(ctx context.Context) error {
	if m.index == 0 {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(m.dir, "vms", "*"))
	if err != nil {
		return fmt.Errorf("list machines: %w", err)
	}
	driver := qemu.New(qemu.Config{}, m.log)
	var all error
	for _, dir := range dirs {
		running, err := vmm.Running(dir)
		if err != nil || !running {
			all = errors.Join(all, err)
			continue
		}
		machine, err := driver.Adopt(ctx, dir)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err == nil {
			m.log.Warn("stopping a machine that its node has left", "vm_id", machine.ID())
			err = machine.Stop(ctx, sweepGrace)
		}
		all = errors.Join(all, err)
	}
	cfg := vmnet.DefaultConfig()
	cfg.Name = vmnet.NameOf(m.dir)
	network, err := vmnet.Open(cfg, m.log)
	if err == nil {
		err = errors.Join(network.Purge(), network.Close())
	}
	return errors.Join(all, driver.Close(), err)
}
