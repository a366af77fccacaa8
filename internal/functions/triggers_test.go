package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type assigned []message.ItemHash

func (a assigned) Assigned(context.Context) ([]message.ItemHash, error) { return a, nil }

// post is a message that has come in.
func post(t *testing.T, kind string, n int) *state.Message {
	t.Helper()
	const owner = "0x9319Ad3B7A8E0eE24f2E639c40D8eD124C5520Ba"
	content := fmt.Sprintf(`{"address":%q,"time":1700000000.5,"type":%q,"content":{"n":%d}}`, owner, kind, n)
	env := &message.Envelope{
		Chain: message.Ethereum, Sender: owner, Type: message.TypePost, Time: time.Unix(1700000000, 0), ItemType: message.Inline,
		ItemContent: content, ItemHash: message.HashOf([]byte(content)), Signature: "0x00",
	}
	body, err := env.Content()
	if err != nil {
		t.Fatal(err)
	}
	return state.NewMessage(env, []byte(content), body, time.Unix(1700000001, 0))
}

// TestMessagesCallPrograms that subscribed to them and are assigned, once each,
// and from now on.
func TestMessagesCallPrograms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	add := func(m *state.Message) {
		t.Helper()
		if err := db.Update(t.Context(), func(tx *state.Tx) error { return tx.AddMessages(t.Context(), []*state.Message{m}) }); err != nil {
			t.Fatal(err)
		}
	}
	add(post(t, "mine", -1))
	on := func(raw string) func(*message.Program) {
		return func(p *message.Program) {
			p.On.Message = []message.Metadata{{"content": json.RawMessage(raw)}, {"sender": json.RawMessage(`{"not":["a","text"]}`)}}
		}
	}
	mine := w.add("mine", on(`{"type":"mine"}`))
	other := w.add("other", on(`{"type":"other"}`))
	w.add("elsewhere", on(`{"type":"mine"}`))
	s, _ := w.start(nil)
	triggers := functions.NewTriggers(s, db, assigned{mine, other}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- triggers.Run(ctx) }()
	n := 0
	eventually(t, "an event", func() bool {
		n++
		add(post(t, "noise", n))
		add(post(t, "mine", n))
		return len(w.host.heard()) > 0
	})
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	events := w.host.heard()
	for _, raw := range events {
		var event struct {
			Content struct {
				Type    string
				Content struct{ N int }
			}
			Sender string
		}
		if err := json.Unmarshal([]byte(raw), &event); err != nil || event.Content.Type != "mine" || event.Content.Content.N < 1 || event.Sender == "" {
			t.Errorf("event %q, %v", raw, err)
		}
	}
	if all := s.Machines(); len(all) != 1 || all[0].Spec != mine || len(events) > n {
		t.Errorf("%d events, machines %+v; want one for each message at most, of one program", len(events), all)
	}
}

// TestOneProgramThatNobodyTellsAboutStopsNoOther: the others react, it reacts as it did,
// and the next review asks again.
func TestOneProgramThatNobodyTellsAboutStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	on := func(p *message.Program) {
		p.On.Message = []message.Metadata{{"sender": json.RawMessage(`"me"`)}}
		p.Metadata = message.Metadata{"cron": json.RawMessage(`["* * * * *"]`)}
	}
	known, lost, fresh := w.add("known", on), w.add("lost", on), w.add("fresh", on)
	s, _ := w.start(nil)
	triggers := functions.NewTriggers(s, db, assigned{fresh, lost, known}, slog.New(slog.DiscardHandler))
	away := func(specs ...message.ItemHash) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.away = map[message.ItemHash]bool{}
		for _, spec := range specs {
			w.away[spec] = true
		}
	}
	review := func(fails bool, want ...message.ItemHash) {
		t.Helper()
		if err := functions.Review(t.Context(), triggers); (err != nil) != fails {
			t.Errorf("review: %v, want an error: %t", err, fails)
		}
		slices.Sort(want)
		if messages, clock := functions.Reacts(triggers); !slices.Equal(messages, want) || !slices.Equal(clock, want) {
			t.Errorf("%v react to messages and %v to the clock, want %v", messages, clock, want)
		}
	}
	away(fresh)
	review(true, lost, known)
	away(lost)
	review(true, lost, known, fresh)
	w.forget(lost)
	away()
	review(false, known, fresh)
}
