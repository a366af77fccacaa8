//go:build conformance

// Package conformance_test asks a node whether clients of the message network,
// written by others, can work with it.
//
// TestSDK runs the published TypeScript packages, unchanged, against the node: its
// tests are in sdk, a file per theme. A test whose name has the word defect shows what
// a package does wrong, to the byte, and what the node answers. TestPython does the
// same in short with the Python packages. The others are the numbered cases of the
// protocol's black-box table, each with its number in its name; they see the node
// over HTTP only, but may sign as those whose posts the node believes. TestLibp2p makes
// js-libp2p a peer of the node, TestIPFS makes Helia's bitswap one of its IPFS network;
// their tests are in libp2p. TestRustLibp2p does as TestLibp2p with two releases of
// rust-libp2p; its checks are the program in rustlibp2p. TestMachines, TestPythonMachines
// and TestRustMachines let clients make machines, and ask a compute node for them; the
// tests of the first are in crn.
package conformance_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// sdkMax bounds the clients' tests, which take some ten seconds.
const sdkMax = 5 * time.Minute

// key is a key of ours, the same for the same name.
func key(name string) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("conformance " + name)))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// Keys of those whose posts the node believes.
const (
	credits  = "credits"
	balances = "balances"
	prices   = "prices"
)

// start runs a coordinator with nothing in it on loopback, until the test ends, and
// returns the base URL of its HTTP interface.
func start(t *testing.T) string {
	t.Helper()
	url, _ := nodes.Run(t, settings(t, chaintest.Start(t)))
	return url
}

// settings are those of a coordinator that has joined the chain and believes our keys.
func settings(t *testing.T, n *chaintest.Net) config.Config {
	t.Helper()
	stop := n.Run(t)
	defer stop()
	cfg := nodes.Settings(t, n, job.KindCoordinator)
	cfg.Ingest.RetryInterval = 100 * time.Millisecond
	believe(&cfg)
	return cfg
}

// believe lets a node believe our keys.
func believe(cfg *config.Config) {
	cfg.Ingest.CreditAuthority = addressOf(key(credits))
	cfg.Ingest.BalanceAuthority = []string{addressOf(key(balances))}
	cfg.Ingest.PricingAuthority = addressOf(key(prices))
}

// TestSDK runs every file of sdk against one node.
func TestSDK(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("sdk/*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of clients: %v", err)
	}
	sdk(t, start(t), files...)
}

// TestSDKOnANodeForDevelopers runs what needs no word of an authority against a node
// as aleph-node dev runs it.
func TestSDKOnANodeForDevelopers(t *testing.T) {
	t.Parallel()
	d, err := node.NewDev(t.Context(), node.DevOptions{Bind: "127.0.0.1:0", Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	sdk(t, d.URL(), "sdk/posts.test.js", "sdk/aggregates.test.js", "sdk/store.test.js", "sdk/forget.test.js", "sdk/messages.test.js", "sdk/watch.test.js")
}

// sdk runs files of tests of the clients against a node.
func sdk(t *testing.T, url string, files ...string) {
	t.Helper()
	nodeTests(t, ".", sdkMax, []string{
		"CONFORMANCE_NODE=" + url, "CONFORMANCE_CREDITS=" + hex.EncodeToString(crypto.FromECDSA(key(credits))),
		"CONFORMANCE_BALANCES=" + hex.EncodeToString(crypto.FromECDSA(key(balances))),
	}, files...)
}

// nodeTests runs files of tests in a folder with its own packages.
func nodeTests(t *testing.T, dir string, limit time.Duration, env []string, files ...string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules/.package-lock.json")); err != nil {
		t.Fatalf("what is tested in %s is not installed; run make conformance-deps", dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{"--test", "--test-reporter=spec"}, files...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
		return
	}
	t.Logf("node --test:\n%s", out)
}
