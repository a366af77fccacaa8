// Package node builds and runs a node: it opens what the node holds, gives each
// part what it needs, and starts and ends them together. What runs in which
// role is in coordinator.go and compute.go; how parts of different rows fit
// together is in join.go, and in content.go for IPFS content. A process beside a
// coordinator, which serves its database and owns nothing, is in api.go.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/build"
	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Node is a node, built but not running. Use New, then Run, then Close.
type Node struct {
	cfg     config.Config
	log     *slog.Logger
	metrics *prometheus.Registry

	keys    *keystore.Keys
	id      uint32 // In the registry on chain.
	db      *state.DB
	blobs   *blob.Store
	content *ipfs.Store // Of a coordinator; nil on a compute node, as is swarm.
	swarm   *swarm.Swarm
	chain   *chain.Client
	host    *p2p.Host
	api     *api.Server
	mirror  *mirror.Syncer
	ingest  *ingest.Pipeline
	storage *storage.Keeper

	handler  *v1.Server
	machines *crn.Server  // nil but on a compute node
	domains  *byDomain    // nil but on a compute node that asks core channel nodes
	messages *ccn.Server  // nil on a node that does not serve the message network
	owners   http.Handler // Of an API process: answers what only the owner of the database can; nil elsewhere.
	parts    []part
	closers  []closer // In the order in which they were opened.
}

// part is something that runs for as long as the node does.
type part struct {
	name string
	run  func(context.Context) error
}

type closer struct {
	name  string
	close func() error
}

// New builds the node that cfg, validated, describes. On an error nothing is
// left open.
func New(ctx context.Context, cfg config.Config, log *slog.Logger) (_ *Node, err error) {
	n := &Node{cfg: cfg, log: log, metrics: telemetry.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	build := n.build
	if cfg.Node.Role == config.API {
		build = n.buildAPI
	}
	if err := build(ctx); err != nil {
		return nil, err
	}
	n.add("api", func(ctx context.Context) error { return n.api.Serve(ctx, n) })
	n.add("trim", trimmer(log))
	return n, nil
}

// build builds a node that owns its database.
func (n *Node) build(ctx context.Context) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	if n.cfg.Node.Role == config.Coordinator {
		if err := n.openContent(ctx); err != nil {
			return err
		}
	}
	if err := n.addShared(); err != nil {
		return err
	}
	if n.cfg.Node.Role == config.Compute {
		return n.addCompute(ctx)
	}
	return n.addCoordinator(ctx)
}

// open opens what every node holds.
func (n *Node) open(ctx context.Context) (err error) {
	cfg := n.cfg
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	// The database first: it is what keeps a second process out.
	if n.db, err = state.OpenAs(ctx, state.Options{Dir: cfg.Node.DataDir, URL: cfg.State.URL}); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	n.opened("state", n.db)
	if n.keys, err = keystore.Open(cfg.Node.DataDir, cfg.Network.IdentityPath, cfg.Chain.PrivateKeyPath); err != nil {
		return err
	}
	if n.blobs, err = blob.Open(cfg.Dir("blobs"), cfg.Storage.Config, n.metrics, n.part("blob")); err != nil {
		return fmt.Errorf("open blobs: %w", err)
	}
	n.opened("blobs", n.blobs)
	if n.chain, err = chain.Dial(ctx, cfg.Chain, n.part("chain")); err != nil {
		return fmt.Errorf("reach chain: %w", err)
	}
	n.closers = append(n.closers, closer{"chain", func() error { n.chain.Close(); return nil }})
	if n.id, err = n.identify(ctx); err != nil {
		return err
	}
	if n.api, err = api.Listen(ctx, cfg.API, n.part("api")); err != nil {
		return err
	}
	n.opened("api", n.api)
	network := cfg.Network
	// Coordinators are known and have little else to do with their bandwidth.
	network.RelayService = network.RelayService && cfg.Node.Role == config.Coordinator
	if n.host, err = p2p.Open(ctx, network, n.keys.Identity, book{n.db}, n.metrics, n.part("p2p")); err != nil {
		return fmt.Errorf("open network: %w", err)
	}
	n.opened("p2p", n.host)
	n.host.UseDirectory(directory{n.db, cfg.Nodes.Authority})
	if cfg.Node.PublicURL != "" && cfg.Node.Role == config.Coordinator {
		n.host.TellHTTP(cfg.Node.PublicURL)
	}
	return nil
}

