package state_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// named is a hash that is a name, in the order of names.
func named(name string) message.ItemHash {
	return message.ItemHash((fmt.Sprintf("%x", name) + strings.Repeat("0", 64))[:64])
}

// nameOf is the name that a hash is.
func nameOf(hash message.ItemHash) string {
	raw, err := hex.DecodeString(string(hash))
	if err != nil {
		return string(hash)
	}
	return strings.TrimRight(string(raw), "\x00")
}

func placeOf(n int64, name string) credit.Place { return credit.Place{At: at(n), Hash: named(name)} }

// granted gives credits to an address; those with 0 never expire.
func granted(p credit.Place, to string, amount, expires int64) *credit.Event {
	e := credit.Entry{Place: p, Address: to, Amount: amount, Method: "card"}
	if expires > 0 {
		e.ExpiresAt = at(expires)
	}
	return &credit.Event{Place: p, Owner: "authority", Entries: []credit.Entry{e}}
}

// spent takes an amount of each address.
func spent(p credit.Place, amount int64, of ...string) *credit.Event {
	e := &credit.Event{Place: p, Owner: "authority"}
	for i, address := range of {
		e.Entries = append(e.Entries, credit.Entry{Place: p, Index: i, Address: address, Amount: -amount, Provider: credit.Provider, Method: credit.MethodExpense})
	}
	return e
}

// moved moves an amount to each address.
func moved(p credit.Place, from string, amount, expires int64, to ...string) *credit.Event {
	e := &credit.Event{Place: p, Owner: from}
	for _, address := range to {
		m := credit.Move{To: address, Amount: amount}
		if expires > 0 {
			m.ExpiresAt = at(expires)
		}
		e.Moves = append(e.Moves, m)
		e.Need += amount
	}
	return e
}

// apply enters events, each in a transaction of its own, and returns which
// addresses changed with the last one.
func apply(t *testing.T, db *state.DB, events ...*credit.Event) (changed []string) {
	t.Helper()
	for _, e := range events {
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.ApplyCredit(t.Context(), e)
			return err
		})
	}
	return changed
}

// creditTables are the tables of the ledger.
var creditTables = []string{"credit_events", "credit_history", "credit_lots", "credit_drains"}

