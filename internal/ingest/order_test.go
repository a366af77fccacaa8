package ingest_test

import (
	gocmp "cmp"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest/ingesttest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// traffic is messages that touch one another.
type traffic struct {
	t      *testing.T
	raw    [][]byte
	hashes []message.ItemHash
	names  map[message.ItemHash]string
	second int64
	// channel is that of the messages, TEST if it is empty.
	channel string
}

// say signs a content of the next second, and returns its hash.
func (tr *traffic) say(name string, k *ecdsa.PrivateKey, typ message.Type, content map[string]any) message.ItemHash {
	tr.t.Helper()
	tr.second += 10
	if content["address"] == nil {
		content["address"] = addressOf(k)
	}
	if content["time"] == nil {
		content["time"] = tr.second
	}
	raw, err := json.Marshal(content)
	if err != nil {
		tr.t.Fatal(err)
	}
	channel := gocmp.Or(tr.channel, "TEST")
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Channel: &channel, Time: time.Unix(tr.second, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if err := signature.SignEVM(k, e); err != nil {
		tr.t.Fatal(err)
	}
	out, err := json.Marshal(e)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.raw, tr.hashes = append(tr.raw, out), append(tr.hashes, e.ItemHash)
	tr.names[e.ItemHash] = name
	return e.ItemHash
}

func fields(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1] //nolint:forcetypeassert // Keys are texts.
	}
	return out
}

func (tr *traffic) post(name string, k *ecdsa.PrivateKey, more ...any) message.ItemHash {
	c := fields(more...)
	if c["type"] == nil {
		c["type"] = "news"
	}
	if c["content"] == nil {
		c["content"] = map[string]any{"name": name}
	}
	return tr.say(name, k, message.TypePost, c)
}

func (tr *traffic) aggregate(name string, k *ecdsa.PrivateKey, key string, content map[string]any, more ...any) message.ItemHash {
	c := fields(more...)
	c["key"], c["content"] = key, content
	return tr.say(name, k, message.TypeAggregate, c)
}

func (tr *traffic) file(name string, k *ecdsa.PrivateKey, more ...any) message.ItemHash {
	c := fields(more...)
	c["item_type"], c["item_hash"], c["size"] = "storage", message.HashOf([]byte(name)), 1<<20
	return tr.say(name, k, message.TypeStore, c)
}

func (tr *traffic) forget(name string, k *ecdsa.PrivateKey, hashes []message.ItemHash, more ...any) message.ItemHash {
	c := fields(more...)
	c["hashes"] = append([]message.ItemHash{}, hashes...)
	return tr.say(name, k, message.TypeForget, c)
}

func grants(entries ...map[string]any) map[string]any {
	return map[string]any{"authorizations": entries}
}

// synthetic is traffic in which everything that may depend on an order does.
func synthetic(t *testing.T) *traffic {
	t.Helper()
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	alice, bob, carol := key(t, "alice"), key(t, "bob"), key(t, "carol")
	own := addressOf(alice)

	first := tr.post("first", alice)
	tr.post("amend 1", alice, "type", "amend", "ref", first)
	late := tr.post("amend 2", alice, "type", "amend", "ref", first)
	tr.post("amend of amend", alice, "type", "amend", "ref", late)
	tr.post("amend by a stranger", bob, "type", "amend", "ref", first)
	gone := tr.post("to be forgotten", alice)
	tr.post("amend of forgotten", alice, "type", "amend", "ref", gone)
	tr.forget("forget post", alice, []message.ItemHash{gone})
	tr.forget("forget it again", alice, []message.ItemHash{gone})
	tr.forget("forget by a stranger", bob, []message.ItemHash{first})
	tr.forget("forget amend", alice, []message.ItemHash{late})
	tr.forget("forget nothing known", alice, []message.ItemHash{message.HashOf([]byte("nothing"))})

	tr.aggregate("element 1", alice, "k", map[string]any{"a": 1, "b": 1})
	dropped := tr.aggregate("element 2", alice, "k", map[string]any{"a": 2})
	tr.aggregate("element 3", alice, "k", map[string]any{"b": 3, "c": 3})
	tr.forget("forget element", alice, []message.ItemHash{dropped})
	whole := string(message.HashOf([]byte("key")))
	tr.aggregate("whole 1", alice, whole, map[string]any{"a": 1})
	tr.aggregate("whole 2", alice, whole, map[string]any{"b": 1})
	tr.say("forget whole", alice, message.TypeForget, map[string]any{"hashes": []string{}, "aggregates": []string{whole}})
	tr.aggregate("whole 3", alice, whole, map[string]any{"c": 1})

	tr.post("by bob too early", bob, "address", own) // Approved afterwards.
	grant := tr.aggregate("grant", alice, "security", grants(map[string]any{"address": addressOf(bob), "types": []string{"POST", "FORGET"}}, map[string]any{"address": addressOf(carol)}))
	tr.post("by bob", bob, "address", own)
	tr.aggregate("aggregate by bob", bob, "b", map[string]any{"a": 1}, "address", own)
	tr.aggregate("grant by carol", carol, "security", grants(map[string]any{"address": addressOf(bob)}, map[string]any{"address": addressOf(carol)}), "address", own)
	tr.file("file by bob", bob, "address", own)
	tr.aggregate("revoke", alice, "security", grants())
	tr.post("by bob too late", bob, "address", own)
	tr.post("amend by bob too late", bob, "address", own, "type", "amend", "ref", first)
	tr.forget("forget by bob too late", bob, []message.ItemHash{first})
	_ = grant

	file := tr.file("file", alice)
	tr.file("version 2", alice, "ref", file)
	named := tr.file("named 1", alice, "ref", "app")
	tr.file("named 2", alice, "ref", "app")
	tr.file("version of a version", alice, "ref", named)
	old := tr.file("forgotten file", alice)
	tr.file("version of forgotten", alice, "ref", old)
	tr.forget("forget file", alice, []message.ItemHash{old})
	tr.file("version of another's", bob, "ref", file)
	machine := instanceContent(own, file)
	delete(machine, "time")
	tr.say("machine", alice, message.TypeInstance, machine)
	missing := instanceContent(own, message.HashOf([]byte("missing")))
	delete(missing, "time")
	tr.say("machine without a disk", alice, message.TypeInstance, missing)
	return tr
}

