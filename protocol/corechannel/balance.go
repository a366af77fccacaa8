package corechannel

import "math/big"

// Order of what a chain says in one place of a block: who has what is known
// before who does what.
const (
	rankBalance = iota
	rankRegistration
	rankScores
	rankOperation
)

// Balance is what an address has on one platform from now on. The sum over
// platforms counts.
type Balance struct {
	Address string
	Source  string   // name of the platform
	Wei     *big.Int // not changed after
}

func (Balance) rank() int { return rankBalance }

func (b Balance) apply(f *Fold, _ *Event) error {
	if b.Wei == nil || b.Wei.Sign() < 0 {
		return Ignored("a balance below zero")
	}
	key := purse{b.Address, b.Source}
	before := f.held[key]
	if before == nil {
		before = new(big.Int)
	}
	total := new(big.Int).Sub(f.balance(b.Address), before)
	total.Add(total, b.Wei)
	put(f.held, key, b.Wei)
	put(f.balances, b.Address, total)

	if owned := f.owned[b.Address]; len(owned) > 0 {
		for _, hash := range append([]string{}, owned...) {
			f.keep(f.cores[hash])
		}
	} else if total.Cmp(f.stakeWei) < 0 {
		delete(f.stakes, b.Address)
	}
	return nil
}

// put keeps what is not zero.
func put[K comparable](m map[K]*big.Int, key K, wei *big.Int) {
	if wei.Sign() == 0 {
		delete(m, key)
		return
	}
	m[key] = wei
}

// keep removes a CCN whose owner has too little for it. What is staked for it
// on chain counts as if it were in the wallet.
func (f *Fold) keep(c *core) {
	r := f.records[c.chain]
	if (r == nil || !f.lists(r)) && f.holds(c.Owner, r).Cmp(f.nodeWei) < 0 {
		f.removeCore(c)
	}
}
