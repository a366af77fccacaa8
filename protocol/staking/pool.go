package staking

import (
	"errors"
	"math/big"
)

// Mode says who bears a slash.
type Mode uint8

// The modes, by the contract's numbers.
const (
	Operational Mode = 0 // the owner first, then the delegators
	Fatal       Mode = 1 // everybody in proportion
)

// What the arithmetic depends on besides amounts and times.
const (
	BPS         = 10_000
	DripTime    = 7 * 24 * 60 * 60 // seconds that rewards take when nothing else drips
	CapFactor   = 16               // most that is delegated, in the owner's stake
	WeightCap   = 5                // most that counts as a coordinator's weight, in the owner's stake
	entryRatio  = 1_000_000        // shares for a token from which nobody is let in
	resetRatio  = 1_000_000_000    // shares for a token from which a pool starts anew
	virtual     = 1_000            // shares that nobody owns
	virtualUnit = 1                // tokens that nobody owns
)

// The reasons for which a pool refuses a delegation.
var (
	ErrCap   = errors.New("the node may have no more delegated")
	ErrSpent = errors.New("slashes have left too little for each share")
)

var (
	zero = new(big.Int) //nolint:gochecknoglobals // Never written.
	// dust is the least that a slash leaves in a pool.
	dust = big.NewInt(1_000_000_000_000_000) //nolint:gochecknoglobals // Never written.
)

// Fund is a pool of which delegators hold shares.
type Fund struct {
	Tokens *big.Int
	Shares *big.Int
	Gen    uint32 // counts how often a slash has made all shares void
}

// Pool is the purses of a node. The zero value is not usable; NewPool is.
type Pool struct {
	Staked     *big.Int // the owner's stake
	Waiting    *big.Int // the owner's stake that waits
	Bonded     Fund     // delegations
	Leaving    Fund     // delegations that wait
	DripRest   *big.Int // rewards that have not dripped
	DripLast   uint64   // when they last did, in unix seconds
	DripEnd    uint64   // when all will have
	Commission uint64   // the owner's share of rewards in BPS
	Credit     *big.Int // what the owner can claim
}

// Cut is what a slash takes of each purse. Dust is taken besides, because too
// little would be left.
type Cut struct {
	Staked, Waiting, Bonded, Leaving *big.Int
	Dust                             *big.Int
}

// NewPool returns a pool with nothing in it.
func NewPool() *Pool {
	return &Pool{
		Staked:   new(big.Int),
		Waiting:  new(big.Int),
		Bonded:   Fund{Tokens: new(big.Int), Shares: new(big.Int)},
		Leaving:  Fund{Tokens: new(big.Int), Shares: new(big.Int)},
		DripRest: new(big.Int),
		Credit:   new(big.Int),
	}
}

// Total returns what a slash takes of all purses.
func (c Cut) Total() *big.Int {
	return sum(c.Staked, c.Waiting, c.Bonded, c.Leaving)
}

// Accrued returns the delegations now, in unix seconds, with what has dripped
// since they last changed, and the rewards that have not dripped.
func (p *Pool) Accrued(now uint64) (tokens, rest *big.Int) {
	more := p.dripped(now)
	return sum(p.Bonded.Tokens, more), sub(p.DripRest, more)
}

// Value returns what shares of the delegations are worth now.
func (p *Pool) Value(shares *big.Int, now uint64) *big.Int {
	tokens, _ := p.Accrued(now)
	return bonded(shares, tokens, p.Bonded.Shares)
}

// LeavingValue returns what shares of the delegations that wait are worth.
func (p *Pool) LeavingValue(shares *big.Int) *big.Int {
	if p.Leaving.Shares.Sign() == 0 {
		return new(big.Int)
	}
	return mulDiv(shares, p.Leaving.Tokens, p.Leaving.Shares)
}

// Weight returns the weight of a coordinator's voice now.
func (p *Pool) Weight(now uint64) *big.Int {
	tokens, _ := p.Accrued(now)
	all := sum(p.Staked, tokens)
	most := new(big.Int).Mul(p.Staked, big.NewInt(WeightCap))
	if all.Cmp(most) > 0 {
		return most
	}
	return all
}

