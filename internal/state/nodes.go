package state

import (
	"context"
	"math/big"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
)

// NodeKind is what a node does.
type NodeKind string

// The kinds, in the order of the contract's enum.
const (
	KindCoordinator NodeKind = "coordinator"
	KindCompute     NodeKind = "compute"
	KindStorage     NodeKind = "storage"
)

// NodeStatus is where a node is in its life on chain.
type NodeStatus string

// The statuses of INodeRegistry.Status.
const (
	NodePending   NodeStatus = "pending"
	NodeActive    NodeStatus = "active"
	NodeSuspended NodeStatus = "suspended"
	NodeDraining  NodeStatus = "draining"
	NodeJailed    NodeStatus = "jailed"
	NodeExited    NodeStatus = "exited"
	NodeBanned    NodeStatus = "banned"
)

// Node is a node as the registry on chain has it. A row mirrors the chain.
type Node struct {
	ID         uint32         `json:"node_id"`
	Kind       NodeKind       `json:"kind"`
	Status     NodeStatus     `json:"status"`
	Owner      common.Address `json:"owner"`
	Signer     common.Address `json:"signer"`
	Payout     common.Address `json:"payout"`
	PeerIDHash common.Hash    `json:"peer_id_hash"` // keccak256 of the libp2p peer id's bytes.
	MetaHash   common.Hash    `json:"meta_hash"`
	Features   uint64         `json:"features"`
	Region     uint16         `json:"region"`
	SelfStake  *big.Int       `json:"self_stake"`            // ALEPH wei.
	SinceAt    uint64         `json:"since_at"`              // Chain time of the last status change.
	MadeAt     uint64         `json:"made_at"`               // Chain time of the registration.
	Linked     uint32         `json:"linked"`                // Id of the coordinator that links it; 0 is none.
	Locked     bool           `json:"locked"`                // No coordinator may link it.
	PoolTokens *big.Int       `json:"pool_tokens,omitempty"` // What others have delegated, in ALEPH wei, as events tell it: rewards that drip are in it with the next one.
	PoolShares *big.Int       `json:"pool_shares,omitempty"` // What they have of it in all.
	Block      uint64         `json:"block"`
}

func nodes() table[Node] {
	return table[Node]{
		name: "nodes", noun: "node",
		key: func(n *Node) string { return nodeKey(n.ID) },
		cols: []column[Node]{
			{"kind", func(n *Node) any { return string(n.Kind) }},
			{"status", func(n *Node) any { return string(n.Status) }},
			{"signer", func(n *Node) any { return n.Signer.Hex() }},
		},
	}
}

func nodeKey(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// PutNode writes a node's row.
func (tx *Tx) PutNode(ctx context.Context, n Node) error { return nodes().put(ctx, tx, &n) }

// Node returns the node with the id, or errs.NotFound.
func (r reader) Node(ctx context.Context, id uint32) (*Node, error) {
	return nodes().one(ctx, r, nodeKey(id))
}

// Nodes returns the nodes of the kind ("" = all), by id.
func (r reader) Nodes(ctx context.Context, kind NodeKind) ([]Node, error) {
	return nodes().list(ctx, r, "(? = '' OR kind = ?) ORDER BY CAST(pk AS BIGINT)", string(kind), string(kind))
}
