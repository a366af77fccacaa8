// Package heartbeat holds what coordinators say of the nodes in an epoch, an
// hour: a bitmap of who was alive, a tree with a leaf for what each node can do,
// and the word that they sign over both.
//
// A leaf stands at the place of its node's id, so a node has one leaf at most
// and a place without a leaf shows that there is none. A leaf's hash is the
// Keccak-256 of 32 bytes and an inner node's that of 64: neither passes for the
// other. The contract NodeRegistry accepts what Verify accepts.
package heartbeat
