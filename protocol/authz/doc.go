// Package authz decides who may write for whom. The owner of posts, aggregates,
// files and machines is the address in a content; its sender is another's key
// only if the owner's aggregate `security` says so. See section 4.5 of the
// protocol.
//
// Which aggregate of the owner counts is for the caller to know: a node takes what
// held at the message's own time, so that all decide alike in whatever order they
// hear. Nothing protects the aggregate itself: a delegate who may write every
// aggregate of an owner may write this one, until the owner writes it anew.
package authz
