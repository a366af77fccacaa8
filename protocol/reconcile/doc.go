// Package reconcile finds what two nodes' sets of messages do not have in common, by
// comparing fingerprints of ranges: of equal ranges nothing more is said, and unequal
// ones are cut until their items are few enough to be listed.
//
// Items are in the order of their times, then of their hashes. Who asks has a Session;
// who is asked keeps nothing between questions, see Reply. The package does no I/O: sets
// and messages come from the caller. It is described in docs/protocol/reconcile.md.
package reconcile
