package job

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Names and version of the EIP-712 domains of the contracts.
const (
	DomainJobs    = "AlephJobs"    // JobManager
	DomainNodes   = "AlephNodes"   // NodeRegistry
	DomainStorage = "AlephStorage" // StorageRegistry
	DomainVersion = "1"
)

// Domain is an EIP-712 domain: which contract on which chain a signature is
// meant for.
type Domain struct {
	Name     string
	Version  string
	ChainID  *big.Int
	Contract common.Address
}

// Jobs returns the domain of the JobManager contract.
func Jobs(chainID *big.Int, jobManager common.Address) Domain {
	return Domain{Name: DomainJobs, Version: DomainVersion, ChainID: chainID, Contract: jobManager}
}

// Nodes returns the domain of the NodeRegistry contract.
func Nodes(chainID *big.Int, nodeRegistry common.Address) Domain {
	return Domain{Name: DomainNodes, Version: DomainVersion, ChainID: chainID, Contract: nodeRegistry}
}

// Storages returns the domain of the StorageRegistry contract, for the words
// of protocol/commitment.
func Storages(chainID *big.Int, storageRegistry common.Address) Domain {
	return Domain{Name: DomainStorage, Version: DomainVersion, ChainID: chainID, Contract: storageRegistry}
}

const domainType = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"

// Separator returns the domain separator.
func (d Domain) Separator() common.Hash {
	return structHash(domainType,
		crypto.Keccak256([]byte(d.Name)), crypto.Keccak256([]byte(d.Version)), bigWord(d.ChainID), addressWord(d.Contract))
}

// Signable is a word that can be signed as typed data.
type Signable interface {
	// StructHash returns the EIP-712 hash of the values with their type.
	StructHash() common.Hash
	// Check refuses values that the contract's types cannot hold.
	Check() error
}

// Digest returns the 32 bytes to sign for s in the domain. It means something
// only if s passes its Check, which Sign and Recover run.
func Digest(d Domain, s Signable) common.Hash {
	return crypto.Keccak256Hash([]byte("\x19\x01"), d.Separator().Bytes(), s.StructHash().Bytes())
}

// Signature is a 65-byte signature r, s, v; its JSON form is 0x and hex.
type Signature []byte

// Sign signs s in the domain.
func Sign(key *ecdsa.PrivateKey, d Domain, s Signable) (Signature, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	sig, err := crypto.Sign(Digest(d, s).Bytes(), key)
	if err != nil {
		return nil, fmt.Errorf("sign typed data: %w", err)
	}
	sig[crypto.RecoveryIDOffset] += 27
	return sig, nil
}

// Recover returns the address whose key signed s in the domain. A high s is
// refused: the contracts refuse it too, and it would give one signature two
// spellings.
func Recover(d Domain, s Signable, sig Signature) (common.Address, error) {
	if err := s.Check(); err != nil {
		return common.Address{}, err
	}
	if len(sig) != crypto.SignatureLength {
		return common.Address{}, fmt.Errorf("signature has %d bytes, want %d", len(sig), crypto.SignatureLength)
	}
	v := sig[crypto.RecoveryIDOffset]
	if v != 27 && v != 28 {
		return common.Address{}, fmt.Errorf("signature has recovery id %d, want 27 or 28", v)
	}
	r, low := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:64])
	if !crypto.ValidateSignatureValues(v-27, r, low, true) {
		return common.Address{}, fmt.Errorf("signature is not in the one accepted form: s must be in the lower half")
	}
	return message.RecoverDigest(Digest(d, s).Bytes(), sig)
}

// Verify checks that want's key signed s in the domain.
func Verify(d Domain, s Signable, sig Signature, want common.Address) error {
	got, err := Recover(d, s, sig)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("signed by %s, want %s", got, want)
	}
	return nil
}

// ParseSignature reads the text form of a signature.
func ParseSignature(s string) (Signature, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		return nil, fmt.Errorf("signature is not hex: %w", err)
	}
	if len(b) != crypto.SignatureLength {
		return nil, fmt.Errorf("signature has %d bytes, want %d", len(b), crypto.SignatureLength)
	}
	return b, nil
}

// String returns 0x and the hex digits.
func (s Signature) String() string { return "0x" + hex.EncodeToString(s) }

// MarshalText implements encoding.TextMarshaler.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Signature) UnmarshalText(text []byte) error {
	p, err := ParseSignature(string(text))
	if err != nil {
		return err
	}
	*s = p
	return nil
}

func structHash(typ string, words ...[]byte) common.Hash {
	return crypto.Keccak256Hash(crypto.Keccak256([]byte(typ)), bytes.Join(words, nil))
}

func bigWord(v *big.Int) []byte {
	if v == nil || v.Sign() < 0 || v.BitLen() > 256 {
		return make([]byte, 32)
	}
	return common.BigToHash(v).Bytes()
}

func numberWord(v uint64) []byte          { return bigWord(new(big.Int).SetUint64(v)) }
func addressWord(a common.Address) []byte { return common.LeftPadBytes(a.Bytes(), 32) }
func specWord(spec message.ItemHash) []byte {
	sum, _ := spec.Digest()
	return sum[:]
}

// Widths of the contract's number types, in bits.
const (
	bitsRate = 128
	bitsTime = 40
	bitsWord = 256
)

func checkSpec(what string, spec message.ItemHash) error {
	if _, ok := spec.Digest(); !ok {
		return fmt.Errorf("%s: spec %.80q is not 64 lower-case hex digits", what, string(spec))
	}
	return nil
}

func checkBig(what string, v *big.Int, bits int) error {
	if v == nil {
		return fmt.Errorf("%s is missing", what)
	}
	if v.Sign() < 0 || v.BitLen() > bits {
		return fmt.Errorf("%s is %s, want 0 to 2^%d-1", what, v, bits)
	}
	return nil
}

func checkTime(what string, v uint64) error {
	if v >= 1<<bitsTime {
		return fmt.Errorf("%s is %d, want seconds that fit %d bits", what, v, bitsTime)
	}
	return nil
}

// amount is the JSON form of big numbers: a decimal text.
type amount struct{ *big.Int }

func (a amount) MarshalJSON() ([]byte, error) {
	if a.Int == nil {
		return []byte("null"), nil
	}
	return json.Marshal(a.Int.String())
}

func (a *amount) UnmarshalJSON(raw []byte) error {
	const digitsMax = 78 // of 2^256
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("amount %.100s is not a decimal text", raw)
	}
	if len(s) == 0 || len(s) > digitsMax || strings.Trim(s, "0123456789") != "" {
		return fmt.Errorf("amount %.100q is not a decimal number of at most %d digits", s, digitsMax)
	}
	v, _ := new(big.Int).SetString(s, 10)
	a.Int = v
	return nil
}
