package signature

import (
	stdcrypto "crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// verifyP256 verifies r and s by a compressed key of NIST P-256.
func verifyP256(key, digest, sig []byte) bool {
	const half = compactLen / 2
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), key)
	if x == nil {
		return false
	}
	point := make([]byte, 1+2*half)
	point[0] = uncompressed
	x.FillBytes(point[1 : 1+half])
	y.FillBytes(point[1+half:])
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return false
	}
	r, s := new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])
	return ecdsa.Verify(public, digest, r, s)
}

// openP256 returns the compressed key of a private one, and what signs digests
// with it.
func openP256(key []byte) (public []byte, sign func(digest []byte) ([]byte, error), err error) {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), key)
	if err != nil {
		return nil, nil, err
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, nil, err
	}
	return compress(point), func(digest []byte) ([]byte, error) {
		der, err := k.Sign(nil, digest, stdcrypto.SHA256) // RFC 6979: without randomness
		if err != nil {
			return nil, err
		}
		return parseDER(der)
	}, nil
}

// parseDER reads a DER signature and returns r and s, 32 bytes each.
func parseDER(der []byte) ([]byte, error) {
	var seq cryptobyte.String
	var r, s []byte
	in := cryptobyte.String(der)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&s) || !seq.Empty() {
		return nil, fmt.Errorf("signature is not DER of two numbers")
	}
	const half = compactLen / 2
	if len(r) > half || len(s) > half {
		return nil, fmt.Errorf("signature has a number of more than %d bytes", half)
	}
	sig := make([]byte, compactLen)
	copy(sig[half-len(r):], r)
	copy(sig[compactLen-len(s):], s)
	return sig, nil
}

// encodeDER writes r and s as DER.
func encodeDER(sig []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[:compactLen/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[compactLen/2:]))
	})
	return b.Bytes()
}
