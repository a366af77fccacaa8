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

func (c *comparison) challenges() {
	b, l := bindings.NewStorageRegistry(), c.l
	for _, id := range l.Challenges() {
		same(c, fmt.Sprintf("challenge %x", id), "StorageRegistry", b.PackChallengeOf(id), b.UnpackChallengeOf, l.Challenge(id))
	}
}

// TestChallengesThatAreArmed folds what needs randomness from outside.
func TestChallengesThatAreArmed(t *testing.T) {
	contracts := chain.Contracts{StorageRegistry: common.Address{1}}
	l, who := ledger.New(contracts, common.Address{}), common.Address{7}
	on := func(name string, indexed []int64, values ...any) types.Log {
		return event(t, contracts, "StorageRegistry", name, indexed, values...)
	}
	challenged := func(id int64, kind uint8) types.Log {
		return on("Challenged", []int64{id, 5}, kind, who, common.Address{}, common.Hash{4}, big.NewInt(3), big.NewInt(100))
	}
	armed := func(id int64) types.Log {
		return on("ChallengeArmed", []int64{id}, uint64(8), common.Hash{6}, big.NewInt(200))
	}
	for _, step := range []struct {
		log      types.Log
		id       byte
		state    uint8
		deadline int64
		want     error
	}{
		{armed(1), 1, 0, 0, errs.Conflict},
		{challenged(1, 1), 1, 1, 100, nil},
		{challenged(2, 4), 2, 2, 100, nil},
		{armed(1), 1, 2, 200, nil},
		{on("ChallengeAnswered", []int64{1}, who), 1, 3, 200, nil},
		{on("ChallengeExpired", []int64{1}, uint8(4)), 1, 3, 200, errs.Conflict},
		{on("ChallengeExpired", []int64{2}, uint8(4)), 2, 4, 100, nil},
	} {
		if err := l.Fold(50, []types.Log{step.log}); !errors.Is(err, step.want) {
			t.Errorf("fold: %v, want %v", err, step.want)
		}
		if v := l.Challenge([32]byte{31: step.id}); v.State != step.state || v.Deadline.Int64() != step.deadline {
			t.Errorf("the challenge is %+v, want state %d until %d", v, step.state, step.deadline)
		}
	}
	if v := l.Challenge([32]byte{31: 1}); v.Round != 8 || v.Seed != (common.Hash{6}) || v.OpenedAt.Int64() != 50 || v.Id.Int64() != 5 {
		t.Errorf("the challenge that was armed is %+v", v)
	}
}
