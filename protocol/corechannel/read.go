package corechannel

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of what is read of a post, far above what honest ones have.
const (
	textMax = 1 << 14 // bytes of a text
	listMax = 10_000  // entries of a list
)

// Message is a post that was processed, and what is known of it.
type Message struct {
	Hash    message.ItemHash
	Sender  string
	Channel string
	Height  uint64 // of its first confirmation; 0 = none
	Post    *message.Post
}

// Read returns the event that a post is: an [Operation] or [Scores]. The error
// is always an [Ignored].
func Read(m Message, s Settings) (Event, error) {
	var body Body
	var err error
	switch m.Post.Type {
	case OperationType, message.PostAmend:
		body, err = readOperation(m, s)
	case ScoresType:
		body, err = readScores(m, s)
	default:
		err = NotOurs
	}
	if err != nil {
		return Event{}, err
	}
	return Event{Height: m.Height, At: m.Post.Time, Hash: m.Hash, Body: body}, nil
}

// fields is an object whose keys are looked up to the letter, which a struct
// does not do.
type fields map[string]json.RawMessage

// object reads an object.
func object(raw json.RawMessage) (fields, bool) {
	var f fields
	err := json.Unmarshal(raw, &f)
	return f, err == nil && f != nil
}

// given reports whether there is a value that is not null.
func (f fields) given(key string) bool {
	raw, ok := f[key]
	return ok && !bytes.Equal(raw, []byte("null"))
}

// text reads a text; "" and false if there is none.
func (f fields) text(key string) (string, bool) {
	var s string
	ok := f.given(key) && json.Unmarshal(f[key], &s) == nil && len(s) <= textMax && utf8.ValidString(s)
	if !ok {
		return "", false
	}
	return s, true
}

// number reads a number; 0 and false if there is none.
func (f fields) number(key string) (float64, bool) {
	var n float64
	ok := f.given(key) && json.Unmarshal(f[key], &n) == nil
	return n, ok
}

// list reads a list of anything.
func (f fields) list(key string) ([]json.RawMessage, bool) {
	var l []json.RawMessage
	ok := f.given(key) && json.Unmarshal(f[key], &l) == nil && len(l) <= listMax
	return l, ok
}

// texts reads a list of texts, nil if there is none. What is not a text is left
// out; one text stands for the words in it.
func (f fields) texts(key string) []string {
	if s, ok := f.text(key); ok {
		return append([]string{}, strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	list, ok := f.list(key)
	if !ok {
		return nil
	}
	out := make([]string, 0, len(list))
	for _, raw := range list {
		var s string
		if !bytes.Equal(raw, []byte("null")) && json.Unmarshal(raw, &s) == nil && len(s) <= textMax {
			out = append(out, s)
		}
	}
	return out
}

// truth reads a value for what it counts as in the reference: empty is false.
func (f fields) truth(key string) (value, ok bool) {
	var v any
	if !f.given(key) || json.Unmarshal(f[key], &v) != nil {
		return false, false
	}
	switch v := v.(type) {
	case bool:
		return v, true
	case float64:
		return v != 0, true
	case string:
		return v != "", true
	case []any:
		return len(v) > 0, true
	case map[string]any:
		return len(v) > 0, true
	default:
		return false, false
	}
}

// tagged returns the content of a post that has the network's tag.
func tagged(m Message, s Settings) (fields, error) {
	content, ok := object(m.Post.Content)
	if !ok {
		return nil, Ignored("the content is not an object")
	}
	if !slices.Contains(content.texts("tags"), s.Tag) {
		return nil, Untagged
	}
	return content, nil
}
