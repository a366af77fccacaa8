package state

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Aggregate is the value that an owner keeps under a key: of each name the value
// of the newest element that has it, by content.time and then by hash. See section
// 4.6 of the protocol.
type Aggregate struct {
	Owner   string
	Key     string
	Content json.RawMessage // An object; names in the order of length, then of bytes.
	Created time.Time       // Of the oldest element.
	Updated time.Time       // Of the newest.
	First   message.ItemHash
	Last    message.ItemHash
}

// AddElements enters AGGREGATEs that were added as messages.
func (tx *Tx) AddElements(ctx context.Context, all []*Message) error {
	for _, m := range all {
		if err := tx.addElement(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) addElement(ctx context.Context, m *Message) error {
	content, err := aggregateOf(m)
	if err != nil {
		return err
	}
	hash, at := string(m.Envelope.ItemHash), m.MadeAt.UnixMicro()
	key := content.Key.String()
	pk := digest(m.Owner, key)
	var id int64
	// The place in time of first and last is the greater one of (time, hash).
	err = tx.q.QueryRowContext(ctx, "INSERT INTO aggregates (id, pk, owner, name, created, updated, first, last)"+
		" VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM aggregates), ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pk) DO UPDATE SET"+
		" created = CASE WHEN excluded.created < aggregates.created THEN excluded.created ELSE aggregates.created END,"+
		" first = CASE WHEN excluded.created < aggregates.created OR excluded.created = aggregates.created AND excluded.first < aggregates.first THEN excluded.first ELSE aggregates.first END,"+
		" updated = CASE WHEN excluded.updated > aggregates.updated THEN excluded.updated ELSE aggregates.updated END,"+
		" last = CASE WHEN excluded.updated > aggregates.updated OR excluded.updated = aggregates.updated AND excluded.last > aggregates.last THEN excluded.last ELSE aggregates.last END,"+
		" changes = aggregates.changes + 1 RETURNING id", pk, m.Owner, key, at, at, hash, hash).Scan(&id)
	if err != nil {
		return fmt.Errorf("write aggregate %.80q of %s: %w", key, m.Owner, err)
	}
	if err := tx.insert(ctx, "elements (message, aggregate, at)", [][]any{{m.ID, id, at}}, ""); err != nil {
		return err
	}
	tx.touch("aggregates")
	return tx.setValues(ctx, id, at, hash, content.Content)
}

// setValues gives names their values, where they have none that is newer.
func (tx *Tx) setValues(ctx context.Context, id, at int64, hash string, content json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return fmt.Errorf("read element %s: %w", hash, err)
	}
	rows := make([][]any, 0, len(fields))
	for name, value := range fields {
		rows = append(rows, []any{id, digest(name), name, at, hash, string(value)})
	}
	return tx.insert(ctx, "aggregate_values (aggregate, pk, name, at, message, value)", rows, " ON CONFLICT (aggregate, pk) DO UPDATE SET at = excluded.at,"+
		" message = excluded.message, value = excluded.value WHERE excluded.at > aggregate_values.at OR excluded.at = aggregate_values.at AND excluded.message > aggregate_values.message")
}

func aggregateOf(m *Message) (*message.Aggregate, error) {
	c, err := m.Body()
	if err != nil {
		return nil, err
	}
	a, ok := c.(*message.Aggregate)
	if !ok {
		return nil, errs.New(errs.Internal, "BUG: message %s is no AGGREGATE", m.Envelope.ItemHash)
	}
	return a, nil
}

// RemoveElement takes back an element, whose message is still here, and decides
// anew what the names have that it gave.
func (tx *Tx) RemoveElement(ctx context.Context, m *Message) error {
	var id int64
	if err := tx.q.QueryRowContext(ctx, "SELECT aggregate FROM elements WHERE message = ?", m.ID).Scan(&id); err != nil {
		if isMissing(err) {
			return nil
		}
		return fmt.Errorf("find element %s: %w", m.Envelope.ItemHash, err)
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM elements WHERE message = ?", m.ID); err != nil {
		return fmt.Errorf("remove element %s: %w", m.Envelope.ItemHash, err)
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM aggregate_values WHERE aggregate = ? AND message = ?", id, string(m.Envelope.ItemHash)); err != nil {
		return fmt.Errorf("remove values of element %s: %w", m.Envelope.ItemHash, err)
	}
	tx.touch("aggregates")
	rest, err := tx.elementsOf(ctx, id)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		_, err := tx.tx.ExecContext(ctx, "DELETE FROM aggregates WHERE id = ?", id)
		return err
	}
	for _, e := range rest {
		content, err := aggregateOf(e)
		if err != nil {
			return err
		}
		if err := tx.setValues(ctx, id, e.MadeAt.UnixMicro(), string(e.Envelope.ItemHash), content.Content); err != nil {
			return err
		}
	}
	first, last := rest[0], rest[len(rest)-1]
	_, err = tx.tx.ExecContext(ctx, "UPDATE aggregates SET created = ?, first = ?, updated = ?, last = ?, changes = changes + 1 WHERE id = ?", first.MadeAt.UnixMicro(),
		string(first.Envelope.ItemHash), last.MadeAt.UnixMicro(), string(last.Envelope.ItemHash), id)
	return err
}

