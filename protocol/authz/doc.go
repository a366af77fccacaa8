// Package authz decides who may write for whom. The owner of posts, aggregates,
// files and machines is the address in a content; its sender is another's key
// only if the owner's aggregate `security` says so. See section 4.5 of the
// protocol.
//
// The state of the aggregate is that of the moment a message is processed, not
// of the message's time. Nothing protects the aggregate itself: a delegate who
// may write every aggregate of an owner may write this one.
package authz
