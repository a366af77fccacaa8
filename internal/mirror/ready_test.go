package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

func TestSyncedIsTheWordOfTheLastPass(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, _ := syncer(n, open(t, t.TempDir()), client)
	if err := s.Ready(t.Context()); s.Synced() || !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "behind the chain") {
		t.Errorf("before the first pass it is synced: %v, %v", s.Synced(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()

	p2ptest.Wait(t, "the rows are those of the chain", s.Synced)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}

	wire.Cut()
	p2ptest.Wait(t, "a pass has failed", func() bool { return !s.Synced() })
	wire.Mend()
	p2ptest.Wait(t, "the rows are those of the chain again", s.Synced)
}

func TestOldWordIsNone(t *testing.T) {
	s, _ := syncer(chaintest.Start(t), open(t, t.TempDir()), nil)
	now := time.Now()
	for _, tt := range []struct {
		at   time.Time
		err  error
		want bool
	}{
		{now, nil, true},
		{now.Add(-mirror.SyncedMax / 2), nil, true},
		{now.Add(-mirror.SyncedMax), nil, false},
		{now, errors.New("away"), false},
	} {
		s.Reach(tt.at, tt.err)
		if got := s.Synced(); got != tt.want {
			t.Errorf("%v after a pass that ended with %v: synced is %v, want %v", now.Sub(tt.at), tt.err, got, tt.want)
		}
	}
}

func TestNodeOfSignerAsksTheRegistry(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	contracts := n.Deployment.Contracts
	for signer, want := range map[common.Address]uint32{
		n.Coord.Address(): n.Coord.ID, n.Compute.Address(): n.Compute.ID, n.Payer.Address: 0, {}: 0,
	} {
		got, err := mirror.NodeOfSigner(t.Context(), client, contracts, signer)
		if err != nil || got != want {
			t.Errorf("node of %s is %d, %v, want %d", signer, got, err, want)
		}
	}

	wrong := contracts
	wrong.NodeRegistry = common.HexToAddress("0xdead")
	_, err = mirror.NodeOfSigner(t.Context(), client, wrong, n.Coord.Address())
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "there is no NodeRegistry at "+wrong.NodeRegistry.Hex()+"; correct [chain.contracts]") {
		t.Errorf("at the wrong address: %v, want invalid and what to correct", err)
	}
	wire.Cut()
	if _, err := mirror.NodeOfSigner(t.Context(), client, contracts, n.Coord.Address()); !errors.Is(err, errs.Unavailable) {
		t.Errorf("without an RPC: %v, want unavailable", err)
	}
}