// ledgerRows is every row of the ledger.
func ledgerRows(t *testing.T, db *state.DB) string {
	t.Helper()
	all, err := db.DumpAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(all) {
		if name, _, _ := strings.Cut(line, " "); slices.Contains(creditTables, name) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func emptyLedger(t *testing.T, db *state.DB) {
	t.Helper()
	for _, table := range creditTables {
		if err := db.Exec(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
}

// drawCredits are random events of few addresses at few times, so that they
// meet: most transfers are covered, and what comes late changes them. Each number
// is as likely as another; rapid's ranges prefer small ones.
func drawCredits(t *rapid.T) []*credit.Event {
	pick := func(label string, from, to int64) int64 {
		all := make([]int64, 0, to-from+1)
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
		return rapid.SampledFrom(all).Draw(t, label)
	}
	out := []*credit.Event{granted(placeOf(0, "start"), "a", 20, 9), granted(placeOf(1, "start 2"), "a", 20, 0), granted(placeOf(0, "start 3"), "b", 20, 7)}
	for i := range pick("events", 3, 12) {
		p := placeOf(pick("time", 0, 9), fmt.Sprintf("%c%d", rune(pick("hash", 'a', 'g')), i))
		amount, expires := pick("amount", 1, 9), pick("expires", 0, 12)
		who := rapid.Permutation([]string{"a", "b", "c"}).Draw(t, "who")
		switch pick("kind", 0, 3) {
		case 0:
			out = append(out, granted(p, who[0], amount, expires))
		case 1:
			out = append(out, spent(p, amount, who[0], who[0], who[pick("entries", 0, 2)]))
		default:
			out = append(out, moved(p, who[0], amount, max(0, expires-6), who[1:pick("recipients", 2, 3)]...))
		}
	}
	return out
}

var decimals = gocmp.Comparer(func(a, b credit.Decimal) bool { return a.String() == b.String() })

// TestCreditsAreThoseOfAReplay: events in any order leave the rows that events in
// the order of their places leave, and those are what the protocol's ledger says.
func TestCreditsAreThoseOfAReplay(t *testing.T) {
	db, replay := open(t, t.TempDir()), open(t, t.TempDir())
	ctx := t.Context()
	rapid.Check(t, func(rt *rapid.T) {
		emptyLedger(t, db)
		emptyLedger(t, replay)
		events := drawCredits(rt)
		sorted := slices.SortedFunc(slices.Values(events), func(a, b *credit.Event) int { return a.Place.Compare(b.Place) })
		apply(t, replay, sorted...)

		var ledger credit.Ledger
		for _, e := range rapid.Permutation(events).Draw(rt, "order") {
			before := ledgerOf(t, db)
			covered, err := db.CreditCovers(ctx, e)
			if want := ledger.Covers(e); err != nil || covered != want {
				rt.Fatalf("%s is covered: %v, %v, want %v", e.Hash, covered, err, want)
			}
			ledger.Add(e)
			changed := apply(t, db, e)
			after := ledgerOf(t, db)
			for address := range after {
				if before[address] != after[address] && !slices.Contains(changed, address) {
					rt.Fatalf("%s changed with %s, and only %v were told", address, e.Hash, changed)
				}
			}
		}
		if diff := gocmp.Diff(ledgerRows(t, replay), ledgerRows(t, db)); diff != "" {
			rt.Fatalf("rows (-in order +shuffled):\n%s", diff)
		}
		var lots []string
		for _, l := range ledger.Lots() {
			lots = append(lots, fmt.Sprintf("credit_lots [%s %d %s %d %d %d %s]\n", l.Hash, l.Index, l.Address, l.At.UnixMicro(), l.Amount, l.Remaining, micro(l.ExpiresAt)))
		}
		slices.Sort(lots)
		if got := rowsOf(ledgerRows(t, db), "credit_lots"); got != strings.Join(lots, "") {
			rt.Fatalf("lots are\n%s\nwant\n%s", got, strings.Join(lots, ""))
		}
		if diff := gocmp.Diff(ledger.Entries(), everyEntry(t, db), decimals); diff != "" {
			rt.Fatalf("history (-ledger +rows):\n%s", diff)
		}
		if again := apply(t, db, events...); again != nil {
			rt.Fatalf("what came again changed %v", again)
		}
	})
}

// TestARevokedEventNeverWas: the others leave the rows that they leave without it.
func TestARevokedEventNeverWas(t *testing.T) {
	db, replay := open(t, t.TempDir()), open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		emptyLedger(t, db)
		emptyLedger(t, replay)
		events := rapid.Permutation(drawCredits(rt)).Draw(rt, "order")
		apply(t, replay, events[1:]...)
		apply(t, db, rapid.Permutation(events).Draw(rt, "order with it")...)
		before := ledgerOf(t, db)

		var changed []string
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.RevokeCredit(t.Context(), events[0].Hash)
			return err
		})

		if diff := gocmp.Diff(ledgerRows(t, replay), ledgerRows(t, db)); diff != "" {
			rt.Fatalf("rows without %s (-never there +revoked):\n%s", events[0].Hash, diff)
		}
		for address, after := range ledgerOf(t, db) {
			if before[address] != after && !slices.Contains(changed, address) {
				rt.Fatalf("%s changed, and only %v were told", address, changed)
			}
		}
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.RevokeCredit(t.Context(), events[0].Hash)
			return err
		})
		if changed != nil {
			rt.Fatalf("what was not there changed %v", changed)
		}
	})
}

// micro is a time as a dump has it.
func micro(t time.Time) string {
	if t.IsZero() {
		return "<nil>"
	}
	return fmt.Sprint(t.UnixMicro())
}

