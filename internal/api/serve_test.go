package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := api.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, bind := range []string{"", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ":::1"} {
		if err := (api.Config{Bind: bind}).Validate(); err == nil || !strings.Contains(err.Error(), "bind") {
			t.Errorf("bind %q: %v, want an error that names it", bind, err)
		}
	}
}

func TestProblemOfEveryKind(t *testing.T) {
	tests := []struct {
		err    error
		status int
		detail string
		code   string
	}{
		{errs.New(errs.Invalid, "a"), http.StatusBadRequest, "a", ""},
		{errs.New(errs.Denied, "a"), http.StatusForbidden, "a", ""},
		{fmt.Errorf("look: %w", errs.New(errs.NotFound, "a")), http.StatusNotFound, "look: a", ""},
		{errs.New(errs.Conflict, "a"), http.StatusConflict, "a", ""},
		{errs.New(errs.Exhausted, "a"), http.StatusPaymentRequired, "a", ""},
		{fmt.Errorf("commit in /srv: %w", errs.Placed(errs.New(errs.Exhausted, "/srv is full"), "the disk is full")), http.StatusPaymentRequired, "the disk is full", ""},
		{errs.New(errs.Unavailable, "a"), http.StatusServiceUnavailable, "a", ""},
		{errs.New(errs.Internal, "secret"), http.StatusInternalServerError, "internal error", ""},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError, "internal error", ""},
		{&http.MaxBytesError{Limit: 5}, http.StatusRequestEntityTooLarge, "too large", ""},
		{message.Reject(message.CodeVMVolumeNotFound, "a"), http.StatusUnprocessableEntity, "a", "301"},
		{message.Reject(message.CodeInvalidFormat, "a"), http.StatusUnprocessableEntity, "a", "0"},
		{&api.Problem{Status: 418, Detail: "tea"}, 418, "tea", ""},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()

		api.Refuse(slog.New(slog.DiscardHandler), w, httptest.NewRequest(http.MethodGet, "/", nil), tt.err)

		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		code := ""
		if c, ok := got["error_code"]; ok {
			code = fmt.Sprint(c)
		}
		if strings.Contains(w.Body.String(), "/srv") {
			t.Errorf("%v: the answer %s names a place of this node", tt.err, w.Body)
		}
		if w.Code != tt.status || !strings.Contains(got["detail"].(string), tt.detail) || code != tt.code {
			t.Errorf("%v: %d %v, want %d %q %s", tt.err, w.Code, got, tt.status, tt.detail, tt.code)
		}
		if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%v: content type %s", tt.err, ct)
		}
	}
}

// serve runs a server with the handler and returns its base URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s, err := api.Listen(t.Context(), api.Config{Bind: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return s.URL()
}

func TestServeSurvivesPanicsAndEndsStreams(t *testing.T) {
	started := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("broken") })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic("broken")
	})
	mux.HandleFunc("/follow", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		close(started)
		<-r.Context().Done()
	})
	url := serve(t, mux)
	get := func(path string) (int, string, error) {
		resp, err := http.Get(url + path)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(raw), err
	}

	if status, body, err := get("/panic"); status != http.StatusInternalServerError || strings.Contains(body, "broken") || err != nil {
		t.Errorf("/panic: %d %s %v, want 500 without the text", status, body, err)
	}
	if _, _, err := get("/late"); err == nil {
		t.Error("/late: an answer that broke off looks whole")
	}
	if status, body, err := get("/ok"); status != http.StatusOK || body != "fine" || err != nil {
		t.Errorf("/ok after panics: %d %s %v", status, body, err)
	}
	go func() { _, _, _ = get("/follow") }()
	<-started // the cleanup fails if Serve waits for it
}

// TestStreamsDoNotCountAmongTheRequests fills both budgets: neither takes of the
// other, and each refuses what is too much.
func TestStreamsDoNotCountAmongTheRequests(t *testing.T) {
	inside, end := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	wait := func(http.ResponseWriter, *http.Request) { inside <- struct{}{}; <-end }
	mux.HandleFunc("/wait", wait)
	mux.HandleFunc("/follow", func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(api.BeginStream(w), api.BeginStream(w)); err != nil {
			api.Refuse(slog.New(slog.DiscardHandler), w, r, err)
			return
		}
		wait(w, r)
	})
	var moved, left atomic.Int32
	mux.HandleFunc("/visit", func(w http.ResponseWriter, r *http.Request) {
		err := api.Move(w, func() (func(), error) {
			if moved.Add(1) > 2 {
				return nil, errs.New(errs.Unavailable, "too many visits")
			}
			return func() { left.Add(1) }, nil
		})
		if err != nil {
			api.Refuse(slog.New(slog.DiscardHandler), w, r, err)
			return
		}
		wait(w, r)
	})
	guarded := api.Guard(slog.New(slog.DiscardHandler), mux)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	refused := func(path, want string) {
		t.Helper()
		if w := get(path); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want 503 and %q", path, w.Code, w.Body, want)
		}
	}
	var all sync.WaitGroup
	enter := func(path string, n int) {
		for range n {
			all.Go(func() {
				if w := get(path); w.Code != http.StatusOK {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			})
		}
		for range n {
			<-inside
		}
	}

	enter("/follow", api.StreamsMax)
	refused("/follow", "256 answers are being streamed already")
	enter("/visit", 2)
	refused("/visit", "too many visits")
	enter("/wait", api.InFlightMax)
	refused("/wait", "1024 requests are being served already")
	close(end)
	all.Wait()
	if left.Load() != 2 {
		t.Errorf("%d of 2 visits left", left.Load())
	}

	end = make(chan struct{})
	enter("/follow", 1)
	enter("/wait", 1)
	close(end)
	all.Wait()
	if err := api.BeginStream(httptest.NewRecorder()); err != nil {
		t.Errorf("where nobody counts: %v", err)
	}
}

func TestListenOnATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	_, err = api.Listen(t.Context(), api.Config{Bind: l.Addr().String()}, slog.New(slog.DiscardHandler))

	if errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "[api] bind") {
		t.Errorf("Listen: %v, want errs.Conflict that names the setting", err)
	}
	if _, err := api.Listen(t.Context(), api.Config{Bind: "203.0.113.1:1"}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Listen took an address that is not this machine's")
	}
	s, err := api.Listen(t.Context(), api.Config{Bind: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Serve(t.Context(), http.NotFoundHandler()); err == nil {
		t.Error("Serve after Close returned nil")
	}
}

// TestASlowClientIsCutOff: who sends a header byte by byte does not keep a connection, and
// nobody else waits for them.
func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }))
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, c) // Until the node ends it.
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * time.Minute)
	for i := 0; ; i++ {
		text := "x"
		if i == 0 {
			text = "GET / HTTP/1.1\r\nHost: node\r\nX-Slow: "
		}
		_, _ = io.WriteString(c, text) // Fails once it is cut off.
		select {
		case <-ended:
			return
		case <-late:
			t.Fatal("a header that does not end keeps its connection")
		case <-tick.C:
		}
		if i == 0 {
			answer, err := http.Get(url)
			if err != nil {
				t.Fatalf("beside a slow client: %v", err)
			}
			answer.Body.Close()
		}
	}
}
