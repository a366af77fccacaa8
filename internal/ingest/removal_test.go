package ingest_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// sight is what is known of the chain.
type sight struct{ err error }

func (s *sight) Ready(context.Context) error { return s.err }

// bailiff is a bank that knows files by what STOREs say of them, and looks for what
// nobody pays for.
type bailiff struct {
	*bank
	view    *sight
	remover *ingest.Remover
	now     time.Time
	serial  int64
}

func openBailiff(t *testing.T) *bailiff {
	t.Helper()
	cfg := config(false)
	cfg.CreditAuthority, cfg.BalanceAuthority = addressOf(key(t, "credits")), []string{addressOf(key(t, "balances"))}
	b := &bailiff{bank: &bank{node: open(t, "bailiff", cfg), t: t}, view: &sight{}, now: time.Unix(newTime, 0)}
	b.funds.balance, b.funds.allowance = new(big.Int), new(big.Int)
	b.restart()
	return b
}

func (b *bailiff) restart() { b.remover = ingest.NewRemover(b.pipe, b.view) }

// pass lets time go by and looks.
func (b *bailiff) pass(after time.Duration) error {
	b.now = b.now.Add(after)
	return b.remover.Pass(b.t.Context(), b.now)
}

// passes looks every hour for a time.
func (b *bailiff) passes(t *testing.T, of time.Duration) {
	t.Helper()
	for end := b.now.Add(of); b.now.Before(end); {
		if err := b.pass(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

// keep hands in a STORE of a file of a size, confirmed at a height on a chain
// unless the height is 0.
func (b *bailiff) keep(k *ecdsa.PrivateKey, at, sizeBytes int64, payment string, chain message.Chain, height int64) message.ItemHash {
	b.t.Helper()
	b.serial++
	raw := b.message(k, message.TypeStore, at, map[string]any{
		"item_type": "storage", "item_hash": message.HashOf([]byte(strconv.FormatInt(b.serial, 10))), "size": sizeBytes, "payment": map[string]any{"type": payment},
	})
	v, err := b.pipe.Submit(b.t.Context(), ingest.Submission{Raw: raw, At: time.Now(), MustPay: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.want(v, state.MessageProcessed, 0)
	if height > 0 {
		b.confirm(raw, chain, height)
	}
	return v.ItemHash
}

func (b *bailiff) confirm(raw []byte, chain message.Chain, height int64) {
	b.t.Helper()
	b.serial++
	tx := state.Transaction{Chain: chain, Hash: fmt.Sprintf("0x%d", b.serial), Height: height, At: time.Unix(b.serial, 0)}
	if _, err := b.pipe.Confirm(b.t.Context(), raw, tx); err != nil {
		b.t.Fatal(err)
	}
}

// spend takes credits from an owner.
func (b *bailiff) spend(owner string, at, credits int64) {
	b.t.Helper()
	b.want(b.say(key(b.t, "credits"), message.TypePost, at, map[string]any{"type": "aleph_credit_expense", "content": map[string]any{
		"expense": map[string]any{"credits": []any{map[string]any{"address": owner, "amount": credits}}},
	}}), state.MessageProcessed, 0)
}

func (b *bailiff) status(hash message.ItemHash) (state.MessageStatus, string) {
	b.t.Helper()
	k, err := b.db.Known(b.t.Context(), hash)
	if err != nil {
		b.t.Fatal(err)
	}
	if k.Skeleton != nil {
		return k.Status, k.Skeleton.Reason
	}
	return k.Status, k.Message.Reason
}

func (b *bailiff) wantStatus(t *testing.T, when string, hash message.ItemHash, want state.MessageStatus, reason string) {
	t.Helper()
	if got, why := b.status(hash); got != want || why != reason {
		t.Errorf("%s: message is %s for %q, want %s for %q", when, got, why, want, reason)
	}
}

func (b *bailiff) job(t *testing.T, spec message.ItemHash, status state.JobStatus) {
	t.Helper()
	b.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutJob(ctx, state.Job{Spec: spec, RateQ32: new(big.Int), Status: status})
	})
}

const (
	mib      = 1 << 20
	lateHigh = 22_196_000 // The height on Ethereum from which on tokens must be held.
)

func TestWhatIsNotPaidForIsRemovedAfterItsGrace(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	b.hold(addressOf(k), holdTime-20, 1, "100")
	first := b.keep(k, holdTime, 100*mib, "hold", message.Ethereum, lateHigh) // A third of a token for each MiB.
	second := b.keep(k, holdTime+1, 100*mib, "hold", message.Ethereum, lateHigh+1)
	b.passes(t, time.Hour)
	b.wantStatus(t, "covered", first, state.MessageProcessed, "")

	b.hold(addressOf(k), holdTime+20, 2, "50")
	if err := b.pass(30 * time.Minute); err != nil {
		t.Fatal(err)
	}
	b.wantStatus(t, "half an hour after the last look", second, state.MessageProcessed, "")
	b.passes(t, 30*time.Minute)
	b.wantStatus(t, "covered by half", first, state.MessageProcessed, "")
	b.wantStatus(t, "not covered", second, state.MessageRemoving, "balance_insufficient")
	pin, err := b.db.Pin(t.Context(), string(second))
	if err != nil || !pin.Until.Equal(b.now.Add(25*time.Hour)) {
		t.Errorf("the file is pinned until %v, %v, want 25 h from now", pin.Until, err)
	}

	b.hold(addressOf(k), holdTime+30, 3, "70")
	b.passes(t, time.Hour)
	b.wantStatus(t, "covered again", second, state.MessageProcessed, "")
	if pin, err := b.db.Pin(t.Context(), string(second)); err != nil || !pin.Until.IsZero() {
		t.Errorf("the file is pinned until %v, %v, want for good", pin.Until, err)
	}

	b.hold(addressOf(k), holdTime+40, 4, "1")
	b.passes(t, 25*time.Hour)
	b.wantStatus(t, "in its grace", first, state.MessageRemoving, "balance_insufficient")
	b.passes(t, time.Hour)
	for _, hash := range []message.ItemHash{first, second} {
		b.wantStatus(t, "after its grace", hash, state.MessageRemoved, "balance_insufficient")
		s, err := b.db.Skeleton(t.Context(), hash)
		if err != nil || *s.SizeBytes != 100*mib || *s.PaymentType != message.PayHold || !s.EndedAt.Equal(b.now) {
			t.Errorf("what is left is %+v, %v", s, err)
		}
		if _, err := b.db.Pin(t.Context(), string(hash)); !errors.Is(err, errs.NotFound) {
			t.Errorf("the file is pinned still: %v", err)
		}
		if _, err := b.db.Cost(t.Context(), hash); !errors.Is(err, errs.NotFound) {
			t.Errorf("it costs still: %v", err)
		}
	}
	if left, err := b.db.Reviews(t.Context(), message.PayHold, "", 9); err != nil || len(left) > 0 {
		t.Errorf("owners that need no look are looked at: %v, %v", left, err)
	}
}

func TestSomeThingsStayWithoutCover(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	owner := addressOf(k)
	b.hold(owner, holdTime-20, 1, "1000")
	b.give(owner, midTime-20, 1_000_000_000)
	stays := map[string]message.ItemHash{
		"held, confirmed early":            b.keep(k, holdTime, 100*mib, "hold", message.Ethereum, lateHigh-1),
		"held, confirmed on another chain": b.keep(k, holdTime, 100*mib, "hold", "TEZOS", lateHigh),
		"held, not confirmed":              b.keep(k, holdTime, 100*mib, "hold", message.Ethereum, 0),
		"held, small":                      b.keep(k, holdTime, 25*mib, "hold", message.Ethereum, lateHigh),
		"by credit, small and old":         b.keep(k, midTime, 25*mib, "credit", message.Ethereum, 1),
		"by credit, not confirmed":         b.keep(k, newTime, 26*mib, "credit", message.Ethereum, 0),
	}
	goes := map[string]message.ItemHash{
		"held, just too large":        b.keep(k, holdTime, 25*mib+1, "hold", message.Ethereum, lateHigh),
		"by credit, just too large":   b.keep(k, midTime, 25*mib+1, "credit", message.Ethereum, 1),
		"by credit, small and new":    b.keep(k, newTime, 1, "credit", message.Ethereum, 1),
		"by credit, on another chain": b.keep(k, newTime+1, 1, "credit", "TEZOS", 1),
	}
	b.hold(owner, newTime, 2, "0")
	b.spend(owner, newTime+9, 1_000_000_000)
	b.passes(t, 27*time.Hour)
	for name, hash := range stays {
		b.wantStatus(t, name, hash, state.MessageProcessed, "")
	}
	for name, hash := range goes {
		reason := "credit_insufficient"
		if name == "held, just too large" {
			reason = "balance_insufficient"
		}
		b.wantStatus(t, name, hash, state.MessageRemoved, reason)
	}
}

func TestConfirmationBringsTheLook(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	b.give(addressOf(k), newTime-20, 1_000_000_000)
	raw := b.message(k, message.TypeStore, newTime, map[string]any{
		"item_type": "storage", "item_hash": message.HashOf([]byte("x")), "size": 5, "payment": map[string]any{"type": "credit"},
	})
	v, err := b.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now(), MustPay: true})
	if err != nil {
		t.Fatal(err)
	}
	b.spend(addressOf(k), newTime+1, 1_000_000_000)
	b.passes(t, 2*time.Hour)
	b.wantStatus(t, "not confirmed", v.ItemHash, state.MessageProcessed, "")
	b.confirm(raw, message.Ethereum, 5)
	b.confirm(raw, message.Ethereum, 6)
	b.passes(t, time.Hour)
	b.wantStatus(t, "confirmed", v.ItemHash, state.MessageRemoving, "credit_insufficient")
}

// TestTwoConfirmationsAreOneCharge: the reference charges such a message twice.
func TestTwoConfirmationsAreOneCharge(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	b.hold(addressOf(k), holdTime-20, 1, "50")
	raw := b.message(k, message.TypeStore, holdTime, map[string]any{"item_type": "storage", "item_hash": message.HashOf([]byte("x")), "size": 100 * mib})
	v, err := b.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now(), MustPay: true})
	if err != nil {
		t.Fatal(err)
	}
	b.confirm(raw, message.Ethereum, lateHigh)
	b.confirm(raw, message.Ethereum, lateHigh+5)
	b.passes(t, time.Hour)
	b.wantStatus(t, "confirmed twice", v.ItemHash, state.MessageProcessed, "")
}

