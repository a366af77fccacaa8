package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

func paymentCommand(a *app) *cobra.Command {
	return newGroup("payment", "Look at what jobs cost you", paymentShow(a))
}

func paymentShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show your flow of payments", Args: args(cobra.NoArgs),
		Long: "Show your flow of payments: until when your machines are paid, and when nodes pause them and anyone may\n" +
			"end them if nothing more can be taken. A paused machine keeps its disk and its ports; it goes on by itself\n" +
			"when it is paid, as after 'aleph allowance set', and the time in between is charged.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, v, err := a.view(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) {
				t := newTable(w)
				t.row("flow", perHour(v.RateQ32)+" ALEPH per hour")
				t.row("paid until", when(v.PaidUntil))
				t.row("in arrears since", when(v.ArrearsSince))
				t.row("machines pause from", when(v.SoftStop))
				t.row("jobs end at", when(v.HardStop))
				t.row("refund kept", v.Refund.Tokens()+" ALEPH")
				t.row("allowance", v.Allowance.Tokens()+" ALEPH")
				t.row("balance", v.TokenBalance.Tokens()+" ALEPH")
				t.flush()
			})
		},
	}
}

// perHour writes the hourly price of a rate in tokens.
func perHour(rateQ32 aleph.Wei) string {
	const secondsPerHour = 3600
	return aleph.NewWei(pricing.Amount(rateQ32.Big(), secondsPerHour)).Tokens()
}
