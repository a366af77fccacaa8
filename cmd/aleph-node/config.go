package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check or show the settings", SuggestionsMinimumDistance: 2,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check", Short: "Say whether the settings can work", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
			fmt.Fprintf(a.err, "The settings of this %s are good.\n", cfg.Node.Role)
			return nil
		},
	}, &cobra.Command{
		Use: "show", Short: "Print every setting as it counts", Args: noArgs,
		Long: "Print every setting as it counts, from the defaults, the file, the environment and the flags, in the\n" +
			"form of a configuration file. Keys are files, so nothing secret is printed, except for a password in\n" +
			"an RPC's URL, which is masked.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
			_, err = a.out.Write(config.Write(cfg.Masked(), nil))
			return err
		},
	})
	return cmd
}

// identity is the result of the command of that name.
type identity struct {
	PeerID string `json:"peer_id"`
	Signer string `json:"signer"`
}

func (a *app) identityCommand() *cobra.Command {
	return &cobra.Command{
		Use: "identity", Short: "Print the node's peer id and signer, which its owner registers", Args: noArgs,
		Long: "Print, as JSON, the node's peer id and the address of its signer. Its owner registers both on chain.\nThe keys are made in the data directory if there are none.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(a.configPath, a.environ)
			if err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
			if cfg.Node.DataDir == "" {
				return errors.New("configuration: [node] data_dir is empty, want a directory")
			}
			keys, err := keystore.Open(cfg.Node.DataDir, cfg.Network.IdentityPath, cfg.Chain.PrivateKeyPath)
			if err != nil {
				return err
			}
			peer, err := p2p.PeerIDOf(keys.Identity)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.out)
			enc.SetIndent("", "  ")
			return enc.Encode(identity{PeerID: string(peer), Signer: crypto.PubkeyToAddress(keys.Signer.PublicKey).Hex()})
		},
	}
}
