package signature

import (
	"crypto/sha256"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/crypto/ripemd160" //nolint:gosec,staticcheck // addresses of these chains are made with it
)

const (
	compactLen    = 64 // r and s, 32 bytes each
	compressedLen = 33 // a point as its x and the sign of its y
	uncompressed  = 4  // begins a point as its x and y
	recoveryIDMax = 3
)

// halfOrder is half the order of secp256k1. An s above it is high: its negative
// makes a signature of the same text by the same key.
const halfOrder = "\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\x5d\x57\x6e\x73\x57\xa4\x50\x1d\xdf\xe9\x2f\x46\x68\x1b\x20\xa0"

// highS says whether the s of r and s is above half the order.
func highS(sig []byte) bool { return string(sig[compactLen/2:compactLen]) > halfOrder }

// recoverKey returns the compressed key that signed the digest. The signature
// is r, s and the recovery id; builds without cgo take more ids than there are.
func recoverKey(digest [sha256.Size]byte, sig []byte) ([]byte, error) {
	if id := sig[crypto.RecoveryIDOffset]; id > recoveryIDMax {
		return nil, fmt.Errorf("signature has recovery id %d, want 0 to %d", id, recoveryIDMax)
	}
	point, err := crypto.Ecrecover(digest[:], sig)
	if err != nil {
		return nil, fmt.Errorf("recover signer: %w", err)
	}
	return compress(point), nil
}

// compress returns the short form of a point that is written as x and y.
func compress(point []byte) []byte {
	const evenY, oddBit = 2, 1
	return append([]byte{evenY | point[len(point)-1]&oddBit}, point[1:compressedLen]...)
}

// hash160 is what Bitcoin and its kin hash keys to.
func hash160(key []byte) []byte {
	sum := sha256.Sum256(key)
	h := ripemd160.New() //nolint:gosec // as above
	h.Write(sum[:])
	return h.Sum(nil)
}
