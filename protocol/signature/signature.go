// Package signature verifies and makes the signatures of messages, for every
// chain that the protocol names. Chains whose accounts sign alike are a
// [Family], with one file each.
//
// A signature holds if the key of the sender made it over
// [message.Envelope.SigningBytes]. Everything here is a pure function of the
// envelope: no key is looked up, and no chain is asked.
//
// An item hash names a message, so a second signature of the same text is no
// second message. Where a family's own chain wants one form of a signature (a
// low s, a canonical point), so does this package, and where wallets make both
// forms, both hold.
package signature

import (
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Verifier checks the signatures of one family of chains.
type Verifier interface {
	// Verify returns nil if the sender's key signed the envelope, and a
	// *message.RejectError if not.
	Verify(e *message.Envelope) error
}

// Family is a set of chains whose accounts sign in the same form.
type Family string

// The families.
const (
	EVM       Family = "evm"
	Solana    Family = "solana"
	Avalanche Family = "avalanche"
	Cosmos    Family = "cosmos"
	Substrate Family = "substrate"
	Tezos     Family = "tezos"
	NULS      Family = "nuls"
	NULS2     Family = "nuls2"
)

// FamilyOf returns the family of a chain, and false if the protocol does not
// name the chain. AURORA and STT have no verifier in the reference
// implementation; their wallets sign as Ethereum's do.
func FamilyOf(chain message.Chain) (Family, bool) {
	switch chain {
	case "ARB", "AURORA", "BASE", "BLAST", "BOB", "BSC", "CYBER", message.Ethereum, "ETHERLINK", "FRAX", "HYPE", "INK",
		"LENS", "LINEA", "LISK", "METIS", "MODE", "NEO", "OP", "POL", "SONIC", "STT", "UNICHAIN", "WLD", "ZORA":
		return EVM, true
	case "SOL", "ES":
		return Solana, true
	case "AVAX":
		return Avalanche, true
	case "CSDK":
		return Cosmos, true
	case "DOT":
		return Substrate, true
	case "TEZOS":
		return Tezos, true
	case "NULS":
		return NULS, true
	case "NULS2":
		return NULS2, true
	default:
		return "", false
	}
}

// For returns the verifier of a chain, and false if this node has none.
func For(chain message.Chain) (Verifier, bool) {
	f, ok := FamilyOf(chain)
	return f, ok
}

// Verify checks the signature of an envelope by the rules of its chain. The
// error is always a *message.RejectError.
func Verify(e *message.Envelope) error {
	v, ok := For(e.Chain)
	if !ok {
		return message.Reject(message.CodeInvalidFormat, "this node does not verify signatures of chain %.80s", e.Chain)
	}
	return v.Verify(e)
}

// Verify implements Verifier.
func (f Family) Verify(e *message.Envelope) error {
	err := checkLengths(e)
	if err == nil {
		err = f.verify(e)
	}
	if err != nil {
		return message.Reject(message.CodeInvalidSignature, "%v", err)
	}
	return nil
}

// checkLengths keeps long texts from the decoders. Envelopes that were parsed
// are within these bounds already.
func checkLengths(e *message.Envelope) error {
	switch {
	case e.Signature == "":
		return fmt.Errorf("signature is missing")
	case len(e.Signature) > message.MaxTextBytes:
		return fmt.Errorf("signature has %d bytes, at most %d are allowed", len(e.Signature), message.MaxTextBytes)
	case len(e.Sender) > message.MaxTextBytes:
		return fmt.Errorf("sender has %d bytes, at most %d are allowed", len(e.Sender), message.MaxTextBytes)
	default:
		return nil
	}
}

func (f Family) verify(e *message.Envelope) error {
	switch f {
	case EVM:
		return verifyEVM(e)
	case Solana:
		return verifySolana(e)
	case Avalanche:
		return verifyAvalanche(e)
	case Cosmos:
		return verifyCosmos(e)
	case Substrate:
		return verifySubstrate(e)
	case Tezos:
		return verifyTezos(e)
	case NULS:
		return verifyNULS(e)
	case NULS2:
		return verifyNULS2(e)
	default:
		return fmt.Errorf("there is no family %.80q", string(f))
	}
}

// wantSender compares the address of the key that signed with the sender.
// Addresses outside the EVM family have one text form, compared as it is.
func wantSender(address string, e *message.Envelope) error {
	if address != e.Sender {
		return fmt.Errorf("signed by %s, but sender is %.80q", address, e.Sender)
	}
	return nil
}

// isHexSender says whether the sender is in the form of EVM addresses.
func isHexSender(e *message.Envelope) bool { return strings.HasPrefix(e.Sender, "0x") }
