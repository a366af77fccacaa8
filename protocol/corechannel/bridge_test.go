package corechannel_test

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// coordinator is alice's node 7 on chain, active.
func coordinator() corechannel.Registration {
	return corechannel.Registration{
		ID: 7, Kind: corechannel.ChainCoordinator, Status: corechannel.ChainActive, Owner: alice, Payout: dave, Meta: message.ItemHash(hash("e")),
		Name: "on chain", Endpoint: "/ip4/9.9.9.9/tcp/1", At: time.Unix(1_800_000_000, 0),
	}
}

// compute is bob's node 8 on chain, which the coordinator links.
func compute() corechannel.Registration {
	return corechannel.Registration{
		ID: 8, Kind: corechannel.ChainCompute, Status: "pending", Owner: bob, Name: "runs", Endpoint: "https://run.example/",
		Linked: 7, At: time.Unix(1_800_000_000, 500_000_000),
	}
}

func TestRegistrationsAreInTheLists(t *testing.T) {
	w := newWorld(t)
	r := coordinator()
	r.Stake, r.Delegations = wei(t, "200000"), map[string]*big.Int{
		carol: wei(t, "300000"), dave: wei(t, "0.5"), bob: nil, alice: new(big.Int), // Who has nothing left is no staker.
	}
	w.register(r)
	w.register(compute())

	want := corechannel.State{
		Nodes: []corechannel.Node{{
			Hash: corechannel.ChainHash(7), Owner: alice, Stakers: map[string]float64{carol: 300_000, dave: 0.5}, TotalStaked: 300_000.5,
			Status: corechannel.Active, Time: 1_800_000_000, Authorized: []string{}, ResourceNodes: []string{corechannel.ChainHash(8)},
			Profile: corechannel.Profile{Name: "on chain", Multiaddress: "/ip4/9.9.9.9/tcp/1", Reward: dave},
		}},
		ResourceNodes: []corechannel.ResourceNode{{
			Hash: corechannel.ChainHash(8), Type: "compute", Owner: bob, Locked: corechannel.LockOff, Status: corechannel.Linked,
			Authorized: corechannel.Addresses{}, Time: 1_800_000_000.5,
			Profile: corechannel.Profile{Name: "runs", Address: "https://run.example/", Reward: bob},
		}},
	}
	parent := corechannel.ChainHash(7)
	want.ResourceNodes[0].Parent = &parent
	if diff := cmp.Diff(want, w.fold.State()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if want := strings.Repeat("0", 63) + "7"; corechannel.ChainHash(7) != want {
		t.Errorf("hash %s, want %s", corechannel.ChainHash(7), want)
	}
}

func TestRegistrationsThatAreNotListed(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *corechannel.Registration)
		want   string // a part of the reason
		listed bool
	}{
		{"pending without stake", func(r *corechannel.Registration) { r.Status = "pending" }, "", false},
		{"pending with a CCN's stake", func(r *corechannel.Registration) { r.Status, r.Stake = "pending", wei(t, "199999") }, "", true},
		{"suspended", func(r *corechannel.Registration) { r.Status, r.Stake = "suspended", wei(t, "199998") }, "", false},
		{"of a kind that the lists do not have", func(r *corechannel.Registration) { r.Kind = "storage" }, "no list", false},
		{"without an id", func(r *corechannel.Registration) { r.ID = 0 }, "id 0", false},
		{"exited before it was seen", func(r *corechannel.Registration) { r.Status = corechannel.ChainExited }, "not registered", false},
		{"active", func(*corechannel.Registration) {}, "", true},
	}
	for _, tt := range tests {
		w := newWorld(t)
		r := coordinator()
		tt.change(&r)
		if got := w.register(r); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: reason %q, want %q", tt.name, got, tt.want)
		}
		if listed := w.ccn(corechannel.ChainHash(7)) != nil; listed != tt.listed {
			t.Errorf("%s: listed %v, want %v", tt.name, listed, tt.listed)
		}
	}
}

