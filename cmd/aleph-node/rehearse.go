package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/rehearse"
	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

func (a *app) contractsRehearseCommand() *cobra.Command {
	var dataDir string
	n := network{chainID: devchain.ChainID}
	cmd := &cobra.Command{
		Use: "rehearse", Short: "Try the upgrade to this release on a copy of a local network", Args: noArgs,
		Long: "Copy the chain of a local network that does not run, and upgrade its contracts to those of this release on\n" +
			"the copy, by vote, announcement and waiting time. Before anything, the layouts of storage are compared.\n" +
			"Every view of the contracts is asked with the old and the new code, the result is verified, and jobs run\n" +
			"during and after the upgrade. Whatever is not as it was ends the rehearsal. The network itself is left\n" +
			"alone.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rehearseContracts(cmd.Context(), n, dataDir) },
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "directory of the network's state (default ~/.aleph/devnet)")
	cmd.Flags().StringVar(&n.params, "params", "", "file with the parameters of the chain (default those of this release)")
	return cmd
}

func (a *app) rehearseContracts(ctx context.Context, n network, dataDir string) (err error) {
	if dataDir == "" {
		if dataDir, err = devnetDir(); err != nil {
			return err
		}
	}
	params, err := n.readParams()
	if err != nil {
		return err
	}
	release, err := rehearse.ThisRelease()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "aleph-rehearsal-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	kept := filepath.Join(dir, "chain")
	d, err := devnet.CopyChain(dataDir, kept)
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(telemetry.Config{Level: "warn", Format: "text"}, a.err)
	c, err := devchain.Open(devchain.Config{DataDir: kept}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	report, err := rehearse.Run(ctx, c, d, params, release, log)
	if err := errors.Join(err, report.Print(a.out)); err != nil {
		return err
	}
	fmt.Fprintln(a.err, "The upgrade works: what was there is as it was.")
	return nil
}
