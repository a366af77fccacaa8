package state

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// MessageQuery says which messages, and in which order. All conditions hold; a
// nil list is none, and an empty one is met by nothing.
type MessageQuery struct {
	Statuses   []MessageStatus // Processed and removing, which is what nil means too.
	Types      []string
	NotTypes   []string // Those that are left out.
	Chains     []string
	Senders    []string
	Owners     []string
	Channels   []string
	Refs       []string
	Files      []string // content.item_hash
	Keys       []string // content.key
	Kinds      []string // content.type
	Tags       []string
	Payments   []string
	Hashes     []message.ItemHash
	From, To   time.Time // From <= time < To; zero is no bound.
	FromHeight int64     // Of the first confirmation; one that is not confirmed counts as after it.
	ToHeight   int64     // Before it; 0 is no bound.
	ByTx       bool      // In the order of confirmations; what has none is newest.
	Oldest     bool      // Oldest first. Of equal times the lesser hash is first.
	After      *MessagePlace
}

// MessagePlace is a message's place in the order of times.
type MessagePlace struct {
	At   time.Time
	Hash message.ItemHash
}

// conditions are the lists of a query by the kind of their terms.
func (q *MessageQuery) conditions() (out []filter) {
	add := func(kind uint8, values []string) {
		if values != nil {
			out = append(out, filter{kind: kind, values: values})
		}
	}
	if len(q.NotTypes) > 0 {
		out = append(out, filter{kind: termType, values: q.NotTypes, not: true})
	}
	add(termSender, q.Senders)
	add(termOwner, q.Owners)
	add(termType, q.Types)
	add(termChain, q.Chains)
	add(termChannel, q.Channels)
	add(termRef, q.Refs)
	add(termFile, q.Files)
	add(termKey, q.Keys)
	add(termContentType, q.Kinds)
	add(termTag, q.Tags)
	add(termPayment, q.Payments)
	if q.Statuses != nil {
		processed, removing := slices.Contains(q.Statuses, MessageProcessed), slices.Contains(q.Statuses, MessageRemoving)
		switch {
		case processed && !removing:
			out = append(out, filter{kind: termRemoving, values: []string{""}, not: true})
		case removing && !processed:
			out = append(out, filter{kind: termRemoving, values: []string{""}})
		case !processed && !removing:
			out = append(out, filter{kind: termRemoving, values: []string{}})
		}
	}
	return out
}

