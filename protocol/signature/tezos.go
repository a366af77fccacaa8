package signature

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/crypto/blake2b"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TezosCurve is the kind of a Tezos key, named as the address it makes.
type TezosCurve string

// The curves of Tezos. tz4, BLS, signs no messages of this protocol.
const (
	TZ1 TezosCurve = "tz1" // ed25519
	TZ2 TezosCurve = "tz2" // secp256k1
	TZ3 TezosCurve = "tz3" // NIST P-256
)

// How a Tezos account signs: the text itself, or what a wallet shows its owner.
const (
	tezosRaw       = "raw"
	tezosMicheline = "micheline"
)

// tezosSite is the site that a wallet shows where a signature names none.
const tezosSite = "aleph.im"

// tezosSiteMax bounds the sites of our own wallets, so that the signature fits
// an envelope even if JSON escapes all of the site.
const tezosSiteMax = 512

// tezosAnyPrefix begins a signature that does not say its curve.
const tezosAnyPrefix = "\x04\x82\x2b" // sig

// tezosForm is the bytes that make a curve's base58 texts begin with letters.
type tezosForm struct {
	curve               TezosCurve
	key, address, proof string
	keySize             int
}

func tezosForms() [3]tezosForm {
	return [...]tezosForm{
		{TZ1, "\x0d\x0f\x25\xd9", "\x06\xa1\x9f", "\x09\xf5\xcd\x86\x12", ed25519.PublicKeySize}, // edpk, tz1, edsig
		{TZ2, "\x03\xfe\xe2\x56", "\x06\xa1\xa1", "\x0d\x73\x65\x13\x3f", compressedLen},         // sppk, tz2, spsig1
		{TZ3, "\x03\xb2\x8b\x7f", "\x06\xa1\xa4", "\x36\xf0\x2c\x34", compressedLen},             // p2pk, tz3, p2sig
	}
}

// tezosSignature is the JSON text that Tezos's accounts sign with.
type tezosSignature struct {
	Signature   string `json:"signature"`
	PublicKey   string `json:"publicKey"`
	SigningType string `json:"signingType,omitempty"` // raw if absent
	DAppURL     string `json:"dAppUrl,omitempty"`
}

// verifyTezos checks a signature of the blake2b digest of the text, or of the
// text as wallets wrap it. A high s is refused for tz2, as Tezos and the
// reference do, and holds for tz3, where wallets and the reference's own SDK
// make either.
func verifyTezos(e *message.Envelope) error {
	o, err := parseObject(e.Signature)
	if err != nil {
		return err
	}
	form, key, err := tezosKey(o)
	if err != nil {
		return err
	}
	if err := wantSender(form.addressOf(key), e); err != nil {
		return err
	}
	sig, err := form.parseSignature(o)
	if err != nil {
		return err
	}
	texts, err := tezosTexts(o, e)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if form.verify(key, blake2b.Sum256(text), sig) {
			return nil
		}
	}
	return fmt.Errorf("the %s signature does not hold", form.curve)
}

// tezosKey reads publicKey.
func tezosKey(o object) (form tezosForm, key []byte, err error) {
	const sizeMax = 4 + compressedLen + checksumLen
	text, err := o.text("publicKey")
	if err != nil {
		return form, nil, err
	}
	raw, err := DecodeBase58Check(text, sizeMax)
	if err != nil {
		return form, nil, fmt.Errorf("publicKey: %w", err)
	}
	for _, form := range tezosForms() {
		if key, ok := bytes.CutPrefix(raw, []byte(form.key)); ok && len(key) == form.keySize {
			return form, key, nil
		}
	}
	return form, nil, fmt.Errorf("publicKey %.80q is neither edpk, sppk nor p2pk", text)
}

// parseSignature reads signature. Its prefix is the general one or that of the
// key's curve, as the reference wants.
func (f tezosForm) parseSignature(o object) ([]byte, error) {
	const sizeMax = 5 + compactLen + checksumLen
	text, err := o.text("signature")
	if err != nil {
		return nil, err
	}
	raw, err := DecodeBase58Check(text, sizeMax)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	for _, prefix := range []string{tezosAnyPrefix, f.proof} {
		if sig, ok := bytes.CutPrefix(raw, []byte(prefix)); ok && len(sig) == compactLen {
			return sig, nil
		}
	}
	return nil, fmt.Errorf("signature %.20q is not one of a %s key", text, f.curve)
}

// DecodeBase58Check decodes a text of at most sizeMax bytes and cuts off its checksum, that
// of Bitcoin's base58check.
func DecodeBase58Check(text string, sizeMax int) ([]byte, error) {
	raw, err := decodeBase58(text, sizeMax)
	if err != nil {
		return nil, err
	}
	body, ok := cutChecksum(raw, doubleSHA256)
	if !ok {
		return nil, fmt.Errorf("checksum of a base58 text is wrong")
	}
	return body, nil
}

// addressOf returns the address of a key.
func (f tezosForm) addressOf(key []byte) string {
	const size = 20
	hash, _ := blake2b.New(size, nil) // fails for sizes above 64 only
	hash.Write(key)
	return encodeBase58(hash.Sum([]byte(f.address)), doubleSHA256)
}

