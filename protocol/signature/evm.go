package signature

import (
	"crypto/ecdsa"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// evmDigits is the length of an EVM signature in hex: r, s and v.
const evmDigits = 2 * crypto.SignatureLength

// verifyEVM checks the EIP-191 signature of a secp256k1 key. A high s holds:
// EIP-2 bans it from transactions only, recovery takes both, and so does the
// reference implementation. The sender is compared without regard to case, but
// it is signed as it is written.
func verifyEVM(e *message.Envelope) error {
	if n := len(strings.TrimPrefix(e.Signature, "0x")); n != evmDigits {
		return fmt.Errorf("signature has %d hex digits, want %d", n, evmDigits)
	}
	signer, err := message.RecoverText(e.SigningBytes(), e.Signature)
	if err != nil {
		return err
	}
	if !strings.EqualFold(signer.Hex(), e.Sender) {
		return fmt.Errorf("signed by %s, but sender is %.80q", signer.Hex(), e.Sender)
	}
	return nil
}

// NewEVM returns the account of a secp256k1 key of 32 bytes. It signs for
// every chain of the family, and for AVAX.
func NewEVM(key []byte) (*Signer, error) {
	k, err := crypto.ToECDSA(key)
	if err != nil {
		return nil, fmt.Errorf("read EVM key: %w", err)
	}
	return &Signer{EVM, crypto.PubkeyToAddress(k.PublicKey).Hex(), func(e *message.Envelope) (string, error) {
		return message.SignText(k, e.SigningBytes())
	}}, nil
}

// SignEVM makes the key's address the sender of the envelope and signs it.
// Chain, type and item hash must be set.
func SignEVM(key *ecdsa.PrivateKey, e *message.Envelope) error {
	e.Sender = crypto.PubkeyToAddress(key.PublicKey).Hex()
	sig, err := message.SignText(key, e.SigningBytes())
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	e.Signature = sig
	return nil
}
