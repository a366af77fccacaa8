package scheduler

import (
	"context"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// OffersMax bounds the offers of one pass.
const OffersMax = offersMax

// Next returns the offers that the next pass would place.
func (p *Planner) Next(ctx context.Context) ([]state.Offer, error) { return p.next(ctx) }

// Place places the offers, whatever is stored.
func (p *Planner) Place(ctx context.Context, offers ...state.Offer) error {
	m, err := p.market(ctx)
	if err != nil {
		return err
	}
	p.placeAll(ctx, m, offers)
	return nil
}

// Fail notes that the offer could not be placed.
func (p *Planner) Fail(ctx context.Context, o state.Offer, cause error) { p.fail(ctx, o, cause) }
