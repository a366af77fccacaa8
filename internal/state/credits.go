package state

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// ApplyCredit enters an event at its place in the ledger of credits, whatever
// came before, and returns the addresses whose credits or history may have
// changed, in order; none if the event is there already.
//
// An event after all others, which is the usual one, reads the lots that it
// drains and nothing more. Before one that comes late, what was spent later by
// the addresses that it touches is given back, and spent again after it.
func (tx *Tx) ApplyCredit(ctx context.Context, e *credit.Event) ([]string, error) {
	var known, later int
	err := tx.q.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM credit_events WHERE pk = ?),"+
		" (SELECT COUNT(*) FROM (SELECT pk FROM credit_events WHERE (at, pk) > (?, ?) LIMIT 1) AS later)",
		string(e.Hash), e.At.UnixMicro(), string(e.Hash)).Scan(&known, &later)
	if err != nil {
		return nil, fmt.Errorf("look for credit event %s: %w", e.Hash, err)
	}
	if known > 0 {
		return nil, nil
	}
	if err := tx.putCreditEvent(ctx, e); err != nil {
		return nil, err
	}
	r := &creditReplay{tx: tx, late: later > 0, book: credit.Book{}, open: map[string]bool{}, dirty: map[credit.LotKey]bool{}}
	if err := r.run(ctx, e); err != nil {
		return nil, fmt.Errorf("apply credit event %s: %w", e.Hash, err)
	}
	changed := append(slices.Collect(maps.Keys(r.open)), e.Addresses()...)
	slices.Sort(changed)
	return slices.Compact(changed), nil
}

// CreditKnown reports whether an event is in the ledger.
func (r reader) CreditKnown(ctx context.Context, hash message.ItemHash) (bool, error) {
	var n int
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM credit_events WHERE pk = ?", string(hash)).Scan(&n); err != nil {
		return false, fmt.Errorf("look for credit event %s: %w", hash, err)
	}
	return n > 0, nil
}

// RevokeCredit takes the event of a post out of the ledger that should not have counted,
// as if it had never come, and returns the addresses whose credits or history may have
// changed. What the event did is known from its rows.
func (tx *Tx) RevokeCredit(ctx context.Context, hash message.ItemHash) ([]string, error) {
	at, addresses, err := tx.creditTouched(ctx, hash)
	if err != nil || at.IsZero() {
		return nil, err
	}
	for _, query := range []string{
		"DELETE FROM credit_events WHERE pk = ?", "DELETE FROM credit_lots WHERE ref = ?", "DELETE FROM credit_history WHERE ref = ?",
	} {
		if _, err := tx.tx.ExecContext(ctx, query, string(hash)); err != nil {
			return nil, fmt.Errorf("take back credit event %s: %w", hash, err)
		}
	}
	tx.logChange("credit_events", string(hash))
	r := &creditReplay{tx: tx, late: true, book: credit.Book{}, open: map[string]bool{}, dirty: map[credit.LotKey]bool{}}
	// No hash is before "", so this gives back what the event itself has drained.
	if err := r.reopen(ctx, addresses, credit.Place{At: at}); err != nil {
		return nil, fmt.Errorf("take back credit event %s: %w", hash, err)
	}
	if err := r.rest(ctx); err != nil {
		return nil, fmt.Errorf("take back credit event %s: %w", hash, err)
	}
	return slices.Sorted(maps.Keys(r.open)), nil
}

// creditTouched returns when an event was and whose credits or history it changed, each
// once; the zero time if there is none.
func (r reader) creditTouched(ctx context.Context, hash message.ItemHash) (at time.Time, addresses []string, err error) {
	err = r.each(ctx, "SELECT at, spender FROM credit_events WHERE pk = ?", []any{string(hash)}, func(scan func(...any) error) error {
		var micro int64
		var spender *string
		err := scan(&micro, &spender)
		at = micros(micro)
		if spender != nil {
			addresses = append(addresses, *spender)
		}
		return err
	})
	for _, table := range []string{"credit_lots", "credit_history", "credit_drains"} {
		if err != nil {
			break
		}
		err = r.each(ctx, "SELECT address FROM "+table+" WHERE ref = ?", []any{string(hash)}, func(scan func(...any) error) error {
			var address string
			err := scan(&address)
			addresses = append(addresses, address)
			return err
		})
	}
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("read whom credit event %s touched: %w", hash, err)
	}
	slices.Sort(addresses)
	return at, slices.Compact(addresses), nil
}

