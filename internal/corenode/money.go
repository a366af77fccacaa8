package corenode

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// Price returns what a message costs, in the unit of its payment: credits per second,
// tokens per second of a stream, or the tokens to hold. Servers tell it in these units.
func (c *Client) Price(ctx context.Context, hash message.ItemHash) (*big.Rat, error) {
	if err := checkName("item hash", string(hash)); err != nil {
		return nil, err
	}
	price, err := c.prices.get(ctx, string(hash), func(ctx context.Context) (*big.Rat, bool, error) {
		var price *big.Rat
		err := c.ask(ctx, question{
			what: "the price of message " + string(hash), path: []string{"api/v0/price", string(hash)},
			read: func(raw []byte) (err error) {
				var a struct {
					Cost json.RawMessage `json:"cost"`
				}
				if err := decode(raw, &a); err != nil {
					return err
				}
				if price, err = number("cost", a.Cost); err == nil && price.Sign() < 0 {
					err = fmt.Errorf("a cost is below 0")
				}
				return err
			},
		})
		return price, true, err
	})
	if err != nil {
		return nil, err
	}
	return new(big.Rat).Set(price), nil
}

// balance is what an address has.
type balance struct{ held, credits *big.Rat }

// Balance returns the tokens that an address has, those included that what it keeps is
// held for, and its credits. Who owes credits has less than none.
func (c *Client) Balance(ctx context.Context, address string) (held, credits *big.Rat, err error) {
	if err := checkName("address", address); err != nil {
		return nil, nil, err
	}
	b, err := c.balances.get(ctx, address, func(ctx context.Context) (balance, bool, error) {
		var b balance
		err := c.ask(ctx, question{
			what: "the balance of " + address, path: []string{"api/v0/addresses", address, "balance"},
			read: func(raw []byte) (err error) {
				b, err = readBalance(raw, address)
				return err
			},
		})
		return b, true, err
	})
	if err != nil {
		return nil, nil, err
	}
	return new(big.Rat).Set(b.held), new(big.Rat).Set(b.credits), nil
}

func readBalance(raw []byte, want string) (b balance, err error) {
	var a struct {
		Address string          `json:"address"`
		Balance json.RawMessage `json:"balance"`
		Credits json.RawMessage `json:"credit_balance"`
	}
	if err := decode(raw, &a); err != nil {
		return b, err
	}
	if !authz.Same(a.Address, want) {
		return b, fmt.Errorf("it is about %.*q, not %s", nameMax, a.Address, want)
	}
	if b.held, err = number("balance", a.Balance); err != nil {
		return b, err
	}
	b.credits, err = number("credit_balance", a.Credits)
	return b, err
}

// number reads a decimal number exactly, written as a number or a text, of few enough
// digits that it is no work to compute with.
func number(name string, raw json.RawMessage) (*big.Rat, error) {
	text := string(raw)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	digits, negative := strings.CutPrefix(text, "-")
	d, err := pricing.ParseDecimal(digits)
	if err != nil {
		return nil, fmt.Errorf("%s is %.80q, want a decimal number", name, text)
	}
	r := d.Rat()
	if negative {
		r.Neg(r)
	}
	return r, nil
}
