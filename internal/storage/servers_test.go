package storage_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// web is a server with one file.
type web struct {
	name  string
	data  []byte // nil has nothing.
	size  int64  // What it says; negative for nothing.
	end   int64  // Where it breaks off the first time; 0 = never.
	asked []int64
}

func (w *web) Name() string { return w.name }

func (w *web) OpenFile(_ context.Context, _ message.ItemHash, offset int64) (io.ReadCloser, int64, error) {
	w.asked = append(w.asked, offset)
	if w.data == nil {
		return nil, 0, errs.New(errs.NotFound, "404")
	}
	r := bytes.NewReader(w.data)
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, err
	}
	if w.end > 0 && len(w.asked) == 1 {
		return nopCloser{breaking{r, w.end}}, w.size, nil
	}
	return nopCloser{r}, w.size, nil
}

func TestServersGiveWhatNoPeerHas(t *testing.T) {
	data := image(3 << 20)
	size, hash := int64(len(data)), message.HashOf(data)
	lie := bytes.Clone(data)
	lie[0]++
	for name, servers := range map[string][]*web{
		"the first":                     {{name: "a", data: data, size: size}},
		"the second":                    {{name: "a"}, {name: "b", data: data, size: size}},
		"one that breaks off":           {{name: "a", data: data, size: size, end: 2 << 20}},
		"one that does not say its end": {{name: "a", data: data, size: -1}},
		"after one that lies":           {{name: "a", data: lie, size: size}, {name: "b", data: data, size: size}},
		"after one that cuts it short":  {{name: "a", data: data[:1<<20], size: 1 << 20}, {name: "b", data: data, size: size}},
		"after one that goes on":        {{name: "a", data: append(bytes.Clone(data), data...), size: -1}, {name: "b", data: data, size: -1}},
	} {
		n := open(t, "alone", 1e9)
		var all []storage.Server
		for _, s := range servers {
			all = append(all, s)
		}
		n.keep.AskServers(all...)
		var last int64
		info, err := n.keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Progress: func(done, _ int64) { last = done }})
		if err != nil || info.Size != size || last != size {
			t.Errorf("%s: %+v, %v, progress to %d", name, info, err, last)
			continue
		}
		if err := n.blobs.Verify(t.Context(), hash); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := servers[0]; s.end > 0 && (len(s.asked) != 2 || s.asked[1] != s.end) {
			t.Errorf("%s: asked at %v, want it to be resumed at %d", name, s.asked, s.end)
		}
	}
	n := open(t, "alone", 1e9)
	n.keep.AskServers(&web{name: "a"}, &web{name: "b", data: lie, size: size})
	if _, err := n.keep.Fetch(t.Context(), hash); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("what nobody has: %v", err)
	}
	full := open(t, "alone", 2<<20)
	full.keep.AskServers(&web{name: "a", data: data, size: size})
	if _, err := full.keep.Fetch(t.Context(), hash); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("what has no room: %v", err)
	}
}

func TestPeersAreAskedBeforeServers(t *testing.T) {
	nodes := network(t, 2)
	data := image(1 << 20)
	hash := nodes[1].put(t, data)
	server := &web{name: "a", data: data, size: int64(len(data))}
	nodes[0].keep.AskServers(server)
	if _, err := nodes[0].keep.Fetch(t.Context(), hash); err != nil || len(server.asked) > 0 {
		t.Errorf("fetched with %v, and the server was asked %d times", err, len(server.asked))
	}
}