func TestCreditsThatEndBringTheLook(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	ends := b.now.Add(10 * time.Hour)
	b.want(b.say(key(t, "credits"), message.TypePost, newTime-20, map[string]any{"type": "aleph_credit_distribution", "content": map[string]any{
		"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": []any{map[string]any{
			"address": addressOf(k), "amount": 1_000_000_000, "price": "1", "tx_hash": "0x", "provider": "W", "expiration": ends.UnixMilli(),
		}}},
	}}), state.MessageProcessed, 0)
	hash := b.keep(k, newTime, 5, "credit", message.Ethereum, 1)
	b.passes(t, 9*time.Hour)
	b.wantStatus(t, "before the end", hash, state.MessageProcessed, "")
	b.passes(t, time.Hour)
	b.wantStatus(t, "at the end", hash, state.MessageRemoving, "credit_insufficient")
}

func TestWhatAJobPaysForStays(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	b.give(addressOf(k), newTime-20, 1_000_000_000)
	file := b.keep(k, newTime-10, 30*mib, "credit", message.Ethereum, 1)
	c := instanceContent(addressOf(k), file)
	delete(c, "time")
	c["payment"] = map[string]any{"type": "credit"}
	raw := b.message(k, message.TypeInstance, newTime, c)
	v, err := b.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	b.want(v, state.MessageProcessed, 0)
	b.confirm(raw, message.Ethereum, 5)
	machine := v.ItemHash
	both := func(when string, want state.MessageStatus, reason string) {
		t.Helper()
		b.wantStatus(t, when+", machine", machine, want, reason)
		b.wantStatus(t, when+", its file", file, want, reason)
	}
	b.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutOffer(ctx, state.Offer{Spec: machine, MaxRateQ32: new(big.Int), Nonce: new(big.Int), Status: state.OfferDecided})
	})
	b.spend(addressOf(k), newTime+1, 1_000_000_000)
	b.passes(t, 30*time.Hour)
	both("an offer is on its way", state.MessageProcessed, "")
	b.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutOffer(ctx, state.Offer{Spec: machine, MaxRateQ32: new(big.Int), Nonce: new(big.Int), Status: state.OfferOpened})
	})
	b.job(t, machine, state.JobRunning)
	b.passes(t, 30*time.Hour)
	both("a job runs", state.MessageProcessed, "")
	b.job(t, machine, state.JobStopped)
	b.passes(t, 20*time.Hour)
	both("the job ended", state.MessageRemoving, "credit_insufficient")
	b.job(t, machine, state.JobAssigned)
	b.passes(t, time.Hour)
	both("there is a job again", state.MessageProcessed, "")
	b.job(t, machine, state.JobFailed)
	b.passes(t, 26*time.Hour)
	both("the grace is over", state.MessageRemoved, "credit_insufficient")
}

