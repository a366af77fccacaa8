package deploy_test

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

var quiet = slog.New(slog.DiscardHandler)

// running returns a client of a chain that makes blocks.
func running(tb testing.TB) *chain.Client {
	tb.Helper()
	c, err := devchain.Open(devchain.Config{}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			tb.Errorf("Run: %v", err)
		}
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	client, err := chain.Dial(tb.Context(), chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

func aleph(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

func TestDeployAndJoin(t *testing.T) {
	client := running(t)
	a := devchain.Accounts()
	start := time.Now()

	d, err := deploy.Deploy(t.Context(), client, a[0].Key, deploy.Options{
		Requirements: map[job.NodeKind]*big.Int{job.KindCoordinator: aleph(200), job.KindCompute: aleph(10)},
		Pools:        map[uint64]common.Address{deploy.PayeeStakers: a[7].Address},
		Grants:       []deploy.Grant{{To: a[1].Address, AlephWei: aleph(1000)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("deployed in %v", time.Since(start))
	key1, _ := crypto.GenerateKey()
	key2, _ := crypto.GenerateKey()
	start = time.Now()
	ids, err := deploy.Join(t.Context(), client, d.Contracts,
		deploy.Node{Owner: a[1].Key, Signer: key1, Kind: job.KindCoordinator, PeerID: []byte("one"), EtherWei: aleph(1)},
		deploy.Node{Owner: a[1].Key, Signer: key2, Kind: job.KindCompute, PeerID: []byte("two"), EtherWei: aleph(1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("joined in %v: %v", time.Since(start), ids)
	_ = time.Now
}
