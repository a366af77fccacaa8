package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestTheHistoryIsInTheOrderOfProcessing(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	continues := func(place int64, hash message.ItemHash, want bool) {
		t.Helper()
		if got, err := db.Continues(ctx, place, hash); err != nil || got != want {
			t.Errorf("Continues(%d, %.4s) = %v, %v", place, hash, got, err)
		}
	}
	continues(0, "x", false)
	var all []*state.Message
	for i := range 5 {
		m := post(t, "owner", int64(i+1))
		all = append(all, m)
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.AddMessages(ctx, []*state.Message{m}) }); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(i int) message.ItemHash { return all[i].Envelope.ItemHash }
	for _, i := range []int{1, 4} {
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveMessage(ctx, all[i]) }); err != nil {
			t.Fatal(err)
		}
	}

	places, err := db.History(ctx, 0, 2)
	if err != nil || len(places) != 2 || places[0] != (state.Place{ID: 0, Message: hash(0)}) || places[1] != (state.Place{ID: 2, Message: hash(2)}) {
		t.Errorf("the first two are %v, %v", places, err)
	}
	if places, err = db.History(ctx, 3, 10); err != nil || len(places) != 1 || places[0].Message != hash(3) {
		t.Errorf("from 3 on there are %v, %v", places, err)
	}
	continues(3, hash(3), true)
	continues(3, hash(2), false)
	continues(4, hash(2), true) // It is gone: nobody can tell.
	continues(5, hash(4), false)
	// A place is not given out twice.
	next := post(t, "owner", 9)
	if err := db.Update(ctx, func(tx *state.Tx) error { return tx.AddMessages(ctx, []*state.Message{next}) }); err != nil || next.ID != 5 {
		t.Errorf("the next place is %d, %v", next.ID, err)
	}
}

func TestRowsAreNamedOnce(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	if _, err := db.DatabaseName(ctx); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a name nobody gave: %v", err)
	}
	for _, name := range []string{"first", "second"} {
		err := db.Update(ctx, func(tx *state.Tx) error {
			got, err := tx.NameDatabase(ctx, name)
			if got != "first" {
				t.Errorf("named %s", got)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if name, err := db.DatabaseName(ctx); err != nil || name != "first" {
		t.Errorf("the name is %s, %v", name, err)
	}
}

func TestReadingsAreNoMoreThanABound(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	put := func(peer string, at int64) {
		t.Helper()
		r := state.Reading{Database: "d", Next: at, Last: message.HashOf(nil), At: time.Unix(at, 0).UTC()}
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutReading(ctx, peer, r) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Reading(ctx, "peer 0"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("of a peer that was not read: %v", err)
	}
	for i := range state.ReadingsMax {
		put(fmt.Sprint("peer ", i), int64(i+1))
	}
	put("peer 0", 1000) // It is read on, and not the oldest any more.
	put("one more", 1001)

	for peer, want := range map[string]int64{"peer 0": 1000, "peer 2": 3, "one more": 1001} {
		if r, err := db.Reading(ctx, peer); err != nil || r.Next != want || r.Database != "d" || r.Last != message.HashOf(nil) {
			t.Errorf("%s: %+v, %v", peer, r, err)
		}
	}
	if _, err := db.Reading(ctx, "peer 1"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("of the one that was read longest ago: %v", err)
	}
}
