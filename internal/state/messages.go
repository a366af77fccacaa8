package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// MessageStatus is what the node makes of a message. See section 4.1 of the
// protocol.
type MessageStatus string

// The statuses of messages.
const (
	MessagePending   MessageStatus = "pending"
	MessageProcessed MessageStatus = "processed"
	MessageRejected  MessageStatus = "rejected"
	MessageForgotten MessageStatus = "forgotten"
	MessageRemoving  MessageStatus = "removing"
	MessageRemoved   MessageStatus = "removed"
)

// Message is a message that was processed and still counts.
type Message struct {
	ID         int64 // Its place in the order of processing; no two have the same.
	Envelope   message.Envelope
	Content    []byte    // Exact bytes: item_content, or the file that item_hash names.
	Owner      string    // content.address
	MadeAt     time.Time // content.time
	Status     MessageStatus
	Reason     string // Why it is being removed.
	ReceivedAt time.Time
	Quiet      bool            // Came from a chain: nobody is told of it live.
	Parsed     message.Content // Of a message that is added; rows that are read have none.
}

// NewMessage is a message that counts, with its exact content and what that says.
func NewMessage(e *message.Envelope, content []byte, c message.Content, receivedAt time.Time) *Message {
	return &Message{Envelope: *e, Content: content, Owner: c.Owner(), MadeAt: c.At(), Status: MessageProcessed, ReceivedAt: receivedAt, Parsed: c}
}

// View is the message as nodes show it, but for its confirmations.
func (m *Message) View() message.View {
	return message.View{Envelope: &m.Envelope, Content: m.Content}
}

// Body is the content of the message by the rules of today.
func (m *Message) Body() (message.Content, error) {
	if m.Parsed != nil {
		return m.Parsed, nil
	}
	return message.ParseContent(&m.Envelope, m.Content)
}

// Kinds of terms in the catalogues of messages and of posts.
const (
	termSender uint8 = iota + 1
	termOwner
	termType
	termChain
	termChannel
	termRef
	termFile
	termKey
	termContentType
	termTag
	termPayment
	termRemoving
	termConfirmed
	termHeight
)

func messageCatalogue() catalogue { return catalogue{"message"} }

// labels is what a list can be filtered by in a message.
func (m *Message) labels() (message.Labels, error) {
	c, err := m.Body()
	if err != nil {
		return message.Labels{}, fmt.Errorf("read content of message %s: %w", m.Envelope.ItemHash, err)
	}
	return message.LabelsOf(c), nil
}

// terms are what the catalogue knows of a message, but for its status and its
// confirmation.
func (m *Message) terms() ([]term, error) {
	l, err := m.labels()
	if err != nil {
		return nil, err
	}
	e := &m.Envelope
	out := append(make([]term, 0, 16), term{termSender, e.Sender}, term{termOwner, m.Owner}, term{termType, string(e.Type)}, term{termChain, string(e.Chain)})
	if e.Channel != nil {
		out = append(out, term{termChannel, *e.Channel})
	}
	return append(out, termsOf(l)...), nil
}

func termsOf(l message.Labels) (out []term) {
	if l.Ref != nil {
		out = append(out, term{termRef, *l.Ref})
	}
	if l.File != nil {
		out = append(out, term{termFile, string(*l.File)})
	}
	if l.Key != nil {
		out = append(out, term{termKey, *l.Key})
	}
	if l.Type != nil {
		out = append(out, term{termContentType, *l.Type})
	}
	if l.Payment != nil {
		out = append(out, term{termPayment, string(*l.Payment)})
	}
	for _, tag := range l.Tags {
		out = append(out, term{termTag, tag})
	}
	return out
}

// Of most messages it is said neither that they are being removed nor, for long, that
// a transaction names them: what is said of all would be written with each.
func removing() term  { return term{kind: termRemoving} }
func confirmed() term { return term{kind: termConfirmed} }

const messageColumns = "id, pk, type, status, chain, sender, owner, channel, at, made_at, item_type, content, signature, received_at, reason, quiet"

