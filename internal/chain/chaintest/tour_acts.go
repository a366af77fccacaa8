package chaintest

import (
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// tourJobs opens jobs until one pays for an image that is taken down.
func (w *Walk) tourJobs() {
	w.tb.Helper()
	for range 4 {
		w.must("open", soon)
		w.must("confirm", time.Second)
		w.must("pull", time.Hour)
	}
	w.must("claim", time.Hour)
	w.must("stop", soon)
	images := bindings.NewImageMarketplace()
	for range 40 {
		w.must("open", soon)
		w.must("confirm", time.Second)
		for seq := uint32(1); seq <= 4; seq++ { // Those of furnish.
			w.make("takedown", move{key: w.net.Admin.Key, contract: "ImageMarketplace", data: images.PackTakedown(seq, w.hash())})
		}
		ended := w.Make("endRoyalties", soon)
		for seq := uint32(1); seq <= 4; seq++ {
			w.make("restore", move{key: w.net.Admin.Key, contract: "ImageMarketplace", data: images.PackRestore(seq)})
		}
		if ended {
			return
		}
	}
	w.tb.Fatal("no job pays for an image")
}

func (w *Walk) tourMoney() {
	w.tb.Helper()
	w.mustAll("setLimits", "sponsor", "setAutoSwap", "setRoute", "selfHeartbeat", "unpause", "renewPause")
}

// tourNames lets names change hands by DNS.
func (w *Walk) tourNames() {
	w.tb.Helper()
	defer func() { w.focus.name = "" }()
	for i := range 3 {
		w.focus.name = fmt.Sprintf("host%d.example.org", i)
		w.Make("snapshot", soon)
		w.must("verify", soon, "request")
		w.must("dispute", soon, "request")
		w.must("settleDispute", answerTime)
	}
}

// tourDays commits objects, of which some days are missed and some attested.
func (w *Walk) tourDays() {
	w.tb.Helper()
	for range 3 {
		w.must("commit", soon, "enlist")
	}
	for i := range 4 {
		w.pass(untilTomorrow(w.now()))
		w.must("publishBeacon", soon)
		if w.Make("snapshot", soon); i%2 == 0 {
			w.must("attestDay", soon)
		}
	}
	w.must("reportMissed", 31*time.Hour, "publishBeacon", "commit")
	w.must("challenge", 25*time.Hour, "commit")
	w.must("expireChallenge", answerTime)
}

func untilTomorrow(now uint64) time.Duration {
	return time.Duration(day-now%day+beaconDelay) * time.Second
}

// tourPlacements lets a second compute node join, and gives jobs that are its to
// the first.
func (w *Walk) tourPlacements() {
	w.tb.Helper()
	key := w.keyOf("rival")
	w.keys[addressOf(key)] = key
	w.join(deploy.Node{Owner: w.net.Owner.Key, Signer: key, Kind: job.KindCompute, PeerID: []byte("rival"), EtherWei: Aleph(1)})
	w.pass(untilTomorrow(w.now()) + 3*time.Hour)
	w.mustAll("publishBeacon")
	w.Make("snapshot", soon)
	w.mustAll("heartbeats", "openByNeeds", "openByNeeds", "openByNeeds", "openByNeeds", "openByNeeds")
	for range 4 {
		w.mustAll("challengePlacement")
	}
	w.mustAll("answerDecline", "answerSilence")
	w.must("settleChallenge", 25*time.Hour)
}

// join lets nodes join, which leaves their owners' approvals spent.
func (w *Walk) join(nodes ...deploy.Node) []uint32 {
	w.tb.Helper()
	stop := w.net.Run(w.tb)
	ids, err := deploy.Join(w.tb.Context(), w.net.Client, w.net.Deployment.Contracts, nodes...)
	stop()
	if err != nil {
		w.tb.Fatal(err)
	}
	w.approve(w.net.Owner.Key, "StakingManager", Aleph(100_000_000))
	return ids
}

// tourStakes lets pools grow, and all leave while rewards drip.
func (w *Walk) tourStakes() {
	w.tb.Helper()
	w.mustAll("register", "stake", "delegate", "addRewards", "requestUnstake", "delegate", "syncVotes", "addRewards", "undelegate")
	for range 40 {
		if !w.Make("undelegate", soon) {
			return
		}
	}
}

// tourAccess gives roles out and takes them back, and lets who has one use it. What
// was scheduled first cannot be made any more; the rest could, were it not made or
// called off.
func (w *Walk) tourAccess() {
	w.tb.Helper()
	c := bindings.NewAccessManager()
	w.mustAll("labelRole", "setGrantDelay", "setRoleGuardian", "setFunctionRole", "setTargetDelay")
	for range 12 {
		w.must("grantRole", soon)
	}
	w.must("schedule", soon, "grantRole")
	w.pass(11 * 24 * time.Hour)
	for range 3 {
		w.must("schedule", soon, "grantRole")
	}
	w.must("cancelScheduled", soon)
	w.must("executeScheduled", answerTime, "schedule", "grantRole")
	w.must("schedule", soon, "grantRole")
	w.must("revokeRole", soon)
	w.must("renounceRole", soon, "grantRole")
	w.mustAll("setTargetDelay", "setGrantDelay")
	for kind, data := range map[string][]byte{
		"setRoleAdmin": c.PackSetRoleAdmin(firstRole, firstRole+1),
		"closeTarget":  c.PackSetTargetClosed(addressOf(w.people[0]), true),
	} {
		w.mustMake(kind, move{key: w.net.Admin.Key, contract: "AccessManager", data: data})
	}
}

// tourUpgrades leaves contracts of which an upgrade was carried out, was called off
// and can still be.
func (w *Walk) tourUpgrades() {
	w.tb.Helper()
	c, all := bindings.NewNodeRegistry(), based()
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	code := func(contract string) common.Address { return w.net.Deployment.Implementations[contract].Address }
	byAdmin := func(kind, contract string, data []byte) {
		w.mustMake(kind, move{key: w.net.Admin.Key, contract: contract, data: data})
	}
	for _, contract := range all {
		byAdmin("announceUpgrade", contract, c.PackAnnounceUpgrade(code(contract)))
	}
	w.pass(7*24*time.Hour + soon)
	for _, contract := range all[:2] {
		byAdmin("upgrade", contract, c.PackUpgradeToAndCall(code(contract), nil))
	}
	byAdmin("cancelUpgrade", all[2], c.PackCancelUpgrade())
	byAdmin("announceUpgrade", all[1], c.PackAnnounceUpgrade(code("AlephGovernor")))
}

// tourCases accuses nodes: one case goes up to governance, some nobody answers, and
// of those the guardian vetoes two.
func (w *Walk) tourCases() {
	w.tb.Helper()
	c := bindings.NewSLAManager()
	w.focus.node = w.net.Compute.ID // No coordinator: it could not judge itself.
	w.must("accuse", soon)
	w.focus = focus{caseID: w.cases[len(w.cases)-1]}
	w.mustAll("defend", "escalate", "resolve", "appeal", "decideCase")
	w.focus = focus{}
	for range 8 {
		w.must("accuse", soon)
	}
	w.must("finalizeCase", answerTime)
	for range 10 {
		w.Make("finalizeCase", soon)
	}
	w.mustAll("veto", "veto")
	for guilty, id := range w.casesIn(caseVetoed) {
		w.make("decideCase", move{key: w.net.Admin.Key, contract: "SLAManager", data: c.PackGovernanceResolve(id, guilty == 0)})
	}
	w.must("finalizeCase", answerTime) // Then the guardian can veto no longer.
	for range 12 {
		w.Make("finalizeCase", soon)
	}
	w.must("burnPenalties", soon)
}

// casesIn returns the cases in a state.
func (w *Walk) casesIn(state uint8) (ids [][32]byte) {
	c := bindings.NewSLAManager()
	for _, id := range w.cases {
		v, err := c.UnpackCaseOf(w.view("SLAManager", c.PackCaseOf(id)))
		if err != nil {
			w.tb.Fatal(err)
		}
		if v.State == state {
			ids = append(ids, id)
		}
	}
	return ids
}
