package message

import (
	"bytes"
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// decoder reads JSON with the lenience of the reference implementation and
// keeps the first rule that is broken, so that readers need no checks between
// fields.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = invalid(format, args...)
	}
}

// node is one JSON value and the path that names it in a verdict. The zero raw
// text means absent.
type node struct {
	d    *decoder
	raw  json.RawMessage
	path string
}

func (n node) absent() bool { return len(n.raw) == 0 }
func (n node) null() bool   { return n.absent() || bytes.Equal(n.raw, []byte("null")) }

// object is the fields of a JSON object; of equal keys the last one counts.
type object struct {
	d      *decoder
	path   string
	fields map[string]json.RawMessage
}

// object reads n as a JSON object. Without known keys, others are allowed.
func (d *decoder) object(n node, known ...string) object {
	o := object{d: d, path: n.path}
	if d.err != nil {
		return o
	}
	if raw := bytes.TrimLeft(n.raw, " \t\r\n"); len(raw) == 0 || raw[0] != '{' {
		d.fail("%s is not an object", n.path)
		return o
	}
	if err := json.Unmarshal(n.raw, &o.fields); err != nil {
		d.fail("%s is not an object: %v", n.path, err)
		return o
	}
	if len(known) == 0 {
		return o
	}
	var extra []string
	for k := range o.fields {
		if !slices.Contains(known, k) {
			extra = append(extra, k)
		}
	}
	if len(extra) > 0 {
		slices.Sort(extra)
		d.fail("%s has the unknown key %.80q", n.path, extra[0])
	}
	return o
}

// maybe returns the field, absent if there is none.
func (o object) maybe(key string) node {
	return node{d: o.d, raw: o.fields[key], path: o.path + "." + key}
}

// need returns the field and fails without it.
func (o object) need(key string) node {
	n := o.maybe(key)
	if n.absent() {
		o.d.fail("%s is missing", n.path)
	}
	return n
}

