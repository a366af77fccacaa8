package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// anyLength is the limit of what the protocol does not bound; the size of a
// message bounds it.
const anyLength = math.MaxInt

// absent is the place of a value that is not there.
const absent = -1

// decoder reads a tree with the lenience of the reference implementation and
// keeps the first rule that is broken, so that readers need no checks between
// fields.
type decoder struct {
	tree
	name string // of the root, in verdicts
	err  error
}

// decode scans a JSON text and returns its root.
func decode(name string, raw []byte) (*decoder, node, error) {
	t, err := scan(raw)
	if err != nil {
		return nil, node{}, invalid("%s: %v", name, err)
	}
	d := &decoder{tree: t, name: name}
	return d, node{d: d}, nil
}

// node is one value, or the place in an object where one is absent.
type node struct {
	d   *decoder
	at  int32
	of  int32 // the object it is a field of, if absent
	key string
}

func (n node) kind() kind   { return n.d.values[n.at].kind }
func (n node) absent() bool { return n.at == absent }
func (n node) null() bool   { return n.absent() || n.kind() == kindNull }

// skip reports whether there is nothing to read: a rule is broken already, or
// an optional value is absent or null.
func (n node) skip() bool { return n.d.err != nil || n.null() }

// isText reports whether the value is a text.
func (n node) isText() bool {
	return !n.absent() && (n.kind() == kindText || n.kind() == kindEscaped)
}

// raw returns the bytes of the value.
func (n node) raw() json.RawMessage {
	if n.absent() {
		return nil
	}
	return n.d.bytes(n.at)
}

// fail keeps the first verdict. The path of the value comes before it.
func (n node) fail(format string, args ...any) {
	if n.d.err == nil {
		n.d.err = invalid("%s "+format, append([]any{n.path()}, args...)...)
	}
}

// path names the value in a verdict. It is found only when one is given.
func (n node) path() string {
	if n.absent() {
		return n.d.path(n.of) + "." + n.key
	}
	return n.d.path(n.at)
}

func (d *decoder) path(target int32) string {
	path, at := d.name, int32(0)
	for at != target {
		child := at + 1
		if d.values[at].kind == kindList {
			i := 0
			for ; d.values[child].next <= target; i++ {
				child = d.values[child].next
			}
			path += "[" + strconv.Itoa(i) + "]"
			at = child
			continue
		}
		for d.values[child+1].next <= target {
			child = d.values[child+1].next
		}
		path += "." + d.text(child)
		at = child + 1
	}
	return path
}

// object is the fields of a JSON object; of equal keys the last one counts.
type object struct{ node }

// object reads n as an object. Without known keys, others are allowed.
func (n node) object(known ...string) object {
	if n.d.err != nil {
		return object{node{d: n.d, at: absent}}
	}
	if n.absent() || n.kind() != kindObject {
		n.fail("is not an object")
		return object{node{d: n.d, at: absent}}
	}
	o := object{n}
	if len(known) > 0 {
		o.forbid(known)
	}
	return o
}

// forbid refuses keys that are not known.
func (o object) forbid(known []string) {
	for key := range o.fields {
		if !slices.ContainsFunc(known, func(k string) bool { return o.d.is(key, k) }) {
			o.fail("has the unknown key %.80q", o.d.text(key))
			return
		}
	}
}

// fields yields the places of the keys and of their values, in the order of
// the text.
func (o object) fields(yield func(key, value int32) bool) {
	if o.absent() {
		return
	}
	end := o.d.values[o.at].next
	for key := o.at + 1; key < end; key = o.d.values[key+1].next {
		if !yield(key, key+1) {
			return
		}
	}
}

// maybe returns the field, absent if there is none.
func (o object) maybe(key string) node {
	n := node{d: o.d, at: absent, of: o.at, key: key}
	for k, v := range o.fields {
		if o.d.is(k, key) {
			n.at = v
		}
	}
	return n
}

// has reports whether the object has the key, even with null.
func (o object) has(key string) bool { return !o.maybe(key).absent() }

// need returns the field and fails without it.
func (o object) need(key string) node {
	n := o.maybe(key)
	if n.d.err == nil && n.absent() {
		n.fail("is missing")
	}
	return n
}

// list returns the elements of an array of at most limit; null and absent are
// empty.
func (n node) list(limit int) []node {
	if n.skip() {
		return nil
	}
	if n.kind() != kindList {
		n.fail("is not a list")
		return nil
	}
	count, end := 0, n.d.values[n.at].next
	for at := n.at + 1; at < end; at = n.d.values[at].next {
		count++
	}
	if count > limit {
		n.fail("has %d elements, at most %d are allowed", count, limit)
		return nil
	}
	out := make([]node, 0, count)
	for at := n.at + 1; at < end; at = n.d.values[at].next {
		out = append(out, node{d: n.d, at: at})
	}
	return out
}

