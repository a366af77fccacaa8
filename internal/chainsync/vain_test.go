package chainsync_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// published is a node that has published an archive, with its intent and its pin.
func (w *world) published(t *testing.T) (a *member, first *state.Intent, pin *state.Pin) {
	t.Helper()
	a = w.open(t.TempDir(), w.config(), nil)
	_, raw := w.post("a")
	a.submit(raw)
	a.sync()
	a.publish(1)
	first, err := a.db.Intents(state.LaneSync).Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if pin, err = a.db.Pin(t.Context(), "archive:"+first.Key); err != nil {
		t.Fatal(err)
	}
	return a, first, pin
}

// TestAnArchiveIsKeptWhileItMayLand: the publisher keeps it as long as its transaction
// may be mined yet, and lets go of it when that is known never to be.
func TestAnArchiveIsKeptWhileItMayLand(t *testing.T) {
	w := newWorld(t)
	a, first, pin := w.published(t)
	if pin.Kind != state.PinTx || !pin.Until.IsZero() {
		t.Fatalf("pin %+v", pin)
	}
	w.mine(2)
	head, err := w.client.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := []state.SentTx{{Hash: common.Hash{7}}}
	mined := func(in common.Hash, status state.IntentStatus) func(*state.Intent) {
		return func(i *state.Intent) {
			i.Status, i.Txs, i.MinedIn, i.MinedAt, i.TxHash = status, sent, in, head.Number, common.Hash{7}
		}
	}
	update := func(fn func(tx *state.Tx) error) {
		t.Helper()
		if err := a.db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		change func(*state.Intent)
		depth  uint64 // below what is read
		kept   bool
	}{
		{"not sent yet", func(i *state.Intent) { i.Status = state.IntentPending }, 0, true},
		{"on its way", func(i *state.Intent) { i.Status, i.Txs = state.IntentSent, sent }, 0, true},
		{"refused a moment ago", mined(head.Hash, state.IntentReverted), chainsync.UndoMax - 1, true},
		{"refused in a block that is gone", mined(common.Hash{9}, state.IntentReverted), chainsync.UndoMax, true},
		{"on the chain", mined(head.Hash, state.IntentConfirmed), chainsync.UndoMax, true},
		{"refused long ago", mined(head.Hash, state.IntentReverted), chainsync.UndoMax, false},
		{"never sent", func(i *state.Intent) { i.Status = state.IntentReverted }, 0, false},
	}
	for _, tt := range tests {
		i := *first
		tt.change(&i)
		last := state.Block{Number: head.Number + tt.depth, Hash: common.Hash{byte(tt.depth)}}
		update(func(tx *state.Tx) error {
			if err := tx.DropSyncBlocks(t.Context(), 0); err != nil {
				return err
			}
			if err := tx.PutSyncBlock(t.Context(), last); err != nil {
				return err
			}
			if err := tx.PutPin(t.Context(), *pin); err != nil {
				return err
			}
			return tx.PutIntent(t.Context(), i)
		})

		if err := a.PublishOnce(t.Context()); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}

		if _, err := a.db.Pin(t.Context(), pin.Key); (err == nil) != tt.kept {
			t.Errorf("%s: the pin is %v, want it kept: %t", tt.name, err, tt.kept)
		}
		grace, err := a.db.Pin(t.Context(), state.GraceKey(pin.File))
		if (err != nil) != tt.kept || err == nil && time.Until(grace.Until) < time.Hour {
			t.Errorf("%s: grace is %+v, %v", tt.name, grace, err)
		}
		update(func(tx *state.Tx) error { return tx.DropPin(t.Context(), state.GraceKey(pin.File)) })
	}
	if _, err := a.files.Stat(t.Context(), pin.File); err != nil {
		t.Errorf("the file itself: %v", err)
	}
}

// TestArchivesThatStayHideNoOthers: there may be any number of which nobody can say what
// became of them.
func TestArchivesThatStayHideNoOthers(t *testing.T) {
	w := newWorld(t)
	a, first, pin := w.published(t)
	head, err := w.client.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const staying = 40
	err = a.db.Update(t.Context(), func(tx *state.Tx) error {
		for n := range staying + 1 {
			i, p := *first, *pin
			i.Key, i.Seq, i.Status = fmt.Sprint("vain", n), first.Seq+int64(n)+1, state.IntentReverted
			p.Key = "archive:" + i.Key
			if n < staying {
				i.MinedAt, i.MinedIn = head.Number, common.Hash{9}
			}
			if err := errors.Join(tx.PutIntent(t.Context(), i), tx.PutPin(t.Context(), p)); err != nil {
				return err
			}
		}
		return tx.PutSyncBlock(t.Context(), state.Block{Number: head.Number + chainsync.UndoMax, Hash: common.Hash{1}})
	})
	if err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if err := a.PublishOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	for n, kept := range map[int]bool{0: true, staying - 1: true, staying: false} {
		if _, err := a.db.Pin(t.Context(), fmt.Sprint("archive:vain", n)); (err == nil) != kept {
			t.Errorf("pin of archive %d: %v, want it kept: %t", n, err, kept)
		}
	}
	// Passes begin anew: what is in vain only later is let go of too.
	first.Status = state.IntentReverted
	if err := a.db.Update(t.Context(), func(tx *state.Tx) error { return tx.PutIntent(t.Context(), *first) }); err != nil {
		t.Fatal(err)
	}
	if err := a.PublishOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.db.Pin(t.Context(), pin.Key); err == nil {
		t.Error("the first archive is kept")
	}
}

// TestARefusedArchiveIsMadeAnew: its messages are confirmed by the next one, which has
// a pin of its own, and the first one's ends.
func TestARefusedArchiveIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	hash, raw := w.post("a")
	a.submit(raw)
	a.sync()
	a.publish(1)
	first, err := a.db.Intents(state.LaneSync).Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := *first
	refused.Status, refused.Error = state.IntentReverted, "refused"
	if err := a.db.Update(t.Context(), func(tx *state.Tx) error { return tx.PutIntent(t.Context(), refused) }); err != nil {
		t.Fatal(err)
	}
	w.mine(1)
	a.sync()
	a.publish(2)
	last := a.send(common.Hash{})
	a.sync()

	if last.Contract != chain.SyncName || last.Key == first.Key || w.events() != 1 || a.count([]message.ItemHash{hash}) != 1 {
		t.Errorf("intent %+v, %d events, confirmations %s", last, w.events(), a.confirmations(hash))
	}
	for key, want := range map[string]bool{"archive:" + first.Key: false, "archive:" + last.Key: true} {
		if _, err := a.db.Pin(t.Context(), key); (err == nil) != want {
			t.Errorf("pin %s: %v, want it there: %t", key, err, want)
		}
	}
}
