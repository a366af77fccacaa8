package state

import (
	"context"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// SkeletonQuery says which of the messages that ended, in the order of their
// ends; see MessageQuery for its lists.
type SkeletonQuery struct {
	Status   MessageStatus // Forgotten or removed.
	Types    []string
	Chains   []string
	Senders  []string
	Owners   []string
	Channels []string
	Payments []string
	Hashes   []message.ItemHash
	From, To time.Time // Of the end.
	Oldest   bool
}

func (q *SkeletonQuery) where() (clause string, args []any) {
	clause, args = "status = ?", []any{string(q.Status)}
	add := func(column string, values []string) {
		if values != nil {
			marks, more := in(values)
			clause, args = clause+" AND "+column+" IN "+marks, append(args, more...)
		}
	}
	add("type", q.Types)
	add("chain", q.Chains)
	add("sender", q.Senders)
	add("owner", q.Owners)
	add("channel", q.Channels)
	add("payment", q.Payments)
	if q.Hashes != nil {
		add("pk", words(q.Hashes))
	}
	if !q.From.IsZero() {
		clause, args = clause+" AND ended_at >= ?", append(args, q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		clause, args = clause+" AND ended_at < ?", append(args, q.To.UnixMicro())
	}
	return clause, args
}

// Skeletons returns up to limit of what a query finds after leaving out the first,
// offset of them, and how many there are in all. A limit of 0 is none.
func (r reader) Skeletons(ctx context.Context, q SkeletonQuery, offset, limit int64) (out []Skeleton, total int64, err error) {
	where, args := q.where()
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM skeletons WHERE "+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count skeletons: %w", err)
	}
	order := " ORDER BY ended_at DESC, pk"
	if q.Oldest {
		order = " ORDER BY ended_at, pk"
	}
	if limit == 0 {
		limit = total
	}
	out, err = r.skeletons(ctx, where+order+" LIMIT ? OFFSET ?", append(args, limit, offset)...)
	return out, total, err
}

// Reception is when a message came, whatever became of it.
type Reception struct {
	Hash       message.ItemHash
	Status     MessageStatus
	ReceivedAt time.Time
}

// ReceptionQuery says which messages, in the order of their coming.
type ReceptionQuery struct {
	Status   MessageStatus // "" is any.
	From, To time.Time
	Oldest   bool
}

// receptions is the query for what is known of messages by when they came.
func (q *ReceptionQuery) receptions() (union string, args []any) {
	tables := map[MessageStatus]string{
		MessagePending: "SELECT DISTINCT message AS pk, 'pending' AS status, received_at FROM pending", MessageRejected: "SELECT pk, 'rejected' AS status, received_at FROM rejected",
	}
	messages, skeletons := "SELECT pk, status, received_at FROM messages", "SELECT pk, status, received_at FROM skeletons"
	var parts []string
	switch q.Status {
	case "":
		parts = []string{messages, skeletons, tables[MessagePending], tables[MessageRejected]}
	case MessageProcessed, MessageRemoving:
		parts = []string{messages}
	case MessageForgotten, MessageRemoved:
		parts = []string{skeletons}
	case MessagePending, MessageRejected:
		parts = []string{tables[q.Status]}
	}
	for i, part := range parts {
		where, more := " WHERE TRUE", []any{}
		if q.Status != "" && (part == messages || part == skeletons) {
			where, more = where+" AND status = ?", append(more, string(q.Status))
		}
		if !q.From.IsZero() {
			where, more = where+" AND received_at >= ?", append(more, q.From.UnixMicro())
		}
		if !q.To.IsZero() {
			where, more = where+" AND received_at < ?", append(more, q.To.UnixMicro())
		}
		if i > 0 {
			union += " UNION ALL "
		}
		union, args = union+part+where, append(args, more...)
	}
	return union, args
}

// Receptions returns up to limit of what a query finds after leaving out the
// first, offset of them, and how many there are in all. A limit of 0 is none.
func (r reader) Receptions(ctx context.Context, q ReceptionQuery, offset, limit int64) (out []Reception, total int64, err error) {
	union, args := q.receptions()
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM ("+union+") AS known", args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count receptions: %w", err)
	}
	order := " ORDER BY received_at DESC, pk"
	if q.Oldest {
		order = " ORDER BY received_at, pk"
	}
	if limit == 0 {
		limit = total
	}
	err = r.each(ctx, union+order+" LIMIT ? OFFSET ?", append(args, limit, offset), func(scan func(...any) error) error {
		var rec Reception
		var at int64
		err := scan(&rec.Hash, &rec.Status, &at)
		rec.ReceivedAt = micro(at)
		out = append(out, rec)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read receptions: %w", err)
	}
	return out, total, nil
}
