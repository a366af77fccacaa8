package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// IntentStatus is where a decided transaction is.
type IntentStatus string

// The statuses of an intent.
const (
	IntentPending   IntentStatus = "pending"   // Decided, not sent.
	IntentSent      IntentStatus = "sent"      // Signed and stored; the network may have it.
	IntentConfirmed IntentStatus = "confirmed" // Mined and deep enough.
	IntentReverted  IntentStatus = "reverted"  // Mined, or simulated, and refused by the contract.
	IntentExpired   IntentStatus = "expired"   // Its deadline passed before it was mined.
)

// SentTx is one signed transaction of an intent; a replacement has the same
// nonce and a higher fee.
type SentTx struct {
	Hash   common.Hash `json:"hash"`
	Raw    []byte      `json:"raw"` // Signed, RLP; can be sent again after a crash.
	TipWei *big.Int    `json:"tip_wei"`
	FeeWei *big.Int    `json:"fee_wei"`
	SentAt time.Time   `json:"sent_at"`
}

// Lane is whose intents these are: those of one account on one chain, which one
// sender sends in order.
type Lane string

// The lanes.
const (
	LaneNode Lane = ""     // The node's signer on the product's chain.
	LaneSync Lane = "sync" // The publisher of archives on the chain that confirms messages.
)

// Intent is a decided transaction. Key makes it idempotent: the same decision
// enqueued twice is one transaction.
type Intent struct {
	Key      string          `json:"key"` // For example "open/<spec>/0".
	Seq      int64           `json:"seq"` // Order of enqueueing; set by Enqueue.
	Lane     Lane            `json:"lane,omitempty"`
	Contract string          `json:"contract"`         // "JobManager".
	Method   string          `json:"method"`           // "confirmRunning".
	Args     json.RawMessage `json:"args"`             // JSON array by the ABI: numbers as decimal strings, bytes and addresses as 0x hex, tuples as objects by field name.
	Deadline uint64          `json:"deadline"`         // Chain time after which it is pointless; 0 = never.
	Reason   string          `json:"reason,omitempty"` // Why it was decided, for people.
	Yields   bool            `json:"yields,omitempty"` // Gives way to those that do not: a stranger asked for it.

	Status   IntentStatus `json:"status"`
	Error    string       `json:"error,omitempty"` // Why it reverted, expired or waits, decoded.
	Nonce    uint64       `json:"nonce"`           // Valid once sent.
	Txs      []SentTx     `json:"txs,omitempty"`
	MinedIn  common.Hash  `json:"mined_in,omitzero"` // Block hash.
	MinedAt  uint64       `json:"mined_at,omitempty"`
	TxHash   common.Hash  `json:"tx_hash,omitzero"` // The one that was mined.
	GasUsed  uint64       `json:"gas_used,omitempty"`
	Attempts int          `json:"attempts,omitempty"` // Times that it was put off.
	Refusals int          `json:"refusals,omitempty"` // Times that the contract would have refused it.
	After    uint64       `json:"after,omitempty"`    // A refusal counts once this many transactions of the account are mined.
	RetryAt  time.Time    `json:"retry_at,omitzero"`
}

func intents() table[Intent] {
	return table[Intent]{
		name: "intents", noun: "intent",
		key: func(i *Intent) string { return i.Key },
		cols: []column[Intent]{
			{"seq", func(i *Intent) any { return i.Seq }},
			{"lane", func(i *Intent) any { return string(i.Lane) }},
			{"status", func(i *Intent) any { return string(i.Status) }},
			{"yields", func(i *Intent) any { return number(i.Yields) }},
			{"retry_at", func(i *Intent) any {
				if i.RetryAt.IsZero() {
					return 0
				}
				return i.RetryAt.UnixMicro()
			}},
			{"mined_at", func(i *Intent) any { return int64(i.MinedAt) }},
			{"mined_in", func(i *Intent) any { return i.MinedIn.Hex() }},
		},
	}
}

// finished is the statuses that an intent leaves only when the block it was
// mined in does not stay on the chain.
func finished() []IntentStatus {
	return []IntentStatus{IntentConfirmed, IntentReverted, IntentExpired}
}

// Enqueue adds an intent in status pending. One with the same key that is
// already there wins, whatever its status: enqueueing twice is harmless. It
// reports whether the intent was new.
func (tx *Tx) Enqueue(ctx context.Context, i Intent) (bool, error) {
	_, err := intents().one(ctx, tx.reader, i.Key)
	switch {
	case err == nil:
		return false, nil
	case errs.KindOf(err) != errs.NotFound:
		return false, err
	}
	var last int64
	if err := tx.q.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM intents").Scan(&last); err != nil {
		return false, fmt.Errorf("number intent %s: %w", i.Key, err)
	}
	i.Seq, i.Status = last+1, IntentPending
	return true, intents().put(ctx, tx, &i)
}

// PutIntent writes an intent's row; only the outbox does.
func (tx *Tx) PutIntent(ctx context.Context, i Intent) error { return intents().put(ctx, tx, &i) }

// Intent returns the intent with the key, or errs.NotFound.
func (r reader) Intent(ctx context.Context, key string) (*Intent, error) {
	return intents().one(ctx, r, key)
}

// IntentsWith returns up to limit intents of the node with one of the statuses, in
// the order of enqueueing.
func (r reader) IntentsWith(ctx context.Context, limit int, statuses ...IntentStatus) ([]Intent, error) {
	return r.Intents(LaneNode).With(ctx, limit, statuses...)
}

