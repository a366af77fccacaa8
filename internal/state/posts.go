package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Post is an original POST with the one of its amends that counts: the newest by
// content.time, of equal times the one with the greater hash, but only if it is
// newer than the original. See section 4.6 of the protocol.
type Post struct {
	Original *Message
	Latest   *Message // The original if no amend counts.
}

// Posts are in a catalogue of their own, by the time of their latest content. What
// is said of a post is said by its original, but for its tags.
func postCatalogue() catalogue { return catalogue{"post"} }

func postTerms(original, latest *Message) ([]term, error) {
	l, err := original.labels()
	if err != nil {
		return nil, err
	}
	now, err := latest.labels()
	if err != nil {
		return nil, err
	}
	l.Tags = now.Tags
	out := append(make([]term, 0, 8), term{termOwner, original.Owner})
	if original.Envelope.Channel != nil {
		out = append(out, term{termChannel, *original.Envelope.Channel})
	}
	return append(out, termsOf(l)...), nil
}

// AddPosts enters original POSTs that were added as messages.
func (tx *Tx) AddPosts(ctx context.Context, originals []*Message) error {
	docs := make([]document, len(originals))
	for i, m := range originals {
		terms, err := postTerms(m, m)
		if err != nil {
			return err
		}
		docs[i] = document{m.MadeAt.UnixMicro(), terms}
	}
	ids, err := postCatalogue().add(ctx, tx, docs)
	if err != nil {
		return err
	}
	rows := make([][]any, len(originals))
	for i, m := range originals {
		rows[i] = []any{ids[i], m.ID, m.ID}
	}
	tx.touch("posts")
	return tx.insert(ctx, "posts (id, original, latest)", rows, "")
}

// AddAmend enters a POST that was added as a message and amends another, whose
// message is given.
func (tx *Tx) AddAmend(ctx context.Context, original, amend *Message) error {
	if err := tx.insert(ctx, "amends (message, original, at)", [][]any{{amend.ID, original.ID, amend.MadeAt.UnixMicro()}}, ""); err != nil {
		return err
	}
	return tx.showPost(ctx, original)
}

// RemoveAmend takes back an amend; the message is removed by others.
func (tx *Tx) RemoveAmend(ctx context.Context, amend *Message) error {
	var original int64
	err := tx.q.QueryRowContext(ctx, "SELECT original FROM amends WHERE message = ?", amend.ID).Scan(&original)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what %s amends: %w", amend.Envelope.ItemHash, err)
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM amends WHERE message = ?", amend.ID); err != nil {
		return fmt.Errorf("remove amend %s: %w", amend.Envelope.ItemHash, err)
	}
	found, err := tx.MessagesByID(ctx, []int64{original})
	if err != nil || found[original] == nil {
		return err
	}
	return tx.showPost(ctx, found[original])
}

// RemovePost takes out a post, and returns the messages of its amends, which are
// amends of nothing now.
func (tx *Tx) RemovePost(ctx context.Context, original *Message) ([]*Message, error) {
	if err := tx.hidePost(ctx, original); err != nil {
		return nil, err
	}
	amends, err := tx.amendsOf(ctx, original)
	if err != nil {
		return nil, err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM amends WHERE original = ?", original.ID); err != nil {
		return nil, fmt.Errorf("remove amends of %s: %w", original.Envelope.ItemHash, err)
	}
	return amends, nil
}

func (r reader) amendsOf(ctx context.Context, original *Message) (out []*Message, err error) {
	return r.messages(ctx, "id IN (SELECT message FROM amends WHERE original = ?) ORDER BY made_at, pk", original.ID)
}

// showPost decides which content of a post counts, and places it.
func (tx *Tx) showPost(ctx context.Context, original *Message) error {
	amends, err := tx.amendsOf(ctx, original)
	if err != nil {
		return err
	}
	latest := original
	if n := len(amends); n > 0 && amends[n-1].MadeAt.After(original.MadeAt) {
		latest = amends[n-1]
	}
	shown, err := tx.post(ctx, original)
	if err != nil || shown != nil && shown.Latest.ID == latest.ID {
		return err
	}
	if err := tx.hidePost(ctx, original); err != nil {
		return err
	}
	terms, err := postTerms(original, latest)
	if err != nil {
		return err
	}
	ids, err := postCatalogue().add(ctx, tx, []document{{latest.MadeAt.UnixMicro(), terms}})
	if err != nil {
		return err
	}
	tx.touch("posts")
	return tx.insert(ctx, "posts (id, original, latest)", [][]any{{ids[0], original.ID, latest.ID}}, "")
}

