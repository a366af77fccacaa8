package message

import "slices"

// View is a message that nodes hold, with all that they show of it. See section
// 1.12 of the protocol: clients refuse a message with any other key.
type View struct {
	Envelope      *Envelope
	Content       []byte // exact bytes: item_content, or the file that item_hash names
	Confirmations []Confirmation
}

// Confirmation is a transaction of a chain that names the message.
type Confirmation struct {
	Chain  Chain
	Height int64
	Hash   string
}

// ContentFormat says how much of a content a list shows.
type ContentFormat string

// The content formats.
const (
	ContentFull    ContentFormat = "full"
	ContentHeaders ContentFormat = "headers"
	ContentNone    ContentFormat = "none"
)

// AppendSingle appends the message as the answer about one message shows it:
// the content as its typed model, every optional field present, keys in the
// order of the models.
func (v *View) AppendSingle(dst []byte) ([]byte, error) {
	c, err := v.typed()
	if err != nil {
		return dst, err
	}
	return v.appendSingle(dst, c), nil
}

// AppendBrief appends the message as AppendSingle does, but for its content.
func (v *View) AppendBrief(dst []byte) ([]byte, error) { return v.appendSingle(dst, nil), nil }

func (v *View) appendSingle(dst []byte, c Content) []byte {
	e, w := v.Envelope, &writer{buf: dst, model: true}
	w.start()
	w.text("sender", e.Sender)
	w.text("chain", string(e.Chain))
	w.signature(e)
	w.text("type", string(e.Type))
	w.itemContent(e)
	w.text("item_type", string(e.ItemType))
	w.text("item_hash", string(e.ItemHash))
	w.time(e.Time)
	textOrNull(w, "channel", e.Channel)
	if c != nil {
		w.key("content")
		c.write(w)
	}
	w.boolean("confirmed", len(v.Confirmations) > 0)
	list(w, "confirmations", v.Confirmations, func(w *writer, c *Confirmation) {
		w.open()
		w.text("chain", string(c.Chain))
		w.integer("height", c.Height)
		w.text("hash", c.Hash)
		w.close()
	})
	w.close()
	return w.buf
}

// AppendListed appends the message as lists show it: the content as it was
// received but for its owner and time, keys sorted.
func (v *View) AppendListed(dst []byte, format ContentFormat) ([]byte, error) {
	e, w := v.Envelope, &writer{buf: dst, model: true}
	w.start()
	w.text("chain", string(e.Chain))
	textOrNull(w, "channel", e.Channel)
	list(w, "confirmations", v.Confirmations, func(w *writer, c *Confirmation) {
		w.open()
		w.text("chain", string(c.Chain))
		w.text("hash", c.Hash)
		w.integer("height", c.Height)
		w.close()
	})
	w.boolean("confirmed", len(v.Confirmations) > 0)
	if err := v.listContent(w, format); err != nil {
		return dst, err
	}
	w.itemContent(e)
	w.text("item_hash", string(e.ItemHash))
	w.text("item_type", string(e.ItemType))
	w.text("sender", e.Sender)
	w.signature(e)
	w.integer("size", int64(len(v.Content)))
	w.time(e.Time)
	w.text("type", string(e.Type))
	w.close()
	return w.buf, nil
}

// start opens the object of a message at the place it was asked for.
func (w *writer) start() { w.buf = append(w.buf, '{') }

// typed reads the content as the rules of today, which may be tighter than
// those under which the message was taken in.
func (v *View) typed() (Content, error) {
	raw := v.Content
	if v.Envelope.ItemType != Inline {
		var err error
		if raw, err = v.Envelope.Fill(raw); err != nil {
			return nil, err
		}
	}
	return parseContent(v.Envelope.Type, raw)
}

func (w *writer) itemContent(e *Envelope) {
	if e.ItemType != Inline {
		w.null("item_content")
		return
	}
	w.text("item_content", e.ItemContent)
}

// signature writes the signature, null for what a contract emitted.
func (w *writer) signature(e *Envelope) {
	if e.Signature == "" {
		w.null("signature")
		return
	}
	w.text("signature", e.Signature)
}

// listContent writes as much of the content as the format wants.
func (v *View) listContent(w *writer, format ContentFormat) error {
	if format == ContentNone {
		return nil
	}
	raw, err := v.Envelope.Fill(v.Content)
	if err != nil {
		return err
	}
	d, root, err := decode("content", raw)
	if err != nil {
		return err
	}
	w.key("content")
	if format == ContentHeaders {
		w.headers(v.Envelope.Type, root.object())
		return nil
	}
	w.buf = d.appendFree(w.buf, 0, slices.Compare[[]byte])
	return nil
}

// headers writes the fields of a content that lists can be filtered by.
func (w *writer) headers(t Type, o object) {
	keys := []string{"address"}
	switch t {
	case TypePost:
		keys = []string{"address", "ref", "type"}
	case TypeAggregate:
		keys = []string{"address", "key"}
	case TypeStore:
		keys = []string{"address", "item_hash", "ref"}
	default:
	}
	w.start()
	for _, key := range keys {
		if n := o.maybe(key); !n.null() {
			w.key(key)
			w.buf = o.d.appendFree(w.buf, n.at, slices.Compare[[]byte])
		}
	}
	w.close()
}
