package aleph

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Registry reads nodes from the contracts and makes the calls by which their
// owners change them.
//
// A node is pending when it is registered and active when its stake suffices.
// An active node whose stake falls short is suspended until it is activated
// again. A draining node gets no new jobs; it never goes back to work, it can
// only exit, once its jobs have ended.
type Registry struct {
	chain     *Chain
	contracts Contracts
}

// OpenRegistry returns the registry of the network that a node belongs to. The
// chain must be the one that the node follows.
func OpenRegistry(ctx context.Context, node *Client, chain *Chain) (*Registry, error) {
	info, err := node.Info(ctx)
	if err != nil {
		return nil, err
	}
	id, err := chain.ID(ctx)
	if err != nil {
		return nil, err
	}
	if err := chain.sameAs(node, info, id); err != nil {
		return nil, err
	}
	return &Registry{chain: chain, contracts: info.Contracts}, nil
}

// Registered is a node as the contracts know it.
type Registered struct {
	NodeID      uint32         `json:"node_id"`
	Owner       common.Address `json:"owner"`
	Kind        string         `json:"kind"`
	Status      string         `json:"status"`
	ActiveJobs  uint32         `json:"active_jobs"`
	Stake       Wei            `json:"stake"`
	StakeNeeded Wei            `json:"stake_needed"` // by a node of its kind
	Unbonding   Wei            `json:"unbonding"`    // stake that was asked back
	UnlockAt    int64          `json:"unlock_at"`    // when that can be withdrawn
}

// missing returns the stake that the node lacks.
func (n *Registered) missing() Wei { return Wei{new(big.Int).Sub(n.StakeNeeded.Big(), n.Stake.Big())} }

// Node returns a node; NotFound if there is none.
func (r *Registry) Node(ctx context.Context, id uint32) (*Registered, error) {
	return r.nodeAt(ctx, id, nil)
}

// nodeAt returns a node as it was after a block, nil for the newest.
func (r *Registry) nodeAt(ctx context.Context, id uint32, block *big.Int) (*Registered, error) {
	standing, err := r.chain.view(ctx, block, r.contracts.NodeRegistry, "standing", id)
	if err != nil {
		return nil, err
	}
	owner, ok1 := standing[0].(common.Address)
	kind, ok2 := standing[1].(uint8)
	status, ok3 := standing[2].(uint8)
	if ok3 && status == 0 {
		return nil, &RefusedError{Name: "UnknownNode", Kind: NotFound, Reason: fmt.Sprintf("there is no node %d", id)}
	}
	stake, err := r.chain.view(ctx, block, r.contracts.StakingManager, "stakeOf", id)
	if err != nil {
		return nil, err
	}
	staked, ok4 := stake[0].(*big.Int)
	unbonding, ok5 := stake[1].(*big.Int)
	unlock, ok6 := stake[2].(*big.Int)
	requirement, err := r.chain.view(ctx, block, r.contracts.StakingManager, "requirement", kind)
	if err != nil {
		return nil, err
	}
	needed, ok7 := requirement[0].(*big.Int)
	active, err := r.chain.view(ctx, block, r.contracts.JobManager, "activeJobs", id)
	if err != nil {
		return nil, err
	}
	jobs, ok8 := active[0].(uint32)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 {
		return nil, fmt.Errorf("contracts at %s answer in an unknown form", r.chain.url)
	}
	return &Registered{
		NodeID: id, Owner: owner, Kind: job.NodeKind(kind).String(), Status: statusWord(status), ActiveJobs: jobs,
		Stake: Wei{staked}, StakeNeeded: Wei{needed}, Unbonding: Wei{unbonding}, UnlockAt: unlock.Int64(),
	}, nil
}

// statusWord returns the word of a status, by the numbers of the registry.
func statusWord(status uint8) string {
	words := [...]string{"none", "pending", "active", "suspended", "draining", "jailed", "exited", "banned"}
	if int(status) < len(words) {
		return words[status]
	}
	return fmt.Sprintf("status %d", status)
}

// NodeCall is a call by which a node is changed.
type NodeCall struct {
	registry *Registry
	id       uint32
	to       common.Address
	method   string
	args     []any
	suits    string // in which statuses the contract takes it, as a sentence
	amount   Wei    // that the call is about
}

// Drain stops new jobs for a node for good; running ones go on. Only its owner
// may.
func (r *Registry) Drain(id uint32) *NodeCall {
	return &NodeCall{
		registry: r, id: id, to: r.contracts.NodeRegistry, method: "drain", args: []any{id},
		suits: "only an active or suspended node can drain",
	}
}

// Activate lets a pending or suspended node work, when its stake suffices.
// Anyone may.
func (r *Registry) Activate(id uint32) *NodeCall {
	return &NodeCall{
		registry: r, id: id, to: r.contracts.NodeRegistry, method: "activate", args: []any{id},
		suits: "only a pending or suspended node can be activated",
	}
}

// Exit ends a pending or draining node that has no jobs, for good. Only its
// owner may.
func (r *Registry) Exit(id uint32) *NodeCall {
	return &NodeCall{
		registry: r, id: id, to: r.contracts.NodeRegistry, method: "exit", args: []any{id},
		suits: "only a pending or draining node can exit",
	}
}