// text reads a text of least to limit characters.
func (n node) text(least, limit int) string {
	if n.d.err != nil {
		return ""
	}
	if !n.isText() {
		n.fail("is not a text")
		return ""
	}
	s := n.d.text(n.at)
	if len(s) >= least && len(s) <= limit {
		return s // there are no more characters than bytes
	}
	switch count := utf8.RuneCountInString(s); {
	case count < least:
		n.fail("is empty")
	case count > limit:
		n.fail("has %d characters, at most %d are allowed", count, limit)
	}
	return s
}

// textOrNull reads an optional text.
func (n node) textOrNull(limit int) *string {
	if n.skip() {
		return nil
	}
	s := n.text(0, limit)
	return &s
}

// texts reads a list of at most count texts, nil if it is null or absent.
func (n node) texts(count, limit int) []string {
	nodes := n.list(count)
	if n.skip() {
		return nil
	}
	out := make([]string, len(nodes))
	for i, e := range nodes {
		out[i] = e.text(0, limit)
	}
	return out
}

// word reads a text that must be one of the given ones, which it returns.
func (n node) word(words ...string) string {
	if n.d.err != nil {
		return ""
	}
	if !n.isText() {
		n.fail("is not a text")
		return ""
	}
	for _, w := range words {
		if n.d.is(n.at, w) {
			return w
		}
	}
	n.fail("is %.80q, want one of %s", n.d.text(n.at), strings.Join(words, ", "))
	return ""
}

// wordOrNull reads an optional word.
func (n node) wordOrNull(words ...string) *string {
	if n.skip() {
		return nil
	}
	s := n.word(words...)
	return &s
}

// hash reads an item hash.
func (n node) hash() ItemHash {
	s := n.text(0, anyLength)
	if n.d.err != nil {
		return ""
	}
	h, err := ParseItemHash(s)
	if err != nil {
		n.fail("is no item hash: %v", err)
	}
	return h
}

func (n node) hashOrNull() *ItemHash {
	if n.skip() {
		return nil
	}
	h := n.hash()
	return &h
}

// hashes reads a list of item hashes.
func (n node) hashes(count int) []ItemHash {
	nodes := n.list(count)
	out := make([]ItemHash, len(nodes))
	for i, e := range nodes {
		out[i] = e.hash()
	}
	return out
}

// signature reads a signature; some clients write one that is a JSON object as
// the object itself, which is kept as its text.
func (n node) signature() string {
	if n.skip() {
		return ""
	}
	if n.kind() != kindObject {
		return n.text(0, MaxTextBytes)
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, n.raw()); err != nil {
		n.fail("is not JSON: %v", err)
	}
	if buf.Len() > MaxTextBytes {
		n.fail("has %d bytes, at most %d are allowed", buf.Len(), MaxTextBytes)
	}
	return buf.String()
}

// boolean reads a truth value in any form that the reference accepts: a JSON
// boolean, 0 or 1, or one of the usual words.
func (n node) boolean(absent bool) bool {
	if n.d.err != nil || n.absent() {
		return absent
	}
	switch n.kind() {
	case kindTrue:
		return true
	case kindFalse:
		return false
	case kindNumber:
		switch f := n.number(); f {
		case 0, 1:
			return f == 1
		}
	case kindText, kindEscaped:
		switch strings.ToLower(n.d.text(n.at)) {
		case "true", "1", "t", "yes", "y", "on":
			return true
		case "false", "0", "f", "no", "n", "off":
			return false
		}
	default:
	}
	n.fail("is not true or false")
	return false
}

// booleanOrNull reads an optional truth value.
func (n node) booleanOrNull() *bool {
	if n.skip() {
		return nil
	}
	b := n.boolean(false)
	return &b
}

// number reads a number as the reference does: a JSON number, a text that
// holds one, or a boolean as 0 or 1.
func (n node) number() float64 {
	if n.d.err != nil {
		return 0
	}
	var f float64
	err := strconv.ErrSyntax
	if !n.absent() {
		switch n.kind() {
		case kindNumber:
			f, err = strconv.ParseFloat(string(n.raw()), 64)
		case kindText, kindEscaped:
			if s := numeral(n.d.text(n.at)); strings.Trim(s, "+-0123456789.eE") == "" {
				f, err = strconv.ParseFloat(s, 64)
			}
		case kindTrue:
			return 1
		case kindFalse:
			return 0
		default:
		}
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		n.fail("is not a number of a sensible size")
	case err != nil:
		n.fail("is not a number")
	}
	return f
}

// integer reads a whole number within bounds; 1.0 and "1" count as 1.
func (n node) integer(least, limit int64) int64 {
	if n.d.err != nil {
		return 0
	}
	if s, ok := n.digits(); ok {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v < least || v > limit {
			n.fail("is %.80s, want %d to %d", s, least, limit)
			return 0
		}
		return v
	}
	f := n.number()
	switch {
	case n.d.err != nil:
		return 0
	case f != math.Trunc(f):
		n.fail("is not a whole number")
		return 0
	case f < math.MinInt64 || f >= math.MaxInt64 || int64(f) < least || int64(f) > limit:
		n.fail("is %g, want %d to %d", f, least, limit)
		return 0
	case n.isText() && strings.ContainsAny(n.d.text(n.at), "eE"):
		n.fail("is not a whole number") // as a text; as a number it is one
		return 0
	}
	return int64(f)
}

