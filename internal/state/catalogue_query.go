package state

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
)

// filter is what a document must have: of a kind, one of the values.
type filter struct {
	kind   uint8
	values []string
	not    bool // None of the values.
	rare   bool // Few documents have one of them, for all that is known.
}

// query says which documents, and in which order of their times.
type query struct {
	filters  []filter // All of them hold.
	from, to int64    // Microseconds: from <= time < to. A zero query has all times.
	oldest   bool     // Oldest first.
}

// span is the times of a query; a to of 0 is no bound.
func (q query) span() (from, to int64) {
	if q.from == 0 && q.to == 0 {
		return math.MinInt64, math.MaxInt64
	}
	if q.to == 0 {
		return q.from, math.MaxInt64
	}
	return q.from, q.to
}

// hit is a document that was found.
type hit struct {
	id int64
	at int64
}

// search is one query on one snapshot.
type search struct {
	catalogue
	r       reader
	from    int64
	to      int64
	filters [][][16]byte // Keys, of each filter; what few documents have is first.
	without [][][16]byte // Keys of filters that say what a document has not.
	blocks  []block      // Those that may have documents, in order.
	oldest  bool

	ahead    int               // How many blocks are read at once, the next time.
	low, top int               // Which of the blocks are loaded, and
	loaded   map[int64]*bitset // what the filters leave of them, if anything.
	spare    []*bitset         // Of those that were loaded before.

	tail     block // The block that has a tail, if it is among the blocks,
	tailSets sets  // and which documents of the tail have what the filters name.
}

// sampleSize is of how many documents a bound is guessed.
const sampleSize = 128

// aheadMax bounds the sets that are held at once, of what filters left and of the next
// filter: each is 4 KiB.
const aheadMax = 64

// count returns how many documents a query finds.
//
// What a filter leaves out is few, and counted with the rest of the query: that is
// cheaper than to look at all that it leaves in.
func (c catalogue) count(ctx context.Context, r reader, q query) (int64, error) {
	if i := slices.IndexFunc(q.filters, func(f filter) bool { return f.not }); i >= 0 {
		left, out := q, q
		left.filters, out.filters = slices.Delete(slices.Clone(q.filters), i, i+1), slices.Clone(q.filters)
		out.filters[i].not, out.filters[i].rare = false, true
		n, err := c.count(ctx, r, left)
		if err != nil {
			return 0, err
		}
		without, err := c.count(ctx, r, out)
		return n - without, err
	}
	s, err := c.search(ctx, r, q)
	if err != nil {
		return 0, err
	}
	s.ahead = aheadMax // All are counted.
	var sum int64
	if len(s.filters) == 1 && (len(s.filters[0]) == 1 || oneOf(q.filters[0].kind)) {
		if sum, err = s.countTerms(ctx, s.filters[0]); err != nil {
			return 0, err
		}
		s.blocks = slices.DeleteFunc(s.blocks, s.whole)
	}
	for i := range s.blocks {
		n, err := s.countIn(ctx, i)
		if err != nil {
			return 0, err
		}
		sum += int64(n)
	}
	return sum, nil
}

// oneOf reports whether no document has two values of a kind, so that those who have
// one or the other are as many as both together.
func oneOf(kind uint8) bool {
	return kind == termSender || kind == termOwner || kind == termType || kind == termChain
}

// page returns the documents of a query from the offset-th on, limit of them or a
// few more: documents of the same time come together or not at all. The caller
// orders those by what it will, and leaves out skip of the first. A limit of 0 is
// none.
func (c catalogue) page(ctx context.Context, r reader, q query, offset, limit int64) (hits []hit, skip int64, err error) {
	s, err := c.search(ctx, r, q)
	if err != nil {
		return nil, 0, err
	}
	// pool is what may still come after a document of a later block.
	from, passed, pool, err := s.pass(ctx, offset)
	if err != nil {
		return nil, 0, err
	}
	offset -= passed
	for i := from; i < len(s.blocks); i++ {
		var need int64
		if limit != 0 {
			need = offset + limit
		}
		found, err := s.find(ctx, i, s.from, s.to, need)
		if err != nil {
			return nil, 0, err
		}
		pool = append(pool, found...)
		if limit != 0 {
			pool = s.first(pool, need)
		}
		pool = s.sorted(pool)
		done := s.settled(pool, i)
		hits = append(hits, pool[:done]...)
		pool = pool[done:]
		hits, offset = drop(hits, offset)
		if limit != 0 && int64(len(hits)) >= offset+limit {
			return cut(hits, offset+limit), offset, nil
		}
	}
	if len(hits) == 0 {
		return nil, 0, nil
	}
	return hits, offset, nil
}

