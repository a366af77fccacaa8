package state_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func syncEvent(tx string, number uint64) state.SyncEvent {
	return state.SyncEvent{Tx: tx, Number: number, Chain: message.Ethereum, At: 7, Publisher: "0xP", Text: "{}", Status: state.SyncWaiting}
}

func TestEventsAreKept(t *testing.T) {
	db := open(t, t.TempDir())
	ctx, now := t.Context(), time.Unix(1000, 0)
	want := filled[state.SyncEvent](t)
	want.Chain, want.Status, want.Source = message.Ethereum, state.SyncDone, ""
	again := syncEvent("0xb", 3)
	again.RetryAt = now.UTC()
	later := syncEvent("0xc", 1)
	later.RetryAt = now.Add(time.Microsecond).UTC()
	second := syncEvent("0xa", 4)
	second.Index = 2
	update(t, db, func(tx *state.Tx) error {
		for _, e := range []state.SyncEvent{want, syncEvent("0xa", 5), second, again, later} {
			if err := tx.PutSyncEvent(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})

	got, err := db.SyncEvent(ctx, want.Key())
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, *got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	name := func(e state.SyncEvent) string { return e.Key() }
	found, err := db.SyncEventsDue(ctx, now, false, 9)
	list(t, "new events", name, "0xa/2 0xa/0", found, err)
	found, err = db.SyncEventsDue(ctx, now, true, 9)
	list(t, "events to be tried again", name, "0xb/0", found, err)
	found, err = db.SyncEventsAbove(ctx, 3, 2)
	list(t, "the newest events", name, want.Key()+" 0xa/0", found, err)
	if n, err := db.CountSyncEvents(ctx, "", state.SyncWaiting); err != nil || n != 4 {
		t.Errorf("%d events wait, %v, want 4", n, err)
	}
	tr, err := db.SyncTransaction(ctx, message.Ethereum, "0xb")
	if err != nil || *tr != (state.Transaction{Chain: message.Ethereum, Hash: "0xb", Height: 3, At: time.Unix(7, 0).UTC(), Publisher: "0xP"}) {
		t.Errorf("transaction %+v, %v", tr, err)
	}
	update(t, db, func(tx *state.Tx) error { return tx.DropSyncEvent(ctx, "0xb/0") })
	if _, err := db.SyncTransaction(ctx, message.Ethereum, "0xb"); !errors.Is(err, errs.NotFound) {
		t.Errorf("a transaction that is gone: %v", err)
	}
}

// syncBlocks puts blocks of the chain that confirms messages.
func syncBlocks(t *testing.T, db *state.DB, numbers ...uint64) {
	t.Helper()
	update(t, db, func(tx *state.Tx) error {
		for _, n := range numbers {
			if err := tx.PutSyncBlock(t.Context(), state.Block{Number: n, Hash: blockHash(n)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestBlocksThatAreRead(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	if _, err := db.SyncHead(ctx); !errors.Is(err, errs.NotFound) {
		t.Errorf("before the first block: %v", err)
	}
	name := func(b state.Block) string { return fmt.Sprint(b.Number) }
	syncBlocks(t, db, 3, 7, 9, 12)
	if _, err := db.Head(ctx); !errors.Is(err, errs.NotFound) {
		t.Errorf("the product's chain has a block: %v", err)
	}

	update(t, db, func(tx *state.Tx) error { return tx.ForgetSyncBlocks(ctx, 8) })
	found, err := db.SyncBlocks(ctx, 0)
	list(t, "blocks from the newest that is deep", name, "12 9 7", found, err)
	update(t, db, func(tx *state.Tx) error { return tx.ForgetSyncBlocks(ctx, 6) })
	update(t, db, func(tx *state.Tx) error { return tx.DropSyncBlocks(ctx, 9) })
	found, err = db.SyncBlocks(ctx, 0)
	list(t, "blocks below", name, "9 7", found, err)
	if head, err := db.SyncHead(ctx); err != nil || head.Number != 9 {
		t.Errorf("head %+v, %v, want 9", head, err)
	}
}

func TestLanesAreApart(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	lane := func(key string) state.Intent { return state.Intent{Key: key, Lane: state.LaneSync} }
	if _, err := db.Intents(state.LaneSync).Last(ctx); !errors.Is(err, errs.NotFound) {
		t.Errorf("the last of none: %v", err)
	}
	enqueue(t, db, map[string]func(*state.Intent){
		"old": done(3, blockHash(99)), "gone": done(8, blockHash(99)), "stays": done(9, blockHash(9)), "above": done(13, blockHash(99)), "mine": done(8, blockHash(99)),
	}, lane("old"), lane("gone"), lane("stays"), lane("above"), state.Intent{Key: "mine"}, lane("new"), state.Intent{Key: "new of mine"})
	got, err := db.Intents(state.LaneSync).Orphaned(ctx, 9)
	list(t, "without blocks", intentName, "", got, err)

	syncBlocks(t, db, 7, 9, 12)
	chainOf(t, db, 8, 8)

	got, err = db.Intents(state.LaneSync).Orphaned(ctx, 9)
	list(t, "mined in a block that is not kept", intentName, "gone", got, err)
	got, err = db.Intents(state.LaneNode).Orphaned(ctx, 9)
	list(t, "of the node", intentName, "mine", got, err)
	got, err = db.Intents(state.LaneSync).Due(ctx, time.Now(), false, 9)
	list(t, "due", intentName, "new", got, err)
	got, err = db.IntentsWith(ctx, 9, state.IntentPending)
	list(t, "of the node", intentName, "new of mine", got, err)
	if n, err := db.Intents(state.LaneSync).Count(ctx, state.IntentPending); err != nil || n != 1 {
		t.Errorf("%d intents are pending, %v, want 1", n, err)
	}
	if last, err := db.Intents(state.LaneSync).Last(ctx); err != nil || last.Key != "new" {
		t.Errorf("the last is %+v, %v", last, err)
	}
}

func TestUnconfirmedMessagesAreFoundOldestFirst(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	var all []*state.Message
	update(t, db, func(tx *state.Tx) error {
		for i := range int64(6) {
			all = append(all, post(t, "A", 6-i))
		}
		if err := tx.AddMessages(ctx, all); err != nil {
			return err
		}
		if err := tx.SetMessageStatus(ctx, all[1], state.MessageRemoving, "unpaid"); err != nil {
			return err
		}
		_, err := tx.PutConfirmation(ctx, all[4], state.Transaction{Chain: message.Ethereum, Hash: "0xa", Height: 1, At: at(1)})
		return err
	})
	unconfirmed := func(limit int64, take int) (out string) {
		t.Helper()
		err := db.View(ctx, func(v *state.View) error {
			return v.EachUnconfirmed(ctx, limit, func(m *state.Message) bool {
				out += fmt.Sprint(m.ID)
				return len(out) < take
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := unconfirmed(9, 9); got != "5320" {
		t.Errorf("messages %s, want 5320", got)
	}
	if got := unconfirmed(2, 9); got != "53" {
		t.Errorf("two messages: %s, want 53", got)
	}
	if got := unconfirmed(9, 3); got != "532" {
		t.Errorf("until enough: %s, want 532", got)
	}
	update(t, db, func(tx *state.Tx) error { return tx.DropConfirmations(ctx, message.Ethereum, "0xa") })
	if got := unconfirmed(9, 9); got != "54320" {
		t.Errorf("after a confirmation is taken back: %s, want 54320", got)
	}
}

func TestIntentsInVainThatArePinned(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	refused := func(at uint64) func(*state.Intent) {
		return func(i *state.Intent) { i.Status, i.MinedAt = state.IntentReverted, at }
	}
	lane := func(key string) state.Intent { return state.Intent{Key: key, Lane: state.LaneSync} }
	enqueue(t, db, map[string]func(*state.Intent){
		"deep": refused(5), "new": refused(6), "never": refused(0), "loose": refused(1), "done": done(1, blockHash(1)), "mine": refused(1),
	}, lane("deep"), lane("new"), lane("never"), lane("loose"), lane("done"), lane("waits"), state.Intent{Key: "mine"})
	update(t, db, func(tx *state.Tx) error {
		for _, key := range []string{"deep", "new", "never", "done", "waits", "mine"} {
			if err := tx.PutPin(ctx, state.Pin{Key: "p:" + key, Kind: state.PinTx, File: "f"}); err != nil {
				return err
			}
		}
		return nil
	})

	got, err := db.Intents(state.LaneSync).Vain(ctx, "p:", 5, 0, 9)
	list(t, "in vain", intentName, "deep never", got, err)
	got, err = db.Intents(state.LaneSync).Vain(ctx, "p:", 5, 0, 1)
	list(t, "the first in vain", intentName, "deep", got, err)
	got, err = db.Intents(state.LaneSync).Vain(ctx, "p:", 5, got[0].Seq, 9)
	list(t, "those after the first", intentName, "never", got, err)
}

// TestIndexersNameTheirOwnEvents: what one says of a transaction stands beside what this
// node read, and counts for its own chain alone.
func TestIndexersNameTheirOwnEvents(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	told := syncEvent("0xa", 7)
	told.Source, told.Chain, told.Sender, told.Micros = "BSC", "BSC", "0xS", 5
	want := state.SyncSource{Name: "BSC", Cursor: []byte(`{"done":[]}`), Events: 3}
	update(t, db, func(tx *state.Tx) error {
		if err := tx.PutSyncSource(ctx, want); err != nil {
			return err
		}
		if err := tx.PutSyncEvent(ctx, syncEvent("0xa", 5)); err != nil {
			return err
		}
		return tx.PutSyncEvent(ctx, told)
	})

	if got, err := db.SyncEvent(ctx, "BSC/0xa/0"); err != nil || *got != told {
		t.Errorf("told %+v, %v, want %+v", got, err, told)
	}
	got, err := db.SyncSource(ctx, "BSC")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, *got); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if _, err := db.SyncSource(ctx, "TEZOS"); !errors.Is(err, errs.NotFound) {
		t.Errorf("a source that nobody read: %v", err)
	}
	for of, height := range map[message.Chain]int64{message.Ethereum: 5, "BSC": 7, "TEZOS": 0} {
		found, err := db.SyncTransaction(ctx, of, "0xa")
		if height == 0 && errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil || found.Height != height || found.Chain != of {
			t.Errorf("transaction of %s: %+v, %v, want it at %d", of, found, err, height)
		}
	}
	name := func(e state.SyncEvent) string { return e.Key() }
	above, err := db.SyncEventsAbove(ctx, 0, 9)
	list(t, "events of the chain that is read", name, "0xa/0", above, err)
	for _, source := range []string{"", "BSC"} {
		if n, err := db.CountSyncEvents(ctx, source, state.SyncWaiting); err != nil || n != 1 {
			t.Errorf("%d events of %q wait, %v, want 1", n, source, err)
		}
	}
}
