package message

import (
	"encoding/json"
	"time"
)

// PostAmend is the type of a POST that replaces the content of another.
const PostAmend = "amend"

// Post is the content of a POST message: a free value of a free type. See
// section 1.5 of the protocol.
type Post struct {
	Address string // owner
	Time    time.Time
	Content json.RawMessage // any value; nil if there is none
	Ref     *Ref
	Type    string // free text, or PostAmend
}

// Ref is what a POST refers to: a text, or the older form that quotes a
// message.
type Ref struct {
	Text  string
	Quote *ChainRef // nil if the reference is a text
}

// ChainRef is a message that an old POST quotes to refer to it.
type ChainRef struct {
	Chain       Chain
	Channel     *string
	ItemContent string
	ItemHash    ItemHash
	ItemType    ItemType
	Sender      *string
	Signature   *string
	Time        *time.Time
}

// Target returns the text that stands for the reference: of a quoted message
// its item hash.
func (r *Ref) Target() string {
	if r.Quote != nil {
		return string(r.Quote.ItemHash)
	}
	return r.Text
}

// Owner implements Content.
func (p *Post) Owner() string { return p.Address }

// At implements Content.
func (p *Post) At() time.Time { return p.Time }

// Amends returns the hash of the post that this one replaces, which must be an
// original, and false if this one is original.
func (p *Post) Amends() (ItemHash, bool) {
	if p.Type != PostAmend || p.Ref == nil {
		return "", false
	}
	return ItemHash(p.Ref.Target()), true
}

// ParsePost decodes and checks the content of a POST message. The error is
// always a *RejectError.
func ParsePost(raw []byte) (*Post, error) {
	o, owner, at, err := contentOf(raw, "address", "time", "content", "ref", "type")
	if err != nil {
		return nil, err
	}
	p := &Post{
		Address: owner, Time: at, Content: o.maybe("content").raw(), Ref: readRef(o.maybe("ref")),
		Type: o.need("type").text(0, anyLength),
	}
	if o.maybe("content").null() {
		p.Content = nil
	}
	if p.Type == PostAmend && (p.Ref == nil || p.Ref.Target() == "") {
		o.maybe("ref").fail("is missing; type %s needs it", PostAmend)
	}
	if o.d.err != nil {
		return nil, o.d.err
	}
	return p, nil
}

func readRef(n node) *Ref {
	switch {
	case n.skip():
		return nil
	case n.isText():
		return &Ref{Text: n.text(0, anyLength)}
	case n.kind() != kindObject:
		n.fail("is neither a text nor a message")
		return nil
	}
	o := n.object()
	q := &ChainRef{
		Chain: o.need("chain").chain(), Channel: o.maybe("channel").textOrNull(MaxChannelChars),
		ItemContent: o.need("item_content").text(0, anyLength), ItemHash: o.need("item_hash").hash(),
		ItemType: ItemType(o.need("item_type").word(string(Inline), string(Storage), string(IPFS))),
	}
	q.Sender, q.Signature = o.maybe("sender").textOrNull(anyLength), o.maybe("signature").textOrNull(anyLength)
	if at := o.maybe("time"); !at.skip() {
		t := fromSeconds(at.number(), time.Nanosecond)
		q.Time = &t
	}
	if t := o.maybe("type"); !t.absent() {
		t.word(string(TypePost))
	}
	return &Ref{Quote: q}
}

func (p *Post) write(w *writer) {
	w.open()
	w.text("address", p.Address)
	w.time(p.Time)
	w.free("content", p.Content)
	switch {
	case p.Ref == nil:
		w.null("ref")
	case p.Ref.Quote == nil:
		w.text("ref", p.Ref.Text)
	default:
		w.key("ref")
		p.Ref.Quote.write(w)
	}
	w.text("type", p.Type)
	w.close()
}

func (q *ChainRef) write(w *writer) {
	w.open()
	w.text("chain", string(q.Chain))
	textOrNull(w, "channel", q.Channel)
	w.text("item_content", q.ItemContent)
	w.text("item_hash", string(q.ItemHash))
	w.text("item_type", string(q.ItemType))
	textOrNull(w, "sender", q.Sender)
	textOrNull(w, "signature", q.Signature)
	if q.Time == nil {
		w.null("time")
	} else {
		w.time(*q.Time)
	}
	w.text("type", string(TypePost))
	w.close()
}

// MarshalJSON implements json.Marshaler with the form that clients send: what
// is not set is left out.
func (p Post) MarshalJSON() ([]byte, error) { return wire(p.write) }

// UnmarshalJSON implements json.Unmarshaler with ParsePost.
func (p *Post) UnmarshalJSON(raw []byte) error { return into(p, raw, ParsePost) }
