package ingest

import (
	"context"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// aggregate judges and enters an AGGREGATE.
func (b *batch) aggregate(ctx context.Context, it *item, m *state.Message, a *message.Aggregate) error {
	if err := b.permitAnew(ctx, it, m); err != nil {
		return err
	}
	by, err := b.tx.AggregateForgotten(ctx, m.Owner, a.Key.String(), m.MadeAt)
	if err != nil {
		return err
	}
	if len(by) > 0 {
		return b.endAtOnce(ctx, m, by)
	}
	if err := b.delegated(ctx, m); err != nil {
		return err
	}
	b.fresh, b.elements = append(b.fresh, m), append(b.elements, m)
	b.things = append(b.things, thingAggregate(m.Owner, a.Key.String()))
	if a.Key.String() != authz.SecurityKey {
		return nil
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	return b.grant(ctx, m, a)
}