func (c catalogue) search(ctx context.Context, r reader, q query) (*search, error) {
	s := &search{catalogue: c, r: r, oldest: q.oldest, ahead: 1}
	s.from, s.to = q.span()
	filters := slices.SortedStableFunc(slices.Values(q.filters), func(a, b filter) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, f := range filters {
		keys := make([][16]byte, 0, len(f.values))
		for _, v := range f.values {
			keys = append(keys, term{f.kind, v}.key())
		}
		slices.SortFunc(keys, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
		keys = slices.Compact(keys) // A value may be asked for twice.
		if f.not {
			s.without = append(s.without, keys)
		} else {
			s.filters = append(s.filters, keys)
		}
	}
	if len(s.filters) == 0 {
		s.filters = [][][16]byte{{everything.key()}}
	}
	return s, s.choose(ctx)
}

// rank orders filters: the fewer documents are likely to have what one names, the
// lesser it is.
func (f filter) rank() int {
	if f.rare {
		return -1
	}
	switch f.kind {
	case termRef, termFile:
		return 0
	case termSender, termOwner:
		return 1
	case termKey, termTag, termChannel, termContentType:
		return 2
	}
	return 3
}

// choose reads the blocks that are in time, in the order of the query.
func (s *search) choose(ctx context.Context) error {
	all, err := s.allBlocks(ctx, s.r)
	if err != nil {
		return err
	}
	s.blocks = slices.DeleteFunc(all, func(b block) bool { return b.max < s.from || b.min >= s.to })
	if i := slices.IndexFunc(s.blocks, func(b block) bool { return b.marked < b.n }); i >= 0 {
		if err := s.inTail(ctx, s.blocks[i]); err != nil {
			return err
		}
	}
	slices.SortFunc(s.blocks, func(a, b block) int {
		if s.oldest {
			return cmp.Or(cmp.Compare(a.min, b.min), cmp.Compare(a.number, b.number))
		}
		return cmp.Or(cmp.Compare(b.max, a.max), cmp.Compare(b.number, a.number))
	})
	return nil
}

// spans are those of some blocks, as arguments.
func spans(blocks []block) (out []any) {
	seen := map[int64]bool{}
	for _, b := range blocks {
		if span := spanOf(b.number); !seen[span] {
			seen[span] = true
			out = append(out, span)
		}
	}
	return out
}

// whole reports whether all documents of a block are in time.
func (s *search) whole(b block) bool { return s.from <= b.min && b.max < s.to }

// countTerms adds up the sizes of the sets of terms, in all blocks that are in time as
// a whole.
func (s *search) countTerms(ctx context.Context, keys [][16]byte) (sum int64, err error) {
	whole := slices.DeleteFunc(slices.Clone(s.blocks), func(b block) bool { return !s.whole(b) })
	slices.SortFunc(whole, func(a, b block) int { return cmp.Compare(a.number, b.number) })
	for len(whole) > 0 {
		// Blocks that follow each other are counted at once.
		n := 1
		for n < len(whole) && n < aheadMax*spanBlocks && whole[n].number == whole[0].number+int64(n) {
			n++
		}
		low, high, spans := whole[0].number, whole[n-1].number, padded(spans(whole[:n]))
		for terms := range chunks(keys) {
			terms := arguments(terms)
			query := "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM " + s.name + "_postings WHERE span IN " + marks(len(spans)) + " AND term IN " + marks(len(terms)) + " AND block BETWEEN ? AND ?"
			var n int64
			if err := s.r.q.QueryRowContext(ctx, query, slices.Concat(spans, terms, []any{low, high})...).Scan(&n); err != nil {
				return 0, fmt.Errorf("count %ss: %w", s.name, err)
			}
			sum += n
		}
		for _, key := range keys {
			if low <= s.tail.number && s.tail.number <= high {
				sum += int64(len(s.tailSets[key]))
			}
		}
		whole = whole[n:]
	}
	return sum, nil
}

// countIn is how many documents of the i-th block are found.
func (s *search) countIn(ctx context.Context, i int) (n int, err error) {
	set, err := s.set(ctx, i)
	if set == nil {
		return 0, err
	}
	b := s.blocks[i]
	if s.whole(b) {
		return set.count(), nil
	}
	var some []part // Those whose times have to be looked at.
	for _, p := range partsOf(b, set, s.from, s.to) {
		if s.from <= p.min && p.max < s.to {
			n += p.n
		} else {
			some = append(some, p)
		}
	}
	found, err := s.timed(ctx, b, set, some, s.from, s.to)
	return n + len(found), err
}

// set is what the filters leave of the i-th block, or nil if that is nothing. Blocks
// are asked for in their order, so some are read at once, more and more as the search
// goes on.
func (s *search) set(ctx context.Context, i int) (*bitset, error) {
	if i < s.low || i >= s.top {
		s.low, s.top = i, min(i+s.ahead, len(s.blocks))
		if err := s.load(ctx, s.blocks[s.low:s.top]); err != nil {
			s.top = s.low
			return nil, err
		}
		s.ahead = min(2*s.ahead, aheadMax)
	}
	return s.loaded[s.blocks[i].number], nil
}

// load reads the sets of blocks, in place of those that were read before. Filters are
// asked only for what those before them left.
func (s *search) load(ctx context.Context, blocks []block) error {
	for _, set := range s.loaded {
		s.spare = append(s.spare, set)
	}
	s.loaded = nil
	for i, keys := range s.filters {
		sets, err := s.union(ctx, keys, blocks)
		if err != nil {
			return err
		}
		var left []block
		for _, b := range blocks {
			set := sets[b.number]
			if set == nil {
				continue
			}
			if i > 0 {
				had := s.loaded[b.number]
				s.spare = append(s.spare, had)
				if !set.and(had) {
					delete(sets, b.number)
					s.spare = append(s.spare, set)
					continue
				}
			}
			left = append(left, b)
		}
		s.loaded, blocks = sets, left
	}
	for _, keys := range s.without {
		sets, err := s.union(ctx, keys, blocks)
		if err != nil {
			return err
		}
		for number, set := range sets {
			s.loaded[number].andNot(set)
			s.spare = append(s.spare, set)
		}
	}
	return nil
}

// union reads what has one of some terms, of each block where something has.
func (s *search) union(ctx context.Context, keys [][16]byte, blocks []block) (map[int64]*bitset, error) {
	if len(blocks) == 0 {
		return nil, nil
	}
	wanted := make(map[int64]bool, len(blocks))
	low, high := blocks[0].number, blocks[0].number
	for _, b := range blocks {
		wanted[b.number] = true
		low, high = min(low, b.number), max(high, b.number)
	}
	out := make(map[int64]*bitset, len(blocks))
	of := func(number int64) *bitset {
		set := out[number]
		if set == nil {
			if n := len(s.spare); n > 0 {
				set, s.spare = s.spare[n-1], s.spare[:n-1]
				*set = bitset{}
			} else {
				set = new(bitset)
			}
			out[number] = set
		}
		return set
	}
	if wanted[s.tail.number] {
		for _, key := range keys {
			if in := s.tailSets[key]; len(in) > 0 {
				of(s.tail.number).setAll(in)
			}
		}
	}
	spans := padded(spans(blocks))
	for terms := range chunks(keys) {
		terms := arguments(terms)
		query := "SELECT block, bits FROM " + s.name + "_postings WHERE span IN " + marks(len(spans)) + " AND term IN " + marks(len(terms)) + " AND block BETWEEN ? AND ?"
		err := s.r.each(ctx, query, slices.Concat(spans, terms, []any{low, high}), func(scan func(...any) error) error {
			var number int64
			var raw sql.RawBytes // It is of the engine until the next row: nothing keeps it.
			if err := scan(&number, &raw); err != nil {
				return err
			}
			if !wanted[number] {
				return nil
			}
			return of(number).add(raw)
		})
		if err != nil {
			return nil, fmt.Errorf("read sets of %ss: %w", s.name, err)
		}
	}
	return out, nil
}

// find returns the documents of the i-th block with from <= time < to, in no order. If
// need is not 0, those may be left out that need or more others come before.
func (s *search) find(ctx context.Context, i int, from, to, need int64) ([]hit, error) {
	set, err := s.set(ctx, i)
	if set == nil {
		return nil, err
	}
	b := s.blocks[i]
	parts := partsOf(b, set, from, to)
	if need > 0 {
		from, to = s.narrow(parts, from, to, need)
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.max < from || p.min >= to })
	}
	return s.timed(ctx, b, set, parts, from, to)
}

