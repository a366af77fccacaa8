package operator_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

func TestReplaysAreForgottenInTime(t *testing.T) {
	start := time.Unix(1700000000, 0)
	r := operator.NewReplays(time.Minute, 5, 3)
	op := func(i byte) [32]byte { return [32]byte{i} }
	take := func(at time.Duration, signer string, i byte, want error) {
		t.Helper()
		if err := r.Take(signer, op(i), start.Add(at)); !errors.Is(err, want) {
			t.Errorf("operation %d of %s after %s: %v, want %v", i, signer, at, err, want)
		}
	}
	take(0, "0xA", 1, nil)
	take(0, "0xa", 1, operator.ErrReplay)
	take(0, "0xb", 1, nil)
	take(59*time.Second, "0xa", 2, nil)
	take(59*time.Second, "0xa", 3, nil)
	take(59*time.Second, "0xa", 4, operator.ErrReplaysFull) // Of one signer.
	take(60*time.Second, "0xb", 2, nil)
	take(60*time.Second, "0xc", 1, operator.ErrReplaysFull) // Of all.
	take(118*time.Second, "0xa", 2, operator.ErrReplay)     // Not older than a minute.
	take(-time.Hour, "0xa", 2, operator.ErrReplay)          // The clock was set back.
	take(121*time.Second, "0xa", 2, nil)
	take(400*time.Second, "0xa", 2, nil)
}
