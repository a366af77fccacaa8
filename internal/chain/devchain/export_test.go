package devchain

import "encoding/json"

// ParseQuantity reads a number as RPC clients send it.
func ParseQuantity(raw []byte) (uint64, error) {
	var q quantity
	err := json.Unmarshal(raw, &q)
	return uint64(q), err
}
