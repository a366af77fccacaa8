package signature

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"

	"github.com/mr-tron/base58"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Solana verifies ed25519 signatures (RFC 8032) of Solana and Eclipse accounts.
// The address is the public key in base58. See section 2.3 of the protocol.
type Solana struct{}

// Verify implements Verifier.
func (Solana) Verify(e *message.Envelope) error {
	all, err := fields(e.Signature)
	if err != nil {
		return err
	}
	if raw, ok := all["version"]; ok && string(raw) != "null" && string(raw) != "1" {
		return invalid("its version is %.20s, want 1", raw)
	}
	signer, err := text(all, "publicKey")
	if err != nil {
		return err
	}
	if signer != e.Sender {
		return wrongSender(e, fmt.Sprintf("%.80s", signer))
	}
	sig, err := text(all, "signature")
	if err != nil {
		return err
	}
	key, err := base58.Decode(signer)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return invalid("publicKey %.80s is not %d bytes in base58", signer, ed25519.PublicKeySize)
	}
	raw, err := base58.Decode(sig)
	if err != nil || len(raw) != ed25519.SignatureSize {
		return invalid("signature is not %d bytes in base58", ed25519.SignatureSize)
	}
	if !ed25519.Verify(key, e.SigningBytes(), raw) {
		return invalid("the key of %s did not sign this message", signer)
	}
	return nil
}

// SignSolana makes the key's address the sender of the envelope and signs it.
// Chain, type and item hash must be set.
func SignSolana(key ed25519.PrivateKey, e *message.Envelope) error {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return fmt.Errorf("sign message %s: the key has %d bytes, want %d", e.ItemHash, len(key), ed25519.PrivateKeySize)
	}
	e.Sender = base58.Encode(pub)
	return asJSON(e, map[string]string{"signature": base58.Encode(ed25519.Sign(key, e.SigningBytes())), "publicKey": e.Sender})
}

// asJSON makes a JSON object the envelope's signature.
func asJSON(e *message.Envelope, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	e.Signature = string(raw)
	return nil
}
