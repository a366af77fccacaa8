package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of an envelope.
const (
	// MaxEnvelopeBytes bounds the JSON of one envelope: the body limit of the
	// HTTP interface, which holds any inline content that can be gossiped.
	MaxEnvelopeBytes = 1 << 20
	// MaxInlineChars bounds item_content, counted in characters as the
	// reference implementation does.
	MaxInlineChars = 200_000
	// MaxChannelChars bounds the channel name.
	MaxChannelChars = 128
	// MaxTextBytes bounds sender and signature, which no rule of a chain lets
	// grow: the longest known signature is a JSON text under 1 KiB.
	MaxTextBytes = 4096
	// timeMax is the greatest time of a message, in Unix seconds: what fits a
	// 64-bit count of nanoseconds.
	timeMax = 9_223_372_036
)

// Envelope is a signed message. Only the chain, the sender, the type and the
// item hash are under the signature: channel and time are not authenticated.
type Envelope struct {
	Chain       Chain
	Sender      string // address of the signing key, in its chain's text form
	Type        Type
	Channel     *string
	Time        time.Time // UTC, microseconds
	ItemType    ItemType
	ItemContent string // exact JSON text of the content; empty unless Inline
	ItemHash    ItemHash
	Signature   string
}

// SigningBytes returns the bytes that the sender's key signed.
func (e *Envelope) SigningBytes() []byte {
	return []byte(string(e.Chain) + "\n" + e.Sender + "\n" + string(e.Type) + "\n" + string(e.ItemHash))
}

// Parse decodes and checks an envelope and, if it is inline, its content:
// everything that can be known from the bytes. The error is always a
// *RejectError.
func Parse(raw []byte) (*Envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return nil, invalid("message has %d bytes, at most %d are allowed", len(raw), MaxEnvelopeBytes)
	}
	e := new(Envelope)
	if err := e.decode(raw); err != nil {
		return nil, err
	}
	if e.Signature == "" {
		return nil, Reject(CodeInvalidSignature, "signature is missing")
	}
	if e.ItemType != Inline {
		if e.ItemType != e.ItemHash.Type() {
			return nil, invalid("item_type is %s, but item_hash is of type %s", e.ItemType, e.ItemHash.Type())
		}
		return e, processed(e.Type)
	}
	if err := checkContent(e.Type, []byte(e.ItemContent)); err != nil {
		return nil, err
	}
	if got := HashOf([]byte(e.ItemContent)); got != e.ItemHash {
		return nil, invalid("item_hash is %s, but the content hashes to %s", e.ItemHash, got)
	}
	return e, nil
}

// checkContent runs the typed rules of a content.
func checkContent(t Type, content []byte) error {
	var err error
	switch t {
	case TypeInstance:
		_, err = ParseInstance(content)
	case TypeStore:
		_, err = ParseStore(content)
	default:
		err = processed(t)
	}
	return err
}

// processed refuses the types of the protocol that this node leaves to others.
func processed(t Type) error {
	switch t {
	case TypeInstance, TypeStore:
		return nil
	default:
		return invalid("this node does not process messages of type %s, only INSTANCE and STORE", t)
	}
}

// Instance returns the typed content of an inline INSTANCE.
func (e *Envelope) Instance() (*Instance, error) {
	if e.Type != TypeInstance || e.ItemType != Inline {
		return nil, invalid("message %s is %s %s, not an inline INSTANCE", e.ItemHash, e.ItemType, e.Type)
	}
	return ParseInstance([]byte(e.ItemContent))
}

// Store returns the typed content of an inline STORE.
func (e *Envelope) Store() (*Store, error) {
	if e.Type != TypeStore || e.ItemType != Inline {
		return nil, invalid("message %s is %s %s, not an inline STORE", e.ItemHash, e.ItemType, e.Type)
	}
	return ParseStore([]byte(e.ItemContent))
}

// decode reads the fields of an envelope and checks each by itself.
func (e *Envelope) decode(raw []byte) error {
	d := new(decoder)
	if err := checkJSON(raw); err != nil {
		return invalid("not a message: %v", err)
	}
	o := d.object(node{raw: raw, path: "message"})
	if d.err != nil {
		return d.err
	}
	e.Type = Type(o.need("type").text(0, MaxTextBytes))
	if d.err == nil && !e.Type.Known() {
		return invalid("type %.80q is not a message type", e.Type)
	}
	e.Chain = Chain(o.need("chain").text(0, MaxTextBytes))
	if d.err == nil && !e.Chain.Known() {
		return invalid("chain %.80q is not a chain of this protocol", e.Chain)
	}
	e.Sender = o.need("sender").text(1, MaxTextBytes)
	e.ItemHash = o.need("item_hash").hash()
	e.Channel = o.maybe("channel").textOrNull(MaxChannelChars)
	e.Time = o.need("time").time()
	e.Signature = o.maybe("signature").signature()
	content := o.maybe("item_content").textOrNull(MaxInlineChars)
	itemType := o.maybe("item_type").textOrNull(MaxTextBytes)
	if d.err != nil {
		return d.err
	}
	return e.place(content, itemType)
}

