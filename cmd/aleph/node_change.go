package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// nodeChange is one thing that an owner does to a node.
type nodeChange struct {
	use, short, long string
	args             int
	call             func(r *aleph.Registry, id uint32, args []string) (*aleph.NodeCall, error)
	loss             func(n *aleph.Registered) string // what cannot be undone; nil if nothing is lost
	done             func(n *aleph.Registered) string // what it means and what comes next
}

const ownerHelp = "\n\nThe account signs and sends it and pays the chain's fee in ether."

func nodeDrain(a *app) *cobra.Command {
	return a.nodeChange(nodeChange{
		use: "drain ID", short: "Stop new jobs for your node, for good", args: 1,
		long: "Stop new jobs for your node; running ones go on. A draining node does not go back to work: when its\njobs have ended it can only exit. Only its owner may.",
		call: func(r *aleph.Registry, id uint32, _ []string) (*aleph.NodeCall, error) { return r.Drain(id), nil },
		loss: func(n *aleph.Registered) string {
			return fmt.Sprintf("Node %d (%s) gets no new jobs and never goes back to work; %s. All it can do then is exit.", n.NodeID, n.Kind, jobsGoOn(n))
		},
		done: func(n *aleph.Registered) string {
			return fmt.Sprintf("Node %d gets no new jobs; %s. Without jobs it can exit: 'aleph node exit %d'.", n.NodeID, jobsGoOn(n), n.NodeID)
		},
	})
}

func jobsGoOn(n *aleph.Registered) string {
	switch n.ActiveJobs {
	case 0:
		return "it has none now"
	case 1:
		return "the 1 that it has goes on"
	}
	return fmt.Sprintf("the %d that it has go on", n.ActiveJobs)
}

func nodeActivate(a *app) *cobra.Command {
	return a.nodeChange(nodeChange{
		use: "activate ID", short: "Put a node to work", args: 1,
		long: "Put a node to work that is pending (it is new) or suspended (its stake fell short), when its stake\nsuffices. Anyone may.",
		call: func(r *aleph.Registry, id uint32, _ []string) (*aleph.NodeCall, error) { return r.Activate(id), nil },
		done: func(n *aleph.Registered) string {
			return fmt.Sprintf("Node %d is at work, with %s ALEPH staked of the %s ALEPH that it needs.", n.NodeID, n.Stake.Tokens(), n.StakeNeeded.Tokens())
		},
	})
}

func nodeExit(a *app) *cobra.Command {
	return a.nodeChange(nodeChange{
		use: "exit ID", short: "End your node for good", args: 1,
		long: "End your node, which is pending or draining and has no jobs, for good: its number is never used again.\nIts peer id and its signing key are free for a new registration, and its stake can be asked back. Only\nits owner may.",
		call: func(r *aleph.Registry, id uint32, _ []string) (*aleph.NodeCall, error) { return r.Exit(id), nil },
		loss: func(n *aleph.Registered) string {
			return fmt.Sprintf("Node %d (%s) ends for good; only a new registration brings its machine back.", n.NodeID, n.Kind)
		},
		done: func(n *aleph.Registered) string {
			return fmt.Sprintf("Node %d has exited. Its stake can be asked back: 'aleph node unstake %d %s'.", n.NodeID, n.NodeID, n.Stake.Tokens())
		},
	})
}

func nodeUnstake(a *app) *cobra.Command {
	return a.nodeChange(nodeChange{
		use: "unstake ID AMOUNT", short: "Ask stake of your node back", args: 2,
		long: "Ask AMOUNT ALEPH of your node's stake back. It can be withdrawn after the time of unbonding, which\nbegins anew for all that was asked back before. A node that works, drains or is suspended keeps what its\nkind needs. Only its owner may.",
		call: func(r *aleph.Registry, id uint32, args []string) (*aleph.NodeCall, error) {
			amount, err := aleph.ParseTokens(args[0])
			if err != nil {
				return nil, usageError{err}
			}
			return r.Unstake(id, amount), nil
		},
		done: func(n *aleph.Registered) string {
			return fmt.Sprintf("%s ALEPH can be withdrawn from %s on: 'aleph node withdraw %d'.", n.Unbonding.Tokens(), when(n.UnlockAt), n.NodeID)
		},
	})
}

