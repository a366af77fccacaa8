package crn

import (
	"fmt"
	"math/big"
	"net/http"
)

// Why is why a machine is not paid for.
type Why int

// The reasons.
const (
	WrongMethod        Why = iota + 1 // A plain machine of a holder is its scheduler's to start.
	WrongReceiver                     // The stream would go to another node.
	WrongAddress                      // That of the sender is none of its chain.
	WrongChain                        // There are no streams on it.
	LowBalance                        // Amounts are in tokens.
	LowCredits                        // Amounts are in credits.
	NoStream                          // Nothing flows.
	LowStream                         // Too little flows to the node; amounts are in tokens per second.
	LowCommunityStream                // Too little flows to the community; the same.
)

// Unpaid is a machine that may not start until somebody pays.
type Unpaid struct {
	Why Why
	// Required and Available are decimal numbers, where the reason has amounts.
	Required, Available string
	// Detail is what is wrong with an address or a chain.
	Detail string
}

// Error implements error.
func (u *Unpaid) Error() string { return u.failure().Text }

func (u *Unpaid) failure() *Failure {
	const pay, bad = http.StatusPaymentRequired, http.StatusBadRequest
	switch u.Why {
	case WrongMethod:
		return &Failure{Status: bad, Text: "400: Invalid payment method"}
	case WrongReceiver:
		return &Failure{Status: bad, Text: "400: Message is not for this instance"}
	case WrongAddress:
		return &Failure{Status: bad, Text: "Invalid address " + u.Detail}
	case WrongChain:
		return &Failure{Status: bad, Text: "Invalid Chain " + u.Detail}
	case LowBalance:
		return &Failure{Status: pay, Text: fmt.Sprintf("Insufficient balance for this instance\n\nRequired: %s token \nCurrent user balance: %s", u.Required, u.Available)}
	case LowCredits:
		return &Failure{Status: pay, Text: fmt.Sprintf("Insufficient credits for this instance\n\nRequired: %s credits \nCurrent user credits: %s", u.Required, u.Available)}
	case NoStream:
		return &Failure{Status: pay, Text: "402: Empty payment stream for this instance"}
	case LowStream:
		return &Failure{Status: pay, Text: "Insufficient payment stream for this instance\n\n" + u.flows()}
	case LowCommunityStream:
		return &Failure{Status: pay, Text: "Insufficient payment stream to community \n\n" + u.flows()}
	default:
		return &Failure{Status: pay, Text: "402: Payment Required"}
	}
}

func (u *Unpaid) flows() string {
	return fmt.Sprintf("Required: %s / month (flow = %s)\nPresent: %s / month (flow = %s)",
		perMonth(u.Required), u.Required, perMonth(u.Available), u.Available)
}

// perMonth is a flow per second in a month of the reference.
func perMonth(flow string) string {
	r, ok := new(big.Rat).SetString(flow)
	if !ok {
		return flow
	}
	days, _ := new(big.Rat).SetString("30.41666666666923904761904784")
	return r.Mul(r, days.Mul(days, big.NewRat(24*60*60, 1))).FloatString(6)
}
