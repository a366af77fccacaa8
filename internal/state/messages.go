package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// MessageStatus is what the node makes of a message.
type MessageStatus string

// The statuses of the message network that this node uses.
const (
	MessagePending   MessageStatus = "pending"
	MessageProcessed MessageStatus = "processed"
	MessageRejected  MessageStatus = "rejected"
)

// Message is a message and its verdict.
type Message struct {
	ItemHash   message.ItemHash `json:"item_hash"`
	Type       string           `json:"type"`
	Sender     string           `json:"sender"`
	Owner      string           `json:"owner"` // The address of the content.
	Envelope   json.RawMessage  `json:"envelope"`
	Status     MessageStatus    `json:"status"`
	Code       int              `json:"code,omitempty"`   // Of a rejection; see protocol/message.
	Detail     string           `json:"detail,omitempty"` // Of a rejection or of what is waited for.
	Attempts   int              `json:"attempts,omitempty"`
	RetryAt    time.Time        `json:"retry_at,omitzero"`
	ReceivedAt time.Time        `json:"received_at"`
}

func messages() table[Message] {
	return table[Message]{
		name: "messages", noun: "message",
		key: func(m *Message) string { return string(m.ItemHash) },
		cols: []column[Message]{
			{"type", func(m *Message) any { return m.Type }},
			{"status", func(m *Message) any { return string(m.Status) }},
			{"sender", func(m *Message) any { return m.Sender }},
			{"received_at", func(m *Message) any { return m.ReceivedAt.UnixMicro() }},
			{"retry_at", func(m *Message) any { return m.RetryAt.UnixMicro() }},
		},
	}
}

// PutMessage writes a message's row.
func (tx *Tx) PutMessage(ctx context.Context, m Message) error { return messages().put(ctx, tx, &m) }

// Message returns the message with the hash, or errs.NotFound.
func (r reader) Message(ctx context.Context, hash message.ItemHash) (*Message, error) {
	return messages().one(ctx, r, string(hash))
}

// MessagesWith returns up to limit messages with the status, oldest first.
func (r reader) MessagesWith(ctx context.Context, status MessageStatus, limit int) ([]Message, error) {
	return messages().list(ctx, r, "status = ? ORDER BY received_at, pk LIMIT ?", string(status), limit)
}

// MessagesDue returns up to limit pending messages whose RetryAt is not after
// now, the longest due first.
func (r reader) MessagesDue(ctx context.Context, now time.Time, limit int) ([]Message, error) {
	return messages().list(ctx, r, "status = ? AND retry_at <= ? ORDER BY retry_at, pk LIMIT ?", string(MessagePending), now.UnixMicro(), limit)
}

// CountMessages returns how many messages have the status.
func (r reader) CountMessages(ctx context.Context, status MessageStatus) (n int, err error) {
	err = r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE status = ?", string(status)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s messages: %w", status, err)
	}
	return n, nil
}

// File is a blob that a STORE message names.
type File struct {
	Ref       message.ItemHash `json:"ref"` // Item hash of the STORE message.
	Hash      message.ItemHash `json:"hash"`
	Owner     string           `json:"owner"`
	Name      string           `json:"name,omitempty"`
	SizeBytes int64            `json:"size_bytes,omitempty"`
	CreatedAt time.Time        `json:"created_at"`
}

func files() table[File] {
	return table[File]{
		name: "files", noun: "file",
		key: func(f *File) string { return string(f.Ref) },
		cols: []column[File]{
			{"file_hash", func(f *File) any { return string(f.Hash) }},
			{"owner", func(f *File) any { return f.Owner }},
		},
	}
}

// PutFile writes a file's row.
func (tx *Tx) PutFile(ctx context.Context, f File) error { return files().put(ctx, tx, &f) }

// File returns the file that the STORE message with the hash ref names, or
// errs.NotFound.
func (r reader) File(ctx context.Context, ref message.ItemHash) (*File, error) {
	return files().one(ctx, r, string(ref))
}

// Files returns every file, by ref.
func (r reader) Files(ctx context.Context) ([]File, error) {
	return files().list(ctx, r, "TRUE ORDER BY pk")
}
