package signature

import (
	"crypto/ecdsa"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// evmChains lists the chains whose accounts sign as Ethereum's do. AURORA and
// STT have no verifier in the reference implementation; their wallets sign in
// the same form.
func evmChains() []message.Chain {
	return []message.Chain{
		"ARB", "AURORA", "BASE", "BLAST", "BOB", "BSC", "CYBER", message.Ethereum, "ETHERLINK", "FRAX", "HYPE", "INK",
		"LENS", "LINEA", "LISK", "METIS", "MODE", "NEO", "OP", "POL", "SONIC", "STT", "UNICHAIN", "WLD", "ZORA",
	}
}

// EVM verifies EIP-191 signatures of secp256k1 keys. The sender is compared
// without regard to case, but it is signed as it is written.
type EVM struct{}

// Verify implements Verifier.
func (EVM) Verify(e *message.Envelope) error {
	signer, err := message.RecoverText(e.SigningBytes(), e.Signature)
	if err != nil {
		return message.Reject(message.CodeInvalidSignature, "%v", err)
	}
	if !strings.EqualFold(signer.Hex(), e.Sender) {
		return message.Reject(message.CodeInvalidSignature, "signed by %s, but sender is %.80s", signer.Hex(), e.Sender)
	}
	return nil
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
