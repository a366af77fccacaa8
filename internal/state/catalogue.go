package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	mathbits "math/bits"
	"slices"
	"strings"
)

// A catalogue finds documents by what is said of them, newest or oldest first,
// and counts them, however many there are. A document is a number; it has a time,
// which never changes, and terms. Numbers are given out in the order of arrival,
// and blockSize of them are a block. Of each term there is a set for each block
// that has it: what several filters leave is the intersection of sets, block by
// block, and only blocks that can matter for a page are looked at. The times of a
// block are packed into few rows as soon as it is full.
//
// The sets of a span of spanBlocks lie together, in the order of their terms. What is
// written so stays a small part of the database, however much it has, and what is
// read of a term is a place in each span.
//
// The newest documents are the tail: what is said of them is in their own rows, and
// enters the sets for many at once. A set is so written once for tailMax documents
// and not with each, and readers keep the tail in memory: see tails.
//
// Documents that arrive in about the order of their times make blocks that do not
// overlap, and pages cost what is on them. Any other order is right as well, and
// costs more.
type catalogue struct{ name string }

// term is one thing that can be said of a document.
type term struct {
	kind  uint8
	value string
}

// everything is said of each document that is there.
var everything = term{} //nolint:gochecknoglobals // A constant.

// key is the term in the database: values may be long, and are compared only.
func (t term) key() [16]byte {
	sum := sha256.Sum256([]byte(t.value))
	key := [16]byte(sum[:])
	key[0] = t.kind
	return key
}

// document is what a catalogue is told of a document: its time in microseconds,
// and what is said of it.
type document struct {
	at    int64
	terms []term
}

// tailMax bounds the documents that are not in the sets of their terms.
const tailMax = 1 << 12

// block is what is kept of a block. Documents from the marked-th on are in the tail.
type block struct {
	number    int64
	n, marked int
	min, max  int64
	bounds    string // Of a full block, see encodeBounds; "" if it has none yet.
}

// at once: what may change while a document is there is in its set from the
// beginning. All else that is said of it never changes.
func (t term) atOnce() bool {
	return t.kind == everything.kind || t.kind == termRemoving || t.kind == termConfirmed
}

// spanBlocks is how many blocks have their sets together.
const spanBlocks = 4

// spanOf is the span of a block.
func spanOf(block int64) int64 { return block / spanBlocks }

// first is the number of the block's first document.
func (b block) first() int64 { return b.number * blockSize }

// add enters documents and returns their numbers, in order.
func (c catalogue) add(ctx context.Context, tx *Tx, docs []document) ([]int64, error) {
	ids := make([]int64, 0, len(docs))
	for len(docs) > 0 {
		b, err := c.open(ctx, tx)
		if err != nil {
			return nil, err
		}
		n := min(len(docs), blockSize-b.n)
		if err := c.fill(ctx, tx, b, docs[:n]); err != nil {
			return nil, err
		}
		for i := range n {
			ids = append(ids, b.first()+int64(b.n+i))
		}
		docs = docs[n:]
	}
	return ids, nil
}

// open returns the block that is not full.
func (c catalogue) open(ctx context.Context, tx *Tx) (b block, err error) {
	row := tx.q.QueryRowContext(ctx, "SELECT block, n, marked, min_at, max_at FROM "+c.name+"_blocks ORDER BY block DESC LIMIT 1")
	err = row.Scan(&b.number, &b.n, &b.marked, &b.min, &b.max)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return block{}, nil
	case err != nil:
		return b, fmt.Errorf("read the last block of %ss: %w", c.name, err)
	case b.n == blockSize:
		return block{number: b.number + 1}, nil
	}
	return b, nil
}