// Delegate adds tokens and returns the shares they buy.
func (p *Pool) Delegate(tokens *big.Int, now uint64) (*big.Int, error) {
	f := &p.Bonded
	have, _ := p.Accrued(now)
	if f.Shares.Cmp(new(big.Int).Mul(have, big.NewInt(entryRatio))) > 0 {
		return nil, ErrSpent
	}
	most := new(big.Int).Mul(p.Staked, big.NewInt(CapFactor))
	if sum(have, tokens).Cmp(most) > 0 {
		return nil, ErrCap
	}
	p.accrue(now)
	shares := bond(tokens, f.Tokens, f.Shares)
	f.Tokens, f.Shares = sum(f.Tokens, tokens), sum(f.Shares, shares)
	return shares, nil
}

// Undelegate takes shares out and lets what they are worth wait. It returns
// the tokens and the shares of what waits. When the last shares go, the owner
// gets what is left.
func (p *Pool) Undelegate(shares *big.Int, now uint64) (tokens, leaving *big.Int) {
	p.accrue(now)
	f := &p.Bonded
	tokens = bonded(shares, f.Tokens, f.Shares)
	f.Tokens, f.Shares = sub(f.Tokens, tokens), sub(f.Shares, shares)
	if f.Shares.Sign() == 0 {
		p.Credit = sum(p.Credit, f.Tokens, p.DripRest)
		f.Tokens, p.DripRest = new(big.Int), new(big.Int)
	}
	l := &p.Leaving
	leaving = tokens
	if l.Tokens.Sign() != 0 {
		leaving = mulDiv(tokens, l.Shares, l.Tokens)
	}
	l.Tokens, l.Shares = sum(l.Tokens, tokens), sum(l.Shares, leaving)
	return tokens, leaving
}

// Withdraw takes shares out of what waits and returns their worth.
func (p *Pool) Withdraw(leaving *big.Int) *big.Int {
	tokens := p.LeavingValue(leaving)
	p.Leaving.Tokens, p.Leaving.Shares = sub(p.Leaving.Tokens, tokens), sub(p.Leaving.Shares, leaving)
	return tokens
}

// AddRewards gives the owner its commission and lets the rest drip, paced anew
// with what still drips. All is the owner's when nothing is delegated.
func (p *Pool) AddRewards(amount *big.Int, now uint64) {
	p.accrue(now)
	if p.Bonded.Shares.Sign() == 0 {
		p.Credit = sum(p.Credit, amount)
		return
	}
	commission := mulDiv(amount, new(big.Int).SetUint64(p.Commission), big.NewInt(BPS))
	more := sub(amount, commission)
	var left uint64
	if p.DripRest.Sign() != 0 {
		left = p.DripEnd - now
	}
	rest := sum(p.DripRest, more)
	// The mean of the times to go, rounded up.
	weighted := sum(
		new(big.Int).Mul(p.DripRest, new(big.Int).SetUint64(left)),
		new(big.Int).Mul(more, big.NewInt(DripTime)),
	)
	p.DripEnd = now + ceilDiv(weighted, rest).Uint64()
	p.DripRest, p.DripLast = rest, now
	p.Credit = sum(p.Credit, commission)
}

