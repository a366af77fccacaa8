package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

const (
	chainNow = 1_000_000
	window   = 3600
)

// market is a node that knows the chain, a file and a price.
func market(t *testing.T) (*node, message.ItemHash, *big.Int) {
	t.Helper()
	n := open(t, "market", config(false))
	k := key(t, "payer")
	ref, raw := store(t, k, message.HashOf([]byte("image")))
	if _, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		if err := tx.PutParams(ctx, state.Params{PrepaySeconds: window}); err != nil {
			return err
		}
		return tx.PutBlock(ctx, state.Block{Number: 1, Time: chainNow, Hash: common.HexToHash("0x1")})
	})
	table, err := pricing.Default()
	if err != nil {
		t.Fatal(err)
	}
	_, raw = instance(t, k, ref)
	env, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	i, err := env.Instance()
	if err != nil {
		t.Fatal(err)
	}
	flow, err := table.Flow(i, nil, pricing.Bps)
	if err != nil {
		t.Fatal(err)
	}
	return n, ref, flow.RateQ32
}

// offer signs an offer for the instance number n.
func offer(t *testing.T, ref message.ItemHash, number int, rate *big.Int, change ...func(*job.Offer)) ([]byte, job.Offer, job.Signature) {
	t.Helper()
	k := key(t, "payer")
	spec, raw := instance(t, k, ref, func(c map[string]any) { c["metadata"] = map[string]any{"name": fmt.Sprint("vm ", number)} })
	o := job.Offer{
		Spec: spec, Payer: crypto.PubkeyToAddress(k.PublicKey), Token: job.TokenALEPH, MaxRateQ32: rate, Deadline: chainNow + 600, Nonce: big.NewInt(int64(number)),
	}
	for _, fn := range change {
		fn(&o)
	}
	sig, err := job.Sign(k, domain(), &o)
	if err != nil {
		t.Fatal(err)
	}
	return raw, o, sig
}

func TestAnOfferAndItsMessageBecomeState(t *testing.T) {
	n, ref, rate := market(t)
	raw, o, sig := offer(t, ref, 1, rate)

	row, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())

	if err != nil || row.Status != state.OfferOffered || row.Spec != o.Spec {
		t.Fatalf("SubmitOffer = %+v, %v", row, err)
	}
	if m, err := n.db.Message(t.Context(), o.Spec); err != nil || m.Status != state.MessageProcessed {
		t.Errorf("message = %+v, %v", m, err)
	}
	if stored, err := n.db.Offer(t.Context(), o.Spec); err != nil || stored.MaxRateQ32.Cmp(rate) != 0 {
		t.Errorf("offer = %+v, %v", stored, err)
	}
	if again, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); err != nil || again.Spec != o.Spec {
		t.Errorf("the same offer again = %+v, %v", again, err)
	}
	_, changed, sig2 := offer(t, ref, 1, rate, func(o *job.Offer) { o.Deadline++ })
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, changed, sig2, time.Now()); errs.KindOf(err) != errs.Conflict {
		t.Errorf("another offer for it: %v, want errs.Conflict", err)
	}
	row.Status = state.OfferRefused
	n.update(t, func(ctx context.Context, tx *state.Tx) error { return tx.PutOffer(ctx, *row) })
	if again, err := n.pipe.SubmitOffer(t.Context(), raw, changed, sig2, time.Now()); err != nil || again.Status != state.OfferOffered {
		t.Errorf("another offer after a refusal = %+v, %v", again, err)
	}
	row.Status = state.OfferRefused
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return errors.Join(tx.PutOffer(ctx, *row), tx.PutDecision(ctx, state.Decision{Spec: o.Spec, NodeID: 7, RateQ32: rate}))
	})
	_, third, sig3 := offer(t, ref, 1, rate, func(o *job.Offer) { o.Deadline += 2 })
	_, err = n.pipe.SubmitOffer(t.Context(), raw, third, sig3, time.Now())
	if errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "sign a new message") {
		t.Errorf("another offer after a decision that came to nothing: %v, want errs.Conflict and what to do", err)
	}
}

// TestEveryWaitingOfferCounts has more offers after the ones that wait than are
// read at once.
func TestEveryWaitingOfferCounts(t *testing.T) {
	n, ref, rate := market(t)
	payer := crypto.PubkeyToAddress(key(t, "payer").PublicKey)
	cost := new(big.Int).Rsh(new(big.Int).Mul(rate, big.NewInt(window)), 32)
	put := func(number int, status state.OfferStatus) {
		n.update(t, func(ctx context.Context, tx *state.Tx) error {
			return tx.PutOffer(ctx, state.Offer{
				Spec: message.HashOf(fmt.Append(nil, number)), Payer: payer, Token: job.TokenALEPH, MaxRateQ32: rate, Nonce: new(big.Int),
				Status: status, ReceivedAt: time.Unix(int64(number), 0),
			})
		})
	}
	put(0, state.OfferOffered)
	for number := range ingest.WaitingOffersMax {
		put(1+number, state.OfferOpened)
	}
	*n.funds = funds{balance: cost, allowance: aleph(1000), refund: new(big.Int)}
	raw, o, sig := offer(t, ref, 1, rate)

	_, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())
	if errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), ingest.Tokens(cost)+" ALEPH missing") {
		t.Errorf("on money that an old offer waits for: %v, want errs.Exhausted", err)
	}

	n.funds.balance = aleph(1_000_000)
	for number := range ingest.WaitingOffersMax {
		put(number, state.OfferOffered)
	}
	_, err = n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())
	if errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "offers that wait") {
		t.Errorf("one offer too many: %v, want errs.Exhausted", err)
	}
}

