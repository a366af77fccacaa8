package reconcile

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// RangesMax bounds the ranges of a question.
	RangesMax = 1024
	// PartsMax bounds the parts into which a range is cut.
	PartsMax = 16
	// QuestionMax bounds a question, in bytes. It fits into a frame of JSON as base64.
	QuestionMax = 1 << 18
	// AnswerMax bounds an answer, in bytes. It fits too.
	AnswerMax = 1 << 19

	version = 1

	// rangeMax bounds one range of a question: two points, a count and a fingerprint.
	rangeMax = 1 + 2*pointMax + binary.MaxVarintLen64 + len(Print{})
	pointMax = binary.MaxVarintLen64 + 1 + textMax
	textMax  = 65 // Of a hash, and after.
)

// Asked is a range of a question, with what who asks has in it.
type Asked struct {
	Range
	N     int64 // Items; of none all are to be listed.
	Print Print
}

// Question asks about ranges, which are in order and have no item in common.
type Question []Asked

// Kind is how a range is answered.
type Kind uint8

// The kinds of answers.
const (
	Equal  Kind = iota // Both have the same.
	Listed             // These are all items that there are.
	Begun              // These are the first; the range from the last on is to be asked for again.
	Cut                // These are the fingerprints of its parts.
)

// Told is the answer to one range.
type Told struct {
	Kind  Kind
	Items []Point // Listed, Begun: in order.
	Parts []Claim // Cut.
}

// Claim is a part of a range, and what the node has in it.
type Claim struct {
	To    Point // The last one's is that of the range.
	N     int64
	Print Print
}

// Answer answers the first ranges of a question, at least one of them. The others are
// to be asked for again.
type Answer []Told

// How a hash is written: its length and its letters, or one of these.
const (
	hashOfDigest = 0xff // The 32 bytes of a storage hash.
	afterDigest  = 0xfe // The same for the bound after it.
)

// appendPoint writes a point that does not come before another one in time.
func appendPoint(out []byte, p Point, base int64) []byte {
	out = binary.AppendUvarint(out, uint64(p.At)-uint64(base))
	text, isAfter := strings.CutSuffix(string(p.Hash), after)
	if digest, ok := message.ItemHash(text).Digest(); ok {
		tag := byte(hashOfDigest)
		if isAfter {
			tag = afterDigest
		}
		return append(append(out, tag), digest[:]...)
	}
	return append(append(out, byte(len(p.Hash))), p.Hash...)
}

// Encode writes the question.
func (q Question) Encode() []byte {
	out := binary.AppendUvarint([]byte{version}, uint64(len(q)))
	at := Start()
	for i := range q {
		a := &q[i]
		if a.From == at && i > 0 {
			out = append(out, 0)
		} else {
			out = appendPoint(append(out, 1), a.From, at.At)
		}
		out = appendPoint(out, a.To, a.From.At)
		if out = binary.AppendUvarint(out, uint64(a.N)); a.N > 0 {
			out = append(out, a.Print[:]...)
		}
		at = a.To
	}
	return out
}

// Encode writes the answer to a question.
func (a Answer) Encode(q Question) []byte {
	out := binary.AppendUvarint([]byte{version}, uint64(len(a)))
	for i := range a {
		out = a[i].append(out, q[i].Range)
	}
	return out
}

func (t *Told) append(out []byte, r Range) []byte {
	out = append(out, byte(t.Kind))
	base := r.From.At
	switch t.Kind {
	case Equal:
	case Listed, Begun:
		out = binary.AppendUvarint(out, uint64(len(t.Items)))
		for _, p := range t.Items {
			out = appendPoint(out, p, base)
			base = p.At
		}
	case Cut:
		out = binary.AppendUvarint(out, uint64(len(t.Parts)))
		for i := range t.Parts {
			p := &t.Parts[i]
			if i+1 < len(t.Parts) {
				out = appendPoint(out, p.To, base)
				base = p.To.At
			}
			if out = binary.AppendUvarint(out, uint64(p.N)); p.N > 0 {
				out = append(out, p.Print[:]...)
			}
		}
	}
	return out
}

// parser reads what was written. After the first failure it reads nothing.
type parser struct {
	raw []byte
	err error
}

var errShort = errors.New("it ends too early")

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err, p.raw = err, nil
	}
}

func (p *parser) take(n int) []byte {
	if p.err != nil || len(p.raw) < n {
		p.fail(errShort)
		return make([]byte, n)
	}
	out := p.raw[:n]
	p.raw = p.raw[n:]
	return out
}

// number reads a number in as few bytes as it can have.
func (p *parser) number() uint64 {
	v, n := binary.Uvarint(p.raw)
	if n <= 0 || n > 1 && p.raw[n-1] == 0 {
		p.fail(errShort)
		return 0
	}
	p.raw = p.raw[n:]
	return v
}

// count reads a number within bounds.
func (p *parser) count(what string, least, most int) int {
	n := p.number()
	if p.err == nil && (n < uint64(least) || n > uint64(most)) {
		p.fail(fmt.Errorf("%d %s, want %d to %d", n, what, least, most))
		return 0
	}
	return int(n)
}

