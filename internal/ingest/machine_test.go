package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestAMachineReplacesOneThatWasForgotten: whether that was before or after is of no
// importance, and neither is it for who may replace what.
func TestAMachineReplacesOneThatWasForgotten(t *testing.T) {
	alice, bob := key(t, "alice"), key(t, "bob")
	for _, tt := range []struct {
		name string
		say  func(say func(name string, more ...any) message.ItemHash)
		want string // Of the new one.
	}{
		{"which allows it", func(say func(name string, more ...any) message.ItemHash) {
			say("new", "replaces", say("old", "allow_amend", true))
		}, "processed"},
		{"which does not allow it", func(say func(name string, more ...any) message.ItemHash) {
			say("new", "replaces", say("old"))
		}, fmt.Sprint("rejected ", int(message.CodeVMAmendNotAllowed))},
		{"which is another's", func(say func(name string, more ...any) message.ItemHash) {
			say("new", "replaces", say("old", "allow_amend", true), "address", addressOf(bob))
		}, fmt.Sprint("rejected ", int(message.CodePermissionDenied))},
		{"which replaces one itself", func(say func(name string, more ...any) message.ItemHash) {
			first := say("first", "allow_amend", true)
			say("new", "replaces", say("old", "allow_amend", true, "replaces", first))
		}, fmt.Sprint("rejected ", int(message.CodeVMUpdateUpdate))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime}
			file := tr.file("file", alice, "payment", map[string]any{"type": "credit"})
			var old message.ItemHash
			tt.say(func(name string, more ...any) message.ItemHash {
				c, who := instanceContent(addressOf(alice), file), alice
				for field, value := range fields(more...) {
					c[field] = value
				}
				delete(c, "time")
				if c["address"] == addressOf(bob) {
					who = bob
				}
				hash := tr.say(name, who, message.TypeInstance, c)
				if name == "old" {
					old = hash
				}
				return hash
			})
			tr.forget("forget", alice, []message.ItemHash{old})
			cfg := config(false)
			cfg.RetriesMax = 1000
			var want string
			permutations(len(tr.raw)-1, func(order []int) {
				for i := range order {
					order[i]++
				}
				order = append([]int{0}, order...) // All of them need the file.
				if t.Failed() {
					return
				}
				n := openAlone(t, cfg)
				last := len(order) - 1
				n.deliver(t, tr, order[:last])
				n.unsealed(t) // What it takes to judge is kept for good.
				n.deliver(t, tr, order[last:])
				got := n.outcome(t, tr)
				if want == "" {
					if want = got; !strings.Contains(got, "new: "+tt.want+"\n") {
						t.Errorf("the new one should be %s:\n%s", tt.want, got)
					}
				}
				if got != want {
					t.Errorf("order %v (-in order +now):\n%s", order, cmp.Diff(want, got))
				}
			})
		})
	}
}

// TestAMachineThatReplacedOneIsCaughtUpWith, though nobody has the old one any more.
func TestAMachineThatReplacedOneIsCaughtUpWith(t *testing.T) {
	alice := key(t, "alice")
	for _, order := range [][]int{{0, 1, 2, 3}, {0, 1, 3, 2}} {
		tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: newTime}
		machine := instanceContent(addressOf(alice), tr.file("file", alice, "payment", map[string]any{"type": "credit"}))
		delete(machine, "time")
		machine["allow_amend"] = true
		old := tr.say("old", alice, message.TypeInstance, machine)
		delete(machine, "time")
		machine["replaces"] = old
		replacement := tr.say("new", alice, message.TypeInstance, machine)
		tr.forget("forget", alice, []message.ItemHash{old})
		m := newMesh()
		a, _ := attend(t, m, "a", t.TempDir())
		b, _ := attend(t, m, "b", t.TempDir())
		a.deliver(t, tr, order)

		b.catchUp(t, "a")

		if err := b.pipe.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		k, err := b.db.Known(t.Context(), replacement)
		if err != nil || k.Status != state.MessageProcessed {
			t.Errorf("order %v: the new machine is %s, %v; want it processed", order, k.Status, err)
		}
	}
}
