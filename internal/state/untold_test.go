package state_test

import (
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestUntoldMessagesAreInTheirOrderUntilTheyAreDropped(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	put := func(hashes ...message.ItemHash) {
		t.Helper()
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutUntold(ctx, hashes) }); err != nil {
			t.Fatal(err)
		}
	}
	woken := db.Wake("untold")
	put()
	select {
	case <-woken:
		t.Error("somebody is woken for nothing")
	default:
	}
	put("c", "a")
	<-woken
	rows, err := db.Untold(ctx, 10)
	if err != nil || len(rows) != 2 || rows[0].Message != "c" || rows[1].Message != "a" {
		t.Fatalf("untold are %v, %v, want c, a", rows, err)
	}
	put("b") // Comes while those before are told.

	if err := db.Update(ctx, func(tx *state.Tx) error { return tx.DropUntold(ctx, rows[1].ID) }); err != nil {
		t.Fatal(err)
	}

	if rows, err = db.Untold(ctx, 10); err != nil || len(rows) != 1 || rows[0].Message != "b" {
		t.Errorf("left is %v, %v, want b", rows, err)
	}
}

func TestUntoldMessagesAreNoMoreThanABound(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	many := make([]message.ItemHash, state.UntoldMax)
	for i := range many {
		many[i] = "x"
	}
	many[0] = "first"
	for _, hashes := range [][]message.ItemHash{many, {"last"}} {
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutUntold(ctx, hashes) }); err != nil {
			t.Fatal(err)
		}
	}

	rows, err := db.Untold(ctx, 2*state.UntoldMax)

	if err != nil || len(rows) != state.UntoldMax || rows[0].Message == "first" || rows[len(rows)-1].Message != "last" {
		t.Errorf("there are %d from %v, %v, want %d without the first", len(rows), rows[0], err, state.UntoldMax)
	}
}
