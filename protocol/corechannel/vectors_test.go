package corechannel_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

var update = flag.Bool("update", false, "write the vectors")

// history is what was said of nodes, and what it makes.
type history struct {
	About  string `json:"about"`
	Height uint64 `json:"height"`
	Posts  []struct {
		Hash    message.ItemHash `json:"hash"`
		Sender  string           `json:"sender"`
		Height  uint64           `json:"height"`
		Content json.RawMessage  `json:"content"`
	} `json:"posts"`
	Balances []struct {
		Height  uint64 `json:"height"`
		Address string `json:"address"`
		Source  string `json:"source"`
		Tokens  string `json:"tokens"`
	} `json:"balances"`
	Registrations []struct {
		Height uint64 `json:"height"`
		corechannel.Registration
	} `json:"registrations"`
	Ignored   []message.ItemHash `json:"ignored"`
	Aggregate json.RawMessage    `json:"aggregate"`
}

// events reads what was said; what cannot be read is ignored.
func (h *history) events(t *testing.T) (events []corechannel.Event, unread []message.ItemHash) {
	t.Helper()
	for _, p := range h.Posts {
		content, err := message.ParsePost(p.Content)
		if err != nil {
			t.Fatal(err)
		}
		m := corechannel.Message{Hash: p.Hash, Sender: p.Sender, Height: p.Height, Post: content}
		e, err := corechannel.Read(m, corechannel.DefaultSettings())
		if err != nil {
			unread = append(unread, p.Hash)
			continue
		}
		events = append(events, e)
	}
	for _, b := range h.Balances {
		events = append(events, corechannel.Event{
			Height: b.Height, Body: corechannel.Balance{Address: b.Address, Source: b.Source, Wei: wei(t, b.Tokens)},
		})
	}
	for _, r := range h.Registrations {
		events = append(events, corechannel.Event{Height: r.Height, Body: r.Registration})
	}
	return events, unread
}

func TestHistoryVector(t *testing.T) {
	var h history
	if err := json.Unmarshal(readVector(t, "corechannel.json"), &h); err != nil {
		t.Fatal(err)
	}
	events, ignored := h.events(t)
	f := corechannel.New(corechannel.DefaultSettings())
	for _, e := range corechannel.Merge(h.Height, events) {
		if err := f.Apply(e); err != nil {
			reason(t, err)
			ignored = append(ignored, e.Hash)
		}
	}
	got := content(t, f)
	if *update {
		h.Ignored, h.Aggregate = ignored, json.RawMessage(got)
		raw, err := json.MarshalIndent(h, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectors+"corechannel.json", append(raw, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(h.Ignored, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(compact(t, h.Aggregate), compact(t, []byte(got))); diff != "" {
		t.Errorf("aggregate (-want +got):\n%s", diff)
	}
}

// compact brings JSON to one form.
func compact(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestKeysOfTheAggregate holds them to section 7.2, and the values to what the
// strictest client reads.
func TestKeysOfTheAggregate(t *testing.T) {
	shared := []string{
		"hash", "owner", "reward", "locked", "status", "time", "authorized", "score", "decentralization", "performance", "inactive_since", "name",
		"multiaddress", "address", "picture", "banner", "description", "stream_reward", "manager", "registration_url", "terms_and_conditions",
	}
	want := map[string][]string{
		"nodes":          append(slices.Clone(shared), "stakers", "total_staked", "resource_nodes", "has_bonus"),
		"resource_nodes": append(slices.Clone(shared), "type", "parent"),
	}
	w := withNodes(t)
	for _, scored := range []bool{false, true} {
		var lists map[string][]map[string]any
		if err := json.Unmarshal([]byte(content(t, w.fold)), &lists); err != nil {
			t.Fatal(err)
		}
		for list, keys := range want {
			if scored {
				keys = append(keys, "score_updated")
			}
			entry := lists[list][0]
			slices.Sort(keys)
			if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(entry))); diff != "" || len(lists) != 2 {
				t.Errorf("keys in %s (-want +got):\n%s", list, diff)
			}
			for _, key := range []string{"hash", "name", "owner", "reward", "address", "multiaddress", "status", "stream_reward"} {
				if _, ok := entry[key].(string); !ok {
					t.Errorf("%s in %s is %v, want a text", key, list, entry[key])
				}
			}
			for _, key := range []string{"time", "score"} {
				if _, ok := entry[key].(float64); !ok {
					t.Errorf("%s in %s is %v, want a number", key, list, entry[key])
				}
			}
		}
		w.score("1", hash("a"), 1)
		w.score("2", hash("b"), 1)
	}
	none, err := corechannel.State{}.Content()
	if got := content(t, corechannel.New(corechannel.DefaultSettings())); err != nil || got != string(none) || got != `{"nodes":[],"resource_nodes":[]}` {
		t.Errorf("no nodes are %s and %s (%v)", got, none, err)
	}
}
