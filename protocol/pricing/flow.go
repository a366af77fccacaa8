package pricing

import (
	"fmt"
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// HoursPerMonth is the month of price quotes.
	HoursPerMonth = 730
	// Bps is the base of a node's price multiplier: 10000 is the table price.
	Bps = 10_000
	// PriceBpsMax bounds the multiplier: ten times the table price.
	PriceBpsMax = 100_000

	tokenDecimals = 18 // of ALEPH
	rateBits      = 32 // fraction bits of a rate on chain
)

// The lines of a flow besides those of a cost.
const (
	LineNodePrice LineType = "NODE_PRICE"
	LineRounding  LineType = "ROUNDING"
)

// FlowLine is one line of an hourly price.
type FlowLine struct {
	Type       LineType
	Name       string
	WeiPerHour *big.Int // negative for a discount
}

// Flow is what a job pays on chain, second by second. The lines add up to
// PerHour exactly: one of them is the rounding to whole wei per second.
type Flow struct {
	WeiPerSecond *big.Int
	RateQ32      *big.Int // WeiPerSecond times 2^32, as contracts hold it
	Lines        []FlowLine
}

// PerHour returns the price of an hour, in wei.
func (f *Flow) PerHour() *big.Int { return f.For(secondsPerHour) }

// PerMonth returns the price of a month of 730 hours, in wei.
func (f *Flow) PerMonth() *big.Int { return f.For(secondsPerHour * HoursPerMonth) }

// For returns the price of some seconds, in wei.
func (f *Flow) For(seconds uint64) *big.Int {
	return new(big.Int).Mul(f.WeiPerSecond, new(big.Int).SetUint64(seconds))
}

// Flow returns the on-chain price of an instance on a node that takes priceBps
// ten-thousandths of the table price.
func (t *Table) Flow(i *message.Instance, sizes Sizes, priceBps int) (*Flow, error) {
	if priceBps <= 0 || priceBps > PriceBpsMax {
		return nil, fmt.Errorf("price instance: multiplier is %d, want 1 to %d ten-thousandths", priceBps, PriceBpsMax)
	}
	o, err := t.order(i, sizes)
	if err != nil {
		return nil, err
	}
	f := new(Flow)
	base := new(big.Rat)
	line := func(typ LineType, name string, exact *big.Rat) {
		wei := ceil(exact)
		f.Lines = append(f.Lines, FlowLine{typ, name, wei})
		base.Add(base, new(big.Rat).SetInt(wei))
	}
	for _, s := range o.shares {
		line(LineExecution, string(s.product), hourly(s.units, t.prices[s.product].Unit))
	}
	disks := new(big.Rat)
	for _, v := range o.volumes {
		exact := hourly(v.size, o.storage)
		line(v.line.Type, v.line.Name, exact)
		disks.Add(disks, exact)
	}
	free := hourly(whole(o.freeMiB), o.storage)
	if free.Cmp(disks) > 0 {
		free = disks
	}
	line(LineDiscount, string(LineDiscount), new(big.Rat).Neg(free))
	f.finish(base, priceBps)
	return f, nil
}

// finish applies the node's multiplier and rounds up to whole wei per second.
func (f *Flow) finish(base *big.Rat, priceBps int) {
	exact := new(big.Rat).Mul(base, big.NewRat(int64(priceBps), Bps))
	price := ceil(exact)
	if priceBps != Bps {
		diff := new(big.Int).Sub(price, ceil(base))
		f.Lines = append(f.Lines, FlowLine{LineNodePrice, fmt.Sprintf("node price %d/%d", priceBps, Bps), diff})
	}
	f.WeiPerSecond = ceil(new(big.Rat).Quo(exact, big.NewRat(secondsPerHour, 1)))
	f.RateQ32 = RateQ32(f.WeiPerSecond)
	if rounding := new(big.Int).Sub(f.PerHour(), price); rounding.Sign() != 0 {
		f.Lines = append(f.Lines, FlowLine{LineRounding, "rounding to whole wei per second", rounding})
	}
}

// hourly returns n times the hourly token price, in exact wei.
func hourly(n Decimal, c Column) *big.Rat {
	wei := new(big.Rat).Mul(n.Rat(), c.Stream.Rat())
	return wei.Mul(wei, new(big.Rat).SetInt(pow10(tokenDecimals)))
}

// ceil returns the least whole number not below r.
func ceil(r *big.Rat) *big.Int {
	num := new(big.Int).Add(r.Num(), r.Denom())
	num.Sub(num, big.NewInt(1))
	return num.Div(num, r.Denom()) // Euclidean: toward minus infinity
}

// RateQ32 returns a rate as contracts hold it: wei per second times 2^32.
func RateQ32(weiPerSecond *big.Int) *big.Int { return new(big.Int).Lsh(weiPerSecond, rateBits) }

// WeiPerSecond returns the whole wei per second of a rate, and false if the
// rate has a fraction.
func WeiPerSecond(rateQ32 *big.Int) (*big.Int, bool) {
	wei := new(big.Int).Rsh(rateQ32, rateBits)
	return wei, RateQ32(wei).Cmp(rateQ32) == 0
}

// Amount returns what a rate comes to in some seconds, in wei rounded up, as
// the contracts charge it.
func Amount(rateQ32 *big.Int, seconds uint64) *big.Int {
	v := new(big.Int).Mul(rateQ32, new(big.Int).SetUint64(seconds))
	v.Add(v, new(big.Int).Sub(RateQ32(big.NewInt(1)), big.NewInt(1)))
	return v.Rsh(v, rateBits)
}
