package scheduler

import (
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/rendezvous"
)

// newRace returns the race of the nodes for one spec and attempt. The weight of
// a node is its score squared.
func newRace(seed common.Hash, spec message.ItemHash, attempt uint8) *rendezvous.Race { //nolint:unparam // The race is defined for every attempt.
	sum, _ := spec.Digest() // An empty spec, of a quote, races as zero.
	return rendezvous.New(seed, sum, attempt)
}

// raceKey returns the key of a node that drew u and has the score, which is
// above 0.
func raceKey(u rendezvous.Uint128, score uint32) rendezvous.Uint128 {
	return rendezvous.Key(u, uint64(score)*uint64(score))
}

// entrant is a node in the race.
type entrant struct {
	index int // The caller's.
	id    uint32
	score uint32 // Above 0.
	u     rendezvous.Uint128
}

// winner returns the position of the entrant with the smallest key. Keys fall
// as u grows, so only the greatest u of each score needs its key computed.
func winner(r *rendezvous.Race, entrants []entrant) int {
	best := map[uint32]int{} // by score
	for i := range entrants {
		e := &entrants[i]
		e.u = r.Draw(e.id)
		b, ok := best[e.score]
		if !ok || entrants[b].u.Less(e.u) || entrants[b].u == e.u && e.id < entrants[b].id {
			best[e.score] = i
		}
	}
	win, first := -1, rendezvous.Runner{}
	for score, i := range best {
		runner := rendezvous.Runner{ID: entrants[i].id, U: entrants[i].u, Key: raceKey(entrants[i].u, score)}
		if win < 0 || runner.Before(first) {
			win, first = i, runner
		}
	}
	return win
}