// AddMessages adds messages that are not here, in this order, and sets their ID.
// What they make besides is added by others.
func (tx *Tx) AddMessages(ctx context.Context, all []*Message) error {
	docs := make([]document, len(all))
	for i, m := range all {
		terms, err := m.terms()
		if err != nil {
			return err
		}
		if m.Status == MessageRemoving {
			terms = append(terms, removing())
		}
		docs[i] = document{m.Envelope.Time.UnixMicro(), terms}
	}
	ids, err := messageCatalogue().add(ctx, tx, docs)
	if err != nil {
		return err
	}
	rows := make([][]any, len(all))
	for i, m := range all {
		m.ID = ids[i]
		e := &m.Envelope
		rows[i] = []any{
			m.ID, string(e.ItemHash), string(e.Type), string(m.Status), string(e.Chain), e.Sender, m.Owner, null(e.Channel), e.Time.UnixMicro(),
			m.MadeAt.UnixMicro(), string(e.ItemType), string(m.Content), e.Signature, m.ReceivedAt.UnixMicro(), m.Reason, number(m.Quiet),
		}
	}
	if err := tx.insert(ctx, "messages ("+messageColumns+")", rows, ""); err != nil {
		return err
	}
	tx.touch("messages")
	tx.move(all, false)
	if err := tx.countSenders(ctx, all, 1); err != nil {
		return err
	}
	return tx.addWords(ctx, all)
}

// RemoveMessage takes out a message. What it made is taken out by others.
func (tx *Tx) RemoveMessage(ctx context.Context, m *Message) error {
	terms, err := m.terms()
	if err != nil {
		return err
	}
	if err := messageCatalogue().remove(ctx, tx, m.ID, append(terms, removing(), confirmed())); err != nil {
		return err
	}
	if err := tx.unconfirm(ctx, m, terms); err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM messages WHERE id = ?", m.ID); err != nil {
		return fmt.Errorf("delete message %s: %w", m.Envelope.ItemHash, err)
	}
	if err := tx.forgetRemoval(ctx, m.Envelope.ItemHash); err != nil {
		return err
	}
	tx.touch("messages")
	tx.move([]*Message{m}, true)
	return tx.countSenders(ctx, []*Message{m}, -1)
}

// SetMessageStatus moves a message between processed and removing, with the
// reason.
func (tx *Tx) SetMessageStatus(ctx context.Context, m *Message, status MessageStatus, reason string) error {
	move := func(c catalogue, id int64) error {
		return c.change(ctx, tx, removing().key(), id/blockSize, func(b *bitset) {
			if b.clear(int(id % blockSize)); status == MessageRemoving {
				b.set(int(id % blockSize))
			}
		})
	}
	if err := move(messageCatalogue(), m.ID); err != nil {
		return err
	}
	var id int64
	err := tx.q.QueryRowContext(ctx, "SELECT id FROM confirmed WHERE message = ?", m.ID).Scan(&id)
	if err == nil {
		err = move(confirmedCatalogue(), id)
	} else if isMissing(err) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("set status of confirmed message %s: %w", m.Envelope.ItemHash, err)
	}
	m.Status, m.Reason = status, reason
	if _, err := tx.tx.ExecContext(ctx, "UPDATE messages SET status = ?, reason = ? WHERE id = ?", string(status), reason, m.ID); err != nil {
		return fmt.Errorf("set status of message %s: %w", m.Envelope.ItemHash, err)
	}
	tx.touch("messages")
	return nil
}

func scanMessage(scan func(...any) error) (*Message, error) {
	var m Message
	var channel sql.NullString
	var at, madeAt, receivedAt, quiet int64
	var content string
	e := &m.Envelope
	err := scan(&m.ID, &e.ItemHash, &e.Type, &m.Status, &e.Chain, &e.Sender, &m.Owner, &channel, &at, &madeAt, &e.ItemType, &content,
		&e.Signature, &receivedAt, &m.Reason, &quiet)
	if err != nil {
		return nil, err
	}
	if channel.Valid {
		e.Channel = &channel.String
	}
	if m.Content = []byte(content); e.ItemType == message.Inline {
		e.ItemContent = content
	}
	e.Time, m.MadeAt, m.ReceivedAt, m.Quiet = micro(at), micro(madeAt), micro(receivedAt), quiet != 0
	return &m, nil
}

