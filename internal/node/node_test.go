package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"go.uber.org/goleak"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// settings returns those of a node in dir on the chain, with free ports.
func settings(n *chaintest.Net, role, dir string) config.Config {
	cfg := config.Default()
	cfg.Node.Role, cfg.Node.DataDir = role, dir
	cfg.Chain.RPCURL, cfg.Chain.ChainID, cfg.Chain.Contracts = n.Chain.URL(), devchain.ChainID, n.Deployment.Contracts
	cfg.Chain.FromBlock, cfg.Chain.PollInterval = n.Deployment.FromBlock, 50*time.Millisecond
	cfg.API.Bind = "127.0.0.1:0"
	cfg.Executor.VCPUs, cfg.Executor.MemoryMiB, cfg.Executor.DiskMiB = 1, 256, 1024
	cfg.VMNet.Mode = vmnet.User
	return cfg
}

// join lets a new node join and returns its settings.
func join(t *testing.T, n *chaintest.Net, role string) (config.Config, uint32) {
	t.Helper()
	kind := map[string]job.NodeKind{config.Coordinator: job.KindCoordinator, config.Compute: job.KindCompute}[role]
	dir := filepath.Join(t.TempDir(), role)
	keys, err := keystore.Open(dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	stop := n.Run(t)
	defer stop()
	ids, err := deploy.Join(t.Context(), n.Client, n.Deployment.Contracts,
		deploy.Node{Owner: n.Owner.Key, Signer: keys.Signer, Kind: kind, PeerID: peer.Bytes(), EtherWei: chaintest.Aleph(1)})
	if err != nil {
		t.Fatal(err)
	}
	return settings(n, role, dir), ids[0]
}

// refused returns the error of a node that must not start, which is of the kind
// and says all of wants, and leaves nothing open.
func refused(t *testing.T, cfg config.Config, kind errs.Kind, wants ...string) {
	t.Helper()
	n, err := node.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Errorf("it started, want %q", wants)
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if errs.KindOf(err) != kind {
		t.Errorf("error %v is %q, want %q", err, errs.KindOf(err), kind)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is more than one line", err)
	}
}

// begin builds and runs a node until end is called.
func begin(t *testing.T, cfg config.Config) (n *node.Node, end func()) {
	t.Helper()
	n, err := node.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	ended := false
	end = func() {
		t.Helper()
		if ended {
			return
		}
		ended = true
		cancel()
		if err := errors.Join(<-done, n.Close(), n.Close()); err != nil {
			t.Errorf("end of the node: %v", err)
		}
	}
	t.Cleanup(end)
	return n, end
}

// get asks a node's HTTP interface, without keeping the connection.
func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

func waitReady(t *testing.T, n *node.Node) {
	t.Helper()
	var last []byte
	p2ptest.Wait(t, "the node is ready", func() bool {
		code, body := get(t, n.URL()+"/readyz")
		last = body
		return code == http.StatusOK
	})
	for _, part := range []string{"state", "mirror", "p2p"} {
		if !bytes.Contains(last, []byte(part)) {
			t.Errorf("readiness is %s, want that of %s, too", last, part)
		}
	}
}

// noLeaks fails if goroutines are there in the end that were not before. Idle
// connections to the chain stay for a while, on both sides.
func noLeaks(t *testing.T, before goleak.Option) {
	t.Helper()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

func TestCoordinatorTurnsReadyAndLeavesNothing(t *testing.T) {
	net := chaintest.Start(t)
	cfg, id := join(t, net, config.Coordinator)
	before := goleak.IgnoreCurrent()

	n, end := begin(t, cfg)

	waitReady(t, n)
	if n.ID() != id {
		t.Errorf("it is node %d, want %d", n.ID(), id)
	}
	_, body := get(t, n.URL()+"/api/v1/info")
	var info struct {
		Role      string                    `json:"role"`
		NodeID    uint32                    `json:"node_id"`
		Contracts map[string]common.Address `json:"contracts"`
	}
	if err := json.Unmarshal(body, &info); err != nil {
		t.Fatal(err)
	}
	if info.Role != config.Coordinator || info.NodeID != id || info.Contracts["JobManager"] != cfg.Chain.Contracts.JobManager {
		t.Errorf("it says of itself %+v", info)
	}
	_, metrics := get(t, n.URL()+"/metrics")
	for _, want := range []string{"aleph_mirror_head_block", "go_goroutines"} {
		if !bytes.Contains(metrics, []byte(want)) {
			t.Errorf("metrics have no %s", want)
		}
	}

	end()

	noLeaks(t, before)
	if code, _ := get(t, n.URL()+"/healthz"); code != 0 {
		t.Errorf("after the end it answers with %d", code)
	}
}

func TestComputeNodeIsHeardByItsCoordinator(t *testing.T) {
	net := chaintest.Start(t)
	coordinator, coordID := join(t, net, config.Coordinator)
	compute, computeID := join(t, net, config.Compute)
	coordinator.Network.ListenAddr = freeAddr(t)
	keys, err := keystore.Open(coordinator.Node.DataDir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	compute.Network.BootstrapPeers = []string{coordinator.Network.ListenAddr + "/p2p/" + string(peer)}
	compute.Executor.AdInterval = time.Second
	compute.Node.PublicURL, compute.Node.PublicIP = "http://compute.example:4020", "203.0.113.7"
	before := goleak.IgnoreCurrent()

	first, endFirst := begin(t, coordinator)
	second, endSecond := begin(t, compute)

	waitReady(t, first)
	waitReady(t, second)
	type row struct {
		NodeID   uint32 `json:"node_id"`
		Endpoint string `json:"endpoint"`
		Capacity *struct {
			MemoryTotalMiB int64 `json:"memory_total_mib"`
		} `json:"capacity"`
	}
	rows := map[uint32]row{}
	p2ptest.Wait(t, "the coordinator hears the compute node", func() bool {
		_, body := get(t, first.URL()+"/api/v1/nodes")
		var all []row
		if err := json.Unmarshal(body, &all); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		for _, r := range all {
			rows[r.NodeID] = r
		}
		return rows[computeID].Capacity != nil
	})
	if r := rows[computeID]; r.Endpoint != "http://compute.example:4020" || r.Capacity.MemoryTotalMiB != 256 {
		t.Errorf("the compute node offers %+v at %s", r.Capacity, r.Endpoint)
	}
	if _, known := rows[coordID]; !known {
		t.Error("the coordinator does not know itself")
	}
	// Peers are remembered for the next start.
	p2ptest.Wait(t, "the compute node remembers its peer", func() bool {
		peers, err := second.DB().Peers(t.Context(), 10)
		return err == nil && len(peers) == 1 && peers[0].ID == string(peer)
	})

	endSecond()
	endFirst()

	noLeaks(t, before)
	if _, err := os.Stat(compute.Dir("ipfs")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a compute node has a store of IPFS content: %v", err)
	}
}

// freeAddr returns an address to listen on that is free now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("address %v", l.Addr())
	}
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", addr.Port)
}

// TestNodesThatCannotStartSayWhy: each in one sentence, and what to do.
func TestNodesThatCannotStartSayWhy(t *testing.T) {
	chain := chaintest.Start(t)
	good, _ := join(t, chain, config.Coordinator)
	before := goleak.IgnoreCurrent()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	junk := filepath.Join(t.TempDir(), "junk.key")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := crypto.PubkeyToAddress(chain.Payer.Key.PublicKey)
	strange := filepath.Join(t.TempDir(), "stranger.key")
	if err := os.WriteFile(strange, []byte(chain.Payer.KeyHex), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*config.Config)
		kind   errs.Kind
		wants  []string
	}{
		{"a signer that nobody registered", func(c *config.Config) { c.Chain.PrivateKeyPath = strange }, errs.NotFound, []string{
			"no node is registered with signer " + stranger.Hex(), "let its owner register it at the NodeRegistry (" + good.Chain.Contracts.NodeRegistry.Hex(),
			"with peer id 12D3KooW", "then start again",
		}},
		{"an identity that is not the registered one", func(c *config.Config) { c.Network.IdentityPath = "" }, errs.Invalid, []string{
			"is registered with another peer id than 12D3KooW", "put its identity key back",
		}},
		{"another chain", func(c *config.Config) { c.Chain.ChainID = 42161 }, errs.Invalid, []string{
			"it serves chain 31337, but chain_id is 42161: correct rpc_url or chain_id",
		}},
		{"no contract at the address", func(c *config.Config) { c.Chain.Contracts.NodeRegistry = common.HexToAddress("0xdead") }, errs.Invalid, []string{
			"there is no NodeRegistry at 0x000000000000000000000000000000000000dEaD; correct [chain.contracts]",
		}},
		{"an RPC that is away", func(c *config.Config) { c.Chain.RPCURL = "http://127.0.0.1:1" }, errs.Unavailable, []string{"look at the chain", "connection refused"}},
		{"a key that is none", func(c *config.Config) { c.Chain.PrivateKeyPath = junk }, errs.Invalid, []string{"read signer key: " + junk + " holds 4 characters"}},
		{"a missing key", func(c *config.Config) { c.Network.IdentityPath = junk + "x" }, errs.Invalid, []string{"read identity key: there is no key file " + junk + "x"}},
		{"a port that is taken", func(c *config.Config) { c.API.Bind = fmt.Sprintf("127.0.0.1:%d", port) }, errs.Conflict, []string{
			fmt.Sprintf("another process already listens on 127.0.0.1:%d; stop it or set another [api] bind", port),
		}},
		{"a peer port that is taken", func(c *config.Config) { c.Network.ListenAddr = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port) }, errs.Conflict, []string{
			fmt.Sprintf("another process already listens on /ip4/127.0.0.1/tcp/%d; stop it or set another [network] listen_addr", port),
		}},
		{"a data directory that is a file", func(c *config.Config) { c.Node.DataDir = junk }, errs.Internal, []string{"make data directory", junk}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			cfg.Node.DataDir = filepath.Join(t.TempDir(), "data") // A first start.
			cfg.Chain.PrivateKeyPath = filepath.Join(good.Node.DataDir, "signer.key")
			cfg.Network.IdentityPath = filepath.Join(good.Node.DataDir, "identity.key")
			tt.change(&cfg)

			refused(t, cfg, tt.kind, tt.wants...)
		})
	}
	for name, change := range map[string]func(*config.Config){
		"QEMU (/nowhere/qemu) is not installed: run apt-get install qemu-system-x86, then start the node again": func(c *config.Config) { c.QEMU.Binary = "/nowhere/qemu" },
		"open probe image":         func(c *config.Config) { c.QEMU.ProbeImage = junk },
		"open network of machines": func(c *config.Config) { c.VMNet.Pool = "nonsense" },
	} {
		cfg := good
		cfg.Node.Role = config.Compute
		change(&cfg)
		n, err := node.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
		if err == nil {
			n.Close()
		}
	}
	noLeaks(t, before)
}

