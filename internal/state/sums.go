package state

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// Nodes compare what they have by sums of ranges; see protocol/reconcile. What is
// compared are the messages that count and that somebody signed: each node that has one
// can give it to others. Of what ended nobody could give more than that it was.
//
// message_sums has the sum of some messages in a row: of those from its own place on and
// before that of the next row. The first row begins at the start of time. Rows
// are changed with the commit that changes messages, once for all of them, and a row of too many
// messages becomes several. So the sum of any range is one of few rows and, at its
// ends, of few messages.

// sumMax bounds the messages of a row, and sumHalf is how many a part of a full one gets.
const sumMax, sumHalf = 2048, 1024

// placeOf is where a message is in the set.
func placeOf(m *Message) reconcile.Point {
	return reconcile.Point{At: m.MadeAt.UnixMicro(), Hash: m.Envelope.ItemHash}
}

// moved is a message that came into the set, or left it.
type moved struct {
	reconcile.Point
	left bool
}

// move notes that messages came, or left. Sums are written with the commit.
func (tx *Tx) move(all []*Message, left bool) {
	for _, m := range all {
		if m.Envelope.Signature != "" {
			tx.moved = append(tx.moved, moved{placeOf(m), left})
		}
	}
}

// sumRow is a row of sums, and where the next begins.
type sumRow struct {
	reconcile.Range
	sum reconcile.Sum
}

// writeSums brings the sums up to what the transaction has changed.
func (tx *Tx) writeSums(ctx context.Context) error {
	all := tx.moved
	tx.moved = nil
	slices.SortFunc(all, func(a, b moved) int { return a.Compare(b.Point) })
	var rows []sumRow
	for len(all) > 0 {
		row, err := tx.sumRowAt(ctx, all[0].Point)
		if err != nil {
			return err
		}
		first, n := all[0].Point, 0
		for n < len(all) && all[n].Compare(row.To) < 0 {
			if s := reconcile.Of(all[n].Hash); all[n].left {
				row.sum.Sub(s)
			} else {
				row.sum.Add(s)
			}
			n++
		}
		all = all[n:]
		if row.sum.N <= sumMax {
			rows = append(rows, row)
			continue
		}
		from := row.From
		if row.To == reconcile.End() {
			from = first // What comes is mostly newer than what is here, which so need not be read.
		}
		parts, err := tx.cutSums(ctx, row, from)
		if err != nil {
			return err
		}
		rows = append(rows, parts...)
	}
	return tx.putSums(ctx, rows)
}

func (tx *Tx) putSums(ctx context.Context, rows []sumRow) error {
	values := make([][]any, len(rows))
	for i, r := range rows {
		values[i] = []any{r.From.At, string(r.From.Hash), r.sum.N, r.sum.Digest()}
	}
	return tx.insert(ctx, "message_sums (at, pk, n, sum)", values, " ON CONFLICT (at, pk) DO UPDATE SET n = excluded.n, sum = excluded.sum")
}

// sumRowAt is the row of a place.
func (tx *Tx) sumRowAt(ctx context.Context, p reconcile.Point) (sumRow, error) {
	row := sumRow{Range: reconcile.All()}
	err := tx.each(ctx, "SELECT at, pk, n, sum FROM message_sums WHERE (at, pk) <= (?, ?) ORDER BY at DESC, pk DESC LIMIT 1", []any{p.At, string(p.Hash)},
		func(scan func(...any) error) (err error) {
			row.From, row.sum, err = scanSum(scan)
			return err
		})
	if err == nil {
		err = tx.each(ctx, "SELECT at, pk FROM message_sums WHERE (at, pk) > (?, ?) ORDER BY at, pk LIMIT 1", []any{p.At, string(p.Hash)},
			func(scan func(...any) error) error { return scan(&row.To.At, &row.To.Hash) })
	}
	if err != nil {
		return row, fmt.Errorf("read sums of messages: %w", err)
	}
	return row, nil
}

func scanSum(scan func(...any) error) (at reconcile.Point, sum reconcile.Sum, err error) {
	var n int64
	var digest []byte
	if err := scan(&at.At, &at.Hash, &n, &digest); err != nil {
		return at, sum, err
	}
	sum, err = reconcile.ReadSum(n, digest)
	return at, sum, err
}

// cutSums makes rows of a row, of whose messages it reads those from a place on.
func (tx *Tx) cutSums(ctx context.Context, row sumRow, from reconcile.Point) ([]sumRow, error) {
	parts, err := tx.sumsOf(ctx, reconcile.Range{From: from, To: row.To})
	if err != nil || from == row.From {
		return parts, err
	}
	for _, p := range parts {
		row.sum.Sub(p.sum)
	}
	row.To = from
	return append([]sumRow{row}, parts...), nil
}

