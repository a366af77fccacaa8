package functions

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// patternDepth is how deep patterns nest that match anything.
	patternDepth = 16
	// patternsMax is how many patterns of one program count.
	patternsMax = 64
)

// pattern is a part that a message must have: objects match objects with at
// least their members, all else what is equal.
type pattern map[string]any

// parsePatterns reads the subscriptions of a program. One that cannot be read
// matches nothing.
func parsePatterns(subscriptions []message.Metadata) (out []pattern) {
	for _, s := range subscriptions[:min(len(subscriptions), patternsMax)] {
		p, whole := pattern{}, true
		for key, raw := range s {
			v, err := parseJSON(raw)
			p[key] = v
			whole = whole && err == nil
		}
		if whole {
			out = append(out, p)
		}
	}
	return out
}

// parseJSON decodes JSON with its numbers as they are.
func parseJSON(raw []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// matches reports whether the message has all of the pattern. It takes any
// JSON.
func (p pattern) matches(msg map[string]any) bool { return matchObject(p, msg, patternDepth) }

func matchObject(want, have map[string]any, depth int) bool {
	if depth == 0 {
		return false
	}
	for key, w := range want {
		h, ok := have[key]
		if !ok || !matchValue(w, h, depth) {
			return false
		}
	}
	return true
}

func matchValue(want, have any, depth int) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		return ok && matchObject(w, h, depth-1)
	case []any:
		h, ok := have.([]any)
		return ok && depth > 0 && slices.EqualFunc(w, h, func(a, b any) bool { return equal(a, b, depth-1) })
	default:
		return equal(want, have, depth)
	}
}

// equal compares JSON values.
func equal(a, b any, depth int) bool {
	if depth <= 0 {
		return false
	}
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		return ok && equalNumbers(x, y)
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, func(v, w any) bool { return equal(v, w, depth-1) })
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, func(v, w any) bool { return equal(v, w, depth-1) })
	default: // nil, bool, string.
		return a == b
	}
}

// equalNumbers compares numbers however they are written, within reason.
func equalNumbers(a, b json.Number) bool {
	if a == b {
		return true
	}
	const digitsMax = 32
	if len(a) > digitsMax || len(b) > digitsMax {
		return false
	}
	const bits = 256
	x, _, err := big.ParseFloat(string(a), 10, bits, big.ToNearestEven)
	if err != nil {
		return false
	}
	y, _, err := big.ParseFloat(string(b), 10, bits, big.ToNearestEven)
	return err == nil && x.Cmp(y) == 0
}

// index finds the programs of which a pattern matches, without trying all: a
// pattern with a text at its top is looked up by one.
type index struct {
	byText map[[2]string][]subscriber // By key and text.
	others []subscriber
}

type subscriber struct {
	spec    message.ItemHash
	pattern pattern
}

// newIndex returns an index of patterns.
func newIndex(of map[message.ItemHash][]pattern) *index {
	x := &index{byText: map[[2]string][]subscriber{}}
	for spec, all := range of {
		for _, p := range all {
			s := subscriber{spec, p}
			if at, ok := p.text(); ok {
				x.byText[at] = append(x.byText[at], s)
			} else {
				x.others = append(x.others, s)
			}
		}
	}
	return x
}

// text returns a text at the top of the pattern, of a rare kind if it can.
func (p pattern) text() ([2]string, bool) {
	for _, key := range []string{"item_hash", "sender", "channel", "type", "chain"} {
		if s, ok := p[key].(string); ok {
			return [2]string{key, s}, true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if s, ok := p[key].(string); ok {
			return [2]string{key, s}, true
		}
	}
	return [2]string{}, false
}

// find returns the programs, each once and in order.
func (x *index) find(msg map[string]any) []message.ItemHash {
	found := map[message.ItemHash]bool{}
	try := func(all []subscriber) {
		for _, s := range all {
			if !found[s.spec] && s.pattern.matches(msg) {
				found[s.spec] = true
			}
		}
	}
	for key, v := range msg {
		if text, ok := v.(string); ok {
			try(x.byText[[2]string{key, text}])
		}
	}
	try(x.others)
	return slices.Sorted(maps.Keys(found))
}
