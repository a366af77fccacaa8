package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// differencesMax bounds what a check reports; who has so many needs no more.
const differencesMax = 100

// Checked is what a check has found.
type Checked struct {
	Messages    int64
	Posts       int64
	Aggregates  int64
	Set         string   // Fingerprint of the messages that count, in hex: that of nodes that have the same is equal.
	Differences []string // In words, up to differencesMax of them.
}

// Check computes anew what the rows of messages make, and reports where the
// database has something else: catalogues and their counts, posts, aggregates,
// senders, words, confirmations, pins, grants, balances, the ledger of credits and the sums
// by which nodes compare what they have. It reads one snapshot, message by message, and changes nothing.
func (db *DB) Check(ctx context.Context) (out Checked, err error) {
	err = db.View(ctx, func(v *View) error {
		c := &checker{v: v, senders: map[string]*Sender{}, words: map[word]bool{}, authority: map[string]bool{}, rules: credit.Network(), balances: map[balanceKey]saying{}}
		c.rules.BalanceOwners = nil // See balanceOwners.
		for _, step := range []func(context.Context) error{
			c.authorities, c.balanceOwners, c.catalogues, c.messages, c.countSenders, c.aggregates, c.grantsThatEnded, c.ledger, c.sayings, c.orphans, c.sums,
		} {
			// Rows that contradict each other are what is looked for.
			if err := step(ctx); errors.Is(err, errs.Internal) {
				c.differ("%v", err)
			} else if err != nil {
				return err
			}
		}
		out = c.out
		return nil
	})
	return out, err
}

// CheckAt checks a database, whoever owns it.
func CheckAt(ctx context.Context, o Options) (_ Checked, err error) {
	db, err := openSource(ctx, o)
	if err != nil {
		return Checked{}, fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Check(ctx)
}

// checker is a check on its way.
type checker struct {
	v       *View
	out     Checked
	senders map[string]*Sender
	words   map[word]bool // Those that are there.
	// authority are those whose posts give and take credits; see authorities.
	authority map[string]bool
	rules     credit.Rules
	balances  map[balanceKey]saying // What messages say.

	set                                                    reconcile.Sum // Of the messages that count.
	originals, amends, elements, stores, confirmed, values int64
}

// differ reports a difference.
func (c *checker) differ(format string, args ...any) {
	if len(c.out.Differences) < differencesMax {
		c.out.Differences = append(c.out.Differences, fmt.Sprintf(format, args...))
	}
}

// want reports a difference unless a number is what it must be.
func (c *checker) want(what string, got, want int64) {
	if got != want {
		c.differ("%s: %d, want %d", what, got, want)
	}
}

// number reads one number.
func (c *checker) number(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err := c.v.q.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("check: %w", err)
	}
	return n, nil
}

// documents are what a catalogue must have of the numbers from from up to to.
type documents func(ctx context.Context, from, to int64) (map[int64]document, error)

