package ledger

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/payment"
)

// The payees of the pools, as in Payees.sol.
const (
	payeeStakers      uint64 = 1<<33 + 1
	payeeCoordinators uint64 = 1<<33 + 2
	payeeDevelopment  uint64 = 1<<33 + 3
)

const perMinute = 60

// Account names what a payer has in a token.
type Account struct {
	Payer common.Address
	Token uint8
}

// Pair names what a payer pays a payee in a token.
type Pair struct {
	Account
	Payee uint64
}

// Credit names what a payee has in a token.
type Credit struct {
	Payee uint64
	Token uint8
}

type payments struct {
	accounts map[Account]*bindings.IPaymentManagerAccountView
	pairs    map[Pair]*bindings.IPaymentManagerPairView
	credits  map[Credit]*big.Int
	tokens   map[uint8]*bindings.IPaymentManagerTokenView
	splits   map[uint8]bindings.IPaymentManagerSplit
	payouts  map[uint64]common.Address
	params   bindings.PaymentManagerParamsOutput
	started  *bindings.PaymentManagerActivated // Whose FlowChanged comes next.
}

func newPayments() payments {
	return payments{
		accounts: map[Account]*bindings.IPaymentManagerAccountView{}, pairs: map[Pair]*bindings.IPaymentManagerPairView{},
		credits: map[Credit]*big.Int{}, tokens: map[uint8]*bindings.IPaymentManagerTokenView{},
		splits: map[uint8]bindings.IPaymentManagerSplit{}, payouts: map[uint64]common.Address{},
	}
}

// Accounts returns every account that there was an event of.
func (l *Ledger) Accounts() (all []Account) {
	for at := range l.payments.accounts {
		all = append(all, at)
	}
	slices.SortFunc(all, Account.compare)
	return all
}

// Pairs returns every pair that there was an event of.
func (l *Ledger) Pairs() (all []Pair) {
	for at := range l.payments.pairs {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b Pair) int { return cmp.Or(a.Account.compare(b.Account), cmp.Compare(a.Payee, b.Payee)) })
	return all
}

// Credits returns every payee that has had revenue.
func (l *Ledger) Credits() (all []Credit) {
	for at := range l.payments.credits {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b Credit) int { return cmp.Or(cmp.Compare(a.Payee, b.Payee), cmp.Compare(a.Token, b.Token)) })
	return all
}

func (a Account) compare(b Account) int {
	return cmp.Or(a.Payer.Cmp(b.Payer), cmp.Compare(a.Token, b.Token))
}

// Account is PaymentManager.account. Events tell what a reserve was of, not for
// how many minutes; those are the whole minutes that it pays for, exactly as long
// as the rate is above 2^32/60, a wei per minute.
func (l *Ledger) Account(at Account) bindings.IPaymentManagerAccountView {
	if a := l.payments.accounts[at]; a != nil {
		return *a
	}
	return *newAccount()
}

// Pair is PaymentManager.pair at a time.
func (l *Ledger) Pair(at Pair, now uint64) bindings.IPaymentManagerPairView {
	v := *newPair()
	if p := l.payments.pairs[at]; p != nil {
		v = *p
	}
	until := min(l.Account(at.Account).PaidUntil.Uint64(), now)
	v.Claimable = new(big.Int).Rsh(earned(&v, until), 32)
	return v
}

// CreditOf is PaymentManager.creditOf.
func (l *Ledger) CreditOf(at Credit) *big.Int {
	if c := l.payments.credits[at]; c != nil {
		return c
	}
	return big0()
}

// Token is PaymentManager.tokenOf.
func (l *Ledger) Token(token uint8) bindings.IPaymentManagerTokenView {
	if t := l.payments.tokens[token]; t != nil {
		return *t
	}
	return *newToken()
}

// SplitOf is PaymentManager.splitOf of a class other than that of images.
func (l *Ledger) SplitOf(class uint8) bindings.IPaymentManagerSplit { return l.payments.splits[class] }

