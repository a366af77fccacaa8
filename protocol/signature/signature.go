// Package signature verifies and makes the signatures of messages. Every chain
// code of the protocol has a Verifier; chains whose wallets sign alike share one.
// See section 2 of the protocol.
package signature

import (
	"fmt"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Verifier checks the signatures of one family of chains.
type Verifier interface {
	// Verify returns nil if the sender's key signed the envelope, and a
	// *message.RejectError if not.
	Verify(e *message.Envelope) error
}

// others are the chains that do not sign as Ethereum does.
func others() map[message.Chain]Verifier {
	return map[message.Chain]Verifier{
		"SOL": Solana{}, "ES": Solana{}, "AVAX": Avalanche{}, "CSDK": Cosmos{}, "DOT": Substrate{}, "TEZOS": Tezos{}, "NULS": NULS{}, "NULS2": NULS2{},
	}
}

// For returns the verifier of a chain, and false if the protocol has no such
// chain.
func For(chain message.Chain) (Verifier, bool) {
	if slices.Contains(evmChains(), chain) {
		return EVM{}, true
	}
	v, ok := others()[chain]
	return v, ok
}

// Verify checks the signature of an envelope by the rules of its chain. The
// error is always a *message.RejectError.
func Verify(e *message.Envelope) error {
	v, ok := For(e.Chain)
	if !ok {
		return message.Reject(message.CodeInvalidFormat, "Unknown chain for validation: %.20s", e.Chain)
	}
	if len(e.Signature) > message.MaxTextBytes {
		return invalid("it has %d bytes, at most %d are allowed", len(e.Signature), message.MaxTextBytes)
	}
	return v.Verify(e)
}

// invalid is the refusal of a signature.
func invalid(format string, args ...any) error {
	return message.Reject(message.CodeInvalidSignature, "signature is not valid: %s", fmt.Sprintf(format, args...))
}

// wrongSender is the refusal of a good signature by somebody else.
func wrongSender(e *message.Envelope, signer string) error {
	return message.Reject(message.CodeInvalidSignature, "signed by %s, but sender is %.80s", signer, e.Sender)
}
