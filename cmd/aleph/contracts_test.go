package main

import (
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph/alephtest"
)

// world is what a script may have besides its node.
type world struct{ net *chaintest.Net }

type worldKey struct{}

// worldCommands are the commands of scripts that need the contracts: node 1 is
// a coordinator, node 2 a compute node.
func worldCommands(t *testing.T) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	t.Helper()
	on := func(act func(ts *testscript.TestScript, n *chaintest.Net, args []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, _ bool, args []string) {
			act(ts, ts.Value(worldKey{}).(*world).net, args)
		}
	}
	spec, staking := chaintest.Spec("job"), bindings.NewStakingManager()
	return map[string]func(*testscript.TestScript, bool, []string){
		// contracts gives the script a chain of its own with the contracts on
		// it, the key of the nodes' owner in owner.key, the address in OWNER.
		"contracts": func(ts *testscript.TestScript, _ bool, _ []string) {
			n := chaintest.Start(t)
			ts.Defer(n.Run(t))
			ts.Value(worldKey{}).(*world).net = n
			settle(ts, n)
		},
		// require sets the ALEPH that a compute node must have staked.
		"require": on(func(ts *testscript.TestScript, n *chaintest.Net, args []string) {
			n.Do(t, n.Admin.Key, "StakingManager", staking.PackSetRequirement(uint8(job.KindCompute), amount(ts, args[0]).Big()))
		}),
		// stake adds ALEPH to the stake of the compute node.
		"stake": on(func(ts *testscript.TestScript, n *chaintest.Net, args []string) {
			wei := amount(ts, args[0]).Big()
			n.Do(t, n.Owner.Key, "AlephToken", bindings.NewAlephToken().PackApprove(n.Deployment.Contracts.StakingManager, wei))
			n.Do(t, n.Owner.Key, "StakingManager", staking.PackStake(n.Compute.ID, wei))
		}),
		// job opens a job on the compute node, or stops it.
		"job": on(func(_ *testscript.TestScript, n *chaintest.Net, args []string) {
			if args[0] == "stop" {
				n.Stop(t, spec)
				return
			}
			n.Open(t, spec, chaintest.RateQ32(1))
			n.Confirm(t, spec)
		}),
		// later lets the time of unbonding go by.
		"later": on(func(_ *testscript.TestScript, n *chaintest.Net, _ []string) {
			const unbonding = 15 * 24 * time.Hour // and a day
			n.Chain.IncreaseTime(unbonding)
			n.Mine(t)
		}),
	}
}

// settle points a script at a chain.
func settle(ts *testscript.TestScript, n *chaintest.Net) {
	c := n.Deployment.Contracts
	ts.Value(nodeKey{}).(*alephtest.Node).SetInfo(func(i *aleph.Info) {
		i.Contracts = aleph.Contracts{
			AlephToken: c.AlephToken, NodeRegistry: c.NodeRegistry, StakingManager: c.StakingManager,
			JobManager: c.JobManager, PaymentManager: c.PaymentManager, AccessManager: c.AccessManager,
		}
	})
	ts.Setenv("ALEPH_RPC", n.Chain.URL())
	ts.Setenv("OWNER", n.Owner.Address.Hex())
	ts.Check(os.WriteFile(ts.MkAbs("owner.key"), []byte(hex.EncodeToString(crypto.FromECDSA(n.Owner.Key))), 0o600))
}

func amount(ts *testscript.TestScript, text string) aleph.Wei {
	w, err := aleph.ParseTokens(text)
	ts.Check(err)
	return w
}
