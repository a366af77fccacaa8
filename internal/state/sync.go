package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// SyncStatus is what became of an event.
type SyncStatus string

// The statuses of events.
const (
	SyncWaiting SyncStatus = "waiting" // What it says is not all here yet.
	SyncDone    SyncStatus = "done"
	SyncDropped SyncStatus = "dropped" // What it says can never be used.
)

// SyncEvent is an event by which a transaction says something of messages. Its row is
// there for as long as its block is on the chain: what the transaction confirms counts
// only then.
type SyncEvent struct {
	Source    string        `json:"source,omitempty"` // The indexer that told of it; "" if this node read it from the chain.
	Tx        string        `json:"tx"`               // Hash of the transaction, in the text form of its chain.
	Index     uint64        `json:"index"`            // Of the event in its block, or what tells apart the events of a transaction.
	Number    uint64        `json:"number"`
	Block     common.Hash   `json:"block"`
	Chain     message.Chain `json:"chain"`
	At        uint64        `json:"at"`               // Time of the block, Unix seconds.
	Publisher string        `json:"publisher"`        // Who called the contract.
	Sender    string        `json:"sender,omitempty"` // Of an event that is a message itself, if its publisher is not its sender.
	Type      string        `json:"type,omitempty"`   // Of an event that is a message itself; else "".
	Stamp     uint64        `json:"stamp"`            // Time that the event says, Unix seconds.
	Micros    uint64        `json:"micros,omitempty"` // And microseconds.
	Text      string        `json:"text,omitempty"`   // What the event says; not kept when it is done.

	Status   SyncStatus       `json:"status"`
	Message  message.ItemHash `json:"message,omitempty"` // Of an event that is a message itself, once it was taken.
	Reason   string           `json:"reason,omitempty"`  // Why it waits, or was dropped.
	Taken    int              `json:"taken,omitempty"`   // Messages of it that were judged, in their order.
	Attempts int              `json:"attempts,omitempty"`
	RetryAt  time.Time        `json:"retry_at,omitzero"`
}

// Key names the event. An indexer cannot name one of another's.
func (e *SyncEvent) Key() string {
	key := e.Tx + "/" + strconv.FormatUint(e.Index, 10)
	if e.Source != "" {
		return e.Source + "/" + key
	}
	return key
}

// PinKey names the pin of the archive that the event names.
func (e *SyncEvent) PinKey() string { return "tx:" + e.Key() }

// Transaction is what the event's transaction is to the messages that it names.
func (e *SyncEvent) Transaction() Transaction {
	return Transaction{Chain: e.Chain, Hash: e.Tx, Height: int64(e.Number), At: time.Unix(int64(e.At), 0).UTC(), Publisher: e.Publisher}
}

func syncEvents() table[SyncEvent] {
	return table[SyncEvent]{
		name: "sync_events", noun: "event", key: (*SyncEvent).Key,
		cols: []column[SyncEvent]{
			{"source", func(e *SyncEvent) any { return e.Source }},
			{"tx", func(e *SyncEvent) any { return e.Tx }},
			{"number", func(e *SyncEvent) any { return int64(e.Number) }},
			{"status", func(e *SyncEvent) any { return string(e.Status) }},
			{"retry_at", func(e *SyncEvent) any {
				if e.RetryAt.IsZero() {
					return 0
				}
				return e.RetryAt.UnixMicro()
			}},
		},
	}
}

func syncBlocks() table[Block] {
	t := blocks()
	t.name = "sync_blocks"
	return t
}

// PutSyncEvent writes the row of an event.
func (tx *Tx) PutSyncEvent(ctx context.Context, e SyncEvent) error {
	return syncEvents().put(ctx, tx, &e)
}

// DropSyncEvent takes out the row of an event: the chain has it no more.
func (tx *Tx) DropSyncEvent(ctx context.Context, key string) error {
	return syncEvents().remove(ctx, tx, key)
}

// SyncEvent returns the event with the key, or errs.NotFound.
func (r reader) SyncEvent(ctx context.Context, key string) (*SyncEvent, error) {
	return syncEvents().one(ctx, r, key)
}

// SyncEventsDue returns up to limit events that wait, the oldest first: those that were
// not tried yet, or those that were and whose time to be tried again has come.
func (r reader) SyncEventsDue(ctx context.Context, now time.Time, again bool, limit int) ([]SyncEvent, error) {
	if again {
		return syncEvents().list(ctx, r, "status = ? AND retry_at > 0 AND retry_at <= ? ORDER BY retry_at, pk LIMIT ?", string(SyncWaiting), now.UnixMicro(), limit)
	}
	return syncEvents().list(ctx, r, "status = ? AND retry_at = 0 ORDER BY number, pk LIMIT ?", string(SyncWaiting), limit)
}

