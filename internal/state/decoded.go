package state

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// decodedMax bounds the rows that are kept decoded.
const decodedMax = 4096

// decoded keeps rows decoded that are listed again and again, by their keys. A row
// counts for as long as its document is the same, so it needs no word of what is
// written, taken back, or written by another process.
type decoded[T any] struct {
	clone func(T) T // What is given out is the caller's, and may be changed.

	mu   sync.Mutex
	rows map[string]decodedRow[T] // guarded by mu
}

type decodedRow[T any] struct {
	doc string
	row T
}

// list is table.list.
func (d *decoded[T]) list(ctx context.Context, r reader, t table[T], where string, args ...any) (out []T, err error) {
	err = r.each(ctx, "SELECT pk, doc FROM "+t.name+" WHERE "+where, args, func(scan func(...any) error) error {
		var key, doc string
		if err := scan(&key, &doc); err != nil {
			return err
		}
		row, err := d.row(key, doc)
		if err != nil {
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

// one is table.one.
func (d *decoded[T]) one(ctx context.Context, r reader, t table[T], key string) (*T, error) {
	doc, err := t.raw(ctx, r, key)
	if err != nil {
		return nil, err
	}
	if !doc.Valid {
		return nil, errs.New(errs.NotFound, "no %s %s", t.noun, key)
	}
	row, err := d.row(key, doc.String)
	if err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", t.noun, key, err)
	}
	return &row, nil
}

// row decodes a document, or returns what it was before.
func (d *decoded[T]) row(key, doc string) (T, error) {
	d.mu.Lock()
	have, ok := d.rows[key]
	d.mu.Unlock()
	if ok && have.doc == doc {
		return d.clone(have.row), nil
	}
	have = decodedRow[T]{doc: doc}
	if err := json.Unmarshal([]byte(doc), &have.row); err != nil {
		return have.row, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows == nil || len(d.rows) >= decodedMax {
		d.rows = map[string]decodedRow[T]{}
	}
	d.rows[key] = have
	return d.clone(have.row), nil
}