// TestOffersAtOnceShareTheMoney sends two offers side by side on money for one.
func TestOffersAtOnceShareTheMoney(t *testing.T) {
	n, ref, rate := market(t)
	cost := new(big.Int).Rsh(new(big.Int).Mul(rate, big.NewInt(window)), 32)
	*n.funds = funds{balance: cost, allowance: cost, refund: new(big.Int)}
	const offers = 8
	failed := make(chan error, offers)
	for number := range offers {
		raw, o, sig := offer(t, ref, number, rate)
		go func() {
			_, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())
			failed <- err
		}()
	}

	accepted := 0
	for range offers {
		switch err := <-failed; {
		case err == nil:
			accepted++
		case errs.KindOf(err) != errs.Exhausted:
			t.Errorf("SubmitOffer: %v, want errs.Exhausted", err)
		}
	}

	if accepted != 1 {
		t.Errorf("%d offers came in on the money for one", accepted)
	}
}

func TestOffersThatCannotBeMet(t *testing.T) {
	n, ref, rate := market(t)
	less := new(big.Int).Sub(rate, big.NewInt(1))
	strangerKey := key(t, "stranger")
	tests := []struct {
		name   string
		change func(o *job.Offer)
		want   errs.Kind
		text   string
	}{
		{"another token", func(o *job.Offer) { o.Token = 2 }, errs.Invalid, "token 1"},
		{"deadline over", func(o *job.Offer) { o.Deadline = chainNow }, errs.Invalid, "deadline"},
		{"deadline too far", func(o *job.Offer) { o.Deadline = chainNow + job.OfferSecondsMax + 1 }, errs.Invalid, "ahead"},
		{"end over", func(o *job.Offer) { o.MaxUntil = chainNow - 1 }, errs.Invalid, "max_until"},
		{"below the price", func(o *job.Offer) { o.MaxRateQ32 = less }, errs.Invalid, rate.String()},
		{"paid by another", func(o *job.Offer) { o.Payer = crypto.PubkeyToAddress(strangerKey.PublicKey) }, errs.Denied, "message is from"},
		{"for another message", func(o *job.Offer) { o.Spec = message.HashOf(nil) }, errs.Denied, "offer is for"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, o, sig := offer(t, ref, 100+i, rate, tt.change)

			_, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())

			if errs.KindOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("SubmitOffer: %v, want kind %s with %q", err, tt.want, tt.text)
			}
			if _, err := n.db.Message(t.Context(), o.Spec); errs.KindOf(err) != errs.NotFound {
				t.Errorf("the message of a refused offer became state: %v", err)
			}
		})
	}
	raw, o, sig := offer(t, ref, 200, rate)
	sig[3] ^= 1
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); errs.KindOf(err) != errs.Denied {
		t.Errorf("bad signature: %v, want errs.Denied", err)
	}
	raw, o, sig = offer(t, message.HashOf([]byte("unknown")), 201, rate)
	var rejected *message.RejectError
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); !errors.As(err, &rejected) || rejected.Code != message.CodeVMVolumeNotFound {
		t.Errorf("unknown image: %v, want code 301", err)
	}
	if _, err := n.pipe.SubmitOffer(t.Context(), []byte("{}"), o, sig, time.Now()); !errors.As(err, &rejected) {
		t.Errorf("no message: %v, want a refusal", err)
	}
	_, storeRaw := store(t, key(t, "payer"), message.HashOf(nil))
	if _, err := n.pipe.SubmitOffer(t.Context(), storeRaw, o, sig, time.Now()); !errors.As(err, &rejected) {
		t.Errorf("a STORE: %v, want a refusal", err)
	}
	_, foreign := instance(t, strangerKey, ref, func(c map[string]any) { c["address"] = addressOf(key(t, "payer")) })
	if _, err := n.pipe.SubmitOffer(t.Context(), foreign, o, sig, time.Now()); !errors.As(err, &rejected) || rejected.Code != message.CodePermissionDenied {
		t.Errorf("in another's name: %v, want code 2", err)
	}
}

