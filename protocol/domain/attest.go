package domain

import (
	"bytes"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The EIP-712 types and the name of their domain.
const (
	TypedName       = "AlephDomains"
	AttestationType = "DnsAttestation(bytes32 key,address owner,uint32 nonce,uint8 method,uint40 seenAt)"
	RevocationType  = "Revocation(bytes32 key,uint32 nonce,bytes32 spkiHash,bytes32 evidence)"

	typedVersion = "1"
	typedDomain  = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
	bitsTime     = 40 // of the contract's times
)

// Attestation is what a coordinator signs: at SeenAt, DNS named the owner.
type Attestation struct {
	Key    Key
	Owner  common.Address
	Nonce  uint32
	Method Method
	SeenAt uint64 // Unix seconds
}

// StructHash returns the EIP-712 hash of the values with their type.
func (a *Attestation) StructHash() common.Hash {
	return structHash(AttestationType, a.Key[:], addressWord(a.Owner), numberWord(uint64(a.Nonce)),
		numberWord(uint64(a.Method)), numberWord(a.SeenAt))
}

// Check refuses values that the contract cannot take.
func (a *Attestation) Check() error {
	if a.Owner == (common.Address{}) {
		return fmt.Errorf("attestation of %s names no owner", a.Key)
	}
	if a.Method != MethodAddress && a.Method != MethodToken {
		return fmt.Errorf("attestation of %s has method %d, want %d or %d", a.Key, a.Method, MethodAddress, MethodToken)
	}
	if a.SeenAt >= 1<<bitsTime {
		return fmt.Errorf("attestation of %s is of %d, want seconds that fit %d bits", a.Key, a.SeenAt, bitsTime)
	}
	return nil
}

// Revocation is what a coordinator signs that saw a name or a key misused.
type Revocation struct {
	Key      Key
	Nonce    uint32
	SPKIHash common.Hash // of the key; zero: the whole name
	Evidence common.Hash
}

// StructHash returns the EIP-712 hash of the values with their type.
func (r *Revocation) StructHash() common.Hash {
	return structHash(RevocationType, r.Key[:], numberWord(uint64(r.Nonce)), r.SPKIHash[:], r.Evidence[:])
}

// Check refuses values that the contract cannot take.
func (r *Revocation) Check() error {
	if r.Evidence == (common.Hash{}) {
		return fmt.Errorf("revocation of %s has no evidence", r.Key)
	}
	return nil
}

// Word is what coordinators sign about a name.
type Word interface {
	StructHash() common.Hash
	Check() error
}

// Digest returns the 32 bytes that a coordinator signs for the registry on a
// chain. It means something only if w passes its Check.
func Digest(chainID *big.Int, registry common.Address, w Word) common.Hash {
	separator := structHash(typedDomain, crypto.Keccak256([]byte(TypedName)), crypto.Keccak256([]byte(typedVersion)),
		common.BigToHash(chainID).Bytes(), addressWord(registry))
	return crypto.Keccak256Hash([]byte("\x19\x01"), separator.Bytes(), w.StructHash().Bytes())
}

func structHash(typ string, words ...[]byte) common.Hash {
	return crypto.Keccak256Hash(crypto.Keccak256([]byte(typ)), bytes.Join(words, nil))
}

func addressWord(a common.Address) []byte { return common.LeftPadBytes(a.Bytes(), 32) }

func numberWord(v uint64) []byte { return common.BigToHash(new(big.Int).SetUint64(v)).Bytes() }
