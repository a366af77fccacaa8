package payment

import (
	"errors"
	"math/big"
)

// What the arithmetic depends on besides amounts and times, by the contract's
// numbers.
const (
	bps         = 10_000
	longWindow  = 24 * 60 * 60 // seconds that a window lasts at most
	rateBits    = 32
	perMinute   = 60
	noTime      = 0
	maxPairBits = 96
	maxRateBits = 104
)

// The reasons for which the contract refuses.
var (
	ErrArrears = errors.New("the payer is in arrears")
	ErrRevoked = errors.New("the payer has revoked everything")
	ErrDebt    = errors.New("the payer owes this payee")
	ErrWallet  = errors.New("the wallet has too little")
	ErrRate    = errors.New("the rate is out of bounds")
	ErrNothing = errors.New("there is nothing to do")
)

// Account is what a payer has in one token. Since is when arrears began, or,
// once everything is revoked, when that was.
type Account struct {
	Rate      *big.Int
	PaidUntil uint64
	Since     uint64
	Flows     int
	Debts     int
	Window    uint64 // seconds
	Revoked   bool
	Refund    *big.Int
	Reserved  *big.Int
	Wallet    *big.Int // what may be taken from it
}

// Pair is what flows from a payer to a payee. Pending was earned before Since,
// times 2^32.
type Pair struct {
	Rate    *big.Int
	Since   uint64
	Pending *big.Int
	Debt    *big.Int
}

// Split is how revenue is shared, in 1/10,000; development gets the rest.
type Split struct {
	Node, Coordinators, Stakers uint64
}

// Share is revenue that was shared.
type Share struct {
	Node, Coordinators, Stakers, Development *big.Int
}

// Of shares gross: all but development's part is rounded down.
func (s Split) Of(gross *big.Int) Share {
	part := func(n uint64) *big.Int {
		v := new(big.Int).Mul(gross, new(big.Int).SetUint64(n))
		return v.Div(v, big.NewInt(bps))
	}
	out := Share{Node: part(s.Node), Coordinators: part(s.Coordinators), Stakers: part(s.Stakers)}
	out.Development = new(big.Int).Sub(gross, out.Node)
	out.Development.Sub(out.Development, out.Coordinators).Sub(out.Development, out.Stakers)
	return out
}

// Terms are the parameters that the arithmetic depends on. A window lasts as
// long as MinWindow does at the account's rate, between Prepay and a day.
type Terms struct {
	Prepay    uint64   // seconds
	Hard      uint64   // seconds of arrears after which anyone may close
	MinWindow *big.Int // wei; nil or zero: a window is Prepay
}

// Window is how many seconds a full window lasts at a rate.
func (t Terms) Window(rate *big.Int) uint64 {
	w := t.Prepay
	if t.MinWindow != nil && t.MinWindow.Sign() > 0 && rate.Sign() > 0 {
		v := new(big.Int).Lsh(t.MinWindow, rateBits)
		v.Div(v, rate)
		long := uint64(longWindow)
		if v.IsUint64() {
			long = min(long, v.Uint64())
		}
		w = max(w, long)
	}
	return w - w%perMinute
}

// NewAccount is an account that nothing flows from.
func NewAccount() *Account {
	return &Account{Rate: new(big.Int), Refund: new(big.Int), Reserved: new(big.Int), Wallet: new(big.Int)}
}

// NewPair is a pair in which nothing flows.
func NewPair() *Pair {
	return &Pair{Rate: new(big.Int), Pending: new(big.Int), Debt: new(big.Int)}
}

// Clone is a copy that shares nothing.
func (a *Account) Clone() *Account {
	c := *a
	c.Rate, c.Refund = new(big.Int).Set(a.Rate), new(big.Int).Set(a.Refund)
	c.Reserved, c.Wallet = new(big.Int).Set(a.Reserved), new(big.Int).Set(a.Wallet)
	return &c
}

// Clone is a copy that shares nothing.
func (p *Pair) Clone() *Pair {
	c := *p
	c.Rate, c.Pending, c.Debt = new(big.Int).Set(p.Rate), new(big.Int).Set(p.Pending), new(big.Int).Set(p.Debt)
	return &c
}