// sumsOf makes rows of the messages of a range.
func (tx *Tx) sumsOf(ctx context.Context, r reconcile.Range) ([]sumRow, error) {
	out := []sumRow{{Range: r}}
	var last reconcile.Point
	err := tx.eachPlace(ctx, r, math.MaxInt64, func(p reconcile.Point) {
		row := &out[len(out)-1]
		if row.sum.N == sumHalf {
			row.To = reconcile.Between(last, p)
			out = append(out, sumRow{Range: reconcile.Range{From: row.To, To: r.To}})
			row = &out[len(out)-1]
		}
		row.sum.Add(reconcile.Of(p.Hash))
		last = p
	})
	return out, err
}

// eachPlace runs fn for the messages of a range in their order, up to limit.
func (r reader) eachPlace(ctx context.Context, in reconcile.Range, limit int64, fn func(reconcile.Point)) error {
	err := r.each(ctx, "SELECT made_at, pk FROM messages WHERE signature <> '' AND (made_at, pk) >= (?, ?) AND (made_at, pk) < (?, ?) ORDER BY made_at, pk LIMIT ?",
		[]any{in.From.At, string(in.From.Hash), in.To.At, string(in.To.Hash), limit}, func(scan func(...any) error) error {
			var p reconcile.Point
			err := scan(&p.At, &p.Hash)
			fn(p)
			return err
		})
	if err != nil {
		return fmt.Errorf("read places of messages: %w", err)
	}
	return nil
}

// fillSums makes the sums of a database that has none yet: one of an older version.
func (db *DB) fillSums(ctx context.Context) error {
	for _, query := range []string{"SELECT COUNT(*) FROM (SELECT 1 FROM message_sums LIMIT 1) AS one", "SELECT 1 - COUNT(*) FROM (SELECT 1 FROM messages WHERE signature <> '' LIMIT 1) AS one"} {
		var enough int
		if err := db.q.QueryRowContext(ctx, query).Scan(&enough); err != nil {
			return fmt.Errorf("look for sums of messages: %w", err)
		}
		if enough == 1 {
			return nil
		}
	}
	return db.Update(ctx, func(tx *Tx) error {
		rows, err := tx.sumsOf(ctx, reconcile.All())
		if err != nil {
			return err
		}
		return tx.putSums(ctx, rows)
	})
}

// MessageSet is the messages that count as nodes compare them.
type MessageSet struct {
	r   reader
	ctx context.Context //nolint:containedctx // The questions come from protocol/reconcile, which has none.
	// Rows counts the rows that were read, which is about a microsecond each.
	Rows int
}

// MessageSet returns the messages that count as a source of answers to other nodes. It
// lasts as long as ctx.
func (r reader) MessageSet(ctx context.Context) *MessageSet { return &MessageSet{r: r, ctx: ctx} }

// rows reads the rows that have messages of a range.
func (s *MessageSet) rows(r reconcile.Range) (out []sumRow, err error) {
	err = s.r.each(s.ctx, "SELECT at, pk, n, sum FROM message_sums WHERE (at, pk) <= (?, ?) ORDER BY at DESC, pk DESC LIMIT 1", []any{r.From.At, string(r.From.Hash)}, s.takeRow(&out))
	if err == nil {
		err = s.r.each(s.ctx, "SELECT at, pk, n, sum FROM message_sums WHERE (at, pk) > (?, ?) AND (at, pk) < (?, ?) ORDER BY at, pk",
			[]any{r.From.At, string(r.From.Hash), r.To.At, string(r.To.Hash)}, s.takeRow(&out))
	}
	if err != nil {
		return nil, fmt.Errorf("read sums of messages: %w", err)
	}
	for i := range out {
		out[i].To = reconcile.End()
		if i+1 < len(out) {
			out[i].To = out[i+1].From
		}
	}
	if n := len(out); n > 0 && r.To.Compare(reconcile.End()) < 0 {
		// Where the last one ends does not matter, unless it ends with the range.
		err = s.r.each(s.ctx, "SELECT at, pk FROM message_sums WHERE (at, pk) >= (?, ?) ORDER BY at, pk LIMIT 1", []any{r.To.At, string(r.To.Hash)},
			func(scan func(...any) error) error { return scan(&out[n-1].To.At, &out[n-1].To.Hash) })
		if err != nil {
			return nil, fmt.Errorf("read sums of messages: %w", err)
		}
	}
	return out, nil
}

func (s *MessageSet) takeRow(out *[]sumRow) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		at, sum, err := scanSum(scan)
		*out = append(*out, sumRow{reconcile.Range{From: at}, sum})
		s.Rows++
		return err
	}
}

