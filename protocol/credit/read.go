package credit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// field is a value of a content, or the place of one that is not there. The
// first rule that is broken is kept, so that readers need no checks between
// fields. Keys are exact, and of equal ones the last counts.
type field struct {
	err   *error
	up    *field
	name  string
	value any
	there bool
}

// read returns the content as a field. An empty one, of any type, says nothing,
// to the reference too.
func read(raw json.RawMessage) (root field, some bool, err error) {
	if len(raw) == 0 {
		return field{}, false, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	root = field{err: new(error), name: "content", there: true}
	if err := d.Decode(&root.value); err != nil {
		return field{}, false, message.Reject(message.CodeInvalidFormat, "content is not JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return field{}, false, message.Reject(message.CodeInvalidFormat, "content is more than one JSON value")
	}
	return root, !empty(root.value), nil
}

// empty reports whether a value counts as none.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func (f field) verdict() error { return *f.err }

func (f field) fail(format string, args ...any) {
	if *f.err == nil {
		*f.err = message.Reject(message.CodeInvalidFormat, "%s "+format, append([]any{f.path()}, args...)...)
	}
}

func (f field) path() string {
	if f.up == nil {
		return f.name
	}
	return f.up.path() + f.name
}

func (f field) null() bool { return f.value == nil }

// get returns a field of an object.
func (f field) get(key string) field {
	out := field{err: f.err, up: &f, name: "." + key}
	object, ok := f.value.(map[string]any)
	if !ok {
		f.fail("is not an object")
		return out
	}
	out.value, out.there = object[key]
	return out
}

// need is get for what must be there.
func (f field) need(key string) field {
	out := f.get(key)
	if !out.there {
		out.fail("is missing")
	}
	return out
}

// list returns the elements of a list that must have some.
func (f field) list() []field {
	values, ok := f.value.([]any)
	if !ok || len(values) == 0 {
		f.fail("is not a list with elements")
		return nil
	}
	out := make([]field, len(values))
	for i, v := range values {
		out[i] = field{err: f.err, up: &f, name: "[" + strconv.Itoa(i) + "]", value: v, there: true}
	}
	return out
}

// text reads a text. No database of the network can hold a zero byte.
func (f field) text() string {
	s, ok := f.value.(string)
	switch {
	case !ok:
		f.fail("is not a text")
	case strings.ContainsRune(s, 0):
		f.fail("has a zero byte")
	}
	return s
}

// maybeText reads a text that may be null; the empty one is the same.
func (f field) maybeText() string {
	if f.null() {
		return ""
	}
	return f.text()
}

// address reads a text that is not blank.
func (f field) address() string {
	s := f.text()
	if strings.TrimSpace(s) == "" {
		f.fail("is empty")
	}
	return s
}

// strict reads a whole number as JSON writes it: no text, no fraction, no
// exponent.
func (f field) strict() (n int64) {
	literal, ok := f.value.(json.Number)
	if !ok || strings.ContainsAny(literal.String(), ".eE") {
		f.fail("is not an integer")
		return 0
	}
	n, err := literal.Int64()
	if err != nil {
		f.fail("is %.80s, which is out of range", literal)
	}
	return n
}

// amount reads a positive amount and returns it in credits as well.
func (f field) amount(unit int64) (raw, credits int64) {
	raw = f.strict()
	switch {
	case raw <= 0:
		f.fail("is %d, want more than 0", raw)
		return 1, 1
	case raw > math.MaxInt64/unit:
		f.fail("is %d, which is out of range", raw)
		return 1, 1
	}
	return raw, raw * unit
}

// wholeText is a whole number in a text, as the reference reads it.
var wholeText = regexp.MustCompile(`^[+-]?\d+(_\d+)*(\.0*)?$`)

// whole reads a whole number as leniently as the reference: 1.0, "1" and true
// are 1.
func (f field) whole(least, most int64) int64 {
	n, err := int64(0), strconv.ErrSyntax
	switch v := f.value.(type) {
	case bool:
		if err = nil; v {
			n = 1
		}
	case string:
		if s := strings.TrimSpace(v); wholeText.MatchString(s) {
			s, _, _ = strings.Cut(strings.ReplaceAll(s, "_", ""), ".")
			n, err = strconv.ParseInt(s, 10, 64)
		}
	case json.Number:
		if n, err = v.Int64(); err != nil {
			var float float64
			if float, err = v.Float64(); err == nil && (float != math.Trunc(float) || math.Abs(float) >= math.MaxInt64) {
				err = strconv.ErrRange
			}
			n = int64(float)
		}
	}
	if err != nil || n < least || n > most {
		f.fail("is no whole number from %d to %d", least, most)
		return 0
	}
	return n
}

// maybeWhole reads a whole number that may be null.
func (f field) maybeWhole() *int64 {
	if f.null() {
		return nil
	}
	n := f.whole(0, math.MaxInt64)
	return &n
}

// The milliseconds of the times that the reference can hold, without the first.
const (
	millisMin = -62_135_596_799_999
	millisMax = 253_402_300_799_999
)

// expiration reads milliseconds; null and 0 are never.
func (f field) expiration() time.Time {
	if f.null() {
		return time.Time{}
	}
	ms := f.whole(millisMin, millisMax)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// decimal reads a decimal number, or a text that is one.
func (f field) decimal() Decimal {
	var s string
	switch v := f.value.(type) {
	case string:
		s = strings.ReplaceAll(strings.TrimSpace(v), "_", "")
	case json.Number:
		s = v.String()
	}
	d, err := ParseDecimal(s)
	if err != nil {
		f.fail("is not a decimal number")
	}
	return d
}

// maybeDecimal reads a decimal number that may be null.
func (f field) maybeDecimal() *Decimal {
	if f.null() {
		return nil
	}
	d := f.decimal()
	return &d
}

// bonus reads a whole number that may be anything empty.
func (f field) bonus() *int64 {
	if empty(f.value) {
		return nil
	}
	if text, ok := f.value.(string); ok {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			f.fail("is no whole number")
		}
		return &n
	}
	n := f.strict()
	return &n
}

// seconds checks a time that nobody keeps: a number, or a text that is one.
func (f field) seconds() {
	switch v := f.value.(type) {
	case nil, bool, json.Number:
		return
	case string:
		if _, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return
		}
	}
	f.fail("is not a number")
}