// rowsOf are the sorted rows of a table.
func rowsOf(dump, table string) string {
	var out []string
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, table+" ") {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// ledgerOf is what there is of each address, as text.
func ledgerOf(t *testing.T, db *state.DB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, address := range []string{"a", "b", "c"} {
		parts, errParts := db.CreditParts(t.Context(), address, at(-1))
		history, err := db.CreditHistory(t.Context(), state.CreditQuery{CreditFilter: state.CreditFilter{Address: address}})
		if err := errors.Join(err, errParts); err != nil {
			t.Fatal(err)
		}
		out[address] = fmt.Sprint(parts)
		for _, e := range history {
			out[address] += fmt.Sprint(e.Hash, e.Index, e.Amount, e.ExpiresAt)
		}
	}
	return out
}

// everyEntry is the whole history, by place.
func everyEntry(t *testing.T, db *state.DB) (out []credit.Entry) {
	t.Helper()
	for _, address := range []string{"a", "b", "c"} {
		found, err := db.CreditHistory(t.Context(), state.CreditQuery{CreditFilter: state.CreditFilter{Address: address}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b credit.Entry) int { return cmp.Or(a.Place.Compare(b.Place), cmp.Compare(a.Index, b.Index)) })
	return out
}

// TestWhatALateEventLeavesAlone: it changes who depends on it and nobody else.
func TestWhatALateEventLeavesAlone(t *testing.T) {
	db := open(t, t.TempDir())
	apply(t, db, granted(placeOf(1, "g1"), "a", 10, 0), granted(placeOf(1, "g2"), "b", 10, 0), granted(placeOf(1, "g3"), "c", 10, 0),
		spent(placeOf(5, "s1"), 3, "a", "b", "c"), moved(placeOf(6, "m1"), "a", 2, 0, "d"), spent(placeOf(7, "s2"), 1, "d", "b"))

	for _, tt := range []struct {
		event *credit.Event
		want  string
	}{
		{spent(placeOf(8, "x1"), 1, "b"), "[b]"},
		{spent(placeOf(2, "x2"), 1, "c"), "[c]"},
		{spent(placeOf(2, "x3"), 1, "a"), "[a]"},   // The transfer gives the same still.
		{spent(placeOf(2, "x4"), 5, "a"), "[a d]"}, // Now it is not covered.
		{granted(placeOf(2, "x5"), "a", 9, 7), "[a d]"},
		{granted(placeOf(3, "x6"), "e", 9, 7), "[e]"},
		{granted(placeOf(3, "x6"), "e", 9, 7), "[]"},
	} {
		if got := fmt.Sprint(apply(t, db, tt.event)); got != tt.want {
			t.Errorf("%s changed %s, want %s", nameOf(tt.event.Hash), got, tt.want)
		}
	}
}

// TestATransferThatALateEventChanges: whom it gave to loses what was spent of it,
// and gets what it gives instead.
func TestATransferThatALateEventChanges(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	apply(t, db, granted(placeOf(1, "g"), "a", 10, 900), granted(placeOf(2, "g2"), "a", 10, 0), moved(placeOf(3, "m"), "a", 8, 0, "b"), spent(placeOf(4, "s"), 3, "b"))
	for _, step := range []struct {
		late  *credit.Event
		parts string
		rows  int // Of b.
	}{
		{spent(placeOf(2, "a1"), 4, "a"), "[{900 3} {0 2}]", 3}, // Two lots in place of one: 6 until 900, of which 3 are spent, and 2.
		{spent(placeOf(2, "a2"), 6, "a"), "[{0 5}]", 2},
		{spent(placeOf(2, "h"), 3, "a"), "[]", 1}, // It is not covered.
		{granted(placeOf(0, "g0"), "a", 30, 800), "[{800 5}]", 2},
	} {
		apply(t, db, step.late)
		parts, err := db.CreditParts(ctx, "b", at(5))
		history, errHistory := db.CreditHistory(ctx, state.CreditQuery{CreditFilter: state.CreditFilter{Address: "b"}})
		var want []string
		for _, p := range parts {
			expires := int64(0)
			if !p.ExpiresAt.IsZero() {
				expires = p.ExpiresAt.Sub(at(0)).Microseconds()
			}
			want = append(want, fmt.Sprintf("{%d %d}", expires, p.Amount))
		}
		slices.Reverse(want) // Oldest first, as they are given.
		if got := fmt.Sprint(want); got != step.parts || len(history) != step.rows || errors.Join(err, errHistory) != nil {
			t.Errorf("after %s b has %s by %d rows, %v, %v, want %s by %d", nameOf(step.late.Hash), got, len(history), err, errHistory, step.parts, step.rows)
		}
	}
}

func TestCreditsOfAddresses(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	apply(t, db, granted(placeOf(1, "g1"), "a", 10, 100), granted(placeOf(2, "g2"), "a", 20, 0), granted(placeOf(3, "g3"), "a", 30, 50),
		granted(placeOf(4, "g4"), "a", 5, 100), granted(placeOf(1, "h"), "b", 7, 20), granted(placeOf(1, "i"), "c", 100, 0), spent(placeOf(5, "s"), 100, "c"),
		granted(placeOf(1, "j"), "d", 1<<62, 0), granted(placeOf(2, "j2"), "d", 1<<62, 0), spent(placeOf(6, "t"), 4, "a", "nobody"))
	for now, want := range map[int64]int64{10: 61, 50: 31, 100: 20} {
		if got, err := db.CreditBalance(ctx, "a", at(now)); err != nil || got != want {
			t.Errorf("at %d there are %d, %v, want %d", now, got, err, want)
		}
	}
	if got, err := db.CreditBalance(ctx, "d", at(10)); err != nil || got != math.MaxInt64 {
		t.Errorf("a sum beyond what there can be is %d, %v", got, err)
	}
	parts, err := db.CreditParts(ctx, "a", at(10))
	want := []state.CreditPart{{Amount: 20}, {ExpiresAt: at(50), Amount: 30}, {ExpiresAt: at(100), Amount: 11}}
	if diff := gocmp.Diff(want, parts); err != nil || diff != "" {
		t.Errorf("parts, %v (-want +got):\n%s", err, diff)
	}
	for _, tt := range []struct {
		q    state.CreditsQuery
		want string
		all  int
	}{
		{state.CreditsQuery{}, "[{a 61} {b 7} {c 0} {d 9223372036854775807}]", 4},
		{state.CreditsQuery{Limit: 2, Offset: 1}, "[{b 7} {c 0}]", 4},
		{state.CreditsQuery{Limit: 2, After: "b"}, "[{c 0} {d 9223372036854775807}]", 2},
		{state.CreditsQuery{Min: 1}, "[{a 61} {b 7} {d 9223372036854775807}]", 3},
		{state.CreditsQuery{Min: 61}, "[{a 61} {d 9223372036854775807}]", 2},
		{state.CreditsQuery{Min: 62, Limit: 9}, "[{d 9223372036854775807}]", 1},
		{state.CreditsQuery{Min: 1 << 60, After: "d"}, "[]", 0},
	} {
		tt.q.Now = at(10)
		got, err := db.CreditBalances(ctx, tt.q)
		n, errCount := db.CountCreditBalances(ctx, tt.q)
		if err := errors.Join(err, errCount); err != nil || fmt.Sprint(got) != tt.want || n != tt.all {
			t.Errorf("%+v: %v of %d, %v, want %s of %d", tt.q, got, n, err, tt.want, tt.all)
		}
	}
	if there, left, err := db.CreditsAt(ctx, "a", placeOf(3, "x")); err != nil || there != 60 || left != 56 {
		t.Errorf("at a place there are %d, of which %d are left, %v, want 60 and 56", there, left, err)
	}
	if covered, err := db.CreditCovers(ctx, spent(placeOf(0, "x"), 9, "nobody")); err != nil || !covered {
		t.Errorf("an expense is covered: %v, %v", covered, err)
	}
}

func ptr[T any](v T) *T { return &v }

// aHistory is entries that differ in every field, named by their hash.
func aHistory(t *testing.T, db *state.DB) {
	t.Helper()
	price, size := number(t, "0.50"), number(t, "12.25")
	entry := func(n int64, hash string, amount int64, change func(e *credit.Entry)) *credit.Event {
		e := credit.Entry{Place: placeOf(n, hash), Address: "a", Amount: amount}
		change(&e)
		return &credit.Event{Place: e.Place, Owner: "authority", Entries: []credit.Entry{e}}
	}
	apply(t, db,
		entry(1, "h1", 100, func(e *credit.Entry) {
			e.TxHash, e.Token, e.Chain, e.Provider, e.Method, e.ExpiresAt, e.Price, e.Bonus = "tx1", "ALEPH", "ETH", "WALLET", "token", at(900), &price, ptr(int64(7))
		}),
		entry(2, "h2", 50, func(e *credit.Entry) { e.TxHash, e.Provider, e.ExpiresAt = "tx2", "CARD", at(800) }),
		entry(3, "h3", -30, func(e *credit.Entry) {
			e.Origin, e.OriginRef, e.Provider, e.Method, e.TxHash = "vm", "ref", "ALEPH", credit.MethodExpense, "node"
		}),
		entry(4, "h4", -20, func(e *credit.Entry) {
			e.OriginRef, e.Provider, e.Method, e.Count, e.SizeMiB = "file", "ALEPH", credit.MethodExpense, ptr(int64(3)), &size
		}),
		entry(4, "h5", -10, func(e *credit.Entry) { e.OriginRef, e.Provider, e.Method = "vm", "ALEPH", credit.MethodExpense }),
		granted(placeOf(9, "other"), "b", 1000, 0),
	)
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(
			tx.AddMessages(t.Context(), []*state.Message{state.NewMessage(&message.Envelope{ItemHash: "vm", Type: "INSTANCE"}, nil, &message.Instance{}, at(1))}),
			tx.PutRejected(t.Context(), state.Rejected{Hash: "file"}),
		)
	})
}

