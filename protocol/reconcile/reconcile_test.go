package reconcile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// memory is a set of items in memory.
type memory struct {
	items []reconcile.Point
	sums  []reconcile.Sum // Of the items before each.
}

func newMemory(items []reconcile.Point) *memory {
	m := &memory{items: slices.Clone(items)}
	slices.SortFunc(m.items, reconcile.Point.Compare)
	m.items = slices.Compact(m.items)
	m.sums = make([]reconcile.Sum, 1, len(m.items)+1)
	for i, p := range m.items {
		s := m.sums[i]
		s.Add(reconcile.Of(p.Hash))
		m.sums = append(m.sums, s)
	}
	return m
}

func (m *memory) index(p reconcile.Point) int {
	i, _ := slices.BinarySearchFunc(m.items, p, reconcile.Point.Compare)
	return i
}

func (m *memory) Sums(bounds []reconcile.Point) (out []reconcile.Sum, err error) {
	for i := range bounds[1:] {
		s := m.sums[m.index(bounds[i+1])]
		s.Sub(m.sums[m.index(bounds[i])])
		out = append(out, s)
	}
	return out, nil
}

func (m *memory) List(r reconcile.Range, limit int) ([]reconcile.Point, error) {
	from, to := m.index(r.From), m.index(r.To)
	return m.items[from:min(to, from+limit)], nil
}

func (m *memory) Parts(r reconcile.Range, limit int) (out []reconcile.Part, err error) {
	from, to := m.index(r.From), m.index(r.To)
	n := to - from
	limit = min(limit, n)
	bounds := []reconcile.Point{r.From}
	for i := 1; i < limit; i++ {
		at := from + n*i/limit
		bounds = append(bounds, reconcile.Between(m.items[at-1], m.items[at]))
	}
	bounds = append(bounds, r.To)
	sums, err := m.Sums(bounds)
	for i, s := range sums {
		out = append(out, reconcile.Part{To: bounds[i+1], Sum: s})
	}
	return out, err
}

// item is the n-th item; some are in IPFS.
func item(n uint64, at int64) reconcile.Point {
	hash := message.HashOf(binary.BigEndian.AppendUint64(nil, n))
	switch n % 50 {
	case 7:
		hash = message.ItemHash("Qm" + string(base58ish(hash[:44])))
	case 8:
		hash = message.ItemHash("bafy" + string(base32ish(hash[:55])))
	}
	return reconcile.Point{At: at, Hash: hash}
}

func base58ish(h message.ItemHash) []byte {
	out := []byte(h)
	for i, c := range out {
		if c == '0' {
			out[i] = 'z'
		}
	}
	return out
}

func base32ish(h message.ItemHash) []byte {
	out := []byte(h)
	for i, c := range out {
		if c < '2' || c > '7' && c <= '9' {
			out[i] = 'z'
		}
	}
	return out
}

// outcome is what a session found, and what it took.
type outcome struct {
	reconcile.Found
	rounds, bytes int
}

// compare runs a session to its end, everything through its written form.
func compare(set reconcile.Set, peer reconcile.Source, enough func() bool) (out outcome, err error) {
	s := reconcile.NewSession(set)
	for !s.Done() {
		if out.rounds++; out.rounds > 100_000 {
			return out, errors.New("there is no end")
		}
		q, err := s.Question()
		if err != nil {
			return out, err
		}
		rawQ := q.Encode()
		heard, err := reconcile.ParseQuestion(rawQ)
		if err != nil {
			return out, err
		}
		if diff := cmp.Diff(q, heard); diff != "" {
			return out, errors.New("question: " + diff)
		}
		told, err := reconcile.Reply(peer, heard, enough)
		if err != nil {
			return out, err
		}
		rawA := told.Encode(heard)
		a, err := reconcile.ParseAnswer(rawA, q)
		if err != nil {
			return out, err
		}
		found, err := s.Take(q, a)
		if err != nil {
			return out, err
		}
		out.Lacks, out.Extra = append(out.Lacks, found.Lacks...), append(out.Extra, found.Extra...)
		out.bytes += len(rawQ) + len(rawA)
	}
	return out, nil
}

// minus are the items of one set that another has not.
func minus(a, b *memory) (out []reconcile.Point) {
	for _, p := range a.items {
		if _, is := slices.BinarySearchFunc(b.items, p, reconcile.Point.Compare); !is {
			out = append(out, p)
		}
	}
	return out
}

