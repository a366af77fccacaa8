package corechannel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
)

const crnDetails = `{"type":"compute","name":"n","address":"https://%s.example/"}`

// withNodes is a world with alice's CCN a, bob's CRN b and two who can stake.
func withNodes(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.balance(alice, "200000")
	w.balance(carol, "600000")
	w.balance(dave, "30000.5")
	w.must("a", alice, "create-node", "", `{"name":"core","multiaddress":"/ip4/1.2.3.4/tcp/4025/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"}`)
	w.must("b", bob, "create-resource-node", "", fmt.Sprintf(crnDetails, "one"))
	return w
}

// Every condition of every action: what is refused says why, and changes
// nothing.
func TestConditionsOfOperations(t *testing.T) {
	linked := func(w *world) { w.must("1", alice, "link", "b", "") }
	locked := func(w *world) { w.must("1", alice, "amend", "a", `{"locked":true,"authorized":["`+dave+`"]}`) }
	second := func(w *world) {
		w.balance(bob, "199999")
		w.must("c", bob, "create-node", "", "")
	}
	tests := []struct {
		name    string
		before  func(w *world)
		owner   string
		action  string
		ref     string
		details string
		want    string // a part of the reason; "" = it takes effect
	}{
		{"a second CCN", nil, alice, "create-node", "", "", "has a CCN"},
		{"a CCN of a poor owner", nil, dave, "create-node", "", "", "too few tokens"},
		{"a CCN of an owner with just enough", func(w *world) { w.balance(bob, "199999") }, bob, "create-node", "", "", ""},
		{"a CCN of an owner with a wei too few", func(w *world) { w.balance(bob, "199998.999999999999999999") }, bob, "create-node", "", "", "too few tokens"},
		{"a CRN of anybody", nil, dave, "create-resource-node", "", `{"type":"compute"}`, ""},
		{"a CRN without a type", nil, dave, "create-resource-node", "", `{}`, "details.type"},
		{"a CRN whose type is no text", nil, dave, "create-resource-node", "", `{"type":3}`, "details.type"},
		{"link", nil, alice, "link", "b", "", ""},
		{"link by who has no CCN", nil, bob, "link", "b", "", "no CCN"},
		{"link of nothing", nil, alice, "link", "a", "", "no such CRN"},
		{"link without a reference", nil, alice, "link", "", "", "reference"},
		{"link of a CRN that is linked", linked, alice, "link", "b", "", "linked"},
		{"link of a CRN that is locked", func(w *world) { w.must("1", bob, "amend", "b", `{"locked":true}`) }, alice, "link", "b", "", "locked"},
		{"link of one too many", func(w *world) {
			for _, l := range strings.Split("12345678", "") {
				w.must(l, bob, "create-resource-node", "", `{"type":"compute"}`)
				w.must(l, alice, "link", l, "")
			}
		}, alice, "link", "b", "", "as many CRNs"},
		{"unlink by the CCN's owner", linked, alice, "unlink", "b", "", ""},
		{"unlink by the CRN's owner", linked, bob, "unlink", "b", "", ""},
		{"unlink by another", linked, carol, "unlink", "b", "", "no say"},
		{"unlink by the owner of another CCN", func(w *world) {
			w.balance(dave, "200000")
			w.must("c", dave, "create-node", "", "")
			w.must("1", alice, "link", "b", "")
		}, dave, "unlink", "b", "", "no say"},
		{"unlink of a CRN that waits", nil, bob, "unlink", "b", "", "not linked"},
		{"drop of the own CCN", nil, alice, "drop-node", "a", "", ""},
		{"drop of another's CCN", nil, carol, "drop-node", "a", "", "no say"},
		{"drop of another's CCN by who has one", second, bob, "drop-node", "a", "", "no say"},
		{"drop of the own CRN", nil, bob, "drop-node", "b", "", ""},
		{"drop of a CRN by the CCN's owner", linked, alice, "drop-node", "b", "", "no say"},
		{"drop of nothing", nil, alice, "drop-node", "f", "", "no such node"},
		{"stake", nil, carol, "stake", "a", "", ""},
		{"stake of the poor", func(w *world) { w.balance(dave, "9998") }, dave, "stake", "a", "", "too few tokens"},
		{"stake of the hardly rich", func(w *world) { w.balance(dave, "9999") }, dave, "stake", "a", "", ""},
		{"stake on a CRN", nil, carol, "stake", "b", "", "no such CCN"},
		{"stake of who has a CCN", second, bob, "stake", "a", "", "has a CCN"},
		{"stake on a locked CCN", locked, carol, "stake", "a", "", "locked"},
		{"stake on a locked CCN by who may", locked, dave, "stake", "a", "", ""},
		{"split on a locked CCN", locked, carol, "stake-split", "a", "", "locked"},
		{"split on a locked CCN by who may", locked, dave, "stake-split", "a", "", ""},
		{"split", nil, carol, "stake-split", "a", "", ""},
		{"split again", func(w *world) { w.must("1", carol, "stake", "a", "") }, carol, "stake-split", "a", "", "already"},
		{"stake again", func(w *world) { w.must("1", carol, "stake", "a", "") }, carol, "stake", "a", "", ""},
		{"unstake", func(w *world) { w.must("1", carol, "stake", "a", "") }, carol, "unstake", "a", "", ""},
		{"unstake of nothing", nil, carol, "unstake", "a", "", "does not stake"},
		{"amend by the owner", nil, alice, "amend", "a", `{"name":"x"}`, ""},
		{"amend by another", nil, bob, "amend", "a", `{"name":"x"}`, "no say"},
		{"amend by the manager", func(w *world) { w.must("1", alice, "amend", "a", `{"manager":"`+bob+`"}`) }, bob, "amend", "a", `{"name":"x"}`, ""},
		{"amend of a CRN by the CCN's owner", linked, alice, "amend", "b", `{"name":"x"}`, "no say"},
		{"amend of nothing", nil, alice, "amend", "f", `{"name":"x"}`, "no such node"},
		{"another action", nil, alice, "destroy", "a", "", "no action"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := withNodes(t)
			if tt.before != nil {
				tt.before(w)
			}
			before := content(t, w.fold)

			got := w.do("e", tt.owner, tt.action, tt.ref, tt.details)

			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			if changed := before != content(t, w.fold); changed != (tt.want == "") && tt.name != "stake again" {
				t.Errorf("changed %v, want %v", changed, tt.want == "")
			}
		})
	}
}