func TestDirectoryIsForOneNodeAtATime(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	_, end := begin(t, cfg)

	refused(t, cfg, errs.Conflict, "another process uses the data directory "+cfg.Node.DataDir+"; stop it, or set another [node] data_dir")

	end()
	begin(t, cfg)
}

func TestLaterStartGoesOnWithoutTheChain(t *testing.T) {
	net := chaintest.Start(t)
	wire := chaintest.NewWire(t, net.Chain.URL())
	cfg, id := join(t, net, config.Coordinator)
	cfg.Chain.RPCURL = wire.URL
	wire.Cut()
	refused(t, cfg, errs.Unavailable, "look at the chain")
	wire.Mend()
	n, end := begin(t, cfg)
	waitReady(t, n)
	end()

	wire.Cut()
	n, end = begin(t, cfg)

	if n.ID() != id {
		t.Errorf("it is node %d, want %d as before", n.ID(), id)
	}
	if code, body := get(t, n.URL()+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readiness without the chain is %d, %s, want 503", code, body)
	}
	if code, _ := get(t, n.URL()+"/healthz"); code != http.StatusOK {
		t.Errorf("health is %d, want 200", code)
	}
	wire.Mend()
	waitReady(t, n)
	end()
}

func TestDirectoryBelongsToItsChainAndContracts(t *testing.T) {
	net := chaintest.Start(t)
	cfg, _ := join(t, net, config.Coordinator)
	_, end := begin(t, cfg)
	end()

	other := cfg
	other.Chain.Contracts.JobManager = common.HexToAddress("0xdead")
	refused(t, other, errs.Invalid, "data_dir "+cfg.Node.DataDir+" belongs to the JobManager at "+cfg.Chain.Contracts.JobManager.Hex(),
		"correct [chain.contracts], or use an empty data_dir")

	// The same contracts at the same addresses, on a chain that began anew.
	began := time.Now().Unix() // A chain is named by the second in which it began.
	p2ptest.Wait(t, "a second is over", func() bool { return time.Now().Unix() > began+1 })
	anew := chaintest.Start(t)
	other = cfg
	other.Chain.RPCURL = anew.Chain.URL()
	if anew.Deployment.Contracts != cfg.Chain.Contracts {
		t.Fatal("the contracts are elsewhere")
	}
	if genesis(t, net) == genesis(t, anew) {
		t.Fatal("the chain is the same")
	}
	refused(t, other, errs.Invalid, "data_dir "+cfg.Node.DataDir+" belongs to the chain with genesis "+genesis(t, net), "correct [chain] rpc_url, or use an empty data_dir")
}