// fill enters documents that fit into a block.
func (c catalogue) fill(ctx context.Context, tx *Tx, b block, docs []document) error {
	now := sets{}
	rows := make([][]any, len(docs))
	for i, d := range docs {
		at := b.n + i
		now.put(everything.key(), at)
		terms := make([]byte, 0, keyBytes*len(d.terms))
		for _, t := range d.terms {
			key := t.key()
			if t.atOnce() {
				now.put(key, at)
			} else {
				terms = append(terms, key[:]...)
			}
		}
		if at == 0 {
			b.min, b.max = d.at, d.at
		}
		b.min, b.max = min(b.min, d.at), max(b.max, d.at)
		rows[i] = []any{b.first() + int64(at), d.at, terms}
	}
	if err := tx.insert(ctx, c.name+"_times (id, at, terms)", rows, ""); err != nil {
		return err
	}
	for key, offsets := range now {
		if err := c.change(ctx, tx, key, b.number, func(b *bitset) { b.setAll(offsets) }); err != nil {
			return err
		}
	}
	b.n += len(docs)
	if b.n-b.marked >= tailMax || b.n == blockSize {
		if err := c.markTail(ctx, tx, b); err != nil {
			return err
		}
		b.marked = b.n
	}
	return c.keep(ctx, tx, b)
}

// sets are documents of a block by the keys of their terms, ascending.
type sets map[[16]byte][]int

func (s sets) put(key [16]byte, at int) {
	if had := s[key]; len(had) == 0 || had[len(had)-1] != at { // Said twice of one is said once.
		s[key] = append(had, at)
	}
}

// markTail enters the documents of the tail that are still there into the sets of
// their terms.
func (c catalogue) markTail(ctx context.Context, tx *Tx, b block) error {
	t, err := c.readTail(ctx, tx.reader, tail{block: b.number}, b)
	if err != nil {
		return err
	}
	var there bitset
	if err := c.read(ctx, tx.reader, everything.key(), b.number, &there); err != nil {
		return err
	}
	of := sets{}
	for at := b.marked; at < b.n; at++ {
		if !there.has(at) {
			continue
		}
		for key := range keysOf(t.terms[at]) {
			of.put(key, at)
		}
	}
	return c.mark(ctx, tx, b.number, of)
}

// keep writes a block; the times of one that is full are packed.
func (c catalogue) keep(ctx context.Context, tx *Tx, b block) error {
	if b.n == blockSize {
		all, err := c.readTail(ctx, tx.reader, tail{block: b.number}, b)
		if err != nil {
			return err
		}
		rows := make([][]any, 0, blockSize/partSize)
		for times := range slices.Chunk(all.times, partSize) {
			rows = append(rows, []any{b.number, len(rows), encodeTimes(times)})
		}
		if err := tx.insert(ctx, c.name+"_packed (block, part, times)", rows, ""); err != nil {
			return err
		}
		b.bounds = string(encodeBounds(all.times))
		if _, err := tx.tx.ExecContext(ctx, "DELETE FROM "+c.name+"_times WHERE id < ?", b.first()+blockSize); err != nil {
			return fmt.Errorf("pack the times of %ss: %w", c.name, err)
		}
	}
	var bounds any // NULL of a block that is not full.
	if b.bounds != "" {
		bounds = []byte(b.bounds)
	}
	_, err := tx.tx.ExecContext(ctx, "INSERT INTO "+c.name+"_blocks (block, n, marked, min_at, max_at, bounds) VALUES (?, ?, ?, ?, ?, ?)"+
		" ON CONFLICT (block) DO UPDATE SET n = excluded.n, marked = excluded.marked, min_at = excluded.min_at, max_at = excluded.max_at, bounds = excluded.bounds",
		b.number, b.n, b.marked, b.min, b.max, bounds)
	if err != nil {
		return fmt.Errorf("write block %d of %ss: %w", b.number, c.name, err)
	}
	return nil
}

