package message

import (
	"bytes"
	"encoding/json"
	"time"
)

// Content is the typed content of a message: a [*Post], [*Aggregate], [*Store],
// [*Program], [*Instance], [*VerifiableProgram] or [*Forget]. It shares memory
// with the bytes that it was read from. See section 1.4 of the protocol.
type Content interface {
	// Owner is the address on whose behalf the sender acts.
	Owner() string
	// At is the time that orders contents, which the sender chose.
	At() time.Time
	// write writes the content in the order of its model.
	write(w *writer)
}

// ParseContent reads the content of a message: item_content, or the file that
// item_hash names. Of a file, a missing owner is the sender and a missing time
// that of the envelope. The error is always a *RejectError. See sections 1.4
// and 14.1 of the protocol.
func ParseContent(e *Envelope, raw []byte) (Content, error) {
	if err := checkStorable(raw); err != nil {
		return nil, err
	}
	if e.ItemType != Inline {
		var err error
		if raw, err = e.Fill(raw); err != nil {
			return nil, err
		}
	}
	return parseContent(e.Type, raw)
}

// Content returns the typed content of an inline message.
func (e *Envelope) Content() (Content, error) {
	if e.ItemType != Inline {
		return nil, invalid("message %s is %s, its content is not in it", e.ItemHash, e.ItemType)
	}
	return parseContent(e.Type, []byte(e.ItemContent))
}

// Model returns a content as its typed model, every optional field
// present, in the order of the model. See section 1.12 of the protocol.
func Model(c Content) json.RawMessage {
	w := &writer{model: true}
	c.write(w)
	return w.buf
}

// checkStorable refuses the one character that the reference's database cannot
// hold, so that all nodes hold the same messages.
func checkStorable(raw []byte) error {
	if bytes.Contains(raw, []byte(`\u0000`)) {
		return invalid(`Unsupported character in message: \u0000`)
	}
	return nil
}

// Fill returns a content with address and time set as ParseContent reads them,
// which is the content that nodes store and show. What is there stays as it is,
// byte for byte.
func (e *Envelope) Fill(raw []byte) ([]byte, error) {
	d, root, err := decode("content", raw)
	if err != nil {
		return nil, err
	}
	o := root.object()
	if d.err != nil {
		return nil, d.err
	}
	noOwner, noTime := o.maybe("address").null(), o.maybe("time").null()
	if !noOwner && !noTime {
		return raw, nil
	}
	// A null stays where it is: of equal keys the last one counts.
	end := d.values[0].end - 1
	w := &writer{buf: append(make([]byte, 0, len(raw)+len(e.Sender)+64), raw[:end]...), model: true}
	w.buf = bytes.TrimRight(w.buf, " \t\r\n")
	if noOwner {
		w.text("address", e.Sender)
	}
	if noTime {
		w.time(e.Time)
	}
	w.close()
	return w.buf, nil
}

// parseContent runs the typed rules of a content.
func parseContent(t Type, raw []byte) (Content, error) {
	switch t {
	case TypePost:
		return typed(ParsePost(raw))
	case TypeAggregate:
		return typed(ParseAggregate(raw))
	case TypeStore:
		return typed(ParseStore(raw))
	case TypeProgram:
		return typed(ParseProgram(raw))
	case TypeInstance:
		return typed(ParseInstance(raw))
	case TypeForget:
		return typed(ParseForget(raw))
	case TypeVProgram:
		return typed(ParseVerifiableProgram(raw))
	default:
		return nil, invalid("type %.80q is not a message type", t)
	}
}

// typed keeps a nil pointer from becoming a Content.
func typed[T Content](c T, err error) (Content, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// contentOf decodes a content and reads the fields that every content has.
func contentOf(raw []byte, keys ...string) (object, string, time.Time, error) {
	d, root, err := decode("content", raw)
	if err != nil {
		return object{}, "", time.Time{}, err
	}
	o := root.object(keys...)
	owner, at := o.need("address").text(1, MaxTextBytes), o.need("time").seconds()
	return o, owner, at, d.err
}