// The message and the registration may come in any order, and either may name
// the other.
func TestOneNodeOfBothWorldsIsOneEntry(t *testing.T) {
	claim := `{"node_id":7,"name":"posted","multiaddress":"/ip4/9.9.9.9/tcp/2","reward":"` + carol + `"}`
	bare := `{"description":"d"}`
	post := func(details string) func(w *world) {
		return func(w *world) { w.must("e", alice, "create-node", "", details) }
	}
	register := func(w *world) { w.register(coordinator()) }
	rich := func(w *world) { w.balance(alice, "200000") }
	amend := func(w *world) { w.must("d", alice, "amend", "e", `{"node_id":7}`) }
	other := func(w *world) { // its metadata is something else
		r := coordinator()
		r.Meta = message.ItemHash(hash("0"))
		w.register(r)
	}
	tests := []struct {
		name  string
		steps []func(w *world)
		want  corechannel.Profile
	}{
		{"registered, then posted, by metadata", []func(w *world){register, post(bare)}, corechannel.Profile{Name: "on chain", Multiaddress: "/ip4/9.9.9.9/tcp/1", Reward: dave, Description: "d"}},
		{"posted, then registered, by metadata", []func(w *world){rich, post(bare), register}, corechannel.Profile{Name: "on chain", Multiaddress: "/ip4/9.9.9.9/tcp/1", Reward: dave, Description: "d"}},
		{"registered, then posted, by id", []func(w *world){other, post(claim)}, corechannel.Profile{Name: "posted", Multiaddress: "/ip4/9.9.9.9/tcp/2", Reward: carol}},
		{"posted, then registered, by id", []func(w *world){rich, post(claim), other}, corechannel.Profile{Name: "posted", Multiaddress: "/ip4/9.9.9.9/tcp/2", Reward: carol}},
		{"posted, then named by an amend, then registered", []func(w *world){rich, post(`{}`), amend, other}, corechannel.Profile{Name: "on chain", Multiaddress: "/ip4/9.9.9.9/tcp/1", Reward: dave}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for _, step := range tt.steps {
				step(w)
			}
			s := w.fold.State()
			if len(s.Nodes) != 1 || s.Nodes[0].Hash != hash("e") || s.Nodes[0].Status != corechannel.Active {
				t.Fatalf("CCNs %+v, want one under the message's hash, active", s.Nodes)
			}
			if diff := cmp.Diff(tt.want, s.Nodes[0].Profile); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
			// Both names lead to it, and no wallet is needed.
			w.balance(alice, "0")
			w.must("c", alice, "amend", corechannel.ChainHash(7), `{"name":"both"}`)
			if n := w.ccn("e"); n == nil || n.Name != "both" {
				t.Errorf("CCN %+v", n)
			}
			if got := w.do("b", alice, "drop-node", "e", ""); !strings.Contains(got, "on chain") {
				t.Errorf("drop of a node on chain: %q", got)
			}
		})
	}
}

// Who posts the hash of another's registration, or registers the hash of
// another's post, has an entry of their own and nothing of the other's.
func TestStrangersDoNotBecomeOneEntry(t *testing.T) {
	w := newWorld(t)
	w.balance(bob, "200000")
	w.must("e", bob, "create-node", "", `{"node_id":7,"name":"bob's"}`)
	w.register(coordinator())
	s := w.fold.State()
	if len(s.Nodes) != 2 || s.Nodes[0].Owner != bob || s.Nodes[0].Name != "bob's" || s.Nodes[1].Hash != corechannel.ChainHash(7) {
		t.Errorf("CCNs %+v, want one of each", s.Nodes)
	}
	w.must("d", carol, "create-resource-node", "", `{"type":"compute","node_id":8}`)
	w.register(compute())
	if n := w.crn("d"); n.Parent != nil || w.crn(corechannel.ChainHash(8)) == nil {
		t.Errorf("CRN %+v", n)
	}
	if got := w.do("c", bob, "create-node", "", `{"node_id":7}`); !strings.Contains(got, "has a CCN") {
		t.Errorf("a claim of another's node: %q", got)
	}
}

