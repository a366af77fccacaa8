package message

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

const (
	sizeMax         = 1 << 62 // bytes; only to stay inside int64
	metadataMax     = 256     // entries of metadata
	contentTypeMax  = 1024    // characters of a media type
	refMax          = 256     // characters of a user-defined tag
	storeUnknownMax = 256     // unknown keys that are kept
)

// Store is the content of a STORE message: it names a file and asks the
// network to keep it.
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

// ParseStore decodes and checks the content of a STORE message. The error is
// always a *RejectError.
func ParseStore(raw []byte) (*Store, error) {
	d, n, err := contentNode(raw)
	if err != nil {
		return nil, err
	}
	o := d.object(n)
	s := &Store{
		Address: o.need("address").text(1, MaxTextBytes), Time: o.need("time").seconds(),
		ItemType:    ItemType(o.need("item_type").word(string(Storage), string(IPFS))),
		ItemHash:    o.need("item_hash").hash(),
		ContentType: o.maybe("content_type").textOrNull(contentTypeMax),
		Ref:         o.maybe("ref").textOrNull(refMax),
		Metadata:    o.maybe("metadata").dict(metadataMax),
	}
	if size := o.maybe("size"); !size.null() {
		v := size.integer(0, sizeMax)
		s.Size = &v
	}
	s.Payment = readPayment(o.maybe("payment"))
	if d.err != nil {
		return nil, d.err
	}
	if s.ItemHash.Type() != s.ItemType {
		return nil, invalid("content.item_hash is of type %s, but item_type is %s", s.ItemHash.Type(), s.ItemType)
	}
	if s.Payment != nil && s.Payment.Type == PaySuperfluid {
		return nil, invalid("content.payment.type is superfluid; a STORE is paid by hold or credit")
	}
	if err := s.keepExtra(o.fields); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) keepExtra(fields map[string]json.RawMessage) error {
	for k, v := range fields {
		if slices.Contains(storeKeys(), k) {
			continue
		}
		if s.Extra == nil {
			s.Extra = map[string]json.RawMessage{}
		}
		s.Extra[k] = v
	}
	if len(s.Extra) > storeUnknownMax {
		return invalid("content has %d unknown keys, at most %d are kept", len(s.Extra), storeUnknownMax)
	}
	return nil
}

// MarshalJSON implements json.Marshaler. Unset optional fields are left out;
// keys are sorted.
func (s Store) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	for k, v := range maps.All(s.Extra) {
		out[k] = v
	}
	out["address"], out["time"] = s.Address, json.Number(FormatTime(s.Time))
	out["item_type"], out["item_hash"] = s.ItemType, s.ItemHash
	optional(out, "size", s.Size)
	optional(out, "content_type", s.ContentType)
	optional(out, "ref", s.Ref)
	optional(out, "payment", s.Payment)
	if s.Metadata != nil {
		out["metadata"] = s.Metadata
	}
	return marshal(out)
}

func optional[T any](out map[string]any, key string, v *T) {
	if v != nil {
		out[key] = v
	}
}

// contentNode checks the JSON of a content and returns its root.
func contentNode(raw []byte) (*decoder, node, error) {
	if err := checkJSON(raw); err != nil {
		return nil, node{}, invalid("content: %v", err)
	}
	d := new(decoder)
	return d, node{d: d, raw: raw, path: "content"}, nil
}
