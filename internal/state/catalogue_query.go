package state

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// filter is what a document must have: of a kind, one of the values.
type filter struct {
	kind   uint8
	values []string
	not    bool // None of the values.
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
	filters [][][16]byte // Keys, of each filter.
	without [][][16]byte // Keys of filters that say what a document has not.
	blocks  []block      // Those that may have documents, in order.
	oldest  bool

	ahead  int // How many blocks are read at once, the next time.
	loaded map[int64]*bitset

	tail     block // The block that has a tail, if it is among the blocks,
	tailSets sets  // and which documents of the tail have what the filters name.
}

// sampleSize is of how many documents a bound is guessed.
const sampleSize = 128

// aheadMax bounds the sets that are held at once: each is 4 KiB.
const aheadMax = 32

// count returns how many documents a query finds.
//
// What a filter leaves out is few, and counted with the rest of the query: that is
// cheaper than to look at all that it leaves in.
func (c catalogue) count(ctx context.Context, r reader, q query) (int64, error) {
	if i := slices.IndexFunc(q.filters, func(f filter) bool { return f.not }); i >= 0 {
		left, out := q, q
		left.filters, out.filters = slices.Delete(slices.Clone(q.filters), i, i+1), slices.Clone(q.filters)
		out.filters[i].not = false
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
	if len(s.filters) == 1 && (len(s.filters[0]) == 1 || oneOf(q.filters[0].kind)) && s.from == math.MinInt64 && s.to == math.MaxInt64 {
		for _, key := range s.filters[0] {
			n, err := s.countTerm(ctx, key)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	}
	for _, b := range s.blocks {
		n, err := s.countIn(ctx, b)
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
		found, err := s.find(ctx, s.blocks[i])
		if err != nil {
			return nil, 0, err
		}
		pool = append(pool, found...)
		if limit != 0 {
			pool = s.first(pool, offset+limit)
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
	for _, f := range q.filters {
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

// choose reads the blocks that every filter has and that are in time, in the order
// of the query.
func (s *search) choose(ctx context.Context) error {
	err := s.r.each(ctx, "SELECT block, n, marked, min_at, max_at FROM "+s.name+"_blocks WHERE max_at >= ? AND min_at < ?", []any{s.from, s.to}, func(scan func(...any) error) error {
		var b block
		err := scan(&b.number, &b.n, &b.marked, &b.min, &b.max)
		s.blocks = append(s.blocks, b)
		return err
	})
	if err != nil {
		return fmt.Errorf("read blocks of %ss: %w", s.name, err)
	}
	if i := slices.IndexFunc(s.blocks, func(b block) bool { return b.marked < b.n }); i >= 0 {
		if err := s.inTail(ctx, s.blocks[i]); err != nil {
			return err
		}
	}
	seen := map[int64]int{}
	for i, keys := range s.filters {
		see := func(number int64) {
			if seen[number] == i { // Every filter before has it, and this one has it for the first time.
				seen[number]++
			}
		}
		for _, key := range keys {
			if len(s.tailSets[key]) > 0 {
				see(s.tail.number)
			}
		}
		for chunk := range chunks(arguments(slices.Values(keys))) {
			err := s.r.each(ctx, "SELECT DISTINCT block FROM "+s.name+"_postings WHERE term IN "+marks(len(chunk)), chunk, func(scan func(...any) error) error {
				var number int64
				if err := scan(&number); err != nil {
					return err
				}
				see(number)
				return nil
			})
			if err != nil {
				return fmt.Errorf("read sets of %ss: %w", s.name, err)
			}
		}
	}
	s.blocks = slices.DeleteFunc(s.blocks, func(b block) bool { return seen[b.number] < len(s.filters) })
	slices.SortFunc(s.blocks, func(a, b block) int {
		if s.oldest {
			return cmp.Or(cmp.Compare(a.min, b.min), cmp.Compare(a.number, b.number))
		}
		return cmp.Or(cmp.Compare(b.max, a.max), cmp.Compare(b.number, a.number))
	})
	return nil
}

// countTerm adds up the sizes of a term's sets.
func (s *search) countTerm(ctx context.Context, key [16]byte) (n int64, err error) {
	err = s.r.q.QueryRowContext(ctx, "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM "+s.name+"_postings WHERE term = ?", key[:]).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %ss: %w", s.name, err)
	}
	return n + int64(len(s.tailSets[key])), nil
}

func (s *search) countIn(ctx context.Context, b block) (int, error) {
	if s.from <= b.min && b.max < s.to {
		set, err := s.set(ctx, b)
		if err != nil {
			return 0, err
		}
		return set.count(), nil
	}
	found, err := s.find(ctx, b)
	return len(found), err
}

// set is what the filters leave of a block. Blocks are asked for in their order, so
// some are read at once, more and more as the search goes on.
func (s *search) set(ctx context.Context, b block) (*bitset, error) {
	if set := s.loaded[b.number]; set != nil {
		return set, nil
	}
	from := slices.IndexFunc(s.blocks, func(x block) bool { return x.number == b.number })
	if err := s.load(ctx, s.blocks[from:min(from+s.ahead, len(s.blocks))]); err != nil {
		return nil, err
	}
	s.ahead = min(2*s.ahead, aheadMax)
	return s.loaded[b.number], nil
}

// load reads the sets of blocks, in place of those that were read before.
func (s *search) load(ctx context.Context, blocks []block) error {
	s.loaded = make(map[int64]*bitset, len(blocks))
	low, high := blocks[0].number, blocks[0].number
	for _, b := range blocks {
		low, high = min(low, b.number), max(high, b.number)
	}
	for i, keys := range s.filters {
		sets, err := s.union(ctx, keys, blocks, low, high)
		if err != nil {
			return err
		}
		for number, set := range sets {
			if i > 0 {
				set.and(s.loaded[number])
			}
			s.loaded[number] = set
		}
	}
	for _, keys := range s.without {
		sets, err := s.union(ctx, keys, blocks, low, high)
		if err != nil {
			return err
		}
		for number, set := range sets {
			s.loaded[number].andNot(set)
		}
	}
	return nil
}

// union reads what has one of some terms, of blocks that lie between two.
func (s *search) union(ctx context.Context, keys [][16]byte, blocks []block, low, high int64) (map[int64]*bitset, error) {
	out := make(map[int64]*bitset, len(blocks))
	for _, b := range blocks {
		out[b.number] = new(bitset)
	}
	if set := out[s.tail.number]; set != nil {
		for _, key := range keys {
			set.setAll(s.tailSets[key])
		}
	}
	for chunk := range chunks(arguments(slices.Values(keys))) {
		query := "SELECT block, bits FROM " + s.name + "_postings WHERE term IN " + marks(len(chunk)) + " AND block BETWEEN ? AND ?"
		err := s.r.each(ctx, query, append(chunk[:len(chunk):len(chunk)], low, high), func(scan func(...any) error) error {
			var number int64
			var raw []byte
			if err := scan(&number, &raw); err != nil {
				return err
			}
			if set := out[number]; set != nil {
				return set.add(raw)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read sets of %ss: %w", s.name, err)
		}
	}
	return out, nil
}

// find returns the documents of a block, in no order.
func (s *search) find(ctx context.Context, b block) ([]hit, error) {
	set, err := s.set(ctx, b)
	if err != nil {
		return nil, err
	}
	offsets := set.offsets()
	if len(offsets) == 0 {
		return nil, nil
	}
	times, err := s.times(ctx, b)
	if err != nil {
		return nil, err
	}
	out := make([]hit, 0, len(offsets))
	for _, at := range offsets {
		if t := times.at(at); s.from <= t && t < s.to {
			out = append(out, hit{b.first() + int64(at), t})
		}
	}
	return out, nil
}

// pass goes past blocks that have no more than offset documents together, without
// looking at most of them. It returns how many blocks and documents it has passed, and
// which of those blocks' documents may come after one of a later block.
func (s *search) pass(ctx context.Context, offset int64) (blocks int, passed int64, left []hit, err error) {
	for offset > 0 && blocks < len(s.blocks) {
		n, err := s.countIn(ctx, s.blocks[blocks])
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
	for _, b := range s.blocks[:blocks] {
		if s.oldest && b.max < next.min || !s.oldest && b.min > next.max {
			continue
		}
		found, err := s.find(ctx, b)
		if err != nil {
			return 0, 0, nil, err
		}
		for _, h := range found {
			if !s.before(h, next) {
				left = append(left, h)
			}
		}
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
