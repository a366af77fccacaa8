package commitment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Day is a day of proofs: Unix time divided by DaySeconds.
type Day uint32

// Times of a day of proofs.
const (
	DaySeconds  = 86400
	seedDelay   = 60       // seconds from a day's start to its seed's round, in which the last roots of the day before settle
	ProveWithin = 6 * 3600 // seconds after a day's end until which it can be proven
)

// Start returns the Unix time at which the day starts.
func (d Day) Start() uint64 { return uint64(d) * DaySeconds }

// Deadline returns the Unix time until which the day can be proven.
func (d Day) Deadline() uint64 { return d.Start() + DaySeconds + ProveWithin }

// Seed decides which leaves are asked for. It is the sha256 of a signature that
// nobody knows before its time.
type Seed = common.Hash

// SignatureSize is the size of a round's signature: x and y of a point.
const SignatureSize = 64

// domainTag separates the signatures of this scheme from all others.
const domainTag = "BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_"

// Network is a drand network that signs with BLS on BN254.
type Network struct {
	Key     [128]byte // x and y of the public key, of each the imaginary part first
	Genesis uint64    // Unix seconds of round 1
	Period  uint64    // seconds between rounds
}

// Evmnet returns the public network of the League of Entropy.
func Evmnet() Network {
	return Network{
		Key: [128]byte(common.FromHex("07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382" +
			"0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f" +
			"0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6" +
			"297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b")),
		Genesis: 1727521075,
		Period:  3,
	}
}

// RoundAt returns the first round that is not before a Unix time.
func (n Network) RoundAt(at uint64) (uint64, error) {
	if n.Period == 0 {
		return 0, fmt.Errorf("beacon: a network needs a period")
	}
	if at < n.Genesis {
		return 0, fmt.Errorf("beacon: %d is before the network's first round at %d", at, n.Genesis)
	}
	past := at - n.Genesis
	round := past/n.Period + 1
	if past%n.Period != 0 {
		round++
	}
	return round, nil
}

// RoundOf returns the round whose signature is the seed of a day.
func (n Network) RoundOf(d Day) (uint64, error) { return n.RoundAt(d.Start() + seedDelay) }

// Verify checks the signature of a round and returns the seed that it gives.
func (n Network) Verify(round uint64, signature []byte) (Seed, error) {
	sig, err := parsePoint(signature)
	if err != nil {
		return Seed{}, fmt.Errorf("beacon: round %d: %w", round, err)
	}
	key, err := parseKey(n.Key)
	if err != nil {
		return Seed{}, fmt.Errorf("beacon: key: %w", err)
	}
	h, err := HashToCurve(round)
	if err != nil {
		return Seed{}, err
	}
	_, _, _, generator := bn254.Generators()
	generator.Neg(&generator)
	ok, err := bn254.PairingCheck([]bn254.G1Affine{sig, h}, []bn254.G2Affine{generator, key})
	if err != nil {
		return Seed{}, fmt.Errorf("beacon: round %d: %w", round, err)
	}
	if !ok {
		return Seed{}, fmt.Errorf("beacon: the point is not the signature of round %d", round)
	}
	return sha256.Sum256(signature), nil
}

// parsePoint reads a point of the curve other than infinity.
func parsePoint(raw []byte) (p bn254.G1Affine, err error) {
	if len(raw) != SignatureSize {
		return p, fmt.Errorf("signature has %d bytes, want %d", len(raw), SignatureSize)
	}
	if err := p.X.SetBytesCanonical(raw[:32]); err != nil {
		return p, fmt.Errorf("x: %w", err)
	}
	if err := p.Y.SetBytesCanonical(raw[32:]); err != nil {
		return p, fmt.Errorf("y: %w", err)
	}
	if p.IsInfinity() || !p.IsOnCurve() {
		return p, fmt.Errorf("signature is no point of the curve")
	}
	return p, nil
}

func parseKey(raw [128]byte) (p bn254.G2Affine, err error) {
	for i, part := range []*fp.Element{&p.X.A1, &p.X.A0, &p.Y.A1, &p.Y.A0} {
		if err := part.SetBytesCanonical(raw[32*i : 32*i+32]); err != nil {
			return p, fmt.Errorf("part %d: %w", i, err)
		}
	}
	if p.IsInfinity() || !p.IsInSubGroup() {
		return p, fmt.Errorf("no point of the group")
	}
	return p, nil
}

// HashToCurve returns the point that the signature of a round is a multiple
// of: RFC 9380 with Keccak-256, of the hash of the round's number.
func HashToCurve(round uint64) (bn254.G1Affine, error) {
	const elementSize = 48 // bytes per field element: 254 bits and 128 more, rounded up
	message := crypto.Keccak256(binary.BigEndian.AppendUint64(nil, round))
	uniform := expandMessage(message, 2*elementSize)
	var points [2]bn254.G1Affine
	for i := range points {
		var u fp.Element
		u.SetBigInt(new(big.Int).SetBytes(uniform[i*elementSize : (i+1)*elementSize]))
		points[i] = bn254.MapToCurve1(&u)
	}
	var sum bn254.G1Affine
	sum.Add(&points[0], &points[1])
	if sum.IsInfinity() {
		return sum, fmt.Errorf("beacon: round %d hashes to infinity", round)
	}
	return sum, nil
}

// expandMessage is RFC 9380's expand_message_xmd with Keccak-256, for at most
// 255 blocks.
func expandMessage(message []byte, size int) []byte {
	const blockSize = 136 // of Keccak-256
	tag := append([]byte(domainTag), byte(len(domainTag)))
	b0 := crypto.Keccak256(make([]byte, blockSize), message, []byte{byte(size >> 8), byte(size), 0}, tag)
	block := make([]byte, len(b0))
	var out []byte
	for i := byte(1); len(out) < size; i++ {
		mixed := make([]byte, len(b0))
		for j := range mixed {
			mixed[j] = b0[j] ^ block[j]
		}
		block = crypto.Keccak256(mixed, []byte{i}, tag)
		out = append(out, block...)
	}
	return out[:size]
}
