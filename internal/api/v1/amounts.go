package v1

import (
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// amountDigitsMax is the length of 2^256 in decimal.
const amountDigitsMax = 78

// decimal writes an amount; nil is 0.
func decimal(v *big.Int) string {
	if v == nil {
		return "0"
	}
	return v.String()
}

// parseAmount reads an amount of at most 256 bits.
func parseAmount(name, s string) (*big.Int, error) {
	const bitsMax = 256
	if len(s) == 0 || len(s) > amountDigitsMax || strings.Trim(s, "0123456789") != "" {
		return nil, errs.New(errs.Invalid, "%s is %.80q, want a decimal number of at most %d digits", name, s, amountDigitsMax)
	}
	v, ok := new(big.Int).SetString(s, 10)
	if !ok || v.BitLen() > bitsMax {
		return nil, errs.New(errs.Invalid, "%s is %.80q, want less than 2^%d", name, s, bitsMax)
	}
	return v, nil
}

// weiPerSecond is the whole part of a rate.
func weiPerSecond(rateQ32 *big.Int) *big.Int {
	const fractionBits = 32
	if rateQ32 == nil {
		return new(big.Int)
	}
	return new(big.Int).Rsh(rateQ32, fractionBits)
}

// cost is what a rate costs for so many seconds, the fraction dropped. Rates of
// this network are whole, so nothing is.
func cost(rateQ32 *big.Int, seconds uint64) *big.Int {
	const fractionBits = 32
	if rateQ32 == nil {
		return new(big.Int)
	}
	c := new(big.Int).Mul(rateQ32, new(big.Int).SetUint64(seconds))
	return c.Rsh(c, fractionBits)
}

// parseSpec reads the name of a job.
func parseSpec(s string) (message.ItemHash, error) {
	spec := message.ItemHash(s)
	if _, ok := spec.Digest(); !ok {
		return "", errs.New(errs.Invalid, "spec %.80q is not 64 lower-case hex digits", s)
	}
	return spec, nil
}

// parseAddress reads 0x and 40 hex digits.
func parseAddress(name, s string) (common.Address, error) {
	if !strings.HasPrefix(s, "0x") || !common.IsHexAddress(s) {
		return common.Address{}, errs.New(errs.Invalid, "%s is %.80q, want 0x and 40 hex digits", name, s)
	}
	return common.HexToAddress(s), nil
}
