package ingest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// saysOf returns what posts say of somebody's balance, at a height.
func saysOf(address string) func(height int, tokens string) map[string]any {
	return func(height int, tokens string) map[string]any {
		return map[string]any{"chain": "ETH", "main_height": height, "balances": map[string]any{address: tokens}}
	}
}

// TestBalancesAreThoseOfWhatCounts: what turns out not to have been allowed says
// nothing of balances, and what others say of them shows again.
func TestBalancesAreThoseOfWhatCounts(t *testing.T) {
	alice, bob, carol := key(t, "alice"), key(t, "bob"), key(t, "carol")
	own, says := addressOf(alice), saysOf(addressOf(carol))
	cfg := config(false)
	cfg.BalanceAuthority, cfg.RetriesMax = []string{own}, 1000
	revoked := func(tr *traffic) message.ItemHash {
		tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
		tr.aggregate("revoke", alice, "security", grants())
		return tr.post("by bob", bob, "address", own, "type", "balances-update", "content", says(3, "5"))
	}
	for _, tt := range []struct {
		name string
		say  func(tr *traffic)
		want string
	}{
		{"nobody else said anything", func(tr *traffic) { revoked(tr) }, "0"},
		{"another post says less", func(tr *traffic) {
			tr.post("first", alice, "type", "balances-update", "content", says(1, "3"))
			revoked(tr)
		}, "3"},
		{"so does one that was forgotten", func(tr *traffic) {
			first := tr.post("first", alice, "type", "balances-update", "content", says(1, "3"))
			tr.forget("forget", alice, []message.ItemHash{first})
			revoked(tr)
		}, "3"},
		{"it was forgotten itself", func(tr *traffic) {
			tr.forget("forget", alice, []message.ItemHash{revoked(tr)})
		}, "0"},
		{"what is forgotten holds until something newer", func(tr *traffic) {
			tr.post("first", alice, "type", "balances-update", "content", says(1, "3"))
			second := tr.post("second", alice, "type", "balances-update", "content", says(2, "4"))
			tr.forget("forget", alice, []message.ItemHash{second})
		}, "4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime}
			tt.say(tr)
			permutations(len(tr.raw), func(order []int) {
				if t.Failed() {
					return
				}
				n := openAlone(t, cfg)
				n.deliver(t, tr, order)
				names := []string{}
				for _, i := range order {
					names = append(names, tr.names[tr.hashes[i]])
				}
				if got, _, err := n.db.BalancesOf(t.Context(), addressOf(carol)); err != nil || got.String() != tt.want {
					t.Errorf("order %s: carol has %s, %v; want %s", strings.Join(names, ", "), got, err, tt.want)
				}
				if found, err := n.db.Check(t.Context()); err != nil || len(found.Differences) > 0 {
					t.Errorf("order %s: %v, %v", strings.Join(names, ", "), found.Differences, err)
				}
			})
		})
	}
}

// TestBalancesOfAForgottenPostEndWithItsRight: so do they when its content is gone.
func TestBalancesOfAForgottenPostEndWithItsRight(t *testing.T) {
	alice, bob, carol := key(t, "alice"), key(t, "bob"), key(t, "carol")
	own, says := addressOf(alice), saysOf(addressOf(carol))
	cfg := config(false)
	cfg.BalanceAuthority, cfg.RetriesMax = []string{own}, 1000
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime}
	tr.post("first", alice, "type", "balances-update", "content", says(1, "3"))
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	tr.aggregate("revoke", alice, "security", grants())
	said := tr.post("by bob", bob, "address", own, "type", "balances-update", "content", says(3, "5"))
	tr.forget("forget", alice, []message.ItemHash{said})
	n := openAlone(t, cfg)
	n.deliver(t, tr, []int{0, 1, 3, 4})
	n.unsealed(t)
	n.deliver(t, tr, []int{2})
	if got, _, err := n.db.BalancesOf(t.Context(), addressOf(carol)); err != nil || got.String() != "3" {
		t.Errorf("carol has %s, %v; want 3", got, err)
	}
}

// unsealed lets the time be over in which forgotten messages may count again.
func (n *node) unsealed(t *testing.T) {
	t.Helper()
	if err := n.db.Update(t.Context(), func(tx *state.Tx) error { return tx.ForgetSealed(t.Context(), time.Now().Add(time.Hour)) }); err != nil {
		t.Fatal(err)
	}
}
