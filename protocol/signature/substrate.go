package signature

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/mr-tron/base58"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
	"golang.org/x/crypto/blake2b"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Substrate verifies sr25519 signatures of Substrate and Polkadot accounts, over
// the message or over what browser extensions wrap around it. See section 2.6 of
// the protocol.
type Substrate struct{}

// Verify implements Verifier.
func (Substrate) Verify(e *message.Envelope) error {
	all, err := fields(e.Signature)
	if err != nil {
		return err
	}
	switch curve, err := textOr(all, "curve", "sr25519"); {
	case err != nil:
		return err
	case curve != "sr25519":
		return invalid("its curve is %.20q, want sr25519", curve)
	}
	data, err := text(all, "data")
	if err != nil {
		return err
	}
	// A fix: one of the SDKs leaves the prefix out.
	raw, err := hex.DecodeString(strings.TrimPrefix(data, "0x"))
	if err != nil {
		return invalid("data is not hexadecimal")
	}
	sig, err := sr25519.NewSignatureFromBytes(raw)
	if err != nil {
		return invalid("data is no signature of sr25519")
	}
	_, pub, err := decodeSS58(e.Sender)
	if err != nil {
		return invalid("sender %.80s: %v", e.Sender, err)
	}
	key, err := sr25519.NewPublicKeyFromBytes(pub)
	if err != nil {
		return invalid("sender %.80s is no key of sr25519", e.Sender)
	}
	context := sr25519.NewSigningContext([]byte("substrate"))
	for _, buffer := range [][]byte{e.SigningBytes(), fmt.Appendf(nil, "<Bytes>%s</Bytes>", e.SigningBytes())} {
		if key.Verify(context.NewTranscriptBytes(buffer), sig) {
			return nil
		}
	}
	return invalid("the key of %.80s did not sign this message", e.Sender)
}

// SignSubstrate makes the address of a seed on a network (42: any) the sender of
// the envelope and signs it. Chain, type and item hash must be set.
func SignSubstrate(seed [sr25519.MiniSecretKeySize]byte, network byte, e *message.Envelope) error {
	mini, err := sr25519.NewMiniSecretKeyFromBytes(seed[:])
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	pair := mini.ExpandEd25519().KeyPair()
	pub, err := pair.PublicKey().MarshalBinary()
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	e.Sender = encodeSS58([]byte{network}, pub)
	sig, err := pair.Sign(rand.Reader, sr25519.NewSigningContext([]byte("substrate")).NewTranscriptBytes(e.SigningBytes()))
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	raw, err := sig.MarshalBinary()
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	return asJSON(e, map[string]string{"curve": "sr25519", "data": "0x" + hex.EncodeToString(raw)})
}

// ss58Check is the length of the check sum of an address with a key.
const ss58Check = 2

// decodeSS58 returns the network and the key of an address.
func decodeSS58(address string) (network, pub []byte, err error) {
	raw, err := base58.Decode(address)
	if err != nil {
		return nil, nil, err
	}
	// Numbers of networks from 64 to 127 take a second byte; 128 and above are reserved.
	at := 1
	switch {
	case len(raw) > 0 && raw[0] >= 128:
		return nil, nil, fmt.Errorf("network %d is reserved", raw[0])
	case len(raw) > 0 && raw[0] >= 64:
		at = 2
	}
	if len(raw) != at+sr25519.PublicKeySize+ss58Check {
		return nil, nil, fmt.Errorf("it has %d bytes, want %d", len(raw), at+sr25519.PublicKeySize+ss58Check)
	}
	end := len(raw) - ss58Check
	network, pub = raw[:at], raw[at:end]
	if !bytes.Equal(ss58Sum(raw[:end]), raw[end:]) {
		return nil, nil, fmt.Errorf("its check sum is %x, want %x", raw[end:], ss58Sum(raw[:end]))
	}
	return network, pub, nil
}

func encodeSS58(network, pub []byte) string {
	payload := append(bytes.Clone(network), pub...)
	return base58.Encode(append(payload, ss58Sum(payload)...))
}

func ss58Sum(payload []byte) []byte {
	sum := blake2b.Sum512(append([]byte("SS58PRE"), payload...))
	return sum[:ss58Check]
}