func TestFundsThatAreShortAreNamed(t *testing.T) {
	n, ref, rate := market(t)
	cost := new(big.Int).Rsh(new(big.Int).Mul(rate, big.NewInt(window)), 32)
	payer := crypto.PubkeyToAddress(key(t, "payer").PublicKey)
	submit := func(number int) error {
		raw, o, sig := offer(t, ref, number, rate)
		_, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now())
		return err
	}
	account := func(a state.Account) {
		a.Payer, a.Token, a.RateQ32 = payer, job.TokenALEPH, new(big.Int)
		n.update(t, func(ctx context.Context, tx *state.Tx) error { return tx.PutAccount(ctx, a) })
	}
	one := big.NewInt(1)
	oneWei := "0.000000000000000001 ALEPH missing"

	*n.funds = funds{balance: new(big.Int).Sub(cost, one), allowance: aleph(1000), refund: new(big.Int)}
	if err := submit(1); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), oneWei) {
		t.Errorf("one wei short of balance: %v, want errs.Exhausted with %q", err, oneWei)
	}
	*n.funds = funds{balance: aleph(1000), allowance: new(big.Int).Sub(cost, one), refund: new(big.Int)}
	if err := submit(1); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), oneWei) {
		t.Errorf("one wei short of allowance: %v, want errs.Exhausted with %q", err, oneWei)
	}
	n.funds.refund = one
	if err := submit(1); err != nil {
		t.Errorf("with the refund it is enough: %v", err)
	}
	if err := submit(2); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), ingest.Tokens(cost)) {
		t.Errorf("a second offer on the same money: %v, want errs.Exhausted that names %s", err, ingest.Tokens(cost))
	}
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		o, err := tx.Offer(ctx, func() message.ItemHash { _, o, _ := offer(t, ref, 1, rate); return o.Spec }())
		if err != nil {
			return err
		}
		o.Status = state.OfferDecided
		if err := tx.PutOffer(ctx, *o); err != nil {
			return err
		}
		return tx.PutDecision(ctx, state.Decision{Spec: o.Spec, NodeID: 7, RateQ32: new(big.Int)})
	})
	if err := submit(2); err != nil {
		t.Errorf("the first was decided at no cost: %v", err)
	}
	account(state.Account{ArrearsSince: 5})
	if err := submit(3); errs.KindOf(err) != errs.Exhausted || !strings.Contains(err.Error(), "arrears") {
		t.Errorf("in arrears: %v, want errs.Exhausted", err)
	}
	*n.funds = funds{err: errors.New("rpc away")}
	if err := submit(4); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("chain away: %v, want errs.Unavailable", err)
	}
}

func TestTheCheapestNodeSetsThePrice(t *testing.T) {
	n, ref, rate := market(t)
	signer := key(t, "signer")
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutCapacity(ctx, state.Capacity{NodeID: 7, Ad: ad(t, n, signer, time.Now())}) // 90 % of the table
	})
	cheap := new(big.Int).Div(new(big.Int).Mul(rate, big.NewInt(95)), big.NewInt(100))

	raw, o, sig := offer(t, ref, 1, cheap)
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); err != nil {
		t.Errorf("95 %% of the table: %v", err)
	}
	raw, o, sig = offer(t, ref, 2, cheap, func(o *job.Offer) { o.NodeHint = 8 })
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); errs.KindOf(err) != errs.Invalid {
		t.Errorf("95 %% at a node that has not said its price: %v, want errs.Invalid", err)
	}
}

func TestAJobOnChainTakesNoOffer(t *testing.T) {
	n, ref, rate := market(t)
	raw, o, sig := offer(t, ref, 1, rate)
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutJob(ctx, state.Job{Spec: o.Spec, Status: state.JobStopped, RateQ32: rate})
	})
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); errs.KindOf(err) != errs.Conflict {
		t.Errorf("SubmitOffer: %v, want errs.Conflict", err)
	}
}

func TestANodeThatHasNotReadTheChainTakesNoOffer(t *testing.T) {
	n := open(t, "n", config(false))
	k := key(t, "payer")
	ref, storeRaw := store(t, k, message.HashOf([]byte("image")))
	if _, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: storeRaw, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	raw, o, sig := offer(t, ref, 1, new(big.Int).Lsh(big.NewInt(1), 120))
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no block: %v, want errs.Unavailable", err)
	}
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutBlock(ctx, state.Block{Number: 1, Time: chainNow})
	})
	if _, err := n.pipe.SubmitOffer(t.Context(), raw, o, sig, time.Now()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no parameters: %v, want errs.Unavailable", err)
	}
}

func TestTokensAreExact(t *testing.T) {
	for want, wei := range map[string]*big.Int{"0": new(big.Int), "0.000000000000000001": big.NewInt(1), "1000": aleph(1000), "1.5": new(big.Int).Add(aleph(1), new(big.Int).Div(aleph(1), big.NewInt(2)))} {
		if got := ingest.Tokens(wei); got != want {
			t.Errorf("Tokens(%s) = %s, want %s", wei, got, want)
		}
	}
}
