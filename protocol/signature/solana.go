package signature

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/mr-tron/base58"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// solanaSignature is the JSON text that Solana's and Eclipse's accounts sign
// with. Some clients write the object itself into the envelope; decoding an
// envelope makes it text, which is the form that every client reads.
type solanaSignature struct {
	Signature string `json:"signature"` // base58
	PublicKey string `json:"publicKey"` // base58, and the sender
}

// verifySolana checks an ed25519 signature of the text itself. The sender is
// the key.
func verifySolana(e *message.Envelope) error {
	o, err := parseObject(e.Signature)
	if err != nil {
		return err
	}
	if v, ok := o["version"]; ok && !bytes.Equal(v, []byte("1")) {
		return fmt.Errorf("signature has version %.20s, want 1", v)
	}
	publicKey, err := o.text("publicKey")
	if err != nil {
		return err
	}
	if err := wantSender(publicKey, e); err != nil {
		return err
	}
	text, err := o.text("signature")
	if err != nil {
		return err
	}
	key, err := decodeBase58Exact(publicKey, ed25519.PublicKeySize)
	if err != nil {
		return fmt.Errorf("publicKey: %w", err)
	}
	sig, err := decodeBase58Exact(text, ed25519.SignatureSize)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if !verifyEd25519(key, e.SigningBytes(), sig) {
		return fmt.Errorf("the ed25519 signature does not hold")
	}
	return nil
}

// NewSolana returns the account of an ed25519 seed of 32 bytes: the first half
// of what wallets export. It signs for SOL and ES.
func NewSolana(seed []byte) (*Signer, error) {
	key, err := ed25519Key(seed)
	if err != nil {
		return nil, err
	}
	address := base58.Encode(key[ed25519.SeedSize:])
	return &Signer{Solana, address, func(e *message.Envelope) (string, error) {
		return marshalText(solanaSignature{base58.Encode(ed25519.Sign(key, e.SigningBytes())), address})
	}}, nil
}

// ed25519Key returns the private key of a seed; its second half is the public
// key.
func ed25519Key(seed []byte) (ed25519.PrivateKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("ed25519 seed has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
