package state

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// CoreMessage is a message that is to be handed to core channel nodes, and that none
// has taken yet.
type CoreMessage struct {
	Hash     message.ItemHash `json:"item_hash"`
	Envelope json.RawMessage  `json:"envelope"`
	At       time.Time        `json:"at"`    // When it came.
	Tries    int              `json:"tries"` // How often it was handed in, or may have been.
	Due      time.Time        `json:"due"`   // Of the next try.
	Detail   string           `json:"detail,omitempty"`
}

func coreMessages() table[CoreMessage] {
	return table[CoreMessage]{name: "core_messages", noun: "message to hand in", key: func(m *CoreMessage) string { return string(m.Hash) }}
}

// PutCoreMessage writes the row of a message.
func (tx *Tx) PutCoreMessage(ctx context.Context, m CoreMessage) error {
	return coreMessages().put(ctx, tx, &m)
}

// RemoveCoreMessage forgets a message: a core channel node has it, or none will.
func (tx *Tx) RemoveCoreMessage(ctx context.Context, hash message.ItemHash) error {
	return coreMessages().remove(ctx, tx, string(hash))
}

// CoreMessages returns all messages that are to be handed in.
func (r reader) CoreMessages(ctx context.Context) ([]CoreMessage, error) {
	return coreMessages().list(ctx, r, "TRUE ORDER BY pk")
}
