// Package nodes runs nodes in the process of a test: a coordinator, and a compute node
// that asks it, on a chain of their own.
package nodes

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// GuestImage is the file of the image of machines: the one that the environment names,
// or what make builds.
func GuestImage(t *testing.T) string {
	t.Helper()
	return built(t, "ALEPH_IMAGE", "debian.aleph", "make image")
}

// FunctionImage is that of the image of functions, found as GuestImage is.
func FunctionImage(t *testing.T) string {
	t.Helper()
	return built(t, "ALEPH_FUNCTIONIMAGE", "function.aleph", "make function-image")
}

func built(t *testing.T, env, name, how string) string {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for root != "/" && !exists(filepath.Join(root, "go.mod")) {
			root = filepath.Dir(root)
		}
		path = filepath.Join(root, "build", "images", name)
	}
	if !exists(path) {
		t.Fatalf("%s is not there; '%s' makes it, or set %s", path, how, env)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Core is a coordinator of the message network, and the chain that it follows.
type Core struct {
	URL     string // Base URL, on the loopback.
	Net     *chaintest.Net
	Compute config.Config // Of a compute node that asks it, not started.
}

// StartCore runs a coordinator until the test ends. change adds to its settings and to
// those of the compute node.
func StartCore(t *testing.T, change func(core, compute *config.Config)) *Core {
	t.Helper()
	probe := GuestImage(t)
	n := chaintest.Start(t)
	stop := n.Run(t)
	t.Cleanup(stop)
	core, compute := Settings(t, n, job.KindCoordinator), Settings(t, n, job.KindCompute)
	compute.Executor.Interval, compute.VMNet.Mode, compute.QEMU.ProbeImage = 500*time.Millisecond, vmnet.User, probe
	change(&core, &compute)
	c := &Core{Net: n}
	c.URL, _ = Run(t, core)
	compute.CoreNode.Servers, compute.Network.BootstrapPeers = []string{c.URL}, addresses(t, c.URL)
	c.Compute = compute
	return c
}

// Pair is a coordinator and a compute node that asks it of the message network.
type Pair struct {
	Core, Compute string // Base URLs, on the loopback.
	Restart       func() // Of the compute node, in order. Its URL stays.
}

// StartPair runs a pair whose settings change adds to, until the test ends. The compute
// node's machines are real ones, and end with the test.
func StartPair(t *testing.T, change func(core, compute *config.Config)) *Pair {
	t.Helper()
	core := StartCore(t, change)
	compute := core.Compute
	p := &Pair{Core: core.URL}
	t.Cleanup(func() { EndMachines(t, filepath.Join(compute.Node.DataDir, "vms")) }) // They outlive nodes, also those of a test that failed.
	var end func()
	p.Compute, end = Run(t, compute)
	compute.API.Bind = strings.TrimPrefix(p.Compute, "http://")
	p.Restart = func() {
		end()
		_, end = Run(t, compute)
	}
	return p
}

// addresses are those under which peers reach a coordinator.
func addresses(t *testing.T, url string) []string {
	t.Helper()
	var info struct {
		Addresses []string `json:"node_multi_addresses"`
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/v0/info/public.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("info of the coordinator: %d (%v)", resp.StatusCode, err)
	}
	return info.Addresses
}

// Settings are those of a node that has joined the chain.
func Settings(t *testing.T, n *chaintest.Net, kind job.NodeKind) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Node.DataDir = t.TempDir()
	cfg.Chain.RPCURL, cfg.Chain.ChainID, cfg.Chain.Contracts = n.Chain.URL(), devchain.ChainID, n.Deployment.Contracts
	cfg.Chain.FromBlock, cfg.Chain.PollInterval = n.Deployment.FromBlock, 50*time.Millisecond
	cfg.API.Bind = "127.0.0.1:0"
	if kind == job.KindCompute {
		cfg.Node.Role = config.Compute
	}
	keys, err := keystore.Open(cfg.Node.DataDir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	me := deploy.Node{Owner: n.Owner.Key, Signer: keys.Signer, Kind: kind, PeerID: peer.Bytes(), EtherWei: chaintest.Aleph(1)}
	if _, err := deploy.Join(t.Context(), n.Client, n.Deployment.Contracts, me); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Run runs a node until the test ends or end is called, and returns the base URL of
// its HTTP interface. What it warns of is among what the test says.
func Run(t *testing.T, cfg config.Config) (url string, end func()) {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ran, err := node.New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- ran.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("node ended: %v", err)
		}
		if err := ran.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return ran.URL(), end
}

// EndMachines ends the machines whose directories are in root.
func EndMachines(t *testing.T, root string) {
	t.Helper()
	driver := qemu.New(qemu.Config{}, slog.New(slog.DiscardHandler))
	defer driver.Close()
	dirs, err := filepath.Glob(filepath.Join(root, "*"))
	if err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		if at, err := os.Stat(dir); err == nil && !at.IsDir() {
			continue // What is noted of machines is beside them.
		}
		m, err := driver.Adopt(context.WithoutCancel(t.Context()), dir)
		if errs.KindOf(err) == errs.NotFound {
			continue
		}
		if err == nil {
			err = m.Kill(context.WithoutCancel(t.Context()))
		}
		if err != nil {
			t.Errorf("end machine in %s: %v", dir, err)
		}
	}
}