// numeral returns the number in a text: without the space around it and single
// underscores between its digits.
func numeral(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return s
	}
	return strings.ReplaceAll(s, "_", "")
}

// digits returns a whole number as it is written, for those that a float64
// does not hold exactly.
func (n node) digits() (string, bool) {
	var s string
	switch {
	case n.isText():
		s = strings.TrimPrefix(numeral(n.d.text(n.at)), "+")
	case !n.absent() && n.kind() == kindNumber:
		s = string(n.raw())
	}
	unsigned := strings.TrimPrefix(s, "-")
	return s, unsigned != "" && strings.Trim(unsigned, "0123456789") == ""
}

// integerOr is integer with a default for an absent field.
func (n node) integerOr(absent, least, limit int64) int64 {
	if n.d.err != nil || n.absent() {
		return absent
	}
	return n.integer(least, limit)
}

// integerOrNull reads an optional whole number.
func (n node) integerOrNull(least, limit int64) *int64 {
	if n.skip() {
		return nil
	}
	v := n.integer(least, limit)
	return &v
}

// strictInteger reads a whole number that is written as one.
func (n node) strictInteger(least, limit int64) int64 {
	if n.d.err == nil && !n.absent() {
		if _, ok := n.digits(); !ok || n.kind() != kindNumber {
			n.fail("is not a whole number")
		}
	}
	return n.integer(least, limit)
}

// unsigned reads a 64-bit unsigned number.
func (n node) unsigned() uint64 {
	if n.d.err != nil {
		return 0
	}
	if s, ok := n.digits(); ok {
		if v, err := strconv.ParseUint(s, 10, 64); err == nil {
			return v
		}
	} else if f := n.number(); n.d.err == nil && f >= 0 && f == math.Trunc(f) && f < 1<<64 {
		return uint64(f)
	}
	n.fail("is not an unsigned 64-bit number")
	return 0
}

// seconds reads a time in Unix seconds, to the nanosecond: enough to write the
// same number again.
func (n node) seconds() time.Time { return n.secondsTo(time.Nanosecond) }

func (n node) secondsTo(unit time.Duration) time.Time {
	f := n.number()
	if n.d.err != nil {
		return time.Time{}
	}
	if f < 0 || f > timeMax {
		n.fail("is not between 0 and %d", int64(timeMax))
		return time.Time{}
	}
	return fromSeconds(f, unit)
}

// time reads the time of an envelope, to the microsecond: Unix seconds, or ISO
// 8601, which is UTC without an offset.
func (n node) time() time.Time {
	if n.d.err != nil || !n.isText() || !strings.ContainsAny(n.d.text(n.at), "-T:") {
		return n.secondsTo(time.Microsecond)
	}
	s := strings.ToUpper(strings.Replace(n.text(0, MaxTextBytes), " ", "T", 1))
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly} {
		t, err := time.Parse(layout, s)
		if err == nil && t.Unix() >= 0 && t.Unix() < timeMax {
			// Far from now a float64 does not hold microseconds, and all nodes
			// must hold the same time.
			return fromSeconds(asSeconds(t.Truncate(time.Microsecond)), time.Microsecond)
		}
	}
	n.fail("is %.80q, want seconds since 1970 or an ISO 8601 time", s)
	return time.Time{}
}

// dict reads an object of at most limit fields, values as they are.
func (n node) dict(limit int) map[string]json.RawMessage {
	if n.skip() {
		return nil
	}
	out := map[string]json.RawMessage{}
	for k, v := range n.object().fields {
		out[n.d.text(k)] = n.d.bytes(v)
	}
	if len(out) > limit {
		n.fail("has %d entries, at most %d are allowed", len(out), limit)
	}
	return out
}

// given refuses null where the model has a default but takes no null.
func (n node) given() node {
	if n.d.err == nil && !n.absent() && n.kind() == kindNull {
		n.fail("is null")
	}
	return n
}

// messageType reads the type of a message.
func (n node) messageType() Type { return oneOf(n, types(), "a message type") }

// chain reads the code of a chain.
func (n node) chain() Chain { return oneOf(n, chains(), "a chain of this protocol") }

// oneOf reads a text that must be one of some words.
func oneOf[S ~string](n node, words []S, what string) S {
	if n.d.err == nil && n.isText() {
		for _, w := range words {
			if n.d.is(n.at, string(w)) {
				return w
			}
		}
	}
	if t := n.text(0, anyLength); n.d.err == nil {
		n.fail("is %.80q, which is not %s", t, what)
	}
	return ""
}

// into decodes a content into a value that exists.
func into[T any](dst *T, raw []byte, parse func([]byte) (*T, error)) error {
	p, err := parse(raw)
	if err != nil {
		return err
	}
	*dst = *p
	return nil
}
