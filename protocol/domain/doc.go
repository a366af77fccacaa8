// Package domain holds the words of custom domains: which names have a key,
// what an owner puts into DNS, and what coordinators attest that they saw
// there. The contract DomainRegistry computes the same keys, tokens and
// digests; protocol/testdata/vectors/domain.json is what it computes.
//
// A name shows its owner in TXT records of _control.<name>, in one of two
// forms:
//
//	0x5B38Da6a701c568545dCfcB03FcB875f56beddC4
//	aleph-v=1; o=0x5B38Da6a701c568545dCfcB03FcB875f56beddC4; t=0x9c22...
//
// The first is what existing clients ask for. The second holds the token of
// the owner's request, which ends with the ownership: a record that was
// forgotten proves nothing to the next owner's harm.
package domain
