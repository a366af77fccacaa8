package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

const (
	devAccounts = 10
	devBalance  = 1_000_000_000
)

// devFlags are those of aleph-node dev.
type devFlags struct {
	host, dir, state, level string
	port                    int
	accounts                []string
	balance                 int64
}

func (a *app) devCommand() *cobra.Command {
	var o devFlags
	cmd := &cobra.Command{
		Use: "dev", Short: "Run a core channel node to develop against", Args: noArgs,
		Long: "Run a core channel node to develop against: one process without a chain, peers or machines, which\n" +
			"takes in messages, serves files and answers as the clients of the Aleph network expect it. Ten\n" +
			"accounts whose keys everybody knows have credits and tokens, and such keys may sign for the\n" +
			"authorities of prices, credits, balances and nodes. POST /api/dev/snapshot?name=NAME keeps\n" +
			"what there is, POST /api/dev/reset puts the node back to its beginning, and with ?snapshot=NAME to\n" +
			"that. Without --data-dir nothing is kept.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.configPath != "" || a.role != "" {
				return usageError{errors.New("--config and --role are for a node of a network; this one needs neither")}
			}
			if err := o.validate(); err != nil {
				return usageError{err}
			}
			return a.dev(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", defaultAPIPort, "port to listen on; 0 = any free one")
	f.StringVar(&o.dir, "data-dir", "", "directory to keep everything in (default a temporary one, removed at the end)")
	f.StringVar(&o.state, "state", "", "URL of a PostgreSQL database for rows, in place of the embedded one; it cannot be reset")
	f.StringSliceVar(&o.accounts, "accounts", nil, "addresses that are given something (default the ten accounts)")
	f.Int64Var(&o.balance, "balance", devBalance, "credits and tokens of each; 0 gives nothing")
	f.StringVar(&o.level, "log-level", "info", "level of the log: debug, info, warn or error")
	return cmd
}

// validate reports the first flag that cannot work: the network would refuse what
// is made of it, in words that name no flag.
func (o *devFlags) validate() error {
	switch {
	case o.balance < 0:
		return fmt.Errorf("--balance is %d, want 0 or more", o.balance)
	case slices.Contains(o.accounts, ""):
		return errors.New("--accounts has an address that is empty")
	case o.port < 0 || o.port > math.MaxUint16:
		return fmt.Errorf("--port is %d, want from 0 to %d", o.port, math.MaxUint16)
	}
	return nil
}

func (a *app) dev(ctx context.Context, o devFlags) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "aleph-dev-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	keys, err := node.DevKeys(devAccounts)
	if err != nil {
		return err
	}
	if len(o.accounts) == 0 {
		for _, k := range keys {
			o.accounts = append(o.accounts, crypto.PubkeyToAddress(k.PublicKey).Hex())
		}
	}
	level := telemetry.Config{Level: o.level, Format: "text"}
	if err := level.Validate(); err != nil {
		return usageError{err}
	}
	d, err := node.NewDev(ctx, node.DevOptions{
		Bind: net.JoinHostPort(o.host, strconv.Itoa(o.port)), Dir: o.dir, StateURL: o.state, Accounts: o.accounts, Balance: o.balance,
	}, telemetry.NewLogger(level, a.err))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := describeDev(a.out, keys, o); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\nready: %s\n", d.URL())
	if err := d.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// describeDev prints what a node for developers begins with.
func describeDev(out io.Writer, keys []*ecdsa.PrivateKey, o devFlags) error {
	authorities, err := node.DevAuthorities()
	if err != nil {
		return err
	}
	images, err := node.DevImages()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("Everybody knows these keys. Use them here and nowhere else.\n\nAvailable Accounts\n==================\n")
	for i, k := range keys {
		address := crypto.PubkeyToAddress(k.PublicKey).Hex()
		has := int64(0)
		if slices.Contains(o.accounts, address) {
			has = o.balance
		}
		fmt.Fprintf(&b, "(%d) %s (%d credits, %d ALEPH)\n", i, address, has, has)
	}
	for _, address := range o.accounts {
		if !slices.ContainsFunc(keys, func(k *ecdsa.PrivateKey) bool { return crypto.PubkeyToAddress(k.PublicKey).Hex() == address }) {
			fmt.Fprintf(&b, "    %s (%d credits, %d ALEPH)\n", address, o.balance, o.balance)
		}
	}
	b.WriteString("\nPrivate Keys\n==================\n")
	for i, k := range keys {
		fmt.Fprintf(&b, "(%d) 0x%x\n", i, crypto.FromECDSA(k))
	}
	b.WriteString("\nAuthorities, and the keys that may sign for them\n==================\n")
	for _, a := range authorities {
		fmt.Fprintf(&b, "%-9s %s by %s 0x%x\n", a.What, a.Address, crypto.PubkeyToAddress(a.Key.PublicKey).Hex(), crypto.FromECDSA(a.Key))
	}
	b.WriteString("\nImages that machines and programs can name\n==================\n")
	for _, m := range images {
		fmt.Fprintf(&b, "%-9s %-8s %s\n", m.Kind, m.Name, m.Hash)
	}
	_, err = io.WriteString(out, b.String())
	return err
}
