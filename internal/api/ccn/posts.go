package ccn

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// postsWanted is the query for a list of posts.
type postsWanted struct {
	state.PostQuery
	page
}

// readPosts reads the query for a list of posts. The order of confirmations is that
// of times here.
func readPosts(r *http.Request) (*postsWanted, error) {
	p := readParams(r)
	q := &postsWanted{
		PostQuery: state.PostQuery{
			Owners: p.list("addresses"), Hashes: p.hashes("hashes"), Refs: p.list("refs"), Kinds: p.list("types", "post_types"), Tags: p.list("tags"),
			Channels: p.list("channels"),
		},
		page: p.page(perPage, 0, numberMax),
	}
	q.From, q.To = p.span()
	q.Oldest = p.oldestFirst()
	byTx := p.word("time", []string{"time", "tx-time"}, "sortBy", "sort_by") == "tx-time"
	if byTx && q.cursor != nil { // A first page would name a next one that is refused.
		p.fail("value_error", "Value error, Cursor pagination is not supported with tx-time sort order.", nil)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if err := q.inPath(r); err != nil {
		return nil, err
	}
	if err := q.bound(); err != nil {
		return nil, err
	}
	var err error
	q.After, err = q.place()
	return q, err
}

// listPostsV0 answers the older list of posts, each with what its messages have.
func (s *Server) listPostsV0(w http.ResponseWriter, r *http.Request) error {
	return s.listPosts(w, r, appendPostV0)
}

// listPostsV1 answers the list of posts in short.
func (s *Server) listPostsV1(w http.ResponseWriter, r *http.Request) error {
	return s.listPosts(w, r, appendPostV1)
}

// appendPost writes a post, with the transactions that name its latest message.
type appendPost func(dst []byte, p *state.Post, confirmed []state.Transaction) ([]byte, error)

func (s *Server) listPosts(w http.ResponseWriter, r *http.Request, fn appendPost) error {
	q, err := readPosts(r)
	if err != nil {
		return err
	}
	return s.list(w, r, true, func(v *state.View, st *stream) error { return fillPosts(r.Context(), v, st, q, fn) })
}

func fillPosts(ctx context.Context, v *state.View, st *stream, q *postsWanted, fn appendPost) error {
	if err := st.text(`{"posts":[`); err != nil {
		return err
	}
	limit := q.per
	if q.cursor != nil {
		limit++
	}
	l := &postList{v: v, st: st, fn: fn}
	var last *state.Post
	var n int64
	err := v.EachPost(ctx, q.PostQuery, q.offset(), limit, func(p *state.Post) error {
		if n++; q.cursor != nil && n > q.per {
			return nil
		}
		last = p
		return l.add(ctx, p)
	})
	if err != nil {
		return err
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	if q.cursor != nil {
		return st.endCursor(q.page, n > q.per, func() any { return placeCursor{string(last.Original.Envelope.ItemHash), isoTime(last.Latest.MadeAt)} })
	}
	total, err := v.CountPosts(ctx, q.PostQuery)
	if err != nil {
		return err
	}
	return st.endPage("posts", q.page, total)
}

// postList writes posts, a batch at a time, so that their confirmations are read
// together.
type postList struct {
	v     *state.View
	st    *stream
	fn    appendPost
	batch []*state.Post
	begun bool
}

func (l *postList) add(ctx context.Context, p *state.Post) error {
	if l.batch = append(l.batch, p); len(l.batch) < batchMax {
		return nil
	}
	return l.flush(ctx)
}

func (l *postList) flush(ctx context.Context) error {
	hashes := make([]message.ItemHash, len(l.batch))
	for i, p := range l.batch {
		hashes[i] = p.Latest.Envelope.ItemHash
	}
	found, err := l.v.Confirmations(ctx, hashes)
	if err != nil {
		return err
	}
	for i, p := range l.batch {
		err := l.st.grow(func(dst []byte) ([]byte, error) {
			if l.begun {
				dst = append(dst, ',')
			}
			l.begun = true
			return l.fn(dst, p, found[hashes[i]])
		})
		if err != nil {
			return err
		}
	}
	l.batch = l.batch[:0]
	return nil
}

// bodies are the contents of a post's messages.
func bodies(p *state.Post) (original, latest *message.Post, err error) {
	if original, err = bodyOf(p.Original); err != nil {
		return nil, nil, err
	}
	if p.Latest == p.Original {
		return original, original, nil
	}
	latest, err = bodyOf(p.Latest)
	return original, latest, err
}

func bodyOf(m *state.Message) (*message.Post, error) {
	c, err := m.Body()
	if err != nil {
		return nil, fmt.Errorf("read post %s: %w", m.Envelope.ItemHash, err)
	}
	p, ok := c.(*message.Post)
	if !ok {
		return nil, fmt.Errorf("BUG: message %s is no POST", m.Envelope.ItemHash)
	}
	return p, nil
}

func (o *object) ref(ref *message.Ref) {
	if ref == nil {
		o.raw("ref", nil)
		return
	}
	o.text("ref", ref.Target())
}

func appendPostV1(dst []byte, p *state.Post, _ []state.Transaction) ([]byte, error) {
	original, latest, err := bodies(p)
	if err != nil {
		return dst, err
	}
	first := &p.Original.Envelope
	o := newObject(dst)
	o.text("item_hash", string(p.Latest.Envelope.ItemHash))
	o.raw("content", latest.Content)
	o.text("original_item_hash", string(first.ItemHash))
	o.text("original_type", original.Type)
	o.text("address", p.Original.Owner)
	o.ref(original.Ref)
	o.textOrNull("channel", first.Channel)
	o.text("created", isoTime(p.Original.MadeAt))
	o.text("last_updated", isoTime(p.Latest.MadeAt))
	return o.end(), nil
}

func appendPostV0(dst []byte, p *state.Post, confirmed []state.Transaction) ([]byte, error) {
	original, latest, err := bodies(p)
	if err != nil {
		return dst, err
	}
	first, last := &p.Original.Envelope, &p.Latest.Envelope
	o := newObject(dst)
	o.text("chain", string(first.Chain))
	o.text("item_hash", string(last.ItemHash))
	o.text("sender", p.Original.Owner)
	o.text("type", latest.Type)
	o.textOrNull("channel", first.Channel)
	o.boolean("confirmed", len(confirmed) > 0)
	o.raw("content", latest.Content)
	if last.ItemType == message.Inline {
		o.text("item_content", last.ItemContent)
	} else {
		o.raw("item_content", nil)
	}
	o.text("item_type", string(last.ItemType))
	o.signature(last.Signature)
	o.integer("size", int64(len(p.Latest.Content)))
	o.seconds("time", last.Time)
	o.key("confirmations")
	o.buf = appendConfirmations(o.buf, confirmed)
	o.text("original_item_hash", string(first.ItemHash))
	o.textOrNull("original_signature", textOrNil(first.Signature))
	o.text("original_type", original.Type)
	o.text("hash", string(first.ItemHash))
	o.text("address", p.Original.Owner)
	o.ref(original.Ref)
	return o.end(), nil
}

// textOrNil is nil for a text that is empty.
func textOrNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func appendConfirmations(dst []byte, all []state.Transaction) []byte {
	dst = append(dst, '[')
	for i, t := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		o := newObject(dst)
		o.text("chain", string(t.Chain))
		o.text("hash", t.Hash)
		o.integer("height", t.Height)
		dst = o.end()
	}
	return append(dst, ']')
}