// hidePost takes a post out of its place.
func (tx *Tx) hidePost(ctx context.Context, original *Message) error {
	var id int64
	if err := tx.q.QueryRowContext(ctx, "SELECT id FROM posts WHERE original = ?", original.ID).Scan(&id); err != nil {
		if isMissing(err) {
			return nil
		}
		return fmt.Errorf("find post %s: %w", original.Envelope.ItemHash, err)
	}
	shown, err := tx.post(ctx, original)
	if err != nil {
		return err
	}
	latest := original
	if shown != nil {
		latest = shown.Latest
	}
	terms, err := postTerms(original, latest)
	if err != nil {
		return err
	}
	if err := postCatalogue().remove(ctx, tx, id, terms); err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM posts WHERE id = ?", id); err != nil {
		return fmt.Errorf("remove post %s: %w", original.Envelope.ItemHash, err)
	}
	tx.touch("posts")
	return nil
}

// post is the post as it is shown, nil if it is not.
func (r reader) post(ctx context.Context, original *Message) (*Post, error) {
	found, err := r.messages(ctx, "id = (SELECT latest FROM posts WHERE original = ?)", original.ID)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &Post{Original: original, Latest: found[0]}, nil
}

// Post returns the post whose original has the hash, or errs.NotFound.
func (r reader) Post(ctx context.Context, hash message.ItemHash) (*Post, error) {
	original, err := r.Message(ctx, hash)
	if err != nil {
		return nil, err
	}
	p, err := r.post(ctx, original)
	if err == nil && p == nil {
		err = errs.New(errs.NotFound, "message %s is no original post", hash)
	}
	return p, err
}

// PostQuery says which posts, in the order of the times of their latest contents;
// see MessageQuery for its lists.
type PostQuery struct {
	Owners   []string
	Hashes   []message.ItemHash // Of originals.
	Refs     []string           // Of originals.
	Kinds    []string           // content.type of originals.
	Tags     []string           // Of the latest contents.
	Channels []string           // Of originals.
	From, To time.Time          // Of the latest contents.
	Oldest   bool
	After    *MessagePlace // Of the hash of an original.
}

func (q *PostQuery) query() query {
	m := MessageQuery{Owners: q.Owners, Refs: q.Refs, Kinds: q.Kinds, Tags: q.Tags, Channels: q.Channels, From: q.From, To: q.To, Oldest: q.Oldest}
	return m.query()
}

// EachPost calls fn for up to limit posts of a query, in its order, of equal times
// the lesser hash of an original first, after leaving out the first, offset of
// them. A limit of 0 is none.
func (v *View) EachPost(ctx context.Context, q PostQuery, offset, limit int64, fn func(*Post) error) error {
	if q.Hashes != nil {
		all, err := v.namedPosts(ctx, &q)
		if err != nil {
			return err
		}
		for _, p := range paged(all, offset, limit) {
			if err := fn(p); err != nil {
				return err
			}
		}
		return nil
	}
	if q.After != nil {
		var err error
		if offset, err = v.seekPost(ctx, &q); err != nil {
			return err
		}
	}
	hits, skip, err := postCatalogue().page(ctx, v.reader, q.query(), offset, limit)
	if err != nil {
		return err
	}
	for n := int64(0); len(hits) > 0 && (limit == 0 || n < limit); {
		part := cut(hits, min(rowsMax, int64(len(hits))))
		hits = hits[len(part):]
		posts, err := v.postsAt(ctx, part)
		if err != nil {
			return err
		}
		sortPosts(posts, q.Oldest)
		posts = posts[min(skip, int64(len(posts))):]
		skip = 0
		if limit > 0 {
			posts = posts[:min(limit-n, int64(len(posts)))]
		}
		for _, p := range posts {
			if err := fn(p); err != nil {
				return err
			}
		}
		n += int64(len(posts))
	}
	return nil
}

