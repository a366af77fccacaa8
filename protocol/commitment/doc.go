// Package commitment holds the words of proven storage (ASP-1): the tree of an
// object's bytes and its root, the bundle of a node's objects, which leaves a
// day's seed asks for, proofs of them, the receipt that a node signs for an
// object, and the beacon that seeds come from.
//
// A leaf of an object's tree is 256 bytes hashed with SHA-256, an inner node is
// the Keccak-256 of its two children: no inner node can pass for a leaf. A
// proof has no lengths or offsets that the verifier does not derive from what
// is committed. The contract StorageRegistry accepts what Verify accepts.
package commitment
