package ingest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestWhatWasForgottenInErrorIsConfirmed: a delegate forgets a post when its right has
// ended already, which becomes known only later. In whatever order all of it comes, the post
// counts, and is confirmed by the transaction that names it.
func TestWhatWasForgottenInErrorIsConfirmed(t *testing.T) {
	alice, bob := key(t, "alice"), key(t, "bob")
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	tr.aggregate("revoke", alice, "security", grants())
	post := tr.post("post", alice)
	tr.forget("forget", bob, []message.ItemHash{post})
	const revoke, named, confirm = 1, 2, 4
	tx := state.Transaction{Chain: message.Ethereum, Hash: "0x1", Height: 1, At: time.Unix(1, 0).UTC()}
	cfg := config(false)
	cfg.RetriesMax = 0
	permutations(confirm+1, func(order []int) {
		if slices.Index(order, revoke) < 2 && slices.Index(order, confirm) > 0 {
			return // It is forgotten by nobody, and few orders of those are enough.
		}
		n := openAlone(t, cfg)
		for _, i := range order {
			if i == confirm {
				if _, err := n.pipe.Confirm(t.Context(), tr.raw[named], tx); err != nil {
					t.Fatal(err)
				}
				continue
			}
			n.submit(t, tr.raw[i])
		}
		if err := n.pipe.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := n.db.Message(t.Context(), post)
		if err != nil || m.Status != state.MessageProcessed {
			t.Fatalf("order %v: the post is %+v, %v", order, m, err)
		}
		found, err := n.db.Confirmations(t.Context(), []message.ItemHash{post})
		if err != nil || len(found[post]) != 1 || found[post][0] != tx {
			t.Errorf("order %v: confirmations %+v, %v, want one", order, found, err)
		}
		err = n.db.View(t.Context(), func(v *state.View) error {
			return v.EachUnconfirmed(t.Context(), 9, func(m *state.Message) bool {
				if m.Envelope.ItemHash == post {
					t.Errorf("order %v: the post is listed as not confirmed", order)
				}
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
