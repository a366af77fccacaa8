package staking_test

import (
	"encoding/json"
	"errors"
	"flag"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/staking"
)

var update = flag.Bool("update", false, "rewrite the vectors in protocol/testdata/vectors")

const (
	vectorsFile = "../testdata/vectors/staking.json"
	start       = 1_750_000_000 + 14*24*60*60
	week        = 7 * 24 * 60 * 60
	unbonding   = 2 * week
	people      = 4
	steps       = 1_200
)

// What a step does.
const (
	opDelegate = iota
	opUndelegate
	opCancel
	opWithdraw
	opOperational
	opFatal
	opRewards
	opStake
)

// often is every step as often as it comes, as delegators fill pools more
// often than judges empty them.
var often = []int{
	opDelegate, opDelegate, opDelegate, opDelegate, opUndelegate, opUndelegate, opUndelegate, opUndelegate,
	opCancel, opCancel, opCancel, opWithdraw, opWithdraw, opOperational, opFatal, opRewards, opRewards, opStake,
}

// vectors is a sequence of steps by columns, which is what the contracts' test
// reads fastest, with the pool after each step.
type vectors struct {
	About         string   `json:"about"`
	Start         uint64   `json:"start"`
	Commission    uint64   `json:"commissionBps"`
	Staked        string   `json:"staked"`
	Waiting       string   `json:"waiting"`
	Op            []string `json:"op"`
	Time          []string `json:"time"`
	Who           []string `json:"who"`
	Amount        []string `json:"amount"`
	Ok            []string `json:"ok"`
	Result        []string `json:"result"`
	SelfStake     []string `json:"selfStake"`
	SelfUnbonding []string `json:"selfUnbonding"`
	Tokens        []string `json:"tokens"`
	Shares        []string `json:"shares"`
	Gen           []string `json:"gen"`
	LeavingTokens []string `json:"leavingTokens"`
	LeavingShares []string `json:"leavingShares"`
	LeavingGen    []string `json:"leavingGen"`
	DripRest      []string `json:"dripRest"`
	Credit        []string `json:"credit"`
	Value         []string `json:"value"` // of the position of who
}

type position struct {
	shares *big.Int
	gen    uint32
}

type tranche struct {
	shares *big.Int
	gen    uint32
	unlock uint64
	week   uint64
}

// world is a pool with its delegators, who do what random numbers say.
type world struct {
	pool      *staking.Pool
	now       uint64
	rand      *rand.Rand
	positions [people]position
	tranches  [people][8]tranche
	out       vectors
}

func ether(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

func newWorld(seed uint64) *world {
	w := &world{pool: staking.NewPool(), now: start, rand: rand.New(rand.NewPCG(seed, 0))}
	w.pool.Staked, w.pool.Waiting = ether(60_000), ether(40_000)
	w.pool.Commission = 1_000
	for i := range w.positions {
		w.positions[i].shares = new(big.Int)
		for j := range w.tranches[i] {
			w.tranches[i][j].shares = new(big.Int)
		}
	}
	w.out = vectors{
		About: "Steps of delegators, an owner, its payers and its judges against one node, and the node's purses after " +
			"each, to the last wei. op: 0 delegate, 1 undelegate, 2 cancelUndelegate, 3 withdraw, 4 slash " +
			"operational, 5 slash fatal, 6 addRewards, 7 stake. amount: tokens, shares (1) or the tranche (2, 3). " +
			"result: shares (0, 2), tokens (1, 3) or what was slashed; nothing of a step with ok 0 happened.",
		Start: start, Commission: 1_000,
		Staked: w.pool.Staked.String(), Waiting: w.pool.Waiting.String(),
	}
	return w
}

// upTo returns a number from low to high, at the edges now and then.
func (w *world) upTo(low, high *big.Int) *big.Int {
	if high.Cmp(low) <= 0 {
		return low
	}
	switch w.rand.IntN(8) {
	case 0:
		return low
	case 1:
		return high
	}
	span := new(big.Int).Sub(high, low)
	bits := w.rand.IntN(span.BitLen()) + 1
	n := new(big.Int)
	for range (bits + 63) / 64 {
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(w.rand.Uint64()))
	}
	n.Rsh(n, uint((bits+63)/64*64-bits))
	return n.Mod(n, span).Add(n, low)
}

