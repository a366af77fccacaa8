package mirror

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Funds returns what a payer can pay with in a token now, in token wei: its
// balance, the allowance it gave PaymentManager, and what waits for it as a
// refund. It asks the chain, because transfers and approvals are no rows. A
// token that this release does not know gives errs.Invalid.
func (s *Syncer) Funds(ctx context.Context, payer common.Address, token uint8) (balance, allowance, refund *big.Int, err error) {
	if token != job.TokenALEPH {
		return nil, nil, nil, errs.New(errs.Invalid, "token is %d, want %d (ALEPH)", token, job.TokenALEPH)
	}
	erc20, payments := bindings.NewAlephToken(), bindings.NewPaymentManager()
	out, err := s.chain.Calls(ctx, []chain.Call{
		{To: s.contracts.AlephToken, Data: erc20.PackBalanceOf(payer)},
		{To: s.contracts.AlephToken, Data: erc20.PackAllowance(payer, s.contracts.PaymentManager)},
		{To: s.contracts.PaymentManager, Data: payments.PackAccount(payer, token)},
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("ask for the funds of %s: %w", payer, err)
	}
	if balance, err = erc20.UnpackBalanceOf(out[0]); err != nil {
		return nil, nil, nil, malformed(err)
	}
	if allowance, err = erc20.UnpackAllowance(out[1]); err != nil {
		return nil, nil, nil, malformed(err)
	}
	account, err := payments.UnpackAccount(out[2])
	if err != nil {
		return nil, nil, nil, malformed(err)
	}
	return balance, allowance, account.Refund, nil
}
