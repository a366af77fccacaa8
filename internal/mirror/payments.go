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
	if err := b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.Refund = e.Refund }); err != nil {
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
	if err := b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.Refund = e.Refund }); err != nil {
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
	if err := b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.Refund = e.Refund }); err != nil {
		return err
	}
	return b.pay(ctx, l, state.Payment{Kind: state.PaymentRefunded, Payer: e.Payer, Token: e.Token, Amount: e.Amount})
}

func (b *block) refundPaid(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackRefundPaidEvent(l)
	if err != nil {
		return malformed(err)
	}
	if err := b.changeAccount(ctx, e.Payer, e.Token, func(a *state.Account) { a.Refund = new(big.Int) }); err != nil {
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

// revenueSplit divides the income since the last split among its shares.
func (b *block) revenueSplit(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackRevenueSplitEvent(l)
	if err != nil {
		return malformed(err)
	}
	income := b.unsplit
	b.unsplit = nil
	sum := new(big.Int)
	for _, p := range income {
		if p.Payee != e.Payee || p.Token != e.Token || p.Tx != l.TxHash {
			return errs.New(errs.Internal, "the split of payee %d follows income of payee %d", e.Payee, p.Payee)
		}
		sum.Add(sum, new(big.Int).Abs(p.Amount))
	}
	if sum.Cmp(e.Gross) != 0 {
		return errs.New(errs.Internal, "the split of payee %d is of %s wei, its income was %s", e.Payee, e.Gross, sum)
	}
	parts := map[string]*big.Int{
		shareNode: e.Node, shareCoordinator: e.Coordinator, shareStaker: e.Staker, shareDevelopment: e.Development,
	}
	for i, p := range income {
		p.Split = share(parts, new(big.Int).Abs(p.Amount), e.Gross, i == len(income)-1)
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

// share takes from parts what falls on amount of gross. What rounding leaves of
// one payer's amount is development's, as in the contract; the last payer gets
// what is left, so that all payers' shares add up to what was divided.
func share(parts map[string]*big.Int, amount, gross *big.Int, last bool) map[string]*big.Int {
	out := map[string]*big.Int{}
	rest := new(big.Int).Set(amount)
	for name, part := range parts {
		out[name] = new(big.Int).Set(part)
		if !last && name != shareDevelopment {
			out[name].Mul(part, amount).Div(out[name], gross)
		}
		rest.Sub(rest, out[name])
	}
	if !last {
		out[shareDevelopment].Add(out[shareDevelopment], rest)
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
