package ledger

import (
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const (
	// Numbers of IDomainRegistry.Status.
	domainVerified = 1
	domainGrace    = 2
	domainDisputed = 3
	// validity is DomainRegistry's constant, in seconds.
	validity = 90 * 24 * 60 * 60
)

// domain is what is kept of a name whoever owns it.
type domain struct {
	owner      common.Address
	status     uint8
	nonce      uint32
	verifiedAt uint64
	wildcard   bool
	targetType uint8
	heir       common.Address
	claimant   common.Address
	claimedAt  uint64 // When coordinators saw the claimant.
	disputedAt uint64
}

// tenure is what an owner asked for and set under a nonce.
type tenure struct {
	requestedAt  uint64
	askedType    uint8
	wildcard     bool
	target       [32]byte
	spkiHash     [32]byte
	oldSpkiHash  [32]byte
	certNotAfter *big.Int
	overlapUntil *big.Int
	caaHash      [32]byte
}

func newTenure() *tenure { return &tenure{certNotAfter: big0(), overlapUntil: big0()} }

func newDomain() *domain { return &domain{} }

type domains struct {
	byKey   map[[32]byte]*domain
	tenures map[[32]byte]*tenure
	revoked map[[64]byte]bool
}

func newDomains() domains {
	return domains{byKey: map[[32]byte]*domain{}, tenures: map[[32]byte]*tenure{}, revoked: map[[64]byte]bool{}}
}

// Domains returns the keys of all names that were asked for.
func (l *Ledger) Domains() (keys [][32]byte) {
	for key := range l.domains.byKey {
		keys = append(keys, key)
	}
	return keys
}

// Domain is DomainRegistry.domain at a time.
func (l *Ledger) Domain(key [32]byte, now uint64) bindings.IDomainRegistryDomainView {
	d := l.domain(key)
	v := bindings.IDomainRegistryDomainView{
		Owner: d.owner, Status: d.status, Nonce: d.nonce, VerifiedAt: seconds(d.verifiedAt), ValidUntil: big0(),
		CertNotAfter: big0(), OverlapUntil: big0(), DisputedAt: big0(),
	}
	if d.owner == (common.Address{}) {
		return v
	}
	v.ValidUntil = seconds(d.verifiedAt + validity)
	if d.status == domainVerified && now > d.verifiedAt+validity {
		v.Status = domainGrace
	}
	t := l.tenure(key, d.owner, d.nonce)
	v.Token = tokenOf(key, d.owner, d.nonce)
	v.Wildcard, v.TargetType, v.Target = d.wildcard, d.targetType, t.target
	v.SpkiHash, v.CertNotAfter, v.OldSpkiHash, v.OverlapUntil, v.CaaHash = t.spkiHash, t.certNotAfter, t.oldSpkiHash, t.overlapUntil, t.caaHash
	v.Heir, v.Claimant, v.DisputedAt = d.heir, d.claimant, seconds(d.disputedAt)
	return v
}

// RequestOf is DomainRegistry.requestOf.
func (l *Ledger) RequestOf(key [32]byte, owner common.Address) bindings.IDomainRegistryRequestView {
	d := l.domain(key)
	nonce := d.nonce
	if d.owner != (common.Address{}) && d.owner != owner {
		nonce++
	}
	t := l.tenure(key, owner, nonce)
	v := bindings.IDomainRegistryRequestView{
		RequestedAt: seconds(t.requestedAt), Wildcard: t.wildcard, Nonce: nonce, Token: tokenOf(key, owner, nonce), TargetType: t.askedType, Target: t.target,
	}
	if owner == d.owner {
		v.TargetType = d.targetType
	}
	return v
}

// IsRevoked is DomainRegistry.isRevoked.
func (l *Ledger) IsRevoked(key, spkiHash [32]byte) bool {
	return l.domains.revoked[[64]byte(append(key[:], spkiHash[:]...))]
}

func (l *Ledger) domain(key [32]byte) *domain { return entry(l.domains.byKey, key, newDomain) }

func (l *Ledger) tenure(key [32]byte, owner common.Address, nonce uint32) *tenure {
	return entry(l.domains.tenures, tokenOf(key, owner, nonce), newTenure)
}

// own is what the owner of a name has set.
func (l *Ledger) own(key [32]byte) *tenure {
	d := l.domain(key)
	return l.tenure(key, d.owner, d.nonce)
}

// tokenOf is keccak256(abi.encode(key, owner, nonce)).
func tokenOf(key [32]byte, owner common.Address, nonce uint32) [32]byte {
	return crypto.Keccak256Hash(key[:], common.LeftPadBytes(owner[:], 32), common.LeftPadBytes(seconds(uint64(nonce)).Bytes(), 32))
}

func domainHandlers() map[string]handler {
	c := bindings.NewDomainRegistry()
	return map[string]handler{
		"DomainRequested": on(c.UnpackDomainRequestedEvent, func(l *Ledger, now uint64, e *bindings.DomainRegistryDomainRequested) error {
			l.domain(e.Key)
			t := l.tenure(e.Key, e.Owner, e.Nonce)
			if tokenOf(e.Key, e.Owner, e.Nonce) != e.Token {
				return contradiction("%x is not the token of %s for %s", e.Token, e.Owner, e.Fqdn)
			}
			t.requestedAt, t.askedType, t.wildcard, t.target = now, e.TargetType, strings.HasPrefix(e.Fqdn, "*."), e.Target
			return nil
		}),
		"DomainVerified": on(c.UnpackDomainVerifiedEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryDomainVerified) error {
			d := l.domain(e.Key)
			if d.owner == (common.Address{}) {
				t := l.tenure(e.Key, e.Owner, e.Nonce)
				d.targetType, d.wildcard = t.askedType, d.wildcard || t.wildcard
			}
			d.owner, d.nonce, d.verifiedAt, d.status = e.Owner, e.Nonce, e.SeenAt.Uint64(), domainVerified
			return nil
		}),
		"DomainTargetSet": on(c.UnpackDomainTargetSetEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryDomainTargetSet) error {
			l.domain(e.Key).targetType, l.own(e.Key).target = e.TargetType, e.Target
			return nil
		}),
		"CertPinned": on(c.UnpackCertPinnedEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryCertPinned) error {
			t := l.own(e.Key)
			t.spkiHash, t.certNotAfter, t.oldSpkiHash, t.overlapUntil = e.SpkiHash, e.NotAfter, e.OldSpkiHash, e.OverlapUntil
			return nil
		}),
		"CertRevoked": on(c.UnpackCertRevokedEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryCertRevoked) error {
			if t := l.own(e.Key); t.oldSpkiHash == e.SpkiHash {
				t.oldSpkiHash, t.overlapUntil = [32]byte{}, big0()
			}
			l.domains.revoked[[64]byte(append(e.Key[:], e.SpkiHash[:]...))] = true
			return nil
		}),
		"CaaSet": on(c.UnpackCaaSetEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryCaaSet) error {
			l.own(e.Key).caaHash = e.CaaHash
			return nil
		}),
		"TransferOffered": on(c.UnpackTransferOfferedEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryTransferOffered) error {
			l.domain(e.Key).heir = e.Heir
			return nil
		}),
		"DomainTransferred": on(c.UnpackDomainTransferredEvent, (*Ledger).domainTransferred),
		"DomainDisputed": on(c.UnpackDomainDisputedEvent, func(l *Ledger, now uint64, e *bindings.DomainRegistryDomainDisputed) error {
			d := l.domain(e.Key)
			d.status, d.claimant, d.claimedAt, d.disputedAt = domainDisputed, e.Claimant, e.SeenAt.Uint64(), now
			return nil
		}),
		"DisputeSettled": on(c.UnpackDisputeSettledEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryDisputeSettled) error {
			l.domain(e.Key).settle()
			return nil
		}),
		"DomainEnded": on(c.UnpackDomainEndedEvent, func(l *Ledger, _ uint64, e *bindings.DomainRegistryDomainEnded) error {
			d := l.domain(e.Key)
			d.settle()
			d.owner, d.status, d.nonce, d.targetType, d.heir = common.Address{}, e.Status, e.Nonce, 0, common.Address{}
			return nil
		}),
	}
}

// settle forgets a claim.
func (d *domain) settle() { d.claimant, d.claimedAt, d.disputedAt = common.Address{}, 0, 0 }

// domainTransferred gives a name to another owner: as it is when the old one gave
// it, else as the new one asked for it when coordinators saw it in DNS.
func (l *Ledger) domainTransferred(_ uint64, e *bindings.DomainRegistryDomainTransferred) error {
	d, t := l.domain(e.Key), l.tenure(e.Key, e.To, e.Nonce)
	if d.owner != e.From || d.nonce+1 != e.Nonce {
		return contradiction("the name %x was %s's under the nonce %d", e.Key, d.owner, d.nonce)
	}
	if e.Given {
		t.target = l.own(e.Key).target
	} else {
		d.targetType, d.verifiedAt, d.status = t.askedType, d.claimedAt, domainVerified
	}
	d.owner, d.nonce, d.heir = e.To, e.Nonce, common.Address{}
	return nil
}
