package p2p_test

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// TestWhoHelpsOthersToBeReached looks what a node serves by what its operator says of it. One
// that said it can be dialled did not dial others back, and in a network with no other public
// node none that is behind NAT learned it, nor asked for a relay.
func TestWhoHelpsOthersToBeReached(t *testing.T) {
	for _, tt := range []struct {
		reachability string
		want         []string
		not          []string
	}{
		{p2p.ReachPublic, []string{string(autonat.AutoNATProto), autonatv2.DialProtocol, proto.ProtoIDv2Hop}, nil},
		{p2p.ReachPrivate, nil, []string{string(autonat.AutoNATProto), proto.ProtoIDv2Hop}},
		{p2p.ReachAuto, nil, []string{string(autonat.AutoNATProto), autonatv2.DialProtocol, proto.ProtoIDv2Hop}}, // It is on loopback.
	} {
		t.Run(tt.reachability, func(t *testing.T) {
			cfg := p2ptest.Config()
			cfg.Reachability = tt.reachability
			h := p2ptest.OpenWith(t, cfg, "a", nil)
			var serves []string
			p2ptest.Wait(t, "it serves all", func() bool {
				serves = nil
				for _, id := range h.Libp2p().Mux().Protocols() {
					serves = append(serves, string(id))
				}
				return !slices.ContainsFunc(tt.want, func(id string) bool { return !slices.Contains(serves, id) })
			})
			for _, id := range tt.not {
				if slices.Contains(serves, id) {
					t.Errorf("it serves %s, want not", id)
				}
			}
		})
	}
}
