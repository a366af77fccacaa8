package corechannel

import (
	"maps"
	"math"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// Rates is what nodes and stakers earn, in tokens.
type Rates struct {
	NodesDaily       float64 // shared by the active CCNs
	StakersDaily     float64 // base of what stakers share; it grows with the number of active CCNs
	ResourceMonthly  float64 // of each CRN
	ResourceVariable float64 // and more, monthly, as far as it is decentralized
	ResourcesPaid    int     // CRNs of a CCN that earn
	LinkageLeast     float64 // share that a CCN without working CRNs earns
	LinkageEach      float64 // and more for each that works, up to all
}

// DefaultRates returns the rates of the public network.
func DefaultRates() Rates {
	return Rates{
		NodesDaily: 15_000, StakersDaily: 15_000, ResourceMonthly: 250, ResourceVariable: 1250,
		ResourcesPaid: 5, LinkageLeast: 0.7, LinkageEach: 0.1,
	}
}

// Reward is what an address earns, by what for.
type Reward struct {
	Node     float64 `json:"node"`     // its CCNs
	Resource float64 `json:"resource"` // its CRNs
	Stake    float64 `json:"stake"`
}

// Multiplier returns the share of a reward that a score earns: nothing below
// 0.2, all from 0.8 on.
func Multiplier(score float64) float64 {
	const none, all = 0.2, 0.8
	switch {
	case score < none:
		return 0
	case score >= all:
		return 1
	default:
		return (score - none) / (all - none)
	}
}

// Daily returns what every address earns in a day of this state. What a CCN
// lacks in score and in linked CRNs, its stakers lack too, as the reference pays
// them.
func (r Rates) Daily(s State) map[string]Reward {
	out := map[string]Reward{}
	active := slices.DeleteFunc(slices.Clone(s.Nodes), func(n Node) bool { return n.Status != Active })
	if len(active) == 0 {
		return out
	}
	resources := make(map[string]*ResourceNode, len(s.ResourceNodes))
	for i := range s.ResourceNodes {
		resources[s.ResourceNodes[i].Hash] = &s.ResourceNodes[i]
	}
	perNode := r.NodesDaily / float64(len(active))
	stakersPool := r.StakersDaily * (math.Log10(float64(len(active))) + 1) / 3
	staked := 0.0
	for i := range active {
		staked += sum(active[i].Stakers)
	}
	for i := range active {
		n := &active[i]
		share := r.linkage(r.payResources(out, n, resources)) * Multiplier(n.Score)
		earn(out, payee(n.Reward, n.Owner), Reward{Node: perNode * share})
		for _, staker := range slices.Sorted(maps.Keys(n.Stakers)) {
			if staked > 0 {
				earn(out, staker, Reward{Stake: stakersPool * share * n.Stakers[staker] / staked})
			}
		}
	}
	return out
}

// payResources pays the CRNs of a CCN and returns how many earn.
func (r Rates) payResources(out map[string]Reward, n *Node, resources map[string]*ResourceNode) int {
	const daysPerMonth = 365.0 / 12
	paid := 0
	for _, hash := range n.ResourceNodes {
		crn := resources[hash]
		if crn == nil || crn.Status != Linked || paid == r.ResourcesPaid {
			continue
		}
		if m := Multiplier(crn.Score); m > 0 {
			paid++
			monthly := r.ResourceMonthly + r.ResourceVariable*crn.Decentralization
			earn(out, payee(crn.Reward, crn.Owner), Reward{Resource: monthly / daysPerMonth * m})
		}
	}
	return paid
}

// linkage returns the share that a CCN with so many working CRNs earns.
func (r Rates) linkage(working int) float64 {
	return min(1, r.LinkageLeast+r.LinkageEach*float64(working))
}

// payee returns the address that is paid, in its EIP-55 form: the reward
// address, or the owner when that is none.
func payee(reward, owner string) string {
	for _, address := range []string{reward, owner} {
		if common.IsHexAddress(address) {
			return common.HexToAddress(address).Hex()
		}
	}
	return owner
}

func earn(out map[string]Reward, address string, more Reward) {
	have := out[address]
	out[address] = Reward{Node: have.Node + more.Node, Resource: have.Resource + more.Resource, Stake: have.Stake + more.Stake}
}

// sum adds in one order, for the last digit of a float64 depends on it.
func sum(stakers map[string]float64) float64 {
	total := 0.0
	for _, staker := range slices.Sorted(maps.Keys(stakers)) {
		total += stakers[staker]
	}
	return total
}