func (r reader) messages(ctx context.Context, where string, args ...any) (out []*Message, err error) {
	err = r.each(ctx, "SELECT "+messageColumns+" FROM messages WHERE "+where, args, func(scan func(...any) error) error {
		m, err := scanMessage(scan)
		out = append(out, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	return out, nil
}

// Message returns the message with the hash if it was processed, or
// errs.NotFound. Known tells of others too.
func (r reader) Message(ctx context.Context, hash message.ItemHash) (*Message, error) {
	found, err := r.messages(ctx, "pk = ?", string(hash))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no message %s", hash)
	}
	return found[0], nil
}

// MessagesByHash returns those of the messages that are here, in no order.
func (r reader) MessagesByHash(ctx context.Context, hashes []message.ItemHash) (out []*Message, err error) {
	for chunk := range chunks(hashes) {
		marks, args := in(chunk)
		found, err := r.messages(ctx, "pk IN "+marks, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// MessagesByID returns the messages with the ids that are here, by id.
func (r reader) MessagesByID(ctx context.Context, ids []int64) (map[int64]*Message, error) {
	out := make(map[int64]*Message, len(ids))
	for chunk := range chunks(ids) {
		found, err := r.messages(ctx, "id IN "+marks(len(chunk)), anys(chunk)...)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			out[m.ID] = m
		}
	}
	return out, nil
}

// MessagesAfter returns up to limit messages that were processed after the one
// with the id, in the order of processing.
func (r reader) MessagesAfter(ctx context.Context, id int64, limit int) ([]*Message, error) {
	return r.messages(ctx, "id > ? ORDER BY id LIMIT ?", id, limit)
}

// LastMessage returns the greatest ID of a message, -1 if there is none.
func (r reader) LastMessage(ctx context.Context) (id int64, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), -1) FROM messages").Scan(&id); err != nil {
		return 0, fmt.Errorf("read the last message: %w", err)
	}
	return id, nil
}

// Standing is what is known of an item hash in short.
type Standing struct {
	Status    MessageStatus
	Signature string // Of a message or a skeleton.
	ID        int64  // Of a message.
}

// Standings returns what is known of hashes; one that is not known is not in it.
func (r reader) Standings(ctx context.Context, hashes []message.ItemHash) (map[message.ItemHash]Standing, error) {
	out := map[message.ItemHash]Standing{}
	// What is read later counts more.
	for _, query := range []string{
		"SELECT pk, 'rejected', '', 0 FROM rejected WHERE pk IN ", "SELECT message, 'pending', '', 0 FROM pending WHERE message IN ",
		"SELECT pk, status, signature, 0 FROM skeletons WHERE pk IN ", "SELECT pk, status, signature, id FROM messages WHERE pk IN ",
	} {
		for chunk := range chunks(hashes) {
			marks, args := in(chunk)
			err := r.each(ctx, query+marks, args, func(scan func(...any) error) error {
				var hash message.ItemHash
				var s Standing
				if err := scan(&hash, &s.Status, &s.Signature, &s.ID); err != nil {
					return err
				}
				out[hash] = s
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("read standings: %w", err)
			}
		}
	}
	return out, nil
}

// Known is all that is known of an item hash. Which field is set depends on the
// status: Message of processed and removing ones, Pending, Rejected, or Skeleton
// of forgotten and removed ones.
type Known struct {
	Status     MessageStatus
	ReceivedAt time.Time
	Message    *Message
	Pending    []Pending
	Rejected   *Rejected
	Skeleton   *Skeleton
}

// Known returns all that is known of an item hash, or errs.NotFound.
func (r reader) Known(ctx context.Context, hash message.ItemHash) (*Known, error) {
	m, err := r.Message(ctx, hash)
	if err == nil {
		return &Known{Status: m.Status, ReceivedAt: m.ReceivedAt, Message: m}, nil
	}
	if !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	s, err := r.Skeleton(ctx, hash)
	if err == nil {
		return &Known{Status: s.Status, ReceivedAt: s.ReceivedAt, Skeleton: s}, nil
	}
	if !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	waiting, err := r.PendingFor(ctx, hash)
	if err != nil {
		return nil, err
	}
	if len(waiting) > 0 {
		return &Known{Status: MessagePending, ReceivedAt: waiting[0].ReceivedAt, Pending: waiting}, nil
	}
	rejected, err := r.Rejected(ctx, hash)
	if err != nil {
		return nil, err
	}
	return &Known{Status: MessageRejected, ReceivedAt: rejected.ReceivedAt, Rejected: rejected}, nil
}

// digest stands for texts that may be long where they are looked for.
func digest(texts ...string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	const enough = 16
	return sum[:enough]
}

// micro is the time of a column.
func micro(at int64) time.Time { return time.UnixMicro(at).UTC() }

// null is an optional text as a column has it.
func null[T ~string](s *T) sql.NullString {
	if s == nil {
		return sql.NullString{}
	}
	return sql.NullString{String: string(*s), Valid: true}
}

// optional is what a column has of an optional text.
func optional[T ~string](s sql.NullString) *T {
	if !s.Valid {
		return nil
	}
	out := T(s.String)
	return &out
}

func anys[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// encoded is a list as a column has it.
func encoded[T any](list []T) (string, error) {
	raw, err := json.Marshal(slices.Concat([]T{}, list))
	return string(raw), err
}

// touch wakes who waits for a table whose changes are not logged one by one.
func (tx *Tx) touch(topic string) { tx.touched[topic] = true }
