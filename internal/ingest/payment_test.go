package ingest_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Times about which the rules of payment differ: everything is paid by credit from
// 2027 on, machines from March 2026 on, and files were free until April 2025.
const (
	oldTime  = 1_700_000_000
	holdTime = 1_760_000_000
	midTime  = 1_780_000_000
	newTime  = 1_800_000_000
)

// bank is a node with authorities whose keys the test has.
type bank struct {
	*node
	t *testing.T
}

func openBank(t *testing.T) *bank {
	t.Helper()
	cfg := config(true)
	cfg.CreditAuthority, cfg.BalanceAuthority, cfg.PricingAuthority = addressOf(key(t, "credits")), []string{addressOf(key(t, "balances"))}, addressOf(key(t, "prices"))
	b := &bank{node: open(t, "bank", cfg), t: t}
	b.funds.balance, b.funds.allowance = new(big.Int), new(big.Int)
	return b
}

// message signs a content that was made at a time.
func (b *bank) message(k *ecdsa.PrivateKey, typ message.Type, at int64, content map[string]any) []byte {
	b.t.Helper()
	tr := &traffic{t: b.t, names: map[message.ItemHash]string{}, second: at - 10}
	if typ == message.TypePost {
		tr.channel = "ALEPH_CREDIT"
	}
	tr.say("", k, typ, content)
	return tr.raw[0]
}

// say hands in a message that must pay.
func (b *bank) say(k *ecdsa.PrivateKey, typ message.Type, at int64, content map[string]any) *ingest.Verdict {
	b.t.Helper()
	v, err := b.pipe.Submit(b.t.Context(), ingest.Submission{Raw: b.message(k, typ, at, content), At: time.Now(), MustPay: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *bank) want(v *ingest.Verdict, status state.MessageStatus, code message.Code) {
	b.t.Helper()
	refused := status == state.MessageRejected
	if v.Status != status || (v.Refusal != nil) != refused || refused && v.Refusal.Code != code {
		b.t.Errorf("got %s, %v; want %s with code %d", v.Status, v.Refusal, status, code)
	}
}

// file uploads bytes and returns a STORE of them.
func (b *bank) file(size int, payment string) map[string]any {
	b.t.Helper()
	raw := bytes.Repeat([]byte{byte(size)}, size)
	info, err := b.blobs.Put(b.t.Context(), bytes.NewReader(raw), "")
	if err != nil {
		b.t.Fatal(err)
	}
	return map[string]any{"item_type": "storage", "item_hash": info.Hash, "payment": map[string]any{"type": payment}}
}

func (b *bank) give(owner string, at int64, credits int64) {
	b.t.Helper()
	b.want(b.say(key(b.t, "credits"), message.TypePost, at, map[string]any{"type": "aleph_credit_distribution", "content": map[string]any{
		"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": []any{map[string]any{"address": owner, "amount": credits, "price": "1", "tx_hash": "0x", "provider": "W"}}},
	}}), state.MessageProcessed, 0)
}

func (b *bank) hold(owner string, at, height int64, tokens string) {
	b.t.Helper()
	b.want(b.say(key(b.t, "balances"), message.TypePost, at, map[string]any{"type": "balances-update", "content": map[string]any{
		"chain": "ETH", "main_height": height, "balances": map[string]any{owner: json.Number(tokens)},
	}}), state.MessageProcessed, 0)
}

const bigFile = 26 << 20

func TestFilesArePaidAsTheirTimesSay(t *testing.T) {
	b := openBank(t)
	k := key(t, "owner")
	for i, tt := range []struct {
		at      int64
		size    int
		payment string
		status  state.MessageStatus
		code    message.Code
	}{
		{oldTime, bigFile, "hold", state.MessageProcessed, 0}, // Free.
		{holdTime, 1, "hold", state.MessageProcessed, 0},      // Small.
		{holdTime, bigFile + 1, "hold", state.MessageRejected, message.CodeBalanceInsufficient},
		{midTime, 2, "hold", state.MessageProcessed, 0},
		{newTime, 3, "hold", state.MessageRejected, message.CodeInvalidPaymentMethod},
		{newTime, 4, "credit", state.MessageRejected, message.CodeCreditInsufficient},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b.t = t
			b.want(b.say(k, message.TypeStore, tt.at, b.file(tt.size, tt.payment)), tt.status, tt.code)
		})
	}
}