// CountPosts returns how many posts a query finds.
func (v *View) CountPosts(ctx context.Context, q PostQuery) (int64, error) {
	if q.Hashes != nil {
		all, err := v.namedPosts(ctx, &q)
		return int64(len(all)), err
	}
	return postCatalogue().count(ctx, v.reader, q.query())
}

func sortPosts(posts []*Post, oldest bool) {
	slices.SortFunc(posts, func(a, b *Post) int {
		order := b.Latest.MadeAt.Compare(a.Latest.MadeAt)
		if oldest {
			order = -order
		}
		if order != 0 {
			return order
		}
		return strings.Compare(string(a.Original.Envelope.ItemHash), string(b.Original.Envelope.ItemHash))
	})
}

// seekPost is seek for posts.
func (v *View) seekPost(ctx context.Context, q *PostQuery) (n int64, err error) {
	at := q.After.At
	if q.Oldest {
		q.From = latest(q.From, at)
	} else if end := at.Add(time.Microsecond); q.To.IsZero() || end.Before(q.To) {
		q.To = end
	}
	same := *q
	same.From, same.To = at, at.Add(time.Microsecond)
	hits, _, err := postCatalogue().page(ctx, v.reader, same.query(), 0, 0)
	if err != nil {
		return 0, err
	}
	posts, err := v.postsAt(ctx, hits)
	for _, p := range posts {
		if p.Original.Envelope.ItemHash <= q.After.Hash {
			n++
		}
	}
	return n, err
}

// postsAt reads the posts of places in the catalogue.
func (v *View) postsAt(ctx context.Context, hits []hit) (out []*Post, err error) {
	ids := make([]int64, len(hits))
	for i, h := range hits {
		ids[i] = h.id
	}
	var pairs [][2]int64
	var wanted []int64
	for chunk := range chunks(ids) {
		err := v.each(ctx, "SELECT original, latest FROM posts WHERE id IN "+marks(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			var pair [2]int64
			err := scan(&pair[0], &pair[1])
			pairs, wanted = append(pairs, pair), append(wanted, pair[0], pair[1])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read posts: %w", err)
		}
	}
	slices.Sort(wanted)
	found, err := v.MessagesByID(ctx, slices.Compact(wanted))
	if err != nil {
		return nil, err
	}
	for _, pair := range pairs {
		original, latest := found[pair[0]], found[pair[1]]
		if original == nil || latest == nil {
			return nil, errs.New(errs.Internal, "BUG: the post of message %d, latest %d, has lost a message", pair[0], pair[1])
		}
		out = append(out, &Post{original, latest})
	}
	return out, nil
}

// namedPosts are the posts of a query that names them, in its order.
func (v *View) namedPosts(ctx context.Context, q *PostQuery) (out []*Post, err error) {
	originals, err := v.MessagesByHash(ctx, q.Hashes)
	if err != nil {
		return nil, err
	}
	m := MessageQuery{Owners: q.Owners, Refs: q.Refs, Kinds: q.Kinds, Channels: q.Channels}
	for _, original := range originals {
		p, err := v.post(ctx, original)
		if err != nil {
			return nil, err
		}
		ok, err := m.Matches(original)
		if err != nil {
			return nil, err
		}
		if p == nil || !ok {
			continue
		}
		tags := MessageQuery{Tags: q.Tags}
		if ok, err = tags.Matches(p.Latest); err != nil {
			return nil, err
		}
		at := p.Latest.MadeAt
		if ok && (q.From.IsZero() || !at.Before(q.From)) && (q.To.IsZero() || at.Before(q.To)) && (q.After == nil || q.After.passed(p, q.Oldest)) {
			out = append(out, p)
		}
	}
	sortPosts(out, q.Oldest)
	return out, nil
}

// passed reports whether a post comes after the place.
func (p *MessagePlace) passed(post *Post, oldest bool) bool {
	order := p.At.Compare(post.Latest.MadeAt)
	if order == 0 {
		return post.Original.Envelope.ItemHash > p.Hash
	}
	return (order < 0) == oldest
}
