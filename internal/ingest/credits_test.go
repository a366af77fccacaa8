package ingest_test

import (
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestCreditsAreThoseOfWhatCounts: what turns out not to have been allowed moves no
// credits, and what counts again moves them once.
func TestCreditsAreThoseOfWhatCounts(t *testing.T) {
	const all = 1_000_000
	authority, alice, bob, carol := key(t, "credits"), key(t, "alice"), key(t, "bob"), key(t, "carol")
	own := addressOf(alice)
	cfg := config(false)
	cfg.CreditAuthority, cfg.RetriesMax = addressOf(authority), 1000
	give := func(tr *traffic) {
		tr.post("give", authority, "type", "aleph_credit_distribution", "content", map[string]any{"distribution": map[string]any{
			"token": "ALEPH", "chain": "ETH", "credits": []any{map[string]any{"address": own, "amount": all, "price": "1", "tx_hash": "0x", "provider": "W"}},
		}})
	}
	transfer := map[string]any{"transfer": map[string]any{"credits": []any{map[string]any{"address": addressOf(carol), "amount": all}}}}
	check := func(n *node, hash message.ItemHash, status state.MessageStatus, left, moved int64) {
		t.Helper()
		k, err := n.db.Known(t.Context(), hash)
		if err != nil || k.Status != status {
			t.Errorf("transfer: %+v, %v; want it %s", k, err, status)
		}
		for address, want := range map[string]int64{own: left, addressOf(carol): moved} {
			if got, err := n.db.CreditBalance(t.Context(), address, time.Unix(newTime+1000, 0)); err != nil || got != want {
				t.Errorf("%s has %d credits, %v; want %d", address, got, err, want)
			}
		}
	}

	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime, channel: "ALEPH_CREDIT"}
	give(tr)
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	tr.aggregate("revoke", alice, "security", grants())
	moved := tr.post("transfer", bob, "address", own, "type", "aleph_credit_transfer", "content", transfer)
	permutations(len(tr.raw), func(order []int) {
		if t.Failed() {
			return
		}
		n := openAlone(t, cfg)
		n.deliver(t, tr, order)
		check(n, moved, state.MessageRejected, all, 0)
	})

	tr = &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime, channel: "ALEPH_CREDIT"}
	give(tr)
	moved = tr.post("transfer", alice, "type", "aleph_credit_transfer", "content", transfer)
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	tr.aggregate("revoke", alice, "security", grants())
	tr.forget("forget", bob, []message.ItemHash{moved})
	n := openAlone(t, cfg)
	n.deliver(t, tr, []int{0, 1, 2, 4, 3})
	check(n, moved, state.MessageProcessed, 0, all)

	tr = &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime, channel: "ALEPH_CREDIT"}
	give(tr)
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	tr.aggregate("revoke", alice, "security", grants())
	moved = tr.post("transfer", bob, "address", own, "type", "aleph_credit_transfer", "content", transfer)
	tr.forget("forget", alice, []message.ItemHash{moved})
	n = openAlone(t, cfg)
	n.deliver(t, tr, []int{0, 1, 3, 4, 2})
	check(n, moved, state.MessageRejected, all, 0)

	n = openAlone(t, cfg)
	n.deliver(t, tr, []int{0, 1, 3, 4})
	n.unsealed(t)
	n.deliver(t, tr, []int{2})
	check(n, moved, state.MessageForgotten, all, 0) // Nobody can judge it anew, and it moves nothing.
}
