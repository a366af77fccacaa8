package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Tezos verifies signatures of tz1, tz2 and tz3 accounts, over the message or over
// the Micheline expression that wallets make of it. See section 2.7 of the
// protocol.
type Tezos struct{}

// tezosCurve is a kind of key: how its texts begin, and how it verifies.
type tezosCurve struct {
	key, address []byte // Prefixes before base58.
	verify       func(pub, digest, sig []byte) error
}

func tezosCurves() []tezosCurve {
	return []tezosCurve{
		{[]byte{0x0d, 0x0f, 0x25, 0xd9}, []byte{0x06, 0xa1, 0x9f}, verifyEd25519}, // edpk, tz1
		{[]byte{0x03, 0xfe, 0xe2, 0x56}, []byte{0x06, 0xa1, 0xa1}, verifySecp},    // sppk, tz2
		{[]byte{0x03, 0xb2, 0x8b, 0x7f}, []byte{0x06, 0xa1, 0xa4}, verifyP256},    // p2pk, tz3
	}
}

// Signatures have their own prefixes, of 3 bytes (sig), 4 (p2sig) and 5 (edsig,
// spsig1).
const (
	tezosSigBytes = 64
	tezosSigMin   = tezosSigBytes + 3
	tezosSigMax   = tezosSigBytes + 5
)

// Verify implements Verifier.
func (Tezos) Verify(e *message.Envelope) error {
	all, err := fields(e.Signature)
	if err != nil {
		return err
	}
	keyText, err := text(all, "publicKey")
	if err != nil {
		return err
	}
	curve, pub, err := tezosKey(keyText)
	if err != nil {
		return err
	}
	if signer := curve.addressOf(pub); signer != e.Sender {
		return wrongSender(e, signer)
	}
	sigText, err := text(all, "signature")
	if err != nil {
		return err
	}
	sig, err := decode58Check(sigText, sumTwice)
	if err != nil || len(sig) < tezosSigMin || len(sig) > tezosSigMax {
		return invalid("signature is not one of Tezos in base58 with a check sum")
	}
	sig = sig[len(sig)-tezosSigBytes:]
	kind, err := textOr(all, "signingType", "raw")
	if err != nil {
		return err
	}
	site, err := textOr(all, "dAppUrl", "")
	if err != nil {
		return err
	}
	signed, err := tezosSigned(e, kind, site)
	if err != nil {
		return err
	}
	for _, m := range signed {
		digest := blake2b.Sum256(m)
		if err = curve.verify(pub, digest[:], sig); err == nil {
			return nil
		}
	}
	return err
}

// SignTezos makes the key's tz1 address the sender of the envelope and signs it.
// Chain, type and item hash must be set.
func SignTezos(key ed25519.PrivateKey, e *message.Envelope) error {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return fmt.Errorf("sign message %s: the key has %d bytes, want %d", e.ItemHash, len(key), ed25519.PrivateKeySize)
	}
	curve := tezosCurves()[0]
	e.Sender = curve.addressOf(pub)
	digest := blake2b.Sum256(e.SigningBytes())
	edsig := []byte{0x09, 0xf5, 0xcd, 0x86, 0x12}
	return asJSON(e, map[string]string{
		"signature":   encode58Check(append(edsig, ed25519.Sign(key, digest[:])...), sumTwice),
		"publicKey":   encode58Check(append(bytes.Clone(curve.key), pub...), sumTwice),
		"signingType": "raw",
	})
}

func (c tezosCurve) addressOf(pub []byte) string {
	const hashBytes = 20
	h, err := blake2b.New(hashBytes, nil)
	if err != nil {
		return "" // Not for a length that the library has.
	}
	h.Write(pub)
	return encode58Check(h.Sum(bytes.Clone(c.address)), sumTwice)
}

func tezosKey(text string) (tezosCurve, []byte, error) {
	raw, err := decode58Check(text, sumTwice)
	if err != nil {
		return tezosCurve{}, nil, invalid("publicKey is not base58 with a check sum")
	}
	for _, c := range tezosCurves() {
		if pub, ok := bytes.CutPrefix(raw, c.key); ok {
			return c, pub, nil
		}
	}
	return tezosCurve{}, nil, invalid("publicKey %.20s is of no kind that is known", text)
}

// tezosSigned is what may have been signed. Of a Micheline expression the time of
// the envelope is a part; one SDK takes its seconds for milliseconds, and there
// are two names for the site that has it signed.
func tezosSigned(e *message.Envelope, kind, site string) ([][]byte, error) {
	switch kind {
	case "raw":
		return [][]byte{e.SigningBytes()}, nil
	case "micheline":
	default:
		return nil, invalid("its signingType is %.20q, want raw or micheline", kind)
	}
	sites := []string{site}
	if site == "" {
		sites = []string{"aleph.im", "https://aleph.im"}
	}
	var out [][]byte
	for _, at := range []time.Time{e.Time, time.UnixMilli(e.Time.Unix())} {
		for _, s := range sites {
			out = append(out, micheline("Tezos Signed Message: "+s+" "+at.UTC().Format("2006-01-02T15:04:05.000Z")+" "+string(e.SigningBytes())))
		}
	}
	return out, nil
}

// micheline packs a text as the reference implementation does: with twice its
// length, in decimal digits.
func micheline(payload string) []byte {
	return append([]byte{5, 1, 0}, strconv.Itoa(2*len(payload))+payload...)
}

func verifyEd25519(pub, digest, sig []byte) error {
	if len(pub) != ed25519.PublicKeySize || !ed25519.Verify(pub, digest, sig) {
		return invalid("the key did not sign this message")
	}
	return nil
}

func verifyP256(pub, digest, sig []byte) error {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), pub)
	if x == nil {
		return invalid("its key is no point of P-256")
	}
	const uncompressed = 4
	point := append([]byte{uncompressed}, x.FillBytes(make([]byte, scalarBytes))...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(point, y.FillBytes(make([]byte, scalarBytes))...))
	if err != nil {
		return invalid("its key is no point of P-256: %v", err)
	}
	if !ecdsa.Verify(key, digest, new(big.Int).SetBytes(sig[:scalarBytes]), new(big.Int).SetBytes(sig[scalarBytes:])) {
		return invalid("the key did not sign this message")
	}
	return nil
}
