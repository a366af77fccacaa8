package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestDirectoryKnowsTheRegistryAndTheListOfNodes(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	id := func(name string) p2p.PeerID {
		id, err := p2p.PeerIDOf(p2ptest.Key(name))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	const rsa = "QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV"
	d := node.NewDirectory(db, "0xAuthority")
	l, err := d.Look(t.Context())
	if err != nil || len(l.Peers) != 0 || l.Number(id("met")) != 0 {
		t.Fatalf("with nothing in the database: %+v, %v", l, err)
	}
	list := core.State{Nodes: []core.Node{{Hash: "a"}, {Hash: "b"}, {Hash: "c"}, {Hash: "d"}}}
	for i, addr := range []string{"/ip4/1.2.3.4/tcp/4025/p2p/" + rsa, "nonsense", "", "/ip4/1.2.3.4/tcp/4025"} {
		list.Nodes[i].Multiaddress = addr
	}
	content, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	err = db.Update(t.Context(), func(tx *state.Tx) error {
		ctx := t.Context()
		put := func(number uint32, name string, status state.NodeStatus) error {
			return tx.PutNode(ctx, state.Node{ID: number, Kind: state.KindCoordinator, Status: status, PeerIDHash: crypto.Keccak256Hash(id(name).Bytes())})
		}
		return errors.Join(put(1, "met", state.NodeActive), put(2, "banned", state.NodeBanned), put(3, "never met", state.NodePending),
			tx.PutPeer(ctx, state.Peer{ID: string(id("met")), Addrs: []string{"/ip4/5.6.7.8/tcp/1"}, SeenAt: now}),
			tx.PutPeer(ctx, state.Peer{ID: string(id("banned")), SeenAt: now}), tx.PutPeer(ctx, state.Peer{ID: string(id("stranger")), SeenAt: now}),
			tx.PutOwnAggregate(ctx, state.Aggregate{Owner: "0xAuthority", Key: core.AggregateKey, Content: content, Created: now, Updated: now}))
	})
	if err != nil {
		t.Fatal(err)
	}

	l, err = d.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	want := []p2p.Peer{{ID: id("met"), Addrs: []string{"/ip4/5.6.7.8/tcp/1"}}, {ID: rsa, Addrs: []string{"/ip4/1.2.3.4/tcp/4025"}}}
	if diff := cmp.Diff(want, l.Peers); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	for name, number := range map[string]uint32{"met": 1, "banned": 0, "never met": 3, "stranger": 0} {
		if got := l.Number(id(name)); got != number {
			t.Errorf("%s is node %d, want %d", name, got, number)
		}
	}
	err = db.Update(t.Context(), func(tx *state.Tx) error {
		return tx.PutOwnAggregate(t.Context(), state.Aggregate{Owner: "0xAuthority", Key: core.AggregateKey, Content: []byte(`[]`), Created: now, Updated: now})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Look(t.Context()); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a list of nodes that is none: %v, want errs.Invalid", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Look(ctx); err == nil {
		t.Error("Look with a context that ended: nil, want an error")
	}
}

// TestANodeMeetsOthersWithoutBootstrapPeers: one that is in the list of nodes, and one that
// it met before and that the registry has under that peer id.
func TestANodeMeetsOthersWithoutBootstrapPeers(t *testing.T) {
	n := chaintest.Start(t)
	cfg, _ := join(t, n, config.Coordinator)
	listedCfg, _ := join(t, n, config.Coordinator)
	metCfg, metNumber := join(t, n, config.Coordinator)
	listed, _ := begin(t, listedCfg)
	met, _ := begin(t, metCfg)
	waitReady(t, listed)
	waitReady(t, met)
	list := core.State{Nodes: []core.Node{{Hash: "a", Profile: core.Profile{Multiaddress: listed.Host().Addrs()[0]}}}}
	_, raw := signed(t, "authority", message.TypeAggregate, map[string]any{"key": core.AggregateKey, "content": list})
	var sent struct{ Message struct{ Sender string } }
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatal(err)
	}
	cfg.Nodes.Authority = sent.Message.Sender
	a, end := begin(t, cfg) // It hears of them.
	waitReady(t, a)
	send(t, a, raw, state.MessageProcessed)
	addr, _, _ := strings.Cut(met.Host().Addrs()[0], "/p2p/")
	err := a.DB().Update(t.Context(), func(tx *state.Tx) error {
		return tx.PutPeer(t.Context(), state.Peer{ID: string(met.Host().ID()), Addrs: []string{addr}, SeenAt: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	end()

	a, _ = begin(t, cfg)

	p2ptest.Wait(t, "both are met", func() bool {
		peers := a.Host().Connected()
		return slices.Contains(peers, listed.Host().ID()) && slices.Contains(peers, met.Host().ID())
	})
	p2ptest.Wait(t, "the registry binds the peer id to its node", func() bool {
		l, err := node.NewDirectory(a.DB(), cfg.Nodes.Authority).Look(t.Context())
		return err == nil && l.Number(met.Host().ID()) == metNumber
	})
}
