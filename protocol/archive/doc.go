// Package archive reads and writes what transactions say of messages. See sections
// 6.4 to 6.7 of the protocol.
//
// A contract of the network emits two kinds of events. The text of a SyncEvent is a
// [Payload]: messages, or the CID of a file that has them, which is an archive. A
// MessageEvent is a message itself, without a signature: an [Event].
//
// What others wrote is read leniently where the reference does so, and within
// bounds. What is written here is what the reference writes, byte for byte: the
// hash of a message from a contract is that of a text which every node makes by
// itself, and equal archives have one CID.
//
// Errors say why a text can never be used; there is nothing to try again.
package archive
