package corenode

import (
	"context"
	"encoding/json"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// listedNode is what this package reads of a node in the list of nodes.
type listedNode struct {
	Hash    string `json:"hash"`
	Owner   string `json:"owner"`
	Address string `json:"address"`
	Reward  string `json:"reward"`
	Stream  string `json:"stream_reward"`
}

// ListedNode returns the item hash of the message that registered the compute node of a
// domain, as the list of nodes of an authority has it. reward, "" for none, is the
// address that streams of tokens for the node's machines flow to: it tells apart nodes
// that claim the same domain, as everybody may claim one. The registration that the list
// names is read, and its hash and signature are checked. errs.NotFound means that there is
// none, and errs.Conflict that there are several: nobody guesses which.
func (c *Client) ListedNode(ctx context.Context, authority, domain, reward string) (message.ItemHash, error) {
	want, ok := normal("https://" + domain)
	if !ok {
		return "", errs.New(errs.Invalid, "domain is %.*q, want a name of a host", nameMax, domain)
	}
	raw, err := c.Aggregate(ctx, authority, corechannel.AggregateKey)
	if err != nil {
		return "", err
	}
	var list struct {
		Nodes []listedNode `json:"resource_nodes"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", errs.New(errs.Unavailable, "the list of nodes of %s: %w", authority, err)
	}
	var own, others []listedNode
	for _, n := range list.Nodes {
		switch _, err := message.ParseItemHash(n.Hash); {
		case err != nil || !isSame(n.Address, want):
		case reward != "" && (authz.Same(n.Stream, reward) || authz.Same(n.Reward, reward)):
			own = append(own, n)
		default:
			others = append(others, n)
		}
	}
	// Those of others are looked at when there is no own one: what a stranger lists at
	// this domain, and cannot be read, must not fail the search.
	nodes, err := c.registered(ctx, own, want)
	if err == nil && len(nodes) == 0 {
		nodes, err = c.registered(ctx, others, want)
	}
	if err != nil {
		return "", err
	}
	switch len(nodes) {
	case 0:
		return "", errs.New(errs.NotFound, "the list of nodes has no compute node at %s", want)
	case 1:
		return message.ItemHash(nodes[0].Hash), nil
	default:
		return "", errs.New(errs.Conflict, "the list of nodes has %d compute nodes at %s: set the hash of the node", len(nodes), want)
	}
}

// registered returns those that their owner has registered: the list says where a node is
// now, the message by whom it was registered.
func (c *Client) registered(ctx context.Context, nodes []listedNode, want string) (out []listedNode, err error) {
	for _, n := range nodes {
		is, err := c.registers(ctx, message.ItemHash(n.Hash), n.Owner, want, true)
		if err != nil {
			return nil, err
		}
		if is {
			out = append(out, n)
		}
	}
	return out, nil
}
