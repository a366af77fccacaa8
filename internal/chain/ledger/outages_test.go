package ledger_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/ledger"
)

// TestOutages folds what needs a feed that says that the sequencer was down.
func TestOutages(t *testing.T) {
	contracts := chain.Contracts{SLAManager: common.Address{1}}
	l := ledger.New(contracts, common.Address{})
	for i := range int64(34) { // The first two are forgotten.
		from := 1000 * (i + 1)
		log := event(t, contracts, "SLAManager", "OutageRecorded", []int64{i}, big.NewInt(from), big.NewInt(from+100))
		if err := l.Fold(uint64(from)+200, []types.Log{log}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		from, to uint64
		want     uint32
	}{{0, 2999, 0}, {0, 3050, 50}, {3050, 4050, 100}, {0, 100_000, 3200}, {34_100, 100_000, 0}} {
		if got := l.Outage(tt.from, tt.to); got != tt.want {
			t.Errorf("between %d and %d it was down for %d s, want %d", tt.from, tt.to, got, tt.want)
		}
	}
	log := event(t, contracts, "SLAManager", "OutageRecorded", []int64{99}, big.NewInt(200_000), big.NewInt(900_000))
	if err := l.Fold(900_000, []types.Log{log}); err != nil {
		t.Fatal(err)
	}
	if got := l.Outage(0, 1_000_000); got != 48*3600 {
		t.Errorf("a long outage counts %d s, want two days", got)
	}
}
