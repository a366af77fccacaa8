package payment_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/payment"
)

var update = flag.Bool("update", false, "rewrite the vectors in protocol/testdata/vectors")

const (
	vectorsFile = "../testdata/vectors/payment.json"
	start       = 1_750_000_000
	hour        = 60 * 60
	payers      = 2
	payees      = 3 // A node, another one, and what the other one stores.
	steps       = 2_000
)

// What a step does.
const (
	opIncrease = iota
	opDecrease
	opPull
	opClaim
	opReserve
	opActivate
	opRelease
	opCloseOverdue
	opCharge
	opRevoke
	opDeposit
	opPayDebt
	opWallet
)

// often is every step as often as it comes.
var often = []int{
	opIncrease, opIncrease, opIncrease, opDecrease, opDecrease, opPull, opPull, opPull, opClaim, opClaim, opReserve,
	opReserve, opActivate, opActivate, opRelease, opCloseOverdue, opCharge, opRevoke, opDeposit, opPayDebt, opPayDebt,
	opWallet, opWallet,
}

// vectors is a sequence of steps by columns, with the account and the pair that
// each was about after it.
type vectors struct {
	About     string   `json:"about"`
	Start     uint64   `json:"start"`
	MinWindow string   `json:"minWindow"`
	Op        []string `json:"op"`
	Time      []string `json:"time"`
	Payer     []string `json:"payer"`
	Payee     []string `json:"payee"`
	Amount    []string `json:"amount"`
	Minutes   []string `json:"minutes"`
	Ok        []string `json:"ok"`
	Result    []string `json:"result"`
	Rate      []string `json:"rate"`
	PaidUntil []string `json:"paidUntil"`
	Since     []string `json:"since"`
	Flows     []string `json:"flows"`
	Debts     []string `json:"debts"`
	Window    []string `json:"window"`
	Refund    []string `json:"refund"`
	Reserved  []string `json:"reserved"`
	Pending   []string `json:"pending"`
	Claimable []string `json:"claimable"`
	Debt      []string `json:"debt"`
	Credit    []string `json:"credit"`
}

// about is what the vectors say of themselves.
const about = "Steps of payers and their jobs, and the account and the pair that each is about after it, to the last wei. " +
	"op: 0 increase, 1 decrease, 2 pull, 3 claim, 4 reserve, 5 activate, 6 release, 7 closeOverdue, 8 chargeOnce, " +
	"9 revokeAll, 10 deposit, 11 payDebt, 12 the wallet may give the amount. amount: a rate (0, 1, 4 to 7) or tokens. " +
	"since: when arrears began, or when everything was revoked. Nothing of a step with ok 0 happened."

type reserve struct {
	payer, payee int
	rate         *big.Int
	minutes      uint64
}

type world struct {
	rnd      *rand.Rand
	now      uint64
	terms    payment.Terms
	accounts [payers]*payment.Account
	pairs    [payers][payees]*payment.Pair
	credits  [payees]*big.Int
	reserves []reserve
}

func newWorld(seed uint64) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 1)), now: start, terms: payment.Terms{
		Prepay: hour, Hard: 24 * hour, MinWindow: big.NewInt(1_000_000_000_000_000_000),
	}}
	for i := range w.accounts {
		w.accounts[i] = payment.NewAccount()
		for j := range w.pairs[i] {
			w.pairs[i][j] = payment.NewPair()
		}
	}
	for j := range w.credits {
		w.credits[j] = new(big.Int)
	}
	return w
}

// rate is from a part of a wei per second to a tenth of a token.
func (w *world) rate() *big.Int {
	r := new(big.Int).SetUint64(w.rnd.Uint64())
	return r.Lsh(r.Add(r, big.NewInt(1)), uint(w.rnd.IntN(26)))
}

func (w *world) tokens() *big.Int {
	return new(big.Int).SetUint64(1 + w.rnd.Uint64()>>w.rnd.IntN(40))
}

