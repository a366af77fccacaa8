package ledger_test

import (
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func (c *comparison) votes(people []common.Address) {
	b, l := bindings.NewStakingManager(), c.l
	changed := l.VoteTimes()
	times := changed[max(0, len(changed)-30):] // At the second itself the change counts.
	for _, id := range l.Proposals() {
		times = append(times, l.ProposalSnapshot(id).Uint64())
	}
	for hours := range uint64(30) {
		times = append(times, c.now-1-hours*3600)
	}
	for _, time := range times {
		if time < c.now {
			same(c, fmt.Sprintf("all votes at %d", time), "StakingManager", b.PackGetPastTotalSupply(number(time)), b.UnpackGetPastTotalSupply, l.PastTotalVotes(time))
		}
	}
	for _, who := range append(people, c.net.Owner.Address, c.net.Admin.Address) {
		same(c, "votes of "+who.Hex(), "StakingManager", b.PackGetVotes(who), b.UnpackGetVotes, l.Votes(who))
		same(c, "delegate of "+who.Hex(), "StakingManager", b.PackDelegates(who), b.UnpackDelegates, l.Delegate(who))
		for _, time := range times {
			if time < c.now {
				name := fmt.Sprintf("votes of %s at %d", who, time)
				same(c, name, "StakingManager", b.PackGetPastVotes(who, number(time)), b.UnpackGetPastVotes, l.PastVotes(who, time))
			}
		}
	}
}

func number(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
