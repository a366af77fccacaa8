// Package corechannel folds what is said about nodes into the one list of nodes
// that clients read, the content of the aggregate `corechannel`: core channel
// nodes (CCNs, coordinators), compute resource nodes (CRNs) and who stakes on
// them. See section 7 of the protocol.
//
// [Read] makes an [Event] of a post; balances and registrations on chain are
// events as they are. [Merge] puts events in order, a [Fold] applies them, its
// State is the aggregate, and [Rates] say what everybody earns. The same set of
// events gives the same bytes, in whatever order they are given. A service
// keeps clones of a fold as checkpoints: an event that comes late ([ErrLate])
// is applied to one that is older, and what came after once more.
//
// What cannot be understood or is not allowed changes nothing and has a reason,
// an [Ignored].
//
// # Tighter than the reference
//
// No value gets into the aggregate whose type clients do not expect: a field of
// another type counts as left out. A node whose creating message is not named
// by 64 hex digits is not taken, for one such hash would hide all nodes from
// some clients. A number that is given as `locked` counts as the truth value it
// stands for. Amounts are exact to the wei until they are written. The time of
// a node is content.time, which is signed, and not that of the envelope.
//
// # Nodes on chain
//
// A node that is in the NodeRegistry is in the same lists, with the same
// fields. A coordinator is a CCN, a compute node a CRN of type compute; other
// kinds are in no list.
//
//   - Its hash is [ChainHash] of its id, and every operation and score may name
//     a node by that, whatever other hash it has.
//   - It is one entry with a node that a message created, under the message's
//     hash, if both are of one kind and one owner and either the metadata hash
//     of the registration is the hash of the message or details.node_id of the
//     message, or of an amend by the owner, is the id. It does not matter which
//     came first. With another owner they stay two.
//   - The chain decides whether it exists, who owns it, and its links; what the
//     chain has made, no drop-node or unlink undoes. An owner that got it by a
//     transfer starts without a manager and with their own payout address.
//   - Messages decide the rest: name, address and the other fields that can be
//     amended. What they leave empty is what the registration says; the reward
//     address is the payout address unless a message has set one. A CRN is
//     locked if either says so.
//   - A coordinator is listed when it is active on chain or its owner has
//     staked on chain what a CCN takes: registering alone is free. A compute
//     node is always listed, as a CRN is.
//   - A CCN is active when it is active on chain or enough is staked on it.
//     Stakers are who staked by messages and who delegated on chain; as with
//     messages, the owner's own stake is not among them. That stake counts as
//     if it were still in the owner's wallet.
//   - An owner of a listed CCN stakes on no other, and what they staked ends. A
//     new CCN of theirs needs a registration; a link goes to their oldest CCN
//     that has room.
//   - A node that exits or is banned is gone, unless a message created it and
//     its owner's wallet holds enough.
package corechannel
