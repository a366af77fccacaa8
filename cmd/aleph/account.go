package main

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	// devnetChainID is the chain id of every local network.
	devnetChainID = 31337
	// devnetKey is the last of the ten accounts that every local development
	// chain funds; the nodes of a local network use the first ones. It is
	// public and worth nothing.
	devnetKey = "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"
	// chainTimeout bounds the wait for a transaction.
	chainTimeout = 2 * time.Minute
)

func accountCommand(a *app) *cobra.Command {
	return newGroup("account", "Make, list and fund accounts",
		accountCreate(a), accountImport(a), accountList(a), accountShow(a), accountFund(a))
}

func accountCreate(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Make a new account", Args: args(cobra.ExactArgs(1)),
		Long: "Make a new account: a key in a file under the home directory, encrypted with a password\n(web3 secret storage v3). Keep the file and the password: nobody can restore them.",
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := crypto.GenerateKey()
			if err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			return a.storeAndPrint(args[0], key)
		},
	}
}

func accountImport(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "import NAME --key-file FILE", Short: "Store an account whose key you have", Args: args(cobra.ExactArgs(1)),
		Long: "Store an account whose private key is in a file, as 64 hex digits; - reads standard input.\nThe key is never taken from the command line, where other users of the machine could see it.",
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := a.readKey(file)
			if err != nil {
				return err
			}
			return a.storeAndPrint(args[0], key)
		},
	}
	cmd.Flags().StringVar(&file, "key-file", "", "file with the private key, - for standard input")
	return cmd
}

func (a *app) readKey(file string) (*ecdsa.PrivateKey, error) {
	var raw []byte
	var err error
	switch file {
	case "":
		return nil, usagef("give the private key with --key-file FILE")
	case "-":
		raw, err = io.ReadAll(io.LimitReader(a.in, keyFileMax))
	default:
		raw, err = readSmall(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	b, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(raw)), "0x"))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("key file %s does not hold 64 hex digits", file)
	}
	key, err := crypto.ToECDSA(b)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return key, nil
}

func (a *app) storeAndPrint(name string, key *ecdsa.PrivateKey) error {
	s, err := a.store(name, key)
	if err != nil {
		return err
	}
	a.say("Account %s is stored in %s.", s.Name, s.Path)
	return a.print(s, func(w io.Writer) { fmt.Fprintln(w, s.Address.Hex()) })
}

func accountList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the accounts on this machine", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			all, err := a.storedAccounts()
			if err != nil {
				return err
			}
			if len(all) == 0 {
				a.say("There is no account yet; 'aleph account create NAME' makes one.")
			}
			return a.print(all, func(w io.Writer) {
				t := newTable(w)
				for _, s := range all {
					t.row(s.Name, s.Address.Hex())
				}
				t.flush()
			})
		},
	}
}

func accountShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show an account's address and funds", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, v, err := a.view(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) {
				t := newTable(w)
				t.row("account", s.Name)
				t.row("address", s.Address.Hex())
				t.row("ether", v.EthWei.Tokens()+" ETH")
				t.row("balance", v.TokenBalance.Tokens()+" ALEPH")
				t.row("allowance", v.Allowance.Tokens()+" ALEPH")
				t.flush()
			})
		},
	}
}

// view returns the chosen account and what the node knows of it.
func (a *app) view(ctx context.Context) (stored, *aleph.AccountView, error) {
	s, err := a.chosen()
	if err != nil {
		return s, nil, err
	}
	c, err := a.client()
	if err != nil {
		return s, nil, err
	}
	v, err := c.Account(ctx, s.Address)
	return s, v, err
}

// funded is the result of account fund.
type funded struct {
	Address common.Address `json:"address"`
	EthWei  aleph.Wei      `json:"eth_wei"`
	Tokens  aleph.Wei      `json:"token_wei"`
	EthTx   *common.Hash   `json:"eth_tx,omitempty"`
	TokenTx *common.Hash   `json:"token_tx,omitempty"`
}

func accountFund(a *app) *cobra.Command {
	var eth, tokens string
	cmd := &cobra.Command{
		Use: "fund", Short: "Send play money to an account of a local network", Args: args(cobra.NoArgs),
		Long: "Send ether and ALEPH from a well-known development account. This works on a local network only\n(chain id 31337); elsewhere send ALEPH to the address that 'aleph account show' prints.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := funded{}
			var err error
			if out.EthWei, err = aleph.ParseTokens(eth); err != nil {
				return usageError{fmt.Errorf("--eth: %w", err)}
			}
			if out.Tokens, err = aleph.ParseTokens(tokens); err != nil {
				return usageError{fmt.Errorf("--tokens: %w", err)}
			}
			s, err := a.chosen()
			if err != nil {
				return err
			}
			out.Address = s.Address
			if err := a.fund(cmd.Context(), &out); err != nil {
				return err
			}
			a.say("Account %s got %s ETH and %s ALEPH.", s.Name, out.EthWei.Tokens(), out.Tokens.Tokens())
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, s.Address.Hex()) })
		},
	}
	cmd.Flags().StringVar(&eth, "eth", "0", "ether to send; jobs need none, they are relayed")
	cmd.Flags().StringVar(&tokens, "tokens", "1000", "ALEPH to send")
	return cmd
}

func (a *app) fund(ctx context.Context, out *funded) error {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	chain, err := aleph.DialChain(ctx, a.rpcURL)
	if err != nil {
		return err
	}
	defer chain.Close()
	id, err := chain.ID(ctx)
	if err != nil {
		return err
	}
	if !id.IsInt64() || id.Int64() != devnetChainID {
		return fmt.Errorf("chain %s at %s is no local network; send ALEPH to %s from a wallet or an exchange", id, a.rpcURL, out.Address.Hex())
	}
	from, err := crypto.HexToECDSA(devnetKey)
	if err != nil {
		return fmt.Errorf("read development key: %w", err)
	}
	if out.EthWei.Sign() > 0 {
		tx, err := chain.SendETH(ctx, from, out.Address, out.EthWei)
		if err != nil {
			return err
		}
		out.EthTx = &tx
	}
	if out.Tokens.Sign() == 0 {
		return nil
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	tx, err := chain.SendToken(ctx, from, info.Contracts.AlephToken, out.Address, out.Tokens)
	if err != nil {
		return err
	}
	out.TokenTx = &tx
	return nil
}
