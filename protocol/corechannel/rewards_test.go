package corechannel_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
)

// The values are those of the reference's own test.
func TestMultiplier(t *testing.T) {
	for score, want := range map[float64]float64{
		0: 0, 0.1: 0, 0.2: 0, 0.3: 1.0 / 6, 0.4: 1.0 / 3, 0.5: 0.5, 0.6: 2.0 / 3, 0.7: 5.0 / 6, 0.8: 1, 0.9: 1, 1: 1,
	} {
		if got := corechannel.Multiplier(score); math.Abs(got-want) > 1e-15 {
			t.Errorf("multiplier of %v is %v, want %v", score, got, want)
		}
	}
}

// The snapshot is the reference's; what everybody earns in a day is worked out
// by hand from section 7.5. Its first CCN names a CRN that is not in the list.
func TestDailyRewardsOfTheSnapshot(t *testing.T) {
	s, err := corechannel.ParseState(readVector(t, "corechannel_snapshot.json"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		stakers = 15_000 * 1.3010299956639813 / 3 // (log10 2 + 1) / 3
		one     = 0.8                             // linkage of one CRN, full score
		two     = 0.8 * 5 / 6                     // and a score of 0.7
		crn     = (250 + 1250*0.5) * 12 / 365     // a day, half decentralized
		all     = 230_000                         // staked
	)
	want := map[string]corechannel.Reward{
		"0x1111111111111111111111111111111111111111": {Node: 7500 * one},
		"0x2222222222222222222222222222222222222222": {Node: 7500 * two},
		"0x4444444444444444444444444444444444444444": {Resource: crn},
		"0x5555555555555555555555555555555555555555": {Resource: crn},
		"0x6666666666666666666666666666666666666666": {Stake: stakers * 100_000 / all * one},
		"0x7777777777777777777777777777777777777777": {Stake: stakers * 50_000 / all * one},
		"0x8888888888888888888888888888888888888888": {Stake: stakers * 80_000 / all * two},
	}
	if diff := cmp.Diff(want, corechannel.DefaultRates().Daily(s), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Errorf("rewards (-want +got):\n%s", diff)
	}
}

func TestRewardsOfManyResourceNodes(t *testing.T) {
	crns := func(scores ...float64) corechannel.State {
		s := corechannel.State{Nodes: []corechannel.Node{{Hash: "ccn", Owner: alice, Status: corechannel.Active, Standing: corechannel.Standing{Score: 1}}}}
		for i, score := range scores {
			n := corechannel.ResourceNode{Hash: string(rune('a' + i)), Owner: bob, Status: corechannel.Linked, Standing: corechannel.Standing{Score: score}}
			s.ResourceNodes = append(s.ResourceNodes, n)
			s.Nodes[0].ResourceNodes = append(s.Nodes[0].ResourceNodes, n.Hash)
		}
		return s
	}
	const day = 250.0 * 12 / 365
	tests := []struct {
		name   string
		scores []float64
		want   map[string]corechannel.Reward
	}{
		{"none", nil, map[string]corechannel.Reward{alice: {Node: 15_000 * 0.7}}},
		{"one that does not work", []float64{0.19}, map[string]corechannel.Reward{alice: {Node: 15_000 * 0.7}}},
		{"two", []float64{1, 0.5}, map[string]corechannel.Reward{alice: {Node: 15_000 * 0.9}, bob: {Resource: 1.5 * day}}},
		{"three", []float64{1, 1, 1}, map[string]corechannel.Reward{alice: {Node: 15_000}, bob: {Resource: 3 * day}}},
		{"more than are paid, the first not working", []float64{0, 1, 1, 1, 1, 1, 1, 1}, map[string]corechannel.Reward{alice: {Node: 15_000}, bob: {Resource: 5 * day}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, corechannel.DefaultRates().Daily(crns(tt.scores...)), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestWhoIsPaid(t *testing.T) {
	const mixed = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
	tests := []struct {
		status        corechannel.Status
		reward, owner string
		want          string
	}{
		{corechannel.Active, "0xdac17f958d2ee523a2206206994597c13d831ec7", alice, mixed},
		{corechannel.Active, "", mixed, mixed},
		{corechannel.Active, "my wallet", alice, alice},
		{corechannel.Active, "", "6kbw37nPpKvJ5ppLcZ7dSuRp2rWqfo7bXDnPWCxQpXZZ", "6kbw37nPpKvJ5ppLcZ7dSuRp2rWqfo7bXDnPWCxQpXZZ"},
		{corechannel.Waiting, "", alice, ""},
	}
	for _, tt := range tests {
		s := corechannel.State{Nodes: []corechannel.Node{{
			Hash: "h", Owner: tt.owner, Status: tt.status, Profile: corechannel.Profile{Reward: tt.reward}, Standing: corechannel.Standing{Score: 1},
		}}}
		got := corechannel.DefaultRates().Daily(s)
		if _, ok := got[tt.want]; tt.want != "" && !ok || len(got) > 1 || tt.want == "" && len(got) != 0 {
			t.Errorf("%+v is paid to %v, want %q", s.Nodes[0], got, tt.want)
		}
	}
}