func number(t *testing.T, s string) credit.Decimal {
	t.Helper()
	d, err := credit.ParseDecimal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hashesOf(entries []credit.Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, nameOf(e.Hash))
	}
	return strings.Join(out, " ")
}

func TestFiltersOfACreditHistory(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	aHistory(t, db)
	for name, tt := range map[string]struct {
		f    state.CreditFilter
		want string
		sum  state.CreditSummary
	}{
		"all":                {state.CreditFilter{}, "h5 h4 h3 h2 h1", state.CreditSummary{5, 90, 150, -60}},
		"tx":                 {state.CreditFilter{TxHash: ptr("tx2")}, "h2", state.CreditSummary{1, 50, 50, 0}},
		"token":              {state.CreditFilter{Token: ptr("ALEPH")}, "h1", state.CreditSummary{1, 100, 100, 0}},
		"chain":              {state.CreditFilter{Chain: ptr("ETH")}, "h1", state.CreditSummary{1, 100, 100, 0}},
		"provider":           {state.CreditFilter{Provider: ptr("ALEPH")}, "h5 h4 h3", state.CreditSummary{3, -60, 0, -60}},
		"origin":             {state.CreditFilter{Origin: ptr("vm")}, "h3", state.CreditSummary{1, -30, 0, -30}},
		"empty origin":       {state.CreditFilter{Origin: ptr("")}, "", state.CreditSummary{}},
		"origin ref":         {state.CreditFilter{OriginRef: ptr("vm")}, "h5", state.CreditSummary{1, -10, 0, -10}},
		"method":             {state.CreditFilter{Method: ptr("token")}, "h1", state.CreditSummary{1, 100, 100, 0}},
		"resource":           {state.CreditFilter{Resource: ptr("vm")}, "h5 h3", state.CreditSummary{2, -40, 0, -40}},
		"with expiration":    {state.CreditFilter{HasExpiration: ptr(true)}, "h2 h1", state.CreditSummary{2, 150, 150, 0}},
		"without expiration": {state.CreditFilter{HasExpiration: ptr(false)}, "h5 h4 h3", state.CreditSummary{3, -60, 0, -60}},
		"without methods":    {state.CreditFilter{ExcludeMethods: []string{credit.MethodExpense, "x"}}, "h2 h1", state.CreditSummary{2, 150, 150, 0}},
		"since":              {state.CreditFilter{Since: at(3)}, "h5 h4 h3", state.CreditSummary{3, -60, 0, -60}},
		"until":              {state.CreditFilter{Since: at(2), Until: at(3)}, "h3 h2", state.CreditSummary{2, 20, 50, -30}},
		"incoming":           {state.CreditFilter{Direction: state.CreditIncoming}, "h2 h1", state.CreditSummary{2, 150, 150, 0}},
		"outgoing":           {state.CreditFilter{Direction: state.CreditOutgoing}, "h5 h4 h3", state.CreditSummary{3, -60, 0, -60}},
		"types":              {state.CreditFilter{ResourceTypes: []message.Type{message.TypeInstance, message.TypeStore}}, "h5 h3", state.CreditSummary{2, -40, 0, -40}},
		"several":            {state.CreditFilter{ResourceTypes: []message.Type{message.TypeInstance}, Origin: ptr("vm"), Until: at(4)}, "h3", state.CreditSummary{1, -30, 0, -30}},
		"somebody else":      {state.CreditFilter{Address: "A"}, "", state.CreditSummary{}},
	} {
		tt.f.Address = cmp.Or(tt.f.Address, "a")
		got, err := db.CreditHistory(ctx, state.CreditQuery{CreditFilter: tt.f})
		if err != nil || hashesOf(got) != tt.want {
			t.Errorf("%s: %s, %v, want %s", name, hashesOf(got), err, tt.want)
		}
		if sum, err := db.CreditSummary(ctx, tt.f); err != nil || sum != tt.sum {
			t.Errorf("%s adds up to %+v, %v, want %+v", name, sum, err, tt.sum)
		}
	}
	consumed, err := db.CreditsConsumed(ctx, "vm", "file", "tx1")
	if diff := gocmp.Diff(map[message.ItemHash]int64{"vm": 40, "file": 20}, consumed); err != nil || diff != "" {
		t.Errorf("consumed, %v (-want +got):\n%s", err, diff)
	}
}