// TestEffects follows one network through every effect of section 7.1.
func TestEffects(t *testing.T) {
	w := withNodes(t)
	w.balance(bob, "200000")
	w.must("1", alice, "link", "b", "")
	w.must("2", bob, "create-node", "", `{"name":"second"}`)
	w.must("3", carol, "stake", "a", "")
	if a, b := w.ccn("a"), w.crn("b"); a.TotalStaked != 600_000 || a.Status != corechannel.Active || !slices.Equal(a.ResourceNodes, []string{hash("b")}) ||
		b.Status != corechannel.Linked || *b.Parent != hash("a") {
		t.Fatalf("after link and stake: %+v %+v", a, b)
	}
	w.must("4", carol, "stake-split", "2", "")
	if a, c := w.ccn("a"), w.ccn("2"); a.Stakers[carol] != 300_000 || c.Stakers[carol] != 300_000 || a.Status != corechannel.Waiting {
		t.Fatalf("after a split: %+v %+v", a, c)
	}
	w.must("5", dave, "stake-split", "2", "")
	if c := w.ccn("2"); c.TotalStaked != 330_000.5 {
		t.Fatalf("staked %v, want 330000.5", c.TotalStaked)
	}
	w.must("6", carol, "unstake", "a", "")
	if a, c := w.ccn("a"), w.ccn("2"); len(a.Stakers) != 0 || c.Stakers[carol] != 600_000 || c.Status != corechannel.Active {
		t.Fatalf("after unstake: %+v %+v", a, c)
	}
	w.must("7", carol, "stake-split", "a", "")
	w.must("8", carol, "stake", "a", "")
	if a, c := w.ccn("a"), w.ccn("2"); a.Stakers[carol] != 600_000 || len(c.Stakers) != 1 {
		t.Fatalf("stake does not replace: %+v %+v", a, c)
	}
	w.must("9", alice, "drop-node", "a", "")
	if b := w.crn("b"); w.ccn("a") != nil || b.Status != corechannel.Waiting || b.Parent != nil {
		t.Fatalf("after a drop: %+v", b)
	}
	w.must("c", carol, "stake", "2", "")
	w.must("d", carol, "create-node", "", "")
	if c := w.ccn("2"); c.Stakers[carol] != 0 || w.ccn("d").HasBonus {
		t.Fatalf("an owner of a CCN stakes: %+v", c)
	}
}

