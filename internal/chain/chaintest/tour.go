package chaintest

import (
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const (
	soon = time.Minute
	// answerTime is longer than any party has to answer.
	answerTime = 80 * time.Hour
	// roundsMax is how often must lets time pass and draws again.
	roundsMax = 12
)

// Tour makes at least one call of each kind that a short random sequence may not
// make, whatever the seed; a call that cannot be made fails the test. It needs a
// new net, and leaves it so that a random sequence can go on. After each act, of
// which the name says what it was about, it calls back.
func (w *Walk) Tour(after func(act string)) {
	w.tb.Helper()
	for _, act := range []struct {
		name string
		make func()
	}{
		{"jobs", w.tourJobs},
		{"money", w.tourMoney},
		{"names", w.tourNames},
		{"days", w.tourDays},
		{"placements", w.tourPlacements},
		{"stakes", w.tourStakes},
		{"access", w.tourAccess},
		{"upgrades", w.tourUpgrades},
		{"votes", w.tourVotes},
		{"cases", w.tourCases},
	} {
		act.make()
		after(act.name)
		w.mend()
	}
}

// must makes a call of a kind, or fails the test. Each time that none can be made
// it makes calls of the kinds that help.
func (w *Walk) must(kind string, after time.Duration, help ...string) {
	w.tb.Helper()
	for range roundsMax {
		if w.Make(kind, after) {
			return
		}
		for _, other := range help {
			w.Make(other, soon)
		}
	}
	w.tb.Fatalf("no call of the kind %s could be made: refused %v", kind, w.Refused)
}

func (w *Walk) mustAll(kinds ...string) {
	w.tb.Helper()
	for _, kind := range kinds {
		w.must(kind, soon)
	}
}

// mend lets work go on that penalties, pauses and governance have stopped.
func (w *Walk) mend() {
	w.tb.Helper()
	c := bindings.NewNodeRegistry()
	for _, contract := range based() {
		w.make("unpause", move{key: w.net.Admin.Key, contract: contract, data: c.PackUnpause()})
	}
	w.make("relist", move{key: w.net.Admin.Key, contract: "PaymentManager", data: bindings.NewPaymentManager().PackRelistToken(walkToken)})
	for _, id := range []uint32{w.net.Coord.ID, w.net.Compute.ID} {
		w.revive(id)
	}
	w.make("snapshot", move{key: w.person(), contract: "NodeRegistry", data: c.PackSnapshotCoordinators()})
}

// revive brings a node back to work.
func (w *Walk) revive(id uint32) {
	w.tb.Helper()
	c, s := bindings.NewNodeRegistry(), bindings.NewStakingManager()
	v, err := c.UnpackNode(w.view("NodeRegistry", c.PackNode(id)))
	if err != nil {
		w.tb.Fatal(err)
	}
	owner := w.keys[v.Owner]
	if v.Status == statusActive {
		return
	}
	w.net.Chain.IncreaseTime(2 * answerTime) // No jail of a case lasts longer.
	w.net.Mine(w.tb)
	w.make("unjail", move{key: owner, contract: "NodeRegistry", data: c.PackUnjail(id)})
	w.make("stake", move{key: owner, contract: "StakingManager", data: s.PackStake(id, Aleph(1000))})
	w.make("activate", move{key: owner, contract: "NodeRegistry", data: c.PackActivate(id)})
	if v, err = c.UnpackNode(w.view("NodeRegistry", c.PackNode(id))); err != nil || v.Status != statusActive {
		w.tb.Fatalf("node %d does not work again: %+v, %v", id, v, err)
	}
}

// pass lets some time pass.
func (w *Walk) pass(d time.Duration) {
	w.tb.Helper()
	w.net.Chain.IncreaseTime(d)
	w.net.Mine(w.tb)
}