// Sums implements reconcile.Set.
func (s *MessageSet) Sums(bounds []reconcile.Point) ([]reconcile.Sum, error) {
	first, last := bounds[0], bounds[len(bounds)-1]
	rows, err := s.rows(reconcile.Range{From: first, To: last})
	if err != nil {
		return nil, err
	}
	out := make([]reconcile.Sum, len(bounds)-1)
	at := 0 // The part.
	for _, row := range rows {
		from, to := later(row.From, first), earlier(row.To, last)
		for bounds[at+1].Compare(from) <= 0 {
			at++
		}
		if from == row.From && to == row.To && to.Compare(bounds[at+1]) <= 0 {
			out[at].Add(row.sum)
			continue
		}
		if row.sum.N == 0 {
			continue
		}
		err := s.r.eachPlace(s.ctx, reconcile.Range{From: from, To: to}, math.MaxInt64, func(p reconcile.Point) {
			s.Rows++
			for bounds[at+1].Compare(p) <= 0 {
				at++
			}
			out[at].Add(reconcile.Of(p.Hash))
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func earlier(a, b reconcile.Point) reconcile.Point {
	if a.Compare(b) < 0 {
		return a
	}
	return b
}

func later(a, b reconcile.Point) reconcile.Point {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// List implements reconcile.Set.
func (s *MessageSet) List(r reconcile.Range, limit int) (out []reconcile.Point, err error) {
	err = s.r.eachPlace(s.ctx, r, int64(limit), func(p reconcile.Point) {
		s.Rows++
		out = append(out, p)
	})
	return out, err
}

// Parts implements reconcile.Source. It cuts between rows of sums where there are
// enough, and else between messages.
func (s *MessageSet) Parts(r reconcile.Range, limit int) ([]reconcile.Part, error) {
	rows, err := s.rows(r)
	if err != nil {
		return nil, err
	}
	if len(rows) > limit {
		return s.partsOfRows(r, rows, limit)
	}
	var all []reconcile.Point
	err = s.r.eachPlace(s.ctx, r, math.MaxInt64, func(p reconcile.Point) {
		s.Rows++
		all = append(all, p)
	})
	if err != nil {
		return nil, err
	}
	limit = min(limit, len(all))
	out := make([]reconcile.Part, limit)
	for i := range out {
		from, to := len(all)*i/limit, len(all)*(i+1)/limit
		for _, p := range all[from:to] {
			out[i].Sum.Add(reconcile.Of(p.Hash))
		}
		if out[i].To = r.To; i+1 < limit {
			out[i].To = reconcile.Between(all[to-1], all[to])
		}
	}
	return out, nil
}

// partsOfRows cuts a range at the beginnings of rows.
func (s *MessageSet) partsOfRows(r reconcile.Range, rows []sumRow, limit int) ([]reconcile.Part, error) {
	var total int64
	for _, row := range rows {
		total += row.sum.N
	}
	bounds, sofar := []reconcile.Point{r.From}, int64(0)
	for _, row := range rows {
		if row.From.Compare(r.From) > 0 && sofar*int64(limit) >= total*int64(len(bounds)) && len(bounds) < limit {
			bounds = append(bounds, row.From)
		}
		sofar += row.sum.N
	}
	bounds = append(bounds, r.To)
	sums, err := s.Sums(bounds)
	if err != nil {
		return nil, err
	}
	out := make([]reconcile.Part, len(sums))
	for i, sum := range sums {
		out[i] = reconcile.Part{To: bounds[i+1], Sum: sum}
	}
	return out, nil
}

// sums checks the sums of the set.
func (c *checker) sums(ctx context.Context) error {
	s := c.v.MessageSet(ctx)
	rows, err := s.rows(reconcile.All())
	if err != nil {
		return err
	}
	if len(rows) > 0 && rows[0].From != reconcile.Start() {
		c.differ("the first sum of messages begins at %d %s", rows[0].From.At, rows[0].From.Hash)
	}
	want := make([]reconcile.Sum, len(rows))
	at, outside := 0, int64(0)
	err = c.v.eachPlace(ctx, reconcile.All(), math.MaxInt64, func(p reconcile.Point) {
		for at+1 < len(rows) && rows[at+1].From.Compare(p) <= 0 {
			at++
		}
		one := reconcile.Of(p.Hash)
		c.set.Add(one)
		if at >= len(rows) {
			outside++
			return
		}
		want[at].Add(one)
	})
	if err != nil {
		return err
	}
	c.want("messages in no sum", outside, 0)
	for i, row := range rows {
		if row.sum != want[i] {
			c.differ("the sum of messages from %d %s on has %d, want %d, or others", row.From.At, row.From.Hash, row.sum.N, want[i].N)
		}
		if row.sum.N > sumMax {
			c.differ("the sum of messages from %d %s on has %d, at most %d are allowed", row.From.At, row.From.Hash, row.sum.N, sumMax)
		}
	}
	fingerprint := c.set.Print()
	c.out.Set = fmt.Sprintf("%x", fingerprint[:])
	return nil
}