func (tx *Tx) putCreditEvent(ctx context.Context, e *credit.Event) error {
	row, err := eventRow(e)
	if err != nil {
		return err
	}
	tx.logChange("credit_events", string(e.Hash))
	return tx.insert(ctx, "credit_events ("+eventColumns+")", [][]any{row}, "")
}

// eventColumns are the columns of an event.
const eventColumns = "pk, at, spender, doc"

// eventRow is an event. Of those that spend nothing all else is in their entries.
func eventRow(e *credit.Event) ([]any, error) {
	row := []any{string(e.Hash), e.At.UnixMicro(), nil, nil}
	if e.Spends() {
		doc, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode credit event %s: %w", e.Hash, err)
		}
		row[2], row[3] = e.Owner, string(doc)
	}
	return row, nil
}

// creditReplay applies one event, and after it what depends on it. Of an address
// that is open the lots are in the book, as they are after all that was applied
// so far; what the database has of it is older until all is written at the end.
type creditReplay struct {
	tx   *Tx
	late bool

	book  credit.Book
	open  map[string]bool
	queue []*credit.Event // What open addresses spent after the event, by place; of an expense, their entries alone.

	dirty   map[credit.LotKey]bool // Lots of the book that are new or drained.
	drains  [][]any
	entries []credit.Entry
}

func (r *creditReplay) run(ctx context.Context, e *credit.Event) error {
	addresses := e.Payers()
	if r.late {
		addresses = e.Addresses()
	}
	if err := r.reopen(ctx, addresses, e.Place); err != nil {
		return err
	}
	r.enter(e, r.book.Spend(e))
	return r.rest(ctx)
}

// rest applies again what is in the queue, and writes all.
func (r *creditReplay) rest(ctx context.Context) error {
	for len(r.queue) > 0 {
		next := r.queue[0]
		r.queue = r.queue[1:]
		if err := r.again(ctx, next); err != nil {
			return err
		}
	}
	return r.write(ctx)
}

// enter notes what an event does.
func (r *creditReplay) enter(e *credit.Event, does credit.Effect) {
	r.book.Add(does.Lots...)
	for _, l := range does.Lots {
		r.dirty[l.Key()] = true
	}
	for _, d := range does.Drains {
		r.dirty[d.Lot] = true
		r.drains = append(r.drains, drainRow(e.Place, &d))
	}
	r.entries = append(r.entries, does.Entries...)
}

// again applies an event that was applied before. Its rows stay, unless it is a
// transfer that now gives something else: then whom it gives to is replayed too.
func (r *creditReplay) again(ctx context.Context, e *credit.Event) error {
	does := r.book.Spend(e)
	if !e.Spends() {
		r.enter(e, credit.Effect{Drains: does.Drains})
		return nil
	}
	gave, err := r.tx.creditLots(ctx, "ref = ? ORDER BY idx", string(e.Hash))
	if err != nil {
		return err
	}
	same := func(a, b credit.Lot) bool {
		return a.Key() == b.Key() && a.Address == b.Address && a.Amount == b.Amount && a.ExpiresAt.Equal(b.ExpiresAt)
	}
	if slices.EqualFunc(gave, does.Lots, same) {
		r.enter(e, credit.Effect{Drains: does.Drains})
		return nil
	}
	var to []string
	for _, m := range e.Moves {
		to = append(to, m.To)
	}
	if err := r.reopen(ctx, to, e.Place); err != nil {
		return err
	}
	for _, table := range []string{"credit_lots", "credit_history"} {
		if _, err := r.tx.tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE ref = ?", string(e.Hash)); err != nil {
			return fmt.Errorf("take back transfer %s: %w", e.Hash, err)
		}
	}
	for _, address := range to {
		r.book[address] = slices.DeleteFunc(r.book[address], func(l credit.Lot) bool { return l.Hash == e.Hash })
	}
	r.enter(e, does)
	return nil
}

// reopen puts the lots of addresses into the book as they were at a place, and
// what was spent of them since then into the queue.
func (r *creditReplay) reopen(ctx context.Context, addresses []string, from credit.Place) error {
	var args []any
	for _, a := range addresses {
		if !r.open[a] {
			r.open[a] = true
			args = append(args, a)
		}
	}
	for chunk := range chunks(args) {
		if r.late {
			if err := r.giveBack(ctx, chunk, from); err != nil {
				return err
			}
			if err := r.enqueue(ctx, chunk, from); err != nil {
				return err
			}
		}
		lots, err := r.tx.creditLots(ctx, "address IN "+marks(len(chunk))+" AND remaining > 0 AND (expires_at IS NULL OR expires_at > ?)"+
			" ORDER BY address, at, ref, idx", append(slices.Clone(chunk), from.At.UnixMicro())...)
		if err != nil {
			return err
		}
		for _, l := range lots {
			r.book[l.Address] = append(r.book[l.Address], l)
		}
	}
	return nil
}

