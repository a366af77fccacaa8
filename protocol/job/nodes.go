package job

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The EIP-712 types of the node registry, in the domain of Nodes.
const (
	RegisterType  = "Register(address owner,uint8 kind,bytes32 peerIdHash)"
	SetSignerType = "SetSigner(uint32 nodeId,address owner)"
)

// NodeKind is what a node does; the numbers are those of the registry.
type NodeKind uint8

// The kinds of nodes.
const (
	KindCoordinator NodeKind = 1
	KindCompute     NodeKind = 2
	KindStorage     NodeKind = 3
)

// String returns the word for the kind.
func (k NodeKind) String() string {
	switch k {
	case KindCoordinator:
		return "coordinator"
	case KindCompute:
		return "compute"
	case KindStorage:
		return "storage"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// peerIDMax bounds the bytes of a peer id, as the registry does.
const peerIDMax = 64

// Register is a signer's word: I sign for the node with this peer id, which
// this owner registers.
type Register struct {
	Owner  common.Address
	Kind   NodeKind
	PeerID []byte // the bytes of the libp2p peer id (its multihash)
}

// StructHash implements Signable.
func (r *Register) StructHash() common.Hash {
	return structHash(RegisterType, addressWord(r.Owner), numberWord(uint64(r.Kind)), crypto.Keccak256(r.PeerID))
}

// Check implements Signable.
func (r *Register) Check() error {
	if r.Kind < KindCoordinator || r.Kind > KindStorage {
		return fmt.Errorf("register: %s is not coordinator, compute or storage", r.Kind)
	}
	if len(r.PeerID) == 0 || len(r.PeerID) > peerIDMax {
		return fmt.Errorf("register: peer id has %d bytes, want 1 to %d", len(r.PeerID), peerIDMax)
	}
	return nil
}

// SetSigner is a new signer's word: I sign for this node of this owner.
type SetSigner struct {
	NodeID uint32
	Owner  common.Address
}

// StructHash implements Signable.
func (s *SetSigner) StructHash() common.Hash {
	return structHash(SetSignerType, numberWord(uint64(s.NodeID)), addressWord(s.Owner))
}

// Check implements Signable.
func (s *SetSigner) Check() error {
	if s.NodeID == 0 {
		return fmt.Errorf("set signer: node id is missing")
	}
	return nil
}

// QuorumMax is the most coordinator signatures that opening a job needs.
const QuorumMax = 3

// Quorum returns how many of the active coordinators must sign an assignment.
func Quorum(activeCoordinators int) int { return min(QuorumMax, activeCoordinators) }

// CoordSignature is one coordinator's signature of an Assignment.
type CoordSignature struct {
	CoordID   uint32    `json:"coord_id"`
	Signature Signature `json:"signature"`
}

// PackQuorum returns the signatures in the form that opening a job takes:
// entries of 69 bytes, the coordinator's node id in four bytes, big-endian,
// then its signature, ascending by id. Two signatures of one id are refused.
func PackQuorum(sigs []CoordSignature) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(sigs), func(a, b CoordSignature) int {
		return cmp.Compare(a.CoordID, b.CoordID)
	})
	var out []byte
	for i, s := range sorted {
		if len(s.Signature) != crypto.SignatureLength {
			return nil, fmt.Errorf("pack quorum: signature of coordinator %d has %d bytes, want %d", s.CoordID, len(s.Signature), crypto.SignatureLength)
		}
		if i > 0 && sorted[i-1].CoordID == s.CoordID {
			return nil, fmt.Errorf("pack quorum: coordinator %d signs twice", s.CoordID)
		}
		out = append(binary.BigEndian.AppendUint32(out, s.CoordID), s.Signature...)
	}
	return out, nil
}
