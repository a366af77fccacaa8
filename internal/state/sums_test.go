package state_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// atTime is a message of a sender at a time of its content, which need not be that of its envelope.
func atTime(tb testing.TB, n int, second int64) *state.Message {
	tb.Helper()
	m := post(tb, "owner", second, "ref", fmt.Sprint(n))
	m.Envelope.Time = time.Unix(second+int64(n%7), 0).UTC()
	return m
}

func pointOf(m *state.Message) reconcile.Point {
	return reconcile.Point{At: m.MadeAt.UnixMicro(), Hash: m.Envelope.ItemHash}
}

// checked wants the sums to be those of the messages.
func checked(t *testing.T, db *state.DB, want []reconcile.Point) {
	t.Helper()
	slices.SortFunc(want, reconcile.Point.Compare)
	var sum reconcile.Sum
	for _, p := range want {
		sum.Add(reconcile.Of(p.Hash))
	}
	print := sum.Print()
	c, err := db.Check(t.Context())
	if err != nil || c.Set != fmt.Sprintf("%x", print[:]) {
		t.Errorf("the set is %s, %v, want %x", c.Set, err, print)
	}
	for _, d := range c.Differences {
		if strings.Contains(d, "sum") {
			t.Error(d)
		}
	}
	view(t, db, func(v *state.View) error {
		s := v.MessageSet(t.Context())
		got, err := s.List(reconcile.All(), len(want)+1)
		if diff := gocmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("the set has (-want +got), %v:\n%s", err, diff)
		}
		return nil
	})
}

// TestSumsFollowMessages that come in order, out of order, many at one time, and go.
func TestSumsFollowMessages(t *testing.T) {
	for name, second := range map[string]func(*rand.Rand, int) int64{
		"in order":         func(_ *rand.Rand, i int) int64 { return int64(i) },
		"nearly in order":  func(r *rand.Rand, i int) int64 { return int64(i + r.IntN(50)) },
		"in any order":     func(r *rand.Rand, _ int) int64 { return r.Int64N(1_000_000) },
		"all at one time":  func(*rand.Rand, int) int64 { return 7 },
		"a burst, in gaps": func(r *rand.Rand, i int) int64 { return int64(i/5000)*1_000_000 + r.Int64N(1000) },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, t.TempDir())
			ctx := t.Context()
			r := rand.New(rand.NewPCG(1, 2))
			var here []*state.Message
			const n = 2*state.SumMax + 200
			for i := 0; i < n; {
				var all []*state.Message
				for range 1 + r.IntN(400) {
					all = append(all, atTime(t, i, second(r, i)))
					i++
				}
				unsigned := atTime(t, -i, second(r, i))
				unsigned.Envelope.Signature = ""
				update(t, db, func(tx *state.Tx) error {
					if err := tx.AddMessages(ctx, append(slices.Clone(all), unsigned)); err != nil {
						return err
					}
					if gone := all[len(all)/2]; len(all) > 1 { // And one that does not stay.
						all = slices.DeleteFunc(all, func(m *state.Message) bool { return m == gone })
						return tx.RemoveMessage(ctx, gone)
					}
					return nil
				})
				here = append(here, all...)
			}
			r.Shuffle(len(here), func(i, j int) { here[i], here[j] = here[j], here[i] })
			update(t, db, func(tx *state.Tx) error {
				for _, m := range here[:200] {
					if err := tx.RemoveMessage(ctx, m); err != nil {
						return err
					}
				}
				return nil
			})
			var want []reconcile.Point
			for _, m := range here[200:] {
				want = append(want, pointOf(m))
			}
			checked(t, db, want)
			compareWithAny(t, db, want, r)
		})
	}
}