func TestTokensThatAreHeldPayForFiles(t *testing.T) {
	b := openBank(t)
	k := key(t, "owner")
	first := b.file(bigFile+2, "hold") // 26.0000019 MiB at a third of a token each.
	v := b.say(k, message.TypeStore, holdTime, first)
	b.want(v, state.MessageRejected, message.CodeBalanceInsufficient)
	if want := `{"errors":[{"required_balance":"8.666667293782876968","account_balance":"0"}]}`; string(v.Refusal.Details()) != want {
		t.Errorf("details %s, want %s", v.Refusal.Details(), want)
	}
	b.hold(addressOf(k), holdTime+5, 1, "9")
	b.want(b.say(k, message.TypeStore, holdTime, first), state.MessageProcessed, 0)
	b.want(b.say(k, message.TypeStore, holdTime+1, b.file(bigFile+3, "hold")), state.MessageRejected, message.CodeBalanceInsufficient)
	b.hold(addressOf(k), holdTime+6, 2, "18")
	b.hold(addressOf(k), holdTime+7, 1, "1") // Of an older block.
	b.want(b.say(k, message.TypeStore, holdTime+1, b.file(bigFile+3, "hold")), state.MessageProcessed, 0)
}

func TestCreditsPayForMachines(t *testing.T) {
	b := openBank(t)
	k := key(t, "owner")
	ref := b.say(k, message.TypeStore, oldTime, b.file(1000, "hold")).ItemHash
	machine := func(name, payment string) map[string]any {
		c := instanceContent(addressOf(k), ref)
		delete(c, "time")
		c["metadata"] = map[string]any{"name": name}
		c["payment"] = map[string]any{"type": payment}
		return c
	}
	b.want(b.say(k, message.TypeInstance, midTime, machine("a", "hold")), state.MessageRejected, message.CodeInvalidPaymentMethod)
	b.want(b.say(k, message.TypeInstance, midTime, machine("a", "superfluid")), state.MessageRejected, message.CodeInvalidPaymentMethod)
	b.want(b.say(k, message.TypeInstance, holdTime, machine("a", "superfluid")), state.MessageProcessed, 0)
	b.want(b.say(k, message.TypeInstance, holdTime, machine("a", "hold")), state.MessageRejected, message.CodeBalanceInsufficient)
	b.want(b.say(k, message.TypeInstance, midTime, machine("b", "credit")), state.MessageRejected, message.CodeCreditInsufficient)
	// A day of 14250 credits an hour.
	b.give(addressOf(k), midTime-100, 342_000)
	if err := b.pipe.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The refusal was for want of credits that had been given before, so it is looked at again.
	b.want(b.say(k, message.TypeInstance, midTime, machine("b", "credit")), state.MessageProcessed, 0)
	b.want(b.say(k, message.TypeInstance, midTime, machine("c", "credit")), state.MessageRejected, message.CodeCreditInsufficient)
	// What a wallet lets the payment contract take pays as long.
	b.funds.balance, b.funds.allowance = aleph(2), aleph(1000)
	b.want(b.say(k, message.TypeInstance, midTime, machine("c", "credit")), state.MessageProcessed, 0)
	// Without the chain nobody knows of it.
	b.funds.err = errors.New("away")
	b.want(b.say(k, message.TypeInstance, midTime, machine("d", "credit")), state.MessageRejected, message.CodeCreditInsufficient)
}

