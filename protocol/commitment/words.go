package commitment

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The EIP-712 types of the words, letter by letter as the contracts have them.
// Their domain is protocol/job's Storages.
const (
	RequestType     = "StoreRequest(address payer,uint32 nodeId,bytes32 root,uint64 size,bytes32 itemHash,uint24 untilDay,uint8 k,uint8 token,uint96 rateQ32,uint40 deadline)"
	ExtensionType   = "StoreExtension(uint128 id,uint24 untilDay)"
	RepairType      = "StoreRepair(uint128 id,uint32 nodeId)"
	ReceiptType     = "StorageReceipt(uint32 nodeId,bytes32 root,uint64 leaves,uint24 sinceDay,uint24 untilDay,address holder)"
	AttestationType = "DayAttestation(uint24 day,bytes32 seed,bytes32 bitmapRoot)"
)

// Widths and bounds of the contract's types.
const (
	dayMax       = 1<<24 - 1
	timeMax      = 1<<40 - 1
	rateBits     = 96
	challengeMax = 20 // challenges of an object a day
)

// Receipt is what a node signs for a client whose object is in its bundle.
type Receipt struct {
	NodeID uint32         `json:"node_id"`
	Root   Hash           `json:"root"`
	Leaves uint64         `json:"leaves"`
	Since  Day            `json:"since_day"` // first day on which the object is in the bundle
	Until  Day            `json:"until_day"` // first day on which it need not be
	Holder common.Address `json:"holder"`
}

// StructHash implements job.Signable.
func (r *Receipt) StructHash() Hash {
	return structHash(ReceiptType, word(uint64(r.NodeID)), r.Root[:], word(r.Leaves), word(uint64(r.Since)), word(uint64(r.Until)), addressWord(r.Holder))
}

// Check implements job.Signable.
func (r *Receipt) Check() error {
	switch {
	case r.NodeID == 0:
		return fmt.Errorf("receipt: node_id is missing")
	case r.Root == Hash{}:
		return fmt.Errorf("receipt: root is zero")
	case r.Until > dayMax || r.Since >= r.Until:
		return fmt.Errorf("receipt: days %d to %d, want a later end of at most %d", r.Since, r.Until, dayMax)
	}
	if err := checkLeaves(r.Leaves); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	return nil
}

// ParseReceipt decodes a receipt and checks it.
func ParseReceipt(raw []byte) (*Receipt, error) {
	r := new(Receipt)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("decode receipt: %w", err)
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return r, nil
}

// Request is what a payer asks a node to store; the node agrees by its
// signature.
type Request struct {
	Payer    common.Address
	NodeID   uint32
	Root     Hash
	Size     uint64 // bytes of the object
	ItemHash Hash
	Until    Day // first day that need not be proven
	K        uint8
	Token    uint8
	RateQ32  *big.Int // token wei per second times 2^32; 0 for no rent
	Deadline uint64   // Unix seconds of chain time
}

// StructHash implements job.Signable.
func (r *Request) StructHash() Hash {
	return structHash(RequestType, addressWord(r.Payer), word(uint64(r.NodeID)), r.Root[:], word(r.Size), r.ItemHash[:],
		word(uint64(r.Until)), word(uint64(r.K)), word(uint64(r.Token)), rateWord(r.RateQ32), word(r.Deadline))
}

// Check implements job.Signable.
func (r *Request) Check() error {
	switch {
	case r.NodeID == 0:
		return fmt.Errorf("request: node_id is missing")
	case r.Root == Hash{} || r.ItemHash == Hash{}:
		return fmt.Errorf("request: root or item_hash is zero")
	case r.Size == 0 || r.Size > LeavesMax*LeafSize:
		return fmt.Errorf("request: size is %d, want 1 to %d", r.Size, uint64(LeavesMax*LeafSize))
	case r.K == 0 || r.K > challengeMax:
		return fmt.Errorf("request: k is %d, want 1 to %d", r.K, challengeMax)
	case r.Until > dayMax || r.Deadline > timeMax:
		return fmt.Errorf("request: until_day %d or deadline %d is too large", r.Until, r.Deadline)
	}
	return checkRate(r.RateQ32)
}

// ID returns the id of the commitment that the request becomes.
func (r *Request) ID() ID { return idOf(r.NodeID, r.StructHash()) }