// Intents are those of a lane.
func (r reader) Intents(l Lane) LaneIntents { return LaneIntents{r, l} }

// LaneIntents reads the intents of a lane. Use Intents.
type LaneIntents struct {
	r    reader
	lane Lane
}

// list is intents().list for the lane.
func (l LaneIntents) list(ctx context.Context, where string, args ...any) ([]Intent, error) {
	return intents().list(ctx, l.r, "lane = ? AND "+where, append([]any{string(l.lane)}, args...)...)
}

// With returns up to limit intents with one of the statuses, in the order of
// enqueueing.
func (l LaneIntents) With(ctx context.Context, limit int, statuses ...IntentStatus) ([]Intent, error) {
	clause, args := in(statuses)
	return l.list(ctx, "status IN "+clause+" ORDER BY seq LIMIT ?", append(args, limit)...)
}

// Last returns the intent that was enqueued last, or errs.NotFound.
func (l LaneIntents) Last(ctx context.Context) (*Intent, error) {
	found, err := l.list(ctx, "TRUE ORDER BY seq DESC LIMIT 1")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no intent yet")
	}
	return &found[0], nil
}

// Due returns up to limit pending intents, that yield or that do not, whose time to
// be tried again has come, in the order of enqueueing.
func (l LaneIntents) Due(ctx context.Context, now time.Time, yields bool, limit int) ([]Intent, error) {
	return l.DueAfter(ctx, now, yields, 0, limit)
}

// DueAfter is Due of those that were enqueued after one, by its Seq.
func (l LaneIntents) DueAfter(ctx context.Context, now time.Time, yields bool, after int64, limit int) ([]Intent, error) {
	return l.list(ctx, "status = ? AND yields = ? AND retry_at <= ? AND seq > ? ORDER BY seq LIMIT ?", string(IntentPending), number(yields), now.UnixMicro(), after, limit)
}

// Count returns how many intents have the status.
func (l LaneIntents) Count(ctx context.Context, status IntentStatus) (n int, err error) {
	if err := l.r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM intents WHERE lane = ? AND status = ?", string(l.lane), string(status)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count intents: %w", err)
	}
	return n, nil
}

// IntentsUnder returns up to limit intents with one of the statuses whose key
// begins with prefix, in the order of enqueueing.
func (r reader) IntentsUnder(ctx context.Context, prefix string, limit int, statuses ...IntentStatus) ([]Intent, error) {
	clause, args := in(statuses)
	// Keys are ASCII, so all that begin so are below the prefix and a DEL.
	args = append([]any{prefix, prefix + "\x7f"}, args...)
	return intents().list(ctx, r, "pk >= ? AND pk < ? AND status IN "+clause+" ORDER BY seq LIMIT ?", append(args, limit)...)
}

// Orphaned returns up to limit intents that were done, and whose block is on the
// chain no more. Blocks that are not kept cannot change, and those above the head are
// not known yet. Of the node's chain each block is kept, so another one is here with
// its number. Of the chain that confirms messages only those are kept that have
// events, as each block has in which an archive was published: it is missing.
func (l LaneIntents) Orphaned(ctx context.Context, limit int) ([]Intent, error) {
	if l.lane == LaneSync {
		return l.list(ctx, `status = ? AND mined_at >= (SELECT MIN(number) FROM sync_blocks) AND mined_at <= (SELECT MAX(number) FROM sync_blocks)
			AND NOT EXISTS (SELECT 1 FROM sync_blocks WHERE sync_blocks.pk = intents.mined_in)
			ORDER BY seq LIMIT ?`, string(IntentConfirmed), limit)
	}
	clause, args := in(finished())
	return l.list(ctx, "status IN "+clause+` AND mined_at >= (SELECT MIN(number) FROM blocks)
		AND EXISTS (SELECT 1 FROM blocks WHERE blocks.number = intents.mined_at AND blocks.pk <> intents.mined_in)
		ORDER BY seq LIMIT ?`, append(args, limit)...)
}

// Vain returns up to limit intents of which nothing comes and that a pin is held for:
// they were never mined, or in a block up to a number, and refused. The key of the pin is
// the prefix and that of the intent. Those come that were enqueued after one, by its Seq.
func (l LaneIntents) Vain(ctx context.Context, prefix string, upTo uint64, after int64, limit int) ([]Intent, error) {
	clause, args := in([]IntentStatus{IntentReverted, IntentExpired})
	return l.list(ctx, "status IN "+clause+` AND mined_at <= ? AND EXISTS (SELECT 1 FROM pins WHERE pins.pk = ? || intents.pk)
		AND seq > ? ORDER BY seq LIMIT ?`, append(args, int64(upTo), prefix, after, limit)...)
}

// ForgetIntents drops intents that yield, are done and cannot be undone, but for
// those among the last keep of all. Others stay: their keys say what was decided.
func (tx *Tx) ForgetIntents(ctx context.Context, keep int) error {
	clause, args := in(finished())
	_, err := tx.tx.ExecContext(ctx, "DELETE FROM intents WHERE yields = 1 AND status IN "+clause+`
		AND mined_at < (SELECT MIN(number) FROM blocks) AND seq <= (SELECT MAX(seq) FROM intents) - ?`, append(args, max(keep, 1))...)
	if err != nil {
		return fmt.Errorf("forget intents: %w", err)
	}
	return nil
}
