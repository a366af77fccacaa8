package domain

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Method is how control of a name was shown. The numbers are the contract's.
type Method uint8

// The methods, from the weakest to the strongest.
const (
	MethodNone Method = iota
	MethodAddress
	MethodToken
)

const (
	recordMax     = 512 // bytes; both forms are below 200
	recordVersion = "1"
)

// Record is what a TXT record says: who owns the name, and with which token.
type Record struct {
	Owner common.Address
	Token common.Hash // zero in the short form
}

// Token returns what the owner of a request puts into DNS. The nonce counts
// the owners that the name has had.
func Token(key Key, owner common.Address, nonce uint32) common.Hash {
	return crypto.Keccak256Hash(key[:], addressWord(owner), numberWord(uint64(nonce)))
}

// String returns the text of the record.
func (r Record) String() string {
	if r.Token == (common.Hash{}) {
		return r.Owner.Hex()
	}
	return fmt.Sprintf("aleph-v=%s; o=%s; t=%s", recordVersion, r.Owner.Hex(), r.Token.Hex())
}

// ParseRecord reads a TXT record in either form. Fields may be in any order;
// those that this version does not know are passed over.
func ParseRecord(text string) (Record, error) {
	text = strings.TrimSpace(text)
	if len(text) > recordMax {
		return Record{}, fmt.Errorf("record has %d bytes, want at most %d", len(text), recordMax)
	}
	if !strings.Contains(text, "=") {
		owner, err := parseAddress(text)
		return Record{Owner: owner}, err
	}
	return parseFields(text)
}

func parseFields(text string) (r Record, err error) {
	seen := map[string]bool{}
	for field := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			if strings.TrimSpace(field) == "" {
				continue
			}
			return Record{}, fmt.Errorf("record field %.80q has no value", field)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if seen[name] {
			return Record{}, fmt.Errorf("record has field %.80q twice", name)
		}
		seen[name] = true
		switch name {
		case "aleph-v":
			if value != recordVersion {
				err = fmt.Errorf("record has version %.80q, want %s", value, recordVersion)
			}
		case "o":
			r.Owner, err = parseAddress(value)
		case "t":
			r.Token, err = parseHash(value)
		}
		if err != nil {
			return Record{}, err
		}
	}
	if !seen["aleph-v"] || !seen["o"] || !seen["t"] {
		return Record{}, fmt.Errorf("record %.80q lacks one of aleph-v, o and t", text)
	}
	return r, nil
}

// Seen returns how TXT records show that the account owns the name, with the
// nonce that its request has now. Records that are not ours count for nothing.
// When they name two accounts they show neither: who controls the DNS decides
// for one first.
func Seen(records []string, key Key, owner common.Address, nonce uint32) Method {
	want := Token(key, owner, nonce)
	method := MethodNone
	for _, text := range records {
		r, err := ParseRecord(text)
		if err != nil {
			continue
		}
		if r.Owner != owner {
			return MethodNone
		}
		switch r.Token {
		case want:
			method = MethodToken
		case common.Hash{}:
			method = max(method, MethodAddress)
		}
	}
	return method
}

func parseAddress(text string) (common.Address, error) {
	raw, err := parseHex(text, common.AddressLength)
	if err != nil {
		return common.Address{}, err
	}
	a := common.BytesToAddress(raw)
	if a == (common.Address{}) {
		return a, fmt.Errorf("record names the zero address")
	}
	return a, nil
}

func parseHash(text string) (common.Hash, error) {
	raw, err := parseHex(text, common.HashLength)
	if err != nil {
		return common.Hash{}, err
	}
	h := common.BytesToHash(raw)
	if h == (common.Hash{}) {
		return h, fmt.Errorf("record has a token of zeros")
	}
	return h, nil
}

func parseHex(text string, size int) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != size {
		return nil, fmt.Errorf("record has %.80q, want 0x and %d hex digits", text, 2*size)
	}
	return raw, nil
}