// Terms are the terms of an object's commitment; the contract keeps their
// hash.
type Terms struct {
	NodeID  uint32
	Root    Hash
	Size    uint64
	Since   Day
	Until   Day
	K       uint8
	Payer   common.Address
	Token   uint8
	RateQ32 *big.Int
}

// Hash returns what the contract keeps.
func (t *Terms) Hash() Hash {
	return crypto.Keccak256Hash(word(uint64(t.NodeID)), t.Root[:], word(t.Size), word(uint64(t.Since)), word(uint64(t.Until)),
		word(uint64(t.K)), addressWord(t.Payer), word(uint64(t.Token)), rateWord(t.RateQ32))
}

// Extension is a node's word that it stores an object for longer.
type Extension struct {
	ID    ID
	Until Day
}

// StructHash implements job.Signable.
func (e *Extension) StructHash() Hash {
	return structHash(ExtensionType, idWord(e.ID), word(uint64(e.Until)))
}

// Check implements job.Signable.
func (e *Extension) Check() error {
	if e.Until > dayMax {
		return fmt.Errorf("extension: until_day is %d, want %d at most", e.Until, dayMax)
	}
	return nil
}

// Repair is the word of a node and of coordinators that the node takes over an
// object.
type Repair struct {
	ID     ID
	NodeID uint32
}

// StructHash implements job.Signable.
func (r *Repair) StructHash() Hash {
	return structHash(RepairType, idWord(r.ID), word(uint64(r.NodeID)))
}

// Check implements job.Signable.
func (r *Repair) Check() error {
	if r.NodeID == 0 {
		return fmt.Errorf("repair: node_id is missing")
	}
	return nil
}

// NewID returns the id of the commitment that the repair makes.
func (r *Repair) NewID() ID { return idOf(r.NodeID, r.StructHash()) }

// Attestation is a coordinator's word that the nodes in a bitmap have proven
// everything for a day.
type Attestation struct {
	Day        Day
	Seed       Seed
	BitmapRoot Hash
}

// StructHash implements job.Signable.
func (a *Attestation) StructHash() Hash {
	return structHash(AttestationType, word(uint64(a.Day)), a.Seed[:], a.BitmapRoot[:])
}

// Check implements job.Signable.
func (a *Attestation) Check() error {
	if a.Day > dayMax || a.Seed == (Seed{}) {
		return fmt.Errorf("attestation: day %d, seed %s: want a day of at most %d and its seed", a.Day, a.Seed, dayMax)
	}
	return nil
}

// Sampled returns whether a node must prove on the chain, whatever the
// coordinators have seen: one of denominator nodes a day.
func Sampled(seed Seed, nodeID uint32, denominator uint16) bool {
	sum := new(big.Int).SetBytes(crypto.Keccak256(seed[:], word(uint64(nodeID))))
	return sum.Mod(sum, big.NewInt(int64(denominator))).Sign() == 0
}

// ParseID reads the text form of an id: 0x and 32 hex digits.
func ParseID(s string) (id ID, err error) {
	raw, err := hex.DecodeString(trim0x(s))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("id %.80q is not 0x and %d hex digits", s, 2*len(id))
	}
	return ID(raw), nil
}

// String returns 0x and the hex digits.
func (id ID) String() string { return "0x" + hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	p, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = p
	return nil
}

func trim0x(s string) string {
	if len(s) > 1 && s[0] == '0' && s[1] == 'x' {
		return s[2:]
	}
	return s
}

// idOf is never the id of a bundle.
func idOf(nodeID uint32, h Hash) ID {
	id := BundleID(nodeID)
	copy(id[4:], h[20:])
	id[15] |= 1
	return id
}

func structHash(typ string, words ...[]byte) Hash {
	return crypto.Keccak256Hash(crypto.Keccak256([]byte(typ)), bytes.Join(words, nil))
}

func word(v uint64) []byte {
	return common.LeftPadBytes(binary.BigEndian.AppendUint64(nil, v), 32)
}
func addressWord(a common.Address) []byte { return common.LeftPadBytes(a[:], 32) }
func idWord(id ID) []byte                 { return common.LeftPadBytes(id[:], 32) }

func rateWord(v *big.Int) []byte {
	if checkRate(v) != nil {
		return make([]byte, 32)
	}
	return common.BigToHash(v).Bytes()
}

func checkRate(v *big.Int) error {
	if v == nil || v.Sign() < 0 || v.BitLen() > rateBits {
		return fmt.Errorf("rate_q32 is %s, want 0 to 2^%d-1", v, rateBits)
	}
	return nil
}
