package ccn

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// object writes a JSON object, its keys in the order in which they are added.
// Contents are written as they are, however large their numbers.
type object struct {
	buf   []byte
	begun bool
}

func newObject(dst []byte) *object { return &object{buf: append(dst, '{')} }

// end closes the object.
func (o *object) end() []byte { return append(o.buf, '}') }

func (o *object) key(key string) {
	if o.begun {
		o.buf = append(o.buf, ',')
	}
	o.begun = true
	o.buf = append(appendText(o.buf, key), ':')
}

func (o *object) text(key, value string) {
	o.key(key)
	o.buf = appendText(o.buf, value)
}

// textOrNull writes a text that may not be there.
func (o *object) textOrNull(key string, value *string) {
	o.key(key)
	if value == nil {
		o.buf = append(o.buf, "null"...)
		return
	}
	o.buf = appendText(o.buf, *value)
}

func (o *object) integer(key string, value int64) {
	o.key(key)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

func (o *object) boolean(key string, value bool) {
	o.key(key)
	o.buf = strconv.AppendBool(o.buf, value)
}

// raw writes a value that is JSON already; nil is null.
func (o *object) raw(key string, value []byte) {
	o.key(key)
	if len(value) == 0 {
		value = []byte("null")
	}
	o.buf = append(o.buf, value...)
}

// texts writes a list of texts.
func (o *object) texts(key string, values []string) {
	o.key(key)
	o.buf = append(o.buf, '[')
	for i, v := range values {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendText(o.buf, v)
	}
	o.buf = append(o.buf, ']')
}

// page writes the keys of a page that has a number, in the order of their names.
func (o *object) page(item string, pg page, total int64) {
	o.text("pagination_item", item)
	o.integer("pagination_page", pg.number)
	o.integer("pagination_per_page", pg.per)
	o.integer("pagination_total", total)
}

// next writes the keys of a page in cursor mode.
func (o *object) next(pg page, cursor *string) {
	o.textOrNull("next_cursor", cursor)
	o.integer("pagination_per_page", pg.per)
}

// appendText writes a text as JSON, without the escapes for HTML.
func appendText(dst []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...) // A text can always be written.
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func (o *object) integerOrNull(key string, value *int64) {
	if value == nil {
		o.raw(key, nil)
		return
	}
	o.integer(key, *value)
}

// signature writes a signature, null for what a contract emitted.
func (o *object) signature(value string) {
	if value == "" {
		o.raw("signature", nil)
		return
	}
	o.text("signature", value)
}

// seconds writes a time as a number that has a fraction; the zero time is null.
func (o *object) seconds(key string, t time.Time) {
	o.key(key)
	if t.IsZero() {
		o.buf = append(o.buf, "null"...)
		return
	}
	text := message.FormatTime(t)
	o.buf = append(o.buf, text...)
	if !strings.Contains(text, ".") {
		o.buf = append(o.buf, ".0"...)
	}
}
