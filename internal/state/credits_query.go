package state

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// lotLive is a lot of which something is left at a time.
const lotLive = "remaining > 0 AND (expires_at IS NULL OR expires_at > ?)"

// CreditBalance returns what an address has at a time.
func (r reader) CreditBalance(ctx context.Context, address string, now time.Time) (int64, error) {
	return r.creditSum(ctx, "remaining", "credit_lots WHERE address = ? AND "+lotLive, address, now.UnixMicro())
}

// CreditPart is what an address has until a time.
type CreditPart struct {
	ExpiresAt time.Time // Zero is never.
	Amount    int64
}

// CreditParts returns what an address has at a time, by expiration: what never
// expires first, then the earliest.
func (r reader) CreditParts(ctx context.Context, address string, now time.Time) (out []CreditPart, err error) {
	err = r.each(ctx, "SELECT expires_at, "+summed("remaining")+" FROM credit_lots WHERE address = ? AND "+lotLive+
		" GROUP BY expires_at ORDER BY expires_at IS NOT NULL, expires_at", []any{address, now.UnixMicro()}, func(scan func(...any) error) error {
		var expires *int64
		var sum halves
		err := scan(&expires, &sum.high, &sum.low)
		out = append(out, CreditPart{timeOf(expires), sum.total()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credits of %s: %w", address, err)
	}
	return out, nil
}

// CreditsQuery chooses addresses by their credits.
type CreditsQuery struct {
	Now    time.Time
	Min    int64  // Up to 0, whoever ever had credits is in the list.
	After  string // An address; "" is before all.
	Offset int
	Limit  int // 0 is all.
}

// limited is the end of a query for limit rows after the first offset; all rows
// if the limit is 0.
func limited(offset, limit int) (string, []any) {
	if limit <= 0 {
		return "", nil
	}
	return " LIMIT ? OFFSET ?", []any{limit, max(offset, 0)}
}

// AddressCredits is what an address has.
type AddressCredits struct {
	Address string
	Credits int64
}

// of is the query for addresses and the halves of their credits.
func (q CreditsQuery) of() (string, []any) {
	if q.Min <= 0 {
		return "SELECT address, " + summed("(CASE WHEN "+lotLive+" THEN remaining ELSE 0 END)") + " FROM credit_lots WHERE address > ? GROUP BY address",
			[]any{q.Now.UnixMicro(), q.Now.UnixMicro(), q.After}
	}
	return "SELECT address, high, low FROM (SELECT address, " + summed("remaining") + " FROM credit_lots WHERE " + lotLive + " AND address > ? GROUP BY address) AS sums" +
			" WHERE (high + low / 4294967296, low % 4294967296) >= (?, ?)",
		[]any{q.Now.UnixMicro(), q.After, q.Min >> 32, q.Min & (1<<32 - 1)}
}

// CreditBalances returns the credits of addresses, by address.
func (r reader) CreditBalances(ctx context.Context, q CreditsQuery) (out []AddressCredits, err error) {
	query, args := q.of()
	page, more := limited(q.Offset, q.Limit)
	err = r.each(ctx, query+" ORDER BY address"+page, append(args, more...), func(scan func(...any) error) error {
		var a AddressCredits
		var sum halves
		err := scan(&a.Address, &sum.high, &sum.low)
		a.Credits = sum.total()
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list credits: %w", err)
	}
	return out, nil
}

// CountCreditBalances returns how many addresses a query chooses, on all pages.
func (r reader) CountCreditBalances(ctx context.Context, q CreditsQuery) (n int, err error) {
	query, args := q.of()
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM ("+query+") AS chosen", args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count credits: %w", err)
	}
	return n, nil
}

// CreditDirection is which way credits went.
type CreditDirection string

// The directions; "" is both.
const (
	CreditIncoming CreditDirection = "incoming"
	CreditOutgoing CreditDirection = "outgoing"
)

// CreditFilter chooses entries of an address's history. What is nil, zero or
// empty chooses all.
type CreditFilter struct {
	Address        string
	TxHash         *string
	Token          *string
	Chain          *string
	Provider       *string
	Origin         *string
	OriginRef      *string
	Method         *string
	Resource       *string // See credit.Entry.Resource.
	HasExpiration  *bool
	ExcludeMethods []string // An entry without a method has none of them.
	Since          time.Time
	Until          time.Time // Inclusive.
	Direction      CreditDirection
	ResourceTypes  []message.Type // Of the message that is the resource, which must be there.
}

// where is the filter as a clause.
func (f CreditFilter) where() (string, []any) {
	clauses, args := []string{"address = ?"}, []any{f.Address}
	add := func(clause string, more ...any) {
		clauses = append(clauses, clause)
		args = append(args, more...)
	}
	for _, c := range []struct {
		column string
		value  *string
	}{
		{"tx_hash", f.TxHash},
		{"token", f.Token},
		{"chain", f.Chain},
		{"provider", f.Provider},
		{"origin", f.Origin},
		{"origin_ref", f.OriginRef},
		{"method", f.Method},
		{"resource", f.Resource},
	} {
		if c.value != nil {
			add(c.column+" = ?", *c.value)
		}
	}
	if f.HasExpiration != nil {
		add(map[bool]string{true: "expires_at IS NOT NULL", false: "expires_at IS NULL"}[*f.HasExpiration])
	}
	if len(f.ExcludeMethods) > 0 {
		list, methods := in(f.ExcludeMethods)
		add("(method IS NULL OR method NOT IN "+list+")", methods...)
	}
	if !f.Since.IsZero() {
		add("at >= ?", f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		add("at <= ?", f.Until.UnixMicro())
	}
	if sign := map[CreditDirection]string{CreditIncoming: ">", CreditOutgoing: "<"}[f.Direction]; sign != "" {
		add("amount " + sign + " 0")
	}
	if len(f.ResourceTypes) > 0 {
		list, types := in(f.ResourceTypes)
		add("(EXISTS (SELECT 1 FROM messages WHERE messages.pk = credit_history.resource AND messages.type IN "+list+
			") OR EXISTS (SELECT 1 FROM skeletons WHERE skeletons.pk = credit_history.resource AND skeletons.type IN "+list+"))", append(types, types...)...)
	}
	return strings.Join(clauses, " AND "), args
}

// CreditSort is a column by which a history is sorted.
type CreditSort string

// The columns, as the interface of the network names them.
const (
	CreditByTime       CreditSort = "message_timestamp"
	CreditByExpiration CreditSort = "expiration_date"
	CreditByMethod     CreditSort = "payment_method"
	CreditByAmount     CreditSort = "amount"
	CreditByOrigin     CreditSort = "origin"
	CreditByTxHash     CreditSort = "tx_hash"
	CreditByProvider   CreditSort = "provider"
)

// column is the sort's column, and whether it may be null.
func (s CreditSort) column() (name string, nullable bool, err error) {
	switch s {
	case "", CreditByTime:
		return "at", false, nil
	case CreditByAmount:
		return "amount", false, nil
	case CreditByExpiration:
		return "expires_at", true, nil
	case CreditByMethod:
		return "method", true, nil
	case CreditByOrigin, CreditByTxHash, CreditByProvider:
		return string(s), true, nil
	}
	return "", false, errs.New(errs.Invalid, "a history of credits cannot be sorted by %q", s)
}

// CreditAfter names the entry after which a page begins: the value that the
// history is sorted by, a number or a text or nothing, and the entry's key.
type CreditAfter struct {
	Number *int64
	Text   *string
	Hash   message.ItemHash
	Index  int
}

// value is what the column is compared with; nil if the entry has none.
func (a CreditAfter) value() any {
	switch {
	case a.Number != nil:
		return *a.Number
	case a.Text != nil:
		return *a.Text
	}
	return nil
}

// After returns what names an entry in a history with this sort.
func (s CreditSort) After(e credit.Entry) CreditAfter {
	a := CreditAfter{Hash: e.Hash, Index: e.Index}
	number := func(n int64) { a.Number = &n }
	text := func(t string) {
		if t != "" {
			a.Text = &t
		}
	}
	switch s {
	case CreditByAmount:
		number(e.Amount)
	case CreditByExpiration:
		if !e.ExpiresAt.IsZero() {
			number(e.ExpiresAt.UnixMicro())
		}
	case CreditByMethod:
		text(e.Method)
	case CreditByOrigin:
		text(e.Origin)
	case CreditByTxHash:
		text(e.TxHash)
	case CreditByProvider:
		text(e.Provider)
	case CreditByTime:
		number(e.At.UnixMicro())
	default:
		number(e.At.UnixMicro())
	}
	return a
}

// CreditQuery chooses and sorts entries of an address's history. Those that lack
// what it is sorted by come last in both directions; those that are alike are
// in the order of hash and index, in the same direction.
type CreditQuery struct {
	CreditFilter
	Sort      CreditSort // "" is by time.
	Ascending bool
	After     *CreditAfter
	Offset    int
	Limit     int // 0 is all.
}

// clause is all after WHERE.
func (q CreditQuery) clause() (string, []any, error) {
	column, nullable, err := q.Sort.column()
	if err != nil {
		return "", nil, err
	}
	where, args := q.where()
	direction, sign := " DESC", " < "
	if q.Ascending {
		direction, sign = "", " > "
	}
	switch a := q.After; {
	case a == nil:
	case a.value() == nil:
		where += " AND " + column + " IS NULL AND (ref, idx)" + sign + "(?, ?)"
		args = append(args, string(a.Hash), a.Index)
	default:
		rest := "(" + column + ", ref, idx)" + sign + "(?, ?, ?)"
		if nullable {
			rest = "(" + rest + " OR " + column + " IS NULL)"
		}
		where += " AND " + rest
		args = append(args, a.value(), string(a.Hash), a.Index)
	}
	order := column + direction + ", ref" + direction + ", idx" + direction
	if nullable {
		order = column + " IS NULL, " + order
	}
	page, more := limited(q.Offset, q.Limit)
	return where + " ORDER BY " + order + page, append(args, more...), nil
}

// entryColumns are the columns of an entry of a history.
const entryColumns = "ref, idx, at, address, amount, price, bonus, tx_hash, token, chain, provider, origin, origin_ref, method, expires_at, files, size_mib"

// CreditHistory returns entries of an address's history.
func (r reader) CreditHistory(ctx context.Context, q CreditQuery) (out []credit.Entry, err error) {
	clause, args, err := q.clause()
	if err != nil {
		return nil, err
	}
	err = r.each(ctx, "SELECT "+entryColumns+" FROM credit_history WHERE "+clause, args, func(scan func(...any) error) error {
		e, err := scanCreditEntry(scan)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credit history of %s: %w", q.Address, err)
	}
	return out, nil
}

func scanCreditEntry(scan func(...any) error) (e credit.Entry, err error) {
	var at int64
	var expires *int64
	var price, size *string
	texts := make([]*string, 7)
	err = scan(&e.Hash, &e.Index, &at, &e.Address, &e.Amount, &price, &e.Bonus, &texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5], &texts[6],
		&expires, &e.Count, &size)
	if err != nil {
		return e, err
	}
	e.At, e.ExpiresAt = micros(at), timeOf(expires)
	for i, into := range []*string{&e.TxHash, &e.Token, &e.Chain, &e.Provider, &e.Origin, &e.OriginRef, &e.Method} {
		if texts[i] != nil {
			*into = *texts[i]
		}
	}
	if e.Price, err = maybeDecimal(price); err != nil {
		return e, err
	}
	e.SizeMiB, err = maybeDecimal(size)
	return e, err
}

// maybeDecimal is the number of a column that may be null.
func maybeDecimal(text *string) (*credit.Decimal, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // None is a value of the column.
	}
	d, err := credit.ParseDecimal(*text)
	if err != nil {
		return nil, fmt.Errorf("decode %q: %w", *text, err)
	}
	return &d, nil
}

// CreditSummary is what entries add up to.
type CreditSummary struct {
	Entries  int64
	Total    int64
	Incoming int64
	Outgoing int64 // Not above 0.
}

// CreditSummary adds up the entries that a filter chooses.
func (r reader) CreditSummary(ctx context.Context, f CreditFilter) (s CreditSummary, err error) {
	where, args := f.where()
	var total, incoming, outgoing halves
	err = r.q.QueryRowContext(ctx, "SELECT COUNT(*), "+summed("amount")+", "+summed("(CASE WHEN amount > 0 THEN amount ELSE 0 END)")+", "+
		summed("(CASE WHEN amount < 0 THEN amount ELSE 0 END)")+" FROM credit_history WHERE "+where, args...).
		Scan(&s.Entries, &total.high, &total.low, &incoming.high, &incoming.low, &outgoing.high, &outgoing.low)
	if err != nil {
		return s, fmt.Errorf("add up credit history of %s: %w", f.Address, err)
	}
	s.Total, s.Incoming, s.Outgoing = total.total(), incoming.total(), outgoing.total()
	return s, nil
}

// CreditsConsumed returns what expenses took for resources, by the hashes of
// their messages. Those for which nothing was taken are not in it.
func (r reader) CreditsConsumed(ctx context.Context, resources ...message.ItemHash) (map[message.ItemHash]int64, error) {
	out := map[message.ItemHash]int64{}
	for chunk := range chunks(resources) {
		list, args := in(chunk)
		err := r.each(ctx, "SELECT resource, "+summed("ABS(amount)")+" FROM credit_history WHERE method = '"+credit.MethodExpense+"' AND resource IN "+list+" GROUP BY resource",
			args, func(scan func(...any) error) error {
				var hash message.ItemHash
				var sum halves
				err := scan(&hash, &sum.high, &sum.low)
				out[hash] = sum.total()
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("add up consumed credits: %w", err)
		}
	}
	return out, nil
}
