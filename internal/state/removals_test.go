package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// charge is the cost of a message of an owner.
func charge(name, owner string, payment message.PaymentType) state.Cost {
	return state.Cost{Message: hash(name), Owner: owner, Payment: payment, Hold: "1", Stream: "0", Credit: "1", Lines: []byte("[]")}
}

func TestReviewsAreOfWhoPays(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	given := &credit.Event{Place: placeOf(1, "e")}
	for i, address := range []string{"a", "b", "c", "nobody"} {
		ends := []int64{10, 11, 12, 11}[i]
		given.Entries = append(given.Entries, credit.Entry{Place: given.Place, Index: i, Address: address, Amount: 5, ExpiresAt: at(ends)})
	}
	update(t, db, func(tx *state.Tx) error {
		_, err := tx.ApplyCredit(ctx, given)
		return errors.Join(err, tx.PutCost(ctx, charge("1", "a", message.PayCredit)), tx.PutCost(ctx, charge("2", "b", message.PayCredit)),
			tx.PutCost(ctx, charge("3", "c", message.PayCredit)), tx.PutCost(ctx, charge("4", "c", message.PayHold)))
	})
	want := func(when, hold, credit string) {
		t.Helper()
		for payment, want := range map[message.PaymentType]string{message.PayHold: hold, message.PayCredit: credit} {
			got, err := db.Reviews(ctx, payment, "", 9)
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s: reviews of %s are %v, %v, want %s", when, payment, got, err, want)
			}
		}
	}
	want("before", "[]", "[]")
	update(t, db, func(tx *state.Tx) error { return tx.ReviewExpired(ctx, at(10), at(11)) })
	want("credits ended", "[]", "[b]")
	update(t, db, func(tx *state.Tx) error { return tx.ReviewPayers(ctx, message.PayHold, []string{"a", "b", "c", "d"}) })
	want("tokens changed", "[c]", "[b]")
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutReview(ctx, message.PayCredit, "d"), tx.PutReview(ctx, message.PayCredit, "d"), tx.DropReview(ctx, message.PayHold, "c"))
	})
	want("one more, one less", "[]", "[b d]")
	if got, err := db.Reviews(ctx, message.PayCredit, "b", 1); err != nil || fmt.Sprint(got) != "[d]" {
		t.Errorf("after b: %v, %v", got, err)
	}
}

func TestRemovalsHaveTheirTimes(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	untils := func() string {
		t.Helper()
		all, err := db.Removals(ctx, []message.ItemHash{hash("a"), hash("b"), hash("c")})
		var out []string
		for _, name := range []string{"a", "b", "c"} {
			pin, errPin := db.Pin(ctx, string(hash(name)))
			if err := errors.Join(err, errPin); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %d %d", name, max(all[hash(name)].Unix(), 0), max(pin.Until.Unix(), 0)))
		}
		return strings.Join(out, ", ")
	}
	update(t, db, func(tx *state.Tx) (err error) {
		for _, name := range []string{"a", "b", "c"} {
			err = errors.Join(err, tx.PutPin(ctx, state.Pin{Key: string(hash(name)), Kind: state.PinMessage, File: hash("f"), At: at(1)}))
		}
		return errors.Join(err, tx.PutRemoval(ctx, hash("a"), time.Unix(20, 0)), tx.PutRemoval(ctx, hash("b"), time.Unix(30, 0)))
	})
	if got := untils(); got != "a 20 20, b 30 30, c 0 0" {
		t.Errorf("at first: %s", got)
	}
	update(t, db, func(tx *state.Tx) error { return tx.PostponeRemovals(ctx, time.Unix(25, 0)) })
	if got := untils(); got != "a 25 25, b 30 30, c 0 0" {
		t.Errorf("postponed: %s", got)
	}
	if over, err := db.PinsOver(ctx, state.PinGrace, time.Unix(99, 0), 9); err != nil || len(over) != 0 {
		t.Errorf("pins that end with their messages are over: %v, %v", over, err)
	}
	update(t, db, func(tx *state.Tx) error { return tx.DropRemoval(ctx, hash("b")) })
	if got := untils(); got != "a 25 25, b 0 0, c 0 0" {
		t.Errorf("dropped: %s", got)
	}
}

