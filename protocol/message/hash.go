package message

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ItemHash is the name of a content in its text form: 64 lower-case hex digits
// of a sha256, or an IPFS content identifier ("Qm..." or "bafy..."). Hashes
// are compared and stored as exact text.
type ItemHash string

// ItemType says where a content or a file is: in the message itself, in the
// network's own storage, or in IPFS.
type ItemType string

// The item types.
const (
	Inline  ItemType = "inline"
	Storage ItemType = "storage"
	IPFS    ItemType = "ipfs"
)

const (
	sha256HexLen = 2 * sha256.Size // text length of a storage hash
	cidV0LenMin  = 44              // base58 of a 34-byte multihash has 44 to 46 characters
	cidV0LenMax  = 46
	cidV1Len     = 59 // "b" and base32 of a 36-byte dag-pb CIDv1

	alphabetHex    = "0123456789abcdef"
	alphabetBase32 = "abcdefghijklmnopqrstuvwxyz234567"
	alphabetBase58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
)

// ParseItemHash checks length and alphabet of a hash in its text form.
func ParseItemHash(s string) (ItemHash, error) {
	var alphabet string
	switch {
	case strings.HasPrefix(s, "Qm") && len(s) >= cidV0LenMin && len(s) <= cidV0LenMax:
		alphabet = alphabetBase58
	case strings.HasPrefix(s, "bafy") && len(s) == cidV1Len:
		alphabet = alphabetBase32
	case len(s) == sha256HexLen:
		alphabet = alphabetHex
	default:
		return "", fmt.Errorf("item hash %.80q is neither 64 hex digits nor a Qm... or bafy... identifier", s)
	}
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return "", fmt.Errorf("item hash %q has the character %q outside its alphabet", s, s[i])
		}
	}
	return ItemHash(s), nil
}

// InferItemType tells where a content is by the length and the first letters of
// its hash alone, as the reference does for the hash of an envelope: it does
// not look at the alphabet. See section 1.3 of the protocol.
func InferItemType(s string) (ItemType, error) {
	switch {
	case strings.HasPrefix(s, "Qm") && len(s) >= cidV0LenMin && len(s) <= cidV0LenMax,
		strings.HasPrefix(s, "bafy") && len(s) == cidV1Len:
		return IPFS, nil
	case utf8.RuneCountInString(s) == sha256HexLen:
		return Storage, nil
	default:
		return "", fmt.Errorf("item hash %.80q is neither 64 characters nor a Qm... or bafy... identifier", s)
	}
}

// HashOf returns the storage hash of the bytes: their sha256 in hex.
func HashOf(b []byte) ItemHash {
	sum := sha256.Sum256(b)
	return ItemHashOf(sum)
}

// ItemHashOf returns the text form of a sha256 digest.
func ItemHashOf(sum [sha256.Size]byte) ItemHash {
	return ItemHash(hex.EncodeToString(sum[:]))
}

// Type returns where a content of this name is: Storage or IPFS.
func (h ItemHash) Type() ItemType {
	if len(h) == sha256HexLen {
		return Storage
	}
	return IPFS
}

// Digest returns the 32 bytes of a storage hash, and false for any other text.
func (h ItemHash) Digest() ([sha256.Size]byte, bool) {
	var sum [sha256.Size]byte
	if p, err := ParseItemHash(string(h)); err != nil || p.Type() != Storage {
		return sum, false
	}
	n, err := hex.Decode(sum[:], []byte(h))
	return sum, err == nil && n == len(sum)
}

// UnmarshalText implements encoding.TextUnmarshaler with the checks of
// ParseItemHash; the empty text stays the zero value.
func (h *ItemHash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = ""
		return nil
	}
	p, err := ParseItemHash(string(text))
	if err != nil {
		return err
	}
	*h = p
	return nil
}
