package message

import (
	"bytes"
	"encoding/json"
)

// Labels are what lists of messages can be filtered by in a content; nil is what
// it has not. See sections 5.3 and 14.2 of the protocol.
type Labels struct {
	Type    *string      // content.type
	Ref     *string      // content.ref; of a quoted message its hash
	File    *ItemHash    // content.item_hash
	Key     *string      // content.key
	Payment *PaymentType // only if the content says how it is paid for
	Tags    []string
}

// LabelsOf returns the labels of a content.
func LabelsOf(c Content) Labels {
	switch c := c.(type) {
	case *Post:
		l := Labels{Type: &c.Type, Tags: tagsOf(c.Content)}
		if c.Ref != nil {
			target := c.Ref.Target()
			l.Ref = &target
		}
		return l
	case *Aggregate:
		return Labels{Key: &c.Key.Name, Tags: tagsOf(c.Content)}
	case *Store:
		return Labels{Ref: c.Ref, File: &c.ItemHash, Payment: c.Payment.declared(), Tags: readTags(c.Extra[tagsKey])}
	case *Program:
		kind := machineFunction
		return Labels{Type: &kind, Payment: c.Payment.declared(), Tags: readTags(c.Metadata[tagsKey])}
	case *Instance:
		return Labels{Payment: c.Payment.declared(), Tags: readTags(c.Metadata[tagsKey])}
	case *VerifiableProgram:
		return Labels{Payment: c.Payment.declared(), Tags: readTags(c.Metadata[tagsKey])}
	default:
		return Labels{}
	}
}

const tagsKey = "tags"

func (p *Payment) declared() *PaymentType {
	if p == nil {
		return nil
	}
	return &p.Type
}

// tagsOf reads the tags of a free value, which may be of any kind.
func tagsOf(raw json.RawMessage) []string {
	if !bytes.Contains(raw, []byte(tagsKey)) {
		return nil
	}
	d, root, err := decode("content", raw)
	if err != nil || root.kind() != kindObject {
		return nil
	}
	return d.tags(root.object().maybe(tagsKey))
}

// readTags reads tags that are a value of their own.
func readTags(raw json.RawMessage) []string {
	if raw == nil {
		return nil
	}
	d, root, err := decode(tagsKey, raw)
	if err != nil {
		return nil
	}
	return d.tags(root)
}

// tags are the texts of a list; what is no list has none.
func (d *decoder) tags(n node) (out []string) {
	if n.absent() || n.kind() != kindList {
		return nil
	}
	for _, e := range n.list(anyLength) {
		if e.isText() {
			out = append(out, d.text(e.at))
		}
	}
	return out
}