func TestWhatIsPaidOnChain(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutUses(ctx, hash("m"), []message.ItemHash{hash("f"), "0xA/app"}), tx.PutUses(ctx, hash("n"), []message.ItemHash{hash("f")}))
	})
	want := func(when string, want bool, specs ...message.ItemHash) {
		t.Helper()
		if got, err := db.PaidOnChain(ctx, specs); err != nil || got != want {
			t.Errorf("%s: paid on chain %t, %v, want %t", when, got, err, want)
		}
	}
	want("nothing", false, hash("m"), hash("f"))
	for _, tt := range []struct {
		status state.OfferStatus
		want   bool
	}{{state.OfferOffered, true}, {state.OfferDecided, true}, {state.OfferOpened, false}, {state.OfferRefused, false}} {
		update(t, db, func(tx *state.Tx) error {
			return tx.PutOffer(ctx, state.Offer{Spec: hash("m"), Status: tt.status})
		})
		want("offer "+string(tt.status), tt.want, hash("m"))
		want("file, offer "+string(tt.status), tt.want, hash("f"))
		want("named file, offer "+string(tt.status), tt.want, hash("x"), "0xA/app")
		want("another, offer "+string(tt.status), false, hash("n"))
	}
	for status, paid := range map[state.JobStatus]bool{
		state.JobAssigned: true, state.JobRunning: true, state.JobStopped: false, state.JobCompleted: false, state.JobFailed: false, state.JobExpired: false,
	} {
		update(t, db, func(tx *state.Tx) error { return tx.PutJob(ctx, state.Job{Spec: hash("m"), Status: status}) })
		want("job "+string(status), paid, hash("m"))
		want("file, job "+string(status), paid, hash("f"))
	}
}

func TestLooksAreRemembered(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	if at, err := db.Looked(ctx, message.PayHold); err != nil || !at.IsZero() {
		t.Errorf("before the first: %v, %v", at, err)
	}
	now := time.Unix(1_800_000_000, 5000).UTC()
	update(t, db, func(tx *state.Tx) error { return tx.PutLooked(ctx, message.PayHold, now) })
	held, err := db.Looked(ctx, message.PayHold)
	paid, err2 := db.Looked(ctx, message.PayCredit)
	if err := errors.Join(err, err2); err != nil || !held.Equal(now) || !paid.IsZero() {
		t.Errorf("looked at %v and %v, %v, want %v and never", held, paid, err, now)
	}
}

// TestRemovalsWithoutTablesSaySo: each says what it was about.
func TestRemovalsWithoutTablesSaySo(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	for _, table := range []string{"reviews", "removals", "pins", "jobs"} {
		if err := db.Exec(ctx, "DROP TABLE "+table); err != nil {
			t.Fatal(err)
		}
	}
	for want, do := range map[string]func(tx *state.Tx) error{
		"insert into reviews":         func(tx *state.Tx) error { return tx.PutReview(ctx, message.PayHold, "a") },
		"whose payments":              func(tx *state.Tx) error { return tx.ReviewPayers(ctx, message.PayHold, []string{"a"}) },
		"whose credits":               func(tx *state.Tx) error { return tx.ReviewExpired(ctx, at(1), at(2)) },
		"drop review of a":            func(tx *state.Tx) error { return tx.DropReview(ctx, message.PayHold, "a") },
		"read reviews":                func(tx *state.Tx) error { _, err := tx.Reviews(ctx, message.PayHold, "", 1); return err },
		"insert into removals":        func(tx *state.Tx) error { return tx.PutRemoval(ctx, hash("a"), at(1)) },
		"drop removal":                func(tx *state.Tx) error { return tx.DropRemoval(ctx, hash("a")) },
		"postpone removals":           func(tx *state.Tx) error { return tx.PostponeRemovals(ctx, at(1)) },
		"read removals":               func(tx *state.Tx) error { _, err := tx.Removals(ctx, []message.ItemHash{"a"}); return err },
		"look for what pays on chain": func(tx *state.Tx) error { _, err := tx.PaidOnChain(ctx, []message.ItemHash{"a"}); return err },
	} {
		if err := db.Update(ctx, do); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
