package corechannel_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// name returns the hash of the i-th message.
func name(i int) string { return fmt.Sprintf("f%063x", i) }

const most = 60 // events of a history

func histories() *rapid.Generator[[]corechannel.Event] {
	return rapid.Custom(func(t *rapid.T) []corechannel.Event {
		events := make([]corechannel.Event, rapid.IntRange(1, most).Draw(t, "events"))
		for i := range events {
			events[i] = anyEvent(t, i)
		}
		return events
	})
}

func anyEvent(t *rapid.T, i int) corechannel.Event {
	address := rapid.SampledFrom([]string{alice, bob, carol, dave})
	ref := rapid.OneOf(
		rapid.Map(rapid.IntRange(0, most), name),
		rapid.Map(rapid.Uint32Range(1, 4), corechannel.ChainHash),
	)
	height := rapid.Uint64Range(0, 30).Draw(t, "height")
	fact := corechannel.Event{Height: height, Index: rapid.Uint32Range(0, 2).Draw(t, "index")}
	told := corechannel.Event{Height: height, At: time.Unix(rapid.Int64Range(1, 3).Draw(t, "at"), 0), Hash: message.ItemHash(name(i))}
	wei := rapid.Map(rapid.SampledFrom([]string{"0", "9998", "10000.5", "200000", "700000"}), mustWei)
	switch rapid.IntRange(0, 5).Draw(t, "sort") {
	case 0:
		fact.Body = corechannel.Balance{Address: address.Draw(t, "holder"), Source: rapid.SampledFrom([]string{"ETH", "SOL"}).Draw(t, "source"), Wei: wei.Draw(t, "wei")}
		return fact
	case 1:
		id := rapid.Uint32Range(1, 4).Draw(t, "id")
		kind := corechannel.ChainCoordinator
		if id%2 == 0 {
			kind = corechannel.ChainCompute
		}
		fact.Body = corechannel.Registration{
			ID: id, Kind: kind, Owner: address.Draw(t, "owner"), Stake: wei.Draw(t, "stake"), Linked: rapid.SampledFrom([]uint32{0, 1, 3}).Draw(t, "linked"),
			Status:   rapid.SampledFrom([]corechannel.ChainStatus{"pending", corechannel.ChainActive, corechannel.ChainExited}).Draw(t, "status"),
			Meta:     message.ItemHash(ref.Draw(t, "meta")),
			Endpoint: rapid.SampledFrom([]string{"", "/ip4/1.1.1.1/tcp/1", "http://a/"}).Draw(t, "endpoint"), Locked: rapid.Bool().Draw(t, "locked"),
		}
		return fact
	case 2:
		row := []corechannel.Score{{NodeID: ref.Draw(t, "node"), Total: rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "score")}}
		told.Body = corechannel.Scores{Nodes: row, ResourceNodes: row}
		return told
	default:
		told.Body = anyOperation(t, address.Draw(t, "sender"), ref.Draw(t, "ref"))
		return told
	}
}

func anyOperation(t *rapid.T, sender, ref string) corechannel.Operation {
	kind := "compute"
	op := corechannel.Operation{
		Action: rapid.SampledFrom([]corechannel.Action{
			corechannel.CreateNode, corechannel.CreateNode, corechannel.CreateResourceNode, corechannel.CreateResourceNode, corechannel.Link,
			corechannel.Link, corechannel.Unlink, corechannel.DropNode, corechannel.Stake, corechannel.StakeSplit, corechannel.Unstake, corechannel.Amend,
		}).Draw(t, "action"),
		Address: sender, Ref: ref, Details: corechannel.Details{Type: &kind},
	}
	if rapid.Bool().Draw(t, "claims") {
		id := rapid.Uint32Range(1, 4).Draw(t, "claim")
		op.Details.NodeID = &id
	}
	if rapid.Bool().Draw(t, "describes") {
		multiaddress := rapid.SampledFrom([]string{"", "/ip4/1.1.1.1/tcp/1", "/ip4/1.1.1.2/tcp/1"}).Draw(t, "multiaddress")
		url := rapid.SampledFrom([]string{"", "http://a/", "http://b/"}).Draw(t, "url")
		locked := rapid.Bool().Draw(t, "locks")
		op.Details.Multiaddress, op.Details.Address, op.Details.Locked = &multiaddress, &url, &locked
	}
	return op
}

