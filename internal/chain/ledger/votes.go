package ledger

import (
	"math/big"
	"sort"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// trace is an amount as it was from each of some times on, in their order.
type trace []checkpoint

type checkpoint struct {
	since uint64
	value *big.Int
}

// push notes the amount from a time on.
func (t *trace) push(now uint64, value *big.Int) {
	if n := len(*t); n > 0 && (*t)[n-1].since == now {
		(*t)[n-1].value = value
		return
	}
	*t = append(*t, checkpoint{now, value})
}

// at returns the amount at the end of a second.
func (t trace) at(time uint64) *big.Int {
	n := sort.Search(len(t), func(i int) bool { return t[i].since > time })
	if n == 0 {
		return big0()
	}
	return t[n-1].value
}

func (t trace) latest() *big.Int {
	if len(t) == 0 {
		return big0()
	}
	return t[len(t)-1].value
}

// votes is who has how many, and had.
type votes struct {
	of        map[common.Address]*trace
	all       trace
	delegates map[common.Address]common.Address
}

func newVotes() votes {
	return votes{of: map[common.Address]*trace{}, delegates: map[common.Address]common.Address{}}
}

// Votes is StakingManager.getVotes.
func (l *Ledger) Votes(who common.Address) *big.Int { return l.traceOf(who).latest() }

// PastVotes is StakingManager.getPastVotes.
func (l *Ledger) PastVotes(who common.Address, time uint64) *big.Int { return l.traceOf(who).at(time) }

// PastTotalVotes is StakingManager.getPastTotalSupply. Every vote is somebody's,
// for who never said otherwise votes for itself.
func (l *Ledger) PastTotalVotes(time uint64) *big.Int { return l.votes.all.at(time) }

// VoteTimes returns when the number of all votes changed.
func (l *Ledger) VoteTimes() (times []uint64) {
	for _, c := range l.votes.all {
		times = append(times, c.since)
	}
	return times
}

// Delegate is StakingManager.delegates.
func (l *Ledger) Delegate(who common.Address) common.Address {
	if to, ok := l.votes.delegates[who]; ok {
		return to
	}
	return who
}

func (l *Ledger) traceOf(who common.Address) *trace {
	return entry(l.votes.of, who, func() *trace { return new(trace) })
}

func voteHandlers() map[string]handler {
	c := bindings.NewStakingManager()
	return map[string]handler{
		"DelegateChanged": on(c.UnpackDelegateChangedEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerDelegateChanged) error {
			l.votes.delegates[e.Delegator] = e.ToDelegate
			return nil
		}),
		"DelegateVotesChanged": on(c.UnpackDelegateVotesChangedEvent, func(l *Ledger, now uint64, e *bindings.StakingManagerDelegateVotesChanged) error {
			own := l.traceOf(e.Delegate)
			if had := own.latest(); had.Cmp(e.PreviousVotes) != 0 {
				return contradiction("%s had %s votes, not %s", e.Delegate, had, e.PreviousVotes)
			}
			own.push(now, e.NewVotes)
			l.votes.all.push(now, plus(l.votes.all.latest(), minus(e.NewVotes, e.PreviousVotes)))
			return nil
		}),
	}
}
