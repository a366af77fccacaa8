package credit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func place(seconds float64, hash string) credit.Place {
	return credit.Place{At: at(seconds), Hash: message.ItemHash(hash)}
}

// grant gives credits; those with 0 seconds never expire.
func grant(p credit.Place, to string, amount int64, expires float64) *credit.Event {
	e := &credit.Event{Place: p, Owner: authority, Entries: []credit.Entry{{Place: p, Address: to, Amount: amount}}}
	if expires > 0 {
		e.Entries[0].ExpiresAt = at(expires)
	}
	return e
}

// expense takes an amount of each address, by an entry of its own.
func expense(p credit.Place, amount int64, of ...string) *credit.Event {
	e := &credit.Event{Place: p, Owner: authority}
	for i, address := range of {
		e.Entries = append(e.Entries, credit.Entry{Place: p, Index: i, Address: address, Amount: -amount, Method: credit.MethodExpense})
	}
	return e
}

// transfer moves an amount to each address.
func transfer(p credit.Place, from string, amount int64, expires float64, to ...string) *credit.Event {
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

// show is lots as "address amount-of-amount until", in order.
func show(lots []credit.Lot) string {
	var out []string
	for _, l := range lots {
		s := fmt.Sprintf("%s %d/%d", l.Address, l.Remaining, l.Amount)
		if !l.ExpiresAt.IsZero() {
			s += fmt.Sprintf(" until %g", l.ExpiresAt.Sub(at(0)).Seconds())
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// TestTheLedger holds what events do to lots, in the order of the list and
// backwards.
func TestTheLedger(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []*credit.Event
		want   string
	}{
		{"the oldest lot goes first", []*credit.Event{grant(place(1, "a"), alice, 10, 0), grant(place(2, "b"), alice, 10, 100), expense(place(3, "c"), 12, alice)}, "0xAlice 0/10, 0xAlice 8/10 until 100"},
		{"at one time the smaller hash goes first", []*credit.Event{grant(place(1, "b"), alice, 10, 0), grant(place(1, "a"), alice, 5, 0), expense(place(3, "c"), 7, alice)}, "0xAlice 0/5, 0xAlice 8/10"},
		{"a lot that has expired stays", []*credit.Event{grant(place(1, "a"), alice, 10, 3), grant(place(2, "b"), alice, 10, 0), expense(place(3, "c"), 4, alice)}, "0xAlice 10/10 until 3, 0xAlice 6/10"},
		{"a lot of the future is not spent", []*credit.Event{grant(place(5, "a"), alice, 10, 0), expense(place(3, "c"), 4, alice)}, "0xAlice 10/10"},
		{"nor one of the same time and a greater hash", []*credit.Event{grant(place(3, "d"), alice, 10, 0), expense(place(3, "c"), 4, alice)}, "0xAlice 10/10"},
		{"what is overdrawn is dropped", []*credit.Event{grant(place(1, "a"), alice, 10, 0), expense(place(3, "c"), 40, alice), grant(place(4, "d"), alice, 5, 0)}, "0xAlice 0/10, 0xAlice 5/5"},
		{"two entries of one address", []*credit.Event{grant(place(1, "a"), alice, 10, 0), expense(place(3, "c"), 4, alice, bob, alice)}, "0xAlice 2/10"},
		{"a transfer keeps expirations", []*credit.Event{grant(place(1, "a"), alice, 10, 50), transfer(place(2, "b"), alice, 4, 0, bob)}, "0xAlice 6/10 until 50, 0xBob 4/4 until 50"},
		{"a transfer cannot lengthen", []*credit.Event{grant(place(1, "a"), alice, 10, 50), transfer(place(2, "b"), alice, 4, 60, bob)}, "0xAlice 6/10 until 50, 0xBob 4/4 until 50"},
		{"a transfer can shorten", []*credit.Event{grant(place(1, "a"), alice, 10, 50), transfer(place(2, "b"), alice, 4, 40, bob)}, "0xAlice 6/10 until 50, 0xBob 4/4 until 40"},
		{
			"a transfer of several lots is split by expiration",
			[]*credit.Event{grant(place(1, "a"), alice, 3, 50), grant(place(2, "b"), alice, 3, 50), grant(place(3, "c"), alice, 3, 0), transfer(place(4, "d"), alice, 8, 60, bob)},
			"0xAlice 0/3 until 50, 0xAlice 0/3 until 50, 0xAlice 1/3, 0xBob 6/6 until 50, 0xBob 2/2 until 60",
		},
		{
			"a chain of transfers",
			[]*credit.Event{grant(place(1, "a"), alice, 10, 50), transfer(place(2, "b"), alice, 8, 0, bob), transfer(place(3, "c"), bob, 5, 30, carol), expense(place(4, "d"), 1, alice, bob, carol)},
			"0xAlice 1/10 until 50, 0xBob 2/8 until 50, 0xCarol 4/5 until 30",
		},
		{"a transfer that is not covered moves nothing", []*credit.Event{grant(place(1, "a"), alice, 10, 0), transfer(place(2, "b"), alice, 6, 0, bob, carol)}, "0xAlice 10/10"},
		{"nor does one that a late expense uncovers", []*credit.Event{grant(place(1, "a"), alice, 10, 0), transfer(place(3, "c"), alice, 8, 0, bob), expense(place(4, "d"), 2, bob), expense(place(2, "b"), 5, alice)}, "0xAlice 5/10"},
		{
			"an old transfer needs the old unit and moves what there is",
			[]*credit.Event{grant(place(1, "a"), alice, 10, 0), {Place: place(2, "b"), Owner: alice, Need: 2, Moves: []credit.Move{{To: bob, Amount: 8}, {To: carol, Amount: 8}}}},
			"0xAlice 0/10, 0xBob 8/8, 0xCarol 2/2",
		},
	} {
		for _, backwards := range []bool{false, true} {
			events := slices.Clone(tt.events)
			if backwards {
				slices.Reverse(events)
			}
			var l credit.Ledger
			for _, e := range append(events, events...) { // What comes again changes nothing.
				l.Add(e)
			}
			if got := show(l.Lots()); got != tt.want {
				t.Errorf("%s, backwards: %v:\n got %s\nwant %s", tt.name, backwards, got, tt.want)
			}
		}
	}
}

func TestHistoryOfATransfer(t *testing.T) {
	var l credit.Ledger
	l.Add(grant(place(1, "a"), alice, 3, 50))
	l.Add(grant(place(2, "b"), alice, 9, 0))
	l.Add(transfer(place(3, "c"), alice, 5, 0, bob, carol))
	l.Add(transfer(place(4, "d"), alice, 5, 0, bob)) // Not covered.

	var got []string
	for _, e := range l.Entries()[2:] {
		if e.Method != "credit_transfer" || e.Provider != "ALEPH" || e.Hash != "c" {
			t.Errorf("entry %+v", e)
		}
		got = append(got, fmt.Sprintf("%d %s %+d %s %t", e.Index, e.Address, e.Amount, e.Origin, e.ExpiresAt.IsZero()))
	}
	want := []string{"0 0xBob +3 0xAlice false", "1 0xBob +2 0xAlice true", "2 0xAlice -5 0xBob true", "3 0xCarol +5 0xAlice true", "4 0xAlice -5 0xCarol true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestCoverAndBalances(t *testing.T) {
	var l credit.Ledger
	l.Add(grant(place(1, "a"), alice, 10, 50))
	l.Add(grant(place(5, "b"), alice, 10, 0))
	l.Add(expense(place(6, "c"), 4, alice))
	for _, tt := range []struct {
		at     credit.Place
		amount int64
		want   bool
	}{
		{place(0, "x"), 1, false},
		{place(2, "x"), 10, true},
		{place(2, "x"), 11, false},
		{place(5, "a"), 11, false},
		{place(5, "c"), 20, true},
		{place(7, "x"), 16, true},
		{place(7, "x"), 17, false},
		{place(50, "x"), 10, true},
		{place(50, "x"), 11, false},
	} {
		if got := l.Covers(transfer(tt.at, alice, tt.amount, 0, bob)); got != tt.want {
			t.Errorf("%d at %v: covered %v, want %v", tt.amount, tt.at, got, tt.want)
		}
	}
	if !l.Covers(expense(place(0, "x"), 99, bob)) {
		t.Error("an expense needs no cover")
	}
	for when, want := range map[time.Time]int64{at(49): 16, at(50): 10} {
		if got := l.Balance(alice, when); got != want {
			t.Errorf("the balance at %v is %d, want %d", when, got, want)
		}
	}
	huge := grant(place(8, "h"), bob, 1<<62, 0)
	huge.Entries = append(huge.Entries, huge.Entries[0])
	huge.Entries[1].Index = 1
	l.Add(huge)
	if got := l.Balance(bob, at(9)); got != 1<<63-1 {
		t.Errorf("a sum beyond what there can be is %d", got)
	}
}

// drawEvents are random events of few addresses at few times, so that they meet.
func drawEvents(t *rapid.T) []*credit.Event {
	addresses := []string{alice, bob, carol}
	n := rapid.IntRange(1, 14).Draw(t, "events")
	out := make([]*credit.Event, n)
	for i := range out {
		p := place(float64(rapid.IntRange(0, 6).Draw(t, "time")), fmt.Sprintf("%c%d", 'a'+rapid.IntRange(0, 3).Draw(t, "hash"), i))
		amount := rapid.Int64Range(1, 20).Draw(t, "amount")
		expires := float64(rapid.IntRange(0, 8).Draw(t, "expires"))
		who := rapid.Permutation(addresses).Draw(t, "who")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			out[i] = grant(p, who[0], amount, expires)
		case 1:
			out[i] = expense(p, amount, who[:rapid.IntRange(1, 3).Draw(t, "entries")]...)
		default:
			out[i] = transfer(p, who[0], amount, expires, who[1:rapid.IntRange(2, 3).Draw(t, "recipients")]...)
		}
	}
	return out
}

// TestTheOrderOfArrivalMeansNothing: shuffled events give the same balances, lots
// and history, and no credits come from nothing.
func TestTheOrderOfArrivalMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		sorted := slices.Clone(events)
		slices.SortFunc(sorted, func(a, b *credit.Event) int { return a.Place.Compare(b.Place) })
		var want, got credit.Ledger
		for _, e := range sorted {
			want.Add(e)
		}
		for _, e := range rapid.Permutation(events).Draw(t, "order") {
			got.Add(e)
		}
		if diff := cmp.Diff(want.Lots(), got.Lots()); diff != "" {
			t.Fatalf("lots (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want.Entries(), got.Entries(), compare); diff != "" {
			t.Fatalf("history (-want +got):\n%s", diff)
		}
		var granted, left int64
		for _, e := range events {
			if e.Owner == authority && e.Entries[0].Amount > 0 {
				granted += e.Entries[0].Amount
			}
		}
		for _, l := range got.Lots() {
			left += l.Remaining
		}
		if left > granted {
			t.Fatalf("%d are left of %d", left, granted)
		}
	})
}
