package authz

import (
	"bytes"
	"encoding/json"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// SecurityKey is the key of the aggregate in which an owner names delegates.
const SecurityKey = "security"

// Security is what the aggregate of an owner allows others. The zero value
// allows nothing.
type Security struct {
	Grants []Grant
}

// Grant allows one address to write for the owner, within its limits.
type Grant struct {
	Address string
	Chain   message.Chain // "" means any
	// Lists that limit what may be written; an empty one is no limit.
	Channels      []string
	Types         []string
	PostTypes     []string // of POSTs only
	AggregateKeys []string // of AGGREGATEs only
}

// Parse reads the content of an owner's aggregate. Owners write it by hand and
// no schema guards it, so an entry that cannot be understood allows nothing and
// the others still count.
func Parse(content []byte) Security {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(content, &fields); err != nil {
		return Security{}
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(fields["authorizations"], &entries); err != nil {
		return Security{}
	}
	var s Security
	for _, raw := range entries {
		if g, ok := parseGrant(raw); ok {
			s.Grants = append(s.Grants, g)
		}
	}
	return s
}

func parseGrant(raw json.RawMessage) (Grant, bool) {
	in := map[string]json.RawMessage{} // A struct would take keys of any case.
	if err := json.Unmarshal(raw, &in); err != nil {
		return Grant{}, false
	}
	var g Grant
	var chain string
	ok := word(in["address"], &g.Address) && word(in["chain"], &chain) && words(in["channels"], &g.Channels) &&
		words(in["types"], &g.Types) && words(in["post_types"], &g.PostTypes) && words(in["aggregate_keys"], &g.AggregateKeys)
	g.Chain = message.Chain(chain)
	return g, ok && g.Address != ""
}

// word reads a text, which may be missing or null.
func word(raw json.RawMessage, out *string) bool {
	return len(raw) == 0 || json.Unmarshal(raw, out) == nil
}

// words reads a limit: a list, or one text that stands for a list of it. A
// limit that is neither is one that nothing meets. Elements that are not texts
// match nothing, but a list of them is still a limit.
func words(raw json.RawMessage, out *[]string) bool {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return true
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if one != "" {
			*out = []string{one}
		}
		return true
	}
	var list []any
	if json.Unmarshal(raw, &list) != nil {
		return false
	}
	*out = make([]string, 0, len(list))
	for _, e := range list {
		if s, isText := e.(string); isText {
			*out = append(*out, s)
		}
	}
	return len(list) == 0 || len(*out) > 0
}

// MarshalJSON implements json.Marshaler with the content of the aggregate.
func (s Security) MarshalJSON() ([]byte, error) {
	type entry struct {
		Address       string        `json:"address"`
		Chain         message.Chain `json:"chain,omitempty"`
		Channels      []string      `json:"channels,omitempty"`
		Types         []string      `json:"types,omitempty"`
		PostTypes     []string      `json:"post_types,omitempty"`
		AggregateKeys []string      `json:"aggregate_keys,omitempty"`
	}
	out := struct {
		Authorizations []entry `json:"authorizations"`
	}{make([]entry, len(s.Grants))}
	for i, g := range s.Grants {
		out.Authorizations[i] = entry(g)
	}
	return json.Marshal(out)
}