func TestTransfersAreCoveredWhenTheyAreMade(t *testing.T) {
	b := openBank(t)
	a, c := key(t, "a"), key(t, "c")
	transfer := func(k, to *ecdsa.PrivateKey, at, amount int64) *ingest.Verdict {
		return b.say(k, message.TypePost, at, map[string]any{"type": "aleph_credit_transfer", "content": map[string]any{
			"transfer": map[string]any{"credits": []any{map[string]any{"address": addressOf(to), "amount": amount}}},
		}})
	}
	balance := func(k *ecdsa.PrivateKey, want int64) {
		t.Helper()
		if got, err := b.db.CreditBalance(t.Context(), addressOf(k), time.Now()); err != nil || got != want {
			t.Errorf("balance %d, %v, want %d", got, err, want)
		}
	}
	early := transfer(a, c, midTime, 60)
	b.want(early, state.MessageRejected, message.CodeInvalidFormat)
	b.give(addressOf(a), midTime-10, 100) // Came late.
	if err := b.pipe.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k, err := b.db.Known(t.Context(), early.ItemHash); err != nil || k.Status != state.MessageProcessed {
		t.Errorf("a transfer whose credits came late: %+v, %v", k, err)
	}
	balance(a, 40)
	balance(c, 60)
	b.want(transfer(a, c, midTime+1, 41), state.MessageRejected, message.CodeInvalidFormat)
	b.want(transfer(c, a, midTime-20, 10), state.MessageRejected, message.CodeInvalidFormat) // It had none then.
	b.want(transfer(c, a, midTime+2, 10), state.MessageProcessed, 0)
	balance(a, 50)
}

// TestPricesAreThoseOfTheTime: a price that is published later changes nothing before.
func TestPricesAreThoseOfTheTime(t *testing.T) {
	b := openBank(t)
	k := key(t, "owner")
	b.want(b.say(key(t, "prices"), message.TypeAggregate, midTime, map[string]any{"key": "pricing", "content": map[string]any{
		"storage": map[string]any{"price": map[string]any{"storage": map[string]any{"holding": "2", "credit": "3600"}}},
	}}), state.MessageProcessed, 0)
	cost := func(at int64, size int) string {
		t.Helper()
		v := b.say(k, message.TypeStore, at, b.file(size, "hold"))
		b.want(v, state.MessageProcessed, 0)
		c, err := b.db.Cost(t.Context(), v.ItemHash)
		if err != nil {
			t.Fatal(err)
		}
		return c.Hold
	}
	if got := cost(midTime-1, 1<<20); got != "0.333333333000000000" {
		t.Errorf("before: %s", got)
	}
	if got := cost(midTime+1, 1<<20); got != "2.000000000000000000" {
		t.Errorf("after: %s", got)
	}
}

// TestWhoMustPayMustPayLater too: when the file has come, and when news of credits
// that are not enough have.
func TestWhoMustPayMustPayLater(t *testing.T) {
	b := openBank(t)
	k := key(t, "poor")
	raw := []byte("comes late")
	file := map[string]any{"item_type": "storage", "item_hash": message.HashOf(raw), "payment": map[string]any{"type": "credit"}}
	v := b.say(k, message.TypeStore, newTime, file)
	if v.Status != state.MessagePending {
		t.Fatalf("without its file: %+v", v)
	}
	settled := func() *state.Known {
		t.Helper()
		if err := b.pipe.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		known, err := b.db.Known(t.Context(), v.ItemHash)
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	if _, err := b.blobs.Put(t.Context(), bytes.NewReader(raw), ""); err != nil {
		t.Fatal(err)
	}
	if got := settled(); got.Status != state.MessageRejected || got.Rejected.Code != message.CodeCreditInsufficient {
		t.Fatalf("with its file: %+v; want it rejected with code 6", got)
	}

	b.give(addressOf(k), newTime-1, 1)
	if got := settled(); got.Status != state.MessageRejected {
		t.Errorf("with one credit: %s", got.Status)
	}
	b.give(addressOf(k), newTime-1, 1_000_000)
	if got := settled(); got.Status != state.MessageProcessed {
		t.Errorf("with many credits: %s", got.Status)
	}
}

// TestHeightsSayWhatWasFree before times do.
func TestHeightsSayWhatWasFree(t *testing.T) {
	b := openBank(t)
	for i, tt := range []struct {
		at, height int64
		status     state.MessageStatus
	}{
		{holdTime, 22_195_999, state.MessageProcessed},
		{oldTime, 22_196_000, state.MessageRejected},
	} {
		raw := b.message(key(t, "owner"), message.TypeStore, tt.at, b.file(bigFile+i, "hold"))
		v, err := b.pipe.Confirm(t.Context(), raw, state.Transaction{Chain: message.Ethereum, Hash: "0x1", Height: tt.height, At: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		b.want(v, tt.status, message.CodeBalanceInsufficient)
	}
}
