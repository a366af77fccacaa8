package state_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func intentName(i state.Intent) string { return i.Key }

// enqueue adds intents, and then changes each that is named.
func enqueue(t *testing.T, db *state.DB, change map[string]func(*state.Intent), all ...state.Intent) {
	t.Helper()
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		for _, i := range all {
			i.Args = json.RawMessage("[]")
			if _, err := tx.Enqueue(ctx, i); err != nil {
				return err
			}
		}
		for key, fn := range change {
			i, err := tx.Intent(ctx, key)
			if err != nil {
				return err
			}
			fn(i)
			if err := tx.PutIntent(ctx, *i); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestIntentsThatAreDue(t *testing.T) {
	db := open(t, t.TempDir())
	ctx, now := t.Context(), time.Unix(1000, 0).UTC()
	enqueue(t, db, map[string]func(*state.Intent){
		"later": func(i *state.Intent) { i.RetryAt = now.Add(time.Microsecond) },
		"again": func(i *state.Intent) { i.RetryAt = now },
		"sent":  func(i *state.Intent) { i.Status = state.IntentSent },
	}, state.Intent{Key: "later"}, state.Intent{Key: "again"}, state.Intent{Key: "x/yields", Yields: true}, state.Intent{Key: "sent"}, state.Intent{Key: "x/new"})

	got, err := db.Intents(state.LaneNode).Due(ctx, now, false, 9)
	list(t, "due", intentName, "again x/new", got, err)
	got, err = db.Intents(state.LaneNode).Due(ctx, now, false, 1)
	list(t, "the first that is due, behind one that is not", intentName, "again", got, err)
	got, err = db.Intents(state.LaneNode).Due(ctx, now, true, 9)
	list(t, "due and yielding", intentName, "x/yields", got, err)
	got, err = db.IntentsUnder(ctx, "x/", 9, state.IntentPending, state.IntentSent)
	list(t, "with a prefix", intentName, "x/yields x/new", got, err)
	got, err = db.IntentsUnder(ctx, "x/", 9, state.IntentSent)
	list(t, "with a prefix and sent", intentName, "", got, err)
	if n, err := db.Intents(state.LaneNode).Count(ctx, state.IntentPending); err != nil || n != 4 {
		t.Errorf("%d pending intents, %v, want 4", n, err)
	}
}

// chainOf puts blocks with the numbers from low to high; the hash of each is its
// number.
func chainOf(t *testing.T, db *state.DB, low, high uint64) {
	t.Helper()
	update(t, db, func(tx *state.Tx) error {
		for n := low; n <= high; n++ {
			if err := tx.PutBlock(t.Context(), state.Block{Number: n, Hash: blockHash(n)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func blockHash(n uint64) common.Hash { return common.Hash{byte(n), 7} }

// done is an intent that was mined in a block.
func done(number uint64, hash common.Hash) func(*state.Intent) {
	return func(i *state.Intent) { i.Status, i.MinedAt, i.MinedIn = state.IntentConfirmed, number, hash }
}

func TestIntentsWhoseBlockIsGone(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	enqueue(t, db, map[string]func(*state.Intent){
		"old":   done(4, common.Hash{1}),
		"gone":  done(5, common.Hash{1}),
		"stays": done(6, blockHash(6)),
		"above": done(8, common.Hash{1}),
		"sent":  func(i *state.Intent) { done(6, common.Hash{1})(i); i.Status = state.IntentSent },
		"never": func(i *state.Intent) { i.Status = state.IntentReverted },
	}, state.Intent{Key: "old"}, state.Intent{Key: "gone"}, state.Intent{Key: "stays"}, state.Intent{Key: "above"}, state.Intent{Key: "sent"}, state.Intent{Key: "never"})
	got, err := db.Intents(state.LaneNode).Orphaned(ctx, 9)
	list(t, "without blocks", intentName, "", got, err)

	chainOf(t, db, 5, 7)

	got, err = db.Intents(state.LaneNode).Orphaned(ctx, 9)
	list(t, "mined in a block that another replaced", intentName, "gone", got, err)
}

func TestForgottenIntents(t *testing.T) {
	db := open(t, t.TempDir())
	yields := func(key string) state.Intent { return state.Intent{Key: key, Yields: true} }
	enqueue(t, db, map[string]func(*state.Intent){
		"old": done(4, blockHash(4)), "own": done(4, blockHash(4)), "fresh": done(5, blockHash(5)), "last": done(4, blockHash(4)),
		"refused": func(i *state.Intent) { i.Status = state.IntentReverted },
	}, yields("old"), state.Intent{Key: "own"}, yields("fresh"), yields("waits"), yields("refused"), yields("last"))
	forget := func(keep int) {
		t.Helper()
		update(t, db, func(tx *state.Tx) error { return tx.ForgetIntents(t.Context(), keep) })
	}
	left := func(what, want string) {
		t.Helper()
		got, err := db.IntentsUnder(t.Context(), "", 9, state.IntentPending, state.IntentConfirmed, state.IntentReverted)
		list(t, what, intentName, want, got, err)
	}

	forget(0)
	left("while no block is here", "old own fresh waits refused last")
	chainOf(t, db, 5, 7)
	forget(5)
	left("but for the last five", "own fresh waits refused last")
	forget(0)
	left("all that can be forgotten", "own fresh waits last")
	enqueue(t, db, nil, state.Intent{Key: "next"})
	if i, err := db.Intent(t.Context(), "next"); err != nil || i.Seq != 7 {
		t.Errorf("the next intent is %+v, %v, want number 7", i, err)
	}
}

func TestIntentsOfTheFirstSchemaAreRead(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	chainOf(t, db, 5, 7)
	enqueue(t, db, map[string]func(*state.Intent){"gone": done(5, common.Hash{1}), "stays": done(6, blockHash(6))},
		state.Intent{Key: "gone"}, state.Intent{Key: "stays"}, state.Intent{Key: "waits"})
	goBack(t, db, 1)

	db = open(t, dir)

	got, err := db.Intents(state.LaneNode).Orphaned(t.Context(), 9)
	list(t, "mined in a block that another replaced", intentName, "gone", got, err)
	got, err = db.Intents(state.LaneNode).Due(t.Context(), time.Unix(0, 0), false, 9)
	list(t, "due", intentName, "waits", got, err)
}

func TestOffersOfAPayerByStatus(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	a, b := common.Address{1}, common.Address{2}
	put := func(name string, payer common.Address, status state.OfferStatus, at int64) state.Offer {
		return state.Offer{Spec: hash(name), Payer: payer, Status: status, ReceivedAt: time.Unix(at, 0).UTC()}
	}
	update(t, db, func(tx *state.Tx) error {
		return putOffers(ctx, tx,
			put("a", a, state.OfferOffered, 1), put("b", a, state.OfferRefused, 2), put("c", a, state.OfferDecided, 3),
			put("d", b, state.OfferOffered, 3), put("e", a, state.OfferOffered, 3))
	})
	name := func(o state.Offer) string { return string(o.Spec[:1]) }

	got, err := db.OffersOfPayerWith(ctx, a, 9, state.OfferOffered, state.OfferDecided)
	list(t, "offers that wait", name, "a c e", got, err)
	got, err = db.OffersOfPayerWith(ctx, a, 2, state.OfferOffered, state.OfferDecided)
	list(t, "the oldest offers that wait", name, "a c", got, err)
	got, err = db.OffersAfter(ctx, state.OfferOffered, nil, 2)
	list(t, "the first two offers", name, "a d", got, err)
	if len(got) == 2 {
		got, err = db.OffersAfter(ctx, state.OfferOffered, &got[1], 2)
		list(t, "the offers after them", name, "e", got, err)
	}
}

func putOffers(ctx context.Context, tx *state.Tx, all ...state.Offer) error {
	for _, o := range all {
		if err := tx.PutOffer(ctx, o); err != nil {
			return err
		}
	}
	return nil
}
