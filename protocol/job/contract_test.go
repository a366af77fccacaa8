package job_test

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// TestDigestsAgreeWithTheContracts asks the compiled contracts, on a chain in
// memory, for the digests that they check signatures against.
func TestDigestsAgreeWithTheContracts(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dev, err := devchain.Open(devchain.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(ignore(<-ended, context.Canceled), dev.Close()); err != nil {
			t.Error(err)
		}
	}()
	client, err := chain.Dial(ctx, chain.Config{RPCURL: dev.URL(), ChainID: devchain.ChainID}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	d, err := deploy.Deploy(ctx, client, devchain.Accounts()[0].Key, params, deploy.Extras{})
	if err != nil {
		t.Fatal(err)
	}
	eth, err := ethclient.DialContext(ctx, dev.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer eth.Close()
	manager := bindings.NewJobManager()
	contract := d.Contracts.JobManager
	domain := job.Jobs(big.NewInt(devchain.ChainID), contract)
	sum, _ := spec.Digest()
	o, a := offer(), assignment()
	onChain := bindings.IJobManagerAssignment{
		Spec: sum, NodeId: a.NodeID, RateQ32: a.RateQ32, Attempt: a.Attempt, CoordId: a.CoordID, Deadline: new(big.Int).SetUint64(a.Deadline),
	}
	tests := []struct {
		name string
		word job.Signable
		call []byte
	}{
		{"offer", o, manager.PackOfferDigest(bindings.IJobManagerJobOffer{
			Spec: sum, Payer: o.Payer, Token: o.Token, MaxRateQ32: o.MaxRateQ32, NodeHint: o.NodeHint,
			MaxUntil: new(big.Int).SetUint64(o.MaxUntil), Deadline: new(big.Int).SetUint64(o.Deadline), Nonce: o.Nonce,
		})},
		{"accept", accept(), manager.PackAcceptDigest(onChain)},
		{"assignment", a, manager.PackAssignmentDigest(onChain)},
		{"stop", &job.Stop{Spec: spec, Deadline: 1700000300}, manager.PackStopDigest(sum, big.NewInt(1700000300))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := eth.CallContract(ctx, ethereum.CallMsg{To: &contract, Data: tt.call}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := job.Digest(domain, tt.word), common.BytesToHash(raw); got != want {
				t.Errorf("digest %s, the contract's is %s", got, want)
			}
		})
	}
}

// ignore returns nil for an error that is expected.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