// Unstake asks stake back. It can be withdrawn after the time of unbonding,
// which begins anew for all that was asked back before. Only the node's owner
// may.
func (r *Registry) Unstake(id uint32, amount Wei) *NodeCall {
	const bitsMax = 128 // of an amount; more than that nobody has
	packed := amount.Big()
	if limit := new(big.Int).Lsh(big.NewInt(1), bitsMax); packed.Cmp(limit) >= 0 {
		packed = limit.Sub(limit, big.NewInt(1))
	}
	return &NodeCall{
		registry: r, id: id, to: r.contracts.StakingManager, method: "requestUnstake", args: []any{id, packed}, amount: amount,
	}
}

// Withdraw sends the stake that was asked back to the node's owner, once it is
// unlocked. Only the owner may.
func (r *Registry) Withdraw(id uint32) *NodeCall {
	return &NodeCall{registry: r, id: id, to: r.contracts.StakingManager, method: "withdrawSelf", args: []any{id}}
}

// NodeChange is a change of a node that is on the chain.
type NodeChange struct {
	Registered             // after it
	Tx         common.Hash `json:"tx"`
}

// Check returns nil if the contract would take the call from an account now and
// the account can pay for it; otherwise the error that Send would return.
// Nothing is signed.
func (n *NodeCall) Check(ctx context.Context, from common.Address) error {
	m, err := n.message()
	if err != nil {
		return err
	}
	m.From = from
	_, err = n.registry.chain.prepare(ctx, m)
	return n.explain(ctx, from, err)
}

// Send signs the call, sends it and waits until it is mined. A contract that
// refuses it gives a *RefusedError, an account that cannot pay for it a
// *FundsError.
func (n *NodeCall) Send(ctx context.Context, a *Account) (*NodeChange, error) {
	m, err := n.message()
	if err != nil {
		return nil, err
	}
	receipt, err := n.registry.chain.send(ctx, a.key, m)
	if err != nil {
		return nil, n.explain(ctx, a.Address(), err)
	}
	// An RPC with several servers behind it may not know the block everywhere
	// yet.
	after, err := wait(ctx, fmt.Sprintf("node %d after transaction %s", n.id, receipt.TxHash), func() (*Registered, bool, error) {
		v, err := n.registry.nodeAt(ctx, n.id, receipt.BlockNumber)
		if err != nil {
			return nil, false, &UnreachableError{URL: n.registry.chain.url, Err: err}
		}
		return v, true, nil
	})
	if err != nil {
		return nil, err
	}
	return &NodeChange{Registered: *after, Tx: receipt.TxHash}, nil
}

func (n *NodeCall) message() (ethereum.CallMsg, error) {
	data, err := n.registry.chain.contracts.Pack(n.method, n.args...)
	if err != nil {
		return ethereum.CallMsg{}, fmt.Errorf("encode %s: %w", n.method, err)
	}
	return ethereum.CallMsg{To: &n.to, Data: data}, nil
}

// explain tells a refusal in terms of the node.
func (n *NodeCall) explain(ctx context.Context, from common.Address, err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	v, lost := n.registry.Node(ctx, n.id)
	if errors.Is(lost, NotFound) {
		return lost // which is why
	}
	if lost != nil {
		return err // of the two, the refusal says more
	}
	refused.Node = v
	if text := n.reason(refused.Name, from, v); text != "" {
		refused.Reason = text
	}
	return err
}

// reason returns a sentence for an error of the contracts, "" to leave it as it
// is.
func (n *NodeCall) reason(name string, from common.Address, v *Registered) string {
	switch name {
	case "NotAuthorized":
		return fmt.Sprintf("node %d belongs to %s, not to %s", v.NodeID, v.Owner, from)
	case "NodeNotActive":
		return fmt.Sprintf("node %d is %s; %s", v.NodeID, v.Status, n.suits)
	case "StakeTooLow":
		return fmt.Sprintf("node %d has %s ALEPH staked of the %s ALEPH that a %s node needs; %s ALEPH more must be staked with StakingManager %s",
			v.NodeID, v.Stake.Tokens(), v.StakeNeeded.Tokens(), v.Kind, v.missing().Tokens(), n.registry.contracts.StakingManager)
	case "JobsRunning":
		return fmt.Sprintf("node %d can exit when its jobs have ended; it still has %d", v.NodeID, v.ActiveJobs)
	case "RequirementHeld":
		return fmt.Sprintf("node %d is %s and keeps %s ALEPH of its %s ALEPH staked until it has exited",
			v.NodeID, v.Status, v.StakeNeeded.Tokens(), v.Stake.Tokens())
	case "Insufficient":
		return fmt.Sprintf("node %d has %s ALEPH staked, less than %s ALEPH", v.NodeID, v.Stake.Tokens(), n.amount.Tokens())
	case "ZeroAmount":
		if n.amount.v == nil {
			return fmt.Sprintf("node %d has no stake that was asked back", v.NodeID)
		}
	case "NotUnlocked":
		return fmt.Sprintf("%s ALEPH of node %d can be withdrawn from %s on",
			v.Unbonding.Tokens(), v.NodeID, time.Unix(v.UnlockAt, 0).UTC().Format(time.RFC3339))
	}
	return ""
}