// list returns the elements of an array of at most limit; null and absent are
// empty.
func (n node) list(limit int) []node {
	if n.d.err != nil || n.null() {
		return nil
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(n.raw, &raws); err != nil {
		n.d.fail("%s is not a list", n.path)
		return nil
	}
	if len(raws) > limit {
		n.d.fail("%s has %d elements, at most %d are allowed", n.path, len(raws), limit)
		return nil
	}
	out := make([]node, len(raws))
	for i, raw := range raws {
		out[i] = node{d: n.d, raw: raw, path: n.path + "[" + strconv.Itoa(i) + "]"}
	}
	return out
}

// text reads a text of least to limit characters.
func (n node) text(least, limit int) string {
	if n.d.err != nil {
		return ""
	}
	var s *string
	if err := json.Unmarshal(n.raw, &s); err != nil || s == nil {
		n.d.fail("%s is not a text", n.path)
		return ""
	}
	switch count := utf8.RuneCountInString(*s); {
	case count < least:
		n.d.fail("%s is empty", n.path)
	case count > limit:
		n.d.fail("%s has %d characters, at most %d are allowed", n.path, count, limit)
	}
	return *s
}

// textOrNull reads an optional text.
func (n node) textOrNull(limit int) *string {
	if n.d.err != nil || n.null() {
		return nil
	}
	s := n.text(0, limit)
	return &s
}

// word reads a text that must be one of the given ones.
func (n node) word(words ...string) string {
	s := n.text(0, MaxTextBytes)
	if n.d.err == nil && !slices.Contains(words, s) {
		n.d.fail("%s is %.80q, want one of %s", n.path, s, strings.Join(words, ", "))
	}
	return s
}

// hash reads an item hash.
func (n node) hash() ItemHash {
	s := n.text(0, MaxTextBytes)
	if n.d.err != nil {
		return ""
	}
	h, err := ParseItemHash(s)
	if err != nil {
		n.d.fail("%s: %v", n.path, err)
	}
	return h
}

func (n node) hashOrNull() *ItemHash {
	if n.d.err != nil || n.null() {
		return nil
	}
	h := n.hash()
	return &h
}

// signature reads a signature; some clients write one that is a JSON object as
// the object itself, which is kept as its text.
func (n node) signature() string {
	if n.d.err != nil || n.null() {
		return ""
	}
	if n.raw[0] != '{' {
		return n.text(0, MaxTextBytes)
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, n.raw); err != nil {
		n.d.fail("%s is not JSON: %v", n.path, err)
	}
	if buf.Len() > MaxTextBytes {
		n.d.fail("%s has %d bytes, at most %d are allowed", n.path, buf.Len(), MaxTextBytes)
	}
	return buf.String()
}

// boolean reads a truth value in any form that the reference accepts: a JSON
// boolean, 0 or 1, or one of the usual words.
func (n node) boolean(absent bool) bool {
	if n.d.err != nil || n.absent() {
		return absent
	}
	word := strings.ToLower(strings.Trim(string(n.raw), `"`))
	switch word {
	case "true", "1", "1.0":
		return true
	case "false", "0", "0.0":
		return false
	}
	if n.raw[0] == '"' {
		switch word {
		case "t", "yes", "y", "on":
			return true
		case "f", "no", "n", "off":
			return false
		}
	}
	n.d.fail("%s is not true or false", n.path)
	return false
}

// number reads an exact number: a JSON number, a text that holds one, or a
// boolean as 0 or 1.
func (n node) number() *big.Rat {
	const charsMax, exponentMax = 64, 64 // no number of the protocol needs more
	zero := new(big.Rat)
	if n.d.err != nil {
		return zero
	}
	s := strings.TrimSpace(strings.Trim(string(n.raw), `"`))
	switch {
	case string(n.raw) == "true":
		s = "1"
	case string(n.raw) == "false":
		s = "0"
	}
	if len(s) == 0 || len(s) > charsMax || strings.Trim(s, "+-0123456789.eE") != "" {
		n.d.fail("%s is not a number", n.path)
		return zero
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exp, ok := new(big.Int).SetString(s[i+1:], 10)
		if !ok || exp.CmpAbs(big.NewInt(exponentMax)) > 0 {
			n.d.fail("%s is not a number of a sensible size", n.path)
			return zero
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		n.d.fail("%s is not a number", n.path)
		return zero
	}
	return r
}

// integer reads a whole number within bounds; 1.0 and "1" count as 1.
func (n node) integer(least, limit int64) int64 {
	r := n.number()
	if n.d.err != nil {
		return 0
	}
	if !r.IsInt() {
		n.d.fail("%s is not a whole number", n.path)
		return 0
	}
	if !r.Num().IsInt64() || r.Num().Int64() < least || r.Num().Int64() > limit {
		n.d.fail("%s is %s, want %d to %d", n.path, r.Num(), least, limit)
		return 0
	}
	return r.Num().Int64()
}

// integerOr is integer with a default for an absent field.
func (n node) integerOr(absent, least, limit int64) int64 {
	if n.d.err != nil || n.absent() {
		return absent
	}
	return n.integer(least, limit)
}

// strictInteger reads a whole number that is written as one.
func (n node) strictInteger(least, limit int64) int64 {
	if n.d.err == nil && strings.Trim(string(n.raw), "-0123456789") != "" {
		n.d.fail("%s is not a whole number", n.path)
	}
	return n.integer(least, limit)
}

// seconds reads a time in Unix seconds.
func (n node) seconds() time.Time {
	r := n.number()
	if n.d.err != nil {
		return time.Time{}
	}
	if r.Sign() < 0 || r.Cmp(new(big.Rat).SetInt64(timeMax)) > 0 {
		n.d.fail("%s is not between 0 and %d", n.path, int64(timeMax))
		return time.Time{}
	}
	us := r.Mul(r, new(big.Rat).SetInt64(1e6))
	return time.UnixMicro(new(big.Int).Quo(us.Num(), us.Denom()).Int64()).UTC()
}

// time reads a time in Unix seconds or in ISO 8601; without an offset it is UTC.
func (n node) time() time.Time {
	if n.d.err != nil || len(n.raw) == 0 || n.raw[0] != '"' || !strings.ContainsAny(string(n.raw), "-T:") {
		return n.seconds()
	}
	s := strings.ToUpper(strings.Replace(n.text(0, MaxTextBytes), " ", "T", 1))
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly} {
		t, err := time.Parse(layout, s)
		if err == nil && t.Unix() >= 0 && t.Unix() <= timeMax {
			return t.UTC().Truncate(time.Microsecond)
		}
	}
	n.d.fail("%s is %.80q, want seconds since 1970 or an ISO 8601 time", n.path, s)
	return time.Time{}
}

// dict reads an object of at most limit fields, values as they are.
func (n node) dict(limit int) map[string]json.RawMessage {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n)
	if len(o.fields) > limit {
		n.d.fail("%s has %d entries, at most %d are allowed", n.path, len(o.fields), limit)
	}
	return o.fields
}
