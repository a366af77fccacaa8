package message

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"
)

// Store is the content of a STORE message: it names a file and asks the
// network to keep it. See section 1.7 of the protocol.
type Store struct {
	Address     string // owner
	Time        time.Time
	ItemType    ItemType // Storage or IPFS: where the file is
	ItemHash    ItemHash // name of the file
	Size        *int64   // bytes, as the client says
	ContentType *string
	Ref         *string // earlier STORE that this one follows, or a user's tag
	Metadata    map[string]json.RawMessage
	Payment     *Payment
	Extra       map[string]json.RawMessage // unknown keys, kept as they are
}

func storeKeys() []string {
	return []string{"address", "time", "item_type", "item_hash", "size", "content_type", "ref", "metadata", "payment"}
}

// Owner implements Content.
func (s *Store) Owner() string { return s.Address }

// At implements Content.
func (s *Store) At() time.Time { return s.Time }

// PaymentType returns how the file is paid for.
func (s *Store) PaymentType() PaymentType { return s.Payment.kind() }

// Follows returns the hash of the STORE that this one is a new version of, and
// false if it is new or has a tag of its owner's choice.
func (s *Store) Follows() (ItemHash, bool) {
	if s.Ref == nil {
		return "", false
	}
	h, err := ParseItemHash(*s.Ref)
	return h, err == nil
}

// ParseStore decodes and checks the content of a STORE message. The error is
// always a *RejectError.
func ParseStore(raw []byte) (*Store, error) {
	o, owner, at, err := contentOf(raw)
	if err != nil {
		return nil, err
	}
	s := &Store{
		Address: owner, Time: at,
		ItemType:    ItemType(o.need("item_type").word(string(Storage), string(IPFS))),
		ItemHash:    o.need("item_hash").hash(),
		Size:        o.maybe("size").integerOrNull(math.MinInt64, math.MaxInt64),
		ContentType: o.maybe("content_type").textOrNull(anyLength),
		Ref:         o.maybe("ref").textOrNull(anyLength),
		Metadata:    o.maybe("metadata").dict(anyLength),
		Payment:     readPayment(o.maybe("payment")),
	}
	if o.d.err != nil {
		return nil, o.d.err
	}
	if s.ItemHash.Type() != s.ItemType {
		return nil, invalid("content.item_hash is of type %s, but item_type is %s", s.ItemHash.Type(), s.ItemType)
	}
	if s.Payment != nil && s.Payment.Type == PaySuperfluid {
		return nil, invalid("content.payment.type is superfluid; a STORE is paid by hold or credit")
	}
	s.keepExtra(o)
	return s, nil
}

func (s *Store) keepExtra(o object) {
	for k, v := range o.fields {
		key := o.d.text(k)
		if slices.Contains(storeKeys(), key) {
			continue
		}
		if s.Extra == nil {
			s.Extra = map[string]json.RawMessage{}
		}
		s.Extra[key] = o.d.bytes(v)
	}
}

func (s *Store) write(w *writer) {
	w.open()
	w.text("address", s.Address)
	w.time(s.Time)
	w.text("item_type", string(s.ItemType))
	w.text("item_hash", string(s.ItemHash))
	w.integerOrNull("size", s.Size)
	textOrNull(w, "content_type", s.ContentType)
	textOrNull(w, "ref", s.Ref)
	w.dict("metadata", s.Metadata)
	objectOrNull(w, "payment", s.Payment, writePayment)
	if !w.model { // Models know no other keys.
		for _, k := range slices.Sorted(maps.Keys(s.Extra)) {
			w.free(k, s.Extra[k])
		}
	}
	w.close()
}

// MarshalJSON implements json.Marshaler with the form that clients send: what
// is not set is left out.
func (s Store) MarshalJSON() ([]byte, error) { return wire(s.write) }
