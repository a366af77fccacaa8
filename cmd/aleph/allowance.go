package main

import (
	"context"
	"fmt"
	"io"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

func allowanceCommand(a *app) *cobra.Command {
	return newGroup("allowance", "Set how much the network may take for jobs", allowanceSet(a), allowanceShow(a))
}

// allowance is the result of the allowance commands.
type allowance struct {
	Address   common.Address `json:"address"`
	Spender   common.Address `json:"spender"`
	Allowance aleph.Wei      `json:"allowance"`
	Balance   aleph.Wei      `json:"token_balance"`
}

func (v allowance) text(w io.Writer) { fmt.Fprintf(w, "%s ALEPH\n", v.Allowance.Tokens()) }

func allowanceSet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "set AMOUNT", Short: "Allow the payment contract to take up to AMOUNT ALEPH", Args: args(cobra.ExactArgs(1)),
		Long: "Allow the payment contract to take up to AMOUNT ALEPH for your jobs, in place of what it was allowed\nbefore; 0 allows nothing. You sign a permit (EIP-2612); the node sends it, so you need no ether.",
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := aleph.ParseTokens(args[0])
			if err != nil {
				return usageError{err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), chainTimeout)
			defer cancel()
			out, err := a.allow(ctx, want)
			if err != nil {
				return err
			}
			if out.Balance.Cmp(out.Allowance) < 0 {
				a.say("The account holds %s ALEPH, less than the allowance.", out.Balance.Tokens())
			}
			return a.print(out, out.text)
		},
	}
}

func (a *app) allow(ctx context.Context, want aleph.Wei) (*allowance, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	account, err := a.unlock()
	if err != nil {
		return nil, err
	}
	chain, err := aleph.DialChain(ctx, a.rpcURL)
	if err != nil {
		return nil, err
	}
	defer chain.Close()
	granted, err := aleph.Grant(ctx, c, chain, account, want)
	if err != nil {
		return nil, err
	}
	a.say("The permit is sent; waiting for the chain.")
	v, err := aleph.WaitGranted(ctx, c, chain, granted)
	if err != nil {
		return nil, err
	}
	return &allowance{Address: granted.Owner, Spender: granted.Spender, Allowance: v.Allowance, Balance: v.TokenBalance}, nil
}

func (a *app) allowanceOf(ctx context.Context, c *aleph.Client, address common.Address) (*allowance, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	v, err := c.Account(ctx, address)
	if err != nil {
		return nil, err
	}
	return &allowance{Address: address, Spender: info.Contracts.PaymentManager, Allowance: v.Allowance, Balance: v.TokenBalance}, nil
}

func allowanceShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show how much the network may take", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.chosen()
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			out, err := a.allowanceOf(cmd.Context(), c, s.Address)
			if err != nil {
				return err
			}
			return a.print(out, out.text)
		},
	}
}