// mark adds documents to the sets of their terms in a block, in the order of the
// table. Sets that stay lists grow at their end without being read; the others are
// read and written whole.
func (c catalogue) mark(ctx context.Context, tx *Tx, number int64, of sets) error {
	keys := slices.SortedFunc(maps.Keys(of), func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	for chunk := range chunks(keys) {
		had := map[[16]byte]int{}
		terms := arguments(chunk)
		query := "SELECT term, n FROM " + c.name + "_postings WHERE span = ? AND block = ? AND term IN " + marks(len(terms))
		err := tx.each(ctx, query, append([]any{spanOf(number), number}, terms...), func(scan func(...any) error) error {
			var key []byte
			var n int
			if err := scan(&key, &n); err != nil {
				return err
			}
			had[[16]byte(key)] = n
			return nil
		})
		if err != nil {
			return fmt.Errorf("read sets of %ss: %w", c.name, err)
		}
		var short [][]any
		for _, key := range chunk {
			offsets := of[key]
			if had[key]+len(offsets) <= listMax {
				short = append(short, []any{spanOf(number), key[:], number, len(offsets), encodeList(offsets)})
				continue
			}
			if err := c.change(ctx, tx, key, number, func(b *bitset) { b.setAll(offsets) }); err != nil {
				return err
			}
		}
		err = tx.insert(ctx, c.name+"_postings (span, term, block, n, bits)", short,
			" ON CONFLICT (span, term, block) DO UPDATE SET n = "+c.name+"_postings.n + excluded.n, bits = "+tx.q.e.concat(c.name+"_postings.bits", "excluded.bits"))
		if err != nil {
			return err
		}
	}
	return nil
}

// change reads a set and writes what fn makes of it.
func (c catalogue) change(ctx context.Context, tx *Tx, key [16]byte, number int64, fn func(*bitset)) error {
	var b bitset
	if err := c.read(ctx, tx.reader, key, number, &b); err != nil {
		return err
	}
	fn(&b)
	n := b.count()
	var err error
	if n == 0 {
		_, err = tx.tx.ExecContext(ctx, "DELETE FROM "+c.name+"_postings WHERE span = ? AND term = ? AND block = ?", spanOf(number), key[:], number)
	} else {
		_, err = tx.tx.ExecContext(ctx, "INSERT INTO "+c.name+"_postings (span, term, block, n, bits) VALUES (?, ?, ?, ?, ?)"+
			" ON CONFLICT (span, term, block) DO UPDATE SET n = excluded.n, bits = excluded.bits", spanOf(number), key[:], number, n, b.encode())
	}
	if err != nil {
		return fmt.Errorf("write a set of %ss: %w", c.name, err)
	}
	return nil
}

// read adds a term's set of a block to b.
func (c catalogue) read(ctx context.Context, r reader, key [16]byte, number int64, b *bitset) error {
	var raw []byte
	err := r.q.QueryRowContext(ctx, "SELECT bits FROM "+c.name+"_postings WHERE span = ? AND term = ? AND block = ?", spanOf(number), key[:], number).Scan(&raw)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read a set of %ss: %w", c.name, err)
	}
	return b.add(raw)
}

// remove takes a document out: its number finds nothing any more. One of the tail
// will not enter the sets that it is not in yet.
func (c catalogue) remove(ctx context.Context, tx *Tx, id int64, terms []term) error {
	for _, t := range append([]term{everything}, terms...) {
		if err := c.change(ctx, tx, t.key(), id/blockSize, func(b *bitset) { b.clear(int(id % blockSize)) }); err != nil {
			return err
		}
	}
	return nil
}

// rowsMax is how many rows or values one statement has; both engines take more.
const rowsMax = 200

// insert writes rows of the same width, many with one statement: as many as a
// power of two, so that any number of rows makes few statements.
func (tx *Tx) insert(ctx context.Context, into string, rows [][]any, conflict string) error {
	for len(rows) > 0 {
		n := 1 << (mathbits.Len(uint(min(len(rows), rowsMax))) - 1)
		width := len(rows[0])
		args := make([]any, 0, width*n)
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		values := strings.TrimSuffix(strings.Repeat(marks(width)+", ", n), ", ")
		if _, err := tx.tx.ExecContext(ctx, "INSERT INTO "+into+" VALUES "+values+conflict, args...); err != nil {
			return fmt.Errorf("insert into %s: %w", into, err)
		}
		rows = rows[n:]
	}
	return nil
}

// chunks are pieces of what one statement can take.
func chunks[T any](all []T) iter.Seq[[]T] { return slices.Chunk(all, rowsMax) }

// arguments are keys as a statement takes them.
func arguments(keys [][16]byte) []any {
	out := make([]any, 0, 2*len(keys))
	for _, key := range keys {
		out = append(out, key[:])
	}
	return padded(out)
}

// padded is what a statement looks for, with the last again and again up to a power of
// two, so that lists of any length make few statements.
func padded(list []any) []any {
	for n := len(list); n&(n-1) != 0; n++ {
		list = append(list, list[len(list)-1])
	}
	return list
}