func (f tezosForm) verify(key []byte, digest [blake2b.Size256]byte, sig []byte) bool {
	switch f.curve {
	case TZ1:
		return verifyEd25519(key, digest[:], sig)
	case TZ2:
		return crypto.VerifySignature(key, digest[:], sig)
	case TZ3:
		return verifyP256(key, digest[:], sig)
	default:
		return false
	}
}

// tezosTexts returns the texts of which one must be signed. Of a wallet's text
// only the message is sure: the reference takes aleph.im where the signature
// names no site, while the TypeScript SDK takes https://aleph.im; and that SDK
// takes the seconds of the message's time for milliseconds, so that its texts
// are of January 1970.
func tezosTexts(o object, e *message.Envelope) ([][]byte, error) {
	kind, err := o.textOr("signingType", tezosRaw)
	if err != nil {
		return nil, err
	}
	switch kind {
	case tezosRaw:
		return [][]byte{e.SigningBytes()}, nil
	case tezosMicheline:
	default:
		return nil, fmt.Errorf("signingType %.80q is neither %s nor %s", kind, tezosRaw, tezosMicheline)
	}
	sites := []string{tezosSite, "https://aleph.im"}
	if _, ok := o["dAppUrl"]; ok {
		site, err := o.text("dAppUrl")
		if err != nil {
			return nil, err
		}
		sites = []string{site}
	}
	var texts [][]byte
	for _, at := range []time.Time{e.Time, time.UnixMilli(e.Time.Unix())} {
		for _, site := range sites {
			texts = append(texts, tezosWalletText(site, at, e.SigningBytes()))
		}
	}
	return texts, nil
}

// tezosWalletText is a text as wallets show and sign it: a packed Micheline
// string, whose length the wallets of this network give in decimal digits of
// hex characters, where Tezos itself packs four bytes.
func tezosWalletText(site string, at time.Time, text []byte) []byte {
	shown := "Tezos Signed Message: " + site + " " + at.UTC().Format("2006-01-02T15:04:05.000Z") + " " + string(text)
	return []byte("\x05\x01\x00" + strconv.Itoa(2*len(shown)) + shown)
}

// NewTezos returns the account of a key or, for tz1, a seed of 32 bytes. It
// signs the text itself.
func NewTezos(curve TezosCurve, key []byte) (*Signer, error) {
	return newTezos(curve, key, func(e *message.Envelope) (text []byte, s tezosSignature) {
		return e.SigningBytes(), s
	})
}

// NewTezosWallet returns the account of a key or, for tz1, a seed of 32 bytes.
// It signs as a wallet does that shows its owner the site that asks, aleph.im
// if it is empty, the time and the text; so the time of a message is under its
// signature.
func NewTezosWallet(curve TezosCurve, key []byte, site string) (*Signer, error) {
	if site == "" {
		site = tezosSite
	}
	if !utf8.ValidString(site) || len(site) > tezosSiteMax {
		return nil, fmt.Errorf("site %.80q is not UTF-8 of at most %d bytes", site, tezosSiteMax)
	}
	return newTezos(curve, key, func(e *message.Envelope) ([]byte, tezosSignature) {
		return tezosWalletText(site, e.Time, e.SigningBytes()), tezosSignature{SigningType: tezosMicheline, DAppURL: site}
	})
}

func newTezos(curve TezosCurve, key []byte, wrap func(*message.Envelope) ([]byte, tezosSignature)) (*Signer, error) {
	forms := tezosForms()
	i := slices.IndexFunc(forms[:], func(f tezosForm) bool { return f.curve == curve })
	if i < 0 {
		return nil, fmt.Errorf("there is no Tezos curve %.80q", string(curve))
	}
	form := forms[i]
	public, sign, err := form.open(key)
	if err != nil {
		return nil, fmt.Errorf("read Tezos key: %w", err)
	}
	publicText := encodeBase58(append([]byte(form.key), public...), doubleSHA256)
	return &Signer{Tezos, form.addressOf(public), func(e *message.Envelope) (string, error) {
		text, s := wrap(e)
		digest := blake2b.Sum256(text)
		sig, err := sign(digest[:])
		if err != nil {
			return "", err
		}
		s.Signature, s.PublicKey = encodeBase58(append([]byte(form.proof), sig...), doubleSHA256), publicText
		return marshalText(s)
	}}, nil
}

// open returns the public key of a private one and what signs digests with it.
func (f tezosForm) open(key []byte) (public []byte, sign func(digest []byte) ([]byte, error), err error) {
	switch f.curve {
	case TZ1:
		k, err := ed25519Key(key)
		if err != nil {
			return nil, nil, err
		}
		return k[ed25519.SeedSize:], func(digest []byte) ([]byte, error) { return ed25519.Sign(k, digest), nil }, nil
	case TZ2:
		k, err := crypto.ToECDSA(key)
		if err != nil {
			return nil, nil, err
		}
		return crypto.CompressPubkey(&k.PublicKey), func(digest []byte) ([]byte, error) {
			sig, err := crypto.Sign(digest, k)
			if err != nil {
				return nil, err
			}
			return sig[:compactLen], nil
		}, nil
	case TZ3:
		return openP256(key)
	default:
		return nil, nil, errors.New("unknown curve")
	}
}