func TestNothingEndsOnDoubt(t *testing.T) {
	b := openBailiff(t)
	k := key(t, "owner")
	b.give(addressOf(k), newTime-20, 1_000_000_000)
	hash := b.keep(k, newTime, 5, "credit", message.Ethereum, 1)
	b.spend(addressOf(k), newTime+1, 1_000_000_000)
	away := errs.New(errs.Unavailable, "the rows are behind the chain")

	b.view.err = away
	if err := b.pass(time.Hour); !errors.Is(err, errs.Unavailable) {
		t.Errorf("without a view of the chain: %v", err)
	}
	b.wantStatus(t, "without a view of the chain", hash, state.MessageProcessed, "")
	b.view.err, b.funds.err = nil, away
	b.passes(t, time.Hour)
	b.wantStatus(t, "without funds of the wallet", hash, state.MessageProcessed, "")
	b.funds.err = nil
	b.passes(t, time.Hour)
	b.wantStatus(t, "with all that", hash, state.MessageRemoving, "credit_insufficient")
	b.funds.err = away
	b.passes(t, 30*time.Hour)
	b.wantStatus(t, "after the grace, without funds", hash, state.MessageRemoving, "credit_insufficient")
	b.funds.err = nil
	// The wallet lets the contract take enough for a day.
	b.funds.balance, b.funds.allowance = aleph(1000), aleph(1000)
	b.passes(t, time.Hour)
	b.wantStatus(t, "the wallet pays", hash, state.MessageProcessed, "")
	b.funds.allowance = new(big.Int)
	b.passes(t, time.Hour)
	b.wantStatus(t, "the wallet pays no more", hash, state.MessageRemoving, "credit_insufficient")
	// The node was away for a day, in which the owner may have paid.
	if err := b.pass(24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	b.passes(t, 23*time.Hour)
	b.wantStatus(t, "in the grace after a day away", hash, state.MessageRemoving, "credit_insufficient")
	b.passes(t, 3*time.Hour)
	b.wantStatus(t, "after it", hash, state.MessageRemoved, "credit_insufficient")
}

func TestRemoverEndsWithItsContext(t *testing.T) {
	b := openBailiff(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.remover.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

// thing is what the model knows of a message.
type thing struct {
	hash       message.ItemHash
	need       *big.Rat
	confirmed  bool
	spared     bool
	job        bool
	gone       bool
	lacksSince time.Time // Of the first of the looks that all found it without cover.
}

// debtor is what the model knows of an owner.
type debtor struct {
	address string
	payment message.PaymentType
	have    int64
	things  []*thing
}

// lacking are the things that must be removing, or removed in the end.
func (d *debtor) lacking(runway *big.Rat) map[*thing]bool {
	out := map[*thing]bool{}
	left := new(big.Rat).Add(new(big.Rat).SetInt64(d.have), runway)
	for _, th := range d.things {
		if th.gone || !th.confirmed {
			continue
		}
		if left.Cmp(th.need) >= 0 {
			left.Sub(left, th.need)
			continue
		}
		left = new(big.Rat)
		if !th.spared && !th.job {
			out[th] = true
		}
	}
	return out
}

// TestTheUnpaidGoAndThePaidStay: whatever owners have, whenever, and however often
// the node starts again, nothing goes that was covered at any look in its last 25
// hours, and everything goes that was not.
func TestTheUnpaidGoAndThePaidStay(t *testing.T) {
	b := openBailiff(t)
	owners := 0
	rapid.Check(t, func(rt *rapid.T) {
		b.view.err, b.funds.err = nil, nil
		b.funds.balance, b.funds.allowance = new(big.Int), new(big.Int)
		var all []*debtor
		for range rapid.IntRange(1, 2).Draw(rt, "owners") {
			owners++
			all = append(all, b.debtor(rt, key(t, fmt.Sprint("debtor ", owners))))
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			d := rapid.SampledFrom(all).Draw(rt, "owner")
			b.step(rt, d)
			b.look(rt, all)
		}
	})
}

// debtor is an owner with some files.
func (b *bailiff) debtor(rt *rapid.T, k *ecdsa.PrivateKey) *debtor {
	d := &debtor{address: addressOf(k), payment: rapid.SampledFrom([]message.PaymentType{message.PayHold, message.PayCredit}).Draw(rt, "payment"), have: 1_000_000_000}
	at := int64(newTime)
	if d.payment == message.PayHold {
		at = holdTime
	}
	b.set(d, d.have)
	for range rapid.IntRange(1, 4).Draw(rt, "files") {
		size := rapid.Int64Range(20, 60).Draw(rt, "MiB") * mib
		height := rapid.SampledFrom([]int64{0, lateHigh - 1, lateHigh, lateHigh}).Draw(rt, "height")
		th := &thing{hash: b.keep(k, at, size, string(d.payment), message.Ethereum, height), confirmed: height > 0}
		c, err := b.db.Cost(b.t.Context(), th.hash)
		if err != nil {
			rt.Fatal(err)
		}
		th.need = new(big.Rat)
		if d.payment == message.PayHold {
			th.need.SetString(c.Hold)
			th.spared = height < lateHigh || size <= 25*mib
		} else {
			th.need.SetString(c.Credit)
			th.need.Mul(th.need, big.NewRat(86400, 1))
		}
		d.things = append(d.things, th)
	}
	return d
}

// set makes an owner have something.
func (b *bailiff) set(d *debtor, have int64) {
	b.serial++
	at := newTime + b.serial*100
	switch {
	case d.payment == message.PayHold:
		b.hold(d.address, at, b.serial, strconv.FormatInt(have, 10))
	case len(d.things) == 0 || have > d.have:
		n := have
		if len(d.things) > 0 {
			n -= d.have
		}
		b.give(d.address, at, n)
	case have < d.have:
		b.spend(d.address, at, d.have-have)
	}
	d.have = have
}

// step changes something.
func (b *bailiff) step(rt *rapid.T, d *debtor) {
	switch rapid.IntRange(0, 5).Draw(rt, "what") {
	case 0, 1:
		total := new(big.Rat)
		for _, th := range d.things {
			total.Add(total, th.need)
		}
		whole, _ := total.Float64()
		b.set(d, int64(whole*rapid.Float64Range(0, 1.2).Draw(rt, "share"))+1)
	case 2:
		th := rapid.SampledFrom(d.things).Draw(rt, "thing")
		if th.gone {
			return
		}
		th.job = !th.job
		status := state.JobRunning
		if !th.job {
			status = state.JobCompleted
		}
		b.update(b.t, func(ctx context.Context, tx *state.Tx) error {
			return tx.PutJob(ctx, state.Job{Spec: th.hash, RateQ32: new(big.Int), Status: status})
		})
	case 3:
		b.restart()
	case 4:
		b.funds.balance = aleph(rapid.Int64Range(0, 2).Draw(rt, "wallet"))
		b.funds.allowance = aleph(5)
	case 5:
		b.funds.err = rapid.SampledFrom([]error{nil, errors.New("away")}).Draw(rt, "chain")
	}
}

// look looks, and compares what became of everything with the model.
func (b *bailiff) look(rt *rapid.T, all []*debtor) {
	doubt := rapid.IntRange(0, 9).Draw(rt, "view") == 0
	b.view.err = nil
	if doubt {
		b.view.err = errs.New(errs.Unavailable, "behind")
	}
	after := time.Duration(rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(rt, "hours")) * time.Hour
	if err := b.pass(after); (err != nil) != doubt {
		rt.Fatalf("pass: %v", err)
	}
	if doubt { // Without a gap that gives all a new time.
		b.view.err = nil
		if err := b.pass(0); err != nil {
			rt.Fatal(err)
		}
	}
	for _, d := range all {
		known := d.payment == message.PayHold || b.funds.err == nil
		runway := new(big.Rat)
		if d.payment == message.PayCredit && known {
			var err error
			if runway, err = b.pipe.Runway(b.t.Context(), d.address); err != nil {
				rt.Fatal(err)
			}
		}
		lacking := d.lacking(runway)
		for i, th := range d.things {
			if known {
				b.compare(rt, fmt.Sprintf("%s %d", d.payment, i), th, lacking[th])
			} else if got, _ := b.status(th.hash); got == state.MessageRemoved && !th.gone {
				rt.Errorf("%s %d is removed on doubt", d.payment, i)
			}
		}
	}
}

func (b *bailiff) compare(rt *rapid.T, name string, th *thing, lacks bool) {
	got, _ := b.status(th.hash)
	if th.gone {
		return
	}
	if !lacks {
		th.lacksSince = time.Time{}
		if got != state.MessageProcessed {
			rt.Errorf("%s is %s, and is paid for", name, got)
		}
		return
	}
	if th.lacksSince.IsZero() {
		th.lacksSince = b.now
	}
	want := state.MessageRemoving
	if b.now.Sub(th.lacksSince) >= 25*time.Hour {
		want = state.MessageRemoved
		th.gone = true
	}
	if got != want {
		rt.Errorf("%s is %s after %v without cover, want %s", name, got, b.now.Sub(th.lacksSince), want)
	}
}
