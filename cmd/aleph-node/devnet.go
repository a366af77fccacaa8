package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

const (
	// The ports that wallets and the command line expect.
	defaultRPCPort = 8545
	defaultAPIPort = 4024
)

func (a *app) devnetCommand() *cobra.Command {
	var o devnet.Options
	var quiet bool
	cmd := &cobra.Command{
		Use: "devnet", Short: "Run a local network with play money", Args: noArgs,
		Long: "Run a local network: a chain with the token and the contracts, one coordinator and two compute nodes.\n" +
			"Everything listens on loopback. Ctrl-C stops all of it, machines too, and leaves nothing but the\n" +
			"state in the data directory, from which the next start goes on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.configPath != "" || a.role != "" {
				return usageError{errors.New("--config and --role are for a node; a local network makes its own")}
			}
			if o.Ephemeral && cmd.Flags().Changed("data-dir") {
				return usageError{errors.New("--ephemeral removes its state and --data-dir keeps it: give one of them")}
			}
			return a.devnet(cmd.Context(), o, quiet)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", "directory of the network's state (default ~/.aleph/devnet)")
	f.BoolVar(&o.Ephemeral, "ephemeral", false, "keep nothing: the chain is in memory, the rest is removed at the end")
	f.StringVar(&o.Image, "image", "", "guest image to find out with whether KVM works here")
	f.IntVar(&o.RPCPort, "rpc-port", defaultRPCPort, "port of the chain's JSON-RPC; 0 = any free one")
	f.IntVar(&o.APIPort, "api-port", defaultAPIPort, "port of the coordinator's HTTP interface, the compute nodes have the next ones; 0 = any free ones")
	f.StringVar(&o.LogLevel, "node-log-level", "info", "level of the nodes' logs: debug, info, warn or error")
	f.BoolVar(&quiet, "quiet", false, "print the ready line only")
	return cmd
}

func (a *app) devnet(ctx context.Context, o devnet.Options, quiet bool) (err error) {
	if o.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	switch {
	case o.Ephemeral:
		if o.DataDir, err = os.MkdirTemp("", "aleph-devnet-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	case o.DataDir == "":
		if o.DataDir, err = devnetDir(); err != nil {
			return err
		}
	}
	log := telemetry.NewLogger(telemetry.Config{Level: "warn", Format: "text"}, a.err)
	n, err := devnet.Start(ctx, o, log)
	if err != nil {
		if ctx.Err() == nil {
			return err
		}
		// That it was stopped is no failure; what could not be taken back is told.
		fmt.Fprintf(a.err, "stopped while it started: %v\n", err)
		return nil
	}
	defer func() {
		fmt.Fprintln(a.err, "stopping the nodes and their machines")
		err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		if err == nil {
			fmt.Fprintln(a.err, "stopped")
		}
	}()
	d, err := n.Description()
	if err != nil {
		return err
	}
	if quiet {
		if _, err := io.WriteString(a.out, d.Ready()); err != nil {
			return err
		}
	} else if err := d.Print(a.out); err != nil {
		return err
	}
	return n.Wait(ctx)
}

// devnetDir is where a local network is kept if nothing else is said.
func devnetDir() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find home directory: %w; give --data-dir DIR", err)
	}
	return filepath.Join(home, ".aleph", "devnet"), nil
}