func words[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// query is q for a catalogue.
func (q *MessageQuery) query(more ...filter) query {
	out := query{filters: append(q.conditions(), more...), oldest: q.Oldest}
	if !q.From.IsZero() {
		out.from = q.From.UnixMicro()
	}
	if !q.To.IsZero() {
		out.to = q.To.UnixMicro()
	}
	return out
}

// Matches reports whether a message is one of those of the query, whatever its
// confirmations are.
func (q *MessageQuery) Matches(m *Message) (bool, error) {
	if q.Hashes != nil && !slices.Contains(q.Hashes, m.Envelope.ItemHash) {
		return false, nil
	}
	if at := m.Envelope.Time; !q.From.IsZero() && at.Before(q.From) || !q.To.IsZero() && !at.Before(q.To) {
		return false, nil
	}
	conditions := q.conditions()
	if len(conditions) == 0 {
		return true, nil
	}
	terms, err := m.terms()
	if err != nil {
		return false, err
	}
	if m.Status == MessageRemoving {
		terms = append(terms, removing())
	}
	for _, f := range conditions {
		has := slices.ContainsFunc(terms, func(t term) bool { return t.kind == f.kind && slices.Contains(f.values, t.value) })
		if has == f.not {
			return false, nil
		}
	}
	return true, nil
}

// segment is a part of what a query finds: all of it comes before the next part.
type segment struct {
	c catalogue
	q query
}

// byHeight reports whether the first confirmations of messages matter.
func (q *MessageQuery) byHeight() bool { return q.ByTx || q.FromHeight > 0 || q.ToHeight > 0 }

// inWindow reports whether the times of messages matter in the order of
// confirmations, which no catalogue has: such queries are read whole.
func (q *MessageQuery) inWindow() bool { return q.byHeight() && (!q.From.IsZero() || !q.To.IsZero()) }

// segments are the parts of a query. The order of confirmations is that of two
// catalogues: of those that have one, and of the others.
func (q *MessageQuery) segments() []segment {
	if !q.byHeight() {
		return []segment{{messageCatalogue(), q.query()}}
	}
	out := []segment{{confirmedCatalogue(), q.query(q.heights()...)}}
	if q.ToHeight > 0 {
		return out
	}
	waiting := segment{messageCatalogue(), q.query(filter{kind: termConfirmed, values: []string{""}, not: true})}
	if q.Oldest {
		return append(out, waiting)
	}
	return append([]segment{waiting}, out...)
}

// EachMessage calls fn for up to limit messages of a query, in its order, after
// leaving out the first, offset of them. A limit of 0 is none. Call it on a View,
// so that all that is read is of one state.
func (v *View) EachMessage(ctx context.Context, q MessageQuery, offset, limit int64, fn func(*Message) error) error {
	switch {
	case q.Hashes != nil:
		return v.eachNamed(ctx, &q, offset, limit, fn)
	case q.After != nil && q.byHeight():
		return errs.New(errs.Invalid, "a list in the order of confirmations has no places to go on from")
	case q.inWindow():
		rows, err := v.window(ctx, &q)
		if err != nil {
			return err
		}
		return v.eachOf(ctx, paged(rows, offset, limit), fn)
	}
	if q.After != nil {
		var err error
		if offset, err = v.seek(ctx, &q); err != nil {
			return err
		}
	}
	segments := q.segments()
	for i, s := range segments {
		if i+1 < len(segments) && offset > 0 {
			n, err := s.c.count(ctx, v.reader, s.q)
			if err != nil {
				return err
			}
			if offset >= n {
				offset -= n
				continue
			}
		}
		n, err := v.eachIn(ctx, s, offset, limit, fn)
		if err != nil {
			return err
		}
		if limit > 0 {
			if limit -= n; limit == 0 {
				return nil
			}
		}
		offset = 0
	}
	return nil
}

// seek moves the bound of a query to a place, and returns how many of those from
// the bound on come before it or at it.
func (v *View) seek(ctx context.Context, q *MessageQuery) (int64, error) {
	at := q.After.At
	if q.Oldest {
		q.From = latest(q.From, at)
	} else if end := at.Add(time.Microsecond); q.To.IsZero() || end.Before(q.To) {
		q.To = end
	}
	same := *q
	same.From, same.To = at, at.Add(time.Microsecond)
	hits, _, err := messageCatalogue().page(ctx, v.reader, same.query(), 0, 0)
	if err != nil {
		return 0, err
	}
	rows, err := v.light(ctx, "messages", hits)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, r := range rows {
		if r.hash <= string(q.After.Hash) {
			n++
		}
	}
	return n, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// light is a message in short, to order those of one time.
type light struct {
	id   int64
	at   int64 // Of the catalogue.
	made int64 // Of the envelope.
	hash string
}

// light reads messages in short. Hits of the other catalogue are not their ids.
func (r reader) light(ctx context.Context, catalogue string, hits []hit) (out []light, err error) {
	times := make(map[int64]int64, len(hits))
	ids := make([]int64, len(hits))
	for i, h := range hits {
		times[h.id], ids[i] = h.at, h.id
	}
	query := "SELECT id, id, at, pk FROM messages WHERE id IN "
	if catalogue == "confirmed" {
		query = "SELECT c.id, m.id, m.at, m.pk FROM confirmed c JOIN messages m ON m.id = c.message WHERE c.id IN "
	}
	for chunk := range chunks(ids) {
		err := r.each(ctx, query+marks(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			var l light
			var number int64
			if err := scan(&number, &l.id, &l.made, &l.hash); err != nil {
				return err
			}
			l.at = times[number]
			out = append(out, l)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read messages in short: %w", err)
		}
	}
	return out, nil
}

// eachIn is EachMessage for one part, and returns how many there were.
func (v *View) eachIn(ctx context.Context, s segment, offset, limit int64, fn func(*Message) error) (n int64, err error) {
	hits, skip, err := s.c.page(ctx, v.reader, s.q, offset, limit)
	if err != nil {
		return 0, err
	}
	for len(hits) > 0 && (limit == 0 || n < limit) {
		part := cut(hits, min(rowsMax, int64(len(hits)))) // Those of one time together.
		hits = hits[len(part):]
		rows, err := v.light(ctx, s.c.name, part)
		if err != nil {
			return n, err
		}
		sortLight(rows, s.q.oldest)
		rows = rows[min(skip, int64(len(rows))):]
		skip = 0
		if limit > 0 {
			rows = rows[:min(limit-n, int64(len(rows)))]
		}
		if err := v.eachOf(ctx, rows, fn); err != nil {
			return n, err
		}
		n += int64(len(rows))
	}
	return n, nil
}

func sortLight(rows []light, oldest bool) {
	slices.SortFunc(rows, func(a, b light) int {
		order := cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.made, a.made))
		if oldest {
			order = -order
		}
		return cmp.Or(order, strings.Compare(a.hash, b.hash))
	})
}

// eachOf reads messages in the order of rows.
func (v *View) eachOf(ctx context.Context, rows []light, fn func(*Message) error) error {
	for chunk := range chunks(rows) {
		ids := make([]int64, len(chunk))
		for i, row := range chunk {
			ids[i] = row.id
		}
		found, err := v.MessagesByID(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if m := found[id]; m != nil {
				if err := fn(m); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// named are the messages of a query that names them, in its order.
func (v *View) named(ctx context.Context, q *MessageQuery) ([]*Message, error) {
	hashes := slices.Clone(q.Hashes)
	slices.Sort(hashes)
	all, err := v.MessagesByHash(ctx, slices.Compact(hashes))
	if err != nil {
		return nil, err
	}
	var out []*Message
	for _, m := range all {
		ok, err := q.Matches(m)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, m)
		}
	}
	place := func(m *Message) light {
		return light{at: m.Envelope.Time.UnixMicro(), hash: string(m.Envelope.ItemHash)}
	}
	if q.byHeight() {
		ids := make([]int64, len(out))
		for i, m := range out {
			ids[i] = m.ID
		}
		first, err := v.firstConfirmations(ctx, ids)
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(out, func(m *Message) bool { return !q.hasHeight(first, m.ID) })
		place = func(m *Message) light {
			l := light{at: unconfirmedAt, made: m.Envelope.Time.UnixMicro(), hash: string(m.Envelope.ItemHash)}
			if c, ok := first[m.ID]; ok {
				l.at = c.at
			}
			return l
		}
	}
	slices.SortFunc(out, func(a, b *Message) int {
		x, y := place(a), place(b)
		order := cmp.Or(cmp.Compare(y.at, x.at), cmp.Compare(y.made, x.made))
		if q.Oldest {
			order = -order
		}
		return cmp.Or(order, strings.Compare(x.hash, y.hash))
	})
	return out, nil
}

func (v *View) eachNamed(ctx context.Context, q *MessageQuery, offset, limit int64, fn func(*Message) error) error {
	all, err := v.named(ctx, q)
	if err != nil {
		return err
	}
	if q.After != nil {
		all = slices.DeleteFunc(all, func(m *Message) bool { return !q.After.before(m, q.Oldest) })
	}
	for _, m := range paged(all, offset, limit) {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// paged is the page of a list; a limit of 0 is none.
func paged[T any](all []T, offset, limit int64) []T {
	all = all[min(offset, int64(len(all))):]
	if limit > 0 {
		all = all[:min(limit, int64(len(all)))]
	}
	return all
}

// window are the messages of a query in the order of their confirmations whose
// own times are bounded.
func (v *View) window(ctx context.Context, q *MessageQuery) ([]light, error) {
	hits, _, err := messageCatalogue().page(ctx, v.reader, q.query(), 0, 0)
	if err != nil {
		return nil, err
	}
	rows, err := v.light(ctx, "messages", hits)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.id
	}
	first, err := v.firstConfirmations(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(l light) bool { return !q.hasHeight(first, l.id) })
	for i := range rows {
		rows[i].at = unconfirmedAt
		if c, ok := first[rows[i].id]; ok {
			rows[i].at = c.at
		}
	}
	sortLight(rows, q.Oldest)
	return rows, nil
}

// hasHeight reports whether the first confirmation of a message is in the bounds.
func (q *MessageQuery) hasHeight(first map[int64]placed, id int64) bool {
	c, ok := first[id]
	if !ok {
		return q.ToHeight == 0
	}
	return c.height >= q.FromHeight && (q.ToHeight == 0 || c.height < q.ToHeight)
}

// before reports whether a message comes after the place.
func (p *MessagePlace) before(m *Message, oldest bool) bool {
	order := p.At.Compare(m.Envelope.Time)
	if order == 0 {
		return m.Envelope.ItemHash > p.Hash
	}
	return (order < 0) == oldest
}

// CountMessages returns how many messages a query finds.
func (v *View) CountMessages(ctx context.Context, q MessageQuery) (n int64, err error) {
	if q.Hashes != nil {
		all, err := v.named(ctx, &q)
		return int64(len(all)), err
	}
	if q.inWindow() {
		rows, err := v.window(ctx, &q)
		return int64(len(rows)), err
	}
	for _, s := range q.segments() {
		found, err := s.c.count(ctx, v.reader, s.q)
		if err != nil {
			return 0, err
		}
		n += found
	}
	return n, nil
}
