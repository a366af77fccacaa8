package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mr-tron/base58"
)

// object is the fields of a signature that is JSON text. Keys are taken as they
// are written, of equal keys the last one counts, and others are ignored.
type object map[string]json.RawMessage

func parseObject(text string) (object, error) {
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("signature is not a JSON object: %w", err)
	}
	return o, nil
}

// text returns a field that must be there.
func (o object) text(key string) (string, error) {
	raw, ok := o[key]
	if !ok {
		return "", fmt.Errorf("signature has no %s", key)
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("signature's %s is not a text", key)
	}
	return *s, nil
}

// textOr returns a field, or what it stands for when it is absent.
func (o object) textOr(key, absent string) (string, error) {
	if _, ok := o[key]; !ok {
		return absent, nil
	}
	return o.text(key)
}

// marshalText returns v as JSON text without escapes for HTML, which no wallet
// signs or writes.
func marshalText(v any) (string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("encode signature: %w", err)
	}
	return strings.TrimSuffix(buf.String(), "\n"), nil
}

// decodeBase58 decodes a text of at most sizeMax bytes. The work grows with the
// square of the length, so the length is checked first.
func decodeBase58(text string, sizeMax int) ([]byte, error) {
	if charsMax := sizeMax*11/8 + 1; len(text) > charsMax {
		return nil, fmt.Errorf("base58 text has %d characters, at most %d are allowed", len(text), charsMax)
	}
	b, err := base58.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("decode base58 text: %w", err)
	}
	return b, nil
}

// decodeBase58Exact is decodeBase58 for values of one size.
func decodeBase58Exact(text string, size int) ([]byte, error) {
	b, err := decodeBase58(text, size)
	if err == nil && len(b) != size {
		err = fmt.Errorf("base58 text has %d bytes, want %d", len(b), size)
	}
	return b, err
}

// checksumLen is the length of the checksums at the end of base58 texts.
const checksumLen = 4

// cutChecksum returns the bytes before the checksum, and whether it is sum's.
func cutChecksum(b []byte, sum func(body []byte) []byte) ([]byte, bool) {
	n := len(b) - checksumLen
	if n < 0 {
		return nil, false
	}
	return b[:n], bytes.Equal(sum(b[:n]), b[n:])
}

// doubleSHA256 is the checksum of Bitcoin's base58check.
func doubleSHA256(body []byte) []byte {
	first := sha256.Sum256(body)
	sum := sha256.Sum256(first[:])
	return sum[:checksumLen]
}

// encodeBase58 writes bytes and their checksum.
func encodeBase58(body []byte, sum func(body []byte) []byte) string {
	return base58.Encode(append(bytes.Clone(body), sum(body)...))
}

// bech32 writes the 20-byte hash of a key as BIP-173 says. Verifiers derive an address
// and compare texts, so that nothing reads the form.
func bech32(hrp string, hash []byte) string {
	const alphabet, checksum = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", 6
	words := fiveBits(hash)
	sum := bech32Sum(hrp, words)
	var b strings.Builder
	b.WriteString(hrp + "1")
	for _, w := range words {
		b.WriteByte(alphabet[w])
	}
	for i := range checksum {
		b.WriteByte(alphabet[sum>>(5*(checksum-1-i))&31])
	}
	return b.String()
}

// fiveBits cuts a hash into groups of five bits, which 20 bytes fill.
func fiveBits(hash []byte) []byte {
	words := make([]byte, 0, len(hash)*8/5)
	acc, bits := 0, 0
	for _, c := range hash {
		acc, bits = acc<<8|int(c), bits+8
		for ; bits >= 5; bits -= 5 {
			words = append(words, byte(acc>>(bits-5)&31))
		}
		acc &= 1<<bits - 1
	}
	return words
}

// bech32Sum is the checksum of BIP-173: the remainder of a polynomial over the
// prefix and the words.
func bech32Sum(hrp string, words []byte) uint32 {
	chk := uint32(1)
	add := func(v byte) {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	for i := range len(hrp) {
		add(hrp[i] >> 5)
	}
	add(0)
	for i := range len(hrp) {
		add(hrp[i] & 31)
	}
	for _, w := range words {
		add(w)
	}
	for range 6 {
		add(0)
	}
	return chk ^ 1
}
