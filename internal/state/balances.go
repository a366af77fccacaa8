package state

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TokenBalance is the tokens of an address on a chain.
type TokenBalance struct {
	Address string
	Chain   message.Chain
	Dapp    string // "" of tokens in a wallet.
	Tokens  credit.Decimal
}

// saying is what a post said a balance is. The zero value is that nothing was
// said, which is none.
type saying struct {
	height, at int64
	ref        string
	tokens     credit.Decimal
}

// compare orders sayings: the greater height counts, and of one height the later
// post, so that all nodes agree.
func (s saying) compare(o saying) int {
	return cmp.Or(cmp.Compare(s.height, o.height), cmp.Compare(s.at, o.at), cmp.Compare(s.ref, o.ref))
}

// balanceKey names a balance.
type balanceKey struct{ address, chain, dapp string }

// String shows the key.
func (k balanceKey) String() string { return fmt.Sprintf("%s on %s %s", k.address, k.chain, k.dapp) }

// PutBalances takes over what a post says of balances, but for what a newer one
// has said, and returns the addresses that have more or less than before.
func (tx *Tx) PutBalances(ctx context.Context, b *credit.Balances) (changed []string, err error) {
	tx.logChange("token_balances", string(b.Hash)) // One change for all: they are many.
	for chunk := range chunks(b.Of) {
		known, err := tx.sayings(ctx, b, chunk)
		if err != nil {
			return nil, err
		}
		var rows [][]any
		for _, one := range chunk {
			says := saying{b.Height, b.At.UnixMicro(), string(b.Hash), one.Tokens}
			before, there := known[one.Address]
			if there && says.compare(before) <= 0 {
				continue
			}
			rows = append(rows, []any{one.Address, string(b.Chain), b.Dapp, one.Tokens.String(), one.Tokens.Floor(), says.height, says.at, says.ref})
			if says.tokens.Cmp(before.tokens) != 0 {
				changed = append(changed, one.Address)
			}
		}
		err = tx.insert(ctx, "token_balances (address, chain, dapp, tokens, whole, height, at, ref)", rows, " ON CONFLICT (address, chain, dapp) DO UPDATE SET"+
			" tokens = excluded.tokens, whole = excluded.whole, height = excluded.height, at = excluded.at, ref = excluded.ref")
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(changed)
	return changed, nil
}

// RevokeBalances takes back what posts say of balances that should not have counted, as
// if they had never come, and returns the addresses that have more or less than before.
// What holds instead is read anew from the posts that are here, and from what others are
// known to say, which is not asked for in vain.
func (tx *Tx) RevokeBalances(ctx context.Context, rules credit.Rules, posts []message.ItemHash, others func(func(*credit.Balances)) error) (changed []string, err error) {
	lost, err := tx.dropSayings(ctx, posts)
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	said := map[balanceKey]saying{}
	hear := func(b *credit.Balances) {
		for _, one := range b.Of {
			key := balanceKey{one.Address, string(b.Chain), b.Dapp}
			says := saying{b.Height, b.At.UnixMicro(), string(b.Hash), one.Tokens}
			if _, ok := lost[key]; !ok {
				continue
			}
			if before, ok := said[key]; !ok || says.compare(before) > 0 {
				said[key] = says
			}
		}
	}
	q := MessageQuery{Types: []string{string(message.TypePost)}, Kinds: []string{credit.TypeBalances}, Owners: rules.BalanceOwners}
	err = (&View{tx.reader}).EachMessage(ctx, q, 0, 0, func(m *Message) error {
		body, err := m.Body()
		if err != nil {
			return err
		}
		p, ok := body.(*message.Post)
		if !ok || slices.Contains(posts, m.Envelope.ItemHash) {
			return nil
		}
		if b, err := rules.Balances(credit.PostOf(&m.Envelope, p)); err == nil && b != nil {
			hear(b)
		}
		return nil
	})
	if err == nil {
		err = others(hear)
	}
	if err != nil {
		return nil, fmt.Errorf("read what else was said of balances: %w", err)
	}
	var rows [][]any
	for key, before := range lost {
		s, ok := said[key]
		if ok {
			rows = append(rows, []any{key.address, key.chain, key.dapp, s.tokens.String(), s.tokens.Floor(), s.height, s.at, s.ref})
		}
		if s.tokens.Cmp(before) != 0 {
			changed = append(changed, key.address)
		}
	}
	slices.Sort(changed)
	return slices.Compact(changed), tx.insert(ctx, "token_balances (address, chain, dapp, tokens, whole, height, at, ref)", rows, "")
}

// dropSayings takes out the balances that posts say, and returns them.
func (tx *Tx) dropSayings(ctx context.Context, posts []message.ItemHash) (map[balanceKey]credit.Decimal, error) {
	out := map[balanceKey]credit.Decimal{}
	for chunk := range chunks(posts) {
		list, args := in(chunk)
		err := tx.each(ctx, "SELECT address, chain, dapp, tokens FROM token_balances WHERE ref IN "+list, args, func(scan func(...any) error) error {
			var key balanceKey
			var tokens string
			err := scan(&key.address, &key.chain, &key.dapp, &tokens)
			if err != nil {
				return err
			}
			out[key], err = credit.ParseDecimal(tokens)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read balances: %w", err)
		}
		if len(out) == 0 {
			continue
		}
		if _, err := tx.tx.ExecContext(ctx, "DELETE FROM token_balances WHERE ref IN "+list, args...); err != nil {
			return nil, fmt.Errorf("take back balances: %w", err)
		}
		for _, post := range chunk {
			tx.logChange("token_balances", string(post))
		}
	}
	return out, nil
}

// sayings reads what is known of the addresses of a post.
func (tx *Tx) sayings(ctx context.Context, b *credit.Balances, of []credit.Balance) (map[string]saying, error) {
	args := []any{string(b.Chain), b.Dapp}
	for _, one := range of {
		args = append(args, one.Address)
	}
	out := map[string]saying{}
	err := tx.each(ctx, "SELECT address, height, at, ref, tokens FROM token_balances WHERE chain = ? AND dapp = ? AND address IN "+marks(len(of)), args,
		func(scan func(...any) error) error {
			var address, tokens string
			var s saying
			err := scan(&address, &s.height, &s.at, &s.ref, &tokens)
			if err != nil {
				return err
			}
			s.tokens, err = credit.ParseDecimal(tokens)
			out[address] = s
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	return out, nil
}

// BalancesOf returns the tokens in an address's wallets, by chain, and their sum.
func (r reader) BalancesOf(ctx context.Context, address string) (total credit.Decimal, chains map[message.Chain]credit.Decimal, err error) {
	found, err := r.balances(ctx, "address = ? AND dapp = ''", address)
	chains = map[message.Chain]credit.Decimal{}
	for _, b := range found {
		chains[b.Chain] = b.Tokens
		total = total.Add(b.Tokens)
	}
	return total, chains, err
}

// BalancesQuery chooses balances.
type BalancesQuery struct {
	Chains []message.Chain // None is all.
	Min    int64           // Whole tokens; up to 0 is all.
	After  *TokenBalance   // nil is before all; only the key counts.
	Offset int
	Limit  int // 0 is all.
}

func (q BalancesQuery) where() (string, []any) {
	clauses, args := []string{"TRUE"}, []any(nil)
	if len(q.Chains) > 0 {
		list, chains := in(q.Chains)
		clauses, args = append(clauses, "chain IN "+list), append(args, chains...)
	}
	if q.Min > 0 {
		clauses, args = append(clauses, "whole >= ?"), append(args, q.Min)
	}
	if q.After != nil {
		clauses = append(clauses, "(address, chain, dapp) > (?, ?, ?)")
		args = append(args, q.After.Address, string(q.After.Chain), q.After.Dapp)
	}
	return strings.Join(clauses, " AND "), args
}

// Balances returns balances by address, chain and dapp.
func (r reader) Balances(ctx context.Context, q BalancesQuery) ([]TokenBalance, error) {
	where, args := q.where()
	page, more := limited(q.Offset, q.Limit)
	return r.balances(ctx, where+" ORDER BY address, chain, dapp"+page, append(args, more...)...)
}

// CountBalances returns how many balances a query chooses, on all pages.
func (r reader) CountBalances(ctx context.Context, q BalancesQuery) (n int, err error) {
	where, args := q.where()
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM token_balances WHERE "+where, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count balances: %w", err)
	}
	return n, nil
}

func (r reader) balances(ctx context.Context, where string, args ...any) (out []TokenBalance, err error) {
	err = r.each(ctx, "SELECT address, chain, dapp, tokens FROM token_balances WHERE "+where, args, func(scan func(...any) error) error {
		var b TokenBalance
		var tokens string
		if err := scan(&b.Address, &b.Chain, &b.Dapp, &tokens); err != nil {
			return err
		}
		if b.Tokens, err = credit.ParseDecimal(tokens); err != nil {
			return fmt.Errorf("decode balance of %s: %w", b.Address, err)
		}
		out = append(out, b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list balances: %w", err)
	}
	return out, nil
}
