package state

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// Account is what a payer's flows of one token cost, as the chain has it. A row
// mirrors the chain.
type Account struct {
	Payer        common.Address `json:"payer"`
	Token        uint8          `json:"token"`
	RateQ32      *big.Int       `json:"rate_q32"`
	PaidUntil    uint64         `json:"paid_until"`    // Chain time.
	ArrearsSince uint64         `json:"arrears_since"` // Chain time; 0 = none.
	Refund       *big.Int       `json:"refund"`        // Token wei that wait for the payer.
	Block        uint64         `json:"block"`
}

func accounts() table[Account] {
	return table[Account]{
		name: "accounts", noun: "account",
		key: func(a *Account) string { return accountKey(a.Payer, a.Token) },
		cols: []column[Account]{
			{"rate_live", func(a *Account) any {
				if a.RateQ32 != nil && a.RateQ32.Sign() > 0 {
					return 1
				}
				return 0
			}},
			{"refund_bits", func(a *Account) any { return bits(a.Refund) }}, // Amounts do not fit into a column.
		},
	}
}

// bits is the length of an amount, which orders amounts roughly.
func bits(amount *big.Int) int {
	if amount == nil {
		return 0
	}
	return amount.BitLen()
}

func accountKey(payer common.Address, token uint8) string {
	return fmt.Sprintf("%s/%d", payer.Hex(), token)
}

// PutAccount writes an account's row.
func (tx *Tx) PutAccount(ctx context.Context, a Account) error { return accounts().put(ctx, tx, &a) }

// Account returns the account of payer in token, or errs.NotFound.
func (r reader) Account(ctx context.Context, payer common.Address, token uint8) (*Account, error) {
	return accounts().one(ctx, r, accountKey(payer, token))
}

// Accounts returns every account that pays somebody now (live) or else every
// account there is.
func (r reader) Accounts(ctx context.Context, live bool) ([]Account, error) {
	if live {
		return accounts().list(ctx, r, "rate_live = 1 ORDER BY pk")
	}
	return accounts().list(ctx, r, "TRUE ORDER BY pk")
}

// AccountsOwed returns the accounts that pay nobody and whose refund is at
// least least.
func (r reader) AccountsOwed(ctx context.Context, least *big.Int) ([]Account, error) {
	near, err := accounts().list(ctx, r, "rate_live = 0 AND refund_bits >= ? ORDER BY pk", bits(least))
	return slices.DeleteFunc(near, func(a Account) bool { return a.Refund == nil || a.Refund.Cmp(least) < 0 }), err
}

// PaymentKind is what moved.
type PaymentKind string

// The kinds of payment.
const (
	PaymentPulled     PaymentKind = "pulled"      // Allowance became prepaid time.
	PaymentFlow       PaymentKind = "flow"        // A pair's rate changed.
	PaymentClaimed    PaymentKind = "claimed"     // Earned money was divided.
	PaymentWithdrawn  PaymentKind = "withdrawn"   // A payee took its credit.
	PaymentRefunded   PaymentKind = "refunded"    // Prepaid money was credited back.
	PaymentRefundPaid PaymentKind = "refund_paid" // ... and left for the payer.
	PaymentDebt       PaymentKind = "debt"        // An unpaid gap was recorded or paid.
	PaymentReserved   PaymentKind = "reserved"    // The first window was taken.
	PaymentCharged    PaymentKind = "charged"     // Something was paid once.
)

// Payment is one event of PaymentManager. A row mirrors the chain.
type Payment struct {
	Kind      PaymentKind         `json:"kind"`
	Payer     common.Address      `json:"payer"`
	Payee     uint64              `json:"payee"` // 0 when the event concerns the payer alone.
	Token     uint8               `json:"token"`
	Amount    *big.Int            `json:"amount"` // Token wei; of a claim, the gross amount.
	RateQ32   *big.Int            `json:"rate_q32,omitempty"`
	Split     map[string]*big.Int `json:"split,omitempty"` // Of a claim: node, coordinator, staker, development.
	PaidUntil uint64              `json:"paid_until,omitempty"`
	Tx        common.Hash         `json:"tx"`
	Block     uint64              `json:"block"`
	LogIndex  uint                `json:"log_index"`
	At        uint64              `json:"at"` // Chain time.
}

func payments() table[Payment] {
	return table[Payment]{
		name: "payments", noun: "payment",
		key: func(p *Payment) string { return fmt.Sprintf("%s/%d/%s", p.Tx.Hex(), p.LogIndex, p.Payer.Hex()) },
		cols: []column[Payment]{
			{"payer", func(p *Payment) any { return p.Payer.Hex() }},
			{"payee", func(p *Payment) any { return int64(p.Payee) }},
			{"kind", func(p *Payment) any { return string(p.Kind) }},
			{"block", func(p *Payment) any { return int64(p.Block) }},
			{"log_index", func(p *Payment) any { return int64(p.LogIndex) }},
		},
	}
}

// PutPayment writes a payment's row.
func (tx *Tx) PutPayment(ctx context.Context, p Payment) error { return payments().put(ctx, tx, &p) }

// Payments returns the events between payer and payee, oldest first.
func (r reader) Payments(ctx context.Context, payer common.Address, payee uint64) ([]Payment, error) {
	return payments().list(ctx, r, "payer = ? AND payee = ? ORDER BY block, log_index, pk", payer.Hex(), int64(payee))
}

// PaymentsOf returns the last limit events of the payer, newest first.
func (r reader) PaymentsOf(ctx context.Context, payer common.Address, limit int) ([]Payment, error) {
	return payments().list(ctx, r, "payer = ? ORDER BY block DESC, log_index DESC, pk DESC LIMIT ?", payer.Hex(), limit)
}

// PaymentsTo returns up to limit events of the kinds that concern the payee and
// come after one of them, oldest first. After the zero Payment come all.
func (r reader) PaymentsTo(ctx context.Context, payee uint64, after Payment, limit int, kinds ...PaymentKind) ([]Payment, error) {
	clause, args := in(kinds)
	args = append([]any{int64(payee), int64(after.Block), payments().key(&after)}, append(args, limit)...)
	return payments().list(ctx, r, "payee = ? AND (block, pk) > (?, ?) AND kind IN "+clause+" ORDER BY block, pk LIMIT ?", args...)
}