func (w *world) tick() {
	switch w.rand.IntN(6) {
	case 0:
		w.now += uint64(w.rand.IntN(week))
	case 1:
		if w.rand.IntN(4) == 0 {
			w.now += unbonding
		}
	case 2:
		w.now = (w.now/week+1)*week - uint64(w.rand.IntN(2))
	default:
		w.now += uint64(w.rand.IntN(3600))
	}
}

// step tries until something happens that the model can do.
func (w *world) step() {
	w.tick()
	for {
		op := often[w.rand.IntN(len(often))]
		who := w.rand.IntN(people)
		if amount, result, ok, did := w.do(op, who); did {
			w.record(op, who, amount, result, ok)
			return
		}
	}
}

func (w *world) do(op, who int) (amount, result *big.Int, ok, did bool) {
	switch op {
	case opDelegate:
		return w.delegate(who)
	case opUndelegate:
		return w.undelegate(who)
	case opCancel, opWithdraw:
		return w.take(op, who)
	case opOperational, opFatal:
		return w.slash(op)
	case opRewards:
		amount = w.upTo(ether(1), ether(10_000))
		w.pool.AddRewards(amount, w.now)
		return amount, new(big.Int), true, true
	default:
		if w.pool.Staked.Cmp(ether(200_000)) > 0 {
			return nil, nil, false, false
		}
		amount = w.upTo(big.NewInt(1), ether(100_000))
		w.pool.Staked = new(big.Int).Add(w.pool.Staked, amount)
		return amount, new(big.Int), true, true
	}
}

func (w *world) delegate(who int) (amount, result *big.Int, ok, did bool) {
	amount = w.upTo(ether(1), ether(500_000))
	shares, err := w.pool.Delegate(amount, w.now)
	if err != nil {
		return amount, new(big.Int), false, true
	}
	w.enter(who, shares)
	return amount, shares, true, true
}

func (w *world) enter(who int, shares *big.Int) {
	p := &w.positions[who]
	if p.gen != w.pool.Bonded.Gen {
		*p = position{shares: new(big.Int), gen: w.pool.Bonded.Gen}
	}
	p.shares = new(big.Int).Add(p.shares, shares)
}

func (w *world) undelegate(who int) (amount, result *big.Int, ok, did bool) {
	p := &w.positions[who]
	this := w.now / week
	t := &w.tranches[who][this%8]
	full := t.shares.Sign() != 0 && t.gen == w.pool.Leaving.Gen && t.week != this
	if p.shares.Sign() == 0 || p.gen != w.pool.Bonded.Gen || full {
		return nil, nil, false, false
	}
	amount = w.upTo(big.NewInt(1), p.shares)
	rest := new(big.Int).Sub(p.shares, amount)
	if w.pool.Value(amount, w.now).Sign() == 0 || w.pool.Value(rest, w.now).Cmp(ether(2)) < 0 {
		amount, rest = p.shares, new(big.Int)
	}
	tokens, leaving := w.pool.Undelegate(amount, w.now)
	p.shares = rest
	if t.shares.Sign() == 0 || t.gen != w.pool.Leaving.Gen {
		*t = tranche{shares: new(big.Int), gen: w.pool.Leaving.Gen}
	}
	t.shares = new(big.Int).Add(t.shares, leaving)
	t.unlock, t.week = w.now+unbonding, this
	return amount, tokens, true, true
}

