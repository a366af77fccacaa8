package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// partSize is how many times of a full block are one row.
const partSize = 1 << 8

// times are those of a block, or of the documents that were asked for: parts of a
// full one, or read one by one.
type times struct {
	parts map[int][]byte
	list  []int64
}

func (t times) at(i int) int64 {
	if t.list != nil {
		return t.list[i]
	}
	return int64(binary.BigEndian.Uint64(t.parts[i/partSize][i%partSize*8:]))
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
	if n > len(t.full[name]) {
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
	query := "SELECT block, n, marked, min_at, max_at FROM " + c.name + "_blocks WHERE block >= ? ORDER BY block"
	err = r.each(ctx, query, []any{number}, func(scan func(...any) error) error {
		var b block
		err := scan(&b.number, &b.n, &b.marked, &b.min, &b.max)
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

// partsFew is how many parts are named to be read; of more, all are read.
const partsFew = 8

// times reads the times of a block, at least those at offsets, which are ascending;
// nil is all.
func (s *search) times(ctx context.Context, b block, offsets []int) (out times, err error) {
	if b.n < blockSize {
		err := s.tailOf(ctx, b, func(t *tail) { out.list = t.times[:b.n:b.n] })
		return out, err
	}
	var parts []any
	for _, at := range offsets {
		if part := at / partSize; len(parts) == 0 || parts[len(parts)-1] != part {
			parts = append(parts, part)
		}
	}
	query, args, want := "SELECT part, times FROM "+s.name+"_packed WHERE block = ?", []any{b.number}, blockSize/partSize
	if 0 < len(parts) && len(parts) <= partsFew {
		want = len(parts)
		parts = padded(parts)
		query, args = query+" AND part IN "+marks(len(parts)), append(args, parts...)
	}
	out.parts = make(map[int][]byte, want)
	err = s.r.each(ctx, query, args, func(scan func(...any) error) error {
		var part int
		var raw []byte
		if err := scan(&part, &raw); err != nil {
			return err
		}
		if len(raw) != 8*partSize || part < 0 || part >= blockSize/partSize {
			return errs.New(errs.Internal, "part %d of the times of block %d of %ss has %d bytes, want %d", part, b.number, s.name, len(raw), 8*partSize)
		}
		out.parts[part] = raw
		return nil
	})
	if err != nil {
		return times{}, fmt.Errorf("read times of %ss: %w", s.name, err)
	}
	if len(out.parts) != want {
		return times{}, errs.New(errs.Internal, "block %d of %ss has %d parts of times that are looked for, want %d", b.number, s.name, len(out.parts), want)
	}
	return out, nil
}
