package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func TestRequestsAreUsedOnceAndForgottenInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_700_000_000, 0)
	use := func(id string, after time.Duration, want bool) {
		t.Helper()
		now := start.Add(after)
		err := db.Update(t.Context(), func(tx *state.Tx) error {
			fresh, err := tx.UseRequest(t.Context(), id, now, now.Add(time.Minute))
			if err == nil && fresh != want {
				t.Errorf("%s after %s: fresh is %t, want %t", id, after, fresh, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	use("a", 0, true)
	use("a", 59*time.Second, false)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = state.Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	use("a", 59*time.Second, false)
	for i := range 200 {
		use(fmt.Sprint(i), time.Duration(i)*time.Second, true)
	}
	use("10", 190*time.Second, true) // It had been forgotten.
	use("199", 200*time.Second, false)
}

func TestNoListFollowsANewerOne(t *testing.T) {
	t.Parallel()
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for _, tt := range []struct {
		signer string
		at     int64
		want   bool
	}{{"a", 10, true}, {"a", 10, true}, {"a", 12, true}, {"a", 11, false}, {"b", 1, true}, {"a", 12, true}} {
		err := db.Update(t.Context(), func(tx *state.Tx) error {
			newest, err := tx.TakeList(t.Context(), tt.signer, tt.at)
			if err == nil && newest != tt.want {
				t.Errorf("list of %s of %d: newest is %t, want %t", tt.signer, tt.at, newest, tt.want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
