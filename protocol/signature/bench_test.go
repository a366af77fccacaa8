package signature_test

import (
	stdcrypto "crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// BenchmarkVerify takes a vector of each form, from the envelope to the
// verdict.
func BenchmarkVerify(b *testing.B) {
	for _, tt := range []struct {
		name   string
		family signature.Family
		like   string
	}{
		{"evm", signature.EVM, "network POST 0"},
		{"solana", signature.Solana, "network POST"},
		{"avalanche", signature.Avalanche, "network POST"},
		{"cosmos", signature.Cosmos, "network POST"},
		{"substrate", signature.Substrate, "plain"},
		{"substrate/wrapped", signature.Substrate, "wrapped in Bytes"},
		{"tezos/tz1", signature.Tezos, "raw, tz1"},
		{"tezos/tz2", signature.Tezos, "raw, tz2"},
		{"tezos/tz3", signature.Tezos, "raw, tz3, signature of its curve"},
		{"tezos/wallet", signature.Tezos, "micheline, tz1"},
		{"tezos/wallet1970", signature.Tezos, "micheline as the TypeScript SDK, in 1970"},
		{"nuls", signature.NULS, "main net"},
		{"nuls2", signature.NULS2, "main net"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			e := vector(b, tt.family, tt.like)
			b.ReportAllocs()
			for b.Loop() {
				if err := signature.Verify(&e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func vector(tb testing.TB, f signature.Family, name string) message.Envelope {
	tb.Helper()
	for _, c := range readCases(tb, f) {
		if c.Name == name {
			return c.Envelope
		}
	}
	tb.Fatalf("%s has no vector %q", f, name)
	return message.Envelope{}
}

// BenchmarkLibrary is the bare work of the curves, to compare with.
func BenchmarkLibrary(b *testing.B) {
	text := []byte("ETH\n0xA07B1214bAe0D5ccAA25449C3149c0aC83658874\nPOST\nf524a258d87f1771e8538fd4fd91acdcc527c3b7f138fafd6ff89a5fcf97c3b7")
	digest := sha256.Sum256(text)
	k, err := crypto.ToECDSA(seed("bench"))
	if err != nil {
		b.Fatal(err)
	}
	sig, err := crypto.Sign(digest[:], k)
	if err != nil {
		b.Fatal(err)
	}
	public := crypto.CompressPubkey(&k.PublicKey)
	ed := ed25519.NewKeyFromSeed(seed("bench"))
	edSig := ed25519.Sign(ed, text)
	p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("bench"))
	if err != nil {
		b.Fatal(err)
	}
	pSig, err := p.Sign(nil, digest[:], stdcrypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	mini, err := sr25519.NewMiniSecretKeyFromBytes(seed("bench"))
	if err != nil {
		b.Fatal(err)
	}
	pair := mini.ExpandEd25519().KeyPair()
	ctx := sr25519.NewSigningContext([]byte("substrate"))
	srSig, err := pair.Sign(nil, ctx.NewTranscriptBytes(text))
	if err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		holds func() bool
	}{
		{"secp256k1-recover", func() bool { _, err := crypto.Ecrecover(digest[:], sig); return err == nil }},
		{"secp256k1-verify", func() bool { return crypto.VerifySignature(public, digest[:], sig[:64]) }},
		{"ed25519-std", func() bool { return ed25519.Verify(ed25519.PublicKey(ed[32:]), text, edSig) }},
		{"p256", func() bool { return ecdsa.VerifyASN1(&p.PublicKey, digest[:], pSig) }},
		{"sr25519", func() bool { return pair.PublicKey().Verify(ctx.NewTranscriptBytes(text), srSig) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !tt.holds() {
					b.Fatal("does not hold")
				}
			}
		})
	}
}
