//go:build conformance

package conformance_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// TestRustLibp2p runs rust-libp2p, whose program CONFORMANCE_RUST_LIBP2P names, against
// a node of each profile, as peers of it.
func TestRustLibp2p(t *testing.T) {
	program := os.Getenv("CONFORMANCE_RUST_LIBP2P")
	if program == "" {
		t.Skip("without rust-libp2p; make test-conformance-rust-libp2p has it")
	}
	// Nodes of the public network have such keys.
	const rsaBits = 2048
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rsaPath := filepath.Join(t.TempDir(), "rsa.der")
	if err := os.WriteFile(rsaPath, der, 0o600); err != nil {
		t.Fatal(err)
	}
	for profile, env := range map[string][]string{
		p2p.ProfilePrivate: {"ALEPH_TOPIC=" + wire.TopicMessages},
		p2p.ProfileAleph:   {"ALEPH_TOPIC=" + wire.TopicAlephMessages, "ALEPH_ALIVE=" + wire.TopicAlephAlive},
	} {
		t.Run(profile, func(t *testing.T) {
			cfg := settings(t, chaintest.Start(t))
			cfg.Network.Profile = profile
			if profile == p2p.ProfileAleph {
				cfg.Network.MessagesTopic = wire.TopicAlephMessages // Named, it has none of the public network's peers.
			}
			// It is a relay only if it has an address to tell that others can dial, which one on
			// loopback is not. Nobody looks this one up.
			cfg.Network.Reachability, cfg.Network.AnnounceAddrs = p2p.ReachPublic, []string{"/dns4/node.example/tcp/4001"}
			url, _ := nodes.Run(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), sdkMax)
			defer cancel()
			cmd := exec.CommandContext(ctx, program)
			cmd.Env = append(append(os.Environ(), "ALEPH_API="+url, "ALEPH_RSA="+rsaPath), env...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("rust-libp2p: %v\n%s", err, out)
				return
			}
			t.Logf("rust-libp2p:\n%s", out)
		})
	}
}
