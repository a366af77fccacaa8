package message

import (
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// TextDigest returns the EIP-191 digest of a text: what a wallet signs when
// its owner signs a message. Envelopes of EVM chains, owner requests and
// capacity ads are signed in this form.
func TextDigest(text []byte) []byte {
	prefix := "\x19Ethereum Signed Message:\n" + strconv.Itoa(len(text))
	return crypto.Keccak256([]byte(prefix), text)
}

// SignText signs a text as EIP-191 says and returns 0x and 130 hex digits,
// with the recovery id as 27 or 28.
func SignText(key *ecdsa.PrivateKey, text []byte) (string, error) {
	sig, err := crypto.Sign(TextDigest(text), key)
	if err != nil {
		return "", fmt.Errorf("sign text: %w", err)
	}
	sig[crypto.RecoveryIDOffset] += 27
	return "0x" + hex.EncodeToString(sig), nil
}

// RecoverText returns the address whose key signed the text. The signature is
// 65 bytes in hex, 0x optional, with a recovery id of 0, 1, 27 or 28.
func RecoverText(text []byte, signature string) (common.Address, error) {
	sig, err := hex.DecodeString(strings.TrimPrefix(signature, "0x"))
	if err != nil {
		return common.Address{}, fmt.Errorf("signature is not hex: %w", err)
	}
	return RecoverDigest(TextDigest(text), sig)
}

// RecoverDigest returns the address whose key signed the 32-byte digest. The
// recovery id, the last of 65 bytes, is 0, 1, 27 or 28.
func RecoverDigest(digest, signature []byte) (common.Address, error) {
	if len(signature) != crypto.SignatureLength {
		return common.Address{}, fmt.Errorf("signature has %d bytes, want %d", len(signature), crypto.SignatureLength)
	}
	sig := [crypto.SignatureLength]byte(signature)
	switch v := sig[crypto.RecoveryIDOffset]; v {
	case 0, 1:
	case 27, 28:
		sig[crypto.RecoveryIDOffset] = v - 27
	default:
		return common.Address{}, fmt.Errorf("signature has recovery id %d, want 0, 1, 27 or 28", v)
	}
	pub, err := crypto.SigToPub(digest, sig[:])
	if err != nil {
		return common.Address{}, fmt.Errorf("recover signer: %w", err)
	}
	return crypto.PubkeyToAddress(*pub), nil
}
