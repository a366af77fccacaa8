// Package signature verifies and makes the signatures of messages. There is
// one Verifier per family of chains; the EVM family is the one that this node
// processes.
package signature

import (
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Verifier checks the signatures of one family of chains.
type Verifier interface {
	// Verify returns nil if the sender's key signed the envelope, and a
	// *message.RejectError if not.
	Verify(e *message.Envelope) error
}

// For returns the verifier of a chain, and false if this node has none.
func For(chain message.Chain) (Verifier, bool) {
	if slices.Contains(evmChains(), chain) {
		return EVM{}, true
	}
	return nil, false
}

// Verify checks the signature of an envelope by the rules of its chain. The
// error is always a *message.RejectError.
func Verify(e *message.Envelope) error {
	v, ok := For(e.Chain)
	if !ok {
		return message.Reject(message.CodeInvalidFormat, "this node does not verify signatures of chain %s", e.Chain)
	}
	return v.Verify(e)
}
