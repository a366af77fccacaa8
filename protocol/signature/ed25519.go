package signature

import "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

// verifyEd25519 verifies as RFC 8032 says and refuses what libsodium and
// Solana refuse: keys and points of small order and points in another form
// than the canonical one. Without that anybody could sign for some addresses,
// among them that of Solana's system program.
func verifyEd25519(key, text, sig []byte) bool {
	strict := &ed25519.Options{Verify: &ed25519.VerifyOptions{CofactorlessVerify: true}}
	return len(key) == ed25519.PublicKeySize && ed25519.VerifyWithOptions(key, text, sig, strict)
}