// PoolPayout is PaymentManager.payoutOf of a pool.
func (l *Ledger) PoolPayout(payee uint64) common.Address { return l.payments.payouts[payee] }

// Params is PaymentManager.params.
func (l *Ledger) Params() bindings.PaymentManagerParamsOutput { return l.payments.params }

func newAccount() *bindings.IPaymentManagerAccountView {
	return &bindings.IPaymentManagerAccountView{
		RateQ32: big0(), PaidUntil: big0(), ArrearsSince: big0(), Flows: big0(), Debts: big0(), Refund: big0(), Reserved: big0(), RevokedAt: big0(),
	}
}

func newPair() *bindings.IPaymentManagerPairView {
	return &bindings.IPaymentManagerPairView{RateQ32: big0(), Since: big0(), PendingQ32: big0(), Claimable: big0(), Debt: big0()}
}

func newToken() *bindings.IPaymentManagerTokenView {
	return &bindings.IPaymentManagerTokenView{ListedAt: big0(), MinWindowAmount: big0(), BountyCap: big0()}
}

func (l *Ledger) account(payer common.Address, token uint8) *bindings.IPaymentManagerAccountView {
	return entry(l.payments.accounts, Account{payer, token}, newAccount)
}

func (l *Ledger) pair(payer common.Address, token uint8, payee uint64) *bindings.IPaymentManagerPairView {
	return entry(l.payments.pairs, Pair{Account{payer, token}, payee}, newPair)
}

func (l *Ledger) earn(payee uint64, token uint8, wei *big.Int) {
	at := Credit{payee, token}
	l.payments.credits[at] = plus(l.CreditOf(at), wei)
}

// earned is what a pair has earned until a time and was not paid, times 2^32.
func earned(p *bindings.IPaymentManagerPairView, until uint64) *big.Int {
	if since := p.Since.Uint64(); until > since {
		return plus(p.PendingQ32, new(big.Int).Mul(p.RateQ32, seconds(until-since)))
	}
	return p.PendingQ32
}

var one = big.NewInt(1) //nolint:gochecknoglobals // A constant.

// flowChanged notes rates, and how long the account's window lasts: a flow that
// starts from a reserve brings the reserve's window, any other raise one for the
// new rate.
func (l *Ledger) flowChanged(_ uint64, e *bindings.PaymentManagerFlowChanged) error {
	a, p := l.account(e.Payer, e.Token), l.pair(e.Payer, e.Token, e.Payee)
	started := l.payments.started
	l.payments.started = nil
	if started != nil && (started.Payer != e.Payer || started.Payee != e.Payee || started.Token != e.Token) {
		return contradiction("the flow to payee %d started, the one to %d changed", started.Payee, e.Payee)
	}
	switch raised := e.AccountRateQ32.Cmp(a.RateQ32) > 0; {
	case started != nil:
		time := new(big.Int).Lsh(started.Amount, 32)
		reserve := uint32(time.Div(time, minus(e.PairRateQ32, p.RateQ32)).Uint64())
		reserve -= reserve % perMinute
		if a.RateQ32.Sign() == 0 || a.Window > reserve {
			a.Window = reserve
		}
	case raised:
		terms := payment.Terms{Prepay: uint64(l.payments.params.Prepay), MinWindow: l.Token(e.Token).MinWindowAmount}
		a.Window = uint32(terms.Window(e.AccountRateQ32))
	}
	switch {
	case p.RateQ32.Sign() == 0 && e.PairRateQ32.Sign() != 0:
		a.Flows = plus(a.Flows, one)
	case p.RateQ32.Sign() != 0 && e.PairRateQ32.Sign() == 0:
		a.Flows = minus(a.Flows, one)
	}
	p.RateQ32, p.Since, p.PendingQ32 = e.PairRateQ32, e.PairSince, e.PairPendingQ32
	a.RateQ32, a.PaidUntil = e.AccountRateQ32, e.PaidUntil
	return nil
}

