package message

import "slices"

// Chain names the chain whose key signed a message.
type Chain string

// Ethereum is the chain code that this product's own clients sign under.
const Ethereum Chain = "ETH"

// Known reports whether the protocol names the chain.
func (c Chain) Known() bool { return slices.Contains(chains(), c) }

func chains() []Chain {
	return []Chain{
		"ARB", "AURORA", "AVAX", "BASE", "BLAST", "BOB", "BSC", "CSDK", "CYBER", "DOT", "ES", Ethereum,
		"ETHERLINK", "FRAX", "HYPE", "INK", "LENS", "LINEA", "LISK", "METIS", "MODE", "NEO", "NULS",
		"NULS2", "OP", "POL", "SOL", "SONIC", "STT", "TEZOS", "UNICHAIN", "WLD", "ZORA",
	}
}

// Type is the kind of a message.
type Type string

// The types of the protocol.
const (
	TypePost      Type = "POST"
	TypeAggregate Type = "AGGREGATE"
	TypeStore     Type = "STORE"
	TypeProgram   Type = "PROGRAM"
	TypeInstance  Type = "INSTANCE"
	TypeForget    Type = "FORGET"
	TypeVProgram  Type = "V-PROGRAM"
)

// Known reports whether the protocol names the type.
func (t Type) Known() bool { return slices.Contains(types(), t) }

func types() []Type {
	return []Type{TypePost, TypeAggregate, TypeStore, TypeProgram, TypeInstance, TypeForget, TypeVProgram}
}

// Status is where a message stands on a node.
type Status string

// The statuses that a node gives to a message.
const (
	StatusPending   Status = "pending"   // waits for something it needs
	StatusProcessed Status = "processed" // became state
	StatusRejected  Status = "rejected"  // refused for good, with a Code
)