// compareWithAny compares the set with one that lacks some and has others.
func compareWithAny(t *testing.T, db *state.DB, all []reconcile.Point, r *rand.Rand) {
	t.Helper()
	other := open(t, t.TempDir())
	var theirs []*state.Message
	var lacks, extra []reconcile.Point
	known := map[message.ItemHash]bool{}
	for _, p := range all {
		known[p.Hash] = r.IntN(40) > 0
	}
	view(t, db, func(v *state.View) error {
		for chunk := range slices.Chunk(all, 500) {
			var hashes []message.ItemHash
			for _, p := range chunk {
				hashes = append(hashes, p.Hash)
			}
			found, err := v.MessagesByHash(t.Context(), hashes)
			if err != nil {
				return err
			}
			for _, m := range found {
				if known[m.Envelope.ItemHash] {
					m.Status = state.MessageProcessed
					theirs = append(theirs, m)
				} else {
					extra = append(extra, pointOf(m))
				}
			}
		}
		return nil
	})
	for i := range 30 {
		m := atTime(t, 1_000_000+i, r.Int64N(2_000_000))
		theirs, lacks = append(theirs, m), append(lacks, pointOf(m))
	}
	r.Shuffle(len(theirs), func(i, j int) { theirs[i], theirs[j] = theirs[j], theirs[i] })
	update(t, other, func(tx *state.Tx) error { return tx.AddMessages(t.Context(), theirs) })
	s := reconcile.NewSession(db.MessageSet(t.Context()))
	var found reconcile.Found
	for !s.Done() {
		q, err := s.Question()
		if err != nil {
			t.Fatal(err)
		}
		view(t, other, func(v *state.View) error {
			a, err := reconcile.Reply(v.MessageSet(t.Context()), q, nil)
			if err != nil {
				return err
			}
			f, err := s.Take(q, a)
			found.Lacks, found.Extra = append(found.Lacks, f.Lacks...), append(found.Extra, f.Extra...)
			return err
		})
	}
	slices.SortFunc(lacks, reconcile.Point.Compare)
	slices.SortFunc(extra, reconcile.Point.Compare)
	if diff := gocmp.Diff(lacks, found.Lacks); diff != "" {
		t.Errorf("lacks (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(extra, found.Extra); diff != "" {
		t.Errorf("extra (-want +got):\n%s", diff)
	}
}

// TestSumsOfAnOlderVersionAreMade when a database is opened.
func TestSumsOfAnOlderVersionAreMade(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	db, err := state.OpenFor(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []*state.Message
	var want []reconcile.Point
	for i := range state.SumMax + 10 {
		m := atTime(t, i, int64(i*7919%10_000))
		all, want = append(all, m), append(want, pointOf(m))
	}
	update(t, db, func(tx *state.Tx) error { return errors.Join(tx.AddMessages(ctx, all), tx.AddPosts(ctx, all)) })
	if err := db.Exec(ctx, "DELETE FROM message_sums"); err != nil {
		t.Fatal(err)
	}
	if c, err := db.Check(ctx); err != nil || !slices.ContainsFunc(c.Differences, func(d string) bool { return strings.Contains(d, "messages in no sum") }) {
		t.Errorf("without sums a check says %v, %v", c.Differences, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checked(t, open(t, dir), want)
}

// TestACheckFindsWrongSums, and messages that are not there.
func TestACheckFindsWrongSums(t *testing.T) {
	for _, query := range []string{
		"UPDATE message_sums SET n = n + 1", "DELETE FROM message_sums", "UPDATE message_sums SET at = at + 1",
		"DELETE FROM messages WHERE id = 0",
	} {
		db := furnished(t)
		if c, err := db.Check(t.Context()); err != nil || len(c.Differences) > 0 {
			t.Fatalf("before: %v, %v", c.Differences, err)
		}
		if err := db.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
		c, err := db.Check(t.Context())
		if err != nil || !slices.ContainsFunc(c.Differences, func(d string) bool { return strings.Contains(d, "sum") }) {
			t.Errorf("%s: %v, %v", query, c.Differences, err)
		}
	}
}

// TestSumsAreReadByIndexes, as ranges are read all the time.
func TestSumsAreReadByIndexes(t *testing.T) {
	db := furnished(t)
	for query, index := range map[string]string{
		"SELECT made_at, pk FROM messages WHERE signature <> '' AND (made_at, pk) >= (1, 'a') AND (made_at, pk) < (2, 'b') ORDER BY made_at, pk LIMIT 10": "messages_made",
		"SELECT at, pk, n, sum FROM message_sums WHERE (at, pk) <= (1, 'a') ORDER BY at DESC, pk DESC LIMIT 1":                                            "",
	} {
		plan, err := db.Plan(t.Context(), query)
		if err != nil || !strings.Contains(plan, index) || strings.Contains(plan, "B-TREE") {
			t.Errorf("%s: %v\n%s", query, err, plan)
		}
	}
}
