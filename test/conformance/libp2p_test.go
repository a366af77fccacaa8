//go:build conformance

package conformance_test

import (
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// TestLibp2p runs js-libp2p against a node, as a peer of it.
func TestLibp2p(t *testing.T) {
	t.Parallel()
	url, _ := run(t, settings(t, chaintest.Start(t)))
	nodeTests(t, "libp2p", []string{"ALEPH_API=" + url, "ALEPH_TOPIC=" + wire.TopicMessages}, "mesh.test.js")
}