func quick() corechannel.Settings {
	s := corechannel.DefaultSettings()
	s.DropFrom, s.DropAfter, s.LinksMax, s.BonusBefore = 5, 5, 2, 15
	return s
}

// The state depends on what happened and not on who told it first, and a
// checkpoint anywhere in it leads to the same.
func TestTheOrderOfTellingDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := histories().Draw(t, "history")
		const now = 31
		want := stateOf(t, corechannel.Replay(quick(), now, events))

		shuffled := rapid.Permutation(events).Draw(t, "told")
		if got := stateOf(t, corechannel.Replay(quick(), now, shuffled)); got != want {
			t.Fatalf("in another order:\n%s\nwant\n%s", got, want)
		}
		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		f := corechannel.New(quick())
		var checkpoint *corechannel.Fold
		for i, e := range corechannel.Merge(now, append(slices.Clone(events), events...)) {
			if i == cut {
				checkpoint = f.Clone()
			}
			_ = f.Apply(e)
		}
		if checkpoint == nil {
			return
		}
		for _, e := range corechannel.Merge(now, shuffled) {
			if checkpoint.Takes(e) {
				_ = checkpoint.Apply(e)
			}
		}
		for which, f := range map[string]*corechannel.Fold{"one by one": f, "from a checkpoint": checkpoint} {
			if got := stateOf(t, f); got != want {
				t.Fatalf("%s:\n%s\nwant\n%s", which, got, want)
			}
		}
	})
}

// What holds in every state.
func TestStatesAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := corechannel.New(quick())
		for _, e := range corechannel.Merge(31, histories().Draw(t, "history")) {
			_ = f.Apply(e)
			checkState(t, f.State())
		}
	})
}

func checkState(t *rapid.T, s corechannel.State) {
	t.Helper()
	owners, links, hosts := map[string]bool{}, map[string]string{}, map[string]bool{}
	for _, n := range s.Nodes {
		owners[n.Owner] = true
		for _, crn := range n.ResourceNodes {
			links[crn] = n.Hash
		}
		if hosts[n.Multiaddress] && n.Multiaddress != "" {
			t.Fatalf("two CCNs at %s", n.Multiaddress)
		}
		hosts[n.Multiaddress] = true
	}
	seen := map[string]bool{}
	for _, n := range s.Nodes {
		total := 0.0
		for staker, tokens := range n.Stakers {
			if owners[staker] {
				t.Fatalf("%s has a CCN and stakes", staker)
			}
			total += tokens
		}
		if total != n.TotalStaked || seen[n.Hash] || len(n.Hash) != 64 {
			t.Fatalf("CCN %+v", n)
		}
		seen[n.Hash] = true
	}
	for _, n := range s.ResourceNodes {
		parent := ""
		if n.Parent != nil {
			parent = *n.Parent
		}
		if links[n.Hash] != parent || (parent != "") != (n.Status == corechannel.Linked) || seen[n.Hash] || len(n.Hash) != 64 {
			t.Fatalf("CRN %+v, linked by %s", n, links[n.Hash])
		}
		seen[n.Hash] = true
		delete(links, n.Hash)
	}
	if len(links) > 0 {
		t.Fatalf("links to nothing: %v", links)
	}
}

// stateOf also reads the state as a client does.
func stateOf(t *rapid.T, f *corechannel.Fold) string {
	raw, err := f.State().Content()
	if err != nil {
		t.Fatal(err)
	}
	read, err := corechannel.ParseState(raw)
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	again, err := read.Content()
	if err != nil || string(again) != string(raw) || !json.Valid(raw) {
		t.Fatalf("a state reads as another (%v):\n%s\n%s", err, raw, again)
	}
	return string(raw)
}
