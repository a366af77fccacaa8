package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func FuzzQuestion(f *testing.F) {
	f.Add([]byte(`{"kind":"hi"}`))
	f.Add([]byte(`{"kind":"other","Kind":"hi"}`))
	f.Add([]byte(`[]`))
	h := &Host{kinds: map[string]AskHandler{"hi": func(context.Context, PeerID, []byte) (Answer, error) { return Answer{}, nil }}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, fn, err := h.handler(raw)
		switch {
		case err == nil && (kind != "hi" || fn == nil):
			t.Errorf("handler of %q is that of kind %q", raw, kind)
		case err != nil && (kind != "" || errs.KindOf(err) != errs.Invalid):
			t.Errorf("handler of %q: kind %q, %v; want none and errs.Invalid", raw, kind, err)
		}
	})
}

// An answer is data or a failure of the peer, never one of this node.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"has":true,"size":3}`))
	f.Add([]byte(`{"error":"no blob","error_kind":"not found"}`))
	f.Add([]byte(`{"error":"x","error_kind":"internal"}`))
	f.Add([]byte(`{"error_kind":7}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var reply struct {
			Has  bool  `json:"has"`
			Size int64 `json:"size"`
		}
		err := decodeAnswer(raw, "peer", &reply)
		if kind := errs.KindOf(err); kind == errs.Internal {
			t.Errorf("answer %q becomes %v", raw, err)
		}
		if err != nil && (reply.Has || reply.Size != 0) && errs.KindOf(err) != errs.Unavailable {
			t.Errorf("answer %q is both %+v and %v", raw, reply, err)
		}
	})
}

type bytesBlob struct{ *bytes.Reader }

func (bytesBlob) Close() error { return nil }

// A request gets the rest of the bytes from its offset on, or a refusal.
func FuzzBulkRequest(f *testing.F) {
	const data = "some bytes"
	hash := message.HashOf([]byte(data))
	f.Add([]byte(`{"kind":"blob","name":"` + string(hash) + `","offset":4}`))
	f.Add([]byte(`{"kind":"blob","name":"` + string(hash) + `","offset":11}`))
	f.Add([]byte(`{"kind":"blob","name":"../../etc/passwd","offset":-1}`))
	f.Add([]byte(`{"kind":"none","name":"x"}`))
	h := &Host{bulks: map[string]BulkHandler{}}
	h.HandleBlob(func(_ context.Context, _ PeerID, h message.ItemHash) (io.ReadSeekCloser, int64, error) {
		if h != hash {
			return nil, 0, errs.New(errs.NotFound, "no blob %s", h)
		}
		return bytesBlob{bytes.NewReader([]byte(data))}, int64(len(data)), nil
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, body, size, err := h.openBulk(t.Context(), "peer", raw)
		if kind != "" && kind != wire.BulkBlob {
			t.Errorf("request %q makes kind %q, which nobody registered", raw, kind)
		}
		if err != nil {
			if !errors.Is(err, errs.Invalid) && !errors.Is(err, errs.NotFound) {
				t.Errorf("request %q: %v, want errs.Invalid or errs.NotFound", raw, err)
			}
			return
		}
		rest, err := io.ReadAll(body)
		if err != nil || size != int64(len(data)) || !bytes.HasSuffix([]byte(data), rest) {
			t.Errorf("request %q gives %q of %d bytes, %v", raw, rest, size, err)
		}
	})
}

// What a node says of itself is its own address, or none.
func FuzzReadAlive(f *testing.F) {
	const id = "QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV"
	f.Add(id, []byte(`{"address":"/ip4/51.159.57.71/tcp/4025/p2p/`+id+`","interests":null,"peer_type":"P2P","version":"v1"}`))
	f.Add("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", []byte(`{"address":"http://a","interests":null,"peer_type":"HTTP","version":""}`))
	f.Add(id, []byte(`{"address":"/ip4/1.1.1.1/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA","peer_type":"P2P"}`))
	f.Fuzz(func(t *testing.T, from string, raw []byte) {
		a, p, err := readAlive(Gossip{From: PeerID(from), Data: raw})
		if err != nil {
			return
		}
		if a.PeerType == wire.PeerP2P && !strings.Contains(a.Address, "/p2p/") && !strings.Contains(a.Address, "/ipfs/") {
			t.Errorf("%q of %s is an address of nobody", a.Address, p)
		}
	})
}

func FuzzParsePeerID(f *testing.F) {
	f.Add("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	f.Add("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	f.Add("bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParsePeerID(text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("ParsePeerID(%q): %v, want errs.Invalid", text, err)
			}
			return
		}
		again, err := ParsePeerID(string(id))
		if err != nil || again != id || len(id.Bytes()) == 0 {
			t.Errorf("%q is %s, which reads back as %s, %v", text, id, again, err)
		}
	})
}