// Slash takes up to amount out of the purses. A pool that is left with next to
// nothing starts anew: its generation counts up and all its shares are void.
func (p *Pool) Slash(amount *big.Int, mode Mode, now uint64) Cut {
	ours := sum(p.Staked, p.Waiting)
	c := Cut{Staked: zero, Waiting: zero, Bonded: zero, Leaving: zero, Dust: zero}
	if mode == Operational && amount.Cmp(ours) <= 0 {
		c.Staked = least(amount, p.Staked)
		c.Waiting = sub(amount, c.Staked)
	} else {
		p.accrue(now)
		theirs := sum(p.Bonded.Tokens, p.Leaving.Tokens)
		total := sum(ours, theirs)
		amount = least(amount, total)
		if mode == Operational {
			c.Staked, c.Waiting = p.Staked, p.Waiting
			rest := sub(amount, ours)
			c.Bonded = portion(rest, p.Bonded.Tokens, theirs)
			c.Leaving = sub(rest, c.Bonded)
		} else {
			c.Staked = portion(amount, p.Staked, total)
			both := portion(amount, ours, total)
			c.Waiting = sub(both, c.Staked)
			three := portion(amount, sum(ours, p.Bonded.Tokens), total)
			c.Bonded = sub(three, both)
			c.Leaving = sub(amount, three)
		}
		c.Dust = p.cutFunds(c)
	}
	p.Staked, p.Waiting = sub(p.Staked, c.Staked), sub(p.Waiting, c.Waiting)
	return c
}

// cutFunds takes the delegators' part and returns what is taken besides.
func (p *Pool) cutFunds(c Cut) *big.Int {
	dust := new(big.Int)
	p.Bonded.Tokens = sub(p.Bonded.Tokens, c.Bonded)
	if c.Bonded.Sign() != 0 && p.Bonded.spent() {
		dust = sum(dust, p.Bonded.Tokens, p.DripRest)
		p.DripRest = new(big.Int)
		p.Bonded.reset()
	}
	p.Leaving.Tokens = sub(p.Leaving.Tokens, c.Leaving)
	if c.Leaving.Sign() != 0 && p.Leaving.spent() {
		dust = sum(dust, p.Leaving.Tokens)
		p.Leaving.reset()
	}
	return dust
}

// accrue writes what has dripped. That rounds, so it is done where the contract
// does it and nowhere else.
func (p *Pool) accrue(now uint64) {
	if p.DripRest.Sign() == 0 {
		return
	}
	p.Bonded.Tokens, p.DripRest = p.Accrued(now)
	p.DripLast = now
}

func (p *Pool) dripped(now uint64) *big.Int {
	if now >= p.DripEnd {
		return p.DripRest
	}
	passed, whole := now-p.DripLast, p.DripEnd-p.DripLast
	return mulDiv(p.DripRest, new(big.Int).SetUint64(passed), new(big.Int).SetUint64(whole))
}

func (f *Fund) spent() bool {
	most := new(big.Int).Mul(f.Tokens, big.NewInt(resetRatio))
	return f.Tokens.Cmp(dust) < 0 || f.Shares.Cmp(most) > 0
}

func (f *Fund) reset() {
	f.Tokens, f.Shares = new(big.Int), new(big.Int)
	f.Gen++
}

// bond returns the shares of the delegations that tokens buy.
func bond(tokens, poolTokens, poolShares *big.Int) *big.Int {
	return mulDiv(tokens, sum(poolShares, big.NewInt(virtual)), sum(poolTokens, big.NewInt(virtualUnit)))
}

// bonded returns what shares of the delegations are worth.
func bonded(shares, poolTokens, poolShares *big.Int) *big.Int {
	return mulDiv(shares, sum(poolTokens, big.NewInt(virtualUnit)), sum(poolShares, big.NewInt(virtual)))
}

// portion returns what the first upTo of total bear of amount, rounded up.
func portion(amount, upTo, total *big.Int) *big.Int {
	if total.Sign() == 0 {
		return new(big.Int)
	}
	return ceilDiv(new(big.Int).Mul(amount, upTo), total)
}

func sum(values ...*big.Int) *big.Int {
	all := new(big.Int)
	for _, v := range values {
		all.Add(all, v)
	}
	return all
}

func sub(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }

func least(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

func mulDiv(a, b, c *big.Int) *big.Int {
	product := new(big.Int).Mul(a, b)
	return product.Quo(product, c)
}

func ceilDiv(a, b *big.Int) *big.Int {
	up := sum(a, b)
	up.Sub(up, big.NewInt(1))
	return up.Quo(up, b)
}
