package storage

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// A peer learns whether a blob is here and nothing about any other file.
func FuzzServeHas(f *testing.F) {
	blobs, err := blob.Open(f.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	data := []byte("some bytes")
	if _, err := blobs.Put(f.Context(), bytes.NewReader(data), ""); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"kind":"has","hash":"` + string(message.HashOf(data)) + `"}`))
	f.Add([]byte(`{"kind":"has","hash":"../objects"}`))
	f.Add([]byte(`{"kind":"has","hash":{}}`))
	k := &Keeper{blobs: blobs}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := k.serveHas(t.Context(), "peer", raw)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("question %q: %v, want errs.Invalid", raw, err)
			}
			return
		}
		r, ok := a.Reply.(hasReply)
		if !ok || r.Has && r.Size != int64(len(data)) || !r.Has && r.Size != 0 {
			t.Errorf("question %q is answered %+v", raw, a.Reply)
		}
	})
}
