package mirror

import (
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func (b *block) flowChanged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackFlowChangedEvent(l)
	if err != nil {
		return malformed(err)
	}
	err = b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) {
		a.RateQ32, a.PaidUntil = e.AccountRateQ32, e.PaidUntil.Uint64()
	})
	if err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentFlow, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: new(big.Int),
		RateQ32: e.PairRateQ32, PaidUntil: e.PaidUntil.Uint64(),
	})
}

func (b *block) reserved(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackReservedEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentReserved, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Amount,
	})
}

func (b *block) released(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackReleasedEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentRefunded, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Amount,
	})
}

func (b *block) pulled(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackPulledEvent(l)
	if err != nil {
		return malformed(err)
	}
	err = b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) {
		a.Refund, a.PaidUntil = e.Refund, e.PaidUntil.Uint64()
	})
	if err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentPulled, Payer: e.Payer, Token: e.Token,
		Amount: new(big.Int).Add(e.Amount, e.FromRefund), PaidUntil: e.PaidUntil.Uint64(),
	})
}

func (b *block) arrearsStarted(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackArrearsStartedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.ArrearsSince = e.Since.Uint64() })
}

func (b *block) arrearsCleared(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackArrearsClearedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.ArrearsSince = 0 })
}

func (b *block) refunded(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackRefundedEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{Kind: state.PaymentRefunded, Payer: e.Payer, Token: e.Token, Amount: e.Amount})
}

func (b *block) refundPaid(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackRefundPaidEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, new(big.Int)); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{Kind: state.PaymentRefundPaid, Payer: e.Payer, Token: e.Token, Amount: e.Amount})
}

func (b *block) debtRecorded(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackDebtRecordedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentDebt, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Amount,
	})
}

// debtPaid is income of the payee; its row is a debt of less than nothing.
func (b *block) debtPaid(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackDebtPaidEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.earn(ctx, l, state.Payment{
		Kind: state.PaymentDebt, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: new(big.Int).Neg(e.Amount),
	})
}

func (b *block) claimed(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackClaimedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.earn(ctx, l, state.Payment{
		Kind: state.PaymentClaimed, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Gross, PaidUntil: e.Since.Uint64(),
	})
}

// charged is a one-time payment: income of the payee at once.
func (b *block) charged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackChargedEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.earn(ctx, l, state.Payment{
		Kind: state.PaymentCharged, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Amount,
	})
}

// compensated moves a payee's credit to a payer's refund.
func (b *block) compensated(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackCompensatedEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{
		Kind: state.PaymentRefunded, Payer: e.Payer, Payee: e.Payee, Token: e.Token, Amount: e.Amount,
	})
}

// deposited is money that a payer keeps in the contract; it is spent like a
// refund.
func (b *block) deposited(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackDepositedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.setRefund(ctx, e.Payer, e.Token, e.Refund)
}

func (b *block) depositWithdrawn(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackDepositWithdrawnEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.setRefund(ctx, e.Payer, e.Token, e.Refund); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{Kind: state.PaymentRefundPaid, Payer: e.Payer, Token: e.Token, Amount: e.Amount})
}

// bountyPaid is what somebody earned by pulling; it waits as a refund.
func (b *block) bountyPaid(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackBountyPaidEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.setRefund(ctx, e.By, e.Token, e.Refund)
}

// flowsRevoked ends all flows of a payer at once.
func (b *block) flowsRevoked(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackFlowsRevokedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) {
		a.RateQ32, a.PaidUntil, a.Refund = new(big.Int), e.PaidUntil.Uint64(), e.Refund
	})
}

