package signature

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Signer is an account: an address and the key that signs for it.
type Signer struct {
	family  Family
	address string
	sign    func(e *message.Envelope) (string, error)
}

// Address returns the address in the text form that senders of its chain have.
func (s *Signer) Address() string { return s.address }

// Sign makes the account the sender of the envelope and signs it. Chain, type
// and item hash must be set, and the time for a wallet of [NewTezosWallet].
// On an error the envelope is as it was.
func (s *Signer) Sign(e *message.Envelope) error {
	if !s.signsFor(e.Chain) {
		return fmt.Errorf("sign message %s: an account of family %s has no address on chain %.80s", e.ItemHash, s.family, e.Chain)
	}
	signed := *e
	signed.Sender = s.address
	sig, err := s.sign(&signed)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	e.Sender, e.Signature = s.address, sig
	return nil
}

// signsFor says whether a message of the chain may have the account as its
// sender: AVAX takes EVM addresses too, those of its C-chain.
func (s *Signer) signsFor(chain message.Chain) bool {
	f, ok := FamilyOf(chain)
	return ok && (f == s.family || f == Avalanche && s.family == EVM)
}
