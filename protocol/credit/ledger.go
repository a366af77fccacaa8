package credit

import (
	"cmp"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Ledger is all that events have done, in whatever order they came. The zero
// value is empty.
type Ledger struct {
	events  []*Event // by place
	known   map[message.ItemHash]bool
	book    Book
	entries []Entry
}

// Add enters an event. One that comes late makes the ledger anew; one that is
// there already changes nothing.
func (l *Ledger) Add(e *Event) {
	if l.known[e.Hash] {
		return
	}
	if l.known == nil {
		l.known, l.book = map[message.ItemHash]bool{}, Book{}
	}
	l.known[e.Hash] = true
	at, _ := slices.BinarySearchFunc(l.events, e, comparePlaces)
	l.events = slices.Insert(l.events, at, e)
	if at == len(l.events)-1 {
		l.apply(e)
		return
	}
	l.book, l.entries = Book{}, nil
	for _, e := range l.events {
		l.apply(e)
	}
}

func comparePlaces(a, b *Event) int { return a.Place.Compare(b.Place) }

func (l *Ledger) apply(e *Event) {
	effect := l.book.Spend(e)
	l.book.Add(effect.Lots...)
	l.entries = append(l.entries, effect.Entries...)
}

// Covers reports whether a transfer would be covered at its place by the events
// that are known.
func (l *Ledger) Covers(e *Event) bool {
	before, _ := slices.BinarySearchFunc(l.events, e, comparePlaces)
	var past Ledger
	for _, e := range l.events[:before] {
		past.Add(e)
	}
	return past.book.Covers(e)
}

// Balance is what the address has at a time, after all events.
func (l *Ledger) Balance(address string, at time.Time) (total int64) {
	for _, lot := range l.book[address] {
		if lot.Live(at) {
			total = plus(total, lot.Remaining)
		}
	}
	return total
}

// Lots are all lots, by address and place.
func (l *Ledger) Lots() (out []Lot) {
	for _, lots := range l.book {
		out = append(out, lots...)
	}
	slices.SortFunc(out, func(a, b Lot) int { return cmp.Or(cmp.Compare(a.Address, b.Address), compareLots(a, b)) })
	return out
}

// Entries is the whole history, by place.
func (l *Ledger) Entries() []Entry { return slices.Clone(l.entries) }
