package state

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is a catalogue that is a list.
type model struct {
	t    *testing.T
	db   *DB
	c    catalogue
	docs map[int64]document
}

const (
	kindA = termSender
	kindB = termOwner
	kindC = termTag // A document may have several.
)

func newModel(t *testing.T) *model {
	t.Helper()
	db, err := OpenFor(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &model{t, db, catalogue{"message"}, map[int64]document{}}
}

func (m *model) add(docs []document) {
	m.t.Helper()
	var ids []int64
	err := m.db.Update(m.t.Context(), func(tx *Tx) (err error) {
		ids, err = m.c.add(m.t.Context(), tx, docs)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	for i, id := range ids {
		m.docs[id] = docs[i]
	}
}

func (m *model) remove(id int64) {
	m.t.Helper()
	err := m.db.Update(m.t.Context(), func(tx *Tx) error { return m.c.remove(m.t.Context(), tx, id, m.docs[id].terms) })
	if err != nil {
		m.t.Fatal(err)
	}
	delete(m.docs, id)
}

// find is what a query must have, those of one time by number.
func (m *model) find(q query) (out []hit) {
	from, to := q.span()
	for id, d := range m.docs {
		ok := from <= d.at && d.at < to
		for _, f := range q.filters {
			ok = ok && f.not != slices.ContainsFunc(d.terms, func(t term) bool { return t.kind == f.kind && slices.Contains(f.values, t.value) })
		}
		if ok {
			out = append(out, hit{id, d.at})
		}
	}
	order(out, q.oldest)
	return out
}

func order(hits []hit, oldest bool) {
	slices.SortFunc(hits, func(a, b hit) int {
		at := cmp.Compare(b.at, a.at)
		if oldest {
			at = -at
		}
		return cmp.Or(at, cmp.Compare(a.id, b.id))
	})
}

func (m *model) check(q query, offset, limit int64) {
	m.t.Helper()
	want := m.find(q)
	n, err := m.c.count(m.t.Context(), m.db.reader, q)
	if err != nil || n != int64(len(want)) {
		m.t.Fatalf("count of %+v is %d, %v, want %d", q, n, err, len(want))
	}
	got, skip, err := m.c.page(m.t.Context(), m.db.reader, q, offset, limit)
	if err != nil {
		m.t.Fatal(err)
	}
	order(got, q.oldest)
	got = got[skip:]
	if limit != 0 {
		got = got[:min(int(limit), len(got))]
	}
	want = want[min(int(offset), len(want)):]
	if limit != 0 {
		want = want[:min(int(limit), len(want))]
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("page %d+%d of %+v is\n%v, want\n%v", offset, limit, q, got, want)
	}
}

func randomDocs(rng *rand.Rand, n int, at func(i int) int64) []document {
	docs := make([]document, n)
	for i := range docs {
		docs[i] = document{at(i), []term{
			{kindA, fmt.Sprint(rng.IntN(3))}, {kindB, fmt.Sprint(rng.IntN(2000))}, {kindC, fmt.Sprint(rng.IntN(5))}, {kindC, fmt.Sprint(rng.IntN(5))},
		}}
	}
	return docs
}

func randomQuery(rng *rand.Rand, most int64) (q query) {
	for _, kind := range []uint8{kindA, kindB, kindC} {
		if rng.IntN(2) == 0 {
			continue
		}
		f := filter{kind: kind, not: rng.IntN(6) == 0}
		for range 1 + rng.IntN(3) {
			f.values = append(f.values, fmt.Sprint(rng.IntN(6)))
		}
		q.filters = append(q.filters, f)
	}
	if rng.IntN(3) == 0 {
		q.from = rng.Int64N(most)
		q.to = q.from + 1 + rng.Int64N(most)
	}
	q.oldest = rng.IntN(2) == 0
	return q
}

// TestCatalogueIsAList compares random queries with those of a plain list, for
// documents in the order of their times, in none, and with many of one time.
func TestCatalogueIsAList(t *testing.T) {
	t.Parallel()
	const size = 2*blockSize + blockSize/4
	for name, at := range map[string]func(rng *rand.Rand, i int) int64{
		"in order":     func(_ *rand.Rand, i int) int64 { return int64(10 * i) },
		"nearly":       func(rng *rand.Rand, i int) int64 { return int64(10*i) + rng.Int64N(5000) },
		"in no order":  func(rng *rand.Rand, _ int) int64 { return rng.Int64N(10 * size) },
		"of few times": func(rng *rand.Rand, _ int) int64 { return rng.Int64N(50) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 2))
			m := newModel(t)
			for n := 0; n < size; {
				batch := 1 + rng.IntN(3000)
				m.add(randomDocs(rng, batch, func(i int) int64 { return at(rng, n+i) }))
				n += batch
				m.check(randomQuery(rng, 10*size), rng.Int64N(100), 1+rng.Int64N(50))
			}
			for range 200 {
				m.remove(rng.Int64N(size))
			}
			for range 60 {
				m.check(randomQuery(rng, 10*size), rng.Int64N(size), rng.Int64N(50))
			}
		})
	}
}

