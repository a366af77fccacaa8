package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// creditEvent is a row of the events of credits.
type creditEvent struct {
	credit.Place
	spender, doc string // "" is none.
}

// spends reports whether the row is of a transfer that spends.
func (e *creditEvent) spends() bool { return e.doc != "" }

// row is the row as it is written.
func (e *creditEvent) row() []any {
	return []any{string(e.Hash), e.At.UnixMicro(), textOrNull(e.spender), textOrNull(e.doc)}
}

// creditEvents reads events.
func (c *checker) creditEvents(ctx context.Context, where string, args ...any) (out []creditEvent, err error) {
	err = c.v.each(ctx, "SELECT pk, at, COALESCE(spender, ''), COALESCE(doc, '') FROM credit_events WHERE "+where, args, func(scan func(...any) error) error {
		var e creditEvent
		var at int64
		err := scan(&e.Hash, &at, &e.spender, &e.doc)
		e.At = micros(at)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credit events: %w", err)
	}
	return out, nil
}

// authorities finds whose posts give and take credits, which is a setting of the
// node: those of whom the ledger has events that need no balance.
func (c *checker) authorities(ctx context.Context) error {
	query := "SELECT DISTINCT m.owner FROM credit_events e JOIN messages m ON m.pk = e.pk WHERE e.spender IS NULL"
	err := c.v.each(ctx, query, nil, func(scan func(...any) error) error {
		var owner string
		err := scan(&owner)
		c.authority[owner] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read who gives credits: %w", err)
	}
	return nil
}

// creditPosts checks that the ledger has what POSTs do to credits, as they say it.
func (c *checker) creditPosts(ctx context.Context, all []*Message) error {
	rules := credit.Network()
	var posts []credit.Post
	for _, m := range all {
		p, ok := m.Parsed.(*message.Post)
		if !ok {
			continue
		}
		if _, amends := p.Amends(); !amends {
			posts = append(posts, credit.PostOf(&m.Envelope, p))
		}
	}
	for chunk := range chunks(posts) {
		hashes := make([]any, len(chunk))
		for i, p := range chunk {
			hashes[i] = string(p.Hash)
		}
		found, err := c.creditEvents(ctx, "pk IN "+marks(len(hashes)), hashes...)
		if err != nil {
			return err
		}
		rows := map[message.ItemHash]*creditEvent{}
		for i := range found {
			rows[found[i].Hash] = &found[i]
		}
		for _, p := range chunk {
			row := rows[p.Hash]
			rules.Authority = ""
			if c.authority[p.Owner] && (row == nil || !row.spends()) {
				rules.Authority = p.Owner
			}
			if err := c.creditPost(ctx, rules, p, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// creditPost compares a post with its event, which is nil if there is none.
func (c *checker) creditPost(ctx context.Context, rules credit.Rules, p credit.Post, got *creditEvent) error {
	e, err := rules.Event(p)
	switch {
	case err != nil || e == nil && got != nil:
		c.differ("post %s moves no credits (%v), and the ledger has an event of it: %v", p.Hash, err, got != nil)
		return nil
	case e == nil:
		return nil
	case got == nil:
		c.differ("post %s moves credits, and the ledger has no event of it", p.Hash)
		return nil
	}
	want, err := eventRow(e)
	if err != nil {
		return err
	}
	c.sameRows("the ledger", p.Hash, []string{shownRow(got.row())}, []string{shownRow(want)})
	if e.Spends() {
		return nil // What it does depends on all before it; see ledger.
	}
	history, err := c.creditHistory(ctx, p.Hash)
	c.sameRows("history", p.Hash, entryRows(history[p.Hash]), entryRows(e.Entries))
	return err
}

// creditHistory reads the entries of events.
func (c *checker) creditHistory(ctx context.Context, hashes ...message.ItemHash) (map[message.ItemHash][]credit.Entry, error) {
	out := map[message.ItemHash][]credit.Entry{}
	list, args := in(hashes)
	err := c.v.each(ctx, "SELECT "+entryColumns+" FROM credit_history WHERE ref IN "+list+" ORDER BY ref, idx", args, func(scan func(...any) error) error {
		e, err := scanCreditEntry(scan)
		out[e.Hash] = append(out[e.Hash], e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credit history: %w", err)
	}
	return out, nil
}

// sameRows compares rows of an event.
func (c *checker) sameRows(what string, of message.ItemHash, got, want []string) {
	if !slices.Equal(got, want) {
		c.differ("credit event %s has other rows of %s than it makes: %d, want %d, such as %s", of, what, len(got), len(want), firstUnlike(got, want))
	}
}

// firstUnlike shows the first place in which lists differ.
func firstUnlike(a, b []string) string {
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return "none"
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return at(a, i) + ", want " + at(b, i)
}

// shownRow is a row in words; rows that differ have other words.
func shownRow(row []any) string { return fmt.Sprintf("%#v", row) }

func entryRows(all []credit.Entry) (out []string) {
	for i := range all {
		out = append(out, shownRow(entryRow(&all[i])))
	}
	return out
}

func lotRows(all []credit.Lot) (out []string) {
	for _, l := range all {
		l.Remaining = l.Amount // As when it was made; what is left is compared at the end.
		out = append(out, shownRow(lotRow(&l)))
	}
	return out
}

// ledgerChunk is how many events of the ledger are replayed with one look at what
// they made; each may have made many rows.
const ledgerChunk = 100

// ledger applies all events again in the order of their places, and compares what
// they make: entries, lots, what they drain, and what is left in the end. Of those
// whose messages ended it knows what they do from their own rows.
func (c *checker) ledger(ctx context.Context) error {
	var last credit.Place
	lots, drains, entries := 0, 0, 0
	for book := (credit.Book{}); ; {
		events, err := c.creditEvents(ctx, "(at, pk) > (?, ?) ORDER BY at, pk LIMIT ?", last.At.UnixMicro(), string(last.Hash), ledgerChunk)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return c.ledgerEnd(ctx, book, lots, drains, entries)
		}
		last = events[len(events)-1].Place
		made, err := c.creditsMade(ctx, events)
		if err != nil {
			return err
		}
		for i := range events {
			if err := c.replay(book, &events[i], made); err != nil {
				return err
			}
		}
		for i := range events {
			hash := events[i].Hash
			lots, drains, entries = lots+len(made.lots[hash]), drains+len(made.drains[hash]), entries+len(made.entries[hash])
		}
	}
}

// creditsMade are the rows that events have made.
type creditsMade struct {
	entries map[message.ItemHash][]credit.Entry
	lots    map[message.ItemHash][]credit.Lot
	drains  map[message.ItemHash][]string
}

func (c *checker) creditsMade(ctx context.Context, events []creditEvent) (m creditsMade, err error) {
	hashes := make([]message.ItemHash, len(events))
	for i, e := range events {
		hashes[i] = e.Hash
	}
	if m.entries, err = c.creditHistory(ctx, hashes...); err != nil {
		return m, err
	}
	list, args := in(hashes)
	all, err := c.v.creditLots(ctx, "ref IN "+list+" ORDER BY ref, idx", args...)
	if err != nil {
		return m, err
	}
	m.lots, m.drains = map[message.ItemHash][]credit.Lot{}, map[message.ItemHash][]string{}
	for _, l := range all {
		m.lots[l.Hash] = append(m.lots[l.Hash], l)
	}
	err = c.v.each(ctx, "SELECT ref, lot_ref, lot_idx, address, at, amount FROM credit_drains WHERE ref IN "+list, args, func(scan func(...any) error) error {
		var p credit.Place
		var d credit.Drain
		var at int64
		err := scan(&p.Hash, &d.Lot.Hash, &d.Lot.Index, &d.Address, &at, &d.Amount)
		p.At = micros(at)
		m.drains[p.Hash] = append(m.drains[p.Hash], shownRow(drainRow(p, &d)))
		return err
	})
	if err != nil {
		return m, fmt.Errorf("read what was drained of credits: %w", err)
	}
	return m, nil
}

// replay applies one event to the book, and compares what it makes with what is there.
func (c *checker) replay(book credit.Book, row *creditEvent, made creditsMade) error {
	e := &credit.Event{Place: row.Place, Entries: made.entries[row.Hash]}
	if row.spends() {
		e = new(credit.Event)
		if err := json.Unmarshal([]byte(row.doc), e); err != nil || e.Place.Compare(row.Place) != 0 || e.Owner != row.spender || !e.Spends() {
			return errs.New(errs.Internal, "credit event %s of %s at %v is not what it spends: %s (%v)", row.Hash, row.spender, row.At, row.doc, err)
		}
	}
	does := book.Spend(e)
	book.Add(does.Lots...)
	var drains []string
	for _, d := range does.Drains {
		drains = append(drains, shownRow(drainRow(e.Place, &d)))
	}
	slices.Sort(drains)
	slices.Sort(made.drains[row.Hash])
	c.sameRows("history", row.Hash, entryRows(made.entries[row.Hash]), entryRows(does.Entries))
	c.sameRows("lots", row.Hash, lotRows(made.lots[row.Hash]), lotRows(does.Lots))
	c.sameRows("drains", row.Hash, made.drains[row.Hash], drains)
	for _, address := range e.Payers() { // What is empty serves nobody any more.
		book[address] = slices.DeleteFunc(book[address], func(l credit.Lot) bool { return l.Remaining == 0 })
	}
	return nil
}

// ledgerEnd compares what is left of lots, and looks for rows of no event.
func (c *checker) ledgerEnd(ctx context.Context, book credit.Book, lots, drains, entries int) error {
	left := map[credit.LotKey]int64{}
	for _, of := range book {
		for _, l := range of {
			left[l.Key()] = l.Remaining
		}
	}
	err := c.v.each(ctx, "SELECT ref, idx, address, remaining FROM credit_lots WHERE remaining <> 0", nil, func(scan func(...any) error) error {
		var key credit.LotKey
		var address string
		var remaining int64
		err := scan(&key.Hash, &key.Index, &address, &remaining)
		if err == nil && remaining != left[key] {
			c.differ("of lot %d of credit event %s, %s has %d left, want %d", key.Index, key.Hash, address, remaining, left[key])
		}
		delete(left, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("read lots of credits: %w", err)
	}
	for key, remaining := range left {
		c.differ("of lot %d of credit event %s nothing is left, want %d", key.Index, key.Hash, remaining)
	}
	for _, t := range []struct {
		what, query string
		want        int
	}{
		{"lots of credits", "SELECT COUNT(*) FROM credit_lots", lots},
		{"drains of lots of credits", "SELECT COUNT(*) FROM credit_drains", drains},
		{"entries of histories of credits", "SELECT COUNT(*) FROM credit_history", entries},
		{"entries that are found by something else than they paid for", "SELECT COUNT(*) FROM credit_history WHERE COALESCE(resource, '') <> COALESCE(origin, origin_ref, '')", 0},
	} {
		n, err := c.number(ctx, t.query)
		if err != nil {
			return err
		}
		c.want(t.what, n, int64(t.want))
	}
	return nil
}