// catalogues checks each catalogue block by block.
func (c *checker) catalogues(ctx context.Context) error {
	for _, one := range []struct {
		catalogue
		has documents
	}{
		{messageCatalogue(), c.messageDocuments}, {postCatalogue(), c.postDocuments}, {confirmedCatalogue(), c.confirmedDocuments},
	} {
		if err := c.catalogue(ctx, one.catalogue, one.has); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) catalogue(ctx context.Context, cat catalogue, has documents) error {
	blocks, err := cat.blocksFrom(ctx, c.v.reader, 0)
	if err != nil {
		return err
	}
	var open, full int64
	for i, b := range blocks {
		if b.number != int64(i) || b.n < 1 || b.n > blockSize || b.n < blockSize && i+1 < len(blocks) {
			c.differ("block %d of %ss, with %d documents, is number %d", b.number, cat.name, b.n, i)
		}
		if b.marked < 0 || b.marked > b.n || b.n-b.marked >= tailMax || b.n == blockSize && b.marked < b.n {
			c.differ("block %d of %ss has %d documents, and %d of them in the sets of their terms", b.number, cat.name, b.n, b.marked)
		}
		if b.n < blockSize {
			open += int64(b.n)
		} else {
			full++
		}
		if err := c.block(ctx, cat, b, has); err != nil {
			return err
		}
	}
	n, err := c.number(ctx, "SELECT COUNT(*) FROM "+cat.name+"_times")
	if err != nil {
		return err
	}
	c.want("times of "+cat.name+"s that are not in a full block", n, open)
	n, err = c.number(ctx, "SELECT COUNT(*) FROM "+cat.name+"_packed")
	if err != nil {
		return err
	}
	c.want("parts of times of full blocks of "+cat.name+"s", n, full*blockSize/partSize)
	n, err = c.number(ctx, "SELECT COUNT(*) FROM "+cat.name+"_postings WHERE block < 0 OR block >= ? OR span <> block / ?", len(blocks), spanBlocks)
	c.want("sets of "+cat.name+"s in no block, or in another span", n, 0)
	return err
}

// block checks the times and the sets of one block.
func (c *checker) block(ctx context.Context, cat catalogue, b block, has documents) error {
	docs, err := has(ctx, b.first(), b.first()+blockSize)
	if err != nil {
		return err
	}
	at, err := cat.allTimes(ctx, c.v.reader, b)
	if err == nil && len(at) == 0 {
		err = errs.New(errs.Internal, "block %d of %ss has no times", b.number, cat.name)
	}
	if err != nil {
		c.differ("%v", err)
		return nil
	}
	least, most := slices.Min(at), slices.Max(at)
	if least != b.min || most != b.max {
		c.differ("block %d of %ss is from %d to %d, its documents from %d to %d", b.number, cat.name, b.min, b.max, least, most)
	}
	if b.bounds != "" && (b.n < blockSize || b.bounds != string(encodeBounds(at))) {
		c.differ("the bounds of the parts of block %d of %ss are not those of its documents", b.number, cat.name)
	}
	want := map[[16]byte]*bitset{}
	for id, d := range docs {
		i := int(id % blockSize)
		if i >= b.n || at[i] != d.at {
			c.differ("%s %d has the time %d, the catalogue another", cat.name, id, d.at)
		}
		for _, t := range append([]term{everything}, d.terms...) {
			if i >= b.marked && !t.atOnce() {
				continue // Its own row has it.
			}
			key := t.key()
			if want[key] == nil {
				want[key] = new(bitset)
			}
			want[key].set(i)
		}
	}
	if err := c.tail(ctx, cat, b, docs); err != nil {
		return err
	}
	return c.sets(ctx, cat, b, want)
}

// tail compares the terms that the documents of a tail have in their own rows.
func (c *checker) tail(ctx context.Context, cat catalogue, b block, docs map[int64]document) error {
	if b.marked == b.n {
		return nil
	}
	t, err := cat.readTail(ctx, reader{q: c.v.q}, tail{block: b.number}, b)
	if err != nil {
		c.differ("%v", err)
		return nil
	}
	for i := max(b.marked, 0); i < b.n; i++ {
		d, ok := docs[b.first()+int64(i)]
		if !ok {
			continue // It was taken out, which its row does not tell.
		}
		want := map[[16]byte]bool{}
		for _, t := range d.terms {
			if !t.atOnce() {
				want[t.key()] = true
			}
		}
		got := maps.Collect(func(yield func([16]byte, bool) bool) {
			for key := range keysOf(t.terms[i]) {
				if !yield(key, true) {
					return
				}
			}
		})
		if !maps.Equal(got, want) {
			c.differ("the row of %s %d has %d terms, want %d, or others", cat.name, b.first()+int64(i), len(got), len(want))
		}
	}
	return nil
}

// sets compares the sets of a block.
func (c *checker) sets(ctx context.Context, cat catalogue, b block, want map[[16]byte]*bitset) error {
	query := "SELECT term, n, bits FROM " + cat.name + "_postings WHERE span = ? AND block = ?"
	err := c.v.each(ctx, query, []any{spanOf(b.number), b.number}, func(scan func(...any) error) error {
		var key, bits []byte
		var n int
		if err := scan(&key, &n, &bits); err != nil {
			return err
		}
		var got bitset
		if err := got.add(bits); err != nil {
			c.differ("set %x of block %d of %ss: %v", key, b.number, cat.name, err)
			return nil
		}
		wanted := want[[16]byte(key)]
		delete(want, [16]byte(key))
		if wanted == nil {
			wanted = new(bitset)
		}
		if got != *wanted || n != wanted.count() || n == 0 {
			c.differ("set %x of block %d of %ss has %d documents and says %d, want %d: %v, want %v", key, b.number, cat.name, got.count(), n, wanted.count(),
				few(got.offsets()), few(wanted.offsets()))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read sets of %ss: %w", cat.name, err)
	}
	for key, wanted := range want {
		c.differ("set %x of block %d of %ss is missing, want %v", key[:], b.number, cat.name, few(wanted.offsets()))
	}
	return nil
}

// few is the beginning of a list.
func few(list []int) []int {
	const enough = 10
	return list[:min(len(list), enough)]
}

// catalogued are the terms of a message in both of its catalogues.
func (m *Message) catalogued() ([]term, error) {
	terms, err := m.terms()
	if m.Status == MessageRemoving {
		terms = append(terms, removing())
	}
	return terms, err
}

func (c *checker) messageDocuments(ctx context.Context, from, to int64) (map[int64]document, error) {
	out := map[int64]document{}
	return out, c.eachChunk(ctx, from, to, func(all []*Message) error {
		first, err := c.v.firstConfirmations(ctx, idsOf(all))
		if err != nil {
			return err
		}
		for _, m := range all {
			terms, err := m.catalogued()
			if err != nil {
				return err
			}
			if _, ok := first[m.ID]; ok {
				terms = append(terms, confirmed())
			}
			out[m.ID] = document{m.Envelope.Time.UnixMicro(), terms}
		}
		return nil
	})
}

func (c *checker) postDocuments(ctx context.Context, from, to int64) (map[int64]document, error) {
	rows, err := c.pairs(ctx, "SELECT id, original, latest FROM posts WHERE id >= ? AND id < ?", from, to)
	if err != nil {
		return nil, err
	}
	out := map[int64]document{}
	for chunk := range slices.Chunk(rows, rowsMax/2) {
		var ids []int64
		for _, row := range chunk {
			ids = append(ids, row[1], row[2])
		}
		found, err := c.v.MessagesByID(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, row := range chunk {
			original, latest := found[row[1]], found[row[2]]
			if original == nil || latest == nil {
				c.differ("post %d is of messages %d and %d, of which one is not here", row[0], row[1], row[2])
				continue
			}
			terms, err := postTerms(original, latest)
			if err != nil {
				return nil, err
			}
			out[row[0]] = document{latest.MadeAt.UnixMicro(), terms}
		}
	}
	return out, nil
}

func (c *checker) confirmedDocuments(ctx context.Context, from, to int64) (map[int64]document, error) {
	out := map[int64]document{}
	rows, err := c.pairs(ctx, "SELECT id, message, height FROM confirmed WHERE id >= ? AND id < ?", from, to)
	if err != nil {
		return nil, err
	}
	for chunk := range chunks(rows) {
		ids := make([]int64, len(chunk))
		for i, row := range chunk {
			ids[i] = row[1]
		}
		found, err := c.v.MessagesByID(ctx, ids)
		if err != nil {
			return nil, err
		}
		first, err := c.v.firstConfirmations(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, row := range chunk {
			m := found[row[1]]
			if m == nil {
				c.differ("confirmation %d is of message %d, which is not here", row[0], row[1])
				continue
			}
			terms, err := m.catalogued()
			if err != nil {
				return nil, err
			}
			out[row[0]] = document{first[m.ID].at, append(terms, heightTerms(row[2])...)}
		}
	}
	return out, nil
}

// pairs reads rows of three numbers.
func (c *checker) pairs(ctx context.Context, query string, args ...any) (out [][3]int64, err error) {
	err = c.v.each(ctx, query, args, func(scan func(...any) error) error {
		var row [3]int64
		err := scan(&row[0], &row[1], &row[2])
		out = append(out, row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return out, nil
}

// eachChunk calls fn for the messages with the numbers from from up to to, some at a
// time, in order.
func (c *checker) eachChunk(ctx context.Context, from, to int64, fn func([]*Message) error) error {
	for from < to {
		all, err := c.v.messages(ctx, "id >= ? AND id < ? ORDER BY id LIMIT ?", from, to, rowsMax)
		if err != nil || len(all) == 0 {
			return err
		}
		from = all[len(all)-1].ID + 1
		if err := fn(all); err != nil {
			return err
		}
	}
	return nil
}

func idsOf(all []*Message) []int64 {
	out := make([]int64, len(all))
	for i, m := range all {
		out[i] = m.ID
	}
	return out
}

func hashesOf(all []*Message) []message.ItemHash {
	out := make([]message.ItemHash, len(all))
	for i, m := range all {
		out[i] = m.Envelope.ItemHash
	}
	return out
}
