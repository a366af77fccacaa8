package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// messages checks what each message made by itself.
func (c *checker) messages(ctx context.Context) error {
	err := c.eachChunk(ctx, 0, math.MaxInt64, func(all []*Message) error {
		c.out.Messages += int64(len(all))
		var posts, elements, stores []*Message
		for _, m := range all {
			var err error
			if m.Parsed, err = m.Body(); err != nil {
				return err
			}
			c.count(m)
			switch m.Parsed.(type) {
			case *message.Post:
				posts = append(posts, m)
			case *message.Aggregate:
				elements = append(elements, m)
			case *message.Store:
				stores = append(stores, m)
			}
			if err := c.wordsOf(ctx, m); err != nil {
				return err
			}
		}
		for _, step := range []func() error{
			func() error { return c.posts(ctx, posts) }, func() error { return c.elementsOf(ctx, elements) },
			func() error { return c.pins(ctx, stores) }, func() error { return c.confirmations(ctx, all) },
			func() error { return c.creditPosts(ctx, posts) }, func() error { return c.balancePosts(ctx, posts) },
			func() error { return c.grants(ctx, elements) },
			func() error { return c.delegated(ctx, all) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range []struct {
		what, query string
		want        int64
	}{
		{"messages", "SELECT COUNT(*) FROM messages", c.out.Messages},
		{"posts", "SELECT COUNT(*) FROM posts", c.originals},
		{"amends", "SELECT COUNT(*) FROM amends", c.amends},
		{"elements of aggregates", "SELECT COUNT(*) FROM elements", c.elements},
		{"pins of STORE messages", "SELECT COUNT(*) FROM pins WHERE kind = 'message'", c.stores},
		{"confirmed messages", "SELECT COUNT(*) FROM confirmed", c.confirmed},
	} {
		n, err := c.number(ctx, t.query)
		if err != nil {
			return err
		}
		c.want(t.what, n, t.want)
	}
	c.out.Posts = c.originals
	n, err := c.v.CountMessages(ctx, MessageQuery{})
	c.want("messages that are counted", n, c.out.Messages)
	return err
}

func (c *checker) count(m *Message) {
	s := c.senders[m.Envelope.Sender]
	if s == nil {
		s = &Sender{Address: m.Envelope.Sender, ByType: map[message.Type]int64{}}
		c.senders[s.Address] = s
	}
	s.Total++
	s.ByType[m.Envelope.Type]++
}

// wordsOf checks that the words of a message are known.
func (c *checker) wordsOf(ctx context.Context, m *Message) error {
	var all []word
	if ch := m.Envelope.Channel; ch != nil {
		all = append(all, word{wordChannel, "", *ch}, word{wordChannel, m.Envelope.Sender, *ch})
	}
	if p, ok := m.Parsed.(*message.Post); ok {
		all = append(all, word{wordPostType, m.Owner, p.Type})
	}
	for _, w := range all {
		if c.words[w] {
			continue
		}
		n, err := c.number(ctx, "SELECT COUNT(*) FROM words WHERE kind = ? AND owner = ? AND pk = ? AND word = ?", w.kind, w.owner, digest(w.text), w.text)
		if err != nil {
			return err
		}
		c.want(fmt.Sprintf("rows of the word %s %q of %q", w.kind, w.text, w.owner), n, 1)
		if len(c.words) < wordsMax {
			c.words[w] = true
		}
	}
	return nil
}

// posts checks POSTs: originals have one row, with the amend that counts.
func (c *checker) posts(ctx context.Context, all []*Message) error {
	ids := idsOf(all)
	shown, amended := map[int64]int64{}, map[int64]int64{}
	for into, query := range map[*map[int64]int64]string{
		&shown: "SELECT original, latest, 0 FROM posts WHERE original IN ", &amended: "SELECT message, original, at FROM amends WHERE message IN ",
	} {
		for chunk := range chunks(ids) {
			rows, err := c.pairs(ctx, query+marks(len(chunk)), anys(chunk)...)
			if err != nil {
				return err
			}
			for _, row := range rows {
				(*into)[row[0]] = row[1]
			}
		}
	}
	for _, m := range all {
		p, ok := m.Parsed.(*message.Post)
		if !ok {
			continue
		}
		target, amends := p.Amends()
		if !amends {
			c.originals++
			latest, err := c.latestOf(ctx, m)
			if err != nil {
				return err
			}
			if got, ok := shown[m.ID]; !ok || got != latest {
				c.differ("post %s shows message %d (%v), want %d", m.Envelope.ItemHash, got, ok, latest)
			}
			continue
		}
		c.amends++
		original, err := c.number(ctx, "SELECT COALESCE(MAX(id), -1) FROM messages WHERE pk = ?", string(target))
		if err != nil {
			return err
		}
		if got, ok := amended[m.ID]; !ok || got != original {
			c.differ("amend %s is of message %d (%v), want %d", m.Envelope.ItemHash, got, ok, original)
		}
	}
	return nil
}

// latestOf is the message whose content counts for a post.
func (c *checker) latestOf(ctx context.Context, original *Message) (int64, error) {
	amends, err := c.v.messages(ctx, "id IN (SELECT message FROM amends WHERE original = ?)", original.ID)
	if err != nil {
		return 0, err
	}
	latest := original
	for _, a := range amends {
		if cmp.Or(a.MadeAt.Compare(latest.MadeAt), strings.Compare(string(a.Envelope.ItemHash), string(latest.Envelope.ItemHash))) > 0 && a.MadeAt.After(original.MadeAt) {
			latest = a
		}
	}
	return latest.ID, nil
}

// elementsOf checks that AGGREGATEs belong to the aggregate that they name.
func (c *checker) elementsOf(ctx context.Context, all []*Message) error {
	for _, m := range all {
		a, ok := m.Parsed.(*message.Aggregate)
		if !ok {
			continue
		}
		c.elements++
		n, err := c.number(ctx, "SELECT COUNT(*) FROM elements e JOIN aggregates a ON a.id = e.aggregate WHERE e.message = ? AND e.at = ? AND a.pk = ? AND a.owner = ? AND a.name = ?",
			m.ID, m.MadeAt.UnixMicro(), digest(m.Owner, a.Key.String()), m.Owner, a.Key.String())
		if err != nil {
			return err
		}
		c.want(fmt.Sprintf("rows of element %s", m.Envelope.ItemHash), n, 1)
	}
	return nil
}

// pins checks that STOREs pin their files.
func (c *checker) pins(ctx context.Context, all []*Message) error {
	for _, m := range all {
		s, ok := m.Parsed.(*message.Store)
		if !ok {
			continue
		}
		c.stores++
		n, err := c.number(ctx, "SELECT COUNT(*) FROM pins WHERE pk = ? AND kind = 'message' AND file = ? AND owner = ?", string(m.Envelope.ItemHash), string(s.ItemHash), m.Owner)
		if err != nil {
			return err
		}
		c.want(fmt.Sprintf("pins of STORE %s", m.Envelope.ItemHash), n, 1)
	}
	return nil
}

// confirmations checks that messages stand where their first confirmations are.
func (c *checker) confirmations(ctx context.Context, all []*Message) error {
	known, err := c.v.Confirmations(ctx, hashesOf(all))
	if err != nil {
		return err
	}
	placed, err := c.v.firstConfirmations(ctx, idsOf(all))
	if err != nil {
		return err
	}
	for _, m := range all {
		mine := known[m.Envelope.ItemHash]
		at, ok := placed[m.ID]
		if ok != (len(mine) > 0) || ok && (at.at != mine[0].At.UnixMicro() || at.height != mine[0].Height) {
			c.differ("message %s has %d confirmations, and its place is %+v (%v)", m.Envelope.ItemHash, len(mine), at, ok)
		}
		if len(mine) > 0 {
			c.confirmed++
		}
	}
	return nil
}

// countSenders compares the counts of senders.
func (c *checker) countSenders(ctx context.Context) error {
	got, err := c.v.reader.senders(ctx, "TRUE")
	if err != nil {
		return err
	}
	for _, s := range got {
		want := c.senders[s.Address]
		if want == nil {
			want = &Sender{}
		}
		delete(c.senders, s.Address)
		for _, t := range senderTypes() {
			if s.ByType[t] != want.ByType[t] || s.Total != want.Total {
				c.differ("sender %s has %d %s of %d messages, want %d of %d", s.Address, s.ByType[t], t, s.Total, want.ByType[t], want.Total)
			}
		}
	}
	for address := range c.senders {
		c.differ("sender %s has no counts", address)
	}
	return nil
}

// aggregates computes the content of each aggregate from its elements.
func (c *checker) aggregates(ctx context.Context) error {
	for last := int64(-1); ; {
		rows, err := c.v.reader.aggregates(ctx, "id > ? ORDER BY id LIMIT ?", last, rowsMax)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			last = row.id
			if err := c.aggregate(ctx, row); err != nil {
				return err
			}
		}
	}
	n, err := c.number(ctx, "SELECT COUNT(*) FROM aggregate_values")
	c.want("values of aggregates", n, c.values)
	return err
}

// valued is a value of an aggregate, and where it is from.
type valued struct {
	at      int64
	message message.ItemHash
	value   string
}

func (c *checker) aggregate(ctx context.Context, row aggregateRow) error {
	c.out.Aggregates++
	elements, err := c.v.elementsOf(ctx, row.id)
	if err != nil {
		return err
	}
	if len(elements) == 0 {
		c.differ("aggregate %q of %s has no elements", row.Key, row.Owner)
		return nil
	}
	want := map[string]valued{}
	for _, m := range elements {
		a, err := aggregateOf(m)
		if err != nil {
			return err
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(a.Content, &fields); err != nil {
			return fmt.Errorf("read element %s: %w", m.Envelope.ItemHash, err)
		}
		for name, value := range fields {
			want[name] = valued{m.MadeAt.UnixMicro(), m.Envelope.ItemHash, string(value)}
		}
	}
	got := map[string]valued{}
	err = c.v.each(ctx, "SELECT name, at, message, value FROM aggregate_values WHERE aggregate = ?", []any{row.id}, func(scan func(...any) error) error {
		var name string
		var v valued
		err := scan(&name, &v.at, &v.message, &v.value)
		got[name] = v
		return err
	})
	if err != nil {
		return fmt.Errorf("read values of aggregate %q of %s: %w", row.Key, row.Owner, err)
	}
	c.values += int64(len(want))
	if !maps.Equal(got, want) {
		c.differ("aggregate %q of %s has other values than its elements give, under %q", row.Key, row.Owner, unlike(got, want))
	}
	first, last := elements[0], elements[len(elements)-1]
	if row.First != first.Envelope.ItemHash || !row.Created.Equal(first.MadeAt) || row.Last != last.Envelope.ItemHash || !row.Updated.Equal(last.MadeAt) {
		c.differ("aggregate %q of %s is from %s to %s, its elements from %s to %s", row.Key, row.Owner, row.First, row.Last, first.Envelope.ItemHash, last.Envelope.ItemHash)
	}
	return nil
}

// unlike are the names whose values differ.
func unlike(a, b map[string]valued) (out []string) {
	for name := range a {
		if a[name] != b[name] {
			out = append(out, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), rowsMax)]
}

// orphans looks for rows that belong to no message, and messages that are two
// things at once.
func (c *checker) orphans(ctx context.Context) error {
	for what, query := range map[string]string{
		"messages that have ended":         "SELECT COUNT(*) FROM messages m JOIN skeletons s ON s.pk = m.pk",
		"messages that wait":               "SELECT COUNT(*) FROM messages m JOIN pending p ON p.message = m.pk",
		"messages that are refused":        "SELECT COUNT(*) FROM messages m JOIN rejected r ON r.pk = m.pk",
		"things that no message waits for": "SELECT COUNT(*) FROM waits w WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.pk = w.pk) AND NOT EXISTS (SELECT 1 FROM rejected r WHERE r.pk = w.pk)",
		"costs of no message":              "SELECT COUNT(*) FROM costs c WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.pk = c.pk AND m.id = c.id)",
		"files that no machine uses":       "SELECT COUNT(*) FROM uses u WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.pk = u.machine)",
		"events of the ledger of no post":  "SELECT COUNT(*) FROM credit_events e WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.pk = e.pk) AND NOT EXISTS (SELECT 1 FROM skeletons s WHERE s.pk = e.pk) AND NOT EXISTS (SELECT 1 FROM pending p WHERE p.message = e.pk)",
		"amends of no post":                "SELECT COUNT(*) FROM amends a WHERE NOT EXISTS (SELECT 1 FROM posts p WHERE p.original = a.original)",
	} {
		n, err := c.number(ctx, query)
		if err != nil {
			return err
		}
		c.want(what, n, 0)
	}
	return nil
}
