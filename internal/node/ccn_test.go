package node_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
)

// bring uploads a file in a form and returns the answer.
func bring(t *testing.T, url, name, text string) []byte {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(part, text); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, &body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %d %s, %v", url, resp.StatusCode, raw, err)
	}
	return raw
}

// TestCoordinatorAnswersBothInterfaces brings files to a coordinator by the network's
// interface, and asks it things of the product's.
func TestCoordinatorAnswersBothInterfaces(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	n, end := begin(t, cfg)
	waitReady(t, n)
	var kept, site struct {
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(bring(t, n.URL()+"/api/v0/storage/add_file", "a", "a file"), &kept); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bring(t, n.URL()+"/api/v0/add?wrap-with-directory=false", "a.txt", "a page"), &site); err != nil {
		t.Fatal(err)
	}
	end()

	n, _ = begin(t, cfg)
	waitReady(t, n)

	for path, want := range map[string]string{
		"/api/v0/storage/raw/" + kept.Hash: "a file",
		"/ipfs/" + site.Hash:               "a page",
		"/api/v0/version":                  `"version"`,
		"/api/v0/info/public.json":         "/p2p/",
		"/api/v1/info":                     "coordinator",
	} {
		if code, body := get(t, n.URL()+path); code != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s = %d %.200s, want %s", path, code, body, want)
		}
	}
	if code, _ := get(t, n.URL()+"/api/v9/nothing"); code != http.StatusNotFound {
		t.Errorf("a path of neither: %d", code)
	}
	for _, method := range []string{http.MethodOptions, http.MethodHead, http.MethodGet} {
		r, err := http.NewRequestWithContext(t.Context(), method, n.URL()+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", "https://app.example")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
			t.Errorf("%s /metrics of a page: %d %v", method, resp.StatusCode, resp.Header)
		}
	}
}
