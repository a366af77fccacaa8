package crn_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func lines() []crn.Line {
	return []crn.Line{
		{At: time.Date(2026, 8, 7, 12, 0, 0, 5000, time.UTC), Stream: "stdout", Text: "[    0.000000] Linux version ..."},
		{At: time.Date(2026, 8, 7, 12, 0, 1, 0, time.UTC), Stream: "stderr", Text: ""},
	}
}

func TestLogs(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca], w.lines = instance(owner.address), lines()
	const want = `[{"SYSLOG_IDENTIFIER":"vm-` + string(deca) + `-stdout","MESSAGE":"[    0.000000] Linux version ...","file":"stdout","__REALTIME_TIMESTAMP":"2026-08-07 12:00:00.000005+00:00"},
{"SYSLOG_IDENTIFIER":"vm-` + string(deca) + `-stderr","MESSAGE":"","file":"stderr","__REALTIME_TIMESTAMP":"2026-08-07 12:00:01+00:00"}]`
	w.want(owner.sign(t, request("GET", machine+"/logs", "")), 200, want)
	if w.query != (crn.LogQuery{Tail: -1}) {
		t.Errorf("asked for %+v", w.query)
	}
	w.do(owner.sign(t, request("GET", machine+"/logs?tail=5", "")))
	if w.query.Tail != 5 {
		t.Errorf("asked for %+v", w.query)
	}
	w.want(owner.sign(t, request("GET", machine+"/logs?tail=x", "")), 400, `{"error":"Invalid tail"}`)
	// Its machine is gone, its logs are not.
	w.gone[deca] = w.here[deca]
	delete(w.here, deca)
	w.want(owner.sign(t, request("GET", machine+"/logs", "")), 200, want)
	w.want(newWallet(t).sign(t, request("GET", machine+"/logs", "")), 403, "Unauthorized sender")
	w.gone = nil
	w.want(owner.sign(t, request("GET", machine+"/logs", "")), 404, `{"error":"No execution found for VM `+string(deca)+`"}`)
}

