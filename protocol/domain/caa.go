package domain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// CAA is a record that says which authority may issue certificates (RFC 8659).
type CAA struct {
	Flags uint8
	Tag   string
	Value string
}

// String returns the record as zone files have it.
func (c CAA) String() string {
	value := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.Value)
	return fmt.Sprintf(`%d %s "%s"`, c.Flags, strings.ToLower(c.Tag), value)
}

// CAAHash returns what the owner of a name pins: the Keccak-256 of its CAA
// records, in ascending order, joined by line feeds. It is zero for none, which
// pins nothing.
func CAAHash(records []CAA) common.Hash {
	if len(records) == 0 {
		return common.Hash{}
	}
	lines := make([]string, len(records))
	for i, r := range records {
		lines[i] = r.String()
	}
	slices.Sort(lines)
	return crypto.Keccak256Hash([]byte(strings.Join(slices.Compact(lines), "\n")))
}
