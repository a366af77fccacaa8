package ccn

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of a page of costs.
const costsLeast, costsMost, costsPerPage = 10, 1000, 100

// decimals of costs.
const decimals = 18

// costsWanted is the query for costs.
type costsWanted struct {
	state.CostQuery
	page
	details int64 // 0: sums; 1: what each resource costs; 2: with all lines.
	sized   bool
}

func readCosts(r *http.Request) (*costsWanted, error) {
	p := readParams(r)
	q := &costsWanted{page: p.page(costsPerPage, costsLeast, costsMost), details: p.integer(0, 0, 2, "include_details"), sized: p.boolean(false, "include_size")}
	q.cursor = nil
	q.Owner, _ = p.text("address")
	hash, _ := p.text("item_hash")
	q.Message = message.ItemHash(hash)
	q.Payment = message.PaymentType(p.word(string(message.PayCredit), []string{"hold", "superfluid", "credit"}, "payment_type"))
	if err := p.err(); err != nil {
		return nil, err
	}
	if q.details == 2 && q.Owner == "" && q.Message == "" {
		return nil, refuseText(http.StatusUnprocessableEntity,
			"include_details=2 requires at least one of 'address' or 'item_hash' filters to avoid fetching breakdowns for all resources")
	}
	return q, nil
}

// listCosts answers with what resources cost, and what they have burnt.
func (s *Server) listCosts(w http.ResponseWriter, r *http.Request) error {
	q, err := readCosts(r)
	if err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error {
		ctx := r.Context()
		o := newObject(nil)
		if err := o.costSummary(ctx, v, q.CostQuery); err != nil {
			return err
		}
		filters := newObject(nil)
		for _, f := range []struct{ key, value string }{{"address", q.Owner}, {"item_hash", string(q.Message)}, {"payment_type", string(q.Payment)}} {
			if f.value == "" {
				filters.raw(f.key, nil)
			} else {
				filters.text(f.key, f.value)
			}
		}
		o.raw("filters", filters.end())
		if q.details == 0 {
			for _, key := range []string{"resources", "pagination_page", "pagination_total", "pagination_per_page", "pagination_item"} {
				o.raw(key, nil)
			}
			return st.text(string(o.end()))
		}
		o.key("resources")
		if err := st.text(string(o.buf) + "["); err != nil {
			return err
		}
		return fillCosts(ctx, v, st, q)
	})
}

// costSummary adds up what a query finds.
func (o *object) costSummary(ctx context.Context, v *state.View, q state.CostQuery) error {
	var hashes []message.ItemHash
	var hold, stream, credit big.Rat
	err := v.EachCost(ctx, q, func(c state.Cost) error {
		hashes = append(hashes, c.Message)
		for _, a := range []struct {
			sum  *big.Rat
			text string
		}{{&hold, c.Hold}, {&stream, c.Stream}, {&credit, c.Credit}} {
			one, ok := new(big.Rat).SetString(a.text)
			if !ok {
				return fmt.Errorf("cost of message %s is %q", c.Message, a.text)
			}
			a.sum.Add(a.sum, one)
		}
		return nil
	})
	if err != nil {
		return err
	}
	burnt, err := v.CreditsConsumed(ctx, hashes...)
	if err != nil {
		return err
	}
	var consumed int64
	for _, n := range burnt {
		consumed = saturate(consumed, n)
	}
	summary := newObject(nil)
	summary.integer("total_consumed_credits", consumed)
	summary.text("total_cost_hold", hold.FloatString(decimals))
	summary.text("total_cost_stream", stream.FloatString(decimals))
	summary.text("total_cost_credit", credit.FloatString(decimals))
	summary.integer("resource_count", int64(len(hashes)))
	o.raw("summary", summary.end())
	return nil
}

// fillCosts writes what each resource of a page costs.
func fillCosts(ctx context.Context, v *state.View, st *stream, q *costsWanted) error {
	costs, total, err := v.Costs(ctx, q.CostQuery, q.offset(), q.per)
	if err != nil {
		return err
	}
	hashes := make([]message.ItemHash, len(costs))
	for i, c := range costs {
		hashes[i] = c.Message
	}
	burnt, err := v.CreditsConsumed(ctx, hashes...)
	if err != nil {
		return err
	}
	for i := range costs {
		c := &costs[i]
		one := newObject(nil)
		one.text("item_hash", string(c.Message))
		one.text("owner", c.Owner)
		one.text("payment_type", string(c.Payment))
		one.integer("consumed_credits", burnt[c.Message])
		one.text("cost_hold", c.Hold)
		one.text("cost_stream", c.Stream)
		one.text("cost_credit", c.Credit)
		if q.details < 2 {
			one.raw("detail", nil)
		} else if err := one.costLines(ctx, v, c, q.sized); err != nil {
			return err
		}
		err := st.grow(func(dst []byte) ([]byte, error) {
			if i > 0 {
				dst = append(dst, ',')
			}
			return append(dst, one.end()...), nil
		})
		if err != nil {
			return err
		}
	}
	return st.grow(func(dst []byte) ([]byte, error) {
		o := &object{buf: append(dst, ']'), begun: true}
		o.integer("pagination_page", q.number)
		o.integer("pagination_total", total)
		o.integer("pagination_per_page", q.per)
		o.text("pagination_item", "resources")
		return o.end(), nil
	})
}

// costLines writes the lines of a cost.
func (o *object) costLines(ctx context.Context, v *state.View, c *state.Cost, sized bool) error {
	var content message.Content
	m, err := v.Message(ctx, c.Message)
	switch {
	case errors.Is(err, errs.NotFound):
		sized = false
	case err != nil:
		return err
	default:
		if content, err = m.Body(); err != nil {
			return err
		}
	}
	b := newBill(c.Owner, c.Payment)
	if err := b.read(ctx, v, c, content, sized); err != nil {
		return err
	}
	o.billLines("detail", b.lines)
	return nil
}
