package wire

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// PeerType says of which protocol an address is that a node tells in its word that
// it is alive.
type PeerType string

// The types of the message network.
const (
	PeerP2P  PeerType = "P2P"
	PeerHTTP PeerType = "HTTP"
	PeerIPFS PeerType = "IPFS"
)

// Bounds of a word that a node is alive.
const (
	MaxAlive        = 4096 // bytes of the payload
	aliveTextMax    = 1024 // bytes of the address, as long as a multiaddress with relays gets
	aliveVersionMax = 256  // bytes of the version
	percentDigits   = 2    // hex digits after a percent sign
	jsonPercent     = `\u0025`
	unknownVersion  = "unknown"
)

// Alive is what a node of the message network tells every two minutes on a topic of
// its own: where it is reached, one word for each protocol.
type Alive struct {
	Address   string          `json:"address"`   // multiaddress with /p2p/<id>, or base URL
	Interests json.RawMessage `json:"interests"` // null; kept for the network's sake
	PeerType  PeerType        `json:"peer_type"`
	Version   string          `json:"version"`
}

// NewAlive returns a node's word of one address.
func NewAlive(kind PeerType, address, version string) Alive {
	if version == "" {
		version = unknownVersion
	}
	return Alive{Address: address, Interests: json.RawMessage("null"), PeerType: kind, Version: version}
}

// ParseAlive decodes a word and checks its bounds. Whether its author may say it is
// not in its bytes.
func ParseAlive(raw []byte) (*Alive, error) {
	if len(raw) > MaxAlive {
		return nil, fmt.Errorf("alive message has %d bytes, at most %d are allowed", len(raw), MaxAlive)
	}
	a := new(Alive)
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("decode alive message: %w", err)
	}
	switch a.PeerType {
	case PeerP2P, PeerHTTP, PeerIPFS:
	default:
		return nil, fmt.Errorf("alive message: peer_type %.40q is none of %s, %s, %s", string(a.PeerType), PeerP2P, PeerHTTP, PeerIPFS)
	}
	if a.Address == "" || len(a.Address) > aliveTextMax {
		return nil, fmt.Errorf("alive message: address has %d bytes, want 1 to %d", len(a.Address), aliveTextMax)
	}
	if len(a.Version) > aliveVersionMax {
		return nil, fmt.Errorf("alive message: version has %d bytes, at most %d are allowed", len(a.Version), aliveVersionMax)
	}
	return a, nil
}

// Unquote decodes %XX in a payload as the message network's receivers do before they
// read its JSON: a percent sign with two hex digits becomes the byte, and where such
// bytes are no UTF-8, U+FFFD. A payload without any is returned as it is.
func Unquote(raw []byte) []byte {
	if !hasQuoted(raw) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		// The reference decodes each run of ASCII by itself: what is quoted joins no
		// character outside.
		end := i
		for end < len(raw) && raw[end] < utf8.RuneSelf {
			end++
		}
		if end == i {
			out = append(out, raw[i])
			i++
			continue
		}
		out = append(out, unquoteRun(raw[i:end])...)
		i = end
	}
	return out
}

// unquoteRun decodes a run of ASCII.
func unquoteRun(raw []byte) []byte {
	plain := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if b, ok := quotedAt(raw, i); ok {
			plain = append(plain, b)
			i += percentDigits
			continue
		}
		plain = append(plain, raw[i])
	}
	if utf8.Valid(plain) {
		return plain
	}
	out := make([]byte, 0, len(plain))
	for len(plain) > 0 {
		r, size := utf8.DecodeRune(plain)
		out = utf8.AppendRune(out, r)
		plain = plain[size:]
	}
	return out
}

// Quote keeps Unquote of a receiver from changing a JSON text: a percent sign before
// two hex digits is written as \u0025, which reads back as the sign. JSON has percent
// signs in strings only.
func Quote(raw []byte) []byte {
	if !hasQuoted(raw) {
		return raw
	}
	out := make([]byte, 0, len(raw)+len(jsonPercent))
	for i, c := range raw {
		if _, ok := quotedAt(raw, i); ok {
			out = append(out, jsonPercent...)
			continue
		}
		out = append(out, c)
	}
	return out
}

func hasQuoted(raw []byte) bool {
	for i := range raw {
		if _, ok := quotedAt(raw, i); ok {
			return true
		}
	}
	return false
}

// quotedAt returns the byte that is quoted at i.
func quotedAt(raw []byte, i int) (byte, bool) {
	if raw[i] != '%' || i+percentDigits >= len(raw) {
		return 0, false
	}
	hi, ok1 := hexDigit(raw[i+1])
	lo, ok2 := hexDigit(raw[i+percentDigits])
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	const ten = 10
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + ten, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + ten, true
	default:
		return 0, false
	}
}
