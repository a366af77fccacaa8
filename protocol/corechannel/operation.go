package corechannel

import (
	"math"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Action is what an operation does.
type Action string

// The actions of section 7.1.
const (
	CreateNode         Action = "create-node"
	CreateResourceNode Action = "create-resource-node"
	Link               Action = "link"
	Unlink             Action = "unlink"
	DropNode           Action = "drop-node"
	Stake              Action = "stake"
	StakeSplit         Action = "stake-split"
	Unstake            Action = "unstake"
	Amend              Action = "amend"
)

// Operation is what an address wants to change.
type Operation struct {
	Action  Action
	Address string // content.address of the post
	Ref     string // hash of the node that is meant; "" for one that is created
	Details Details
}

// Details is what an operation says of a node. What it does not say, or says in
// another type, is nil: no post may put something into the aggregate that its
// readers cannot take.
type Details struct {
	Name         *string
	Multiaddress *string
	Address      *string // URL
	Picture      *string
	Banner       *string
	Description  *string
	Reward       *string
	StreamReward *string
	Manager      *string
	Registration *string // registration_url
	Terms        *string // terms_and_conditions
	Authorized   []string
	Locked       *bool
	Type         *string // of a CRN
	NodeID       *uint32 // node_id: the id that the registry on chain gave this node
}

func readOperation(m Message, s Settings) (Body, error) {
	content, err := tagged(m, s)
	if err != nil {
		return nil, err
	}
	op := Operation{Action: Amend, Address: m.Post.Address}
	if m.Post.Type == OperationType {
		action, _ := content.text("action")
		op.Action = Action(action)
	}
	if m.Post.Ref != nil {
		op.Ref = m.Post.Ref.Target()
	}
	if content.given("details") {
		details, ok := object(content["details"])
		if !ok {
			return nil, Ignored("the details are not an object")
		}
		op.Details = readDetails(details)
	}
	return op, op.check(m.Hash)
}

// check refuses what no state could take.
func (op *Operation) check(hash message.ItemHash) error {
	switch op.Action {
	case CreateNode, CreateResourceNode:
		// Clients read no other name, and one that they cannot read would hide all
		// nodes from them.
		if !isHash(string(hash)) {
			return ignored("the message's name %.80q is not 64 hex digits", hash)
		}
		if op.Action == CreateResourceNode && op.Details.Type == nil {
			return Ignored("details.type is missing or not a text")
		}
	case Link, Unlink, DropNode, Stake, StakeSplit, Unstake, Amend:
		if op.Ref == "" {
			return Ignored("the reference to a node is missing")
		}
	default:
		return ignored("there is no action %.80q", op.Action)
	}
	return nil
}

func readDetails(in fields) Details {
	var d Details
	for key, out := range map[string]**string{
		"name": &d.Name, "multiaddress": &d.Multiaddress, "address": &d.Address, "picture": &d.Picture, "banner": &d.Banner,
		"description": &d.Description, "reward": &d.Reward, "stream_reward": &d.StreamReward, "manager": &d.Manager,
		"registration_url": &d.Registration, "terms_and_conditions": &d.Terms, "type": &d.Type,
	} {
		if s, ok := in.text(key); ok {
			*out = &s
		}
	}
	d.Authorized = in.texts("authorized")
	if locked, ok := in.truth("locked"); ok {
		d.Locked = &locked
	}
	if n, ok := in.number("node_id"); ok && n >= 1 && n <= math.MaxUint32 && n == math.Trunc(n) {
		id := uint32(n)
		d.NodeID = &id
	}
	return d
}

// isHash reports whether a text is 64 lower-case hex digits.
func isHash(s string) bool {
	const digits = 64
	if len(s) != digits {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
