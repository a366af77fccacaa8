package ingest_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// register writes the registry's row of node 7, whose host is n's.
func register(t *testing.T, at *node, n *node, signer *ecdsa.PrivateKey, kind state.NodeKind) {
	t.Helper()
	at.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutNode(ctx, state.Node{
			ID: 7, Kind: kind, Status: state.NodeActive, Signer: crypto.PubkeyToAddress(signer.PublicKey),
			PeerIDHash: crypto.Keccak256Hash(n.host.ID().Bytes()),
		})
	})
}

func ad(t *testing.T, n *node, signer *ecdsa.PrivateKey, at time.Time, change ...func(*wire.CapacityAd)) []byte {
	t.Helper()
	a := &wire.CapacityAd{
		NodeID: 7, PeerID: string(n.host.ID()), Endpoint: "http://127.0.0.1:4020", PublicIP: "127.0.0.1", VCPUsTotal: 4, VCPUsFree: 2,
		MemoryTotalMiB: 4096, MemoryFreeMiB: 1024, DiskTotalMiB: 10_000, DiskFreeMiB: 5000, PriceBps: 9000, Accelerator: "tcg",
		Drivers: []string{"qemu"}, ScoreBps: wire.Bps, AtMS: at.UnixMilli(),
	}
	for _, fn := range change {
		fn(a)
	}
	if err := a.Sign(signer); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestCapacityAdsOfRegisteredNodesAreKept(t *testing.T) {
	a, b := pairOf(t)
	signer := key(t, "signer")
	now := time.Now()
	register(t, a, b, signer, state.KindCompute)
	register(t, b, b, signer, state.KindCompute)

	if err := b.host.Publish(t.Context(), wire.TopicCapacity, ad(t, b, signer, now)); err != nil {
		t.Fatal(err)
	}
	p2ptest.Wait(t, "the ad is kept", func() bool {
		_, err := a.db.Capacity(t.Context(), 7)
		return err == nil
	})
	if err := b.host.Publish(t.Context(), wire.TopicCapacity, ad(t, b, signer, now.Add(time.Second), func(a *wire.CapacityAd) { a.VCPUsFree = 1 })); err != nil {
		t.Fatal(err)
	}
	p2ptest.Wait(t, "the newer ad is kept", func() bool {
		c, err := a.db.Capacity(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.ParseCapacityAd(c.Ad)
		return err == nil && got.VCPUsFree == 1 && c.PeerID == string(b.host.ID())
	})
}

func TestCapacityAdsThatAreNotTheNodesAreIgnored(t *testing.T) {
	n, other := open(t, "n", config(true)), open(t, "other", config(true))
	signer := key(t, "signer")
	now := time.Now()
	tests := []struct {
		name string
		ad   []byte
		kind state.NodeKind // of the registry's row; "" for none
		want errs.Kind
	}{
		{"malformed", []byte("{}"), "", errs.Invalid},
		{"unknown node", ad(t, n, signer, now.Add(-2*time.Second)), "", errs.Unavailable},
		{"a coordinator", ad(t, n, signer, now.Add(-time.Second)), state.KindCoordinator, errs.Unavailable},
		{"another peer", ad(t, other, signer, now), state.KindCompute, errs.Unavailable},
		{"another signer", ad(t, n, key(t, "x"), now), state.KindCompute, errs.Unavailable},
		{"of an hour ago", ad(t, n, signer, now.Add(-time.Hour)), state.KindCompute, errs.Unavailable},
		{"of tomorrow", ad(t, n, signer, now.Add(24*time.Hour)), state.KindCompute, errs.Unavailable},
		{"good", ad(t, n, signer, now), state.KindCompute, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.kind != "" {
				register(t, n, n, signer, tt.kind)
			}
			if err := n.host.Publish(t.Context(), wire.TopicCapacity, tt.ad); errs.KindOf(err) != tt.want {
				t.Errorf("Publish: %v, want kind %q", err, tt.want)
			}
		})
	}
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutCapacity(ctx, state.Capacity{NodeID: 7, Ad: ad(t, n, signer, now.Add(time.Minute)), ReceivedAt: now})
	})
	if err := n.host.Publish(t.Context(), wire.TopicCapacity, ad(t, n, signer, now.Add(time.Second))); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("an ad older than the last: %v, want errs.Unavailable", err)
	}
}
