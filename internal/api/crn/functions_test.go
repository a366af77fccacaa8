package crn_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// answerOf is what a function answers.
func answerOf(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// echo answers with what it was asked.
func echo(program message.ItemHash, r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return answerOf(200, fmt.Sprintf("%.4s %s %s %s %s", program, r.Method, r.URL.EscapedPath(), r.URL.RawQuery, body)), nil
}

func TestFunctionsAreFound(t *testing.T) {
	raw, err := os.ReadFile("testdata/labels.json")
	if err != nil {
		t.Fatal(err)
	}
	var labels []struct {
		VM    message.ItemHash `json:"vm_hash"`
		Label string           `json:"label"`
	}
	if err := json.Unmarshal(raw, &labels); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.call = echo
	w.txt["_aleph-id.app.example.com"] = string(cafe)
	w.txt["_aleph-id.bad.example.com"] = "x"
	at := func(method, host, target, body string) *http.Request {
		r := request(method, target, body)
		r.Host = host
		return r
	}
	for _, l := range labels {
		w.want(at("GET", l.Label+".vm.example.org:443", "/a/b?c=d", ""), 200, fmt.Sprintf("%.4s GET /a/b c=d ", l.VM))
	}
	const missing = `{"error":"404: Invalid message reference"}`
	w.want(at("PUT", strings.ToUpper(labels[0].Label)+".vm.example.org", "/", "x"), 200, fmt.Sprintf("%.4s PUT /  x", labels[0].VM))
	w.want(at("GET", "App.example.com", "/", ""), 200, "cafe GET /  ")
	w.want(at("GET", "bad.example.com", "/", ""), 404, missing)
	w.want(at("GET", strings.Repeat("a", 51)+".example.com", "/", ""), 404, missing)
	w.want(at("GET", strings.Repeat("1", 52)+".example.com", "/", ""), 404, missing)
	w.want(at("GET", "127.0.0.1:4020", "/x", ""), 404, missing)
	// What was asked a moment ago is not asked again.
	before := w.lookups
	w.want(at("GET", "app.example.com", "/", ""), 200, "cafe GET /  ")
	w.want(at("GET", "bad.example.com", "/", ""), 404, missing)
	if w.lookups != before {
		t.Errorf("%d questions were asked again", w.lookups-before)
	}

	for target, want := range map[string]string{
		"/vm/" + string(deca):              "deca GET /  ",
		"/vm/" + string(deca) + "/":        "deca GET /  ",
		"/vm/" + string(deca) + "?a=1":     "deca GET / a=1 ",
		"/vm/" + string(deca) + "/a//../b": "deca GET /a//../b  ",
		"/vm/" + string(deca) + "/a%2Fb":   "deca GET /a%2Fb  ",
	} {
		w.want(request("GET", target, ""), 200, want)
	}
	w.want(request("PATCH", "/vm/"+string(deca)+"/x", "body"), 200, "deca PATCH /x  body")
	w.want(request("GET", "/vm/x/y", ""), 400, `{"error":"Invalid message reference: x"}`)
	// Its own paths the node keeps, whatever the host.
	w.want(at("GET", labels[0].Label+".vm.example.org", "/about/x", ""), 404, `{"error":"404: Not Found"}`)
}

func TestAnswersOfFunctionsAreTheirOwn(t *testing.T) {
	w := newWorld(t)
	answer := answerOf(404, "nothing \xff here") //nolint:bodyclose // It is no body of a connection.
	answer.Header = http.Header{"X-Own": {"a", "b"}, "Server": {"mine"}, "Connection": {"close"}, "Transfer-Encoding": {"chunked"}}
	w.call = func(message.ItemHash, *http.Request) (*http.Response, error) { return answer, nil }
	rec := w.want(request("GET", "/vm/"+string(deca), ""), 404, "nothing \xff here")
	h := rec.Header()
	if len(h["X-Own"]) != 2 || h.Get("Connection") != "" || h.Get("Transfer-Encoding") != "" || h.Get("Aleph-Program-ItemHash") != string(deca) || h.Get("Content-Length") != "14" {
		t.Errorf("headers %v", h)
	}
	failures := []struct {
		err    error
		status int
		body   string
	}{
		{&crn.Failure{Status: 504, Text: "Program did not respond within `resource.seconds`"}, 504, "{\"error\":\"Program did not respond within `resource.seconds`\"}"},
		{&crn.Failure{Status: 500, Text: "Traceback ...", Plain: true}, 500, "Traceback ..."},
		{&http.MaxBytesError{Limit: 5}, 413, `{"error":"Maximum request body size 5 exceeded"}`},
		{errors.New("/secret/place"), 500, `{"error":"internal error"}`},
	}
	for _, f := range failures {
		w.call = func(message.ItemHash, *http.Request) (*http.Response, error) { return nil, f.err }
		w.want(request("GET", "/vm/"+string(deca), ""), f.status, f.body)
	}
	answer = answerOf(42, "") //nolint:bodyclose // The same.
	w.call = func(message.ItemHash, *http.Request) (*http.Response, error) { return answer, nil }
	w.want(request("GET", "/vm/"+string(deca), ""), 502, "VM answered with the status 42")

	small := newWorld(t, func(me *crn.Self, _ *crn.Parts) { me.FunctionBodyMaxBytes = 4 })
	small.call = echo
	small.want(request("POST", "/vm/"+string(deca), "12345"), 413, `{"error":"Maximum request body size 4 exceeded, actual body size 5"}`)
	r := request("POST", "/vm/"+string(deca), "12345")
	r.ContentLength = -1
	small.want(r, 413, `{"error":"Maximum request body size 4 exceeded"}`)
	without := newWorld(t, func(_ *crn.Self, parts *crn.Parts) { parts.Functions = nil })
	without.want(request("GET", "/vm/"+string(deca), ""), 503, `{"error":"This CRN cannot host the requested workload at this time."}`)
}

// Neither a body nor an answer is kept until it is whole.
func TestFunctionsStreamBothWays(t *testing.T) {
	w := newWorld(t)
	w.call = func(_ message.ItemHash, r *http.Request) (*http.Response, error) {
		out, in := io.Pipe()
		go func() {
			words := bufio.NewScanner(r.Body)
			for words.Scan() {
				if _, err := fmt.Fprintf(in, "heard %s\n", words.Text()); err != nil {
					return
				}
			}
			in.CloseWithError(words.Err())
		}()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: out, ContentLength: -1}, nil
	}
	srv := live(t, w)
	body, say := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+"/vm/"+string(deca), body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := io.WriteString(say, "one\n"); err != nil {
			t.Error(err)
		}
	}()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	heard := bufio.NewReader(answer.Body)
	for _, word := range []string{"one", "two", "three"} {
		if word != "one" {
			if _, err := io.WriteString(say, word+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		if line, err := heard.ReadString('\n'); err != nil || line != "heard "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	say.Close()
	if rest, err := io.ReadAll(heard); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// A function may answer without hearing all. What comes after is no request.
func TestFunctionsNeedNotListen(t *testing.T) {
	w := newWorld(t)
	w.call = func(_ message.ItemHash, r *http.Request) (*http.Response, error) {
		if _, err := io.ReadFull(r.Body, make([]byte, 5)); err != nil {
			return nil, err
		}
		return answerOf(http.StatusTeapot, "enough"), nil
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(live(t, w).URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /vm/"+string(deca)+" HTTP/1.1\r\nHost: "+domain+"\r\nContent-Length: 1000\r\n\r\n12345"); err != nil {
		t.Fatal(err)
	}
	heard, err := io.ReadAll(conn) // To its end: the server closes.
	if err != nil || !bytes.HasPrefix(heard, []byte("HTTP/1.1 418 ")) || !bytes.HasSuffix(heard, []byte("enough")) || bytes.Count(heard, []byte("HTTP/1.1")) != 1 {
		t.Errorf("%q, %v", heard, err)
	}
}

// An answer that breaks off is not taken for whole.
func TestAnswersThatBreakOff(t *testing.T) {
	w := newWorld(t)
	w.call = func(message.ItemHash, *http.Request) (*http.Response, error) {
		out, in := io.Pipe()
		go func() {
			_, _ = io.WriteString(in, "half")
			in.CloseWithError(io.ErrUnexpectedEOF)
		}()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: out, ContentLength: -1}, nil
	}
	answer, err := http.Get(live(t, w).URL() + "/vm/" + string(deca))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("%q was taken for whole", body)
	}
}

func TestDraining(t *testing.T) {
	w := newWorld(t)
	w.call = echo
	w.here[deca] = instance("0xA")
	w.srv.Drain()
	const drained = `{"error":"Server is draining, try another node"}`
	w.want(request("GET", "/vm/"+string(deca), ""), 503, drained)
	r := request("GET", "/x", "")
	r.Host = "app.example.com"
	w.want(r, 503, drained)
	for _, path := range []string{"/about/executions/list", "/v2/about/executions/list", "/status/config", "/about/usage/system", "/"} {
		if rec := w.do(request("GET", path, "")); rec.Code != 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}

func TestWhatIsServed(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, host, path string
		want               bool
	}{
		{"GET", domain, "/about/login", true},
		{"GET", domain, "/about/x", true},
		{"POST", domain, machine + "/stop", true},
		{"GET", domain, "/vm/" + string(deca), true},
		{"GET", "127.0.0.1:4020", "/api/v1/node", false},
		{"GET", domain, "/api/v1/node", false},
		{"GET", "[::1]:4020", "/metrics", false},
		{"GET", "app.example.com", "/api/v1/node", false},
		{"GET", "33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fa.vm.example.org", "/api/v1/node", true},
	} {
		r := request(tt.method, tt.path, "")
		r.Host = tt.host
		if got := w.srv.Serves(r); got != tt.want {
			t.Errorf("%s http://%s%s: %v", tt.method, tt.host, tt.path, got)
		}
	}
	r := request("OPTIONS", "/v2/about/executions/list", "")
	r.Header.Set("Access-Control-Request-Method", "GET")
	if !w.srv.Serves(r) {
		t.Error("a page cannot ask whether it may list")
	}
}

// diagnostic answers as the program does with which nodes check themselves.
func diagnostic(counter *atomic.Int64) func(message.ItemHash, *http.Request) (*http.Response, error) {
	return func(_ message.ItemHash, r *http.Request) (*http.Response, error) {
		body, known := map[string]string{
			"/": `{"Example":"example_fastapi"}`, "/lifespan": `{"Lifespan":true}`,
			"/environ":  `{"ALEPH_API_HOST":"","ALEPH_API_UNIX_SOCKET":"","ALEPH_REMOTE_CRYPTO_HOST":"","ALEPH_REMOTE_CRYPTO_UNIX_SOCKET":"","ALEPH_ADDRESS_TO_USE":""}`,
			"/messages": `{"Messages":{"messages":[{"item_hash":"x"}]}}`, "/dns": `{"ipv4":"1.2.3.4","ipv6":"::1"}`, "/ip/4": `{"result":true}`, "/ip/6": `{"result":true,"headers":{}}`,
			"/internet": `{"result":200}`, "/get_a_message": `{"item_hash":"x"}`, "/cache/set/a/42": `true`, "/cache/get/a": `"42"`, "/cache/keys": `["a"]`,
		}[r.URL.Path]
		switch {
		case known:
			return answerOf(200, body), nil
		case r.URL.Path == "/state/increment":
			return answerOf(200, fmt.Sprintf(`{"counter":%d}`, counter.Add(1))), nil
		case r.URL.Path == "/raise":
			return nil, &crn.Failure{Status: 500, Text: "Traceback (most recent call last)", Plain: true}
		default:
			return answerOf(404, "{}"), nil
		}
	}
}

func TestNodesCheckThemselves(t *testing.T) {
	w := newWorld(t)
	w.call = diagnostic(new(atomic.Int64)) //nolint:bodyclose // The door closes it.
	rec := w.do(request("GET", "/status/check/fastapi", ""))
	if rec.Code != 200 {
		t.Errorf("%d", rec.Code)
	}
	same(t, rec.Body.Bytes(), golden(t, "status_check_fastapi.json"))
	want, _ := golden(t, "status_check_fastapi.json").(map[string]any)
	delete(want, "lifespan")
	delete(want, "get_a_message")
	for _, path := range []string{"/status/check/fastapi?retro-compatibility=true", "/status/check/fastapi/legacy"} {
		same(t, w.do(request("GET", path, "")).Body.Bytes(), want)
	}
	w.want(request("GET", "/status/check/ipv6", ""), 200, `{"host":true,"vm":true}`)

	works := w.call
	for path, status := range map[string]int{"/dns": 503, "/lifespan": 503, "/cache/keys": 200, "/state/increment": 200, "/raise": 503, "/get_a_message": 200} {
		w.call = func(program message.ItemHash, r *http.Request) (*http.Response, error) {
			if r.URL.Path == path {
				return answerOf(200, `{"counter":1,"ipv4":""}`), nil
			}
			return works(program, r)
		}
		if rec := w.do(request("GET", "/status/check/fastapi", "")); rec.Code != status || strings.Count(rec.Body.String(), "false") != 1 {
			t.Errorf("without %s: %d %s, want %d", path, rec.Code, rec.Body, status)
		}
	}
	w.call = nil
	if rec := w.do(request("GET", "/status/check/fastapi", "")); rec.Code != 503 || strings.Contains(rec.Body.String(), "true") {
		t.Errorf("without functions: %d %s", rec.Code, rec.Body)
	}
	w.want(request("GET", "/status/check/ipv6", ""), 200, `{"host":true,"vm":false}`)
}

func TestHostsAreChecked(t *testing.T) {
	w := newWorld(t)
	if rec := w.do(request("GET", "/status/check/host", "")); rec.Code != 503 {
		t.Errorf("%d", rec.Code)
	}
	raw, err := os.ReadFile("testdata/status_check_host.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &w.reach); err != nil {
		t.Fatal(err)
	}
	w.reach.IPv6.HTTP = false // Good to know, no more.
	if rec := w.do(request("GET", "/status/check/host", "")); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.reach.IPv6.HTTP = true
	same(t, w.do(request("GET", "/status/check/host", "")).Body.Bytes(), golden(t, "status_check_host.json"))
}
