package state

import (
	"context"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// balanceOwners finds whose posts say what balances are, which is a setting of the
// node: those of whom a saying holds. Of others none does.
func (c *checker) balanceOwners(ctx context.Context) error {
	query := "SELECT DISTINCT m.owner FROM messages m WHERE m.pk IN (SELECT ref FROM token_balances)"
	err := c.v.each(ctx, query, nil, func(scan func(...any) error) error {
		var owner string
		err := scan(&owner)
		c.rules.BalanceOwners = append(c.rules.BalanceOwners, owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("read who says what balances are: %w", err)
	}
	return nil
}

// balancePosts takes over what POSTs say of balances, but for what newer ones say.
func (c *checker) balancePosts(_ context.Context, all []*Message) error {
	for _, m := range all {
		p, ok := m.Parsed.(*message.Post)
		if !ok {
			continue
		}
		if _, amends := p.Amends(); amends {
			continue
		}
		b, err := c.rules.Balances(credit.PostOf(&m.Envelope, p))
		if err != nil {
			c.differ("post %s says nothing of balances: %v", m.Envelope.ItemHash, err)
		}
		if b == nil {
			continue
		}
		for _, one := range b.Of {
			key := balanceKey{one.Address, string(b.Chain), b.Dapp}
			says := saying{b.Height, b.At.UnixMicro(), string(b.Hash), one.Tokens}
			if before, there := c.balances[key]; !there || says.compare(before) > 0 {
				c.balances[key] = says
			}
		}
	}
	return nil
}

// sayings compares balances with what was said. What was said by a post that is not
// here any more, as it was forgotten, holds until a newer one; not if it was not
// allowed.
func (c *checker) sayings(ctx context.Context) error {
	gone := map[string]balanceKey{} // By the post, with one of its balances.
	err := c.v.each(ctx, "SELECT address, chain, dapp, height, at, ref, tokens, whole FROM token_balances", nil, func(scan func(...any) error) error {
		var key balanceKey
		var got saying
		var tokens string
		var whole int64
		if err := scan(&key.address, &key.chain, &key.dapp, &got.height, &got.at, &got.ref, &tokens, &whole); err != nil {
			return err
		}
		want, there := c.balances[key]
		delete(c.balances, key)
		var err error
		if got.tokens, err = credit.ParseDecimal(tokens); err != nil {
			return errs.New(errs.Internal, "balance of %s is %q", key, tokens)
		}
		c.want(fmt.Sprintf("balance of %s in whole tokens", key), whole, got.tokens.Floor())
		switch order := got.compare(want); {
		case there && order < 0, there && order == 0 && got.tokens.String() != want.tokens.String():
			c.differ("balance of %s is %s of %d by %s, want %s of %d by %s", key, got.tokens, got.height, got.ref, want.tokens, want.height, want.ref)
		case !there || order > 0:
			gone[got.ref] = key
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read balances: %w", err)
	}
	for ref, key := range gone {
		n, err := c.number(ctx, "SELECT (SELECT COUNT(*) FROM messages WHERE pk = ?) + (SELECT COUNT(*) FROM rejected WHERE pk = ? AND code = ?)",
			ref, ref, int(message.CodePermissionDenied))
		if err != nil {
			return err
		}
		c.want(fmt.Sprintf("posts %s, which does not say what is the balance of %s,", ref, key), n, 0)
	}
	for key, want := range c.balances {
		c.differ("balance of %s is missing, want %s by %s", key, want.tokens, want.ref)
	}
	return nil
}
