package executor

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// communityShare: of what a machine costs that streams of tokens pay, one of so many
	// parts flows to the community, since there is one, and the others to the node.
	communityShare = 5
	// flowSlack: so much less may flow, one in so many tokens per second. Clients round.
	flowSlack = 1e10
	// decimals are those of tokens: no smaller part flows.
	decimals = 18
)

// flow is what streams where, in tokens per second.
type flow struct{ node, community *big.Rat }

// community is who gets a part of streams.
type community struct {
	wallet string // "" = nobody.
	since  time.Time
}

// parts is what has to flow where for a machine of the price that was taken at a time.
func (c community) parts(price *big.Rat, takenAt time.Time) flow {
	if c.wallet == "" || !takenAt.After(c.since) {
		return flow{node: floorFlow(price), community: new(big.Rat)}
	}
	part := new(big.Rat).Mul(price, big.NewRat(1, communityShare))
	return flow{node: floorFlow(new(big.Rat).Sub(price, part)), community: floorFlow(part)}
}

// withoutShare is what is left of a flow without the community's.
func withoutShare(r *big.Rat) *big.Rat {
	return new(big.Rat).Mul(r, big.NewRat(communityShare-1, communityShare))
}

// floorFlow rounds down to what can flow.
func floorFlow(r *big.Rat) *big.Rat {
	one := new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil)
	units := new(big.Int).Mul(r.Num(), one)
	return new(big.Rat).SetFrac(units.Quo(units, r.Denom()), one)
}

// isShort reports whether less flows than must.
func isShort(have, need *big.Rat) bool {
	return new(big.Rat).Add(have, big.NewRat(1, flowSlack)).Cmp(need) < 0
}

// shareFlows tells for each claim of one owner whether what flows pays it: the oldest
// first, as for balances.
func shareFlows(claims []claim, have flow, c community, head uint64) map[message.ItemHash]answer {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.lease.TakenAt.Compare(b.lease.TakenAt), cmp.Compare(a.lease.Spec, b.lease.Spec))
	})
	out := map[message.ItemHash]answer{}
	sum := flow{new(big.Rat), new(big.Rat)}
	for _, of := range claims {
		need := c.parts(of.price, of.lease.TakenAt)
		sum.node.Add(sum.node, need.node)
		sum.community.Add(sum.community, need.community)
		a := answer{head: head, paying: payingYes, detail: fmt.Sprintf(
			"%s tokens per second flow to the node and %s to the community, %s and %s are needed by this machine and the older ones of its owner",
			have.node.FloatString(decimals), have.community.FloatString(decimals), sum.node.FloatString(decimals), sum.community.FloatString(decimals))}
		switch {
		case isShort(have.node, sum.node) && c.wallet == "" && !isShort(have.node, withoutShare(sum.node)):
			// As much flows as where there is a community; who it is may just not be
			// known to who was asked.
			a.paying = payingUnknown
		case isShort(have.node, sum.node) || isShort(have.community, sum.community):
			a.paying = payingNo
		}
		out[of.lease.Spec] = a
	}
	return out
}

// community asks who gets a part of streams.
func (s *Supervisor) community(ctx context.Context) (c community, err error) {
	c.wallet, c.since, err = s.parts.Core.Community(ctx)
	return c, err
}

// flows asks what an owner streams to the node and, if any of it has to go there, to the
// community.
func (s *Supervisor) flows(ctx context.Context, chain message.Chain, owner string, c community) (have flow, err error) {
	if have.node, err = s.parts.Core.Flow(ctx, chain, owner, s.cfg.Receiver); err != nil {
		return have, err
	}
	have.community = new(big.Rat)
	if c.wallet != "" {
		have.community, err = s.parts.Core.Flow(ctx, chain, owner, c.wallet)
	}
	return have, err
}

// enoughFlow refuses a machine that streams do not pay.
func (s *Supervisor) enoughFlow(ctx context.Context, l state.Lease, i *message.Instance) error {
	p := i.Payment
	if s.cfg.Receiver == "" || p == nil || p.Receiver == nil || *p.Receiver != s.cfg.Receiver {
		return refuse(OtherReceiver, "Message is not for this instance")
	}
	if !common.IsHexAddress(l.Owner) {
		return refuse(WrongAddress, "%.80s", l.Owner)
	}
	price, err := s.parts.Core.Price(ctx, l.Spec)
	if err != nil {
		return away(err)
	}
	c, err := s.community(ctx)
	if err != nil {
		return away(err)
	}
	have, err := s.flows(ctx, flowChain(i), l.Owner, c)
	need := c.parts(price, time.Now())
	switch {
	case errs.KindOf(err) == errs.Invalid:
		return refuse(WrongChain, "%.20s", flowChain(i))
	case err != nil:
		return away(err)
	case have.node.Sign() == 0:
		return refuse(NoFlow, "Empty payment stream for this instance")
	case isShort(have.node, need.node):
		return &Refusal{Why: TooLittleFlow, Text: "Insufficient payment stream for this instance", Required: need.node, Available: have.node}
	case isShort(have.community, need.community):
		return &Refusal{Why: TooLittleForCommunity, Text: "Insufficient payment stream to community", Required: need.community, Available: have.community}
	}
	return nil
}

func flowChain(i *message.Instance) message.Chain {
	if i.Payment == nil || i.Payment.Chain == nil {
		return ""
	}
	return *i.Payment.Chain
}