func nodeWithdraw(a *app) *cobra.Command {
	return a.nodeChange(nodeChange{
		use: "withdraw ID", short: "Take the stake that you asked back", args: 1,
		long: "Take the stake that you asked back, once it is unlocked. It goes to the owner, who alone may do this.",
		call: func(r *aleph.Registry, id uint32, _ []string) (*aleph.NodeCall, error) { return r.Withdraw(id), nil },
		done: func(n *aleph.Registered) string {
			return fmt.Sprintf("The stake is with %s; %s ALEPH are still staked.", n.Owner.Hex(), n.Stake.Tokens())
		},
	})
}

// nodeChange makes the command of a change.
func (a *app) nodeChange(ch nodeChange) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{Use: ch.use, Short: ch.short, Long: ch.long + ownerHelp, Args: args(cobra.ExactArgs(ch.args))}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := nodeID(args[0])
		if err != nil {
			return err
		}
		out, err := a.changeNode(cmd.Context(), ch, id, args[1:], yes)
		if err != nil {
			return err
		}
		a.say("Transaction %s is on the chain.", out.Tx.Hex())
		a.say("%s", ch.done(&out.Registered))
		return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%d %s\n", out.NodeID, out.Status) })
	}
	if ch.loss != nil {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	return cmd
}

// changeNode asks the contract, then the person, then for the password: so
// nobody confirms what would be refused.
func (a *app) changeNode(ctx context.Context, ch nodeChange, id uint32, args []string, yes bool) (*aleph.NodeChange, error) {
	owner, err := a.chosen()
	if err != nil {
		return nil, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	chain, err := aleph.DialChain(ctx, a.rpcURL)
	if err != nil {
		return nil, err
	}
	defer chain.Close()
	call, loss, err := ch.check(ctx, c, chain, owner, id, args)
	if err != nil {
		return nil, err
	}
	if loss != "" && !yes {
		a.say("%s", loss)
		ok, err := a.confirm("Go on?")
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errors.New("nothing was changed; answer y, or give --yes, to go on")
		}
	}
	account, err := a.unlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	return call.Send(ctx, account)
}

// check returns the call, which the contract would take now, and what is lost
// by it.
func (ch nodeChange) check(
	ctx context.Context, c *aleph.Client, chain *aleph.Chain, owner stored, id uint32, args []string,
) (call *aleph.NodeCall, loss string, err error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	registry, err := aleph.OpenRegistry(ctx, c, chain)
	if err != nil {
		return nil, "", err
	}
	if call, err = ch.call(registry, id, args); err != nil {
		return nil, "", err
	}
	if err := call.Check(ctx, owner.Address); err != nil || ch.loss == nil {
		return call, "", err
	}
	n, err := registry.Node(ctx, id)
	if err != nil {
		return nil, "", err
	}
	return call, ch.loss(n), nil
}

// nodeID reads the number of a node.
func nodeID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, usagef("node id %q is not a number", text)
	}
	return uint32(id), nil
}

// refusedHint says what to do about a refusal by a contract.
func refusedHint(e *aleph.RefusedError) string {
	if e.Name == "UnknownNode" {
		return "'aleph node list' lists the nodes."
	}
	if e.Node == nil {
		return ""
	}
	id := e.Node.NodeID
	switch e.Name {
	case "NotAuthorized":
		return "Act as its owner with --account NAME; 'aleph account list' lists the accounts on this machine."
	case "StakeTooLow":
		return fmt.Sprintf("Its owner stakes with stake(%d, AMOUNT) there, after approving the token; then 'aleph node activate %d'.", id, id)
	case "JobsRunning":
		return "They go on until their payers stop them or their time is over; a draining node gets no new ones."
	case "ZeroAmount":
		return fmt.Sprintf("'aleph node unstake %d AMOUNT' asks stake back.", id)
	case "NodeNotActive", "RequirementHeld":
		return statusHint(e.Node.Status, id)
	}
	return ""
}

// statusHint says what can be done to a node in a status that forbids
// something else.
func statusHint(status string, id uint32) string {
	switch status {
	case "pending":
		return fmt.Sprintf("'aleph node activate %d' puts it to work; 'aleph node exit %d' ends it.", id, id)
	case "active":
		return fmt.Sprintf("It is at work; 'aleph node drain %d' stops new jobs, and without jobs it can exit.", id)
	case "suspended":
		return fmt.Sprintf("'aleph node activate %d' puts it back to work when its stake suffices; 'aleph node drain %d' comes before its exit.", id, id)
	case "draining":
		return fmt.Sprintf("A draining node does not go back to work; without jobs it can exit: 'aleph node exit %d'.", id)
	case "exited":
		return fmt.Sprintf("A node that has exited stays so; 'aleph node unstake %d AMOUNT' asks its stake back.", id)
	}
	return ""
}