// TestNarrowKeepsWhatAPageNeeds: the times of the first parts that have enough documents for
// sure. It leaves the parts as they are, whose documents are looked at next.
func TestNarrowKeepsWhatAPageNeeds(t *testing.T) {
	t.Parallel()
	parts := []part{{0, 5, 0, 9}, {1, 5, 20, 29}, {2, 5, 10, 19}, {3, 5, 5, 40}}
	before := slices.Clone(parts)
	tests := []struct {
		oldest            bool
		need, least, most int64
	}{
		{false, 1, 20, 35},
		{false, 5, 20, 35},
		{false, 6, 10, 35},
		{false, 15, 0, 35},
		{false, 16, 0, 35}, // The last part may have none of the times that are asked for.
		{true, 1, 0, 10},
		{true, 6, 0, 20},
		{true, 16, 0, 35},
	}
	for _, tt := range tests {
		s := &search{oldest: tt.oldest}
		least, most := s.narrow(parts, 0, 35, tt.need)
		if least != tt.least || most != tt.most {
			t.Errorf("%d documents, oldest first %t: %d to %d, want %d to %d", tt.need, tt.oldest, least, most, tt.least, tt.most)
		}
		if !slices.Equal(parts, before) {
			t.Fatalf("parts are %v, were %v", parts, before)
		}
	}
}

// TestCatalogueOfAnOlderVersion: sets and times are the same after they were put
// where the version before has them, and back.
func TestCatalogueOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	const before, size = 11, spanBlocks*blockSize + blockSize/2 // Full blocks in two spans.
	rng := rand.New(rand.NewPCG(3, 4))
	m := newModel(t)
	m.add(randomDocs(rng, size, func(i int) int64 { return int64(10*i) + rng.Int64N(50_000) }))
	newest, err := m.db.NewestVersion()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []int64{before, newest} {
		if err := m.db.Migrate(t.Context(), version); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		for range 20 {
			m.check(randomQuery(rng, 10*size), rng.Int64N(size), rng.Int64N(50))
		}
	}
	check()
	if err := m.db.fillBounds(t.Context()); err != nil { // As when it is opened.
		t.Fatal(err)
	}
	all, err := m.c.allBlocks(t.Context(), m.db.reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if full := b.n == blockSize; full != (b.bounds != "") {
			t.Errorf("block %d of %d documents has bounds of %d bytes", b.number, b.n, len(b.bounds))
		}
	}
	for _, b := range m.db.tails.fullOf(m.c.name) {
		if b.bounds == "" {
			t.Errorf("block %d is known as it was before it had bounds", b.number)
		}
	}
	check()
}

// TestOldSnapshotHasItsOwnBlocks: what others have read since is not in it.
func TestOldSnapshotHasItsOwnBlocks(t *testing.T) {
	t.Parallel()
	const first = blockSize + blockSize/2
	m, at := newModel(t), func(i int) int64 { return int64(i) }
	rng := rand.New(rand.NewPCG(5, 6))
	m.add(randomDocs(rng, first, at))
	err := m.db.View(t.Context(), func(v *View) error {
		for _, more := range []int{0, blockSize, 2 * blockSize} {
			m.add(randomDocs(rng, more, at))
			m.check(query{}, 0, 1)
			n, err := m.c.count(t.Context(), v.reader, query{})
			if err != nil {
				return err
			}
			hits, _, err := m.c.page(t.Context(), v.reader, query{oldest: true}, first-1, 10)
			if err != nil {
				return err
			}
			if n != first || len(hits) != 1 {
				t.Errorf("after %d more there are %d documents, the page has %d, want %d and 1", more, n, len(hits), first)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkCatalogue adds documents as messages are, many with one commit.
func BenchmarkCatalogue(b *testing.B) {
	ctx := context.Background()
	db, err := OpenFor(b, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	c, rng := catalogue{"message"}, rand.New(rand.NewPCG(1, 2))
	const batch = 500
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		docs := make([]document, batch)
		for i := range docs {
			owner := fmt.Sprint("0x51A58800b26AA1451aaA803d1746687cB88E05", rng.IntN(20000))
			docs[i] = document{int64(n + i), []term{
				{1, owner}, {2, owner}, {3, fmt.Sprint(rng.IntN(6))}, {4, "ETH"}, {5, fmt.Sprint(rng.IntN(50))}, {6, fmt.Sprint(rng.IntN(30))}, {7, fmt.Sprint(rng.Uint64())}, {8, "processed"},
			}}
		}
		if err := db.Update(ctx, func(tx *Tx) error { _, err := c.add(ctx, tx, docs); return err }); err != nil {
			b.Fatal(err)
		}
	}
}