// narrow returns times within which are the first parts that have need documents
// together, if there are so many: what is outside comes after all of those.
func (s *search) narrow(parts []part, from, to, need int64) (least, most int64) {
	inside := slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.min < from || p.max >= to })
	slices.SortFunc(inside, func(a, b part) int {
		if s.oldest {
			return cmp.Compare(a.max, b.max)
		}
		return cmp.Compare(b.min, a.min)
	})
	for _, p := range inside {
		switch need -= int64(p.n); {
		case need > 0:
		case s.oldest:
			return from, p.max + 1
		default:
			return p.min, to
		}
	}
	return from, to
}

// pass goes past blocks that have no more than offset documents together, without
// looking at most of them. It returns how many blocks and documents it has passed, and
// which of those blocks' documents may come after one of a later block.
func (s *search) pass(ctx context.Context, offset int64) (blocks int, passed int64, left []hit, err error) {
	for offset > 0 && blocks < len(s.blocks) {
		n, err := s.countIn(ctx, blocks)
		if err != nil {
			return 0, 0, nil, err
		}
		if passed+int64(n) > offset {
			break
		}
		passed += int64(n)
		blocks++
	}
	if blocks == len(s.blocks) {
		return blocks, passed, nil, nil
	}
	next := s.blocks[blocks]
	from, to := s.from, s.to
	if s.oldest {
		from = max(from, next.min)
	} else if next.max < math.MaxInt64 {
		to = min(to, next.max+1)
	}
	for i, b := range s.blocks[:blocks] {
		if b.max < from || b.min >= to {
			continue
		}
		found, err := s.find(ctx, i, from, to, 0)
		if err != nil {
			return 0, 0, nil, err
		}
		left = append(left, found...)
	}
	return blocks, passed - int64(len(left)), left, nil
}

