package ccn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const published = `"publication_status":{"status":"success","failed":[]}`

func TestPostAnswersWhatBecameOfAMessage(t *testing.T) {
	n := open(t)
	k, other := key(t, "owner"), key(t, "other")
	content := func() fields { return fields{"type": "note", "content": fields{"a": 1}} }
	amend := func(ref any) fields { return fields{"type": "amend", "ref": ref, "content": fields{"a": 2}} }
	original := n.send(k, message.TypePost, content())
	absent := message.HashOf([]byte("absent"))
	tests := []struct {
		name           string
		sync, async    int
		status, astate string
		content        func() fields
		by             string
	}{
		{"processed", 200, 202, "processed", "pending", content, ""},
		{"waits for a message", 202, 202, "pending", "pending", func() fields { return amend(absent) }, ""},
		{"refused", 422, 422, "rejected", "rejected", func() fields { return amend(original) }, "other"},
	}
	for _, tt := range tests {
		signer := k
		if tt.by != "" {
			signer = other
		}
		for _, sync := range []bool{true, false} {
			_, raw := n.signed(signer, message.TypePost, tt.content())

			a := n.post("/api/v0/messages", fields{"sync": sync, "message": raw})

			status, word := tt.sync, tt.status
			if !sync {
				status, word = tt.async, tt.astate
			}
			want := fmt.Sprintf(`{%s,"message_status":%q}`, published, word)
			if a.status != status || a.body != want {
				t.Errorf("%s, sync %v: got %d %s, want %d %s", tt.name, sync, a.status, a.body, status, want)
			}
		}
	}
}

func TestPostAgainOfAProcessedMessageIsAnsweredAtOnce(t *testing.T) {
	n := open(t)
	_, raw := n.signed(key(t, "owner"), message.TypePost, fields{"type": "note", "content": fields{}})

	for i, want := range []int{202, 200, 200} {
		if a := n.post("/api/v0/messages", fields{"sync": i == 2, "message": raw}); a.status != want {
			t.Errorf("POST %d = %d %s, want %d", i, a.status, a.body, want)
		}
	}
}

func TestPostOfAForgottenMessageIsGone(t *testing.T) {
	n := open(t)
	k := key(t, "owner")
	hash, raw := n.signed(k, message.TypePost, fields{"type": "note", "content": fields{}})
	n.post("/api/v0/messages", fields{"sync": true, "message": raw})
	n.send(k, message.TypeForget, fields{"hashes": []message.ItemHash{hash}})

	a := n.post("/api/v0/messages", fields{"message": raw})

	if a.status != http.StatusGone || a.field("message_status") != "forgotten" {
		t.Errorf("got %d %s, want 410 forgotten", a.status, a.body)
	}
}

func TestPostRefusesWhatCannotBeRead(t *testing.T) {
	n := open(t)
	_, raw := n.signed(key(t, "owner"), message.TypePost, fields{"type": "note", "content": fields{}})
	altered := strings.Replace(string(raw), `"item_hash":"`, `"item_hash":"0`, 1)
	tests := []struct {
		name, body string
		status     int
		text       string // What the answer has.
	}{
		{"no JSON", `{"message":`, 422, "422: Unprocessable Entity"},
		{"NaN", `{"message":NaN}`, 422, "422: Unprocessable Entity"},
		{"no object", `[]`, 422, `"type":"model_type"`},
		{"no message", `{}`, 422, `"type":"missing","loc":["message"]`},
		{"message is a text", `{"message":"x"}`, 422, `"type":"dict_type","loc":["message"]`},
		{"sync is a word", `{"sync":"maybe","message":{}}`, 422, `"type":"bool_parsing","loc":["sync"]`},
		{"empty message", `{"message":{}}`, 422, "InvalidMessageFormat"},
		{"another hash", `{"message":` + altered + `}`, 422, "InvalidMessageFormat"},
		{"too large", `{"message":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "Maximum request body size 1048576 exceeded"},
		{"too deep", `{"message":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, 422, "422: Unprocessable Entity"},
	}
	for _, tt := range tests {
		a := n.do(http.MethodPost, "/api/v0/messages", []byte(tt.body))
		if a.status != tt.status || !strings.Contains(a.body, tt.text) {
			t.Errorf("%s: got %d %s, want %d with %s", tt.name, a.status, a.body, tt.status, tt.text)
		}
	}
}

func TestABodyThatBreaksOffIsTheFaultOfWhoSentIt(t *testing.T) {
	n := open(t)
	for _, target := range []string{
		"/api/v0/messages", "/api/v0/p2p/pubsub/pub", "/api/v0/price/estimate", "/api/v0/price/estimate/instance",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(`{"message":`))))
		w := httptest.NewRecorder()

		n.srv.Handler().ServeHTTP(w, r)

		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "body broke off") {
			t.Errorf("%s: got %d %s, want 400", target, w.Code, w.Body)
		}
		if openAPI(n).Paths[target]["post"].Responses["400"] == nil {
			t.Errorf("%s: 400 is not documented", target)
		}
	}
}

