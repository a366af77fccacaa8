// Package job holds the signed words of a paid job: the payer's offer and
// stop, the node's acceptance, the coordinators' assignment, the registration
// of a node's signer and the ERC-20 permit, each as EIP-712 typed data, and
// the questions that nodes ask each other about a job and about messages.
//
// A digest binds the chain id and the contract, so a signature for a local
// network is worth nothing on another chain. Signatures are 65 bytes with a
// recovery id of 27 or 28 and a low s; Recover refuses any other form, as the
// contracts do.
package job
