package chain

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Meanings returns the names of the errors that have a meaning.
func Meanings() []string { return slices.Collect(maps.Keys(meanings())) }

// ParseHeader reads a block as an RPC sends it.
func ParseHeader(body []byte) (*Header, error) {
	var raw *rawHeader
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, errs.New(errs.NotFound, "no block")
	}
	return raw.header()
}