// Late says whether time has passed that is not paid for.
func (a *Account) Late(now uint64) bool { return a.Rate.Sign() > 0 && a.PaidUntil < now }

// Pull fills the window from the refund and the wallet, as far as both go, and
// returns what came from the wallet.
func (a *Account) Pull(now uint64) *big.Int {
	got := new(big.Int)
	if a.Rate.Sign() == 0 {
		return got
	}
	if target := now + a.Window; a.PaidUntil < target {
		need := ceilWei(a.Rate, target-a.PaidUntil)
		refund := least(a.Refund, need)
		missing := new(big.Int).Sub(need, refund)
		if a.Wallet.Cmp(missing) >= 0 {
			got.Set(missing)
		} else {
			// As much as makes whole seconds.
			have := new(big.Int).Add(refund, a.Wallet)
			part := ceilWei(a.Rate, seconds(have, a.Rate))
			if part.Cmp(refund) > 0 {
				got.Sub(part, refund)
			}
		}
		a.Wallet.Sub(a.Wallet, got)
		a.buy(target, need, refund, got)
	}
	a.noteArrears(now)
	return got
}

// buy buys whole seconds with part of the refund and got.
func (a *Account) buy(target uint64, need, refund, got *big.Int) {
	have := new(big.Int).Add(refund, got)
	time := target - a.PaidUntil
	if have.Cmp(need) < 0 {
		time = seconds(have, a.Rate)
		need = ceilWei(a.Rate, time)
	}
	if time == 0 && got.Sign() == 0 {
		return
	}
	a.Refund.Add(a.Refund, got).Sub(a.Refund, need)
	a.PaidUntil += time
}

func (a *Account) noteArrears(now uint64) {
	switch {
	case !a.Late(now):
		a.Since = noTime
	case a.Since == noTime:
		a.Since = a.PaidUntil
	}
}

func (a *Account) pullIfLate(now uint64) {
	if a.Late(now) {
		a.Pull(now)
	}
}

// prepaid is what is paid ahead and not used up, times 2^32.
func (a *Account) prepaid(now uint64) *big.Int {
	if a.PaidUntil <= now {
		return new(big.Int)
	}
	return new(big.Int).Mul(a.Rate, new(big.Int).SetUint64(a.PaidUntil-now))
}

// spread spreads a scaled value over the rate: whole seconds, at most a window;
// the rest is refunded.
func (a *Account) spread(now uint64, value *big.Int) {
	var time uint64
	if a.Rate.Sign() > 0 {
		time = a.Window
		if t := new(big.Int).Div(value, a.Rate); t.IsUint64() {
			time = min(time, t.Uint64())
		}
	}
	a.PaidUntil = now + time
	rest := new(big.Int).Mul(a.Rate, new(big.Int).SetUint64(time))
	rest.Sub(value, rest)
	a.Refund.Add(a.Refund, rest.Rsh(rest, rateBits))
}

// checkNew says why a new obligation is refused.
func (a *Account) checkNew(now uint64, p *Pair) error {
	switch {
	case a.Late(now):
		return ErrArrears
	case a.Revoked:
		return ErrRevoked
	case p.Debt.Sign() > 0:
		return ErrDebt
	}
	return nil
}

// take pays an amount from the refund and then from the wallet.
func (a *Account) take(amount *big.Int) error {
	fromRefund := least(a.Refund, amount)
	rest := new(big.Int).Sub(amount, fromRefund)
	if a.Wallet.Cmp(rest) < 0 {
		return ErrWallet
	}
	a.Refund.Sub(a.Refund, fromRefund)
	a.Wallet.Sub(a.Wallet, rest)
	return nil
}

