package state

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Cost is what a message costs its owner, as of when it was processed. Amounts are
// decimal texts: tokens held, tokens per second, credits per second.
type Cost struct {
	Message message.ItemHash
	ID      int64 // Of the message.
	Owner   string
	Payment message.PaymentType
	Hold    string
	Stream  string
	Credit  string
	Lines   json.RawMessage
}

const costColumns = "pk, id, owner, payment, hold, stream, credit, lines"

// PutCost writes a cost.
func (tx *Tx) PutCost(ctx context.Context, c Cost) error {
	row := []any{string(c.Message), c.ID, c.Owner, string(c.Payment), c.Hold, c.Stream, c.Credit, string(c.Lines)}
	tx.touch("costs")
	return tx.insert(ctx, "costs ("+costColumns+")", [][]any{row},
		" ON CONFLICT (pk) DO UPDATE SET hold = excluded.hold, stream = excluded.stream, credit = excluded.credit, lines = excluded.lines")
}

// DropCost takes out the cost of a message that ended.
func (tx *Tx) DropCost(ctx context.Context, hash message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM costs WHERE pk = ?", string(hash)); err != nil {
		return fmt.Errorf("drop cost of %s: %w", hash, err)
	}
	return nil
}

func (r reader) costs(ctx context.Context, where string, args ...any) (out []Cost, err error) {
	err = r.each(ctx, "SELECT "+costColumns+" FROM costs WHERE "+where, args, func(scan func(...any) error) error {
		var c Cost
		var lines string
		err := scan(&c.Message, &c.ID, &c.Owner, &c.Payment, &c.Hold, &c.Stream, &c.Credit, &lines)
		c.Lines = json.RawMessage(lines)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read costs: %w", err)
	}
	return out, nil
}

// Cost returns what a message costs, or errs.NotFound.
func (r reader) Cost(ctx context.Context, hash message.ItemHash) (*Cost, error) {
	found, err := r.costs(ctx, "pk = ?", string(hash))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "message %s has no cost", hash)
	}
	return &found[0], nil
}

// CostsOf returns the costs of an owner that are paid in a way, in the order in
// which their messages were processed.
func (r reader) CostsOf(ctx context.Context, owner string, payment message.PaymentType) ([]Cost, error) {
	return r.costs(ctx, "owner = ? AND payment = ? ORDER BY id, pk", owner, string(payment))
}

// CostQuery says which costs, newest first; "" is any.
type CostQuery struct {
	Owner   string
	Message message.ItemHash
	Payment message.PaymentType
}

func (q *CostQuery) where() (where string, args []any) {
	where = "TRUE"
	for _, c := range []struct{ column, value string }{{"owner", q.Owner}, {"pk", string(q.Message)}, {"payment", string(q.Payment)}} {
		if c.value != "" {
			where, args = where+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	return where, args
}

// Costs returns up to limit of what a query finds after leaving out the first,
// offset of them, and how many there are in all. A limit of 0 is none.
func (r reader) Costs(ctx context.Context, q CostQuery, offset, limit int64) (out []Cost, total int64, err error) {
	where, args := q.where()
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM costs WHERE "+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count costs: %w", err)
	}
	if limit == 0 {
		limit = total
	}
	out, err = r.costs(ctx, where+" ORDER BY id DESC, pk LIMIT ? OFFSET ?", append(args, limit, offset)...)
	return out, total, err
}

// EachCost calls fn for what a query finds, in no order and without the lines.
func (r reader) EachCost(ctx context.Context, q CostQuery, fn func(Cost) error) error {
	where, args := q.where()
	err := r.each(ctx, "SELECT pk, id, owner, payment, hold, stream, credit FROM costs WHERE "+where, args, func(scan func(...any) error) error {
		var c Cost
		if err := scan(&c.Message, &c.ID, &c.Owner, &c.Payment, &c.Hold, &c.Stream, &c.Credit); err != nil {
			return err
		}
		return fn(c)
	})
	if err != nil {
		return fmt.Errorf("read costs: %w", err)
	}
	return nil
}
