package message

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Aggregate is the content of an AGGREGATE message: a part of a value that its
// owner keeps under a key. See section 1.6 of the protocol.
type Aggregate struct {
	Address string // owner
	Time    time.Time
	Key     AggregateKey
	Content json.RawMessage // a JSON object
}

// AggregateKey names a value of an owner.
type AggregateKey struct {
	Name string
	// Object is set when the key was written as {"name": ...}, an old form.
	Object bool
}

// String returns the key that the value is stored under. For the old form that
// is what the reference prints of it, a key of its own.
func (k AggregateKey) String() string {
	if k.Object {
		return "name=" + quotePython(k.Name)
	}
	return k.Name
}

// quotePython quotes a text as the reference's language prints one.
func quotePython(s string) string {
	quote := '\''
	if strings.ContainsRune(s, '\'') && !strings.ContainsRune(s, '"') {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteString("\\" + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(escapePython(r))
		}
	}
	b.WriteRune(quote)
	return b.String()
}

// escapePython writes a character that is not printed: \x, \u or \U and two,
// four or eight digits.
func escapePython(r rune) string {
	digits := strconv.FormatInt(int64(r), 16)
	switch {
	case r <= 0xFF:
		return `\x` + strings.Repeat("0", 2-len(digits)) + digits
	case r <= 0xFFFF:
		return `\u` + strings.Repeat("0", 4-len(digits)) + digits
	default:
		return `\U` + strings.Repeat("0", 8-len(digits)) + digits
	}
}

// Owner implements Content.
func (a *Aggregate) Owner() string { return a.Address }

// At implements Content.
func (a *Aggregate) At() time.Time { return a.Time }

// ParseAggregate decodes and checks the content of an AGGREGATE message. The
// error is always a *RejectError.
func ParseAggregate(raw []byte) (*Aggregate, error) {
	o, owner, at, err := contentOf(raw, "address", "time", "key", "content")
	if err != nil {
		return nil, err
	}
	a := &Aggregate{Address: owner, Time: at, Key: readKey(o.need("key"))}
	content := o.need("content")
	content.object()
	a.Content = content.raw()
	if o.d.err != nil {
		return nil, o.d.err
	}
	return a, nil
}

func readKey(n node) AggregateKey {
	switch {
	case n.d.err != nil:
		return AggregateKey{}
	case n.kind() == kindObject:
		return AggregateKey{Name: n.object("name").need("name").text(0, anyLength), Object: true}
	default:
		return AggregateKey{Name: n.text(0, anyLength)}
	}
}

func (a *Aggregate) write(w *writer) {
	w.open()
	w.text("address", a.Address)
	w.time(a.Time)
	if a.Key.Object {
		w.key("key")
		w.open()
		w.text("name", a.Key.Name)
		w.close()
	} else {
		w.text("key", a.Key.Name)
	}
	w.free("content", a.Content)
	w.close()
}

// MarshalJSON implements json.Marshaler with the form that clients send.
func (a Aggregate) MarshalJSON() ([]byte, error) { return wire(a.write) }

// UnmarshalJSON implements json.Unmarshaler with ParseAggregate.
func (a *Aggregate) UnmarshalJSON(raw []byte) error { return into(a, raw, ParseAggregate) }