// spentAfter is what chooses rows of addresses after a place, and its arguments.
func spentAfter(addresses []any, from credit.Place, column, ref string) (string, []any) {
	return column + " IN " + marks(len(addresses)) + " AND (at, " + ref + ") > (?, ?)", append(slices.Clone(addresses), from.At.UnixMicro(), string(from.Hash))
}

// giveBack undoes what was drained of the lots of addresses after a place.
func (r *creditReplay) giveBack(ctx context.Context, addresses []any, from credit.Place) error {
	where, args := spentAfter(addresses, from, "address", "ref")
	for _, query := range []string{
		"UPDATE credit_lots SET remaining = remaining + back.drained FROM (SELECT lot_ref, lot_idx, SUM(amount) AS drained FROM credit_drains" +
			" WHERE " + where + " GROUP BY lot_ref, lot_idx) AS back WHERE credit_lots.ref = back.lot_ref AND credit_lots.idx = back.lot_idx",
		"DELETE FROM credit_drains WHERE " + where,
	} {
		if _, err := r.tx.tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("give back credits: %w", err)
		}
	}
	return nil
}

// enqueue finds what addresses spent after a place.
func (r *creditReplay) enqueue(ctx context.Context, addresses []any, from credit.Place) error {
	where, args := spentAfter(addresses, from, "address", "ref")
	err := r.tx.each(ctx, "SELECT ref, idx, at, address, amount FROM credit_history WHERE "+where+" AND amount < 0 AND method = '"+credit.MethodExpense+"' ORDER BY at, ref, idx",
		args, func(scan func(...any) error) error {
			var e credit.Entry
			var at int64
			err := scan(&e.Hash, &e.Index, &at, &e.Address, &e.Amount)
			e.At = micros(at)
			r.push(&credit.Event{Place: e.Place, Entries: []credit.Entry{e}})
			return err
		})
	if err != nil {
		return fmt.Errorf("read expenses: %w", err)
	}
	where, args = spentAfter(addresses, from, "spender", "pk")
	err = r.tx.each(ctx, "SELECT doc FROM credit_events WHERE "+where+" ORDER BY at, pk", args, func(scan func(...any) error) error {
		var doc string
		if err := scan(&doc); err != nil {
			return err
		}
		var e credit.Event
		if err := json.Unmarshal([]byte(doc), &e); err != nil {
			return fmt.Errorf("decode transfer: %w", err)
		}
		r.push(&e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read transfers: %w", err)
	}
	return nil
}

// push puts an event into the queue; entries of one event are one event.
func (r *creditReplay) push(e *credit.Event) {
	at, there := slices.BinarySearchFunc(r.queue, e, func(a, b *credit.Event) int { return a.Place.Compare(b.Place) })
	if there {
		r.queue[at].Entries = append(r.queue[at].Entries, e.Entries...)
		return
	}
	r.queue = slices.Insert(r.queue, at, e)
}

// write writes what was noted.
func (r *creditReplay) write(ctx context.Context) error {
	var lots [][]any
	for _, address := range slices.Sorted(maps.Keys(r.book)) {
		for _, l := range r.book[address] {
			if r.dirty[l.Key()] {
				lots = append(lots, lotRow(&l))
			}
		}
	}
	var entries [][]any
	for i := range r.entries {
		entries = append(entries, entryRow(&r.entries[i]))
	}
	if err := r.tx.insert(ctx, "credit_lots ("+lotColumns+")", lots,
		" ON CONFLICT (ref, idx) DO UPDATE SET remaining = excluded.remaining"); err != nil {
		return err
	}
	if err := r.tx.insert(ctx, "credit_drains ("+drainColumns+")", r.drains, ""); err != nil {
		return err
	}
	return r.tx.insert(ctx, "credit_history ("+entryColumns+", resource)", entries, "")
}

// The columns of lots and of drains.
const (
	lotColumns   = "ref, idx, address, at, amount, remaining, expires_at"
	drainColumns = "ref, lot_ref, lot_idx, address, at, amount"
)

func lotRow(l *credit.Lot) []any {
	return []any{string(l.Hash), l.Index, l.Address, l.At.UnixMicro(), l.Amount, l.Remaining, timeOrNull(l.ExpiresAt)}
}

// drainRow is what an event at a place took of a lot.
func drainRow(p credit.Place, d *credit.Drain) []any {
	return []any{string(p.Hash), string(d.Lot.Hash), d.Lot.Index, d.Address, p.At.UnixMicro(), d.Amount}
}

// entryRow is an entry, with the resource that it is found by.
func entryRow(e *credit.Entry) []any {
	return []any{
		string(e.Hash), e.Index, e.At.UnixMicro(), e.Address, e.Amount, decimalOrNull(e.Price), numberOrNull(e.Bonus), textOrNull(e.TxHash),
		textOrNull(e.Token), textOrNull(e.Chain), textOrNull(e.Provider), textOrNull(e.Origin), textOrNull(e.OriginRef), textOrNull(e.Method),
		timeOrNull(e.ExpiresAt), numberOrNull(e.Count), decimalOrNull(e.SizeMiB), textOrNull(e.Resource()),
	}
}

// creditLots returns the lots for which where holds.
func (r reader) creditLots(ctx context.Context, where string, args ...any) (out []credit.Lot, err error) {
	err = r.each(ctx, "SELECT "+lotColumns+" FROM credit_lots WHERE "+where, args, func(scan func(...any) error) error {
		var l credit.Lot
		var at int64
		var expires *int64
		err := scan(&l.Hash, &l.Index, &l.Address, &at, &l.Amount, &l.Remaining, &expires)
		l.At, l.ExpiresAt = micros(at), timeOf(expires)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read lots of credits: %w", err)
	}
	return out, nil
}

// CreditCovers reports whether a transfer is covered at its place by what is
// known. One that is not moves nothing: who takes in such a message refuses it.
func (r reader) CreditCovers(ctx context.Context, e *credit.Event) (bool, error) {
	if !e.Spends() {
		return true, nil
	}
	there, _, err := r.CreditsAt(ctx, e.Owner, e.Place)
	return there >= e.Need, err
}

// CreditsAt returns what an address could spend at a place, and how much of that
// nobody has spent after it. What is spent of the rest is taken back from events
// that are known.
func (r reader) CreditsAt(ctx context.Context, address string, at credit.Place) (there, left int64, err error) {
	const lots = "(l.at, l.ref) < (?, ?) AND (l.expires_at IS NULL OR l.expires_at > ?)"
	micro, hash := at.At.UnixMicro(), string(at.Hash)
	left, err = r.creditSum(ctx, "l.remaining", "credit_lots l WHERE l.address = ? AND l.remaining > 0 AND "+lots, address, micro, hash, micro)
	if err != nil {
		return 0, 0, err
	}
	later, err := r.creditSum(ctx, "d.amount", "credit_drains d JOIN credit_lots l ON l.ref = d.lot_ref AND l.idx = d.lot_idx"+
		" WHERE d.address = ? AND (d.at, d.ref) > (?, ?) AND "+lots, address, micro, hash, micro, hash, micro)
	return saturated(new(big.Int).Add(big.NewInt(left), big.NewInt(later))), left, err
}

// creditSum adds up a column.
func (r reader) creditSum(ctx context.Context, column, from string, args ...any) (int64, error) {
	var sum halves
	if err := r.q.QueryRowContext(ctx, "SELECT "+summed(column)+" FROM "+from, args...).Scan(&sum.high, &sum.low); err != nil {
		return 0, fmt.Errorf("add up credits: %w", err)
	}
	return sum.total(), nil
}

// halves are a sum in two parts: that of the amounts by 2^32, and that of what is
// left of each. No sum of rows that there can be overflows in one engine or is no
// integer in the other.
type halves struct{ high, low int64 }

// summed is the expression for the halves of a sum, high and low.
func summed(of string) string {
	return "COALESCE(CAST(SUM(" + of + " / 4294967296) AS BIGINT), 0) AS high, COALESCE(CAST(SUM(" + of + " % 4294967296) AS BIGINT), 0) AS low"
}

// total is the sum, or the nearest that an int64 can hold.
func (h halves) total() int64 {
	sum := new(big.Int).Lsh(big.NewInt(h.high), 32)
	return saturated(sum.Add(sum, big.NewInt(h.low)))
}

func saturated(n *big.Int) int64 {
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// micros is the time of a column.
func micros(at int64) time.Time { return time.UnixMicro(at).UTC() }

// timeOf is the time of a column that may be null.
func timeOf(at *int64) time.Time {
	if at == nil {
		return time.Time{}
	}
	return micros(*at)
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func numberOrNull(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func decimalOrNull(d *credit.Decimal) any {
	if d == nil {
		return nil
	}
	return d.String()
}
