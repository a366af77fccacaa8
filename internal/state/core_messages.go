package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// CoreMessage is a message that is to be handed to core channel nodes, and that none
// has taken yet.
type CoreMessage struct {
	Hash     message.ItemHash `json:"item_hash"`
	Program  message.ItemHash `json:"program,omitempty"` // That published it; "" for rows of older versions.
	Envelope json.RawMessage  `json:"envelope"`
	At       time.Time        `json:"at"`    // When it came.
	Tries    int              `json:"tries"` // How often it was handed in, or may have been.
	Due      time.Time        `json:"due"`   // Of the next try.
	Detail   string           `json:"detail,omitempty"`
}

func coreMessages() table[CoreMessage] {
	return table[CoreMessage]{
		name: "core_messages", noun: "message to hand in",
		key: func(m *CoreMessage) string { return string(m.Hash) },
		cols: []column[CoreMessage]{
			{"program", func(m *CoreMessage) any { return string(m.Program) }},
			{"bytes", func(m *CoreMessage) any { return len(m.Envelope) + coreRowBytes }},
			{"due", func(m *CoreMessage) any { return m.Due.UnixMilli() }},
		},
	}
}

// coreRowBytes is what a row counts beside its envelope: there are no more small ones
// than there is room for.
const coreRowBytes = 1 << 10

// CoreLoad is how much waits for core channel nodes.
type CoreLoad struct {
	Messages int
	Bytes    int64
}

// PutCoreMessage writes the row of a message.
func (tx *Tx) PutCoreMessage(ctx context.Context, m CoreMessage) error {
	return coreMessages().put(ctx, tx, &m)
}

// RemoveCoreMessage forgets a message: a core channel node has it, or none will.
func (tx *Tx) RemoveCoreMessage(ctx context.Context, hash message.ItemHash) error {
	return coreMessages().remove(ctx, tx, string(hash))
}

// CoreMessage returns a message that is to be handed in, or errs.NotFound.
func (r reader) CoreMessage(ctx context.Context, hash message.ItemHash) (*CoreMessage, error) {
	return coreMessages().one(ctx, r, string(hash))
}

// DueCoreMessages returns what is to be handed in by now, what is due longest first, so
// many at most.
func (r reader) DueCoreMessages(ctx context.Context, now time.Time, limit int) ([]CoreMessage, error) {
	return coreMessages().list(ctx, r, "due <= ? ORDER BY due, pk LIMIT ?", now.UnixMilli(), limit)
}

// CoreLoads returns how much of a program waits, and of all.
func (r reader) CoreLoads(ctx context.Context, program message.ItemHash) (own, all CoreLoad, err error) {
	for _, q := range []struct {
		out   *CoreLoad
		where string
		args  []any
	}{{&own, " WHERE program = ?", []any{string(program)}}, {&all, "", nil}} {
		row := r.q.QueryRowContext(ctx, "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM core_messages"+q.where, q.args...)
		if err := row.Scan(&q.out.Messages, &q.out.Bytes); err != nil {
			return own, all, fmt.Errorf("count messages to hand in: %w", err)
		}
	}
	return own, all, nil
}

// CoreMessages returns all messages that are to be handed in.
func (r reader) CoreMessages(ctx context.Context) ([]CoreMessage, error) {
	return coreMessages().list(ctx, r, "TRUE ORDER BY pk")
}
