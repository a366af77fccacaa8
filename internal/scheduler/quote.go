package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// Quote is what an instance would cost and where it would run, as of now.
type Quote struct {
	Flow          *pricing.Flow // At the price of the chosen node, or of the table when there is none.
	Token         uint8
	PrepaySeconds uint64
	PrepayWei     *big.Int          // What the payer must have when the job opens.
	NodeID        uint32            // The node that would be chosen; 0 for none.
	Reason        string            // Why that node, or why none.
	Candidates    []state.Candidate // By node id.
}

// Quote prices the instance and judges all nodes for it without asking any.
// The spec is its item hash, "" when it has none yet; nodeHint pins a node, 0
// leaves the choice open. An instance that cannot run here gives errs.Invalid.
func (p *Planner) Quote(ctx context.Context, i *message.Instance, spec message.ItemHash, nodeHint uint32) (*Quote, error) {
	needs, err := job.NeedsOf(i)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	m, err := p.market(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the market: %w", err)
	}
	params, err := p.db.Params(ctx)
	if err != nil {
		if errors.Is(err, errs.NotFound) {
			err = errs.New(errs.Unavailable, "the contracts' parameters have not been read yet")
		}
		return nil, err
	}
	p.mu.Lock()
	p.forgetShown(m)
	c, err := choose(m, request{table: p.table, spec: spec, seed: m.head.Hash, instance: i, needs: needs, nodeHint: nodeHint}, p.cfg.AdMaxAge, p.claims, nil)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	q := &Quote{
		Token: job.TokenALEPH, PrepaySeconds: params.PrepaySeconds, Candidates: c.candidates, Reason: noNode(c.candidates),
	}
	bps := wire.Bps
	if c.chosen != nil {
		bps, q.NodeID, q.Reason = c.chosen.ad.PriceBps, c.chosen.node.ID, chosenReason(c)
	}
	if q.Flow, err = p.table.Flow(i, nil, bps); err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	q.PrepayWei = q.Flow.For(params.PrepaySeconds)
	return q, nil
}
