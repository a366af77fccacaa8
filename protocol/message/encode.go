package message

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
)

// writer writes JSON in one of two forms. The wire form leaves out what is not
// set, as clients send it. The model form has every field, with null for what
// is not set, and free values in one order.
type writer struct {
	buf   []byte
	model bool
}

// wire returns the wire form of a content.
func wire(write func(w *writer)) ([]byte, error) {
	w := new(writer)
	write(w)
	return w.buf, nil
}

// next writes the comma between two members.
func (w *writer) next() {
	if n := len(w.buf); n > 0 && w.buf[n-1] != '{' && w.buf[n-1] != '[' && w.buf[n-1] != ':' {
		w.buf = append(w.buf, ',')
	}
}

func (w *writer) open()  { w.next(); w.buf = append(w.buf, '{') }
func (w *writer) close() { w.buf = append(w.buf, '}') }

func (w *writer) key(key string) {
	w.next()
	w.buf = append(appendText(w.buf, key), ':')
}

// null writes what is not set.
func (w *writer) null(key string) {
	if w.model {
		w.always(key)
	}
}

// always writes a null in both forms, where it says something else than what
// is left out.
func (w *writer) always(key string) {
	w.key(key)
	w.buf = append(w.buf, "null"...)
}

func (w *writer) text(key, s string) {
	w.key(key)
	w.buf = appendText(w.buf, s)
}

// textOrNull writes an optional text of any named type.
func textOrNull[T ~string](w *writer, key string, s *T) {
	if s == nil {
		w.null(key)
		return
	}
	w.text(key, string(*s))
}

// texts writes a list, null if it is nil.
func texts[T ~string](w *writer, key string, list []T) {
	if list == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.buf = append(w.buf, '[')
	for _, s := range list {
		w.next()
		w.buf = appendText(w.buf, string(s))
	}
	w.buf = append(w.buf, ']')
}

func (w *writer) boolean(key string, b bool) {
	w.key(key)
	w.buf = strconv.AppendBool(w.buf, b)
}

func (w *writer) integer(key string, v int64) {
	w.key(key)
	w.buf = strconv.AppendInt(w.buf, v, 10)
}

func (w *writer) unsigned(key string, v uint64) {
	w.key(key)
	w.buf = strconv.AppendUint(w.buf, v, 10)
}

func (w *writer) integerOrNull(key string, v *int64) {
	if v == nil {
		w.null(key)
		return
	}
	w.integer(key, *v)
}

// time writes a time as Unix seconds. A model writes whole ones with a point too.
func (w *writer) time(t time.Time) {
	w.key("time")
	w.buf = appendFloat(w.buf, asSeconds(t))
	if !w.model {
		w.buf = bytes.TrimSuffix(w.buf, []byte(".0"))
	}
}

// list writes what each writes, once per element.
func list[T any](w *writer, key string, elements []T, each func(w *writer, e *T)) {
	w.key(key)
	w.buf = append(w.buf, '[')
	for i := range elements {
		each(w, &elements[i])
	}
	w.buf = append(w.buf, ']')
}

// object writes an optional object.
func objectOrNull[T any](w *writer, key string, v *T, write func(w *writer, v *T)) {
	if v == nil {
		w.null(key)
		return
	}
	w.key(key)
	write(w, v)
}

// free writes a value that the protocol leaves to its users.
func (w *writer) free(key string, raw json.RawMessage) {
	if raw == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.value(raw)
}

func (w *writer) value(raw json.RawMessage) {
	if !w.model {
		w.buf = append(w.buf, raw...)
		return
	}
	t, err := scan(raw)
	if err != nil {
		w.buf = append(w.buf, "null"...) // only a value that no parser made
		return
	}
	w.buf = t.appendFree(w.buf, 0, byLength)
}

// dict writes an object of free values, null if it is nil.
func (w *writer) dict(key string, fields map[string]json.RawMessage) {
	if fields == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.members(fields)
}

