package corechannel

import "fmt"

// Ignored is why an event changes nothing. It is no failure: the public network
// holds many such posts, and every node ignores the same.
type Ignored string

// Error implements error with the reason.
func (i Ignored) Error() string { return string(i) }

// The reasons that an event can have whatever its content says.
const (
	NotOurs  Ignored = "the post is of another type"
	Untagged Ignored = "the post does not have the network's tag"
	Stranger Ignored = "the sender has no say in this"
	Twice    Ignored = "the event was applied"
)

// ignored makes a reason with facts in it.
func ignored(format string, args ...any) Ignored {
	return Ignored(fmt.Sprintf(format, args...))
}