// items reads a number of items, and their fingerprint if there are any.
func (p *parser) items() (n int64, of Print) {
	const most = 1 << 53
	v := p.number()
	if v > most {
		p.fail(fmt.Errorf("%d items, at most %d are allowed", v, uint64(most)))
		return 0, of
	}
	if v > 0 {
		of = Print(p.take(len(of)))
	}
	return int64(v), of
}

// point reads a point: an item, or a bound.
func (p *parser) point(base int64, bound bool) (out Point) {
	delta := p.number()
	out.At = int64(uint64(base) + delta)
	if p.err == nil && out.At < base {
		p.fail(fmt.Errorf("time %d + %d does not exist", base, delta))
	}
	switch tag := p.take(1)[0]; tag {
	case hashOfDigest, afterDigest:
		out.Hash = message.ItemHash(hex.EncodeToString(p.take(len(Sum{}.words) * 8)))
		if tag == afterDigest {
			out.Hash += after
		}
	case 0:
	default:
		out.Hash = message.ItemHash(p.take(min(int(tag), textMax+1)))
		p.checkText(string(out.Hash))
	}
	if !bound && (out.Hash == "" || strings.HasSuffix(string(out.Hash), after) || out.At >= End().At) {
		p.fail(fmt.Errorf("%d %q is no item", out.At, string(out.Hash)))
	}
	return out
}

// checkText wants a hash, or the bound after one, that is not one of a storage hash,
// which is written otherwise.
func (p *parser) checkText(text string) {
	if p.err != nil {
		return
	}
	hash, err := message.ParseItemHash(strings.TrimSuffix(text, after))
	if err == nil {
		if _, ok := hash.Digest(); ok {
			err = fmt.Errorf("hash %s is written as a text", hash)
		}
	}
	if err != nil {
		p.fail(err)
	}
}

// end wants that nothing is left.
func (p *parser) end(what string) error {
	if p.err == nil && len(p.raw) > 0 {
		p.err = fmt.Errorf("%d bytes are left", len(p.raw))
	}
	if p.err != nil {
		return fmt.Errorf("read %s: %w", what, p.err)
	}
	return nil
}

func newParser(raw []byte, most int) *parser {
	p := &parser{raw: raw}
	if len(raw) > most {
		p.fail(fmt.Errorf("%d bytes, at most %d are allowed", len(raw), most))
	} else if v := p.take(1)[0]; p.err == nil && v != version {
		p.fail(fmt.Errorf("version %d, want %d", v, version))
	}
	return p
}

// ParseQuestion reads a question and checks its order and bounds.
func ParseQuestion(raw []byte) (Question, error) {
	p := newParser(raw, QuestionMax)
	n := p.count("ranges", 1, RangesMax)
	q := make(Question, 0, min(n, len(raw)))
	at := Start()
	for i := 0; i < n && p.err == nil; i++ {
		var a Asked
		switch from := p.take(1)[0]; {
		case from == 0 && i > 0:
			a.From = at
		case from == 1:
			if a.From = p.point(at.At, true); p.err == nil && i > 0 && a.From.Compare(at) <= 0 {
				p.fail(fmt.Errorf("range %d begins before the end of the one before it", i))
			}
		default:
			p.fail(fmt.Errorf("range %d begins with %d", i, from))
		}
		if a.To = p.point(a.From.At, true); p.err == nil && a.To.Compare(a.From) <= 0 {
			p.fail(fmt.Errorf("range %d ends before it begins", i))
		}
		a.N, a.Print = p.items()
		at = a.To
		q = append(q, a)
	}
	return q, p.end("question")
}

// ParseAnswer reads the answer to a question and checks that it can be one: it is in
// order, and what it names lies in the ranges that were asked for.
func ParseAnswer(raw []byte, q Question) (Answer, error) {
	p := newParser(raw, AnswerMax)
	n := p.count("answers", 1, len(q))
	a := make(Answer, 0, n)
	for i := 0; i < n && p.err == nil; i++ {
		a = append(a, p.told(q[i].Range))
	}
	return a, p.end("answer")
}

func (p *parser) told(r Range) Told {
	t := Told{Kind: Kind(p.take(1)[0])}
	at := r.From
	switch t.Kind {
	case Equal:
	case Listed, Begun:
		least := 0
		if t.Kind == Begun {
			least = 1
		}
		n := p.count("items", least, AnswerMax)
		for i := 0; i < n && p.err == nil; i++ {
			item := p.point(at.At, false)
			if p.err == nil && (item.Compare(at) < 0 || i > 0 && item == at || item.Compare(r.To) >= 0) {
				p.fail(fmt.Errorf("item %d %s is out of order, or of the range", item.At, item.Hash))
			}
			t.Items = append(t.Items, item)
			at = item
		}
	case Cut:
		n := p.count("parts", 2, PartsMax)
		for i := 0; i < n && p.err == nil; i++ {
			c := Claim{To: r.To}
			if i+1 < n {
				c.To = p.point(at.At, true)
			}
			if p.err == nil && (c.To.Compare(at) <= 0 || i+1 < n && c.To.Compare(r.To) >= 0) {
				p.fail(fmt.Errorf("part %d ends at %d %s, out of order, or of the range", i, c.To.At, c.To.Hash))
			}
			c.N, c.Print = p.items()
			t.Parts = append(t.Parts, c)
			at = c.To
		}
	default:
		p.fail(fmt.Errorf("unknown kind %d", t.Kind))
	}
	return t
}
