package settlement_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	coordinator = 1
	compute     = 3
	token       = 1

	window    = 60  // prepaid seconds
	hardGrace = 120 // seconds
	startBy   = 30  // seconds

	// stride is how many blocks a block of the model stands for, so that what is
	// some dozen blocks old is final.
	stride = 64
)

// model is the contracts in small: accounts, one pair per payer, jobs. Rates
// are whole wei per second, so all its numbers are exact. It plays the outbox
// (it executes intents) and the mirror (it writes rows).
type model struct {
	t  testing.TB
	db *state.DB

	now      uint64
	number   uint64
	accounts map[common.Address]*account
	jobs     map[message.ItemHash]*modelJob
	credit   int64
	claimed  int64           // gross
	paidOut  int64           // to the node
	events   []state.Payment // since the last block
	logs     uint
	rows     map[any]any    // what mirror has written
	done     map[string]int // executions by key

	mu    sync.Mutex
	funds map[common.Address]account // copies for Funds; guarded by mu
	away  error                      // what Funds gives; guarded by mu
	idle  map[string]int             // executions that changed nothing, by method
}

type account struct {
	payer              common.Address
	wallet, spent      int64 // what can be pulled; what was
	rate, refund       int64
	refunded           int64 // paid out to the payer
	paidUntil, arrears uint64
	pairRate, pending  int64
	since              uint64
}

type modelJob struct {
	state.Job
	rate    int64
	reserve int64
	start   uint64
}

func newModel(t testing.TB, db *state.DB) *model {
	t.Helper()
	return &model{
		t: t, db: db, now: 1_000_000, accounts: map[common.Address]*account{}, jobs: map[message.ItemHash]*modelJob{}, rows: map[any]any{},
		funds: map[common.Address]account{}, done: map[string]int{}, idle: map[string]int{},
	}
}

func (m *model) account(payer common.Address) *account {
	a := m.accounts[payer]
	if a == nil {
		a = &account{payer: payer, paidUntil: m.now}
		m.accounts[payer] = a
	}
	return a
}

// Funds implements settlement.Funds.
func (m *model) Funds(_ context.Context, payer common.Address, _ uint8) (balance, allowance, refund *big.Int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.funds[payer]
	return big.NewInt(f.wallet + 5), big.NewInt(f.wallet), big.NewInt(f.refund), m.away
}

// take moves up to need from the refund and the wallet.
func (a *account) take(need int64) int64 {
	got := min(need, a.refund)
	a.refund -= got
	pulled := min(need-got, a.wallet)
	a.wallet -= pulled
	a.spent += pulled
	return got + pulled
}

func (m *model) pull(a *account) {
	if a.rate == 0 {
		return
	}
	if target := m.now + window; a.paidUntil < target {
		need := a.rate * int64(target-a.paidUntil)
		need = min(need, a.refund+a.wallet)
		whole := need / a.rate
		a.take(whole * a.rate)
		a.paidUntil += uint64(whole)
	}
	switch {
	case a.paidUntil >= m.now:
		a.arrears = 0
	case a.arrears == 0:
		a.arrears = a.paidUntil
	}
}

func (m *model) fold(a *account) {
	if until := min(a.paidUntil, m.now); until > a.since {
		a.pending += a.pairRate * int64(until-a.since)
		a.since = until
	}
}

// change adds d to the rate and paid to the prepaid money.
func (m *model) change(a *account, d, paid int64) {
	m.fold(a)
	if a.pairRate == 0 {
		a.since = m.now
	}
	left := paid
	if a.paidUntil > m.now {
		left += a.rate * int64(a.paidUntil-m.now)
	}
	arrears := a.rate > 0 && a.paidUntil < m.now
	a.pairRate += d
	a.rate += d
	switch {
	case a.rate == 0:
		if !arrears {
			a.refund += left
		}
		a.paidUntil, a.arrears = m.now, 0
	case !arrears:
		seconds := min(left/a.rate, window)
		a.paidUntil = m.now + uint64(seconds)
		a.refund += left - seconds*a.rate
	}
}

// open opens a job and reports whether the payer could.
func (m *model) open(j *modelJob) bool {
	a := m.account(j.Payer)
	need := j.rate * window
	if a.refund+a.wallet < need || a.rate > 0 && a.paidUntil < m.now {
		return false
	}
	j.reserve = a.take(need)
	j.Status, j.AssignedAt = state.JobAssigned, m.now
	m.jobs[j.Spec] = j
	return true
}

