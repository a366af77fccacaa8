//go:build e2e

package mesh_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/test/e2e/wire"
)

// home makes a node behind a router of its own.
func (w *world) home(t *testing.T, name string, kind wire.NAT, first ...*node) *node {
	t.Helper()
	router := w.join(t, "router of "+name)
	h, err := w.net.Behind(router, name, kind)
	if err != nil {
		t.Fatal(err)
	}
	n := w.addAt(t, name, h, first...)
	n.more["network"] = table{"listen_addr": fmt.Sprintf("/ip4/0.0.0.0/tcp/%d,/ip4/0.0.0.0/udp/%d/quic-v1", meshPort, meshPort)}
	return n
}

// connection is how a node is connected with another one, by the API that 'aleph-node peers' shows.
func (n *node) connection(ctx context.Context, to *node) (v1.PeerView, error) {
	peers, err := n.peers(ctx)
	if err != nil {
		return v1.PeerView{}, err
	}
	p, ok := peers[string(to.keys.peer)]
	if !ok {
		return p, fmt.Errorf("%s is not connected with %s", n.name, to.name)
	}
	return p, nil
}

// TestBothBehindNAT has two nodes meet that nobody can dial, each behind a router of its own, by
// way of one public node.
func TestBothBehindNAT(t *testing.T) {
	for _, c := range []struct {
		name     string
		one, two wire.NAT
		direct   bool
	}{
		{"routers that keep ports: they meet directly", wire.Cone, wire.Cone, true},
		{"one router with a port for each destination: they are relayed", wire.Cone, wire.Symmetric, false},
		{"two such routers: they are relayed", wire.Symmetric, wire.Symmetric, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			public := w.add(t, "public")
			public.more["network"] = table{"reachability": "public"} // Nobody else could find that out.
			w.run(t, public)
			one, two := w.home(t, "one", c.one, public), w.home(t, "two", c.two, public)
			all := []*node{public, one, two}
			// Nobody else tells one of the other: it is named, by way of the relay.
			met := public.bootstrap()
			for _, way := range public.bootstrap() {
				met = append(met, way+"/p2p-circuit/p2p/"+string(two.keys.peer))
			}
			one.more["network"]["bootstrap_peers"] = met
			for _, n := range all[1:] {
				n.start(t)
			}
			for _, n := range all[1:] {
				n.waitUp(t)
			}

			for _, pair := range [][2]*node{{one, two}, {two, one}} {
				eventually(t, pair[0].name+" is connected with "+pair[1].name, func(ctx context.Context) error {
					p, err := pair[0].connection(ctx, pair[1])
					if err == nil && c.direct && !slices.Contains([]string{"quic", "tcp"}, p.Transport) {
						err = fmt.Errorf("by %s at %v, want directly", p.Transport, p.Addrs)
					}
					if err == nil && !c.direct && p.Transport != "relay" {
						t.Errorf("by %s at %v, want it relayed", p.Transport, p.Addrs)
					}
					return err
				})
			}
			p, err := one.connection(t.Context(), two)
			t.Logf("by %s at %v (%v)", p.Transport, p.Addrs, err)
			w.talk(t, all, 2)
			w.converge(t, all)

			if c.direct {
				// Without the one that brought them together they go on.
				public.kill(t)
				w.talk(t, all[1:], 2)
				w.converge(t, all[1:])
				public.start(t)
				public.waitUp(t)
				w.converge(t, all)
			}
			check(t, all)
		})
	}
}