// elementsOf are the messages of an aggregate, oldest first.
func (r reader) elementsOf(ctx context.Context, id int64) ([]*Message, error) {
	return r.messages(ctx, "id IN (SELECT message FROM elements WHERE aggregate = ?) ORDER BY made_at, pk", id)
}

// Elements returns the messages of an aggregate, oldest first.
func (r reader) Elements(ctx context.Context, owner, key string) ([]*Message, error) {
	var id int64
	err := r.q.QueryRowContext(ctx, "SELECT id FROM aggregates WHERE pk = ?", digest(owner, key)).Scan(&id)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find aggregate %.80q of %s: %w", key, owner, err)
	}
	return r.elementsOf(ctx, id)
}

// ForgetAggregate notes that an aggregate was forgotten as a whole: elements up to
// the time that come later are forgotten too.
func (tx *Tx) ForgetAggregate(ctx context.Context, owner, key string, until time.Time, by message.ItemHash) error {
	return tx.insert(ctx, "aggregates_forgotten (pk, message, until)", [][]any{{digest(owner, key), string(by), until.UnixMicro()}}, " ON CONFLICT DO NOTHING")
}

// UnforgetAggregates takes back what a message has forgotten as a whole.
func (tx *Tx) UnforgetAggregates(ctx context.Context, owner string, keys []message.ItemHash, by message.ItemHash) error {
	for _, key := range keys {
		_, err := tx.tx.ExecContext(ctx, "DELETE FROM aggregates_forgotten WHERE pk = ? AND message = ?", digest(owner, string(key)), string(by))
		if err != nil {
			return fmt.Errorf("take back that aggregate %s of %s was forgotten: %w", key, owner, err)
		}
	}
	return nil
}

