package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/cosmos/btcutil/bech32"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/ripemd160" //nolint:gosec,staticcheck // Addresses of these chains are made with it.
)

// hash160 is the hash that Bitcoin, Cosmos, Avalanche and NULS make addresses of.
func hash160(pub []byte) []byte {
	sum := sha256.Sum256(pub)
	h := ripemd160.New() //nolint:gosec // As above.
	h.Write(sum[:])
	return h.Sum(nil)
}

// bech32Of is the text of bytes with a prefix (BIP-173).
func bech32Of(prefix string, raw []byte) (string, error) {
	const from, to = 8, 5
	digits, err := bech32.ConvertBits(raw, from, to, true)
	if err != nil {
		return "", err
	}
	return bech32.Encode(prefix, digits)
}

// checkBytes is the length of the check sums of base58 texts.
const checkBytes = 4

// decode58Check decodes a base58 text that ends with four bytes of check sum, of
// the payload by sum.
func decode58Check(text string, sum func([]byte) []byte) ([]byte, error) {
	raw, err := base58.Decode(text)
	if err != nil {
		return nil, err
	}
	if len(raw) < checkBytes {
		return nil, fmt.Errorf("%d bytes are too few", len(raw))
	}
	payload, check := raw[:len(raw)-checkBytes], raw[len(raw)-checkBytes:]
	if !bytes.Equal(sum(payload), check) {
		return nil, fmt.Errorf("check sum is %x, want %x", check, sum(payload))
	}
	return payload, nil
}

// encode58Check is the inverse of decode58Check.
func encode58Check(payload []byte, sum func([]byte) []byte) string {
	return base58.Encode(append(bytes.Clone(payload), sum(payload)...))
}

// sumTwice is the check sum of Bitcoin and Tezos.
func sumTwice(payload []byte) []byte {
	first := sha256.Sum256(payload)
	second := sha256.Sum256(first[:])
	return second[:checkBytes]
}

// fields decodes a signature that is a JSON object.
func fields(signature string) (map[string]json.RawMessage, error) {
	var out map[string]json.RawMessage
	if err := json.Unmarshal([]byte(signature), &out); err != nil {
		return nil, invalid("it is not a JSON object: %v", err)
	}
	return out, nil
}

// text returns a field of a signature that must be a text.
func text(all map[string]json.RawMessage, name string) (string, error) {
	var s string
	if err := json.Unmarshal(all[name], &s); err != nil {
		return "", invalid("%s is not a text", name)
	}
	return s, nil
}

// textOr is text with what holds when the field is not there.
func textOr(all map[string]json.RawMessage, name, otherwise string) (string, error) {
	if raw, ok := all[name]; !ok || string(raw) == "null" {
		return otherwise, nil
	}
	return text(all, name)
}

// compactSize is a length as Bitcoin writes it.
func compactSize(n int) []byte {
	switch {
	case n < 0xfd:
		return []byte{byte(n)}
	case n <= 0xffff:
		return binary.LittleEndian.AppendUint16([]byte{0xfd}, uint16(n))
	default:
		return binary.LittleEndian.AppendUint32([]byte{0xfe}, uint32(n))
	}
}

// quoteASCII is a JSON text with nothing but ASCII, as Python's json.dumps writes
// it by default.
func quoteASCII(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < ' ' || r > '~' && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
