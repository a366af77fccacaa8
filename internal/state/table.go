package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// table is how rows of one noun are kept: the row is a JSON document, and cols
// are the columns that queries filter on, computed from it.
type table[T any] struct {
	name string // also the topic of the change log
	noun string // for errors
	key  func(*T) string
	cols []column[T]
}

type column[T any] struct {
	name string
	of   func(*T) any
}

// restorer is the part of a table that Rollback needs, whatever its type.
type restorer interface {
	restore(ctx context.Context, tx *Tx, key string, doc sql.NullString) error
}

// put writes row, replacing one with the same key. A row that did not change is
// not written again, so that nobody is woken for nothing.
func (t table[T]) put(ctx context.Context, tx *Tx, row *T) error {
	doc, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode %s: %w", t.noun, err)
	}
	key := t.key(row)
	old, err := t.raw(ctx, tx.reader, key)
	if err != nil {
		return err
	}
	if old.Valid && old.String == string(doc) {
		return nil
	}
	if err := tx.journal(ctx, t.name, key, old); err != nil {
		return err
	}
	names := []string{"pk", "doc"}
	args := []any{key, string(doc)}
	for _, c := range t.cols {
		names = append(names, c.name)
		args = append(args, c.of(row))
	}
	sets := make([]string, 0, len(names)-1)
	for _, n := range names[1:] {
		sets = append(sets, n+" = excluded."+n)
	}
	query := fmt.Sprintf("INSERT INTO %s (%s) VALUES %s ON CONFLICT (pk) DO UPDATE SET %s",
		t.name, strings.Join(names, ", "), marks(len(names)), strings.Join(sets, ", "))
	if _, err := tx.tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("write %s %s: %w", t.noun, key, err)
	}
	tx.logChange(t.name, key)
	return nil
}

// remove deletes the row with key; one that is not there is no error.
func (t table[T]) remove(ctx context.Context, tx *Tx, key string) error {
	old, err := t.raw(ctx, tx.reader, key)
	if err != nil || !old.Valid {
		return err
	}
	if err := tx.journal(ctx, t.name, key, old); err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE pk = ?", key); err != nil {
		return fmt.Errorf("delete %s %s: %w", t.noun, key, err)
	}
	tx.logChange(t.name, key)
	return nil
}

// restore puts the document back as it was, or deletes the row if it was not
// there.
func (t table[T]) restore(ctx context.Context, tx *Tx, key string, doc sql.NullString) error {
	if !doc.Valid {
		return t.remove(ctx, tx, key)
	}
	var row T
	if err := json.Unmarshal([]byte(doc.String), &row); err != nil {
		return fmt.Errorf("decode %s %s: %w", t.noun, key, err)
	}
	return t.put(ctx, tx, &row)
}

func (t table[T]) raw(ctx context.Context, r reader, key string) (doc sql.NullString, err error) {
	err = r.q.QueryRowContext(ctx, "SELECT doc FROM "+t.name+" WHERE pk = ?", key).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return sql.NullString{}, nil
	}
	if err != nil {
		return doc, fmt.Errorf("read %s %s: %w", t.noun, key, err)
	}
	return doc, nil
}

// one returns the row with key, or errs.NotFound.
func (t table[T]) one(ctx context.Context, r reader, key string) (*T, error) {
	doc, err := t.raw(ctx, r, key)
	if err != nil {
		return nil, err
	}
	if !doc.Valid {
		return nil, errs.New(errs.NotFound, "no %s %s", t.noun, key)
	}
	var row T
	if err := json.Unmarshal([]byte(doc.String), &row); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", t.noun, key, err)
	}
	return &row, nil
}

// list returns the rows for which where holds, a clause of SQL with ? for args
// that may end in ORDER BY and LIMIT.
func (t table[T]) list(ctx context.Context, r reader, where string, args ...any) (out []T, err error) {
	err = r.each(ctx, "SELECT doc FROM "+t.name+" WHERE "+where, args, func(scan func(...any) error) error {
		var doc string
		if err := scan(&doc); err != nil {
			return err
		}
		var row T
		if err := json.Unmarshal([]byte(doc), &row); err != nil {
			return fmt.Errorf("decode %s: %w", t.noun, err)
		}
		out = append(out, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", t.noun, err)
	}
	return out, nil
}

// journal records how to undo a write, if the write is an effect of a block.
func (tx *Tx) journal(ctx context.Context, name, key string, old sql.NullString) error {
	if !tx.mirror || tx.undoing {
		return nil
	}
	if _, ok := tables()[name]; !ok {
		return errs.New(errs.Internal, "BUG: rows of %s are no effects of a block", name)
	}
	_, err := tx.tx.ExecContext(ctx, "INSERT INTO undo (seq, block, tbl, pk, doc) SELECT COALESCE(MAX(seq), 0) + 1, ?, ?, ?, ? FROM undo", int64(tx.block), name, key, old)
	if err != nil {
		return fmt.Errorf("write undo log: %w", err)
	}
	return nil
}

// tables is every table whose rows may be effects of a block.
func tables() map[string]restorer {
	return map[string]restorer{
		blocks().name:   blocks(),
		nodes().name:    nodes(),
		registry().name: registry(),
		jobs().name:     jobs(),
		accounts().name: accounts(),
		payments().name: payments(),
		metas().name:    metas(),
	}
}

// in returns "(?, ?, ...)" and the values as arguments; of none, what nothing is
// in. The last value is there more than once, so that lists of many lengths make
// few queries.
func in[S ~string](values []S) (clause string, args []any) {
	if len(values) == 0 {
		return "(NULL)", nil
	}
	for _, v := range values {
		args = append(args, string(v))
	}
	for len(args)&(len(args)-1) != 0 {
		args = append(args, args[len(args)-1])
	}
	return marks(len(args)), args
}

// marks is "(?, ?, ...)".
func marks(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")" }

// number is a truth as a column has it.
func number(is bool) int {
	if is {
		return 1
	}
	return 0
}