func (w *world) take(op, who int) (amount, result *big.Int, ok, did bool) {
	index := w.rand.IntN(8)
	t := &w.tranches[who][index]
	amount = big.NewInt(int64(index))
	void := t.gen != w.pool.Leaving.Gen
	if t.shares.Sign() == 0 {
		return nil, nil, false, false
	}
	if op == opWithdraw {
		if w.now < t.unlock {
			return nil, nil, false, false
		}
		tokens := new(big.Int)
		if !void {
			tokens = w.pool.Withdraw(t.shares)
		}
		t.shares = new(big.Int)
		return amount, tokens, true, true
	}
	if void || w.pool.LeavingValue(t.shares).Cmp(ether(1)) < 0 {
		return nil, nil, false, false
	}
	// Delegating may be refused; then the tranche stays.
	before := w.pool.Leaving
	tokens := w.pool.Withdraw(t.shares)
	shares, err := w.pool.Delegate(tokens, w.now)
	if err != nil {
		w.pool.Leaving = before
		return amount, new(big.Int), false, true
	}
	t.shares = new(big.Int)
	w.enter(who, shares)
	return amount, shares, true, true
}

func (w *world) slash(op int) (amount, result *big.Int, ok, did bool) {
	tokens, _ := w.pool.Accrued(w.now)
	all := new(big.Int).Add(w.pool.Staked, w.pool.Waiting)
	all.Add(all, tokens).Add(all, w.pool.Leaving.Tokens)
	switch w.rand.IntN(24) {
	case 0:
		amount = w.upTo(new(big.Int), new(big.Int).Add(all, ether(1)))
	case 1:
		amount = w.upTo(new(big.Int).Sub(all, least(all, ether(1))), all)
	default:
		amount = w.upTo(new(big.Int), new(big.Int).Div(all, big.NewInt(10)))
	}
	mode := staking.Operational
	if op == opFatal {
		mode = staking.Fatal
	}
	return amount, w.pool.Slash(amount, mode, w.now).Total(), true, true
}

