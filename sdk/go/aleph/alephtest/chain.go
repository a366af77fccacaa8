package alephtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// deployTimeout bounds the deployment of the token on a chain in memory.
const deployTimeout = time.Minute

// richAccount is the development account that local networks fund users from.
const richAccount = 9

// Chain is a real chain in memory with the real token on it. The last
// development account holds a million ALEPH.
type Chain struct {
	URL   string // of its JSON-RPC
	Token common.Address
	eth   *ethclient.Client
	token *bindings.AlephToken
}

// StartChain runs a chain until the test ends.
func StartChain(t testing.TB) *Chain {
	t.Helper()
	dev, err := devchain.Open(devchain.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run chain: %v", err)
		}
		if err := dev.Close(); err != nil {
			t.Errorf("close chain: %v", err)
		}
	})
	eth, err := ethclient.DialContext(ctx, dev.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(eth.Close)
	c := &Chain{URL: dev.URL(), eth: eth, token: bindings.NewAlephToken()}
	c.deploy(t)
	return c
}

func (c *Chain) deploy(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deployTimeout)
	defer cancel()
	gateway := devchain.Accounts()[0]
	opts := bind.NewKeyedTransactor(gateway.Key, big.NewInt(devchain.ChainID))
	opts.Context = ctx
	deployed, err := bind.LinkAndDeploy(&bind.DeploymentParams{
		Contracts: []*bind.MetaData{&bindings.AlephTokenMetaData},
		Inputs:    map[string][]byte{bindings.AlephTokenMetaData.ID: c.token.PackConstructor(gateway.Address, common.Address{})},
	}, bind.DefaultDeployer(opts, c.eth))
	if err != nil {
		t.Fatal(err)
	}
	c.Token = deployed.Addresses[bindings.AlephTokenMetaData.ID]
	if _, err := bind.WaitDeployed(ctx, c.eth, deployed.Txs[bindings.AlephTokenMetaData.ID].Hash()); err != nil {
		t.Fatal(err)
	}
	const million = 1_000_000
	amount := new(big.Int).Mul(big.NewInt(million), big.NewInt(1e18))
	rich := devchain.Accounts()[richAccount].Address
	tx, err := bind.Transact(c.token.Instance(c.eth, c.Token), opts, c.token.PackBridgeMint(rich, amount))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bind.WaitMined(ctx, c.eth, tx.Hash()); err != nil {
		t.Fatal(err)
	}
}

// Balance returns the tokens of an address.
func (c *Chain) Balance(t testing.TB, of common.Address) aleph.Wei {
	t.Helper()
	v, err := bind.Call(c.token.Instance(c.eth, c.Token), &bind.CallOpts{Context: t.Context()}, c.token.PackBalanceOf(of), c.token.UnpackBalanceOf)
	if err != nil {
		t.Fatal(err)
	}
	return aleph.NewWei(v)
}

// permit gives a permit to the token, which judges the signature.
func (c *Chain) permit(ctx context.Context, p aleph.PermitRequest) error {
	opts := bind.NewKeyedTransactor(devchain.Accounts()[1].Key, big.NewInt(devchain.ChainID))
	opts.Context = ctx
	data := c.token.PackPermit(p.Owner, p.Spender, p.Value.Big(), new(big.Int).SetUint64(p.Deadline), p.V, p.R, p.S)
	if _, err := bind.Transact(c.token.Instance(c.eth, c.Token), opts, data); err != nil {
		return fmt.Errorf("send permit: %w", err)
	}
	return nil
}