// AggregateForgotten returns the messages that forgot an aggregate as a whole from
// a time on, by hash.
func (r reader) AggregateForgotten(ctx context.Context, owner, key string, from time.Time) (by []message.ItemHash, err error) {
	query := "SELECT message FROM aggregates_forgotten WHERE pk = ? AND until >= ? ORDER BY message"
	err = r.each(ctx, query, []any{digest(owner, key), from.UnixMicro()}, func(scan func(...any) error) error {
		var hash message.ItemHash
		err := scan(&hash)
		by = append(by, hash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find whether aggregate %.80q of %s was forgotten: %w", key, owner, err)
	}
	return by, nil
}

// aggregateRow is an aggregate without its content.
type aggregateRow struct {
	Aggregate
	id int64
}

func (r reader) aggregates(ctx context.Context, where string, args ...any) (out []aggregateRow, err error) {
	err = r.each(ctx, "SELECT id, owner, name, created, updated, first, last FROM aggregates WHERE "+where, args, func(scan func(...any) error) error {
		var a aggregateRow
		var created, updated int64
		err := scan(&a.id, &a.Owner, &a.Key, &created, &updated, &a.First, &a.Last)
		a.Created, a.Updated = micro(created), micro(updated)
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read aggregates: %w", err)
	}
	return out, nil
}

// fillAggregates reads the contents of aggregates.
func (r reader) fillAggregates(ctx context.Context, rows []aggregateRow) ([]Aggregate, error) {
	type field struct{ name, value string }
	fields := map[int64][]field{}
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.id
	}
	for chunk := range chunks(ids) {
		err := r.each(ctx, "SELECT aggregate, name, value FROM aggregate_values WHERE aggregate IN "+marks(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			var id int64
			var f field
			err := scan(&id, &f.name, &f.value)
			fields[id] = append(fields[id], f)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read contents of aggregates: %w", err)
		}
	}
	out := make([]Aggregate, len(rows))
	for i, row := range rows {
		mine := fields[row.id]
		slices.SortFunc(mine, func(a, b field) int {
			return cmp.Or(cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
		})
		var b bytes.Buffer
		b.WriteByte('{')
		for j, f := range mine {
			if j > 0 {
				b.WriteByte(',')
			}
			name, err := encodeText(f.name)
			if err != nil {
				return nil, err
			}
			b.Write(name)
			b.WriteByte(':')
			b.WriteString(f.value)
		}
		b.WriteByte('}')
		row.Content = b.Bytes()
		out[i] = row.Aggregate
	}
	return out, nil
}

// encodeText is a text as JSON, without the escapes for HTML.
func encodeText(s string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("encode text: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Aggregate returns an owner's aggregate, or errs.NotFound.
func (r reader) Aggregate(ctx context.Context, owner, key string) (*Aggregate, error) {
	rows, err := r.aggregates(ctx, "pk = ?", digest(owner, key))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errs.New(errs.NotFound, "%s has no aggregate %.80q", owner, key)
	}
	all, err := r.fillAggregates(ctx, rows)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// AggregateQuery says which aggregates, in the order of times and then of owners
// and keys.
type AggregateQuery struct {
	Owners    []string // nil is any
	Keys      []string // nil is any
	ByCreated bool     // In the order of Created, not of Updated.
	Oldest    bool
	After     *AggregatePlace
}

// AggregatePlace is an aggregate's place in the order of a query.
type AggregatePlace struct {
	At    time.Time
	Owner string
	Key   string
}

// Aggregates returns up to limit of what a query finds after leaving out the
// first, offset of them, and how many there are in all. A limit of 0 is none.
func (r reader) Aggregates(ctx context.Context, q AggregateQuery, offset, limit int64) (out []Aggregate, total int64, err error) {
	where, args := "TRUE", []any{}
	if q.Owners != nil {
		marks, more := in(q.Owners)
		where, args = where+" AND owner IN "+marks, append(args, more...)
	}
	if q.Keys != nil {
		marks, more := in(q.Keys)
		where, args = where+" AND name IN "+marks, append(args, more...)
	}
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM aggregates WHERE "+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count aggregates: %w", err)
	}
	column, order, sign := "updated", " DESC", "<"
	if q.ByCreated {
		column = "created"
	}
	if q.Oldest {
		order, sign = " ASC", ">"
	}
	if p := q.After; p != nil {
		at := p.At.UnixMicro()
		where += " AND (" + column + " " + sign + " ? OR " + column + " = ? AND (owner > ? OR owner = ? AND name > ?))"
		args = append(args, at, at, p.Owner, p.Owner, p.Key)
	}
	if limit == 0 {
		limit = total
	}
	rows, err := r.aggregates(ctx, where+" ORDER BY "+column+order+", owner, name LIMIT ? OFFSET ?", append(args, limit, offset)...)
	if err != nil {
		return nil, 0, err
	}
	out, err = r.fillAggregates(ctx, rows)
	return out, total, err
}

// Security returns the content of an owner's aggregate `security`, nil if there is
// none.
func (r reader) Security(ctx context.Context, owner string) (json.RawMessage, error) {
	a, err := r.Aggregate(ctx, owner, "security")
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return a.Content, nil
}