// live serves a world as the node does.
func live(t testing.TB, w *world) *api.Server {
	t.Helper()
	srv, err := api.Listen(t.Context(), api.Config{Bind: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(ctx, w.srv); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return srv
}

// frames dials, says the first message and returns what comes until the end.
func frames(t *testing.T, srv *api.Server, path, first string) []string {
	t.Helper()
	conn, answer, err := websocket.Dial(t.Context(), srv.URL()+path, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://console.example"}}}) //nolint:bodyclose // It is the connection.
	if err != nil {
		t.Fatalf("%v, %+v", err, answer)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(first)); err != nil {
		t.Fatal(err)
	}
	var out []string
	for {
		_, raw, err := conn.Read(t.Context())
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Errorf("ended by %v", err)
			}
			return out
		}
		out = append(out, string(raw))
	}
}

func TestLogsAreFollowed(t *testing.T) {
	owner, other := newWallet(t), newWallet(t)
	const path = machine + "/stream_logs"
	signed := func(k *wallet) string {
		return `{"auth":{"X-SignedPubKey":` + k.pubKey + `,"X-SignedOperation":` + k.operation(t, "GET", path) + `}}`
	}
	const connected, first, second = `{"status":"connected"}`, `{"type":"stdout","message":"[    0.000000] Linux version ..."}`, `{"type":"stderr","message":""}`
	tests := []struct {
		name, query, first string
		change             func(*crn.Execution)
		want               []string
		asked              crn.LogQuery
	}{
		{"of one that runs", "", signed(owner), func(*crn.Execution) {}, []string{connected, first, second}, crn.LogQuery{Follow: true, Tail: 10_000}},
		{"all of it", "?tail=all", signed(owner), func(*crn.Execution) {}, []string{connected, first, second}, crn.LogQuery{Follow: true, Tail: -1}},
		{
			"of one that has ended", "", signed(owner), func(e *crn.Execution) { e.Running = false; e.Times.Stopping = clock() },
			[]string{connected, first, second, `{"type":"system","message":"VM is not running, past logs sent"}`},
			crn.LogQuery{Tail: 10_000},
		},
		{
			"of one that starts", "", signed(owner), func(e *crn.Execution) { e.Running = false; e.Times.Started = time.Time{} },
			[]string{connected, `{"type":"system","message":"VM is starting, try again shortly"}`},
			crn.LogQuery{},
		},
		{"by a stranger", "", signed(other), func(*crn.Execution) {}, []string{`{"status":"failed","reason":"unauthorized sender"}`}, crn.LogQuery{}},
		{"without proof", "", `{}`, func(*crn.Execution) {}, []string{`{"status":"failed","reason":"missing 'auth' key in message"}`}, crn.LogQuery{}},
		{"with another proof", "", `{"auth":1}`, func(*crn.Execution) {}, []string{`{"status":"failed","reason":"Invalid format for auth packet, see /doc/operator_auth.md"}`}, crn.LogQuery{}},
		{"not JSON", "", `x`, func(*crn.Execution) {}, []string{`{"status":"failed","reason":"first message is not a JSON object"}`}, crn.LogQuery{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.here[deca], w.lines = instance(owner.address), lines()
			tt.change(w.here[deca])

			got := frames(t, live(t, w), path+tt.query, tt.first)

			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.query != tt.asked {
				t.Errorf("asked for %+v, want %+v", w.query, tt.asked)
			}
		})
	}
	w := newWorld(t)
	w.want(request("GET", path, ""), 404, `{"error":"No execution found for VM `+string(deca)+`"}`)
}

// One machine's readers are bounded, and take nothing from another's.
func TestReadersOfOneMachineAreBounded(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca], w.here[cafe] = instance(owner.address), instance(owner.address)
	w.here[cafe].Hash = cafe
	hold := make(chan struct{})
	entered := make(chan struct{}, 8)
	w2 := newWorld(t, func(_ *crn.Self, parts *crn.Parts) { parts.Logs, parts.Executions = holding{hold, entered}, w })
	srv := live(t, w2)
	ask := func(vm message.ItemHash) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+"/control/machine/"+string(vm)+"/logs", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(owner.sign(t, r))
		if err != nil {
			t.Error(err)
			return nil
		}
		return answer
	}
	done := make(chan struct{})
	for range 8 {
		r := owner.sign(t, httptest.NewRequest(http.MethodGet, srv.URL()+machine+"/logs", http.NoBody))
		r.RequestURI = ""
		go func() {
			defer func() { done <- struct{}{} }()
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
		}()
	}
	for range 8 {
		<-entered
	}
	answer := ask(deca)
	var body map[string]string
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the ninth: %d %v, %v", answer.StatusCode, body, err)
	}
	answer.Body.Close()
	close(hold)
	for range 8 {
		<-done
	}
	if answer = ask(cafe); answer.StatusCode != http.StatusOK {
		t.Errorf("another machine's: %d", answer.StatusCode)
	}
	answer.Body.Close()
}

// Who does not say who they are takes nothing from those who do.
func TestStrangersAtTheDoorAreBounded(t *testing.T) {
	owner := newWallet(t)
	w := newWorld(t)
	w.here[deca], w.lines = instance(owner.address), lines()
	srv := live(t, w)
	const path = machine + "/stream_logs"
	var silent []*websocket.Conn
	for range 64 {
		conn, _, err := websocket.Dial(t.Context(), srv.URL()+path, nil) //nolint:bodyclose // It is the connection.
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		silent = append(silent, conn)
	}
	if _, answer, err := websocket.Dial(t.Context(), srv.URL()+path, nil); err == nil || answer.StatusCode != http.StatusServiceUnavailable { //nolint:bodyclose // It was read.
		t.Errorf("one more was let in: %v", err)
	}
	if err := silent[0].Write(t.Context(), websocket.MessageText, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, raw, err := silent[0].Read(t.Context()); err != nil || !strings.Contains(string(raw), "missing 'auth'") {
		t.Errorf("%s, %v", raw, err)
	}
	got := frames(t, srv, path, `{"auth":{"X-SignedPubKey":`+owner.pubKey+`,"X-SignedOperation":`+owner.operation(t, "GET", path)+`}}`)
	if len(got) != 3 {
		t.Errorf("heard %v", got)
	}
}
