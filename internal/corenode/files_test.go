package corenode_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

var _ storage.Server = corenode.FileServer{}

func TestFilesAreReadFromAnOffsetHoweverServersSendThem(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	half := int64(len(data) / 2)
	serve := http.NewServeMux()
	serve.HandleFunc("/ranges/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	serve.HandleFunc("/whole/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
	})
	serve.HandleFunc("/chunked/", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		w.Write(data[half:])
	})
	serve.HandleFunc("/none/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "404: Not Found", http.StatusNotFound) })
	serve.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
	})
	serve.HandleFunc("/elsewhere/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ranges/", http.StatusFound) })
	serve.HandleFunc("/short/", func(w http.ResponseWriter, _ *http.Request) { w.Write(data[:10]) })
	serve.HandleFunc("/other-range/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data)
	})
	serve.HandleFunc("/silent/", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	serve.HandleFunc("/halting/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	web := httptest.NewServer(serve)
	defer web.Close()
	for _, tt := range []struct {
		name   string
		offset int64
		size   int64     // Negative: not told.
		kind   errs.Kind // Of opening it.
		breaks errs.Kind // Of reading it.
	}{
		{"ranges", 0, int64(len(data)), "", ""},
		{"ranges", half, int64(len(data)), "", ""},
		{"ranges", int64(len(data)) + 1, 0, errs.Unavailable, ""},
		{"whole", half, int64(len(data)), "", ""},
		{"chunked", 0, -1, "", ""},
		{"chunked", half, -1, "", ""},
		{"none", 0, 0, errs.NotFound, ""},
		{"page", 0, 0, errs.Unavailable, ""},
		{"elsewhere", 0, 0, errs.Unavailable, ""},
		{"short", half, 0, errs.Unavailable, ""},
		{"other-range", half, 0, errs.Unavailable, ""},
		{"silent", 0, 0, errs.Unavailable, ""},
		{"halting", 0, int64(len(data)), "", errs.Unavailable},
	} {
		cfg := corenode.DefaultConfig()
		cfg.Servers, cfg.Timeout = []string{web.URL + "/" + tt.name}, 5*time.Second
		if tt.name == "silent" || tt.name == "halting" {
			cfg.Timeout = 100 * time.Millisecond
		}
		c, err := corenode.New(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		body, size, err := c.FileServers()[0].OpenFile(t.Context(), message.HashOf(data), tt.offset)
		wantKind(t, tt.name, err, tt.kind)
		if err != nil {
			continue
		}
		got, err := io.ReadAll(body)
		body.Close()
		switch {
		case size != tt.size:
			t.Errorf("%s from %d: size %d, want %d", tt.name, tt.offset, size, tt.size)
		case tt.breaks != "" && err == nil:
			t.Errorf("%s from %d: %d bytes, want it to break off", tt.name, tt.offset, len(got))
		case tt.breaks == "" && (err != nil || !bytes.Equal(got, data[tt.offset:])):
			t.Errorf("%s from %d: %d bytes, %v", tt.name, tt.offset, len(got), err)
		}
	}
}
