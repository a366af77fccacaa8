package devnet_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// start starts a network of nodes that play the role.
func start(t *testing.T, ctx context.Context, role string, o devnet.Options) (*devnet.Network, error) {
	t.Helper()
	t.Setenv(roleVar, role)
	t.Setenv("ALEPH_NODE_ROLE", "miner") // It must not reach the nodes.
	o.Binary = os.Args[0]
	return devnet.Start(ctx, o, quiet)
}

func ready(t *testing.T, url string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// TestNetworkRunsAndGoesOn runs a whole network: it becomes ready, survives the
// death of a node, keeps others out, ends, and goes on as it was.
func TestNetworkRunsAndGoesOn(t *testing.T) {
	o := devnet.Options{DataDir: filepath.Join(t.TempDir(), "net"), LogLevel: "debug"}
	n, err := start(t, t.Context(), realNode, o)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	end := func() {
		t.Helper()
		if closed {
			return
		}
		closed = true
		if err := n.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
	defer end()
	d, err := n.Description()
	if err != nil {
		t.Fatal(err)
	}
	checkDescription(t, d, o.DataDir)
	checkConfigs(t, d)

	// Neither kind of second network may touch what is the first one's.
	for _, ephemeral := range []bool{false, true} {
		second := devnet.Options{DataDir: o.DataDir, Ephemeral: ephemeral}
		if _, err := start(t, t.Context(), realNode, second); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "another local network runs in "+o.DataDir) {
			t.Errorf("a second network in the directory: %v, want a conflict", err)
		}
	}
	if _, err := devnet.Read(o.DataDir); err != nil {
		t.Errorf("the second network took the description of the first: %v", err)
	}

	before := n.Process(1)
	if err := before.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p2ptest.Wait(t, "the node that was killed is ready again", func() bool {
		now := n.Process(1)
		return now != nil && now.Pid != before.Pid && ready(t, d.Nodes[1].URL)
	})

	processes := []*os.Process{n.Process(0), n.Process(1), n.Process(2)}
	end()

	for i, p := range processes {
		if err := p.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("process of node %d after the end: %v, want that it is done", i, err)
		}
	}
	if _, err := devnet.Read(o.DataDir); !errors.Is(err, errs.NotFound) {
		t.Errorf("description after the end: %v, want none", err)
	}

	n, err = start(t, t.Context(), realNode, o)
	if err != nil {
		t.Fatal(err)
	}
	closed = false
	again, err := n.Description()
	if err != nil {
		t.Fatal(err)
	}
	if again.Contracts != d.Contracts {
		t.Errorf("contracts are %v, want those of before, %v", again.Contracts, d.Contracts)
	}
	for i := range d.Nodes {
		if again.Nodes[i].NodeID != d.Nodes[i].NodeID {
			t.Errorf("node %d has number %d, want %d as before", i, again.Nodes[i].NodeID, d.Nodes[i].NodeID)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Wait(ctx); err != nil {
		t.Errorf("wait until it is to end: %v", err)
	}
	end()
}

func checkDescription(t *testing.T, d *devnet.Description, dir string) {
	t.Helper()
	if d.ChainID != devchain.ChainID || !strings.HasPrefix(d.RPCURL, "http://127.0.0.1:") || d.DataDir != dir || d.TookMS <= 0 || d.PID != os.Getpid() {
		t.Errorf("description is %+v", d)
	}
	if err := d.Contracts.Validate(); err != nil {
		t.Error(err)
	}
	var names, roles []string
	for _, node := range d.Nodes {
		names, roles = append(names, node.Name), append(roles, node.Role)
		if node.NodeID == 0 || node.DataDir != filepath.Join(dir, node.Name) || !ready(t, node.URL) {
			t.Errorf("node is %+v, ready %v", node, ready(t, node.URL))
		}
	}
	if diff := cmp.Diff([]string{"coordinator", "compute-1", "compute-2"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{config.Coordinator, config.Compute, config.Compute}, roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	known := devchain.Accounts()
	if len(d.Accounts) != len(known) {
		t.Fatalf("%d accounts, want %d", len(d.Accounts), len(known))
	}
	for i, a := range d.Accounts {
		if a.Address != known[i].Address || a.Key != "0x"+known[i].KeyHex {
			t.Errorf("account %d is %+v", i, a)
		}
	}
	checkPrint(t, d)
}

func checkPrint(t *testing.T, d *devnet.Description) {
	t.Helper()
	var out bytes.Buffer
	if err := d.Print(&out); err != nil {
		t.Fatal(err)
	}
	wants := []string{
		"(0) 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266  0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
		"rpc            " + d.RPCURL, "chain id       31337", "source of 'aleph account fund'",
		"export ALEPH_NODE=" + d.Nodes[0].URL + " ALEPH_RPC=" + d.RPCURL,
		"state is in " + d.DataDir + "; Ctrl-C stops everything\n",
	}
	wants = append(wants, chain.Names()...)
	for _, node := range d.Nodes {
		wants = append(wants, node.Name, node.URL, filepath.Join(node.DataDir, "node.log"))
	}
	for _, want := range wants {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if err := d.Print(failing{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("to a writer that is closed: %v", err)
	}
}

// failing is a writer that is closed.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// checkConfigs looks at the settings that the nodes were given.
func checkConfigs(t *testing.T, d *devnet.Description) {
	t.Helper()
	var taken []int
	for i, node := range d.Nodes {
		cfg, err := config.Load(filepath.Join(node.DataDir, "config.toml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", node.Name, err)
		}
		if cfg.Node.Role != node.Role || cfg.Node.DataDir != node.DataDir || cfg.Chain.RPCURL != d.RPCURL || cfg.Chain.ChainID != d.ChainID ||
			cfg.Chain.Contracts != d.Contracts || cfg.Log.Level != "debug" || "http://"+cfg.API.Bind != node.URL {
			t.Errorf("settings of %s are %+v", node.Name, cfg)
		}
		if !strings.HasPrefix(cfg.Network.ListenAddr, "/ip4/127.0.0.1/tcp/") {
			t.Errorf("%s listens on %s, want loopback", node.Name, cfg.Network.ListenAddr)
		}
		if i == 0 {
			if len(cfg.Network.BootstrapPeers) != 0 {
				t.Errorf("the coordinator waits for %v", cfg.Network.BootstrapPeers)
			}
			continue
		}
		if len(cfg.Network.BootstrapPeers) != 1 || cfg.Executor.OnExit != executor.OnExitStop || cfg.Executor.MemoryMiB < 512 ||
			cfg.VMNet.Bind != "127.0.0.1" || cfg.QEMU.CacheDir == "" {
			t.Errorf("settings of %s are %+v", node.Name, cfg)
		}
		for port := cfg.VMNet.PortMin; port <= cfg.VMNet.PortMax; port++ {
			taken = append(taken, port)
		}
	}
	slices.Sort(taken)
	if len(slices.Compact(taken)) != 2*2400 {
		t.Error("the nodes forward from the same ports")
	}
}

func TestNetworkThatCannotStartLeavesNothing(t *testing.T) {
	if _, err := start(t, t.Context(), realNode, devnet.Options{DataDir: "/dev/null/net"}); err == nil || !strings.Contains(err.Error(), "lock data directory") {
		t.Errorf("a directory that cannot be: %v", err)
	}

	dir := filepath.Join(t.TempDir(), "net")
	_, err := start(t, t.Context(), realNode, devnet.Options{DataDir: dir, Ephemeral: true, LogLevel: "loud"})
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "settings of coordinator: [log] level") {
		t.Errorf("a level that is none: %v, want the section and the key", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of an ephemeral network after its end: %v, want none", err)
	}

	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, t.Context(), realNode, devnet.Options{DataDir: dir, Image: image}); err == nil || !strings.Contains(err.Error(), "open guest image") {
		t.Errorf("an image that is none: %v", err)
	}
}

func TestStartIsCutOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	names := []string{"coordinator", "compute-1", "compute-2"}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		p2ptest.Wait(t, "the nodes run", func() bool {
			for _, name := range names {
				raw, err := os.ReadFile(filepath.Join(dir, name, "node.log"))
				if err != nil || !strings.Contains(string(raw), "begun") {
					return false
				}
			}
			return true
		})
	}()

	_, err := start(t, ctx, patient, devnet.Options{DataDir: dir})

	<-done
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "coordinator") {
		t.Errorf("got %v, want that it was cut off, and what was missing", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(dir, name, "node.log"))
		if err != nil || !strings.HasSuffix(string(raw), "asked to end\n") {
			t.Errorf("%s said %q, %v, want that it was asked to end", name, raw, err)
		}
	}
}

func TestNodeThatCannotRunEndsTheStart(t *testing.T) {
	begin := time.Now()

	_, err := start(t, t.Context(), broken, devnet.Options{DataDir: t.TempDir()})

	if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "ended 6 times: exit status 1: test node: the port is taken") {
		t.Errorf("got %v, want what the node said", err)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v to say so", took)
	}
}

func TestDescriptionsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := devnet.Read(dir); !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no local network is ready in "+dir) {
		t.Errorf("without a file: %v, want not found", err)
	}
	for text, want := range map[string]string{"{": "decode description", "{}": "names no nodes"} {
		if err := os.WriteFile(filepath.Join(dir, devnet.File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := devnet.Read(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, devnet.File)), os.Mkdir(filepath.Join(dir, devnet.File), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := devnet.Read(dir); err == nil || !strings.Contains(err.Error(), "read description") {
		t.Errorf("a directory: %v", err)
	}
}