// revenueSplit divides the income since the last split among its shares.
func (b *block) revenueSplit(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackRevenueSplitEvent(l)
	if err != nil {
		return malformed(err)
	}
	income := b.unsplit
	b.unsplit = nil
	sum, amounts := new(big.Int), make([]*big.Int, len(income))
	for i, p := range income {
		if p.Payee != e.Payee || p.Token != e.Token || p.Tx != l.TxHash {
			return errs.New(errs.Internal, "the split of payee %d follows income of payee %d", e.Payee, p.Payee)
		}
		amounts[i] = new(big.Int).Abs(p.Amount)
		sum.Add(sum, amounts[i])
	}
	if sum.Cmp(e.Gross) != 0 {
		return errs.New(errs.Internal, "the split of payee %d is of %s wei, its income was %s", e.Payee, e.Gross, sum)
	}
	shares := divide(amounts, e.Gross, map[string]*big.Int{
		shareNode: e.Node, shareCoordinator: e.Coordinator, shareStaker: e.Staker, shareDevelopment: e.Development,
	})
	for i, p := range income {
		p.Split = shares[i]
		if err := b.tx.PutPayment(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// The shares of revenue.
const (
	shareNode        = "node"
	shareCoordinator = "coordinator"
	shareStaker      = "staker"
	shareDevelopment = "development"
)

// divide divides each amount as gross, their sum, was divided into parts. What
// rounding leaves of an amount is development's, as in the contract; the largest
// amount gets what the others left of each part, so that every amount and every
// part adds up.
func divide(amounts []*big.Int, gross *big.Int, parts map[string]*big.Int) []map[string]*big.Int {
	left := map[string]*big.Int{}
	for name, part := range parts {
		left[name] = new(big.Int).Set(part)
	}
	largest := 0
	for i, amount := range amounts {
		if amount.Cmp(amounts[largest]) > 0 {
			largest = i
		}
	}
	out := make([]map[string]*big.Int, len(amounts))
	for i, amount := range amounts {
		if i == largest {
			out[i] = left // Complete when the others have theirs.
			continue
		}
		out[i] = map[string]*big.Int{shareDevelopment: new(big.Int).Set(amount)}
		for name, part := range parts {
			if name == shareDevelopment {
				continue
			}
			mine := new(big.Int).Mul(part, amount)
			mine.Div(mine, gross)
			out[i][name] = mine
			out[i][shareDevelopment].Sub(out[i][shareDevelopment], mine)
		}
		for name, mine := range out[i] {
			left[name].Sub(left[name], mine)
		}
	}
	return out
}

func (b *block) withdrawn(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackWithdrawnEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.pay(ctx, l, state.Payment{Kind: state.PaymentWithdrawn, Payee: e.Payee, Token: e.Token, Amount: e.Amount})
}

// pay writes the row of a payment.
func (b *block) pay(ctx context.Context, l *types.Log, p state.Payment) error {
	p.Tx, p.Block, p.LogIndex, p.At = l.TxHash, b.header.Number, l.Index, b.header.Time
	return b.tx.PutPayment(ctx, p)
}

// earn writes the row of income whose division follows.
func (b *block) earn(ctx context.Context, l *types.Log, p state.Payment) error {
	p.Tx, p.Block, p.LogIndex, p.At = l.TxHash, b.header.Number, l.Index, b.header.Time
	b.unsplit = append(b.unsplit, p)
	return b.tx.PutPayment(ctx, p)
}

// setRefund notes what waits for a payer in the contract.
func (b *block) setRefund(ctx context.Context, payer common.Address, token uint8, wei *big.Int) error {
	return b.changeAccount(ctx, payer, token, func(a *state.Account) { a.Refund = wei })
}

// changeAccount changes an account's row, making it when it is the first event
// of the account.
func (b *block) changeAccount(ctx context.Context, payer common.Address, token uint8, change func(*state.Account)) error {
	a, err := b.tx.Account(ctx, payer, token)
	if errs.KindOf(err) == errs.NotFound {
		a, err = &state.Account{Payer: payer, Token: token, RateQ32: new(big.Int), Refund: new(big.Int)}, nil
	}
	if err != nil {
		return err
	}
	change(a)
	a.Block = b.header.Number
	return b.tx.PutAccount(ctx, *a)
}
