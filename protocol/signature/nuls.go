package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/cryptobyte"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// nulsTitle begins what accounts of both NULS chains sign.
const nulsTitle = "\x18NULS Signed Message:\n"

const (
	nulsKeyHash   = 1  // the kind of address that a key has
	nulsHashLen   = 23 // chain id, kind and hash of the key
	nulsBytesMax  = 3 + compressedLen + nulsDERMax
	nulsDERMax    = 72 // two numbers of 33 bytes
	nulsECCKind   = 0  // the only kind of curve, secp256k1
	nulsBase58Max = nulsHashLen + 1
)

// verifyNULS checks the secp256k1 signature of an account of the first NULS
// chain, which carries its key. NULS is not known to want a low s, so both
// hold.
//
// Wallets sign the bytes of the text. The reference and its Python SDK sign
// and check how Python writes those bytes, so that form holds too.
func verifyNULS(e *message.Envelope) error {
	key, sig, err := parseNULS(e.Signature)
	if err != nil {
		return err
	}
	sender, err := decodeBase58Exact(e.Sender, nulsBase58Max)
	if err != nil {
		return fmt.Errorf("sender %.80q: %w", e.Sender, err)
	}
	if err := wantSender(nulsAddress(binary.LittleEndian.Uint16(sender), key), e); err != nil {
		return err
	}
	if highS(sig) {
		sig = lowS(sig)
	}
	text := nulsText(e.SigningBytes())
	for _, text := range [][]byte{text, []byte(pythonBytes(text))} {
		digest := nulsDigest(text)
		if crypto.VerifySignature(key, digest[:], sig) {
			return nil
		}
	}
	return fmt.Errorf("the secp256k1 signature does not hold")
}

// parseNULS returns the compressed key of a signature, and r and s.
func parseNULS(text string) (key, sig []byte, err error) {
	if len(text) > 2*nulsBytesMax {
		return nil, nil, fmt.Errorf("signature has %d hex digits, at most %d are allowed", len(text), 2*nulsBytesMax)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, nil, fmt.Errorf("signature is not hex: %w", err)
	}
	var public, der cryptobyte.String
	var kind uint8
	in := cryptobyte.String(raw)
	if !in.ReadUint8LengthPrefixed(&public) || !in.ReadUint8(&kind) || !in.ReadUint8LengthPrefixed(&der) || !in.Empty() {
		return nil, nil, fmt.Errorf("signature is not a key, a kind and a DER signature")
	}
	if len(public) != compressedLen || kind != nulsECCKind {
		return nil, nil, fmt.Errorf("signature has a key of %d bytes and kind %d, want %d and %d", len(public), kind, compressedLen, nulsECCKind)
	}
	sig, err = parseDER(der)
	return public, sig, err
}

// lowS returns the form of a signature whose s is low: r and the order less s.
func lowS(sig []byte) []byte {
	order := crypto.S256().Params().N
	low := bytes.Clone(sig)
	s := new(big.Int).SetBytes(sig[compactLen/2:])
	if s.Cmp(order) >= 0 {
		return sig // no scalar, which verifying finds
	}
	s.Sub(order, s).FillBytes(low[compactLen/2:])
	return low
}

// nulsHash is the body of an address: chain id, kind and hash of the key, and
// their exclusive or as the checksum.
func nulsHash(chainID uint16, key []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, chainID)
	b = append(append(b, nulsKeyHash), hash160(key)...)
	var xor byte
	for _, c := range b {
		xor ^= c
	}
	return append(b, xor)
}

// nulsAddress returns the address of a compressed key.
func nulsAddress(chainID uint16, key []byte) string { return base58.Encode(nulsHash(chainID, key)) }

// nulsText is a text behind its length in Bitcoin's compact form.
func nulsText(text []byte) []byte {
	const wide, two, four = 0xfd, 0xfd, 0xfe
	n := len(text)
	var b []byte
	switch {
	case n < wide:
		b = []byte{byte(n)}
	case n <= 0xffff:
		b = binary.LittleEndian.AppendUint16([]byte{two}, uint16(n))
	default:
		b = binary.LittleEndian.AppendUint32([]byte{four}, uint32(n))
	}
	return append(b, text...)
}

func nulsDigest(text []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(nulsTitle), text...))
}

// pythonBytes is how Python writes bytes: b'...' with escapes, in double quotes
// if only single ones are within.
func pythonBytes(b []byte) string {
	quote := byte('\'')
	if bytes.IndexByte(b, '\'') >= 0 && bytes.IndexByte(b, '"') < 0 {
		quote = '"'
	}
	out := []byte{'b', quote}
	for _, c := range b {
		switch {
		case c == quote || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, `\n`...)
		case c == '\r':
			out = append(out, `\r`...)
		case c == '\t':
			out = append(out, `\t`...)
		case c < ' ' || c > '~':
			out = fmt.Appendf(out, `\x%02x`, c)
		default:
			out = append(out, c)
		}
	}
	return string(append(out, quote))
}

// NewNULS returns the account of a secp256k1 key of 32 bytes on the first NULS
// chain; 8964 is the id of its main net.
func NewNULS(chainID uint16, key []byte) (*Signer, error) {
	k, err := crypto.ToECDSA(key)
	if err != nil {
		return nil, fmt.Errorf("read NULS key: %w", err)
	}
	address := nulsAddress(chainID, crypto.CompressPubkey(&k.PublicKey))
	return &Signer{NULS, address, func(e *message.Envelope) (string, error) { return signNULS(k, e) }}, nil
}

func signNULS(k *ecdsa.PrivateKey, e *message.Envelope) (string, error) {
	digest := nulsDigest(nulsText(e.SigningBytes()))
	sig, err := crypto.Sign(digest[:], k)
	if err != nil {
		return "", err
	}
	der, err := encodeDER(sig[:compactLen])
	if err != nil {
		return "", err
	}
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(crypto.CompressPubkey(&k.PublicKey)) })
	b.AddUint8(nulsECCKind)
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(der) })
	raw, err := b.Bytes()
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(raw), nil
}