func (m *model) confirm(j *modelJob) {
	if j.Status != state.JobAssigned || m.now > j.AssignedAt+startBy {
		return
	}
	a := m.account(j.Payer)
	m.pull(a)
	if a.rate > 0 && a.paidUntil < m.now {
		m.release(j, state.JobFailed)
		return
	}
	m.change(a, j.rate, j.reserve)
	j.reserve, j.Status, j.StartedAt = 0, state.JobRunning, m.now
}

func (m *model) release(j *modelJob, status state.JobStatus) {
	m.account(j.Payer).refund += j.reserve
	j.reserve, j.Status, j.StoppedAt = 0, status, m.now
}

// end ends a running job.
func (m *model) end(j *modelJob, status state.JobStatus) {
	a := m.account(j.Payer)
	m.pull(a)
	m.change(a, -j.rate, 0)
	j.Status, j.StoppedAt = status, m.now
}

// execute runs an intent as the contracts would and reports whether it changed
// anything, or reverted.
func (m *model) execute(i state.Intent) (changed, reverted bool) {
	var args []json.RawMessage
	if err := json.Unmarshal(i.Args, &args); err != nil {
		m.t.Fatalf("arguments of %s: %v", i.Key, err)
	}
	switch i.Contract + "." + i.Method {
	case "PaymentManager.pull":
		a := m.account(common.HexToAddress(text(m.t, args[0])))
		before := *a
		m.pull(a)
		return *a != before, false
	case "PaymentManager.withdrawRefund":
		a := m.account(common.HexToAddress(text(m.t, args[0])))
		paid := a.refund
		a.refunded, a.refund = a.refunded+paid, 0
		return paid > 0, false
	case "PaymentManager.claim":
		return m.claim(m.account(common.HexToAddress(list(m.t, args[2])[0]))), false
	case "PaymentManager.withdraw":
		return m.withdraw(text(m.t, args[2]))
	case "JobManager.failStart":
		j := m.jobs[spec(text(m.t, args[0]))]
		if j.Status != state.JobAssigned || m.now <= j.AssignedAt+startBy {
			return false, true
		}
		m.release(j, state.JobFailed)
		return true, false
	case "JobManager.expire":
		j := m.jobs[spec(list(m.t, args[0])[0])]
		if j.Status != state.JobRunning || j.MaxUntil == 0 || m.now <= j.MaxUntil {
			return false, false
		}
		m.end(j, state.JobExpired)
		return true, false
	case "JobManager.closeForArrears":
		return m.close(m.jobs[spec(list(m.t, args[0])[0])]), false
	default:
		m.t.Fatalf("the contracts have no %s.%s", i.Contract, i.Method)
		return false, true
	}
}

func (m *model) close(j *modelJob) bool {
	a := m.account(j.Payer)
	if j.Status != state.JobRunning {
		return false
	}
	m.pull(a)
	if a.paidUntil+hardGrace >= m.now {
		return false
	}
	m.end(j, state.JobExpired)
	return true
}

func (m *model) claim(a *account) bool {
	m.fold(a)
	gross := a.pending
	a.pending = 0
	if gross == 0 {
		return false
	}
	m.claimed += gross
	node := gross * 6 / 10
	m.credit += node
	m.event(state.Payment{
		Kind: state.PaymentClaimed, Payer: a.payer, Payee: compute, Token: token, Amount: big.NewInt(gross),
		Split: map[string]*big.Int{"node": big.NewInt(node)},
	})
	return true
}

func (m *model) withdraw(amount string) (changed, reverted bool) {
	v, ok := new(big.Int).SetString(amount, 10)
	if !ok || v.Int64() > m.credit || v.Sign() <= 0 {
		return false, true
	}
	m.credit -= v.Int64()
	m.paidOut += v.Int64()
	m.event(state.Payment{Kind: state.PaymentWithdrawn, Payee: compute, Token: token, Amount: v})
	return true, false
}

func (m *model) event(p state.Payment) {
	m.logs++
	p.Block, p.LogIndex, p.At = m.number, m.logs, m.now
	m.events = append(m.events, p)
}