func least(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

func (w *world) record(op, who int, amount, result *big.Int, ok bool) {
	p, o := w.pool, &w.out
	tokens, rest := p.Accrued(w.now)
	add := func(column *[]string, n *big.Int) { *column = append(*column, n.String()) }
	number := func(column *[]string, n uint64) { add(column, new(big.Int).SetUint64(n)) }
	number(&o.Op, uint64(op))
	number(&o.Time, w.now)
	number(&o.Who, uint64(who))
	add(&o.Amount, amount)
	if ok {
		number(&o.Ok, 1)
	} else {
		number(&o.Ok, 0)
	}
	add(&o.Result, result)
	add(&o.SelfStake, p.Staked)
	add(&o.SelfUnbonding, p.Waiting)
	add(&o.Tokens, tokens)
	add(&o.Shares, p.Bonded.Shares)
	number(&o.Gen, uint64(p.Bonded.Gen))
	add(&o.LeavingTokens, p.Leaving.Tokens)
	add(&o.LeavingShares, p.Leaving.Shares)
	number(&o.LeavingGen, uint64(p.Leaving.Gen))
	add(&o.DripRest, rest)
	add(&o.Credit, p.Credit)
	value := new(big.Int)
	if w.positions[who].gen == p.Bonded.Gen {
		value = p.Value(w.positions[who].shares, w.now)
	}
	add(&o.Value, value)
}

// TestVectors says that the model still does what the contract was tested to
// do: contracts/test/StakingVectors.t.sol takes the same steps.
func TestVectors(t *testing.T) {
	w := newWorld(3)
	for range steps {
		w.step()
	}
	if *update {
		raw, err := json.Marshal(w.out)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(raw, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var want vectors
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w.out, want) {
		t.Error("the steps differ from the vectors; run with -update when that is meant, and the contracts' tests")
	}
}

// TestRandomWorldsKeepTheirSums follows many delegators through anything: the
// shares they hold are the shares of the pools, no pool is left with shares
// without tokens, and shares stay far below 128 bits.
func TestRandomWorldsKeepTheirSums(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(seed + 100)
		for i := range 400 {
			w.step()
			held, waiting := new(big.Int), new(big.Int)
			for who := range people {
				if p := w.positions[who]; p.gen == w.pool.Bonded.Gen {
					held.Add(held, p.shares)
				}
				for _, tr := range w.tranches[who] {
					if tr.gen == w.pool.Leaving.Gen {
						waiting.Add(waiting, tr.shares)
					}
				}
			}
			if held.Cmp(w.pool.Bonded.Shares) != 0 || waiting.Cmp(w.pool.Leaving.Shares) != 0 {
				t.Fatalf("seed %d, step %d: shares do not add up", seed, i)
			}
			for _, f := range []staking.Fund{w.pool.Bonded, w.pool.Leaving} {
				if (f.Tokens.Sign() == 0) != (f.Shares.Sign() == 0) || f.Shares.BitLen() > 126 {
					t.Fatalf("seed %d, step %d: %v tokens, %v shares", seed, i, f.Tokens, f.Shares)
				}
			}
		}
	}
}

func TestDelegateRefuses(t *testing.T) {
	p := staking.NewPool()
	p.Staked = ether(10)
	if _, err := p.Delegate(ether(161), start); !errors.Is(err, staking.ErrCap) {
		t.Errorf("above the cap: %v", err)
	}
	if _, err := p.Delegate(ether(160), start); err != nil {
		t.Fatal(err)
	}
	spare := new(big.Int).Sub(ether(170), big.NewInt(2e15))
	p.Slash(spare, staking.Fatal, start)
	p.Staked = ether(10)
	if _, err := p.Delegate(ether(1), start); !errors.Is(err, staking.ErrSpent) {
		t.Errorf("into a pool that is spent: %v", err)
	}
}

func TestSlashSplits(t *testing.T) {
	tests := []struct {
		name                              string
		mode                              staking.Mode
		amount                            *big.Int
		staked, waiting, bonded, leaving_ int64
	}{
		{"operational, the owner's suffices", staking.Operational, ether(70), 60, 10, 0, 0},
		{"operational, the delegators bear the rest", staking.Operational, ether(250), 60, 40, 75, 75},
		{"fatal, everybody", staking.Fatal, ether(50), 6, 4, 20, 20},
		{"more than there is", staking.Fatal, ether(501), 60, 40, 200, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := staking.NewPool()
			p.Staked, p.Waiting = ether(60), ether(40)
			shares, err := p.Delegate(ether(400), start)
			if err != nil {
				t.Fatal(err)
			}
			p.Undelegate(new(big.Int).Rsh(shares, 1), start)
			got := p.Slash(tt.amount, tt.mode, start)
			for i, pair := range [][2]*big.Int{
				{got.Staked, ether(tt.staked)},
				{got.Waiting, ether(tt.waiting)},
				{got.Bonded, ether(tt.bonded)},
				{got.Leaving, ether(tt.leaving_)},
			} {
				if pair[0].Cmp(pair[1]) != 0 {
					t.Errorf("purse %d: got %v, want %v", i, pair[0], pair[1])
				}
			}
		})
	}
}

func TestWeightIsCapped(t *testing.T) {
	p := staking.NewPool()
	p.Staked = ether(10)
	if _, err := p.Delegate(ether(30), start); err != nil {
		t.Fatal(err)
	}
	if got := p.Weight(start); got.Cmp(ether(40)) != 0 {
		t.Errorf("got %v, want the sum", got)
	}
	p.AddRewards(ether(100), start)
	if got := p.Weight(start + staking.DripTime); got.Cmp(ether(50)) != 0 {
		t.Errorf("got %v, want five times the owner's", got)
	}
	if got := p.LeavingValue(ether(1)); got.Sign() != 0 {
		t.Errorf("shares of nothing are worth %v", got)
	}
}