func (w *writer) members(fields map[string]json.RawMessage) {
	w.buf = append(w.buf, '{')
	for _, k := range sortedKeys(fields) {
		w.key(k)
		w.value(fields[k])
	}
	w.buf = append(w.buf, '}')
}

// words writes an object of texts, null if it is nil.
func (w *writer) words(key string, fields map[string]string) {
	if fields == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.buf = append(w.buf, '{')
	for _, k := range sortedKeys(fields) {
		w.text(k, fields[k])
	}
	w.buf = append(w.buf, '}')
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return byLength([]byte(a), []byte(b)) })
	return keys
}

// byLength orders keys as the reference's database keeps them: the shorter
// first, then by bytes.
func byLength(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// appendFree writes a value with its keys in order, the last of equal ones, and
// its numbers in one form.
func (t *tree) appendFree(dst []byte, at int32, order func(a, b []byte) int) []byte {
	switch v := t.values[at]; v.kind {
	case kindObject:
		return t.appendFields(dst, at, order)
	case kindList:
		dst = append(dst, '[')
		for e := at + 1; e < v.next; e = t.values[e].next {
			if e > at+1 {
				dst = append(dst, ',')
			}
			dst = t.appendFree(dst, e, order)
		}
		return append(dst, ']')
	case kindEscaped:
		return appendText(dst, t.text(at))
	case kindNumber:
		return appendNumber(dst, t.bytes(at))
	default:
		return append(dst, t.bytes(at)...)
	}
}

type member struct {
	key   []byte
	value int32
}

func (t *tree) appendFields(dst []byte, at int32, order func(a, b []byte) int) []byte {
	const membersUsual = 16
	members := make([]member, 0, membersUsual)
	for key := at + 1; key < t.values[at].next; key = t.values[key+1].next {
		members = append(members, member{t.keyBytes(key), key + 1})
	}
	slices.SortStableFunc(members, func(a, b member) int { return order(a.key, b.key) })
	dst = append(dst, '{')
	first := true
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(m.key, members[i+1].key) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendText(dst, m.key), ':')
		dst = t.appendFree(dst, m.value, order)
	}
	return append(dst, '}')
}

// keyBytes returns what a key says.
func (t *tree) keyBytes(at int32) []byte {
	v := t.values[at]
	if v.kind == kindText {
		return t.raw[v.start+1 : v.end-1]
	}
	return []byte(t.text(at))
}

// appendText writes a text with the escapes that JSON demands and no others,
// as the serialisers of the reference do.
func appendText[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(append(dst, s[start:i]...), '\\')
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\b':
			dst = append(dst, 'b')
		case '\t':
			dst = append(dst, 't')
		case '\n':
			dst = append(dst, 'n')
		case '\f':
			dst = append(dst, 'f')
		case '\r':
			dst = append(dst, 'r')
		default:
			dst = append(dst, 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// appendNumber writes a whole number as it is and any other as a float64.
func appendNumber(dst, literal []byte) []byte {
	if bytes.ContainsAny(literal, ".eE") {
		f, _ := strconv.ParseFloat(string(literal), 64) // scan has read it
		return appendFloat(dst, f)
	}
	if string(literal) == "-0" {
		return append(dst, '0')
	}
	return append(dst, literal...)
}

// appendFloat writes a float64 with the fewest digits that read back as it, in
// the form of the reference's serialisers: with a point or an exponent, and an
// exponent beyond sixteen digits or four zeros after the point.
func appendFloat(dst []byte, f float64) []byte {
	const pointMin, pointMax = 1e-5, 1e16
	if abs := math.Abs(f); abs != 0 && (abs < pointMin || abs >= pointMax) {
		var buf [32]byte
		digits, power, _ := bytes.Cut(strconv.AppendFloat(buf[:0], f, 'e', -1, 64), []byte("e"))
		dst = append(append(dst, digits...), 'e')
		if power[0] == '-' {
			dst = append(dst, '-')
		}
		return append(dst, bytes.TrimLeft(power, "+-0")...)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}