// fixtures is real traffic of the network.
func fixtures(t *testing.T) *traffic {
	t.Helper()
	tr := &traffic{t: t, names: map[message.ItemHash]string{}}
	raw, err := os.ReadFile("testdata/traffic.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		env, err := message.Parse(m)
		if err != nil {
			continue // Of a form that was refused then too.
		}
		tr.raw, tr.hashes = append(tr.raw, m), append(tr.hashes, env.ItemHash)
		tr.names[env.ItemHash] = fmt.Sprint(i, " ", env.Type)
	}
	return tr
}

// deliver hands in the messages in an order, some twice, and lets all settle.
func (n *node) deliver(t *testing.T, tr *traffic, order []int) {
	t.Helper()
	for _, i := range order {
		if _, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: tr.raw[i], At: time.Now()}); err != nil {
			t.Fatalf("%s: %v", tr.names[tr.hashes[i]], err)
		}
	}
	if err := n.pipe.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// outcome is all that the messages made, but for when they came.
func (n *node) outcome(t *testing.T, tr *traffic) string {
	t.Helper()
	ctx := t.Context()
	var b strings.Builder
	for _, hash := range tr.hashes {
		k, err := n.db.Known(ctx, hash)
		if err != nil {
			t.Fatalf("%s: %v", tr.names[hash], err)
		}
		fmt.Fprintf(&b, "%s: %s", tr.names[hash], k.Status)
		switch {
		case k.Skeleton != nil:
			for _, by := range k.Skeleton.ForgottenBy {
				fmt.Fprintf(&b, " by %s", tr.names[by])
			}
		case k.Rejected != nil:
			fmt.Fprintf(&b, " %d", k.Rejected.Code)
		case len(k.Pending) > 0:
			fmt.Fprintf(&b, " %d", k.Pending[0].Code)
		}
		b.WriteByte('\n')
	}
	n.made(t, &b, tr)
	return b.String()
}

func (n *node) made(t *testing.T, b *strings.Builder, tr *traffic) {
	t.Helper()
	made, err := ingesttest.Made(t.Context(), n.db, tr.hashes, tr.names, addressOf(key(t, "alice"))+"/app")
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString(made)
}

// TestOutcomeDoesNotDependOnTheOrder delivers the same messages in many orders,
// some of them twice.
func TestOutcomeDoesNotDependOnTheOrder(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *traffic{"synthetic": synthetic, "real": fixtures} {
		t.Run(name, func(t *testing.T) {
			tr := make(t)
			cfg := config(false)
			cfg.RetriesMax = 1000
			run := func(order []int) string {
				n := open(t, "n", cfg)
				n.deliver(t, tr, order)
				return n.outcome(t, tr)
			}
			order := []int{}
			for i := range tr.raw {
				order = append(order, i)
			}
			if len(tr.raw) < 40 {
				t.Fatalf("only %d messages", len(tr.raw))
			}
			want := run(order)
			t.Logf("in order:\n%s", want)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			slices.Reverse(order)
			for round := range 25 {
				if got := run(order); got != want {
					names := []string{}
					for _, i := range order {
						names = append(names, tr.names[tr.hashes[i]])
					}
					t.Fatalf("round %d, order %s (-in order +now):\n%s", round, strings.Join(names, ", "), cmp.Diff(want, got))
				}
				for range 5 {
					order = append(order, r.IntN(len(tr.raw)))
				}
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
		})
	}
}
