package state

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
)

// RegistryChange is what one event has changed of a node. A row mirrors the chain,
// and none is ever written again: in their order they tell what was when.
type RegistryChange struct {
	Block     uint64         `json:"block"`
	Index     uint           `json:"index"` // Of the event in the block.
	At        uint64         `json:"at"`    // Chain time.
	Node      Node           `json:"node"`  // After the event.
	Delegator common.Address `json:"delegator,omitzero"`
	Shares    *big.Int       `json:"shares,omitempty"` // Of the node's pool, that the delegator has more; negative if less.
	Void      bool           `json:"void,omitempty"`   // Nobody has shares any more.
}

func registry() table[RegistryChange] {
	return table[RegistryChange]{
		name: "registry", noun: "change of the registry",
		key:  func(c *RegistryChange) string { return fmt.Sprintf("%020d:%010d", c.Block, c.Index) },
		cols: []column[RegistryChange]{{"block", func(c *RegistryChange) any { return int64(c.Block) }}},
	}
}

// PutRegistryChange records what an event has changed of a node.
func (tx *Tx) PutRegistryChange(ctx context.Context, c RegistryChange) error {
	return registry().put(ctx, tx, &c)
}

// RegistryChanges returns all that events have changed of nodes, in their order.
func (r reader) RegistryChanges(ctx context.Context) ([]RegistryChange, error) {
	return registry().list(ctx, r, "TRUE ORDER BY pk")
}
