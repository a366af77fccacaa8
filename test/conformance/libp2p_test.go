//go:build conformance

package conformance_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// TestIPFS runs Helia's bitswap and js-libp2p against a node that is a peer of an IPFS
// network.
func TestIPFS(t *testing.T) {
	t.Parallel()
	cfg := settings(t, chaintest.Start(t))
	cfg.IPFS.Enabled, cfg.IPFS.ListenAddr = true, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t))
	url, _ := nodes.Run(t, cfg)
	nodeTests(t, "libp2p", sdkMax, []string{"ALEPH_API=" + url, "ALEPH_IPFS=" + cfg.IPFS.ListenAddr}, "ipfs.test.js")
}

// freePort is a port of this machine that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestLibp2p runs js-libp2p against a node, as a peer of it.
func TestLibp2p(t *testing.T) {
	t.Parallel()
	url, _ := nodes.Run(t, settings(t, chaintest.Start(t)))
	nodeTests(t, "libp2p", sdkMax, []string{"ALEPH_API=" + url, "ALEPH_TOPIC=" + wire.TopicMessages}, "mesh.test.js")
}
