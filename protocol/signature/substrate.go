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

// SubstratePrefix is the prefix of addresses that belong to no chain in
// particular.
const SubstratePrefix = 42

// substrateSignature is the JSON text that Substrate's accounts sign with.
type substrateSignature struct {
	Curve string `json:"curve"`
	Data  string `json:"data"` // 0x and hex
}

// verifySubstrate checks an sr25519 signature of the text, or of the text
// between <Bytes> and </Bytes>, which browser extensions wrap it in. 0x is
// optional: the Python SDK writes none.
func verifySubstrate(e *message.Envelope) error {
	o, err := parseObject(e.Signature)
	if err != nil {
		return err
	}
	curve, err := o.textOr("curve", "sr25519")
	if err != nil {
		return err
	}
	if curve != "sr25519" {
		return fmt.Errorf("signature has curve %.80q, want sr25519", curve)
	}
	data, err := o.text("data")
	if err != nil {
		return err
	}
	sig, err := parseSr25519(data)
	if err != nil {
		return err
	}
	key, err := substrateKey(e.Sender)
	if err != nil {
		return err
	}
	text := e.SigningBytes()
	if key.Verify(substrateTranscript(text), sig) || key.Verify(substrateTranscript(wrapBytes(text)), sig) {
		return nil
	}
	return fmt.Errorf("the sr25519 signature does not hold")
}

// parseSr25519 reads a signature; one that lacks the mark of sr25519 or whose
// scalar is not reduced is refused, as schnorrkel does.
func parseSr25519(data string) (*sr25519.Signature, error) {
	data = strings.TrimPrefix(data, "0x")
	if want := 2 * sr25519.SignatureSize; len(data) != want {
		return nil, fmt.Errorf("signature has %d hex digits, want %d", len(data), want)
	}
	raw, err := hex.DecodeString(data)
	if err != nil {
		return nil, fmt.Errorf("signature is not hex: %w", err)
	}
	return sr25519.NewSignatureFromBytes(raw)
}

// substrateKey returns the key that a sender is the text of. The key of zeros
// is refused: it is the neutral element, for which anybody can sign.
func substrateKey(sender string) (*sr25519.PublicKey, error) {
	raw, err := decodeSS58(sender)
	if err != nil {
		return nil, fmt.Errorf("sender %.80q: %w", sender, err)
	}
	if bytes.Equal(raw, make([]byte, sr25519.PublicKeySize)) {
		return nil, fmt.Errorf("sender %.80q is an address without a key", sender)
	}
	return sr25519.NewPublicKeyFromBytes(raw)
}

const ss58SumLen = 2 // the length of the checksum of a 32-byte key

// decodeSS58 returns the key of an address. Its prefix may be any one, in one
// byte or two, but those that the format keeps for itself.
func decodeSS58(text string) ([]byte, error) {
	const twoBytes, keptLow, kept46, kept47 = 64, 128, 46, 47
	const sizeMax = 2 + sr25519.PublicKeySize + ss58SumLen
	raw, err := decodeBase58(text, sizeMax)
	if err != nil {
		return nil, err
	}
	prefixLen := len(raw) - sr25519.PublicKeySize - ss58SumLen
	if prefixLen != 1 && prefixLen != 2 {
		return nil, fmt.Errorf("address has %d bytes, want %d or %d", len(raw), sizeMax-1, sizeMax)
	}
	first := raw[0]
	if first == kept46 || first == kept47 || first >= keptLow || (first >= twoBytes) != (prefixLen == 2) {
		return nil, fmt.Errorf("address has the prefix %x, which is reserved", raw[:prefixLen])
	}
	body := raw[:len(raw)-ss58SumLen]
	if !bytes.Equal(ss58Sum(body), raw[len(body):]) {
		return nil, fmt.Errorf("checksum of the address is wrong")
	}
	return body[prefixLen:], nil
}

func ss58Sum(body []byte) []byte {
	sum := blake2b.Sum512(append([]byte("SS58PRE"), body...))
	return sum[:ss58SumLen]
}

func encodeSS58(prefix uint8, key []byte) string {
	body := append([]byte{prefix}, key...)
	return base58.Encode(append(body, ss58Sum(body)...))
}

func substrateTranscript(text []byte) *sr25519.SigningTranscript {
	return sr25519.NewSigningContext([]byte("substrate")).NewTranscriptBytes(text)
}

func wrapBytes(text []byte) []byte {
	return []byte("<Bytes>" + string(text) + "</Bytes>")
}

// NewSubstrate returns the account of an sr25519 seed of 32 bytes, with an
// address of the chain that has the prefix, 0 to 63.
func NewSubstrate(prefix uint8, seed []byte) (*Signer, error) {
	mini, err := sr25519.NewMiniSecretKeyFromBytes(seed)
	if err != nil {
		return nil, fmt.Errorf("read Substrate seed: %w", err)
	}
	pair := mini.ExpandEd25519().KeyPair() // as Substrate's key stores do
	public, err := pair.PublicKey().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode Substrate key: %w", err)
	}
	address := encodeSS58(prefix, public)
	if _, err := decodeSS58(address); err != nil {
		return nil, err
	}
	return &Signer{Substrate, address, func(e *message.Envelope) (string, error) {
		return signSubstrate(pair, e.SigningBytes())
	}}, nil
}

func signSubstrate(pair *sr25519.KeyPair, text []byte) (string, error) {
	sig, err := pair.Sign(rand.Reader, substrateTranscript(text))
	if err != nil {
		return "", err
	}
	raw, err := sig.MarshalBinary()
	if err != nil {
		return "", err
	}
	return marshalText(substrateSignature{"sr25519", "0x" + hex.EncodeToString(raw)})
}
