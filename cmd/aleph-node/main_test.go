package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

var update = flag.Bool("update", false, "rewrite docs/operator/node.md")

// nodeVar makes this binary a node, for a network that a test runs.
const nodeVar = "TEST_IS_A_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeVar) != "" {
		asNode()
	}
	testscript.Main(m, map[string]func(){"aleph-node": asNode})
}

func asNode() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	code := (&app{out: os.Stdout, err: os.Stderr, environ: os.Environ()}).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// TestScripts runs the commands as an operator does.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"taken": taken},
	})
}

// taken takes a port until the script ends, and sets a variable to it.
func taken(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// TestReferenceIsTrue compares docs/operator/node.md with the commands; -update
// rewrites it.
func TestReferenceIsTrue(t *testing.T) {
	const path = "../../docs/operator/node.md"
	want := reference((&app{out: io.Discard, err: io.Discard}).root())
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the commands say; run 'go generate ./cmd/aleph-node' (-want +got):\n%s", path, diff)
	}
}

func TestWrongCommandLinesExitWithTwoAndSayWhere(t *testing.T) {
	for line, wants := range map[string][]string{
		"devent":                               {`unknown command "devent"; did you mean "devnet"?`, "Run 'aleph-node --help'"},
		"blockchain":                           {`unknown command "blockchain"`, "--help"},
		"config shwo":                          {`unknown command "shwo"; did you mean "show"?`, "Run 'aleph-node config --help'"},
		"--colour":                             {"unknown flag: --colour"},
		"version now":                          {`unknown command "now"`, "Run 'aleph-node version --help'"},
		"identity mine":                        {`unknown command "mine"`},
		"devnet more":                          {`unknown command "more"`},
		"devnet --config x":                    {"--config and --role are for a node; a local network makes its own", "Run 'aleph-node devnet --help'"},
		"devnet --role compute":                {"--config and --role are for a node"},
		"--role compute devnet":                {"--config and --role are for a node"},
		"devnet --ephemeral --data-dir x":      {"--ephemeral removes its state and --data-dir keeps it: give one of them"},
		"devnet --rpc-port many":               {`invalid argument "many" for "--rpc-port"`},
		"--config":                             {"flag needs an argument: --config"},
		"config check --config a --config b c": {`unknown command "c"`},
	} {
		t.Run(line, func(t *testing.T) {
			var out, errs bytes.Buffer

			code := (&app{out: &out, err: &errs}).run(t.Context(), strings.Fields(line))

			if code != exitUsage || out.Len() > 0 {
				t.Errorf("exit code %d, output %q, want %d and none", code, out.String(), exitUsage)
			}
			for _, want := range append(wants, "aleph-node: ") {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("it says %q, want %q in it", errs.String(), want)
				}
			}
		})
	}
}

// saying collects what is written, for who looks at it meanwhile.
type saying struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write implements io.Writer.
func (s *saying) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

// String returns what was written.
func (s *saying) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// running runs a command line until end is called, which returns the exit code.
func running(t *testing.T, environ []string, args ...string) (out, errs *saying, end func() int) {
	t.Helper()
	out, errs = &saying{}, &saying{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- (&app{out: out, err: errs, environ: environ}).run(ctx, args) }()
	end = sync.OnceValue(func() int {
		cancel()
		return <-done
	})
	t.Cleanup(func() { end() })
	return out, errs, end
}