// Of two that claim one id, the older has it.
func TestTheOlderClaimHolds(t *testing.T) {
	w := newWorld(t)
	letters := strings.Split("123456789abcdef0", "")
	for _, l := range letters {
		w.must(l, bob, "create-resource-node", "", `{"type":"gpu","node_id":8}`)
	}
	w.register(compute())
	for _, l := range letters {
		if name := w.crn(l).Name; (name == "runs") != (l == "1") {
			t.Errorf("the CRN %s has the name %q", l, name)
		}
	}
}

func TestNodesOnChainAreNotForgotten(t *testing.T) {
	w := newWorld(t)
	w.register(compute())
	w.score("1", corechannel.ChainHash(8), 0)
	w.height += 91 * 7130
	w.score("2", corechannel.ChainHash(8), 0)
	if w.crn(corechannel.ChainHash(8)) == nil {
		t.Error("the score removes a node that is on chain")
	}
}

// What hangs on the entry of a registration stays when a message describes it.
func TestMessagesTakeOverWhatHangsOnARegistration(t *testing.T) {
	w := newWorld(t)
	w.balance(carol, "20000")
	w.register(coordinator())
	w.register(compute())
	w.must("c", bob, "create-resource-node", "", `{"type":"compute"}`)
	w.must("1", alice, "link", "c", "")
	w.must("2", carol, "stake", corechannel.ChainHash(7), "")
	w.score("3", corechannel.ChainHash(7), 0.9)
	w.score("4", corechannel.ChainHash(8), 0.8)

	w.must("e", alice, "create-node", "", "")
	w.must("f", bob, "create-resource-node", "", `{"type":"gpu","node_id":8}`)

	n, r := w.ccn("e"), w.crn("f")
	if n == nil || r == nil {
		t.Fatal("an entry is missing")
	}
	if n.Stakers[carol] != 20_000 || n.Score != 0.9 || !slices.Equal(n.ResourceNodes, []string{hash("f"), hash("c")}) {
		t.Errorf("CCN %+v", n)
	}
	if r.Score != 0.8 || r.Type != "gpu" || *r.Parent != hash("e") || *w.crn("c").Parent != hash("e") {
		t.Errorf("CRN %+v", r)
	}
	if s := w.fold.State(); len(s.Nodes) != 1 || len(s.ResourceNodes) != 2 {
		t.Errorf("%d CCNs and %d CRNs, want 1 and 2", len(s.Nodes), len(s.ResourceNodes))
	}
	w.must("5", carol, "unstake", "e", "")
}

func TestTheChainDecidesItsLinks(t *testing.T) {
	w := newWorld(t)
	w.register(compute()) // before its coordinator
	if r := w.crn(corechannel.ChainHash(8)); r.Status != corechannel.Waiting {
		t.Errorf("linked to nothing: %+v", r)
	}
	w.register(coordinator())
	if r := w.crn(corechannel.ChainHash(8)); r.Parent == nil || *r.Parent != corechannel.ChainHash(7) {
		t.Fatalf("not linked: %+v", r)
	}
	if got := w.do("1", alice, "unlink", corechannel.ChainHash(8), ""); !strings.Contains(got, "on chain") {
		t.Errorf("unlink by a message: %q", got)
	}
	free := compute()
	free.Linked, free.Locked = 0, true
	w.register(free)
	if r := w.crn(corechannel.ChainHash(8)); r.Parent != nil || r.Locked != corechannel.LockOn || len(w.ccn(corechannel.ChainHash(7)).ResourceNodes) != 0 {
		t.Errorf("after unlink on chain: %+v", r)
	}
	if got := w.do("2", alice, "link", corechannel.ChainHash(8), ""); !strings.Contains(got, "locked") {
		t.Errorf("link of a node that is locked on chain: %q", got)
	}
	// A link by a message stays until the chain says another.
	free.Locked = false
	w.register(free)
	w.must("3", alice, "link", corechannel.ChainHash(8), "")
	free.Name = "renamed"
	w.register(free)
	if r := w.crn(corechannel.ChainHash(8)); r.Parent == nil || r.Name != "renamed" {
		t.Errorf("a link by a message is lost: %+v", r)
	}
	second := coordinator()
	second.ID, second.Owner, second.Endpoint = 9, dave, ""
	w.register(second)
	free.Linked = 9
	w.register(free)
	if r := w.crn(corechannel.ChainHash(8)); *r.Parent != corechannel.ChainHash(9) || len(w.ccn(corechannel.ChainHash(7)).ResourceNodes) != 0 {
		t.Errorf("not moved: %+v", r)
	}
}