func genesis(t *testing.T, n *chaintest.Net) string {
	t.Helper()
	hash, err := n.Client.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hash.Hex()
}

// TestSignerThatGetsAnotherNumberIsThatNode: its owner registered it again.
func TestSignerThatGetsAnotherNumberIsThatNode(t *testing.T) {
	net := chaintest.Start(t)
	cfg, first := join(t, net, config.Compute)
	n, end := begin(t, cfg)
	waitReady(t, n)
	end()
	again, second := join(t, net, config.Compute)
	cfg.Chain.PrivateKeyPath = filepath.Join(again.Node.DataDir, "signer.key")
	cfg.Network.IdentityPath = filepath.Join(again.Node.DataDir, "identity.key")

	n, end = begin(t, cfg)

	if n.ID() != second || second == first {
		t.Errorf("it is node %d, want %d", n.ID(), second)
	}
	identity, err := n.DB().Identity(t.Context())
	if err != nil || identity.NodeID != second {
		t.Errorf("it remembers %+v, %v, want node %d", identity, err, second)
	}
	end()
}

func TestPartThatEndsEndsTheNode(t *testing.T) {
	net := chaintest.Start(t)
	cfg, _ := join(t, net, config.Coordinator)
	before := goleak.IgnoreCurrent()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errs.New(errs.Internal, "the disk is gone"), "broken ended: the disk is gone"},
		{nil, "broken ended: BUG"},
	} {
		n, err := node.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		n.Add("broken", func(context.Context) error { return tt.err })

		err = n.Run(t.Context())

		if err == nil || !strings.Contains(err.Error(), tt.want) || errs.KindOf(err) != errs.Internal {
			t.Errorf("got %v, want %q", err, tt.want)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	noLeaks(t, before)
}
