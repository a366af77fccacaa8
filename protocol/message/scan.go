package message

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind tells the values of JSON apart.
type kind byte

const (
	kindNull kind = iota
	kindFalse
	kindTrue
	kindNumber
	kindText
	kindEscaped // a text that holds escape sequences
	kindObject
	kindList
)

// depthMax is the nesting limit of the reference reader.
const depthMax = 1024

// value is one JSON value of a tree: its bytes, and the index after the last
// value inside it.
type value struct {
	start, end, next int32
	kind             kind
}

// tree is a JSON text that was read once: all its values in the order of the
// text. A container is followed by what it holds, a field by its value.
type tree struct {
	raw    []byte
	values []value
}

// scan reads a JSON text as strictly as the reference: no bytes that are not
// UTF-8, no halves of surrogate pairs, no NaN, no number beyond a float64 and
// no deep nesting.
func scan(raw []byte) (tree, error) {
	const valuesUsual, bytesUsual = 64, 12 // values of a content, and bytes of a value
	if !utf8.Valid(raw) {
		return tree{}, fmt.Errorf("not UTF-8")
	}
	if len(raw) > math.MaxInt32 {
		return tree{}, fmt.Errorf("longer than %d bytes", math.MaxInt32)
	}
	s := scanner{tree: tree{raw: raw, values: make([]value, 0, min(valuesUsual, len(raw)/bytesUsual+4))}}
	s.space()
	if err := s.value(1); err != nil {
		return tree{}, err
	}
	if s.space(); s.pos != len(raw) {
		return tree{}, s.bad()
	}
	return s.tree, nil
}

type scanner struct {
	tree
	pos int
}

func (s *scanner) bad() error { return fmt.Errorf("not JSON at byte %d", s.pos) }

// peek returns the next byte, 0 at the end: no JSON text holds one outside of
// its texts.
func (s *scanner) peek() byte {
	if s.pos < len(s.raw) {
		return s.raw[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.raw) {
		switch s.raw[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// value reads one value, which is the depth-th container if it is one.
func (s *scanner) value(depth int) error {
	at, start := len(s.values), s.pos
	s.values = append(s.values, value{})
	k, err := s.body(depth)
	s.values[at] = value{start: int32(start), end: int32(s.pos), next: int32(len(s.values)), kind: k}
	return err
}

func (s *scanner) body(depth int) (kind, error) {
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{':
		return kindObject, s.container('}', depth, s.field)
	case c == '[':
		return kindList, s.container(']', depth, s.value)
	case c == '-' || c >= '0' && c <= '9':
		return kindNumber, s.number()
	case c == 't':
		return kindTrue, s.word("true")
	case c == 'f':
		return kindFalse, s.word("false")
	case c == 'n':
		return kindNull, s.word("null")
	default:
		return 0, s.bad()
	}
}

func (s *scanner) word(word string) error {
	if len(s.raw)-s.pos < len(word) || string(s.raw[s.pos:s.pos+len(word)]) != word {
		return s.bad()
	}
	s.pos += len(word)
	return nil
}

// container reads a list or an object up to its last byte.
func (s *scanner) container(last byte, depth int, member func(depth int) error) error {
	if depth > depthMax {
		return fmt.Errorf("nested deeper than %d", depthMax)
	}
	s.pos++
	if s.space(); s.peek() == last {
		s.pos++
		return nil
	}
	for {
		if err := member(depth + 1); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case last:
			s.pos++
			return nil
		default:
			return s.bad()
		}
	}
}

func (s *scanner) field(depth int) error {
	if s.peek() != '"' {
		return s.bad()
	}
	if err := s.value(depth); err != nil {
		return err
	}
	if s.space(); s.peek() != ':' {
		return s.bad()
	}
	s.pos++
	s.space()
	return s.value(depth)
}

func (s *scanner) text() (kind, error) {
	k := kindText
	for s.pos++; s.pos < len(s.raw); {
		switch c := s.raw[s.pos]; {
		case c == '"':
			s.pos++
			return k, nil
		case c == '\\':
			k = kindEscaped
			size, err := escape(s.raw[s.pos:])
			if err != nil {
				return k, err
			}
			s.pos += size
		case c < ' ':
			return k, s.bad()
		default:
			s.pos++
		}
	}
	return k, s.bad()
}

func (s *scanner) number() error {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	switch c := s.peek(); {
	case c == '0':
		s.pos++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return s.bad()
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.bad()
		}
	}
	power := false
	if c := s.peek(); c == 'e' || c == 'E' {
		power = true
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.bad()
		}
	}
	const digitsFit = 300 // a number of so many digits fits a float64
	if power || s.pos-start > digitsFit {
		if _, err := strconv.ParseFloat(string(s.raw[start:s.pos]), 64); err != nil {
			return fmt.Errorf("number at byte %d is of no sensible size", start)
		}
	}
	return nil
}

// digits skips digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

// escape returns the length of the escape sequence that b starts with; a
// surrogate must be the high half followed by the low half.
func escape(b []byte) (int, error) {
	const short, long = 2, 6 // \n and \uXXXX
	if len(b) < short {
		return 0, fmt.Errorf("not JSON: text ends in an escape")
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return short, nil
	case 'u':
	default:
		return 0, fmt.Errorf("not JSON: escape of %q", b[1])
	}
	hi, ok := hex4(b[short:])
	switch {
	case !ok:
		return 0, fmt.Errorf("not JSON: malformed escape")
	case hi >= 0xDC00 && hi <= 0xDFFF:
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	case hi < 0xD800 || hi > 0xDBFF:
		return long, nil
	}
	if len(b) < 2*long || b[long] != '\\' || b[long+1] != 'u' {
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	}
	if lo, ok := hex4(b[long+2:]); !ok || lo < 0xDC00 || lo > 0xDFFF {
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	}
	return 2 * long, nil
}

// hex4 reads four hex digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// bytes returns the JSON of a value.
func (t *tree) bytes(at int32) []byte {
	v := t.values[at]
	return t.raw[v.start:v.end]
}

// text returns what a text says.
func (t *tree) text(at int32) string {
	v := t.values[at]
	inner := t.raw[v.start+1 : v.end-1]
	if v.kind == kindText {
		return string(inner)
	}
	var b strings.Builder
	b.Grow(len(inner))
	unescape(&b, inner)
	return b.String()
}

// is compares a text without making one.
func (t *tree) is(at int32, s string) bool {
	v := t.values[at]
	if v.kind == kindText {
		return string(t.raw[v.start+1:v.end-1]) == s
	}
	return t.text(at) == s
}

// unescape writes what a text of valid escape sequences says.
func unescape(dst *strings.Builder, b []byte) {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			dst.Write(b)
			return
		}
		dst.Write(b[:i])
		b = b[i:]
		switch c := b[1]; c {
		case 'b':
			dst.WriteByte('\b')
		case 'f':
			dst.WriteByte('\f')
		case 'n':
			dst.WriteByte('\n')
		case 'r':
			dst.WriteByte('\r')
		case 't':
			dst.WriteByte('\t')
		case 'u':
			r, _ := hex4(b[2:])
			if r >= 0xD800 && r <= 0xDBFF {
				lo, _ := hex4(b[8:])
				r = 0x10000 + (r-0xD800)<<10 + (lo - 0xDC00)
				b = b[6:]
			}
			dst.WriteRune(r)
			b = b[4:]
		default:
			dst.WriteByte(c)
		}
		b = b[2:]
	}
}
