package corechannel

import (
	"math/big"
	"strconv"
	"strings"
)

// decimals is how many digits a token has behind the point.
const decimals = 18

// Wei returns the wei of an amount of tokens, written as in JSON: 12, 0.5,
// 1e6. What is less than a wei is dropped.
func Wei(tokens string) (*big.Int, error) {
	const (
		charsMax = 64 // no float64 and no amount in wei is longer
		powerMax = 64 // a larger power is no amount, and takes memory to hold
	)
	number, power, found := strings.Cut(strings.ToLower(tokens), "e")
	exponent, err := 0, error(nil)
	if found {
		exponent, err = strconv.Atoi(power)
	}
	whole, fraction, _ := strings.Cut(number, ".")
	if err != nil || len(tokens) > charsMax || exponent < -powerMax || exponent > powerMax ||
		whole == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return nil, ignored("%.80q is not an amount of tokens", tokens)
	}
	wei, _ := new(big.Int).SetString(whole+fraction, 10) // nothing but digits
	shift := decimals + exponent - len(fraction)
	if shift < 0 {
		return wei.Quo(wei, pow10(-shift)), nil
	}
	return wei.Mul(wei, pow10(shift)), nil
}

// tokensToWei returns the wei of whole tokens.
func tokensToWei(tokens int64) *big.Int {
	return new(big.Int).Mul(big.NewInt(tokens), pow10(decimals))
}

// inTokens returns the float64 nearest to an amount, the form of amounts in the
// aggregate.
func inTokens(wei *big.Int) float64 {
	f, _ := new(big.Rat).SetFrac(wei, pow10(decimals)).Float64()
	return f
}

func pow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}
