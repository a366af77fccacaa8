package devnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// File is the name of the file in the data directory that describes a network
// that runs.
const File = "devnet.json"

// readyPoll is how often the nodes are asked whether they are ready.
const readyPoll = 25 * time.Millisecond

// Description says where the parts of a local network are.
type Description struct {
	RPCURL    string          `json:"rpc_url"`
	ChainID   uint64          `json:"chain_id"`
	Contracts chain.Contracts `json:"contracts"`
	Nodes     []Node          `json:"nodes"` // The coordinator first.
	Accounts  []Account       `json:"accounts"`
	DataDir   string          `json:"data_dir"`
	TookMS    int64           `json:"took_ms"` // From the start to ready.
	PID       int             `json:"pid"`
}

// Node is a node of a local network.
type Node struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	NodeID  uint32 `json:"node_id"`
	URL     string `json:"url"`
	DataDir string `json:"data_dir"`
}

// Account is a funded account; its key is public.
type Account struct {
	Address common.Address `json:"address"`
	Key     string         `json:"key"`
	For     string         `json:"for,omitempty"`
}

// awaitReady returns when every node is ready and the coordinator knows what
// each compute node offers.
func (n *Network) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var last error
	for {
		if last = n.ready(ctx); last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-n.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

func (n *Network) ready(ctx context.Context) error {
	for _, m := range n.members {
		client, err := aleph.New(m.url())
		if err != nil {
			return err
		}
		if err := client.Ready(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	client, err := aleph.New(n.members[0].url())
	if err != nil {
		return err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	heard := map[uint32]bool{}
	for _, node := range nodes {
		// A word from before the start of the network does not count.
		heard[node.NodeID] = node.Capacity != nil && node.SeenAt >= n.begin.Unix()
	}
	for _, m := range n.members[1:] {
		if !heard[m.id] {
			return errs.New(errs.Unavailable, "the coordinator has not heard of %s yet", m.name)
		}
	}
	return nil
}

// describe writes the file that tells tools where everything is.
func (n *Network) describe() error {
	d := Description{
		RPCURL: n.chain.URL(), ChainID: devchain.ChainID, Contracts: n.deployed.Contracts, DataDir: n.opts.DataDir,
		TookMS: time.Since(n.begin).Milliseconds(), PID: os.Getpid(),
	}
	for i, m := range n.members {
		d.Nodes = append(d.Nodes, Node{Name: m.name, Role: role(i), NodeID: m.id, URL: m.url(), DataDir: m.dir})
	}
	uses := map[int]string{
		adminAccount: "holds every role of the contracts", ownerAccount: "owns the nodes", stakersAccount: "gets the stakers' share",
		coordinatorAccount: "gets the coordinators' share", developmentAccount: "gets the development share",
		sourceAccount: "source of 'aleph account fund'",
	}
	for i, a := range devchain.Accounts() {
		d.Accounts = append(d.Accounts, Account{Address: a.Address, Key: "0x" + a.KeyHex, For: uses[i]})
	}
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("encode description: %w", err)
	}
	path := filepath.Join(n.opts.DataDir, File)
	if err := errors.Join(os.WriteFile(path+".new", append(raw, '\n'), 0o600), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("write description: %w", err)
	}
	n.described = true
	return nil
}

// Read reads the description of the network that runs in a data directory.
func Read(dataDir string) (*Description, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, File))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "no local network is ready in %s", dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("read description: %w", err)
	}
	var d Description
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("decode description: %w", err)
	}
	if len(d.Nodes) == 0 {
		return nil, errs.New(errs.Internal, "%s in %s names no nodes", File, dataDir)
	}
	return &d, nil
}

// Ready is the line that says that a network is ready; tools read it too.
func (d *Description) Ready() string {
	return fmt.Sprintf("ready in %.1f s; state is in %s; Ctrl-C stops everything\n", float64(d.TookMS)/1000, d.DataDir)
}

// Print writes for people what there is and how to use it.
func (d *Description) Print(w io.Writer) error {
	const line = "  %-14s %s\n"
	out := &printer{w: w}
	out.printf("\nA local network with play money\n\n")
	out.printf("Accounts: each has play ETH and ALEPH. The keys are public, never send them anything of worth.\n")
	for i, a := range d.Accounts {
		out.printf("  (%d) %s  %s\n", i, a.Address.Hex(), a.Key)
		if a.For != "" {
			out.printf("      %s\n", a.For)
		}
	}
	out.printf("\nChain\n")
	out.printf(line, "rpc", d.RPCURL)
	out.printf(line, "chain id", fmt.Sprint(d.ChainID))
	contracts := d.Contracts.ByName()
	for _, name := range chain.Names() {
		out.printf(line, name, contracts[name].Hex())
	}
	out.printf("\nNodes\n")
	for _, node := range d.Nodes {
		out.printf(line, node.Name, fmt.Sprintf("node %d at %s, log %s", node.NodeID, node.URL, filepath.Join(node.DataDir, logFile)))
	}
	out.printf("\nUse it\n  export ALEPH_NODE=%s ALEPH_RPC=%s\n  aleph account create me && aleph account fund && aleph allowance set 100\n", d.Nodes[0].URL, d.RPCURL)
	out.printf("\n%s", d.Ready())
	return out.err
}

// printer keeps the first error of many writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