// TestPagesOfACreditHistory: pages by offset and by what comes after an entry
// are the whole list, for every way to sort.
func TestPagesOfACreditHistory(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	aHistory(t, db)
	for sort, want := range map[state.CreditSort][2]string{ // Descending, ascending.
		"":                       {"h5 h4 h3 h2 h1", "h1 h2 h3 h4 h5"},
		state.CreditByTime:       {"h5 h4 h3 h2 h1", "h1 h2 h3 h4 h5"},
		state.CreditByAmount:     {"h1 h2 h5 h4 h3", "h3 h4 h5 h2 h1"},
		state.CreditByExpiration: {"h1 h2 h5 h4 h3", "h2 h1 h3 h4 h5"},
		state.CreditByMethod:     {"h1 h5 h4 h3 h2", "h3 h4 h5 h1 h2"},
		state.CreditByOrigin:     {"h3 h5 h4 h2 h1", "h3 h1 h2 h4 h5"},
		state.CreditByTxHash:     {"h2 h1 h3 h5 h4", "h3 h1 h2 h4 h5"},
		state.CreditByProvider:   {"h1 h2 h5 h4 h3", "h3 h4 h5 h2 h1"},
	} {
		for i, want := range want {
			q := state.CreditQuery{CreditFilter: state.CreditFilter{Address: "a"}, Sort: sort, Ascending: i == 1}
			all, err := db.CreditHistory(ctx, q)
			if err != nil || hashesOf(all) != want {
				t.Errorf("by %q, ascending %v: %s, %v, want %s", sort, q.Ascending, hashesOf(all), err, want)
				continue
			}
			q.Limit = 2
			var paged, walked []credit.Entry
			for ; q.Offset < 6; q.Offset += 2 {
				page, err := db.CreditHistory(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				paged = append(paged, page...)
			}
			for q.Offset = 0; ; {
				page, err := db.CreditHistory(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				if walked = append(walked, page...); len(page) == 0 {
					break
				}
				q.After = ptr(sort.After(page[len(page)-1]))
			}
			if hashesOf(paged) != want || hashesOf(walked) != want {
				t.Errorf("by %q, ascending %v: pages are %s, a walk is %s, want %s", sort, q.Ascending, hashesOf(paged), hashesOf(walked), want)
			}
		}
	}
	if _, err := db.CreditHistory(ctx, state.CreditQuery{Sort: "doc"}); !errors.Is(err, errs.Invalid) {
		t.Errorf("by what is no column: %v, want invalid", err)
	}
	// All fields come back.
	entries, err := db.CreditHistory(ctx, state.CreditQuery{CreditFilter: state.CreditFilter{Address: "a"}, Ascending: true})
	if err != nil {
		t.Fatal(err)
	}
	price, size := number(t, "0.50"), number(t, "12.25")
	want := []credit.Entry{
		{
			Place: placeOf(1, "h1"), Address: "a", Amount: 100, Price: &price, Bonus: ptr(int64(7)), TxHash: "tx1", Token: "ALEPH", Chain: "ETH", Provider: "WALLET",
			Method: "token", ExpiresAt: at(900),
		},
		{Place: placeOf(4, "h4"), Address: "a", Amount: -20, Provider: "ALEPH", OriginRef: "file", Method: credit.MethodExpense, Count: ptr(int64(3)), SizeMiB: &size},
	}
	if diff := gocmp.Diff(want, []credit.Entry{entries[0], entries[3]}, decimals); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// networkSample is what the vectors of the protocol have.
type networkSample struct {
	Balances []struct {
		Name    string
		Content json.RawMessage
		Tokens  map[string]string
	}
	Expense struct {
		ItemHash      message.ItemHash `json:"item_hash"`
		Channel       string
		Address, Type string
		Time          float64
		Content       json.RawMessage
		Spent         map[string]int64
	}
}

func readSample(tb testing.TB) (s networkSample) {
	tb.Helper()
	raw, err := os.ReadFile("../../protocol/testdata/vectors/credit.json")
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// sampleExpense is an expense of the public network.
func sampleExpense(tb testing.TB) *credit.Event {
	tb.Helper()
	s := readSample(tb).Expense
	e, err := credit.Network().Event(credit.Post{
		Hash: s.ItemHash, Channel: &s.Channel, Type: s.Type, Owner: s.Address, At: time.Unix(0, int64(s.Time*1e9)), Content: s.Content,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestAnExpenseOfTheNetworkIsTaken(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	e := sampleExpense(t)
	grants := &credit.Event{Place: credit.Place{At: e.At.Add(-time.Hour), Hash: "grants"}}
	const had = 100_000_000
	for i, address := range e.Addresses() {
		grants.Entries = append(grants.Entries, credit.Entry{Place: grants.Place, Index: i, Address: address, Amount: had})
	}

	// The grants come late.
	if changed := apply(t, db, e, grants); !slices.Equal(changed, e.Addresses()) {
		t.Errorf("%d addresses changed, want %d", len(changed), len(e.Addresses()))
	}

	for address, spent := range readSample(t).Expense.Spent {
		if got, err := db.CreditBalance(ctx, address, e.At); err != nil || got != had-spent {
			t.Errorf("%s has %d, %v, want %d", address, got, err, had-spent)
		}
	}
	const execution = "0fbb350777c7d3c3a9533b4c9d766e8a1d1e02c07af67911df19db020dad1b90"
	if got, err := db.CreditsConsumed(ctx, execution); err != nil || got[execution] != 57008 {
		t.Errorf("the first execution has consumed %v, %v, want 57008", got, err)
	}
}

// TestACopyHasTheLedger: also of what comes while it runs.
func TestACopyHasTheLedger(t *testing.T) {
	for name, way := range directions(t) {
		t.Run(name, func(t *testing.T) {
			from, to := way[0](t), way[1](t)
			src := openAs(t, from)
			ctx := t.Context()
			aHistory(t, src)
			apply(t, src, moved(placeOf(10, "m"), "b", 100, 0, "c"))
			said := 0
			done, err := state.Copy(ctx, from, to, func(string) {
				if said++; said > 3 {
					return
				}
				p := placeOf(8, fmt.Sprint("late", said)) // Before the transfer, so that rows change and go.
				update(t, src, func(tx *state.Tx) error {
					_, err := tx.ApplyCredit(ctx, spent(p, 400, "b"))
					_, errPut := tx.PutBalances(ctx, &credit.Balances{Place: p, Chain: "ETH", Of: []credit.Balance{{Address: p.At.String(), Tokens: number(t, "1.50")}}})
					return errors.Join(err, errPut)
				})
			})
			if err != nil || done.Behind {
				t.Fatalf("done is %+v, %v", done, err)
			}
			want, errWant := src.DumpAll(ctx)
			got, errGot := openAs(t, to).DumpAll(ctx)
			if err := errors.Join(errWant, errGot); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, got); diff != "" || !strings.Contains(got, string(named("late3"))) {
				t.Errorf("rows (-source +copy):\n%.2000s", diff)
			}
		})
	}
}

// TestLooksAtCreditsUseIndexes: what is asked for each message or request reads
// the rows of one address.
func TestLooksAtCreditsUseIndexes(t *testing.T) {
	db := open(t, t.TempDir())
	for query, want := range map[string]string{
		"SELECT ref FROM credit_lots WHERE address IN ('a', 'b') AND remaining > 0 AND (expires_at IS NULL OR expires_at > 5) ORDER BY address, at, ref, idx": "credit_lots_left",
		"SELECT ref FROM credit_history WHERE address IN ('a', 'b') AND (at, ref) > (5, 'x') AND amount < 0":                                                  "credit_history_address",
		"SELECT ref FROM credit_history WHERE address = 'a' ORDER BY at DESC, ref DESC, idx DESC LIMIT 5":                                                     "credit_history_address",
		"SELECT resource, SUM(amount) FROM credit_history WHERE method = 'credit_expense' AND resource IN ('a', 'b') GROUP BY resource":                       "credit_history_resource",
		"SELECT pk FROM credit_events WHERE (at, pk) > (5, 'x') LIMIT 1":                                                                                      "credit_events_place",
		"SELECT doc FROM credit_events WHERE spender IN ('a', 'b') AND (at, pk) > (5, 'x')":                                                                   "credit_events_spender",
		"DELETE FROM credit_drains WHERE address IN ('a', 'b') AND (at, ref) > (5, 'x')":                                                                      "credit_drains_address",
	} {
		if plan, err := db.Plan(t.Context(), query); err != nil || !strings.Contains(plan, want) {
			t.Errorf("%s: plan is %q, %v, want %q", query, plan, err, want)
		}
	}
}

func TestCreditsWithoutTablesSaySo(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	if err := db.Exec(ctx, "DROP TABLE credit_lots"); err != nil {
		t.Fatal(err)
	}
	_, errOne := db.CreditBalance(ctx, "a", at(0))
	_, errParts := db.CreditParts(ctx, "a", at(0))
	_, errAll := db.CreditBalances(ctx, state.CreditsQuery{})
	_, errCount := db.CountCreditBalances(ctx, state.CreditsQuery{})
	_, _, errAt := db.CreditsAt(ctx, "a", placeOf(0, "x"))
	errApply := db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.ApplyCredit(ctx, spent(placeOf(0, "x"), 1, "a"))
		return err
	})
	for want, err := range map[string]error{
		"add up credits": errors.Join(errOne, errAt), "read credits of a": errParts, "list credits": errAll, "count credits": errCount, "apply credit event " + string(named("x")) + ": read lots": errApply,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// BenchmarkExpense takes credits of 1,000 addresses with one event.
func BenchmarkExpense(b *testing.B) {
	db, err := state.OpenFor(b, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var addresses []string
	grants := &credit.Event{Place: placeOf(0, "grants")}
	for i := range 1000 {
		addresses = append(addresses, fmt.Sprintf("0x%040d", i))
		grants.Entries = append(grants.Entries, credit.Entry{Place: grants.Place, Index: i, Address: addresses[i], Amount: 1 << 40})
	}
	take := func(e *credit.Event) {
		err := db.Update(b.Context(), func(tx *state.Tx) error {
			_, err := tx.ApplyCredit(b.Context(), e)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	take(grants)
	n := int64(1_000_000)
	for name, step := range map[string]int64{"in order": 1, "late by one": -1} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n++
				e := spent(placeOf(2*n, fmt.Sprint(n)), 1, addresses...)
				if step < 0 { // The next one is there already.
					b.StopTimer()
					n++
					take(spent(placeOf(2*n, fmt.Sprint(n)), 1, addresses...))
					b.StartTimer()
				}
				take(e)
			}
		})
	}
}
