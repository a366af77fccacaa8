package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
)

// dev is a running node for developers.
func dev(t *testing.T, dir string, accounts ...string) (ask func(method, path, body string, header ...string) (int, string), stop func()) {
	t.Helper()
	d, err := node.NewDev(t.Context(), node.DevOptions{Bind: "127.0.0.1:0", Dir: dir, Accounts: accounts, Balance: 500}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Cleanup(stop)
	return func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, d.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		raw, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(raw)
	}, stop
}

func TestTheAccountsOfDevelopersAreThoseThatEverybodyKnows(t *testing.T) {
	keys, err := node.DevKeys(10)
	if err != nil {
		t.Fatal(err)
	}
	if got := crypto.PubkeyToAddress(keys[0].PublicKey).Hex(); got != "0x34f382eeb74De6A1906f7Cb4759B4860B33c5dF3" {
		t.Errorf("the first account is %s", got)
	}
}

func TestANodeForDevelopersGoesBackToItsBeginning(t *testing.T) {
	dir := t.TempDir()
	ask, stop := dev(t, dir, "0xA", "0xB")
	want := func(method, path, body string, status int, part string, header ...string) {
		t.Helper()
		if got, text := ask(method, path, body, header...); got != status || !strings.Contains(text, part) {
			t.Errorf("%s %s = %d %s, want %d and %s", method, path, got, text, status, part)
		}
	}
	balance := func(address string) string { return "/api/v0/addresses/" + address + "/balance" }
	want("GET", balance("0xA"), "", 200, `"credit_balance":500`)
	want("GET", balance("0xB"), "", 200, `"balance":500.0`)
	want("GET", "/api/v0/aggregates/0xFba561a84A537fCaa567bb7A2257e7142701ae2A.json?keys=pricing,settings", "", 200, `"compatible_gpus"`)
	want("POST", "/api/v0/storage/add_json", `{"a":1}`, 200, "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862")
	raw := "/api/v0/storage/raw/015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
	want("GET", raw, "", 200, `{"a":1}`)
	want("POST", "/api/dev/snapshot?name=one", "", 204, "")
	want("GET", raw, "", 200, `{"a":1}`)
	want("POST", "/api/dev/reset", "", 204, "")
	want("GET", raw, "", 404, "")
	want("GET", balance("0xA"), "", 200, `"credit_balance":500`)
	want("POST", "/api/dev/reset?snapshot=one", "", 204, "")
	want("GET", raw, "", 200, `{"a":1}`)
	want("POST", "/api/dev/reset?snapshot=two", "", 404, "no snapshot two")
	want("POST", "/api/dev/snapshot?name=../x", "", 400, "want 1 to 64")
	want("POST", "/api/dev/reset", "", 403, "a page may not", "Origin", "https://example.org")
	stop()
	ask, _ = dev(t, dir) // What was there is there.
	want("GET", raw, "", 200, `{"a":1}`)
	want("GET", balance("0xA"), "", 200, `"credit_balance":500`)
}

func TestAnUploadThatABeginningCutsShortMayBeTriedAgain(t *testing.T) {
	ctx := t.Context()
	d, err := node.NewDev(ctx, node.DevOptions{Bind: "127.0.0.1:0", Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	body, client := io.Pipe()
	answer, done := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		d.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v0/storage/add_file", body))
	}()
	// A pipe has no buffer: the node is in the middle of the upload when it has read this.
	if _, err := client.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	if err := d.Reset(ctx, ""); err != nil {
		t.Fatal(err)
	}

	_ = client.Close()
	<-done

	if text := answer.Body.String(); answer.Code != http.StatusServiceUnavailable || !strings.Contains(text, "ask again") {
		t.Errorf("the upload was answered %d %s, want 503 and that it may be tried again", answer.Code, text)
	}
}