func TestBalancesCarryNodesAndStakes(t *testing.T) {
	w := withNodes(t)
	w.must("1", alice, "link", "b", "")
	w.must("2", carol, "stake", "a", "")
	w.must("3", dave, "stake", "a", "")
	w.balance(carol, "499999")
	if a := w.ccn("a"); a.TotalStaked != 529_999.5 || a.Status != corechannel.Active {
		t.Errorf("staked %v, %s", a.TotalStaked, a.Status)
	}
	w.balance(dave, "9998.5")
	if a := w.ccn("a"); a.TotalStaked != 499_999 || a.Status != corechannel.Active {
		t.Errorf("staked %v, %s; want 499999, active", a.TotalStaked, a.Status)
	}
	w.balance(carol, "499998.9")
	if a := w.ccn("a"); a.Status != corechannel.Waiting {
		t.Errorf("status %s, want waiting", a.Status)
	}
	// What is on one platform is not missed on another.
	w.height++
	w.apply(corechannel.Event{Height: w.height, Body: corechannel.Balance{Address: alice, Source: "SOL", Wei: wei(t, "199999")}})
	w.balance(alice, "0")
	if w.ccn("a") == nil {
		t.Fatal("a CCN is removed though its owner holds enough on another platform")
	}
	w.height++
	w.apply(corechannel.Event{Height: w.height, Body: corechannel.Balance{Address: alice, Source: "SOL", Wei: wei(t, "199998")}})
	if b := w.crn("b"); w.ccn("a") != nil || b.Status != corechannel.Waiting {
		t.Errorf("a CCN stays though its owner holds too little: %+v", b)
	}
	if got := w.do("4", carol, "unstake", "a", ""); !strings.Contains(got, "does not stake") {
		t.Errorf("reason %q: the stake on a removed CCN stays", got)
	}
}

// A part of a balance is rounded down, to the wei.
func TestSplitsAreExact(t *testing.T) {
	w := withNodes(t)
	w.balance(carol, "10000.000000000000000001")
	w.balance(bob, "200000")
	w.must("2", bob, "create-node", "", "")
	w.must("3", carol, "stake", "a", "")
	w.must("4", carol, "stake-split", "2", "")
	if got := w.ccn("a").Stakers[carol]; got != 5000 {
		t.Errorf("part %v, want 5000", got)
	}
}