func TestNodesThatLeaveTheChain(t *testing.T) {
	for _, status := range []corechannel.ChainStatus{corechannel.ChainExited, corechannel.ChainBanned} {
		w := newWorld(t)
		w.register(coordinator())
		w.register(compute())
		w.must("f", bob, "create-resource-node", "", `{"type":"gpu","node_id":8}`)
		gone := coordinator()
		gone.Status = status
		w.register(gone)
		if r := w.crn("f"); w.ccn(corechannel.ChainHash(7)) != nil || r.Status != corechannel.Waiting {
			t.Errorf("%s coordinator: %+v", status, r)
		}
		left := compute()
		left.Status = status
		w.register(left)
		w.must("1", bob, "drop-node", "f", "")

		w.register(compute())
		w.register(left)
		if w.crn(corechannel.ChainHash(8)) != nil {
			t.Errorf("a node that is %s is listed", status)
		}
	}
	w := newWorld(t)
	w.register(coordinator())
	w.must("e", alice, "create-node", "", "")
	gone := coordinator()
	gone.Status = corechannel.ChainExited
	w.register(gone)
	if w.ccn("e") != nil {
		t.Error("a CCN stays that neither stake nor wallet carries")
	}
	rich := newWorld(t)
	rich.balance(alice, "200000")
	rich.register(coordinator())
	rich.must("e", alice, "create-node", "", "")
	rich.register(gone)
	if n := rich.ccn("e"); n == nil || n.Status != corechannel.Waiting {
		t.Errorf("CCN %+v, want it as messages have it", n)
	}
}

// A stake on chain counts as if it were in the wallet.
func TestStakeOnChainCarriesAPostedNode(t *testing.T) {
	w := newWorld(t)
	w.balance(alice, "200000")
	w.must("e", alice, "create-node", "", "")
	r := coordinator()
	r.Status, r.Stake = "pending", wei(t, "150000")
	w.register(r)
	w.balance(alice, "50000")
	if n := w.ccn("e"); n == nil || n.Status != corechannel.Waiting {
		t.Fatalf("CCN %+v, want it waiting", n)
	}
	r.Stake = wei(t, "149000")
	w.register(r)
	if w.ccn("e") != nil {
		t.Error("a CCN stays though its owner has too little in both")
	}
	// Together they are enough for a new one, too.
	w.balance(alice, "51000")
	w.must("d", alice, "create-node", "", `{"node_id":7}`)
}

func TestOwnersOfNodesOnChainStakeNowhere(t *testing.T) {
	w := newWorld(t)
	w.balance(bob, "200000")
	w.balance(alice, "20000")
	w.balance(carol, "20000")
	w.must("b", bob, "create-node", "", "")
	w.must("1", alice, "stake", "b", "")
	w.must("2", carol, "stake", "b", "")
	w.register(coordinator())
	if n := w.ccn("b"); len(n.Stakers) != 1 {
		t.Errorf("stakers %v, want carol alone", n.Stakers)
	}
	moved := coordinator()
	moved.Owner, moved.Payout = carol, carol
	w.must("3", alice, "amend", corechannel.ChainHash(7), `{"manager":"`+alice+`","reward":"`+alice+`"}`)
	w.register(moved)
	n := w.ccn(corechannel.ChainHash(7))
	if n.Owner != carol || n.Manager != "" || n.Reward != carol || len(w.ccn("b").Stakers) != 0 {
		t.Errorf("after a transfer: %+v", n)
	}
	w.must("4", alice, "stake", "b", "")
	if got := w.do("5", alice, "amend", corechannel.ChainHash(7), `{"name":"x"}`); got != string(corechannel.Stranger) {
		t.Errorf("the owner before amends: %q", got)
	}
}
