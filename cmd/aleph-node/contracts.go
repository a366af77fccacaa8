package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

// network is where the contracts of the commands below are.
type network struct {
	rpcURL     string
	chainID    uint64
	params     string // File; "" = those of the release.
	deployment string // File.
	key        string // File.
}

func (a *app) contractsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "contracts", Short: "Deploy the contracts, verify a deployment, or rehearse an upgrade", SuggestionsMinimumDistance: 2,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.contractsDeployCommand(), a.contractsVerifyCommand(), a.contractsRehearseCommand())
	return cmd
}

func (a *app) contractsDeployCommand() *cobra.Command {
	var n network
	cmd := &cobra.Command{
		Use: "deploy", Short: "Deploy all contracts to a chain", Args: noArgs,
		Long: "Deploy all contracts to a chain with the parameters of that chain, and write where they are. In the end\n" +
			"no account but contracts holds a role: the timelock, for which votes decide, and the guardian. The same\n" +
			"account with the same number of transactions before gives the same addresses.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.deployContracts(cmd.Context(), n) },
	}
	n.flags(cmd)
	cmd.Flags().StringVar(&n.key, "key", "", "file with the private key that pays for it, readable by its owner only")
	return cmd
}

func (a *app) contractsVerifyCommand() *cobra.Command {
	var n network
	cmd := &cobra.Command{
		Use: "verify", Short: "Compare a deployment with this release, byte by byte", Args: noArgs,
		Long: "Make the code of every contract anew from this release and the parameters of the chain, and compare it with\n" +
			"the code on the chain: proxies, where they point, and what is there.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verifyContracts(cmd.Context(), n) },
	}
	n.flags(cmd)
	return cmd
}

func (n *network) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.rpcURL, "rpc-url", "http://127.0.0.1:8545", "JSON-RPC of the chain")
	f.Uint64Var(&n.chainID, "chain-id", 31337, "chain the RPC must be of")
	f.StringVar(&n.params, "params", "", "file with the parameters of the chain (default those of this release)")
	f.StringVar(&n.deployment, "deployment", "", "file that says where the contracts are")
}

func (n *network) readParams() (deploy.Params, error) {
	if n.params == "" {
		return deploy.ParamsOf(n.chainID)
	}
	raw, err := os.ReadFile(n.params)
	if err != nil {
		return deploy.Params{}, fmt.Errorf("read parameters: %w", err)
	}
	return deploy.ParseParams(raw)
}

// open returns the parameters and a client of the chain.
func (a *app) open(ctx context.Context, n network) (deploy.Params, *chain.Client, error) {
	if n.deployment == "" {
		return deploy.Params{}, nil, usageError{errors.New("--deployment FILE is missing")}
	}
	params, err := n.readParams()
	if err != nil {
		return params, nil, err
	}
	log := telemetry.NewLogger(telemetry.Config{Level: "warn", Format: "text"}, a.err)
	client, err := chain.Dial(ctx, chain.Config{RPCURL: n.rpcURL, ChainID: n.chainID}, log)
	return params, client, err
}

func (a *app) deployContracts(ctx context.Context, n network) error {
	if n.key == "" {
		return usageError{errors.New("--key FILE is missing")}
	}
	params, client, err := a.open(ctx, n)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := deploy.Read(n.deployment); !errors.Is(err, errs.NotFound) {
		return errs.New(errs.Conflict, "%s is there already; move it away to deploy anew", n.deployment)
	}
	raw, err := keystore.Read(n.key)
	if err != nil {
		return err
	}
	key, err := crypto.ToECDSA(raw)
	if err != nil {
		return errs.New(errs.Invalid, "%s holds no private key: %w", n.key, err)
	}
	d, err := deploy.Deploy(ctx, client, key, params, deploy.Extras{})
	if err != nil {
		return err
	}
	if err := d.Write(n.deployment); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "The contracts, release %s, are on chain %d from block %d on: %s.\n", d.Version, d.ChainID, d.FromBlock, n.deployment)
	return nil
}

func (a *app) verifyContracts(ctx context.Context, n network) error {
	params, client, err := a.open(ctx, n)
	if err != nil {
		return err
	}
	defer client.Close()
	d, err := deploy.Read(n.deployment)
	if err != nil {
		return err
	}
	found, err := deploy.Verify(ctx, client, d, params)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	bad := 0
	for _, f := range found {
		says := "as released"
		if f.Problem != "" {
			says = f.Problem
			bad++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Contract, f.Address, f.Have, says)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return errs.New(errs.Conflict, "%d of %d contracts are not as released", bad, len(found))
	}
	fmt.Fprintf(a.err, "All %d are as released.\n", len(found))
	return nil
}