func (m *model) update(fn func(ctx context.Context, tx *state.Tx) error) {
	m.t.Helper()
	ctx := m.t.Context()
	if err := m.db.Update(ctx, func(tx *state.Tx) error { return fn(ctx, tx) }); err != nil {
		m.t.Fatal(err)
	}
}

// mine executes the intents that pick chooses and writes all rows, in a block
// some seconds after the last.
func (m *model) mine(seconds uint64, pick func(state.Intent) bool) {
	m.t.Helper()
	m.now += seconds
	m.number += stride
	pending, err := m.db.IntentsWith(m.t.Context(), 10_000, state.IntentPending)
	if err != nil {
		m.t.Fatal(err)
	}
	var mined []state.Intent
	for _, i := range pending {
		if !pick(i) {
			continue
		}
		changed, reverted := m.execute(i)
		if !changed {
			m.idle[i.Method]++
		}
		if m.done[i.Key]++; m.done[i.Key] > 1 {
			m.t.Errorf("%s was executed twice", i.Key)
		}
		if i.Reason == "" {
			m.t.Errorf("%s has no reason", i.Key)
		}
		i.Status = state.IntentConfirmed
		if reverted {
			i.Status = state.IntentReverted
		}
		mined = append(mined, i)
	}
	m.mirror(mined...)
}

// mirror writes the rows that have changed, and the intents that were mined, in
// one transaction.
func (m *model) mirror(mined ...state.Intent) {
	m.t.Helper()
	m.mu.Lock()
	for payer, a := range m.accounts {
		m.funds[payer] = *a
	}
	m.mu.Unlock()
	m.update(func(ctx context.Context, tx *state.Tx) error {
		var failed error
		for _, i := range mined {
			failed = errors.Join(failed, tx.PutIntent(ctx, i))
		}
		for _, p := range m.events {
			failed = errors.Join(failed, tx.PutPayment(ctx, p))
		}
		m.events = nil
		for _, a := range m.accounts {
			if m.changed(a.payer, [4]int64{a.rate, a.refund, int64(a.paidUntil), int64(a.arrears)}) {
				failed = errors.Join(failed, tx.PutAccount(ctx, state.Account{
					Payer: a.payer, Token: token, RateQ32: new(big.Int).Lsh(big.NewInt(a.rate), 32), PaidUntil: a.paidUntil,
					ArrearsSince: a.arrears, Refund: big.NewInt(a.refund), Block: m.number,
				}))
			}
		}
		for _, j := range m.jobs {
			if m.changed(j.Spec, [3]any{j.Status, j.StartedAt, j.StoppedAt}) {
				j.Block = m.number
				failed = errors.Join(failed, tx.PutJob(ctx, j.Job))
			}
		}
		return errors.Join(failed, tx.PutBlock(ctx, state.Block{
			Number: m.number, Hash: common.BigToHash(new(big.Int).SetUint64(m.number)), Time: m.now,
		}))
	})
}

// changed reports whether the row with the key is other than it was.
func (m *model) changed(key, row any) bool {
	if m.rows[key] == row {
		return false
	}
	m.rows[key] = row
	return true
}

// check holds what is true at any time.
func (m *model) check() {
	m.t.Helper()
	var in, held, earned int64
	for _, a := range m.accounts {
		in += a.spent - a.refunded
		held += a.refund + a.pending
		if a.paidUntil > m.now {
			held += a.rate * int64(a.paidUntil-m.now)
		}
		if until := min(a.paidUntil, m.now); until > a.since {
			held += a.pairRate * int64(until-a.since)
		}
	}
	for _, j := range m.jobs {
		held += j.reserve
	}
	earned = m.claimed
	if in != held+earned {
		m.t.Fatalf("at %d payers gave %d, %d are held and %d claimed", m.now, in, held, earned)
	}
}

func (m *model) specs() []message.ItemHash {
	out := make([]message.ItemHash, 0, len(m.jobs))
	for s := range m.jobs {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func text(t testing.TB, raw json.RawMessage) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func list(t testing.TB, raw json.RawMessage) []string {
	t.Helper()
	var s []string
	if err := json.Unmarshal(raw, &s); err != nil || len(s) != 1 {
		t.Fatalf("%s is not a list of one (%v)", raw, err)
	}
	return s
}

func spec(hex string) message.ItemHash { return message.ItemHash(strings.TrimPrefix(hex, "0x")) }

func specOf(n int) message.ItemHash { return message.HashOf(fmt.Appendf(nil, "job %d", n)) }