// SyncEventsAbove returns up to limit events of blocks above a number of the chain that
// this node reads, the newest first.
func (r reader) SyncEventsAbove(ctx context.Context, number uint64, limit int) ([]SyncEvent, error) {
	return syncEvents().list(ctx, r, "source = '' AND number > ? ORDER BY number DESC, pk DESC LIMIT ?", int64(number), limit)
}

// CountSyncEvents returns how many events of a source have the status.
func (r reader) CountSyncEvents(ctx context.Context, source string, status SyncStatus) (n int, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM sync_events WHERE status = ? AND source = ?", string(status), source).Scan(&n); err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

// SyncTransaction returns what a chain has of a transaction that names messages, or
// errs.NotFound: it is not known, or on the chain no more. Who tells of a chain is named
// like it.
func (r reader) SyncTransaction(ctx context.Context, of message.Chain, hash string) (*Transaction, error) {
	found, err := syncEvents().list(ctx, r, "tx = ? AND source IN ('', ?) ORDER BY source DESC, pk LIMIT 1", hash, string(of))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || found[0].Chain != of {
		return nil, errs.New(errs.NotFound, "no transaction %.80s", hash)
	}
	t := found[0].Transaction()
	return &t, nil
}

// SyncSource is how far an indexer was read.
type SyncSource struct {
	Name   string          `json:"name"`   // That of its chain.
	Cursor json.RawMessage `json:"cursor"` // What the reader of the indexer goes on from.
	Events uint64          `json:"events"` // Events that it told of.
}

func syncSources() table[SyncSource] {
	return table[SyncSource]{name: "sync_sources", noun: "source", key: func(s *SyncSource) string { return s.Name }}
}

// PutSyncSource records how far an indexer was read.
func (tx *Tx) PutSyncSource(ctx context.Context, s SyncSource) error {
	return syncSources().put(ctx, tx, &s)
}

// SyncSource returns how far an indexer was read, or errs.NotFound.
func (r reader) SyncSource(ctx context.Context, name string) (*SyncSource, error) {
	return syncSources().one(ctx, r, name)
}

// PutSyncBlock records that the chain is read up to a block, or that a block below
// has events.
func (tx *Tx) PutSyncBlock(ctx context.Context, b Block) error { return syncBlocks().put(ctx, tx, &b) }

// SyncHead returns the newest block up to which the chain is read, or errs.NotFound
// before the first.
func (r reader) SyncHead(ctx context.Context) (*Block, error) {
	found, err := r.SyncBlocks(ctx, 1)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "nothing is read yet")
	}
	return &found[0], nil
}

// SyncBlocks returns up to limit blocks that are kept, the newest first; 0 is no limit.
func (r reader) SyncBlocks(ctx context.Context, limit int) ([]Block, error) {
	if limit == 0 {
		return syncBlocks().list(ctx, r, "TRUE ORDER BY number DESC")
	}
	return syncBlocks().list(ctx, r, "TRUE ORDER BY number DESC LIMIT ?", limit)
}

// DropSyncBlocks takes out blocks above a number: the chain has them no more.
func (tx *Tx) DropSyncBlocks(ctx context.Context, above uint64) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM sync_blocks WHERE number > ?", int64(above)); err != nil {
		return fmt.Errorf("drop blocks above %d: %w", above, err)
	}
	tx.touch("sync_blocks")
	return nil
}

// ForgetSyncBlocks drops blocks below the newest that is not above a number, which is
// too deep to change.
func (tx *Tx) ForgetSyncBlocks(ctx context.Context, number uint64) error {
	_, err := tx.tx.ExecContext(ctx, "DELETE FROM sync_blocks WHERE number < (SELECT MAX(b.number) FROM sync_blocks b WHERE b.number <= ?)", int64(number))
	if err != nil {
		return fmt.Errorf("forget blocks up to %d: %w", number, err)
	}
	return nil
}

// errEnough ends a list early.
var errEnough = errors.New("enough")

// EachUnconfirmed calls fn for up to limit messages that count and that no transaction
// names, the oldest first, until it returns false.
func (v *View) EachUnconfirmed(ctx context.Context, limit int64, fn func(*Message) bool) error {
	q := MessageQuery{Statuses: []MessageStatus{MessageProcessed}, Oldest: true}
	s := segment{messageCatalogue(), q.query(filter{kind: termConfirmed, values: []string{""}, not: true})}
	_, err := v.eachIn(ctx, s, 0, limit, func(m *Message) error {
		if !fn(m) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