// TestEverySetsDifferenceIsFound, and nothing else.
func TestEverySetsDifferenceIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		n := rapid.SampledFrom([]int{0, 1, 2, 20, 30, 300, 3000}).Draw(t, "n")
		spread := rapid.SampledFrom([]int64{1, 3, 1000, 1 << 40}).Draw(t, "spread") // Many or none of one time.
		lackA, lackB := rapid.IntRange(0, 100).Draw(t, "percent a lacks"), rapid.IntRange(0, 100).Draw(t, "percent b lacks")
		few := rapid.Bool().Draw(t, "few differences")
		impatient := rapid.Bool().Draw(t, "one range an answer")
		r := rand.New(rand.NewPCG(seed, 1))
		var a, b []reconcile.Point
		for i := range n {
			p := item(uint64(i), r.Int64N(spread))
			percent := 100
			if few {
				percent = 5000
			}
			if r.IntN(percent) >= lackA {
				a = append(a, p)
			}
			if r.IntN(percent) >= lackB {
				b = append(b, p)
			}
		}
		setA, setB := newMemory(a), newMemory(b)
		got, err := compare(setA, setB, func() bool { return impatient })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(minus(setB, setA), got.Lacks); diff != "" {
			t.Fatalf("what a lacks (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(minus(setA, setB), got.Extra); diff != "" {
			t.Fatalf("what b lacks (-want +got):\n%s", diff)
		}
		// What is known of the other is not said again.
		known := reconcile.Overlay{Set: setA, More: got.Lacks, Fewer: got.Extra}
		again, err := compare(known, setB, nil)
		if err != nil || again.rounds != 1 || len(again.Lacks)+len(again.Extra) > 0 || again.bytes > 100 {
			t.Fatalf("another time: %+v, %v", again, err)
		}
		if len(got.Lacks) > 0 { // And what is new is.
			known.More = known.More[1:]
			again, err = compare(known, setB, nil)
			if err != nil || !slices.Equal(again.Lacks, got.Lacks[:1]) || len(again.Extra) > 0 {
				t.Fatalf("one more: %+v, %v", again, err)
			}
		}
	})
}

// TestFewBytesTellADifference: a hundred thousand items with differences in bursts and
// anywhere.
func TestFewBytesTellADifference(t *testing.T) {
	const n = 100_000
	all := make([]reconcile.Point, n)
	for i := range all {
		all[i] = item(uint64(i), int64(i)*3_000_000)
	}
	full := newMemory(all)
	for _, tt := range []struct {
		missing    int
		burst      bool
		most       int // Bytes.
		mostRounds int
	}{{0, false, 100, 1}, {1, false, 4_000, 6}, {10, false, 30_000, 6}, {1000, false, 900_000, 9}, {1000, true, 60_000, 7}, {n, true, 39 * n, 10}} {
		r := rand.New(rand.NewPCG(1, 2))
		lacks := map[int]bool{}
		for at := n - tt.missing; len(lacks) < tt.missing; at++ {
			if !tt.burst {
				at = r.IntN(n)
			}
			lacks[at] = true
		}
		var less []reconcile.Point
		for i, p := range all {
			if !lacks[i] {
				less = append(less, p)
			}
		}
		got, err := compare(newMemory(less), full, nil)
		if err != nil || len(got.Lacks) != tt.missing || got.bytes > tt.most || got.rounds > tt.mostRounds {
			t.Errorf("%d missing (in a burst %v): %d found, %d bytes in %d rounds, want at most %d in %d, %v", tt.missing, tt.burst, len(got.Lacks), got.bytes, got.rounds, tt.most, tt.mostRounds, err)
		}
		t.Logf("%d missing (in a burst %v): %d bytes in %d rounds", tt.missing, tt.burst, got.bytes, got.rounds)
	}
}

// TestTimesThatDifferAreNoDifference: nobody signs the time of what was made without
// one, so nodes may have one item at two times.
func TestTimesThatDifferAreNoDifference(t *testing.T) {
	var a, b []reconcile.Point
	for i := range 500 {
		a, b = append(a, item(uint64(i), int64(i))), append(b, item(uint64(i), int64(i*7%500)))
	}
	if got, err := compare(newMemory(a), newMemory(b), nil); err != nil || got.rounds != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// liar answers with what it likes.
type liar struct {
	*memory
	r *rand.Rand
}

func (l liar) Sums(bounds []reconcile.Point) (out []reconcile.Sum, err error) {
	for range bounds[1:] {
		s := reconcile.Of(item(l.r.Uint64(), 0).Hash)
		s.N = l.r.Int64N(1 << 50)
		out = append(out, s)
	}
	return out, nil
}

// Parts cuts ranges for ever.
func (l liar) Parts(r reconcile.Range, limit int) (out []reconcile.Part, err error) {
	bounds := []reconcile.Point{}
	for range limit - 1 {
		span := uint64(r.To.At) - uint64(r.From.At)
		p := item(l.r.Uint64(), int64(uint64(r.From.At)+l.r.Uint64N(max(span, 1))))
		if p.Compare(r.From) > 0 && p.Compare(r.To) < 0 {
			bounds = append(bounds, p)
		}
	}
	slices.SortFunc(bounds, reconcile.Point.Compare)
	bounds = append(slices.Compact(bounds), r.To)
	sums, err := l.Sums(append([]reconcile.Point{r.From}, bounds...))
	for i, s := range sums {
		out = append(out, reconcile.Part{To: bounds[i], Sum: s})
	}
	return out, err
}

// TestALiarComesToAnEnd: it cuts ranges without end, of which few are kept.
func TestALiarComesToAnEnd(t *testing.T) {
	for seed := range uint64(3) {
		var items []reconcile.Point
		for i := range 1000 {
			items = append(items, item(uint64(i), int64(i)))
		}
		s := reconcile.NewSession(newMemory(items))
		l := liar{newMemory(nil), rand.New(rand.NewPCG(seed, 1))}
		var err error
		rounds := 0
		for ; !s.Done() && err == nil && rounds < 2000; rounds++ {
			q, failed := s.Question()
			if failed != nil {
				t.Fatal(failed)
			}
			var a reconcile.Answer
			if a, failed = reconcile.Reply(l, q, nil); failed != nil {
				t.Fatal(failed)
			}
			if a, failed = reconcile.ParseAnswer(a.Encode(q), q); failed != nil {
				t.Fatal(failed)
			}
			_, err = s.Take(q, a)
		}
		if err == nil && !s.Done() {
			t.Errorf("seed %d: no end after %d rounds", seed, rounds)
		}
	}
}

func TestAnswersThatNobodyAskedForAreRefused(t *testing.T) {
	items := []reconcile.Point{item(1, 1), item(2, 2), item(3, 3)}
	s := reconcile.NewSession(newMemory(items))
	q, err := s.Question()
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]reconcile.Answer{
		"of no range": {}, "of two ranges": {{}, {}}, "of another kind": {{Kind: 9}},
	} {
		if _, err := s.Take(q, a); err == nil {
			t.Errorf("an answer %s was taken", name)
		}
	}
}

func TestSumsAreAddedAndTakenOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all, odd reconcile.Sum
		for i := range rapid.IntRange(0, 50).Draw(t, "n") {
			s := reconcile.Of(item(uint64(i), 0).Hash)
			all.Add(s)
			if i%2 == 1 {
				odd.Add(s)
			}
		}
		even := all
		even.Sub(odd)
		even.Add(odd)
		read, err := reconcile.ReadSum(all.N, all.Digest())
		if err != nil || even != all || read != all || read.Print() != all.Print() {
			t.Fatalf("%+v, %+v, %+v, %v", even, all, read, err)
		}
	})
	if _, err := reconcile.ReadSum(1, make([]byte, 31)); err == nil {
		t.Error("a short sum was read")
	}
	if _, err := reconcile.ReadSum(-1, make([]byte, 32)); err == nil {
		t.Error("a sum of -1 items was read")
	}
}

// questions are seeds and golden cases.
func questions(tb testing.TB) (out []reconcile.Question, answers []reconcile.Answer) {
	tb.Helper()
	var all []reconcile.Point
	for i := range 200 {
		all = append(all, item(uint64(i), int64(i/2)*1_500_000))
	}
	var some []reconcile.Point
	for i, p := range all {
		if i%37 != 5 && i/10 != 7 {
			some = append(some, p)
		}
	}
	source := newMemory(all)
	for _, set := range []*memory{newMemory(nil), newMemory(some), source} {
		s := reconcile.NewSession(set)
		for !s.Done() {
			q, err := s.Question()
			if err != nil {
				tb.Fatal(err)
			}
			a, err := reconcile.Reply(source, q, nil)
			if err != nil {
				tb.Fatal(err)
			}
			out, answers = append(out, q), append(answers, a)
			if _, err := s.Take(q, a); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return out, answers
}

func FuzzParseQuestion(f *testing.F) {
	all, _ := questions(f)
	for _, q := range all {
		f.Add(q.Encode())
	}
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0})
	source := newMemory([]reconcile.Point{item(1, 1), item(2, 2), item(7, 3)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := reconcile.ParseQuestion(raw)
		if err != nil {
			return
		}
		if !slices.Equal(q.Encode(), raw) {
			t.Fatalf("%x is written again as %x", raw, q.Encode())
		}
		a, err := reconcile.Reply(source, q, nil)
		if err != nil || len(a.Encode(q)) > reconcile.AnswerMax {
			t.Fatalf("answer: %v", err)
		}
		if _, err := reconcile.ParseAnswer(a.Encode(q), q); err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	all, answers := questions(f)
	for i, q := range all {
		f.Add(q.Encode(), answers[i].Encode(q))
	}
	f.Fuzz(func(t *testing.T, rawQ, rawA []byte) {
		q, err := reconcile.ParseQuestion(rawQ)
		if err != nil {
			return
		}
		a, err := reconcile.ParseAnswer(rawA, q)
		if err != nil {
			return
		}
		if !slices.Equal(a.Encode(q), rawA) {
			t.Fatalf("%x is written again as %x", rawA, a.Encode(q))
		}
		for i := range a {
			at := q[i].From
			for _, p := range a[i].Items {
				if p.Compare(at) < 0 || p.Compare(q[i].To) >= 0 {
					t.Fatalf("%+v is not in %+v", p, q[i])
				}
				if at = p; fmt.Sprint(p.Hash) == "" {
					t.Fatal("an item has no hash")
				}
			}
		}
	})
}
