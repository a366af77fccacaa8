package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

func nodeCommand(a *app) *cobra.Command {
	return newGroup("node", "Look at the nodes of the network and run your own",
		nodeList(a), nodeShow(a), nodeActivate(a), nodeDrain(a), nodeExit(a), nodeUnstake(a), nodeWithdraw(a))
}

func nodeList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the nodes of the network", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			nodes, err := c.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(nodes, func(w io.Writer) {
				t := newTable(w)
				t.row("ID", "KIND", "STATUS", "VCPUS FREE", "MEMORY FREE", "DISK FREE", "PRICE", "ACCELERATOR", "SEEN")
				for _, n := range nodes {
					t.row(append([]any{n.NodeID, n.Kind, n.Status}, append(free(n), price(n), dash(n.Accelerator), when(n.SeenAt))...)...)
				}
				t.flush()
			})
		},
	}
}

func free(n aleph.Node) []any {
	if n.Capacity == nil {
		return []any{"-", "-", "-"}
	}
	c := n.Capacity
	return []any{
		fmt.Sprintf("%d of %d", c.VCPUsFree, c.VCPUsTotal), fmt.Sprintf("%d of %d MiB", c.MemoryFreeMiB, c.MemoryTotalMiB),
		fmt.Sprintf("%d of %d MiB", c.DiskFreeMiB, c.DiskTotalMiB),
	}
}

// price writes a node's multiplier of the table price.
func price(n aleph.Node) string {
	if n.Capacity == nil {
		return "-"
	}
	return strconv.FormatFloat(float64(n.PriceBps)/100, 'f', -1, 64) + " %"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func nodeShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a node", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			nodes, err := c.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.NodeID == id {
					return a.print(n, func(w io.Writer) { showNode(w, n) })
				}
			}
			return fmt.Errorf("node %d is not known to %s; 'aleph node list' lists the others", id, c.URL())
		},
	}
}

func showNode(w io.Writer, n aleph.Node) {
	t := newTable(w)
	t.row("node", n.NodeID)
	t.row("kind", n.Kind)
	t.row("status", n.Status)
	t.row("owner", n.Owner.Hex())
	t.row("signer", n.Signer.Hex())
	t.row("peer id", n.PeerID)
	t.row("region", n.Region)
	t.row("endpoint", dash(n.Endpoint))
	capacity := free(n)
	t.row("vcpus free", capacity[0])
	t.row("memory free", capacity[1])
	t.row("disk free", capacity[2])
	t.row("price", price(n))
	t.row("accelerator", dash(n.Accelerator))
	t.row("seen", when(n.SeenAt))
	t.flush()
}
