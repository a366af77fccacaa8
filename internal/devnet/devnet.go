// Package devnet runs a local network on one machine: a chain with the token
// and the contracts on it in this process, and one coordinator and two compute
// nodes in processes of their own, each with its own data directory, keys and
// ports. Everything listens on loopback; the keys of the funded accounts are
// public.
//
// The network keeps its state in one directory and goes on from there when it
// is started again. Nodes that end are started again, as a service manager
// would. When the network ends, its machines end too, and nothing of it is left
// on the host but that directory.
package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

const (
	// readyMax bounds the time from the start to the ready line.
	readyMax = 2 * time.Minute
	// computeNodes is how many compute nodes the network has: enough for a job
	// to land on another one.
	computeNodes = 2
)

// Options say what network to run.
type Options struct {
	DataDir   string // Where everything is kept.
	Ephemeral bool   // Remove DataDir at the end; the chain is in memory.
	Binary    string // The program of a node: this one.
	Image     string // Guest image that the nodes see with whether KVM works; "" = by the first machine.
	RPCPort   int    // Of the chain; 0 = any free one.
	APIPort   int    // Of the coordinator's HTTP interface, the others' are the next ones; 0 = any free ones.
	LogLevel  string // Of the nodes, in the files node.log of their directories.
}

// Network is a local network that runs. Use Start, then Wait, then Close.
type Network struct {
	opts     Options
	log      *slog.Logger
	begin    time.Time
	chain    *devchain.Chain
	client   *chain.Client
	deployed *deploy.Deployment
	members  []*member

	lock      *os.File // Of the data directory, until Close.
	described bool     // The file that describes the network is there.

	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan error // The first part that ended by itself.
}

// Start starts a network and returns when it is ready for jobs. After an error
// nothing runs.
func Start(ctx context.Context, o Options, log *slog.Logger) (_ *Network, err error) {
	n := &Network{opts: o, log: log, begin: time.Now(), failed: make(chan error, 1)}
	if n.opts.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	// Before anything that Close takes back: it may be another's.
	n.lock, err = vmm.LockDir(n.opts.DataDir)
	if errors.Is(err, errs.Conflict) {
		return nil, errs.New(errs.Conflict, "another local network runs in %s; stop it, or choose another --data-dir", n.opts.DataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		}
	}()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	ctx, stop := context.WithTimeoutCause(ctx, readyMax, errs.New(errs.Unavailable, "the network is not ready after %v", readyMax))
	defer stop()

	probed := n.probeAhead(ctx)
	if err := n.openChain(ctx, life); err != nil {
		return nil, err
	}
	if err := n.plan(); err != nil {
		return nil, err
	}
	if err := n.settle(ctx); err != nil {
		return nil, fmt.Errorf("set up the chain: %w", err)
	}
	if err := <-probed; err != nil {
		return nil, err
	}
	for _, m := range n.members {
		if err := m.configure(n); err != nil {
			return nil, err
		}
		m.started = true
		n.running.Go(func() { n.fail(m.supervise(life)) })
	}
	if err := n.awaitReady(ctx); err != nil {
		return nil, err
	}
	return n, n.describe()
}

// openChain opens the chain and lets it make blocks.
func (n *Network) openChain(ctx, life context.Context) (err error) {
	cfg := devchain.Config{Port: n.opts.RPCPort}
	if !n.opts.Ephemeral {
		cfg.DataDir = filepath.Join(n.opts.DataDir, chainDir)
	}
	n.chain, err = devchain.Open(cfg, n.log.With("part", "devchain"))
	if errors.Is(err, errs.Conflict) {
		return fmt.Errorf("%w; stop the other network, or choose another --rpc-port", err)
	}
	if err != nil {
		return err
	}
	// One that was killed has left its description.
	if err := os.Remove(filepath.Join(n.opts.DataDir, File)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old description: %w", err)
	}
	n.running.Go(func() { n.fail(n.chain.Run(life)) })
	n.client, err = chain.Dial(ctx, chain.Config{RPCURL: n.chain.URL(), ChainID: devchain.ChainID}, n.log.With("part", "chain"))
	return err
}

// fail remembers the first part that ended although nobody asked it to.
func (n *Network) fail(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	select {
	case n.failed <- err:
	default:
	}
}

// Wait returns nil when ctx ends, or earlier why the network cannot go on.
func (n *Network) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.failed:
		return err
	}
}

// Close ends the nodes, their machines and the chain, in this order, and removes
// what an ephemeral network has kept.
func (n *Network) Close(ctx context.Context) error {
	if n.cancel != nil {
		n.cancelNodes()
	}
	n.running.Wait()
	var all error
	if n.described {
		all = os.Remove(filepath.Join(n.opts.DataDir, File))
	}
	for _, m := range n.members {
		all = errors.Join(all, m.sweep(ctx))
	}
	if n.client != nil {
		n.client.Close()
	}
	if n.chain != nil {
		all = errors.Join(all, n.chain.Close())
	}
	if n.opts.Ephemeral {
		all = errors.Join(all, os.RemoveAll(n.opts.DataDir))
	}
	return errors.Join(all, n.lock.Close())
}

// cancelNodes ends the nodes before the chain, whose blocks they read to the
// last.
func (n *Network) cancelNodes() {
	var ends sync.WaitGroup
	for _, m := range n.members {
		if m.started {
			ends.Go(m.end)
		}
	}
	ends.Wait()
	n.cancel()
}

// role returns what the i-th member is.
func role(i int) string {
	if i == 0 {
		return config.Coordinator
	}
	return config.Compute
}

// name returns the name of the i-th member's directory.
func name(i int) string {
	if i == 0 {
		return config.Coordinator
	}
	return fmt.Sprintf("%s-%d", config.Compute, i)
}

// Description says where the parts of the network are.
func (n *Network) Description() (*Description, error) { return Read(n.opts.DataDir) }