// before reports whether a document comes before all of a block.
func (s *search) before(h hit, b block) bool {
	if s.oldest {
		return h.at < b.min
	}
	return h.at > b.max
}

// settled is how many documents come before all of the blocks after the i-th.
func (s *search) settled(pool []hit, i int) int {
	if i+1 == len(s.blocks) {
		return len(pool)
	}
	next := s.blocks[i+1]
	n, _ := slices.BinarySearchFunc(pool, next, func(h hit, next block) int {
		if s.before(h, next) {
			return -1
		}
		return 1
	})
	return n
}

func (s *search) compare(a, b hit) int {
	if s.oldest {
		return cmp.Compare(a.at, b.at)
	}
	return cmp.Compare(b.at, a.at)
}

func (s *search) sorted(hits []hit) []hit {
	slices.SortFunc(hits, s.compare)
	return hits
}

// first leaves out documents that n or more others come before, if there are many:
// a page needs few of a block, and to order all of it takes longer than the rest.
func (s *search) first(hits []hit, n int64) []hit {
	const many = 4
	for int64(len(hits)) > many*n {
		// What is before the middle of some is about an n-th of all: a few rounds leave
		// a few times n. The first and the last are no sample: most hits come in about
		// the order that is asked for, or in the other one.
		sample := make([]hit, 0, sampleSize)
		for i := range sampleSize {
			sample = append(sample, hits[(2*i+1)*len(hits)/(2*sampleSize)])
		}
		slices.SortFunc(sample, s.compare)
		var bound hit
		kept := 0
		for at := int64(sampleSize-1) * 2 * n / int64(len(hits)); int64(kept) < n && at < sampleSize; at = 2*at + 1 {
			bound, kept = sample[at], 0
			for _, h := range hits {
				if s.compare(h, bound) <= 0 {
					kept++
				}
			}
		}
		if int64(kept) < n || kept == len(hits) {
			return hits
		}
		next := make([]hit, 0, kept)
		for _, h := range hits {
			if s.compare(h, bound) <= 0 {
				next = append(next, h)
			}
		}
		hits = next
	}
	return hits
}

// drop leaves out the first, offset of them, but not a part of those of one time,
// all of which are there.
func drop(hits []hit, offset int64) ([]hit, int64) {
	if offset >= int64(len(hits)) {
		return nil, offset - int64(len(hits))
	}
	at := offset
	for at > 0 && hits[at-1].at == hits[offset].at {
		at--
	}
	return hits[at:], offset - at
}

// cut leaves out what comes after the n-th, but not a part of those of one time.
func cut(hits []hit, n int64) []hit {
	for n < int64(len(hits)) && hits[n].at == hits[n-1].at {
		n++
	}
	return hits[:n]
}
