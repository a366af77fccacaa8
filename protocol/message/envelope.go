package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
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
// *RejectError. See section 1.1 of the protocol.
func Parse(raw []byte) (*Envelope, error) {
	return parse(raw, func(e *Envelope) error {
		if e.Signature == "" {
			return Reject(CodeInvalidSignature, "signature is missing")
		}
		return nil
	})
}

// ParseUnsigned is Parse for a message that a smart contract emitted: the
// transaction is its proof, and it needs no signature.
func ParseUnsigned(raw []byte) (*Envelope, error) {
	return parse(raw, func(*Envelope) error { return nil })
}

func parse(raw []byte, check func(e *Envelope) error) (*Envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return nil, invalid("message has %d bytes, at most %d are allowed", len(raw), MaxEnvelopeBytes)
	}
	e := new(Envelope)
	if err := e.decode(raw); err != nil {
		return nil, err
	}
	if err := check(e); err != nil {
		return nil, err
	}
	if e.ItemType != Inline {
		if e.ItemType != e.ItemHash.Type() {
			return nil, invalid("item_type is %s, but item_hash is of type %s", e.ItemType, e.ItemHash.Type())
		}
		return e, nil
	}
	if _, err := e.Content(); err != nil {
		return nil, err
	}
	if got := HashOf([]byte(e.ItemContent)); got != e.ItemHash {
		return nil, invalid("item_hash is %s, but the content hashes to %s", e.ItemHash, got)
	}
	return e, nil
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
	d, root, err := decode("message", raw)
	if err != nil {
		return err
	}
	o := root.object()
	if d.err != nil {
		return d.err
	}
	e.Type = o.need("type").messageType()
	e.Chain = o.need("chain").chain()
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
