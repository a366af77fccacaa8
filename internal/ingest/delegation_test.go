package ingest_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// permutations calls fn with every order of n things.
func permutations(n int, fn func(order []int)) {
	var place func(order []int)
	place = func(order []int) {
		if len(order) == n {
			fn(slices.Clone(order))
			return
		}
		for i := range n {
			if !slices.Contains(order, i) {
				place(append(order, i))
			}
		}
	}
	place(nil)
}

// openAlone returns a node that is on no network and has no files.
func openAlone(t *testing.T, cfg ingest.Config) *node {
	t.Helper()
	n := &node{}
	var err error
	if n.db, err = state.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if n.pipe, err = ingest.New(cfg, domain(), n.db, nil, noFiles{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDelegationsAreJudgedAlikeInAnyOrder delivers a few messages in every order.
func TestDelegationsAreJudgedAlikeInAnyOrder(t *testing.T) {
	alice, bob, carol := key(t, "alice"), key(t, "bob"), key(t, "carol")
	own := addressOf(alice)
	toCarol := grants(map[string]any{"address": addressOf(carol)})
	toBob := grants(map[string]any{"address": addressOf(bob)})
	for _, tt := range []struct {
		name string
		say  func(tr *traffic)
		want map[string]state.MessageStatus
	}{
		{
			"a delegate whose right ended does not prolong it", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toCarol)
				tr.aggregate("revoke", alice, "security", grants())
				tr.aggregate("own grant", carol, "security", toCarol, "address", own)
				tr.post("post", carol, "address", own)
			},
			map[string]state.MessageStatus{"own grant": state.MessageRejected, "post": state.MessageRejected},
		},
		{
			"a delegate may allow others something and keep nothing", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toCarol)
				tr.aggregate("grant to bob", carol, "security", toBob, "address", own)
				tr.post("post", bob, "address", own)
				tr.post("post by carol", carol, "address", own)
			},
			map[string]state.MessageStatus{"grant to bob": state.MessageProcessed, "post": state.MessageProcessed, "post by carol": state.MessageRejected},
		},
		{
			"of grants of one time each is judged by those before it", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toCarol)
				at := tr.second + 100
				theirs := tr.aggregate("own grant", carol, "security", toCarol, "address", own, "time", at)
				raw, hashes := tr.raw, tr.hashes
				for salt := 0; ; salt++ {
					c := grants()
					c["salt"] = salt
					if tr.aggregate("revoke", alice, "security", c, "time", at) > theirs {
						break
					}
					tr.raw, tr.hashes = raw, hashes // One that is the newer is wanted.
				}
				tr.post("post", carol, "address", own, "time", at)
			},
			map[string]state.MessageStatus{"own grant": state.MessageProcessed, "revoke": state.MessageProcessed, "post": state.MessageRejected},
		},
		{
			"what such a delegate allows others goes too", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toCarol)
				tr.aggregate("revoke", alice, "security", grants())
				tr.aggregate("grant to bob", carol, "security", toBob, "address", own)
				tr.post("post", bob, "address", own)
			},
			map[string]state.MessageStatus{"grant to bob": state.MessageRejected, "post": state.MessageRejected},
		},
		{
			"what was refused after a revocation counts when a grant comes late", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toBob)
				tr.aggregate("revoke", alice, "security", grants())
				tr.aggregate("grant again", alice, "security", toBob)
				tr.post("post", bob, "address", own)
			},
			map[string]state.MessageStatus{"post": state.MessageProcessed},
		},
		{
			"a grant ends with the first of its FORGETs", func(tr *traffic) {
				grant := tr.aggregate("grant", alice, "security", toBob)
				tr.forget("forget", alice, []message.ItemHash{grant})
				tr.post("post", bob, "address", own)
				tr.forget("forget later", alice, []message.ItemHash{grant})
			},
			map[string]state.MessageStatus{"post": state.MessageRejected},
		},
		{
			"who may forget a grant may do so by that grant", func(tr *traffic) {
				grant := tr.aggregate("grant", alice, "security", toBob)
				tr.post("post", bob, "address", own)
				tr.forget("forget", bob, []message.ItemHash{grant})
				tr.post("post later", bob, "address", own)
			},
			map[string]state.MessageStatus{"forget": state.MessageProcessed, "grant": state.MessageForgotten, "post": state.MessageProcessed, "post later": state.MessageRejected},
		},
		{
			"a stranger forgets no aggregate, though its owner did", func(tr *traffic) {
				whole := string(message.HashOf([]byte("key")))
				tr.aggregate("element", alice, whole, map[string]any{"a": 1})
				tr.say("forget", alice, message.TypeForget, map[string]any{"hashes": []string{}, "aggregates": []string{whole}})
				tr.say("forget by a stranger", bob, message.TypeForget, map[string]any{
					"address": own, "time": tr.second + 1000, "hashes": []string{}, "aggregates": []string{whole},
				})
				tr.aggregate("element later", alice, whole, map[string]any{"b": 1})
			},
			map[string]state.MessageStatus{"forget by a stranger": state.MessageRejected, "element": state.MessageForgotten, "element later": state.MessageProcessed},
		},
		{
			"nor one that has only newer elements", func(tr *traffic) {
				whole := string(message.HashOf([]byte("key")))
				tr.aggregate("element", alice, whole, map[string]any{"a": 1})
				tr.say("forget by a stranger", bob, message.TypeForget, map[string]any{"address": own, "time": 1, "hashes": []string{}, "aggregates": []string{whole}})
				tr.aggregate("oldest element", alice, whole, map[string]any{"b": 1}, "time", 1)
			},
			map[string]state.MessageStatus{"forget by a stranger": state.MessageRejected, "element": state.MessageProcessed, "oldest element": state.MessageProcessed},
		},
		{
			"an amend is judged by its original, which may come after it", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob), "post_types": []string{"news"}}))
				original := tr.post("original", alice)
				tr.post("amend", bob, "address", own, "type", "amend", "ref", original)
			},
			map[string]state.MessageStatus{"amend": state.MessageProcessed},
		},
		{
			"or be forgotten before it", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob), "post_types": []string{"news"}}))
				original := tr.post("original", alice)
				tr.post("amend", bob, "address", own, "type", "amend", "ref", original)
				tr.forget("forget", alice, []message.ItemHash{original})
			},
			map[string]state.MessageStatus{"amend": state.MessageForgotten},
		},
		{
			"and not by its own type", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob), "post_types": []string{"amend"}}))
				original := tr.post("original", alice)
				tr.post("amend", bob, "address", own, "type", "amend", "ref", original)
				tr.forget("forget", alice, []message.ItemHash{original})
			},
			map[string]state.MessageStatus{"amend": state.MessageRejected},
		},
		{
			"what is no post has no amends, also when it was forgotten", func(tr *traffic) {
				element := tr.aggregate("element", alice, "amend", map[string]any{"a": 1})
				tr.post("amend", alice, "type", "amend", "ref", element)
				tr.forget("forget", alice, []message.ItemHash{element})
			},
			map[string]state.MessageStatus{"amend": state.MessageRejected},
		},
		{
			"what its delegate was not allowed to write is refused, though it was forgotten", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toBob)
				tr.aggregate("revoke", alice, "security", grants())
				post := tr.post("post", bob, "address", own)
				tr.forget("forget", alice, []message.ItemHash{post})
			},
			map[string]state.MessageStatus{"post": state.MessageRejected, "forget": state.MessageRejected},
		},
		{
			"and allowed nobody anything", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toBob)
				tr.aggregate("revoke", alice, "security", grants())
				theirs := tr.aggregate("grant to carol", bob, "security", toCarol, "address", own)
				tr.post("post", carol, "address", own)
				tr.forget("forget", alice, []message.ItemHash{theirs})
			},
			map[string]state.MessageStatus{"grant to carol": state.MessageRejected, "post": state.MessageRejected, "forget": state.MessageRejected},
		},
		{
			"an amend that was not allowed is refused, though its post was forgotten", func(tr *traffic) {
				tr.aggregate("grant", alice, "security", toBob)
				tr.aggregate("revoke", alice, "security", grants())
				original := tr.post("original", alice)
				tr.post("amend", bob, "address", own, "type", "amend", "ref", original)
				tr.forget("forget", alice, []message.ItemHash{original})
			},
			map[string]state.MessageStatus{"original": state.MessageForgotten, "amend": state.MessageRejected, "forget": state.MessageProcessed},
		},
		{
			"and an element, though its aggregate was", func(tr *traffic) {
				whole := string(message.HashOf([]byte("key")))
				tr.aggregate("grant", alice, "security", toBob)
				tr.aggregate("revoke", alice, "security", grants())
				tr.aggregate("element", alice, whole, map[string]any{"a": 1})
				tr.aggregate("element by bob", bob, whole, map[string]any{"b": 1}, "address", own)
				tr.say("forget", alice, message.TypeForget, map[string]any{"hashes": []string{}, "aggregates": []string{whole}})
			},
			map[string]state.MessageStatus{"element": state.MessageForgotten, "element by bob": state.MessageRejected, "forget": state.MessageProcessed},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
			tt.say(tr)
			cfg := config(false)
			cfg.RetriesMax = 0 // What waits is refused, and judged again when that comes.
			var want string
			permutations(len(tr.raw), func(order []int) {
				n := openAlone(t, cfg)
				n.deliver(t, tr, order)
				got := n.outcome(t, tr)
				if want == "" {
					want = got
					for name, status := range tt.want {
						if !strings.Contains(got, fmt.Sprintf("%s: %s", name, status)) {
							t.Errorf("%q should be %s:\n%s", name, status, got)
						}
					}
				}
				if got != want && !t.Failed() {
					names := []string{}
					for _, i := range order {
						names = append(names, tr.names[tr.hashes[i]])
					}
					t.Errorf("order %s (-in order +now):\n%s", strings.Join(names, ", "), cmp.Diff(want, got))
				}
			})
		})
	}
}

// TestAGrantWakesManyRefusalsInPortions, the rest of them by a node that starts later.
func TestAGrantWakesManyRefusalsInPortions(t *testing.T) {
	const all = 600
	cfg := config(false)
	cfg.RetriesMax = 0
	n, alice, bob := openAlone(t, cfg), key(t, "alice"), key(t, "bob")
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob)}))
	for range all {
		tr.post("post", bob, "address", addressOf(alice))
	}
	if _, err := n.pipe.SubmitTogether(t.Context(), tr.raw[1:]...); err != nil {
		t.Fatal(err)
	}
	n.submit(t, tr.raw[0])
	if waiting, _, err := n.db.CountPending(t.Context()); err != nil || waiting > all/2 {
		t.Errorf("%d wait after the grant, %v; want a portion of %d", waiting, err, all)
	}
	n.run(t)
	for _, hash := range tr.hashes[1:] {
		n.waitFor(t, hash, state.MessageProcessed)
	}
	if more, err := n.db.Wakes(t.Context()); err != nil || more {
		t.Errorf("something is still to be woken: %t, %v", more, err)
	}
}
