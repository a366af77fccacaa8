package job

import "fmt"

// NodeReason says on chain why a node ended a job itself. Numbers below 16 are
// the contract's own.
type NodeReason uint8

// The reasons of a node.
const (
	NodeRefused     NodeReason = 16 // its message or image cannot run here
	NodeCannotStart NodeReason = 17 // its machine failed to start, again and again
	NodeCrashed     NodeReason = 18 // its machine ran and then failed, again and again
)

// String returns the reason in words.
func (r NodeReason) String() string {
	switch r {
	case NodeRefused:
		return "the message or image cannot run on the node"
	case NodeCannotStart:
		return "the machine could not be started"
	case NodeCrashed:
		return "the machine failed again and again"
	default:
		return fmt.Sprintf("reason %d of the node", uint8(r))
	}
}
