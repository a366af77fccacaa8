package domain

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/net/idna"
)

// Bounds of a name, in bytes and labels.
const (
	nameMax   = 253
	labelMax  = 63
	labelsMin = 2
)

// wildcard is what a name of all names below another begins with.
const wildcard = "*."

// Key names a name on the chain: the Keccak-256 of its letters.
type Key = common.Hash

// Name is a name in the one form that has a key: lower case, A-labels, no dot
// at the end.
type Name string

// NameError tells where a name is not in the form that has a key.
type NameError struct {
	Name  string
	Index int // of the byte where it fails, or the length of the name
}

// Error implements error.
func (e *NameError) Error() string {
	return fmt.Sprintf("domain name %.300q is not in the form that has a key, at byte %d", e.Name, e.Index)
}

// Parse takes a name that is in the form that has a key, and no other. It
// accepts what the contract accepts.
func Parse(text string) (Name, error) {
	if at, ok := check(text); !ok {
		return "", &NameError{Name: text, Index: at}
	}
	return Name(text), nil
}

// Normalise brings a name as people write it into the form that has a key:
// letters of other scripts become A-labels, capitals small letters, and a dot
// at the end goes. It refuses A-labels that do not stand for a label of the
// IDNA, which Parse and the contract do not look into.
func Normalise(text string) (Name, error) {
	if len(text) > 4*nameMax { // the bytes of the longest name in another script
		return "", &NameError{Name: text, Index: len(text)}
	}
	rest, isWild := strings.CutPrefix(strings.TrimSuffix(text, "."), wildcard)
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(true), idna.StrictDomainName(false))
	ascii, err := profile.ToASCII(rest)
	if err != nil {
		return "", fmt.Errorf("domain name %.300q: %w", text, err)
	}
	// Not every result of the mapping is a name by the same rules.
	if again, err := profile.ToASCII(ascii); err != nil || again != ascii {
		return "", fmt.Errorf("domain name %.300q has no normal form", text)
	}
	if isWild {
		ascii = wildcard + ascii
	}
	return Parse(ascii)
}

// Key returns the key of the name.
func (n Name) Key() Key { return crypto.Keccak256Hash([]byte(n)) }

// IsWildcard reports whether the name stands for all names below another.
func (n Name) IsWildcard() bool { return strings.HasPrefix(string(n), wildcard) }

// Base returns the name without the wildcard.
func (n Name) Base() Name { return Name(strings.TrimPrefix(string(n), wildcard)) }

// ControlHost returns the name whose TXT records show the owner.
func (n Name) ControlHost() string { return "_control." + string(n.Base()) }

// check returns where the text fails. It is the contract's Fqdn.keyOf, step by
// step, so that both fail at the same byte.
func check(text string) (int, bool) {
	if text == "" || len(text) > nameMax {
		return len(text), false
	}
	i := 0
	isWild := text[0] == '*'
	if isWild {
		if !strings.HasPrefix(text, wildcard) {
			return 1, false
		}
		i = len(wildcard)
	}
	labels, start := 0, i
	for ; i <= len(text); i++ {
		switch c := at(text, i); {
		case c == '.':
			if i == start || i-start > labelMax || text[i-1] == '-' {
				return i, false
			}
			labels++
			if i < len(text) {
				start = i + 1
			}
		case c == '-':
			if i == start || isReserved(text[start:i+1]) {
				return i, false
			}
		case isLetter(c), '0' <= c && c <= '9':
		case c == '_' && !isWild:
		default:
			return i, false
		}
	}
	if labels < labelsMin {
		return len(text), false
	}
	if !isLetter(text[start]) { // four numbers are an address, not a name
		return start, false
	}
	return 0, true
}

// at returns the byte at i; every name ends as if with a dot.
func at(text string, i int) byte {
	if i == len(text) {
		return '.'
	}
	return text[i]
}

// isReserved reports whether the beginning of a label ends in the "--" that
// only A-labels may have as third and fourth.
func isReserved(label string) bool {
	return len(label) == 4 && label[2] == '-' && label[:2] != "xn"
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' }