func (l *Ledger) claimed(_ uint64, e *bindings.PaymentManagerClaimed) error {
	p := l.pair(e.Payer, e.Token, e.Payee)
	left := minus(earned(p, e.Since.Uint64()), new(big.Int).Lsh(e.Gross, 32))
	if left.Sign() < 0 || left.BitLen() > 32 {
		return contradiction("payee %d was paid %s wei and is owed %s/2^32 still", e.Payee, e.Gross, left)
	}
	p.Since, p.PendingQ32 = e.Since, left
	return nil
}

func (l *Ledger) debtRecorded(_ uint64, e *bindings.PaymentManagerDebtRecorded) error {
	a, p := l.account(e.Payer, e.Token), l.pair(e.Payer, e.Token, e.Payee)
	if p.Debt.Sign() == 0 {
		a.Debts = plus(a.Debts, one)
	}
	if want := plus(p.Debt, e.Amount); want.Cmp(e.Debt) != 0 {
		return contradiction("the debt to payee %d comes to %s wei, not %s", e.Payee, want, e.Debt)
	}
	p.Debt = e.Debt
	return nil
}

func (l *Ledger) revenueSplit(_ uint64, e *bindings.PaymentManagerRevenueSplit) error {
	l.earn(e.Payee, e.Token, e.Node)
	l.earn(payeeCoordinators, e.Token, e.Coordinator)
	l.earn(payeeStakers, e.Token, e.Staker)
	l.earn(payeeDevelopment, e.Token, e.Development)
	if have := l.CreditOf(Credit{e.Payee, e.Token}); have.Cmp(e.Credit) != 0 {
		return contradiction("payee %d has %s wei, not %s", e.Payee, have, e.Credit)
	}
	return nil
}

