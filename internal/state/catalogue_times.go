package state

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"iter"
	mathbits "math/bits"
	"slices"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// partSize is how many times of a full block are one row.
const partSize = 1 << 8

// part is a part of a block: some documents of it, and the least and the greatest
// time of all that were ever there.
type part struct {
	number   int
	n        int
	min, max int64
}

// partWords is the size of a part in a set.
const partWords = partSize / 64

// of is what a set has of a part.
func (p part) of(set *bitset) []uint64 { return set[p.number*partWords : (p.number+1)*partWords] }

// offsets are the places in the block of what a set has of a part.
func (p part) offsets(set *bitset) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range p.of(set) {
			for ; w != 0; w &= w - 1 {
				if !yield(p.number*partSize + i<<6 + mathbits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// partsOf are the parts of a block that have documents of a set, and may have some of
// from <= time < to. All parts of a block that is not full have the times of the block.
func partsOf(b block, set *bitset, from, to int64) (out []part) {
	for number := range blockSize / partSize {
		p := part{number: number, min: b.min, max: b.max}
		if at := 2 * 8 * number; len(b.bounds) == boundsBytes {
			p.min, p.max = int64(binary.BigEndian.Uint64([]byte(b.bounds[at:at+8]))), int64(binary.BigEndian.Uint64([]byte(b.bounds[at+8:at+16])))
		}
		if p.max < from || p.min >= to {
			continue
		}
		for _, w := range p.of(set) {
			p.n += mathbits.OnesCount64(w)
		}
		if p.n > 0 {
			out = append(out, p)
		}
	}
	return out
}

// boundsBytes is the length of encoded bounds.
const boundsBytes = 2 * 8 * blockSize / partSize

// encodeBounds is the least and the greatest time of each part of a full block.
func encodeBounds(times []int64) []byte {
	out := make([]byte, 0, boundsBytes)
	for of := range slices.Chunk(times, partSize) {
		out = binary.BigEndian.AppendUint64(out, uint64(slices.Min(of)))
		out = binary.BigEndian.AppendUint64(out, uint64(slices.Max(of)))
	}
	return out
}

// keyBytes is the length of a term's key.
const keyBytes = 16

// keysOf are the keys that were written one after another.
func keysOf(terms []byte) iter.Seq[[16]byte] {
	return func(yield func([16]byte) bool) {
		for key := range slices.Chunk(terms, keyBytes) {
			if !yield([16]byte(key)) {
				return
			}
		}
	}
}

// tail is what is kept of a block that is not full yet, a row for each document.
// Neither a document's time nor these terms of it ever change, so what was read
// stays true: all is only ever appended to.
type tail struct {
	block  int64
	marked int      // Documents before this are in the sets of their terms.
	times  []int64  // Of all documents of the block,
	terms  [][]byte // and their keys; nil of those before marked.
	of     sets     // Documents from marked on by their terms.
}

// tails are those of the catalogues, and their full blocks, which never change, as far
// as they have been read from commits.
type tails struct {
	mu   sync.Mutex
	of   map[string]*tail   // By catalogue; guarded by mu.
	full map[string][]block // By catalogue, from the first on; guarded by mu.
}

// fullOf are the full blocks of a catalogue that are known.
func (t *tails) fullOf(name string) []block {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full[name]
}

// keepFull takes over those of all blocks that are full.
func (t *tails) keepFull(name string, all []block) {
	if t == nil {
		return
	}
	n := 0
	for n < len(all) && all[n].n == blockSize && all[n].number == int64(n) {
		n++
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.full[name]
	if n > len(known) || n > 0 && n == len(known) && all[n-1] != known[n-1] { // Their bounds may have been made since.
		if t.full == nil {
			t.full = map[string][]block{}
		}
		t.full[name] = slices.Clone(all[:n])
	}
}

// allBlocks reads the blocks of a catalogue, in order. What is known of them is not read
// again, but for the last of those: a snapshot that has not that one as it is known is
// an old one.
func (c catalogue) allBlocks(ctx context.Context, r reader) ([]block, error) {
	known := r.tails.fullOf(c.name)
	if len(known) > 0 {
		last := known[len(known)-1]
		all, err := c.blocksFrom(ctx, r, last.number)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 && all[0] == last {
			all = slices.Concat(known, all[1:])
			r.tails.keepFull(c.name, all)
			return all, nil
		}
	}
	all, err := c.blocksFrom(ctx, r, 0)
	if err == nil {
		r.tails.keepFull(c.name, all)
	}
	return all, err
}

func (c catalogue) blocksFrom(ctx context.Context, r reader, number int64) (out []block, err error) {
	query := "SELECT block, n, marked, min_at, max_at, bounds FROM " + c.name + "_blocks WHERE block >= ? ORDER BY block"
	err = r.each(ctx, query, []any{number}, func(scan func(...any) error) error {
		var b block
		var bounds []byte
		err := scan(&b.number, &b.n, &b.marked, &b.min, &b.max, &bounds)
		b.bounds = string(bounds)
		out = append(out, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read blocks of %ss: %w", c.name, err)
	}
	return out, nil
}

// readTail reads on from what is known of a block that is not full, as far as b has
// it.
func (c catalogue) readTail(ctx context.Context, r reader, known tail, b block) (tail, error) {
	from := len(known.times)
	err := r.each(ctx, "SELECT at, terms FROM "+c.name+"_times WHERE id >= ? AND id < ? ORDER BY id", []any{b.first() + int64(from), b.first() + int64(b.n)},
		func(scan func(...any) error) error {
			var at int64
			var terms []byte
			if err := scan(&at, &terms); err != nil {
				return err
			}
			if len(terms)%keyBytes != 0 {
				return errs.New(errs.Internal, "the terms of %s %d are %d bytes", c.name, b.first()+int64(len(known.times)), len(terms))
			}
			if len(known.times) < b.marked {
				terms = nil
			}
			known.times, known.terms = append(known.times, at), append(known.terms, terms)
			return nil
		})
	if err != nil {
		return known, fmt.Errorf("read times of %ss: %w", c.name, err)
	}
	if len(known.times) < b.n {
		return known, errs.New(errs.Internal, "block %d of %ss has %d documents and %d times", b.number, c.name, b.n, len(known.times))
	}
	return known, nil
}

// index enters the documents from the from-th on into the sets of the tail.
func (t *tail) index(from int) {
	for at := from; at < len(t.times); at++ {
		for key := range keysOf(t.terms[at]) {
			t.of.put(key, at)
		}
	}
}

// trim forgets what has entered the sets of the database.
func (t *tail) trim(marked int) {
	clear(t.terms[t.marked:min(marked, len(t.terms))])
	t.marked, t.of = marked, sets{}
}

// tailOf is the tail of a block that is not full, with at least what the block has.
// Only what was not read before is read. A transaction reads all: what it wrote may
// be rolled back.
//
// fn may look at the tail, and keep its times.
func (s *search) tailOf(ctx context.Context, b block, fn func(*tail)) error {
	if s.r.tails == nil {
		return s.readAlone(ctx, b, fn)
	}
	s.r.tails.mu.Lock()
	defer s.r.tails.mu.Unlock()
	known := s.r.tails.of[s.name]
	if known == nil || known.block < b.number {
		known = &tail{block: b.number, marked: b.marked, of: sets{}}
	}
	if known.block > b.number || known.marked > b.marked {
		return s.readAlone(ctx, b, fn) // An old snapshot.
	}
	read := len(known.times)
	if read < b.n {
		more, err := s.readTail(ctx, s.r, *known, b)
		if err != nil {
			return err
		}
		known = &more
	}
	if known.marked < b.marked {
		known.trim(b.marked)
		read = b.marked
	}
	known.index(max(read, known.marked))
	if s.r.tails.of == nil {
		s.r.tails.of = map[string]*tail{}
	}
	s.r.tails.of[s.name] = known
	fn(known)
	return nil
}

func (s *search) readAlone(ctx context.Context, b block, fn func(*tail)) error {
	t, err := s.readTail(ctx, s.r, tail{block: b.number, marked: b.marked, of: sets{}}, b)
	if err != nil {
		return err
	}
	t.index(b.marked)
	fn(&t)
	return nil
}

// inTail reads which documents of the tail have each of the terms of the filters,
// and are still there.
func (s *search) inTail(ctx context.Context, b block) error {
	var there bitset
	if err := s.read(ctx, s.r, everything.key(), b.number, &there); err != nil {
		return err
	}
	s.tail, s.tailSets = b, sets{}
	return s.tailOf(ctx, b, func(t *tail) {
		for _, filters := range [][][][16]byte{s.filters, s.without} {
			for key := range eachKey(filters) {
				for _, at := range t.of[key] {
					if b.marked <= at && at < b.n && there.has(at) {
						s.tailSets.put(key, at)
					}
				}
			}
		}
	})
}

// eachKey are the keys of filters.
func eachKey(filters [][][16]byte) iter.Seq[[16]byte] {
	return func(yield func([16]byte) bool) {
		for _, keys := range filters {
			for _, key := range keys {
				if !yield(key) {
					return
				}
			}
		}
	}
}

// allTimes reads the times of all documents that were ever in a block, in order.
func (c catalogue) allTimes(ctx context.Context, r reader, b block) ([]int64, error) {
	if b.n < blockSize {
		t, err := c.readTail(ctx, r, tail{block: b.number}, b)
		return t.times, err
	}
	out := make([]int64, 0, blockSize)
	err := r.each(ctx, "SELECT part, times FROM "+c.name+"_packed WHERE block = ? ORDER BY part", []any{b.number}, func(scan func(...any) error) error {
		var number int
		var raw sql.RawBytes
		if err := scan(&number, &raw); err != nil {
			return err
		}
		if err := c.wantPart(b, number, raw); err != nil {
			return err
		}
		if number*partSize != len(out) {
			return errs.New(errs.Internal, "part %d of the times of block %d of %ss comes after %d times", number, b.number, c.name, len(out))
		}
		for ; len(raw) > 0; raw = raw[8:] {
			out = append(out, int64(binary.BigEndian.Uint64(raw)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read times of %ss: %w", c.name, err)
	}
	if len(out) != blockSize {
		return nil, errs.New(errs.Internal, "block %d of %ss has %d times, want %d", b.number, c.name, len(out), blockSize)
	}
	return out, nil
}

// wantPart is an error if raw is not the times of a part.
func (c catalogue) wantPart(b block, number int, raw []byte) error {
	if len(raw) != 8*partSize {
		return errs.New(errs.Internal, "part %d of the times of block %d of %ss has %d bytes, want %d", number, b.number, c.name, len(raw), 8*partSize)
	}
	return nil
}

// boundsBatch bounds the blocks whose bounds are made in one transaction: others write too.
const boundsBatch = 100

// fillBounds makes those of the full blocks that have none: an older version filled
// them.
func (db *DB) fillBounds(ctx context.Context) error {
	for _, c := range []catalogue{messageCatalogue(), confirmedCatalogue(), postCatalogue()} {
		var numbers []int64
		err := db.each(ctx, "SELECT block FROM "+c.name+"_blocks WHERE n = ? AND bounds IS NULL", []any{blockSize}, func(scan func(...any) error) error {
			numbers = append(numbers, 0)
			return scan(&numbers[len(numbers)-1])
		})
		if err != nil {
			return fmt.Errorf("look for blocks of %ss without bounds: %w", c.name, err)
		}
		for some := range slices.Chunk(numbers, boundsBatch) {
			if err := db.Update(ctx, func(tx *Tx) error { return c.writeBounds(ctx, tx, some) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c catalogue) writeBounds(ctx context.Context, tx *Tx, numbers []int64) error {
	for _, number := range numbers {
		times, err := c.allTimes(ctx, tx.reader, block{number: number, n: blockSize})
		if err != nil {
			return err
		}
		if _, err := tx.tx.ExecContext(ctx, "UPDATE "+c.name+"_blocks SET bounds = ? WHERE block = ?", encodeBounds(times), number); err != nil {
			return fmt.Errorf("write bounds of block %d of %ss: %w", number, c.name, err)
		}
	}
	return nil
}

// partsFew is how many parts are named to be read; of more, all are read.
const partsFew = 8

// timed returns the documents of a set, in some parts of a block, with from <= time < to.
func (s *search) timed(ctx context.Context, b block, set *bitset, parts []part, from, to int64) (out []hit, err error) {
	if len(parts) == 0 {
		return nil, nil
	}
	add := func(at int, t int64) {
		if from <= t && t < to {
			out = append(out, hit{b.first() + int64(at), t})
		}
	}
	if b.n < blockSize {
		err := s.tailOf(ctx, b, func(t *tail) {
			for _, p := range parts {
				for at := range p.offsets(set) {
					add(at, t.times[at])
				}
			}
		})
		return out, err
	}
	of := make(map[int]part, len(parts))
	args := []any{b.number}
	query := "SELECT part, times FROM " + s.name + "_packed WHERE block = ?"
	for _, p := range parts {
		of[p.number] = p
	}
	if len(parts) <= partsFew {
		named := make([]any, 0, partsFew)
		for _, p := range parts {
			named = append(named, p.number)
		}
		named = padded(named)
		query, args = query+" AND part IN "+marks(len(named)), append(args, named...)
	}
	err = s.r.each(ctx, query, args, func(scan func(...any) error) error {
		var number int
		var raw sql.RawBytes
		if err := scan(&number, &raw); err != nil {
			return err
		}
		p, ok := of[number]
		if !ok {
			return nil
		}
		delete(of, number)
		if err := s.wantPart(b, number, raw); err != nil {
			return err
		}
		for at := range p.offsets(set) {
			add(at, int64(binary.BigEndian.Uint64(raw[8*(at-number*partSize):])))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read times of %ss: %w", s.name, err)
	}
	if len(of) > 0 {
		return nil, errs.New(errs.Internal, "block %d of %ss has not the times of %d parts that are looked for", b.number, s.name, len(of))
	}
	return out, nil
}
