package guest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

// encode returns what write writes, which must not be longer than limit.
func encode(what string, limit int, write func(*writer)) ([]byte, error) {
	var buf bytes.Buffer
	w := &writer{enc: msgpack.NewEncoder(&buf)}
	write(w)
	if w.err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, w.err)
	}
	if buf.Len() > limit {
		return nil, fmt.Errorf("encode %s: %d bytes, at most %d can be sent", what, buf.Len(), limit)
	}
	return buf.Bytes(), nil
}

// writer writes msgpack and keeps the first error.
type writer struct {
	enc *msgpack.Encoder
	err error
}

func (w *writer) do(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) mapOf(n int)     { w.do(w.enc.EncodeMapLen(n)) }
func (w *writer) arrayOf(n int)   { w.do(w.enc.EncodeArrayLen(n)) }
func (w *writer) text(s string)   { w.do(w.enc.EncodeString(s)) }
func (w *writer) binary(b []byte) { w.do(w.enc.EncodeBytes(b)) }
func (w *writer) boolean(b bool)  { w.do(w.enc.EncodeBool(b)) }
func (w *writer) integer(n int64) { w.do(w.enc.EncodeInt(n)) }
func (w *writer) null()           { w.do(w.enc.EncodeNil()) }
func (w *writer) strings(s []string) {
	w.arrayOf(len(s))
	for _, v := range s {
		w.text(v)
	}
}

// optional writes "" as nil.
func (w *writer) optional(s string) {
	if s == "" {
		w.null()
		return
	}
	w.text(s)
}

// bytes writes no bytes as an empty value, not as nil.
func (w *writer) bytes(b []byte) {
	if b == nil {
		b = []byte{}
	}
	w.binary(b)
}

func (w *writer) headers(all []Header) {
	w.arrayOf(len(all))
	for _, h := range all {
		w.arrayOf(2)
		w.bytes(h.Name)
		w.bytes(h.Value)
	}
}

// errTooLarge ends the reading of a value that is longer than its limit.
var errTooLarge = errors.New("value is larger than its limit")

// bounded reads no more than left bytes. It reads ahead no byte, since a value
// may be followed by others.
type bounded struct {
	r    *bufio.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

func (b *bounded) ReadByte() (byte, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	c, err := b.r.ReadByte()
	if err == nil {
		b.left--
	}
	return c, err
}

func (b *bounded) UnreadByte() error {
	err := b.r.UnreadByte()
	if err == nil {
		b.left++
	}
	return err
}

// decode reads one value by fields, and no byte behind it.
func decode(what string, r *bufio.Reader, limit int, fields fields) error {
	d := &reader{dec: msgpack.NewDecoder(&bounded{r: r, left: limit})}
	if err := d.object(fields); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("decode %s: %w", what, err)
	}
	return nil
}

// fields reads the values of the keys that are known.
type fields map[string]func(*reader) error

// reader reads msgpack.
type reader struct {
	dec *msgpack.Decoder
}

// object reads a map; nil is an empty one.
func (d *reader) object(known fields) error {
	n, err := d.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	if n > maxElements {
		return fmt.Errorf("map of %d keys, want at most %d", n, maxElements)
	}
	for range n {
		key, err := d.dec.DecodeString()
		if err != nil {
			return err
		}
		read, ok := known[key]
		if !ok {
			read = (*reader).skip
		}
		if err := read(d); err != nil {
			return fmt.Errorf("%.32q: %w", key, err)
		}
	}
	return nil
}

// list reads an array; nil is an empty one.
func (d *reader) list(element func() error) error {
	n, err := d.dec.DecodeArrayLen()
	if err != nil {
		return err
	}
	if n > maxElements {
		return fmt.Errorf("list of %d, want at most %d", n, maxElements)
	}
	for range n {
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

func (d *reader) skip() error { return d.skipDepth(maxDepth) }

// skipDepth passes over a value. Its own recursion is bounded, that of the
// library is not.
func (d *reader) skipDepth(depth int) error {
	if depth == 0 {
		return fmt.Errorf("value nests deeper than %d", maxDepth)
	}
	code, err := d.dec.PeekCode()
	if err != nil {
		return err
	}
	var n int
	switch {
	case code&0xf0 == 0x80, code == 0xde, code == 0xdf:
		n, err = d.dec.DecodeMapLen()
		n *= 2
	case code&0xf0 == 0x90, code == 0xdc, code == 0xdd:
		n, err = d.dec.DecodeArrayLen()
	default:
		return d.dec.Skip()
	}
	if err != nil {
		return err
	}
	for range n {
		if err := d.skipDepth(depth - 1); err != nil {
			return err
		}
	}
	return nil
}

// Readers of fields.

func text(to *string) func(*reader) error {
	return func(d *reader) (err error) {
		*to, err = d.dec.DecodeString()
		return err
	}
}

func binaryTo(to *[]byte) func(*reader) error {
	return func(d *reader) (err error) {
		*to, err = d.dec.DecodeBytes()
		return err
	}
}

// lenient reads text or bytes, and passes over anything else.
func lenient(to *[]byte) func(*reader) error {
	return func(d *reader) error {
		code, err := d.dec.PeekCode()
		if err != nil {
			return err
		}
		if code&0xe0 == 0xa0 || code == 0xc0 || code >= 0xc4 && code <= 0xc6 || code >= 0xd9 && code <= 0xdb {
			*to, err = d.dec.DecodeBytes()
			return err
		}
		return d.skip()
	}
}

func boolean(to *bool) func(*reader) error {
	return func(d *reader) (err error) {
		*to, err = d.dec.DecodeBool()
		return err
	}
}

func texts(to *[]string) func(*reader) error {
	return func(d *reader) error {
		return d.list(func() error {
			s, err := d.dec.DecodeString()
			*to = append(*to, s)
			return err
		})
	}
}

func headers(to *[]Header) func(*reader) error {
	return func(d *reader) error {
		return d.list(func() error {
			var pair [][]byte
			err := d.list(func() error {
				b, err := d.dec.DecodeBytes()
				pair = append(pair, b)
				return err
			})
			if err != nil {
				return err
			}
			if len(pair) != 2 {
				return fmt.Errorf("header of %d parts, want name and value", len(pair))
			}
			*to = append(*to, Header{Name: pair[0], Value: pair[1]})
			return nil
		})
	}
}
