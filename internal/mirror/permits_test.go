package mirror_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

func TestTheTokenChecksPermits(t *testing.T) {
	n := chaintest.Start(t)
	s, _ := syncer(n, open(t, t.TempDir()), n.Client)
	token := job.Domain{Name: "Aleph", Version: "1", ChainID: n.Client.ChainID(), Contract: n.Deployment.Contracts.AlephToken}
	deadline := n.Head(t).Time + 600
	for name, tt := range map[string]struct {
		change func(*job.Permit)
		late   bool
		text   string
	}{
		"as it must be":     {func(*job.Permit) {}, false, ""},
		"of another nonce":  {func(p *job.Permit) { p.Nonce = big.NewInt(1) }, false, "ERC2612InvalidSigner"},
		"to somebody else":  {func(p *job.Permit) { p.Spender = common.Address{1} }, false, "ERC2612InvalidSigner"},
		"of another amount": {func(p *job.Permit) { p.Value = big.NewInt(5) }, false, "ERC2612InvalidSigner"},
		"too late":          {func(p *job.Permit) { p.Deadline = big.NewInt(1) }, true, "ERC2612ExpiredSignature"},
	} {
		t.Run(name, func(t *testing.T) {
			word := job.Permit{
				Owner: n.Payer.Address, Spender: n.Deployment.Contracts.PaymentManager, Value: big.NewInt(4), Nonce: new(big.Int),
				Deadline: new(big.Int).SetUint64(deadline),
			}
			tt.change(&word)
			sig, err := job.Sign(n.Payer.Key, token, &word)
			if err != nil {
				t.Fatal(err)
			}
			until := deadline
			if tt.late {
				until = 1
			}

			err = s.CheckPermit(t.Context(), n.Payer.Address, big.NewInt(4), until, sig)

			if tt.text == "" && err != nil || tt.text != "" && (!errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("CheckPermit: %v, want %q", err, tt.text)
			}
		})
	}
	if err := s.CheckPermit(t.Context(), n.Payer.Address, big.NewInt(4), deadline, nil); !errors.Is(err, errs.Denied) {
		t.Errorf("without a signature: %v, want denied", err)
	}
	wire := chaintest.NewWire(t, n.Chain.URL())
	away, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: n.Client.ChainID().Uint64()}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	s, _ = syncer(n, open(t, t.TempDir()), away)
	wire.Cut()
	if err := s.CheckPermit(t.Context(), n.Payer.Address, big.NewInt(4), deadline, make(job.Signature, 65)); !errors.Is(err, errs.Unavailable) {
		t.Errorf("without an RPC: %v, want unavailable", err)
	}
}
