package credit

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// LotKey names a lot: the row of the history that made it.
type LotKey struct {
	Hash  message.ItemHash
	Index int
}

// Lot is credits that an address got.
type Lot struct {
	Place
	Index     int
	Address   string
	Amount    int64
	Remaining int64
	ExpiresAt time.Time // Zero is never.
}

// Key names the lot.
func (l Lot) Key() LotKey { return LotKey{l.Hash, l.Index} }

// Live reports whether the lot is worth something at a time.
func (l Lot) Live(at time.Time) bool { return l.ExpiresAt.IsZero() || l.ExpiresAt.After(at) }

// serves reports whether an event at the place may drain the lot.
func (l Lot) serves(at Place) bool {
	return l.Remaining > 0 && l.Place.Compare(at) < 0 && l.Live(at.At)
}

func compareLots(a, b Lot) int {
	return cmp.Or(a.Place.Compare(b.Place), cmp.Compare(a.Index, b.Index))
}

// Drain is what an event took of a lot.
type Drain struct {
	Lot       LotKey
	Address   string
	Amount    int64
	ExpiresAt time.Time // That of the lot.
}

// Book is lots by address, the oldest first.
type Book map[string][]Lot

// Add puts lots at their places.
func (b Book) Add(lots ...Lot) {
	for _, l := range lots {
		of := b[l.Address]
		at, _ := slices.BinarySearchFunc(of, l, compareLots)
		b[l.Address] = slices.Insert(of, at, l)
	}
}

// Available is what the address can spend at a place, of what is in the book.
func (b Book) Available(address string, at Place) (total int64) {
	for _, l := range b[address] {
		if l.serves(at) {
			total = plus(total, l.Remaining)
		}
	}
	return total
}

// plus adds amounts that are not negative, up to what an int64 can hold.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Covers reports whether the book, in which nothing was spent after the event,
// has what the event must find. Only transfers must find something.
func (b Book) Covers(e *Event) bool { return !e.Spends() || b.Available(e.Owner, e.Place) >= e.Need }

// Effect is what an event does at its place.
type Effect struct {
	Lots    []Lot // New ones, in the order of their index.
	Drains  []Drain
	Entries []Entry
}

// Spend drains the lots that the event spends and returns all that it does. The
// new lots are not in the book; see Add. The lots of whom the event drains must
// be in the book, with nothing drained by events after this one.
func (b Book) Spend(e *Event) Effect {
	if e.Spends() {
		return b.transfer(e)
	}
	out := Effect{Entries: e.Entries}
	for _, entry := range e.Entries {
		if entry.Amount < 0 {
			out.Drains = append(out.Drains, b.drain(entry.Address, e.Place, -entry.Amount)...)
			continue
		}
		out.Lots = append(out.Lots, Lot{
			Place: e.Place, Index: entry.Index, Address: entry.Address, Amount: entry.Amount, Remaining: entry.Amount, ExpiresAt: entry.ExpiresAt,
		})
	}
	out.Drains = merge(out.Drains)
	return out
}

// transfer moves what a covered transfer moves.
func (b Book) transfer(e *Event) (out Effect) {
	if !b.Covers(e) {
		return Effect{}
	}
	for _, m := range e.Moves {
		drains := b.drain(e.Owner, e.Place, m.Amount)
		for _, p := range portions(drains, m.ExpiresAt) {
			index := len(out.Entries)
			out.Lots = append(out.Lots, Lot{Place: e.Place, Index: index, Address: m.To, Amount: p.Amount, Remaining: p.Amount, ExpiresAt: p.ExpiresAt})
			entry := e.entry(index, m.To, p.Amount, e.Owner)
			entry.ExpiresAt = p.ExpiresAt
			out.Entries = append(out.Entries, entry)
		}
		out.Entries = append(out.Entries, e.entry(len(out.Entries), e.Owner, -m.Amount, m.To))
		out.Drains = append(out.Drains, drains...)
	}
	out.Drains = merge(out.Drains)
	return out
}

// portions are what a move makes of drains: each keeps the expiration of its
// lot, if that is before what was asked for, and neighbours that expire together
// are one.
func portions(drains []Drain, asked time.Time) (out []Drain) {
	for _, d := range drains {
		d.ExpiresAt = earlier(d.ExpiresAt, asked)
		if last := len(out) - 1; last >= 0 && out[last].ExpiresAt.Equal(d.ExpiresAt) {
			out[last].Amount += d.Amount
			continue
		}
		out = append(out, d)
	}
	return out
}

// earlier is the earlier of two expirations, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// drain takes an amount from the lots of an address, or what there is.
func (b Book) drain(address string, at Place, amount int64) (out []Drain) {
	lots := b[address]
	for i := range lots {
		if amount == 0 {
			break
		}
		if l := &lots[i]; l.serves(at) {
			take := min(l.Remaining, amount)
			l.Remaining -= take
			amount -= take
			out = append(out, Drain{l.Key(), address, take, l.ExpiresAt})
		}
	}
	return out
}

// merge makes one of the drains of each lot.
func merge(drains []Drain) (out []Drain) {
	at := map[LotKey]int{}
	for _, d := range drains {
		i, seen := at[d.Lot]
		if seen {
			out[i].Amount += d.Amount
			continue
		}
		at[d.Lot] = len(out)
		out = append(out, d)
	}
	return out
}