// place decides where the content is, from what the envelope says and has.
func (e *Envelope) place(content, itemType *string) error {
	switch {
	case itemType != nil:
		e.ItemType = ItemType(*itemType)
	case content != nil:
		e.ItemType = Inline
	default:
		e.ItemType = e.ItemHash.Type()
	}
	switch e.ItemType {
	case Inline:
		if content == nil {
			return invalid("item_content is missing from an inline message")
		}
		e.ItemContent = *content
	case Storage, IPFS:
		if content != nil {
			return invalid("item_content is given, but item_type is %s", e.ItemType)
		}
	default:
		return invalid("item_type %.80q is not inline, storage or ipfs", e.ItemType)
	}
	return nil
}

// envelopeJSON is the form on the wire, in the order that clients write it.
type envelopeJSON struct {
	Sender      string      `json:"sender"`
	Chain       Chain       `json:"chain"`
	Signature   string      `json:"signature"`
	Type        Type        `json:"type"`
	ItemContent *string     `json:"item_content"`
	ItemType    ItemType    `json:"item_type"`
	ItemHash    ItemHash    `json:"item_hash"`
	Time        json.Number `json:"time"`
	Channel     *string     `json:"channel"`
}

// MarshalJSON implements json.Marshaler with the wire form: time in Unix
// seconds, item_content null unless inline.
func (e Envelope) MarshalJSON() ([]byte, error) {
	out := envelopeJSON{
		Sender: e.Sender, Chain: e.Chain, Signature: e.Signature, Type: e.Type, ItemType: e.ItemType,
		ItemHash: e.ItemHash, Time: json.Number(FormatTime(e.Time)), Channel: e.Channel,
	}
	if e.ItemType == Inline {
		out.ItemContent = &e.ItemContent
	}
	return marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. It checks the form of each field
// but not the content, the hash or the presence of a signature: Parse does.
func (e *Envelope) UnmarshalJSON(raw []byte) error {
	var read Envelope
	if err := read.decode(raw); err != nil {
		return err
	}
	*e = read
	return nil
}

// FormatTime writes a time as Unix seconds with at most six decimals, the form
// of times in envelopes and contents.
func FormatTime(t time.Time) string {
	us := t.UnixMicro()
	s := new(big.Rat).SetFrac64(us, 1e6).FloatString(6)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// marshal is json.Marshal without the escapes for HTML, which no client of the
// network writes.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// checkJSON refuses what a strict reader of JSON refuses and Go's does not:
// bytes that are not UTF-8, halves of surrogate pairs, and deep nesting.
func checkJSON(raw []byte) error {
	const depthMax = 1024 // the nesting limit of the reference reader
	if !utf8.Valid(raw) {
		return fmt.Errorf("not UTF-8")
	}
	if !json.Valid(raw) {
		return fmt.Errorf("not JSON")
	}
	depth, inText := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			size, err := escape(raw[i:])
			if err != nil {
				return err
			}
			i += size - 1
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > depthMax {
				return fmt.Errorf("nested deeper than %d", depthMax)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// escape returns the length of the escape sequence that valid JSON text starts
// with; a surrogate must be the high half followed by the low half.
func escape(b []byte) (int, error) {
	const short, long = 2, 6 // \n and \uXXXX
	if b[1] != 'u' {
		return short, nil
	}
	switch hi := hex4(b[2:]); {
	case hi >= 0xDC00 && hi <= 0xDFFF:
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	case hi < 0xD800 || hi > 0xDBFF:
		return long, nil
	}
	if len(b) < 2*long || b[long] != '\\' || b[long+1] != 'u' {
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	}
	if lo := hex4(b[long+2:]); lo < 0xDC00 || lo > 0xDFFF {
		return 0, fmt.Errorf("text holds half of a surrogate pair")
	}
	return 2 * long, nil
}

// hex4 reads the four hex digits of an escape in valid JSON.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}
