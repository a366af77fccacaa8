package corechannel_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const vectors = "../testdata/vectors/"

// Owners and stakers of the tests.
const (
	alice = "0x1111111111111111111111111111111111111111"
	bob   = "0x2222222222222222222222222222222222222222"
	carol = "0x3333333333333333333333333333333333333333"
	dave  = "0x4444444444444444444444444444444444444444"
)

const scorer = "0x4D52380D3191274a04846c89c069E6C3F2Ed94e4"

// hash returns the hash of a message that a letter stands for.
func hash(letter string) string { return strings.Repeat(letter, 64) }

// world applies events one after the other, each in a block of its own.
type world struct {
	t      *testing.T
	set    corechannel.Settings
	fold   *corechannel.Fold
	height uint64
	events []corechannel.Event
}

// newWorld starts after the time of bonuses and of void scores.
func newWorld(t *testing.T) *world {
	t.Helper()
	return worldWith(t, corechannel.DefaultSettings())
}

func worldWith(t *testing.T, s corechannel.Settings) *world {
	t.Helper()
	return &world{t: t, set: s, fold: corechannel.New(s), height: 24_000_000}
}

// post applies a post and returns why it is ignored, "" if it is not.
func (w *world) post(letter, owner, kind, ref, content string) string {
	w.t.Helper()
	w.height += 100
	e, err := corechannel.Read(post(letter, owner, kind, ref, content, w.height), w.set)
	if err != nil {
		return reason(w.t, err)
	}
	return w.apply(e)
}

// post makes a message at a height; the time is the same for all.
func post(letter, owner, kind, ref, content string, height uint64) corechannel.Message {
	p := &message.Post{Address: owner, Time: time.Unix(1_700_000_000, 250_000_000).UTC(), Content: json.RawMessage(content), Type: kind}
	if ref != "" {
		p.Ref = &message.Ref{Text: ref}
	}
	return corechannel.Message{Hash: message.ItemHash(hash(letter)), Sender: owner, Channel: "FOUNDATION", Height: height, Post: p}
}

func (w *world) apply(e corechannel.Event) string {
	w.t.Helper()
	w.events = append(w.events, e)
	if err := w.fold.Apply(e); err != nil {
		return reason(w.t, err)
	}
	return ""
}

// reason returns why an event is ignored; any other error ends the test.
func reason(t *testing.T, err error) string {
	t.Helper()
	var i corechannel.Ignored
	if !errors.As(err, &i) {
		t.Fatalf("error %v, want a reason", err)
	}
	return string(i)
}

// do applies an operation; ref is a letter, a hash or "".
func (w *world) do(letter, owner, action, ref, details string) string {
	w.t.Helper()
	if len(ref) == 1 {
		ref = hash(ref)
	}
	if details == "" {
		details = "{}"
	}
	return w.post(letter, owner, corechannel.OperationType, ref,
		`{"action":"`+action+`","tags":["`+action+`","mainnet"],"details":`+details+`}`)
}

// must is do for what is to be accepted.
func (w *world) must(letter, owner, action, ref, details string) {
	w.t.Helper()
	if got := w.do(letter, owner, action, ref, details); got != "" {
		w.t.Fatalf("%s of %s is ignored: %s", action, owner, got)
	}
}

func (w *world) balance(address string, tokens string) {
	w.t.Helper()
	w.height += 100
	w.apply(corechannel.Event{Height: w.height, Body: corechannel.Balance{Address: address, Source: "ETH", Wei: wei(w.t, tokens)}})
}

// score gives a node a score, as a CCN and as a CRN.
func (w *world) score(letter, node string, total float64) string {
	w.t.Helper()
	row, err := json.Marshal(map[string]any{"node_id": node, "total_score": total, "performance": total / 2, "decentralization": 0.5})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(letter, scorer, corechannel.ScoresType, "",
		`{"tags":["mainnet"],"scores":{"ccn":[`+string(row)+`],"crn":[`+string(row)+`]}}`)
}

func (w *world) register(r corechannel.Registration) string {
	w.t.Helper()
	w.height += 100
	return w.apply(corechannel.Event{Height: w.height, Body: r})
}

func wei(t *testing.T, tokens string) *big.Int {
	t.Helper()
	n, err := corechannel.Wei(tokens)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ccn returns a CCN by its letter or hash; nil if there is none.
func (w *world) ccn(h string) *corechannel.Node {
	if len(h) == 1 {
		h = hash(h)
	}
	s := w.fold.State()
	for i := range s.Nodes {
		if s.Nodes[i].Hash == h {
			return &s.Nodes[i]
		}
	}
	return nil
}

// crn is ccn for CRNs.
func (w *world) crn(h string) *corechannel.ResourceNode {
	if len(h) == 1 {
		h = hash(h)
	}
	s := w.fold.State()
	for i := range s.ResourceNodes {
		if s.ResourceNodes[i].Hash == h {
			return &s.ResourceNodes[i]
		}
	}
	return nil
}

func content(tb testing.TB, f *corechannel.Fold) string {
	tb.Helper()
	raw, err := f.State().Content()
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

func readVector(tb testing.TB, name string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(vectors + name)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// mustWei is for amounts that are right.
func mustWei(tokens string) *big.Int {
	n, err := corechannel.Wei(tokens)
	if err != nil {
		panic(err)
	}
	return n
}