func paymentHandlers() map[string]handler {
	c := bindings.NewPaymentManager()
	return map[string]handler{
		"SponsorPaid":  nil, // Pulled follows.
		"FlowChanged":  on(c.UnpackFlowChangedEvent, (*Ledger).flowChanged),
		"Claimed":      on(c.UnpackClaimedEvent, (*Ledger).claimed),
		"DebtRecorded": on(c.UnpackDebtRecordedEvent, (*Ledger).debtRecorded),
		"RevenueSplit": on(c.UnpackRevenueSplitEvent, (*Ledger).revenueSplit),
		"Reserved": on(c.UnpackReservedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerReserved) error {
			a := l.account(e.Payer, e.Token)
			a.Reserved, a.Refund = e.Reserved, e.Refund
			return nil
		}),
		"Released": on(c.UnpackReleasedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerReleased) error {
			a := l.account(e.Payer, e.Token)
			a.Reserved, a.Refund = e.Reserved, e.Refund
			return nil
		}),
		"Activated": on(c.UnpackActivatedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerActivated) error {
			l.account(e.Payer, e.Token).Reserved = e.Reserved
			l.payments.started = e
			return nil
		}),
		"Pulled": on(c.UnpackPulledEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerPulled) error {
			a := l.account(e.Payer, e.Token)
			a.Refund, a.PaidUntil = e.Refund, e.PaidUntil
			return nil
		}),
		"ArrearsStarted": on(c.UnpackArrearsStartedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerArrearsStarted) error {
			l.account(e.Payer, e.Token).ArrearsSince = e.Since
			return nil
		}),
		"ArrearsCleared": on(c.UnpackArrearsClearedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerArrearsCleared) error {
			l.account(e.Payer, e.Token).ArrearsSince = big0()
			return nil
		}),
		"Refunded": on(c.UnpackRefundedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerRefunded) error {
			l.account(e.Payer, e.Token).Refund = e.Refund
			return nil
		}),
		"RefundPaid": on(c.UnpackRefundPaidEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerRefundPaid) error {
			l.account(e.Payer, e.Token).Refund = big0()
			return nil
		}),
		"DebtPaid": on(c.UnpackDebtPaidEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerDebtPaid) error {
			a := l.account(e.Payer, e.Token)
			a.Debts = minus(a.Debts, one)
			l.pair(e.Payer, e.Token, e.Payee).Debt = big0()
			return nil
		}),
		"Charged": on(c.UnpackChargedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerCharged) error {
			l.account(e.Payer, e.Token).Refund = e.Refund
			return nil
		}),
		"Compensated": on(c.UnpackCompensatedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerCompensated) error {
			l.account(e.Payer, e.Token).Refund = e.Refund
			l.payments.credits[Credit{e.Payee, e.Token}] = e.Credit
			return nil
		}),
		"Withdrawn": on(c.UnpackWithdrawnEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerWithdrawn) error {
			l.payments.credits[Credit{e.Payee, e.Token}] = e.Credit
			return nil
		}),
		"FlowsRevoked": on(c.UnpackFlowsRevokedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerFlowsRevoked) error {
			a := l.account(e.Payer, e.Token)
			a.RateQ32, a.RevokedAt, a.PaidUntil, a.Refund, a.ArrearsSince = big0(), e.RevokedAt, e.PaidUntil, e.Refund, big0()
			return nil
		}),
		"RevocationEnded": on(c.UnpackRevocationEndedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerRevocationEnded) error {
			l.account(e.Payer, e.Token).RevokedAt = big0()
			return nil
		}),
		"Deposited": on(c.UnpackDepositedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerDeposited) error {
			l.account(e.Payer, e.Token).Refund = e.Refund
			return nil
		}),
		"DepositWithdrawn": on(c.UnpackDepositWithdrawnEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerDepositWithdrawn) error {
			l.account(e.Payer, e.Token).Refund = e.Refund
			return nil
		}),
		"SourceSet": on(c.UnpackSourceSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerSourceSet) error {
			l.account(e.Payer, e.Token).Source = e.Source
			return nil
		}),
		"BountyPaid": on(c.UnpackBountyPaidEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerBountyPaid) error {
			l.account(e.By, e.Token).Refund = e.Refund
			l.payments.credits[Credit{payeeDevelopment, e.Token}] = e.Credit
			return nil
		}),
		"TokenListed": on(c.UnpackTokenListedEvent, func(l *Ledger, now uint64, e *bindings.PaymentManagerTokenListed) error {
			t := entry(l.payments.tokens, e.Token, newToken)
			t.Erc20, t.Decimals, t.ListedAt = e.Erc20, e.Decimals, seconds(now)
			return nil
		}),
		"TokenEnabled": on(c.UnpackTokenEnabledEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerTokenEnabled) error {
			entry(l.payments.tokens, e.Token, newToken).Enabled = e.Enabled
			return nil
		}),
		"TokenTermsSet": on(c.UnpackTokenTermsSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerTokenTermsSet) error {
			t := entry(l.payments.tokens, e.Token, newToken)
			t.SwapIn, t.SwapOut, t.MinWindowAmount, t.BountyCap = e.SwapIn, e.SwapOut, e.MinWindowAmount, e.BountyCap
			return nil
		}),
		"SplitSet": on(c.UnpackSplitSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerSplitSet) error {
			l.payments.splits[e.Class] = bindings.IPaymentManagerSplit{
				NodeBps: e.NodeBps, CoordinatorBps: e.CoordinatorBps, StakerBps: e.StakerBps, DevelopmentBps: e.DevelopmentBps,
			}
			return nil
		}),
		"PrepaySet": on(c.UnpackPrepaySetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerPrepaySet) error {
			l.payments.params.Prepay = e.Duration
			return nil
		}),
		"GraceSet": on(c.UnpackGraceSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerGraceSet) error {
			l.payments.params.Soft, l.payments.params.Hard = e.Soft, e.Hard
			return nil
		}),
		"PoolPayoutSet": on(c.UnpackPoolPayoutSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerPoolPayoutSet) error {
			l.payments.payouts[e.Payee] = e.Payout
			return nil
		}),
	}
}
