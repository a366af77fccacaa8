package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Avalanche verifies recoverable secp256k1 signatures of X- and P-chain accounts,
// and EIP-191 signatures of senders that are addresses of the C-chain. See section
// 2.4 of the protocol: its second form is a fix, which other clients sign.
type Avalanche struct{}

// Verify implements Verifier.
func (Avalanche) Verify(e *message.Envelope) error {
	if strings.HasPrefix(e.Sender, "0x") {
		return EVM{}.Verify(e)
	}
	alias, address, ok := strings.Cut(e.Sender, "-")
	prefix, _, split := strings.Cut(address, "1")
	if !ok || !split {
		return invalid("sender %.80s is not an address as X-avax1...", e.Sender)
	}
	sig, err := decode58Check(e.Signature, avalancheSum)
	if err != nil || len(sig) != crypto.SignatureLength {
		return invalid("it is not %d bytes in base58 with a check sum", crypto.SignatureLength)
	}
	pub, err := recoverCompressed(avalancheDigest(e), sig)
	if err != nil {
		return err
	}
	signer, err := avalancheAddress(alias, prefix, pub)
	if err != nil {
		return invalid("%v", err)
	}
	if signer != e.Sender {
		return wrongSender(e, signer)
	}
	return nil
}

// SignAvalanche makes the key's address on a chain ("X" or "P") the sender of the
// envelope and signs it. Chain, type and item hash must be set.
func SignAvalanche(key *ecdsa.PrivateKey, chain string, e *message.Envelope) (err error) {
	e.Sender, err = avalancheAddress(chain, "avax", crypto.CompressPubkey(&key.PublicKey))
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	sig, err := crypto.Sign(avalancheDigest(e), key)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	e.Signature = encode58Check(sig, avalancheSum)
	return nil
}

func avalancheAddress(alias, prefix string, pub []byte) (string, error) {
	address, err := bech32Of(prefix, hash160(pub))
	return alias + "-" + address, err
}

func avalancheDigest(e *message.Envelope) []byte {
	const words = "\x1aAvalanche Signed Message:\n"
	buffer := e.SigningBytes()
	sum := sha256.Sum256(bytes.Join([][]byte{[]byte(words), binary.BigEndian.AppendUint32(nil, uint32(len(buffer))), buffer}, nil))
	return sum[:]
}

// avalancheSum is the end of the hash.
func avalancheSum(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return sum[len(sum)-checkBytes:]
}

// recoverCompressed returns the key that made a signature r || s || recovery id.
func recoverCompressed(digest, sig []byte) ([]byte, error) {
	pub, err := crypto.SigToPub(digest, sig)
	if err != nil {
		return nil, invalid("no key can have made it: %v", err)
	}
	return crypto.CompressPubkey(pub), nil
}