func TestSyncWaitsForBytesThatAreFetched(t *testing.T) {
	n := open(t)
	const file = "the file"
	_, raw := n.signed(key(t, "owner"), message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte(file))})
	got := make(chan answer)

	go func() { got <- n.post("/api/v0/messages", fields{"sync": true, "message": raw}) }()

	wait(t, "the message waits", func() bool {
		count, _, err := n.db.CountPending(t.Context())
		return err == nil && count == 1
	})
	n.files.put(file)
	n.run()
	if a := <-got; a.status != http.StatusOK {
		t.Errorf("got %d %s, want 200", a.status, a.body)
	}
}

func TestSyncEndsWithTheFirstAttemptThatFails(t *testing.T) {
	n := open(t)
	n.run()
	_, raw := n.signed(key(t, "owner"), message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte("nobody has it"))})
	begun := time.Now()

	a := n.post("/api/v0/messages", fields{"sync": true, "message": raw})

	if a.status != http.StatusAccepted {
		t.Errorf("got %d %s, want 202", a.status, a.body)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("took %v, want the time of one attempt", took)
	}
}

func TestPublishTakesMessagesAsTextsAndAsObjects(t *testing.T) {
	n := open(t)
	k := key(t, "owner")
	for _, target := range []string{"/api/v0/ipfs/pubsub/pub", "/api/v0/p2p/pubsub/pub"} {
		for _, topic := range []string{"ALEPH-TEST", "TESTNET"} {
			for _, asText := range []bool{true, false} {
				hash, raw := n.signed(k, message.TypePost, fields{"type": "note", "content": fields{}})
				var data any = raw
				if asText {
					data = string(raw)
				}

				a := n.post(target, fields{"topic": topic, "data": data})

				if a.status != http.StatusOK || a.body != `{"status":"success","failed":[]}` {
					t.Errorf("%s %s: got %d %s", target, topic, a.status, a.body)
				}
				same(t, "status", n.ok("/api/v0/messages/"+string(hash)).field("status"), any("processed"))
			}
		}
	}
	for body, want := range map[string]int{
		`{"topic":"OTHER","data":"{}"}`: 403, `{"data":"{}"}`: 403, `{"topic":"TESTNET"}`: 422, `{"topic":"TESTNET","data":3}`: 422, `{"topic":"TESTNET","data":"{"}`: 422,
		`{"topic":"TESTNET","data":"{}"}`: 422, `[]`: 422, `{`: 422, `{"topic":"TESTNET","data":"3"}`: 422,
	} {
		if a := n.do(http.MethodPost, "/api/v0/p2p/pubsub/pub", []byte(body)); a.status != want {
			t.Errorf("%s: got %d %s, want %d", body, a.status, a.body, want)
		}
	}
}

// wait waits until something holds.
func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		case <-tick.C:
		}
	}
}

func FuzzPostMessage(f *testing.F) {
	n := open(f)
	_, raw := n.signed(key(f, "owner"), message.TypePost, fields{"type": "note", "content": fields{}})
	for _, seed := range []string{
		`{"sync":true,"message":` + string(raw) + `}`, `{"message":{}}`, `{"topic":"TESTNET","data":"{}"}`, `{"topic":"TESTNET","data":` + string(raw) + `}`, `[[[`, `{"sync":null,"message":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n.t = t
		for _, target := range []string{"/api/v0/messages", "/api/v0/p2p/pubsub/pub"} {
			a := n.do(http.MethodPost, target, body)
			if a.status >= 500 {
				t.Errorf("%s: %d %s", target, a.status, a.body)
			}
			if a.status < 300 && !json.Valid([]byte(a.body)) {
				t.Errorf("%s: answer is no JSON: %s", target, a.body)
			}
		}
	})
}

// FuzzFieldsOf compares the fields of documents with those that encoding/json finds.
func FuzzFieldsOf(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, "\t{\"a\" : -1.5e3 ,\n\"b\": [ 1 , {\"a\":\"}\"} ] , \"c\":\"\\\"\"} ", `{"a":1,"a":null}`, `{"\u0061":true,"\\":{}}`, `{"sync":true,"message":{"x":"\\"}}`, `[{"a":1}]`, `{"a":}`, `{"a":1`,
		"{\"\xff\":1}", `"{"`, `1`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want map[string]json.RawMessage
		valid := json.Unmarshal(raw, &want) == nil && want != nil

		got, ok := ccn.FieldsOf(raw)

		if ok != valid || ok && !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%q is %v %q, want %v %q", raw, ok, got, valid, want)
		}
	})
}