// addShared adds the parts that every node runs.
func (n *Node) addShared() (err error) {
	cfg := n.cfg
	mcfg := mirror.Config{Interval: cfg.Chain.PollInterval, FromBlock: cfg.Chain.FromBlock}
	n.mirror = mirror.New(mcfg, n.db, n.chain, cfg.Chain.Contracts, n.part("mirror"), n.metrics)
	if n.storage, err = storage.New(n.blobs, n.host, n.metrics, n.part("storage")); err != nil {
		return fmt.Errorf("build storage: %w", err)
	}
	icfg := cfg.Ingest
	// A compute node keeps the files that its machines need, no others.
	icfg.KeepFiles = icfg.KeepFiles && cfg.Node.Role == config.Coordinator
	if cfg.Node.Role != config.Coordinator {
		icfg.CatchUpInterval = 0 // It asks for the messages of its machines by name.
	}
	n.ingest, err = ingest.New(icfg, n.jobDomain(), n.db, n.host, n.contents(), n.mirror, n.metrics, n.part("ingest"))
	if err != nil {
		return fmt.Errorf("build ingest: %w", err)
	}
	ocfg := cfg.Outbox
	ocfg.Confirmations = cfg.Chain.Confirmations
	sender := outbox.New(ocfg, n.db, n.chain, cfg.Chain.Contracts, n.keys.Signer, n.part("outbox"), n.metrics)
	n.add("state", n.db.Run)
	n.add("p2p", n.host.Run)
	n.add("mirror", n.mirror.Run)
	n.add("outbox", sender.Run)
	n.add("ingest", n.ingest.Run)
	return nil
}

// jobDomain is what signatures about jobs are made for.
func (n *Node) jobDomain() job.Domain {
	return job.Jobs(n.chain.ChainID(), n.cfg.Chain.Contracts.JobManager)
}

// serve makes the HTTP interface of the node in its role.
func (n *Node) serve(role v1.Role, parts v1.Parts) {
	parts.DB, parts.Gatherer, parts.Connections = n.db, n.metrics, n.host
	parts.Checks = append(parts.Checks, v1.Check{Name: "state", Ready: n.db.Ready}, v1.Check{Name: "mirror", Ready: n.mirror.Ready},
		v1.Check{Name: "p2p", Ready: func(context.Context) error { return n.host.Ready() }})
	n.handler = v1.New(v1.Self{
		Role: role, NodeID: n.id, Version: build.Version, PeerID: n.host.ID(), Domain: n.jobDomain(), Contracts: n.cfg.Chain.Contracts.ByName(),
	}, parts, n.part("api"))
}

// publicURL is the base URL under which others reach this node.
func (n *Node) publicURL() string {
	if n.cfg.Node.PublicURL != "" {
		return n.cfg.Node.PublicURL
	}
	return n.api.URL()
}

// URL returns the base URL of the HTTP interface on this machine.
func (n *Node) URL() string { return n.api.URL() }

// ID returns the node's number in the registry on chain.
func (n *Node) ID() uint32 { return n.id }

func (n *Node) part(name string) *slog.Logger { return n.log.With("part", name) }

func (n *Node) add(name string, run func(context.Context) error) {
	n.parts = append(n.parts, part{name, run})
}

func (n *Node) opened(name string, c io.Closer) {
	n.closers = append(n.closers, closer{name, c.Close})
}

// Run runs every part until ctx ends or one fails, then waits for all. It
// returns the first failure, or nil when ctx ended.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, p := range n.parts {
		wg.Go(func() {
			err := p.run(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errs.New(errs.Internal, "BUG: nobody asked it to")
			}
			once.Do(func() { first = fmt.Errorf("%s ended: %w", p.name, err) })
			cancel()
		})
	}
	wg.Wait()
	return first
}

// Close releases what New opened, last opened first.
func (n *Node) Close() error {
	var all error
	for i := len(n.closers) - 1; i >= 0; i-- {
		c := n.closers[i]
		if err := c.close(); err != nil {
			all = errors.Join(all, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	n.closers = nil
	return all
}