// wait moves the time: not at all, seconds, hours or days, and often exactly to
// the end of somebody's money.
func (w *world) wait(a *payment.Account) {
	switch w.rnd.IntN(6) {
	case 0:
	case 1:
		w.now += w.rnd.Uint64N(100)
	case 2, 3:
		w.now += w.rnd.Uint64N(3 * hour)
	case 4:
		if end := a.PaidUntil + w.rnd.Uint64N(2); end > w.now {
			w.now = end
		}
	case 5:
		w.now += w.rnd.Uint64N(30 * hour)
	}
}

// credit adds what a payee gets of gross.
func (w *world) credit(payee int, gross *big.Int) {
	split := payment.Split{Node: 6_000, Coordinators: 1_500, Stakers: 2_000}
	if payee == payees-1 {
		split = payment.Split{Node: 7_500, Stakers: 2_000}
	}
	w.credits[payee].Add(w.credits[payee], split.Of(gross).Node)
}

// step takes one step and notes it in v.
func (w *world) step(v *vectors) {
	op, payer, payee := often[w.rnd.IntN(len(often))], w.rnd.IntN(payers), w.rnd.IntN(payees)
	w.wait(w.accounts[payer])
	amount, minutes, which := w.rate(), uint64(0), -1
	switch op {
	case opActivate, opRelease:
		if len(w.reserves) == 0 {
			op = opReserve
			break
		}
		which = w.rnd.IntN(len(w.reserves))
		r := w.reserves[which]
		payer, payee, amount, minutes = r.payer, r.payee, r.rate, r.minutes
	case opDecrease, opCloseOverdue:
		// All of it, or a part.
		amount = new(big.Int).Set(w.pairs[payer][payee].Rate)
		if op == opDecrease && amount.Sign() > 0 && w.rnd.IntN(2) == 0 {
			amount.Mul(amount, new(big.Int).SetUint64(w.rnd.Uint64()))
			amount.Rsh(amount, 64)
		}
		if amount.Sign() == 0 {
			op = opPull
		}
	case opCharge, opDeposit, opWallet:
		amount = w.tokens()
		if op == opWallet && w.rnd.IntN(5) > 0 {
			amount.Mul(amount, big.NewInt(1_000_000))
		}
	}
	a, p := w.accounts[payer].Clone(), w.pairs[payer][payee].Clone()
	result, err := w.do(op, a, p, payee, amount, minutes)
	if err == nil {
		w.accounts[payer], w.pairs[payer][payee] = a, p
		switch {
		case op == opReserve:
			w.reserves = append(w.reserves, reserve{payer, payee, amount, result.Uint64()})
		case which >= 0:
			w.reserves = append(w.reserves[:which], w.reserves[which+1:]...)
		}
	} else {
		result = new(big.Int)
	}
	v.note(w, op, payer, payee, amount, minutes, err == nil, result)
}

func (w *world) do(op int, a *payment.Account, p *payment.Pair, payee int, amount *big.Int, minutes uint64) (*big.Int, error) {
	switch op {
	case opIncrease:
		return new(big.Int), a.Increase(w.terms, w.now, p, amount)
	case opDecrease:
		return new(big.Int), a.Decrease(w.now, p, amount)
	case opPull:
		return a.Pull(w.now), nil
	case opClaim:
		gross := p.Claim(a, w.now)
		w.credit(payee, gross)
		return gross, nil
	case opReserve:
		n, err := a.Reserve(w.terms, w.now, p, amount)
		return new(big.Int).SetUint64(n), err
	case opActivate:
		ok, err := a.Activate(w.now, p, amount, minutes)
		return truth(ok), err
	case opRelease:
		a.Release(amount, minutes)
		return new(big.Int), nil
	case opCloseOverdue:
		ok, err := a.CloseOverdue(w.terms, w.now, p, amount)
		return truth(ok), err
	case opCharge:
		err := a.Charge(w.now, p, amount)
		if err == nil {
			w.credit(payee, amount)
		}
		return new(big.Int), err
	case opRevoke:
		return new(big.Int), a.Revoke(w.now)
	case opDeposit:
		return new(big.Int), a.Deposit(amount)
	case opPayDebt:
		paid, err := a.PayDebt(p)
		if err == nil {
			w.credit(payee, paid)
		}
		return paid, err
	default:
		a.Wallet = new(big.Int).Set(amount)
		return new(big.Int), nil
	}
}

