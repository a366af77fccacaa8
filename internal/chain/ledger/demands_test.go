package ledger_test

import (
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/ledger"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func (c *comparison) demands() {
	b, l := bindings.NewNodeRegistry(), c.l
	for _, at := range l.Demands() {
		same(c, fmt.Sprintf("demand %v", at), "NodeRegistry", b.PackLeafDemand(at.Epoch, at.NodeID), b.UnpackLeafDemand, l.LeafDemand(at))
	}
	now := uint32(c.now / 3600)
	for _, id := range l.Nodes() {
		for epoch := now - 24; epoch <= now; epoch++ {
			name := fmt.Sprintf("node %d in epoch %d by itself", id, epoch)
			same(c, name, "NodeRegistry", b.PackHasSelfHeartbeat(id, epoch), b.UnpackHasSelfHeartbeat, l.HasSelfHeartbeat(id, epoch))
		}
	}
}

func (c *comparison) pauses() {
	b := bindings.NewNodeRegistry() // All contracts have the same.
	for _, contract := range []string{
		"NodeRegistry", "StakingManager", "JobManager", "PaymentManager", "StorageRegistry", "DomainRegistry", "ImageMarketplace", "SLAManager",
	} {
		same(c, "pause of "+contract, contract, b.PackPauseState(), b.UnpackPauseState, c.l.PauseState(contract, c.now))
	}
}

// TestDemandsOfLeaves folds what takes ether and a day.
func TestDemandsOfLeaves(t *testing.T) {
	contracts := chain.Contracts{NodeRegistry: common.Address{1}}
	l, who := ledger.New(contracts, common.Address{}), common.Address{7}
	on := func(name string, indexed []int64, values ...any) types.Log {
		return event(t, contracts, "NodeRegistry", name, indexed, values...)
	}
	for _, step := range []struct {
		log   types.Log
		node  uint32
		state uint8
		want  error
	}{
		{on("LeafAnswered", []int64{9, 1}, common.Hash{3}, who), 1, 0, errs.Conflict},
		{on("LeafDemanded", []int64{9, 1}, who, big.NewInt(900)), 1, 1, nil},
		{on("LeafDemanded", []int64{9, 2}, who, big.NewInt(900)), 2, 1, nil},
		{on("LeafAnswered", []int64{9, 1}, common.Hash{3}, who), 1, 2, nil},
		{on("LeafWithheld", []int64{9, 1, 4}, who), 1, 2, errs.Conflict},
		{on("LeafWithheld", []int64{9, 2, 4}, who), 2, 3, nil},
		{on("LeafWithheld", []int64{9, 2, 5}, who), 2, 3, nil}, // Of each coordinator that signed.
		{on("LeafAnswered", []int64{9, 2}, common.Hash{3}, who), 2, 3, errs.Conflict},
	} {
		if err := l.Fold(50, []types.Log{step.log}); !errors.Is(err, step.want) {
			t.Errorf("fold: %v, want %v", err, step.want)
		}
		if d := l.LeafDemand(ledger.Demand{Epoch: 9, NodeID: step.node}); d.Arg2 != step.state || d.Arg2 != 0 && (d.Arg0 != who || d.Arg1.Int64() != 50) {
			t.Errorf("the demand is %+v, want state %d", d, step.state)
		}
	}
}

// TestHeartbeatsThatAreForgotten folds a node's own over more than a week.
func TestHeartbeatsThatAreForgotten(t *testing.T) {
	contracts := chain.Contracts{NodeRegistry: common.Address{1}}
	l := ledger.New(contracts, common.Address{})
	for _, epoch := range []int64{1001, 1000, 1224} {
		if err := l.Fold(1, []types.Log{event(t, contracts, "NodeRegistry", "SelfHeartbeat", []int64{3, epoch})}); err != nil {
			t.Fatal(err)
		}
	}
	for epoch, want := range map[uint32]bool{1000: false, 1001: true, 1002: false, 1224: true} {
		if got := l.HasSelfHeartbeat(3, epoch); got != want {
			t.Errorf("in epoch %d it spoke: %t, want %t", epoch, got, want)
		}
	}
}
