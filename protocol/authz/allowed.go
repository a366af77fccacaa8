package authz

import (
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Facts is what a grant looks at in a message.
type Facts struct {
	Chain    message.Chain
	Channel  *string
	Type     message.Type
	PostType string // content.type of a POST
	// AggregateKey is content.key of an AGGREGATE; nil for the old form of a
	// key, which no list names.
	AggregateKey *string
}

// FactsOf returns the facts of a message. Its content may be of a type that has
// none of its own.
func FactsOf(e *message.Envelope, c message.Content) Facts {
	f := Facts{Chain: e.Chain, Channel: e.Channel, Type: e.Type}
	switch c := c.(type) {
	case *message.Post:
		f.PostType = c.Type
	case *message.Aggregate:
		if !c.Key.Object {
			f.AggregateKey = &c.Key.Name
		}
	}
	return f
}

// Same reports whether two texts are one address: addresses are compared
// without regard to case.
func Same(a, b string) bool { return strings.ToLower(a) == strings.ToLower(b) } //nolint:staticcheck // SA6005: EqualFold folds more than the reference does

// Allowed reports whether the sender may write such a message for the owner,
// whose aggregate s is. Everybody may write for themselves.
//
// For a new message the facts are its own. For a FORGET they are those of its
// target, with the target's owner and that owner's aggregate: who could write a
// message may take it back, whatever the FORGET says of itself. See sections
// 4.4 to 4.6 of the protocol.
func Allowed(s Security, owner, sender string, m Facts) bool {
	return Same(owner, sender) || slices.ContainsFunc(s.Grants, func(g Grant) bool { return g.allows(sender, m) })
}

// Amend is a POST that replaces another, with what is known of that one.
type Amend struct {
	Owner         string // content.address of the amend
	Sender        string
	OriginalOwner string
	Original      Facts // of the post that is replaced
}

// AllowedAmend reports whether the amend may be written: by the owner, or by
// who could have written the original for its owner, whose aggregate s is. The
// amend must be for that owner.
//
// Whether the owner of an amend is the owner of its original to the letter is
// another rule, which holds for owners too. While an original is not known yet,
// Allowed says of the amend's own facts whether it is worth waiting for.
func AllowedAmend(s Security, a Amend) bool {
	if Same(a.Owner, a.Sender) {
		return true
	}
	return Same(a.Owner, a.OriginalOwner) && Allowed(s, a.OriginalOwner, a.Sender, a.Original)
}

func (g *Grant) allows(sender string, m Facts) bool {
	switch {
	case !Same(g.Address, sender):
		return false
	case g.Chain != "" && g.Chain != m.Chain:
		return false
	case !limit(g.Channels, m.Channel):
		return false
	case len(g.Types) > 0 && !slices.Contains(g.Types, string(m.Type)):
		return false
	case m.Type == message.TypePost && len(g.PostTypes) > 0 && !slices.Contains(g.PostTypes, m.PostType):
		return false
	case m.Type == message.TypeAggregate && !limit(g.AggregateKeys, m.AggregateKey):
		return false
	default:
		return true
	}
}

// limit reports whether a list allows a value that may be missing.
func limit(list []string, value *string) bool {
	return len(list) == 0 || value != nil && slices.Contains(list, *value)
}
