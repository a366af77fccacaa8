package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// refill is PaymentExtension's constant: for so long a route fills up, in seconds.
const refill = 60 * 60

// maxRate is the highest rate that is kept of what a payer or a sponsor names.
var maxRate = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 104), big.NewInt(1)) //nolint:gochecknoglobals // A constant.

// Limited names a contract and the account that it may burden only so much.
type Limited struct {
	Account
	Controller common.Address
}

// Swap names who lets one token be sold for another; nobody, for a route.
type Swap struct {
	Payer   common.Address
	In, Out uint8
}

// route is how tokens are swapped, and what could be sold when that last changed.
type route struct {
	view     bindings.IPaymentExtensionRouteView
	filledAt uint64
}

// wishes are what payers have set, and governance for swaps.
type wishes struct {
	limits    map[Limited]bindings.IPaymentExtensionLimitView
	spendings map[Limited]*bindings.PaymentManagerLimitUsed
	sponsors  map[Account]bindings.PaymentExtensionSponsorOfOutput
	autoSwaps map[Swap]uint16
	routes    map[Swap]*route
}

func newWishes() wishes {
	return wishes{
		limits: map[Limited]bindings.IPaymentExtensionLimitView{}, spendings: map[Limited]*bindings.PaymentManagerLimitUsed{},
		sponsors:  map[Account]bindings.PaymentExtensionSponsorOfOutput{},
		autoSwaps: map[Swap]uint16{}, routes: map[Swap]*route{},
	}
}

// Limits is IPaymentExtension.limitOf of every limit that was set, at a time.
func (l *Ledger) Limits(now uint64) map[Limited]bindings.IPaymentExtensionLimitView {
	all := map[Limited]bindings.IPaymentExtensionLimitView{}
	for at, v := range l.wishes.limits {
		if used := l.wishes.spendings[at]; used != nil && used.Day.Uint64() == now/day {
			v.Spent = used.Spent
		}
		all[at] = v
	}
	return all
}

// Sponsors is IPaymentExtension.sponsorOf of every account that has had one.
func (l *Ledger) Sponsors() map[Account]bindings.PaymentExtensionSponsorOfOutput {
	return l.wishes.sponsors
}

// AutoSwaps is IPaymentExtension.autoSwapOf of all that were ever allowed.
func (l *Ledger) AutoSwaps() map[Swap]uint16 { return l.wishes.autoSwaps }

// Routes returns the pairs of tokens that have ever had a route.
func (l *Ledger) Routes() (all []Swap) {
	for at := range l.wishes.routes {
		all = append(all, at)
	}
	return all
}

// Route is IPaymentExtension.routeOf at a time.
func (l *Ledger) Route(at Swap, now uint64) bindings.IPaymentExtensionRouteView {
	r := l.wishes.routes[at]
	if r == nil {
		return bindings.IPaymentExtensionRouteView{MaxPerSwap: big0(), Left: big0()}
	}
	v := r.view
	v.Left = r.level(now)
	return v
}

// level is what may be sold at a time.
func (r *route) level(now uint64) *big.Int {
	grown := new(big.Int).Mul(r.view.MaxPerSwap, seconds(now-r.filledAt))
	return least(r.view.MaxPerSwap, plus(r.view.Left, grown.Div(grown, big.NewInt(refill))))
}

func least(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

func wishHandlers() map[string]handler {
	c := bindings.NewPaymentManager()
	return map[string]handler{
		"LimitSet": on(c.UnpackLimitSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerLimitSet) error {
			l.wishes.limits[Limited{Account{e.Payer, e.Token}, e.Controller}] = bindings.IPaymentExtensionLimitView{
				MaxRateQ32: least(e.MaxRateQ32, maxRate), ValidUntil: e.ValidUntil, DailyCap: e.DailyCap, Spent: big0(),
			}
			return nil
		}),
		"LimitUsed": on(c.UnpackLimitUsedEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerLimitUsed) error {
			l.wishes.spendings[Limited{Account{e.Payer, e.Token}, e.Controller}] = e
			return nil
		}),
		"SponsorSet": on(c.UnpackSponsorSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerSponsorSet) error {
			l.wishes.sponsors[Account{e.Payer, e.Token}] = bindings.PaymentExtensionSponsorOfOutput{
				By: e.By, MaxRateQ32: least(e.MaxRateQ32, maxRate), Until: e.Until,
			}
			return nil
		}),
		"AutoSwapSet": on(c.UnpackAutoSwapSetEvent, func(l *Ledger, _ uint64, e *bindings.PaymentManagerAutoSwapSet) error {
			l.wishes.autoSwaps[Swap{e.Payer, e.PayToken, e.SettleToken}] = e.MaxSlipBps
			return nil
		}),
		"RouteSet": on(c.UnpackRouteSetEvent, func(l *Ledger, now uint64, e *bindings.PaymentManagerRouteSet) error {
			l.wishes.routes[Swap{In: e.TokenIn, Out: e.TokenOut}] = &route{filledAt: now, view: bindings.IPaymentExtensionRouteView{
				Path: e.Path, SlipBps: e.SlipBps, TwapSec: e.TwapSec, MinCardinality: e.MinCardinality, MaxPerSwap: e.MaxPerSwap, Left: e.MaxPerSwap,
			}}
			return nil
		}),
		"Swapped": on(c.UnpackSwappedEvent, (*Ledger).swapped),
	}
}

// swapped takes from a route what was sold for a payer; a payee, who names the
// price, is not held to it. Pulled tells what became of the account.
func (l *Ledger) swapped(now uint64, e *bindings.PaymentManagerSwapped) error {
	if e.Quote.Sign() == 0 {
		return nil
	}
	r := l.wishes.routes[Swap{In: e.TokenIn, Out: e.TokenOut}]
	if r == nil {
		return contradiction("from token %d to %d there is no route", e.TokenIn, e.TokenOut)
	}
	left := minus(r.level(now), e.AmountIn)
	if left.Sign() < 0 {
		return contradiction("%s of token %d were sold, %s more than could be", e.AmountIn, e.TokenIn, left.Neg(left))
	}
	r.view.Left, r.filledAt = left, now
	return nil
}