func TestNodeRunsUntilItIsAskedToStop(t *testing.T) {
	chain := chaintest.Start(t)
	dir := t.TempDir()
	keys, err := keystore.Open(dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	stop := chain.Run(t)
	ids, err := deploy.Join(t.Context(), chain.Client, chain.Deployment.Contracts, deploy.Node{
		Owner: chain.Owner.Key, Signer: keys.Signer, Kind: job.KindCoordinator, PeerID: peer.Bytes(), EtherWei: chaintest.Aleph(1),
	})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Node.DataDir, cfg.API.Bind = dir, "127.0.0.1:0"
	cfg.Chain.RPCURL, cfg.Chain.ChainID, cfg.Chain.Contracts = chain.Chain.URL(), devchain.ChainID, chain.Deployment.Contracts
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, config.Write(cfg, nil), 0o600); err != nil {
		t.Fatal(err)
	}

	out, said, end := running(t, []string{"ALEPH_LOG_FORMAT=text"}, "--config", path, "--role", "coordinator")

	var url string
	p2ptest.Wait(t, "it has started", func() bool {
		_, after, found := strings.Cut(said.String(), "addr=")
		url, _, _ = strings.Cut(after, " ")
		return found
	})
	if want := fmt.Sprintf("msg=started role=coordinator node=%d", ids[0]); !strings.Contains(said.String(), want) {
		t.Errorf("the log is %s, want %q in it", said, want)
	}
	p2ptest.Wait(t, "it is ready", func() bool { return answers(t, url+"/readyz") })

	if code := end(); code != exitOK {
		t.Errorf("exit code %d, want %d: it was asked to stop", code, exitOK)
	}
	if !strings.Contains(said.String(), "msg=stopped") || out.String() != "" {
		t.Errorf("in the end the log is %s, the output %q", said, out)
	}
	if answers(t, url+"/healthz") {
		t.Error("it answers after its end")
	}
}

func answers(t *testing.T, url string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
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

func TestDevnetIsDescribedWhenItIsReady(t *testing.T) {
	t.Setenv(nodeVar, "yes")
	dir := filepath.Join(t.TempDir(), "net")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "A local network with play money"},
		{[]string{"--quiet"}, "ready in "},
	} {
		args := append([]string{"devnet", "--data-dir", dir, "--rpc-port", "0", "--api-port", "0"}, tt.args...)
		out, said, end := running(t, nil, args...)

		p2ptest.Wait(t, "it is ready", func() bool { return strings.Contains(out.String(), "Ctrl-C stops everything\n") })
		if !strings.HasPrefix(strings.TrimSpace(out.String()), tt.want) || !strings.Contains(out.String(), "state is in "+dir) {
			t.Errorf("it prints %q, want %q", out, tt.want)
		}
		d, err := devnet.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !answers(t, d.Nodes[0].URL+"/readyz") {
			t.Error("the coordinator is not ready")
		}
		var errs bytes.Buffer
		if code := (&app{out: io.Discard, err: &errs}).run(t.Context(), []string{"contracts", "rehearse", "--data-dir", dir}); code != exitError ||
			!strings.Contains(errs.String(), "a local network runs in "+dir) || !strings.Contains(errs.String(), "stop the network") {
			t.Errorf("a rehearsal meanwhile: exit code %d, %s", code, &errs)
		}

		if code := end(); code != exitOK {
			t.Errorf("exit code %d, want %d", code, exitOK)
		}
		if got := said.String(); got != "stopping the nodes and their machines\nstopped\n" {
			t.Errorf("in the end it says %q", got)
		}
	}
}

func TestDevnetThatIsStoppedWhileItStartsIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	home := t.TempDir()
	t.Setenv("HOME", home)
	var out, errs bytes.Buffer
	if code := (&app{out: &out, err: &errs}).run(ctx, []string{"devnet", "--rpc-port", "0", "--api-port", "0"}); code != exitOK {
		t.Errorf("exit code %d, %s, want %d", code, errs.String(), exitOK)
	}
	if _, err := os.Stat(filepath.Join(home, ".aleph", "devnet")); err != nil {
		t.Errorf("its directory is not in the user's home: %v", err)
	}
	t.Setenv("HOME", "")
	if code := (&app{out: &out, err: &errs}).run(t.Context(), []string{"devnet"}); code != exitError || !strings.Contains(errs.String(), "give --data-dir DIR") {
		t.Errorf("without a home: exit code %d, %s", code, errs.String())
	}
}