// change settles a pair and changes its rate and the account's.
func (a *Account) change(now uint64, p *Pair, delta *big.Int) error {
	if p.Rate.Sign() == 0 {
		p.Since = now
		a.Flows++
	} else {
		until := min(a.PaidUntil, now)
		p.Pending = p.earned(until)
		p.Since = max(p.Since, until)
	}
	p.Rate = new(big.Int).Add(p.Rate, delta)
	if p.Rate.Sign() < 0 || p.Rate.BitLen() > maxPairBits {
		return ErrRate
	}
	if !a.Revoked {
		a.Rate = new(big.Int).Add(a.Rate, delta)
		if a.Rate.Sign() < 0 || a.Rate.BitLen() > maxRateBits {
			return ErrRate
		}
	}
	if p.Rate.Sign() == 0 {
		a.Flows--
	}
	return nil
}

// earned is what the pair has earned until a time and not been paid.
func (p *Pair) earned(until uint64) *big.Int {
	v := new(big.Int).Set(p.Pending)
	if until > p.Since {
		v.Add(v, new(big.Int).Mul(p.Rate, new(big.Int).SetUint64(until-p.Since)))
	}
	return v
}

// Claimable is the wei that a claim now would give.
func (p *Pair) Claimable(a *Account, now uint64) *big.Int {
	v := p.earned(min(a.PaidUntil, now))
	return v.Rsh(v, rateBits)
}

// Claim takes the whole wei that a pair has earned.
func (p *Pair) Claim(a *Account, now uint64) *big.Int {
	until := min(a.PaidUntil, now)
	earned := p.earned(until)
	amount := new(big.Int).Rsh(earned, rateBits)
	if amount.Sign() == 0 {
		return amount
	}
	p.Pending = new(big.Int).Sub(earned, new(big.Int).Lsh(amount, rateBits))
	p.Since = max(p.Since, until)
	return amount
}

// Increase starts or raises a flow; the whole first window is prepaid.
func (a *Account) Increase(t Terms, now uint64, p *Pair, delta *big.Int) error {
	a.pullIfLate(now)
	if err := a.checkNew(now, p); err != nil {
		return err
	}
	value := a.prepaid(now)
	if err := a.change(now, p, delta); err != nil {
		return err
	}
	a.Window = t.Window(a.Rate)
	need := new(big.Int).Mul(a.Rate, new(big.Int).SetUint64(a.Window))
	need.Sub(need, value)
	if need.Sign() < 0 {
		need.SetUint64(0)
	}
	need = ceil(need)
	// What is spread may be refunded, so the refund is used before.
	if err := a.take(need); err != nil {
		return err
	}
	a.spread(now, new(big.Int).Add(value, new(big.Int).Lsh(need, rateBits)))
	return nil
}

// Decrease lowers or ends a flow; what is unpaid for becomes a debt.
func (a *Account) Decrease(now uint64, p *Pair, delta *big.Int) error {
	a.pullIfLate(now)
	late, value, paidUntil := a.Late(now), a.prepaid(now), a.PaidUntil
	if err := a.change(now, p, new(big.Int).Neg(delta)); err != nil {
		return err
	}
	switch {
	case a.Revoked:
		if a.Since > paidUntil {
			a.owe(p, ceilWei(delta, a.Since-paidUntil))
		}
		a.endRevocation()
	case late:
		a.owe(p, ceilWei(delta, now-paidUntil))
		if a.Rate.Sign() == 0 {
			a.PaidUntil, a.Since = now, noTime
		}
	default:
		a.spread(now, value)
	}
	return nil
}

func (a *Account) owe(p *Pair, amount *big.Int) {
	if p.Debt.Sign() == 0 {
		a.Debts++
	}
	p.Debt = new(big.Int).Add(p.Debt, amount)
}

func (a *Account) endRevocation() {
	if a.Revoked && a.Flows == 0 && a.Reserved.Sign() == 0 {
		a.Revoked, a.Since = false, noTime
	}
}

// CloseOverdue ends a flow when the payer has been in arrears for too long or
// has revoked, and says whether it did.
func (a *Account) CloseOverdue(t Terms, now uint64, p *Pair, rate *big.Int) (bool, error) {
	a.pullIfLate(now)
	if !a.Revoked && (!a.Late(now) || now <= a.PaidUntil+t.Hard) {
		return false, nil
	}
	return true, a.Decrease(now, p, rate)
}

