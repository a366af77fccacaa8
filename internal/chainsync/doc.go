// Package chainsync follows the chain on which the message network confirms its
// messages, and publishes there what nothing confirms yet. See sections 6.4 to 6.7 of
// the protocol. That chain need not be the one of the product's contracts: mirror
// reads those, and this package reads one contract elsewhere.
//
// Reader reads events in bounded ranges, up to some blocks below the head, and writes
// a row of each that counts. A reorganisation that goes deeper is noticed by the hashes
// of the blocks that are kept, and what they said is taken back: see rollback.go.
//
// Taker takes the messages of events that wait, which may need an archive from other
// nodes first. One that cannot be had is tried again for ever, with growing pauses, and
// delays no other. What is confirmed is so by the row of an event, in the transaction
// that writes the confirmation: so nothing is lost or counted twice when the process
// dies anywhere, or when the chain takes the event back meanwhile.
//
// Chains that this node has no RPC of are followed by what indexers tell of them, which is
// believed and never taken back: see indexed.go.
//
// Publisher packs unconfirmed messages into an archive, and commits an intent that
// outbox sends.
package chainsync
