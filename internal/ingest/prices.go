package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// elements reads the messages of aggregates; state.View and state.Tx do.
type elements interface {
	Elements(ctx context.Context, owner, key string) ([]*state.Message, error)
}

// pricesKey names a table of prices by the messages that made it.
type pricesKey struct{ pricing, settings message.ItemHash }

// tablesMax bounds the tables of prices that are kept.
const tablesMax = 64

// pricesAt returns the prices that the network had published by a time. Until it
// has published any they are the default ones; a table that cannot be read changes
// nothing.
func (p *Pipeline) pricesAt(ctx context.Context, r elements, at time.Time) (*pricing.Table, error) {
	prices, key1, err := p.published(ctx, r, "pricing", at)
	if err != nil {
		return nil, err
	}
	settings, key2, err := p.published(ctx, r, "settings", at)
	if err != nil {
		return nil, err
	}
	key := pricesKey{key1, key2}
	if prices == nil {
		return p.table, nil
	}
	p.prices.Lock()
	defer p.prices.Unlock()
	if t := p.prices.of[key]; t != nil {
		return t, nil
	}
	t, err := pricing.Parse(prices, settings)
	if err != nil {
		p.log.Warn("published prices cannot be read, the default ones hold", "item_hash", key1, "err", err)
		t = p.table
	}
	if p.prices.of == nil || len(p.prices.of) >= tablesMax {
		p.prices.of = map[pricesKey]*pricing.Table{}
	}
	p.prices.of[key] = t
	return t, nil
}

// published is the content that an aggregate of the pricing authority had at a
// time, and its last message; nil if it had none.
func (p *Pipeline) published(ctx context.Context, r elements, key string, at time.Time) (json.RawMessage, message.ItemHash, error) {
	all, err := r.Elements(ctx, p.cfg.PricingAuthority, key)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(m *state.Message) bool { return m.MadeAt.After(at) })
	if len(all) == 0 {
		if key == "settings" {
			return json.RawMessage("{}"), "", nil
		}
		return nil, "", nil
	}
	fields := map[string]json.RawMessage{}
	for _, m := range all { // Oldest first.
		body, err := m.Body()
		if err != nil {
			return nil, "", err
		}
		a, ok := body.(*message.Aggregate)
		if !ok {
			continue
		}
		if err := json.Unmarshal(a.Content, &fields); err != nil {
			return nil, "", fmt.Errorf("read %s of message %s: %w", key, m.Envelope.ItemHash, err)
		}
	}
	raw, err := json.Marshal(fields)
	return raw, all[len(all)-1].Envelope.ItemHash, err
}

// Prices returns the prices that the network had published by a time.
func (p *Pipeline) Prices(ctx context.Context, v *state.View, at time.Time) (*pricing.Table, error) {
	return p.pricesAt(ctx, v, at)
}

// repriceMax is how many messages get their costs anew in one transaction.
const repriceMax = 200

// Repriced says what a look at costs has found.
type Repriced struct {
	All, Done int // Messages that have costs or may have them, and those of which they are known now.
	Prices    int // Changes of the network's prices that are known.
	Failed    []Unpriced
}

// Unpriced is a message that has no price.
type Unpriced struct {
	Message message.ItemHash
	Reason  string
}

// Reprice computes again what messages cost by the prices that held when they were
// made: of one message, or of all that have costs if there is no hash. It is
// errs.NotFound if there is no such message, and errs.Invalid if it costs nothing.
func (p *Pipeline) Reprice(ctx context.Context, hash message.ItemHash) (*Repriced, error) {
	out := &Repriced{}
	changes, err := p.db.Elements(ctx, p.cfg.PricingAuthority, "pricing")
	if err != nil {
		return nil, err
	}
	out.Prices = len(changes)
	if hash != "" {
		return out, p.repriceAll(ctx, []message.ItemHash{hash}, out)
	}
	for offset := int64(0); ; offset += repriceMax {
		costs, _, err := p.db.Costs(ctx, state.CostQuery{}, offset, repriceMax)
		if err != nil {
			return nil, err
		}
		hashes := make([]message.ItemHash, len(costs))
		for i, c := range costs {
			hashes[i] = c.Message
		}
		if err := p.repriceAll(ctx, hashes, out); err != nil && !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		if len(costs) < repriceMax {
			return out, nil
		}
	}
}

// repriceAll gives some messages their costs in one transaction.
func (p *Pipeline) repriceAll(ctx context.Context, hashes []message.ItemHash, out *Repriced) error {
	return p.db.Update(ctx, func(tx *state.Tx) error {
		b := &batch{p: p, tx: tx}
		for _, hash := range hashes {
			m, err := tx.Message(ctx, hash)
			if errors.Is(err, errs.NotFound) && len(hashes) > 1 {
				continue // It ended meanwhile.
			}
			if err != nil {
				return err
			}
			out.All++
			var refused *message.RejectError
			switch err := b.reprice(ctx, m); {
			case errors.As(err, &refused):
				out.Failed = append(out.Failed, Unpriced{hash, refused.Error()})
			case err != nil:
				return err
			default:
				out.Done++
			}
		}
		return nil
	})
}

// reprice gives a message its cost. Its error is a *message.RejectError if it has no
// price.
func (b *batch) reprice(ctx context.Context, m *state.Message) error {
	c, err := m.Body()
	if err != nil {
		return err
	}
	m.Parsed = c
	if s, ok := c.(*message.Store); ok {
		info, err := b.tx.FileInfo(ctx, s.ItemHash)
		if errors.Is(err, errs.NotFound) {
			return nil // Of unknown size.
		}
		if err != nil {
			return err
		}
		cost, err := b.storeCost(ctx, m, s, info)
		if err != nil {
			return err
		}
		return b.putCost(ctx, m, s.PaymentType(), cost)
	}
	parts := partsOf(c)
	if parts == nil {
		return errs.New(errs.Invalid, "message %s is a %s, which costs nothing", m.Envelope.ItemHash, m.Envelope.Type)
	}
	sizes, err := b.findParts(ctx, parts)
	if err != nil && sizes == nil {
		return err // That a disk has become too small changes no price.
	}
	table, err := b.p.pricesAt(ctx, b.tx, m.MadeAt)
	if err != nil {
		return err
	}
	cost, err := table.Cost(c, sizes)
	if err != nil {
		return message.Reject(message.CodeInternal, "%v", err)
	}
	return b.putCost(ctx, m, paymentOf(c), cost)
}