func TestFieldsOfNewNodes(t *testing.T) {
	w := newWorld(t)
	w.balance(alice, "200000")
	w.must("a", alice, "create-node", "", `{"authorized":["`+bob+`"],"locked":1,"name":7,"picture":"p"}`)
	w.must("b", bob, "create-resource-node", "", `{"type":"compute"}`)
	w.must("c", bob, "create-resource-node", "",
		`{"type":"gpu","locked":false,"authorized":["`+carol+`",4],"manager":"`+dave+`","reward":"`+carol+`","stream_reward":null}`)

	a := w.ccn("a")
	want := &corechannel.Node{
		Hash: hash("a"), Owner: alice, Locked: true, Stakers: map[string]float64{}, Status: corechannel.Waiting, Time: 1_700_000_000.25,
		Authorized: []string{}, ResourceNodes: []string{}, Profile: corechannel.Profile{Reward: alice, Picture: "p"},
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("CCN (-want +got):\n%s", diff)
	}
	raw, err := json.Marshal(w.crn("b"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"locked":""`, `"authorized":""`, `"manager":""`, `"parent":null`, `"reward":"` + bob + `"`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("a bare CRN is %s, want %s in it", raw, part)
		}
	}
	c := w.crn("c")
	if c.Locked != corechannel.LockOff || !slices.Equal(c.Authorized, []string{carol}) || c.Manager != dave || c.Reward != carol || c.Type != "gpu" || c.StreamReward != "" {
		t.Errorf("CRN %+v", c)
	}
	w.must("d", bob, "amend", "b", `{}`)
	if b := w.crn("b"); b.Locked != corechannel.LockOff || b.Authorized != nil {
		t.Errorf("after an amend the lock is %v and %v are authorized; want off, and nobody said", b.Locked, b.Authorized)
	}
}

// The two forms of an amend do the same.
func TestAmendsOfBothForms(t *testing.T) {
	details := `{"name":"x","multiaddress":"/dns4/a.example/tcp/1","address":"u","picture":"p","banner":"b","description":"d","reward":"r",
		"stream_reward":"s","manager":"m","authorized":["q"],"locked":true,"registration_url":"g","terms_and_conditions":"t"}`
	one, two := withNodes(t), withNodes(t)
	one.must("1", alice, "amend", "a", details)
	if got := two.post("1", alice, "amend", hash("a"), `{"tags":["x","mainnet"],"details":`+details+`}`); got != "" {
		t.Fatal(got)
	}
	if diff := cmp.Diff(content(t, one.fold), content(t, two.fold)); diff != "" {
		t.Errorf("states differ:\n%s", diff)
	}
	want := corechannel.Profile{
		Name: "x", Multiaddress: "/dns4/a.example/tcp/1", Address: "u", Picture: "p", Banner: "b", Description: "d", Reward: "r",
		StreamReward: "s", Manager: "m", Registration: "g", Terms: "t",
	}
	a := one.ccn("a")
	if diff := cmp.Diff(want, a.Profile); diff != "" || !a.Locked || !slices.Equal(a.Authorized, []string{"q"}) {
		t.Errorf("CCN %+v (-want +got):\n%s", a, diff)
	}
	one.must("2", alice, "amend", "a", `{"description":""}`)
	want.Description = ""
	if diff := cmp.Diff(want, one.ccn("a").Profile); diff != "" {
		t.Errorf("what is not given changes (-want +got):\n%s", diff)
	}
}

func TestHostsAreUnique(t *testing.T) {
	w := withNodes(t)
	w.balance(bob, "200000")
	w.must("2", bob, "create-node", "", `{"multiaddress":"/ip4/1.2.3.4/tcp/9"}`)
	if got := w.ccn("2").Multiaddress; got != "" {
		t.Errorf("a CCN has the host of another: %s", got)
	}
	w.must("3", bob, "amend", "2", `{"multiaddress":"no multiaddress"}`)
	if got := w.ccn("2").Multiaddress; got != "" {
		t.Errorf("a CCN has the multiaddress %s", got)
	}
	w.must("4", bob, "amend", "2", `{"multiaddress":"/ip6/::1/tcp/9"}`)
	w.must("5", alice, "amend", "a", `{"multiaddress":"/ip6/0:0:0:0:0:0:0:1/tcp/7"}`)
	if one, two := w.ccn("a").Multiaddress, w.ccn("2").Multiaddress; one != "" || two != "/ip6/::1/tcp/9" {
		t.Errorf("multiaddresses %q, %q", one, two)
	}
	w.must("6", dave, "create-resource-node", "", `{"type":"compute","address":"http://ONE.example:8080/x"}`)
	if got := w.crn("6").Address; got != "" {
		t.Errorf("a CRN has the host of another: %s", got)
	}
	w.must("7", dave, "amend", "6", `{"address":"https://user@[::1]:8080/x"}`)
	if got := w.crn("6").Address; got != "https://user@[::1]:8080/x" {
		t.Errorf("URL %q", got)
	}
	w.must("8", bob, "amend", "b", `{"name":"again"}`)
	if got := w.crn("b").Address; got != "https://one.example/" {
		t.Errorf("an amend of something else makes the URL %q", got)
	}
}

func TestScores(t *testing.T) {
	w := withNodes(t)
	w.score("1", hash("a"), 1.7)
	w.score("2", hash("b"), 0.005)
	a, b := w.ccn("a"), w.crn("b")
	if a.Score != 1 || a.Performance != 0.85 || a.Decentralization != 0.5 || !a.ScoreUpdated || a.InactiveSince != nil {
		t.Errorf("CCN %+v", a.Standing)
	}
	if b.Score != 0.005 || b.InactiveSince == nil || *b.InactiveSince != w.height {
		t.Errorf("CRN %+v", b.Standing)
	}
	since := *b.InactiveSince
	w.height -= 95 // what comes within ten blocks only raises
	w.score("3", hash("a"), 0.5)
	w.height -= 95
	w.score("4", hash("b"), 0)
	if a, b := w.ccn("a"), w.crn("b"); a.Score != 1 || b.Score != 0.005 || *b.InactiveSince != since {
		t.Errorf("scores %v, %v, inactive since %d", a.Score, b.Score, *b.InactiveSince)
	}
	w.score("5", hash("a"), 0.5)
	w.score("6", hash("b"), 0.01)
	if a, b := w.ccn("a"), w.crn("b"); a.Score != 0.5 || b.InactiveSince != nil {
		t.Errorf("score %v, inactive since %v", a.Score, b.InactiveSince)
	}
	if got := w.post("7", bob, corechannel.ScoresType, "", `{"tags":["mainnet"],"scores":{"ccn":[]}}`); got != string(corechannel.Stranger) {
		t.Errorf("scores of anybody: %q", got)
	}
}

func TestScoresOfAPeriodAreVoid(t *testing.T) {
	s := corechannel.DefaultSettings()
	s.Discarded = []corechannel.Span{{From: 24_000_000, To: 24_000_300}}
	w := worldWith(t, s)
	w.must("b", bob, "create-resource-node", "", `{"type":"compute"}`)
	w.score("1", hash("b"), 1)
	w.score("2", hash("b"), 1)
	if got := w.crn("b").Score; got != 0 {
		t.Errorf("score %v, want 0", got)
	}
	w.score("3", hash("b"), 1)
	if got := w.crn("b").Score; got != 1 {
		t.Errorf("score %v, want 1", got)
	}
}

func TestForgottenNodesAreRemoved(t *testing.T) {
	for _, linked := range []bool{false, true} {
		w := withNodes(t)
		if linked {
			w.must("0", alice, "link", "b", "")
		}
		w.score("1", hash("b"), 0)
		w.height += 90*7130 - 100
		w.score("2", hash("b"), 0)
		if w.crn("b") == nil {
			t.Fatal("removed after 90 days to the block")
		}
		w.height -= 99
		w.score("3", hash("b"), 0)
		if gone := w.crn("b") == nil; gone == linked {
			t.Errorf("linked %v: gone %v", linked, gone)
		}
	}
}

func TestBonusEndsAtAHeight(t *testing.T) {
	for height, want := range map[uint64]bool{12_020_359: true, 12_020_360: false} {
		w := newWorld(t)
		w.height = height - 200
		w.balance(alice, "200000")
		w.must("a", alice, "create-node", "", "")
		if got := w.ccn("a").HasBonus; got != want {
			t.Errorf("at %d: bonus %v, want %v", height, got, want)
		}
	}
}

func TestLateEventsNeedACheckpoint(t *testing.T) {
	w := withNodes(t)
	for crn, link := range map[string]string{"5": "7", "6": "8"} {
		w.must(crn, bob, "create-resource-node", "", `{"type":"compute"}`)
		w.must(link, alice, "link", crn, "")
	}
	checkpoint := w.fold.Clone()
	before := content(t, checkpoint)
	late := corechannel.Event{Height: w.height + 50, Body: corechannel.Balance{Address: carol, Source: "ETH", Wei: wei(t, "1")}}
	w.must("1", carol, "stake", "a", "")
	w.must("2", alice, "unlink", "5", "")
	w.must("3", alice, "amend", "a", `{"name":"x","authorized":["y"]}`)
	w.score("4", hash("b"), 0.5)

	if err := w.fold.Apply(late); !errors.Is(err, corechannel.ErrLate) || w.fold.Takes(late) {
		t.Errorf("a late event: %v, want %v", err, corechannel.ErrLate)
	}
	if got := content(t, checkpoint); got != before {
		t.Errorf("a clone changes with its original:\n%s", cmp.Diff(before, got))
	}
	again := append(slices.Clone(w.events), late)
	for _, e := range corechannel.Merge(w.height, again) {
		if checkpoint.Takes(e) {
			_ = checkpoint.Apply(e)
		}
	}
	if got, want := content(t, checkpoint), content(t, corechannel.Replay(w.set, w.height, again)); got != want {
		t.Errorf("a checkpoint leads elsewhere:\n%s", cmp.Diff(want, got))
	}
	if got := w.ccn("a").TotalStaked; got != 600_000 {
		t.Errorf("staked %v: the late event was applied", got)
	}
}

func TestMergeOrdersEvents(t *testing.T) {
	read := func(letter string, height uint64, at int64) corechannel.Event {
		m := post(letter, alice, corechannel.OperationType, hash("a"), `{"action":"stake","tags":["mainnet"]}`, height)
		m.Post.Time = m.Post.Time.AddDate(0, 0, int(at))
		e, err := corechannel.Read(m, corechannel.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	chain := corechannel.Event{Height: 7, Body: corechannel.Balance{Address: "z", Wei: wei(t, "1")}}
	got := corechannel.Merge(7, []corechannel.Event{
		read("4", 0, 3), read("5", 7, 2), read("2", 7, 1), read("3", 7, 1), chain, read("1", 6, 9), read("2", 8, 1), read("6", 8, 0), read("4", 7, 3),
	})
	order := ""
	for _, e := range got {
		order += fmt.Sprintf("%d%.1s ", e.Height, e.Hash)
	}
	if want := "61 7 72 73 75 74 86 "; order != want {
		t.Errorf("order %q, want %q", order, want)
	}
}