// Reserve keeps a window at a rate for a flow that has not started, and returns
// the window in minutes.
func (a *Account) Reserve(t Terms, now uint64, p *Pair, rate *big.Int) (uint64, error) {
	a.pullIfLate(now)
	if err := a.checkNew(now, p); err != nil {
		return 0, err
	}
	window := t.Window(new(big.Int).Add(a.Rate, rate))
	amount := ceilWei(rate, window)
	if err := a.take(amount); err != nil {
		return 0, err
	}
	a.Reserved.Add(a.Reserved, amount)
	return window / perMinute, nil
}

// Release gives a reserve back.
func (a *Account) Release(rate *big.Int, minutes uint64) {
	amount := ceilWei(rate, minutes*perMinute)
	a.Reserved.Sub(a.Reserved, amount)
	a.Refund.Add(a.Refund, amount)
	a.endRevocation()
}

// Activate starts the flow that a reserve was made for, and says whether it
// did; else the reserve was given back.
func (a *Account) Activate(now uint64, p *Pair, rate *big.Int, minutes uint64) (bool, error) {
	a.pullIfLate(now)
	if a.Late(now) || a.Revoked {
		a.Release(rate, minutes)
		return false, nil
	}
	amount := ceilWei(rate, minutes*perMinute)
	a.Reserved.Sub(a.Reserved, amount)
	value := a.prepaid(now)
	value.Add(value, new(big.Int).Lsh(amount, rateBits))
	if a.Rate.Sign() == 0 || a.Window > minutes*perMinute {
		a.Window = minutes * perMinute
	}
	if err := a.change(now, p, rate); err != nil {
		return false, err
	}
	a.spread(now, value)
	return true, nil
}

// Charge takes a single payment.
func (a *Account) Charge(now uint64, p *Pair, amount *big.Int) error {
	a.pullIfLate(now)
	if err := a.checkNew(now, p); err != nil {
		return err
	}
	return a.take(amount)
}

// Revoke ends everything at once; the pairs are closed later.
func (a *Account) Revoke(now uint64) error {
	if a.Revoked || a.Flows == 0 && a.Reserved.Sign() == 0 {
		return ErrNothing
	}
	a.pullIfLate(now)
	if !a.Late(now) {
		left := a.prepaid(now)
		a.Refund.Add(a.Refund, left.Rsh(left, rateBits))
		a.PaidUntil = now
	}
	a.Rate, a.Since, a.Revoked = new(big.Int), now, true
	return nil
}

// PayDebt pays the whole debt to a payee from the wallet.
func (a *Account) PayDebt(p *Pair) (*big.Int, error) {
	if p.Debt.Sign() == 0 {
		return nil, ErrNothing
	}
	if a.Wallet.Cmp(p.Debt) < 0 {
		return nil, ErrWallet
	}
	amount := p.Debt
	a.Wallet.Sub(a.Wallet, amount)
	a.Debts--
	p.Debt = new(big.Int)
	return amount, nil
}

// Deposit moves money from the wallet to the refund.
func (a *Account) Deposit(amount *big.Int) error {
	if a.Wallet.Cmp(amount) < 0 {
		return ErrWallet
	}
	a.Wallet.Sub(a.Wallet, amount)
	a.Refund.Add(a.Refund, amount)
	return nil
}

// ceil is a scaled value in wei, rounded up.
func ceil(v *big.Int) *big.Int {
	out := new(big.Int).Lsh(big.NewInt(1), rateBits)
	out.Sub(out, big.NewInt(1)).Add(out, v)
	return out.Rsh(out, rateBits)
}

// ceilWei is what some seconds at a rate cost.
func ceilWei(rate *big.Int, time uint64) *big.Int {
	return ceil(new(big.Int).Mul(rate, new(big.Int).SetUint64(time)))
}

// seconds is how many whole seconds at a rate some wei pay for.
func seconds(wei, rate *big.Int) uint64 {
	v := new(big.Int).Lsh(wei, rateBits)
	return v.Div(v, rate).Uint64()
}

func least(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return new(big.Int).Set(a)
	}
	return new(big.Int).Set(b)
}
