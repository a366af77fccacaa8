package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/mr-tron/base58"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// NULS verifies signatures of NULS's first chain, which carry their key, over the
// raw bytes of the message. See section 2.9 of the protocol: the reference
// implementation builds those bytes wrongly and refuses all of them.
type NULS struct{}

// NULS2 verifies recoverable signatures of NULS. See section 2.8 of the protocol.
type NULS2 struct{}

// nulsAddressBytes are the chain's number, the type, a hash and a check byte.
const nulsAddressBytes = 2 + 1 + 20 + 1

// Verify implements Verifier.
func (NULS) Verify(e *message.Envelope) error {
	raw, err := hex.DecodeString(e.Signature)
	if err != nil {
		return invalid("it is not hexadecimal")
	}
	pub, raw, ok := cutCounted(raw)
	if !ok || len(raw) == 0 || raw[0] != 0 {
		return invalid("it does not begin with a key and its kind, 0")
	}
	der, rest, ok := cutCounted(raw[1:])
	if !ok || len(rest) != 0 {
		return invalid("it does not end with a signature")
	}
	address, err := base58.Decode(e.Sender)
	if err != nil || len(address) != nulsAddressBytes {
		return invalid("sender %.80s is not %d bytes in base58", e.Sender, nulsAddressBytes)
	}
	if signer := nulsAddress(address[:2], pub); !bytes.Equal(signer, address) {
		return wrongSender(e, base58.Encode(signer))
	}
	key, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		return invalid("its key is no point of secp256k1")
	}
	sig, err := secp.ParseDERSignature(der)
	if err != nil {
		return invalid("it is not in DER: %v", err)
	}
	if !sig.Verify(nulsDigest(e), key) {
		return invalid("the key of %.80s did not sign this message", e.Sender)
	}
	return nil
}

// SignNULS makes the key's address on a chain (8964: the main one) the sender of
// the envelope and signs it. Chain, type and item hash must be set.
func SignNULS(key *ecdsa.PrivateKey, chain uint16, e *message.Envelope) error {
	pub := crypto.CompressPubkey(&key.PublicKey)
	e.Sender = base58.Encode(nulsAddress(binary.LittleEndian.AppendUint16(nil, chain), pub))
	der := secp.Sign(secp256k1.PrivKeyFromBytes(crypto.FromECDSA(key)), nulsDigest(e)).Serialize()
	raw := append([]byte{byte(len(pub))}, pub...)
	e.Signature = hex.EncodeToString(append(append(raw, 0, byte(len(der))), der...))
	return nil
}

// Verify implements Verifier.
func (NULS2) Verify(e *message.Envelope) error {
	chain, ok := nuls2Chain(e.Sender)
	if !ok {
		return invalid("sender %.80s begins neither with NULSd nor with tNULSe", e.Sender)
	}
	raw, err := base64.StdEncoding.DecodeString(e.Signature)
	if err != nil || len(raw) != crypto.SignatureLength {
		return invalid("it is not %d bytes in base64", crypto.SignatureLength)
	}
	// The first byte is 27 and the recovery id, and 4 more for a short key.
	const first, short = 27, 4
	id := raw[0] - first
	if id >= short {
		id -= short
	}
	if raw[0] < first || id >= short {
		return invalid("its first byte is %d, want %d to %d", raw[0], first, first+2*short-1)
	}
	pub, err := recoverCompressed(nulsDigest(e), append(bytes.Clone(raw[1:]), id))
	if err != nil {
		return err
	}
	if signer := nuls2Address(chain, pub); signer != e.Sender {
		return wrongSender(e, signer)
	}
	return nil
}

// SignNULS2 makes the key's address on the main chain the sender of the envelope
// and signs it. Chain, type and item hash must be set.
func SignNULS2(key *ecdsa.PrivateKey, e *message.Envelope) error {
	e.Sender = nuls2Address(1, crypto.CompressPubkey(&key.PublicKey))
	sig, err := crypto.Sign(nulsDigest(e), key)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	const first = 27
	last := len(sig) - 1
	e.Signature = base64.StdEncoding.EncodeToString(append([]byte{first + sig[last]}, sig[:last]...))
	return nil
}

// nuls2Prefixes begin the addresses of the chains 1 and 2.
func nuls2Prefixes() map[uint16]string { return map[uint16]string{1: "NULSd", 2: "tNULSe"} }

func nuls2Chain(sender string) (uint16, bool) {
	for chain, prefix := range nuls2Prefixes() {
		if strings.HasPrefix(sender, prefix) {
			return chain, true
		}
	}
	return 0, false
}

func nuls2Address(chain uint16, pub []byte) string {
	return nuls2Prefixes()[chain] + base58.Encode(nulsAddress(binary.LittleEndian.AppendUint16(nil, chain), pub))
}

// nulsAddress is the address of a key on a chain, whose number has two bytes.
func nulsAddress(chain, pub []byte) []byte {
	const ordinary = 1
	out := append(append(bytes.Clone(chain), ordinary), hash160(pub)...)
	var check byte
	for _, b := range out {
		check ^= b
	}
	return append(out, check)
}

func nulsDigest(e *message.Envelope) []byte {
	const words = "\x18NULS Signed Message:\n"
	buffer := e.SigningBytes()
	sum := sha256.Sum256(bytes.Join([][]byte{[]byte(words), compactSize(len(buffer)), buffer}, nil))
	return sum[:]
}

// cutCounted cuts off a byte and as many bytes as it says.
func cutCounted(raw []byte) (head, rest []byte, ok bool) {
	if len(raw) == 0 || len(raw) < 1+int(raw[0]) {
		return nil, nil, false
	}
	return raw[1 : 1+raw[0]], raw[1+int(raw[0]):], true
}