func (v *vectors) note(w *world, op, payer, payee int, amount *big.Int, minutes uint64, ok bool, result *big.Int) {
	a, p := w.accounts[payer], w.pairs[payer][payee]
	v.Op, v.Time = append(v.Op, strconv.Itoa(op)), append(v.Time, strconv.FormatUint(w.now, 10))
	v.Payer, v.Payee = append(v.Payer, strconv.Itoa(payer)), append(v.Payee, strconv.Itoa(payee))
	v.Amount, v.Minutes = append(v.Amount, amount.String()), append(v.Minutes, strconv.FormatUint(minutes, 10))
	v.Ok, v.Result = append(v.Ok, truth(ok).String()), append(v.Result, result.String())
	v.Rate, v.PaidUntil = append(v.Rate, a.Rate.String()), append(v.PaidUntil, strconv.FormatUint(a.PaidUntil, 10))
	v.Since = append(v.Since, strconv.FormatUint(a.Since, 10))
	v.Flows, v.Debts = append(v.Flows, strconv.Itoa(a.Flows)), append(v.Debts, strconv.Itoa(a.Debts))
	v.Window = append(v.Window, strconv.FormatUint(a.Window, 10))
	v.Refund, v.Reserved = append(v.Refund, a.Refund.String()), append(v.Reserved, a.Reserved.String())
	v.Pending, v.Claimable = append(v.Pending, p.Pending.String()), append(v.Claimable, p.Claimable(a, w.now).String())
	v.Debt, v.Credit = append(v.Debt, p.Debt.String()), append(v.Credit, w.credits[payee].String())
}

func truth(b bool) *big.Int {
	if b {
		return big.NewInt(1)
	}
	return new(big.Int)
}

func TestVectorsAreWhatTheModelDoes(t *testing.T) {
	w := newWorld(7)
	v := &vectors{About: about, Start: start, MinWindow: w.terms.MinWindow.String()}
	for range steps {
		w.step(v)
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the vectors differ; run the test with -update and look at the change")
	}
}

// TestNothingIsLost checks what holds in every order: rates add up, and what
// went in is still there, was claimed, or was lost to rounding.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(100 + seed)
		v := &vectors{}
		for i := range 400 {
			w.step(v)
			for n, a := range w.accounts {
				sum, flows, debts := new(big.Int), 0, 0
				for _, p := range w.pairs[n] {
					sum.Add(sum, p.Rate)
					if p.Rate.Sign() > 0 {
						flows++
					}
					if p.Debt.Sign() > 0 {
						debts++
					}
				}
				if a.Revoked {
					sum.SetUint64(0)
				}
				if a.Rate.Cmp(sum) != 0 || a.Flows != flows || a.Debts != debts {
					t.Fatalf("seed %d, step %d: account has rate %v, %d flows, %d debts; its pairs %v, %d, %d",
						seed, i, a.Rate, a.Flows, a.Debts, sum, flows, debts)
				}
				if a.PaidUntil > w.now+a.Window {
					t.Fatalf("seed %d, step %d: paid until %d at %d, more than a window of %d", seed, i, a.PaidUntil, w.now, a.Window)
				}
				if a.Refund.Sign() < 0 || a.Reserved.Sign() < 0 || a.Wallet.Sign() < 0 {
					t.Fatalf("seed %d, step %d: negative money", seed, i)
				}
			}
		}
	}
}
