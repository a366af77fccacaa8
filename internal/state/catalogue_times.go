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

// times are those of a block: the encoded row of a full one, or read one by one.
type times struct {
	raw  []byte
	list []int64
}

func (t times) at(i int) int64 {
	if t.raw != nil {
		return int64(binary.BigEndian.Uint64(t.raw[8*i:]))
	}
	return t.list[i]
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

// tails are those of the catalogues, as far as they have been read from commits.
type tails struct {
	mu sync.Mutex
	of map[string]*tail // By catalogue; guarded by mu.
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

// times reads the times of a block.
func (s *search) times(ctx context.Context, b block) (out times, err error) {
	if b.n < blockSize {
		err := s.tailOf(ctx, b, func(t *tail) { out.list = t.times[:b.n:b.n] })
		return out, err
	}
	err = s.r.q.QueryRowContext(ctx, "SELECT times FROM "+s.name+"_blocks WHERE block = ?", b.number).Scan(&out.raw)
	if err != nil {
		return times{}, fmt.Errorf("read the times of block %d of %ss: %w", b.number, s.name, err)
	}
	if len(out.raw) != 8*blockSize {
		return times{}, errs.New(errs.Internal, "the times of block %d of %ss are %d bytes, want %d", b.number, s.name, len(out.raw), 8*blockSize)
	}
	return out, nil
}
