package swarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
)

// chain returns directories each of which has the next one in it, by CID.
func chain(t testing.TB, depth int) (root cid.Cid, all map[string]blocks.Block) {
	t.Helper()
	all = map[string]blocks.Block{}
	var child *merkledag.ProtoNode
	for i := range depth {
		n := merkledag.NodeWithData(unixfs.FolderPBData())
		if err := n.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.SHA2_256}); err != nil {
			t.Fatal(err)
		}
		if child != nil {
			if err := n.AddNodeLink(fmt.Sprint(i), child); err != nil {
				t.Fatal(err)
			}
		}
		all[n.Cid().KeyString()] = n
		child = n
	}
	return child.Cid(), all
}

// server serves what a node has as a trustless gateway does; bend may answer instead,
// and says so.
func server(t testing.TB, n *node, bend func(w http.ResponseWriter, r *http.Request, c cid.Cid) bool) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if bend != nil && bend(w, r, c) {
			return
		}
		block, err := n.store.Block(c)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if r.URL.Query().Get("format") == "car" {
			_ = n.store.Export(r.Context(), c, w) // Who asked may have gone.
			return
		}
		_, _ = w.Write(block)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func gateways(urls ...string) func(*swarm.Config) {
	return func(c *swarm.Config) {
		impatient(c)
		c.Gateways = urls
	}
}

func TestGatewaysSendAllAtOnce(t *testing.T) {
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(1, 30*chunk))
	url, asked := server(t, a, nil)
	b := newNode(t, options{name: "b", change: gateways(url)})

	b.fetched(t, want, a)

	if asked.Load() != 1 {
		t.Errorf("the gateway was asked %d times, want once", asked.Load())
	}
}

// TestGatewaysThatBreakOff: what a stream lacks is asked for block by block.
func TestGatewaysThatBreakOff(t *testing.T) {
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(1, 30*chunk))
	archive := a.export(t, want.CID)
	for name, bend := range map[string]func(http.ResponseWriter, *http.Request, cid.Cid) bool{
		"no streams": func(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
			if r.URL.Query().Get("format") != "car" {
				return false
			}
			http.Error(w, "no streams here", http.StatusNotAcceptable)
			return true
		},
		"breaks off": func(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
			if r.URL.Query().Get("format") != "car" {
				return false
			}
			_, _ = w.Write(archive[:len(archive)/2])
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := server(t, a, bend)
			b := newNode(t, options{name: "b", change: gateways(url)})
			b.fetched(t, want, a)
			if got := b.count(t, "aleph_ipfs_fetched_blocks_total", "gateway"); got != 31 {
				t.Errorf("%v blocks came, want each once", got)
			}
		})
	}
}

// TestGatewaysThatLie: none of what they send is taken, and the next source is asked
// for what is missing.
func TestGatewaysThatLie(t *testing.T) {
	t.Parallel()
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(1, 10*chunk))
	archive := a.export(t, want.CID)
	other := a.export(t, a.add(t, bytesOf(2, 10*chunk)).CID)
	flipped := bytes.Clone(archive)
	flipped[len(flipped)/2] ^= 1
	header := archive[:bytes.Index(archive, want.CID.Bytes())+want.CID.ByteLen()+9] // with "version": 1 behind the root
	send := func(data []byte) func(http.ResponseWriter, *http.Request, cid.Cid) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ cid.Cid) bool {
			_, _ = w.Write(data)
			return true
		}
	}
	for name, tt := range map[string]struct {
		bend    func(http.ResponseWriter, *http.Request, cid.Cid) bool
		outcome string
	}{
		"a flipped bit":  {send(flipped), "lied"},
		"other content":  {send(other), "lied"},
		"noise":          {send(bytesOf(9, 1<<20)), "lied"},
		"nothing":        {send(nil), "lied"},
		"endless strays": {strays(header), "lied"},
		"endless bytes":  {endless, "lied"},
		"an error": {func(w http.ResponseWriter, _ *http.Request, _ cid.Cid) bool {
			http.Error(w, "no", http.StatusBadGateway)
			return true
		}, "missing"},
		"a way elsewhere": {func(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		}, "missing"},
		"an answer that ends": {func(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("x"))
			return true
		}, "missing"},
		"silence": {func(_ http.ResponseWriter, r *http.Request, _ cid.Cid) bool { <-r.Context().Done(); return true }, "stalled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // One waits for a gateway that says nothing.
			liar, _ := server(t, a, tt.bend)
			alone := newNode(t, options{name: "alone", change: gateways(liar)})
			err := alone.notFetched(t, want.CID, errs.Unavailable)
			if got := alone.count(t, "aleph_ipfs_fetches_total", "gateway", tt.outcome); got != 1 {
				t.Errorf("no fetch is counted as %s: %v", tt.outcome, err)
			}
			honest, _ := server(t, a, nil)
			both := newNode(t, options{name: "both", change: gateways(liar, honest)})
			both.fetched(t, want, a)
		})
	}
}

// strays sends blocks without end that are no part of the content, each of them
// right.
func strays(header []byte) func(http.ResponseWriter, *http.Request, cid.Cid) bool {
	return func(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
		if r.URL.Query().Get("format") == "car" {
			_, _ = w.Write(header)
		}
		for i := 0; r.Context().Err() == nil; i++ {
			b := merkledag.NewRawNode(fmt.Append(nil, i))
			section := append(b.Cid().Bytes(), b.RawData()...)
			if _, err := w.Write(append([]byte{byte(len(section))}, section...)); err != nil {
				return true
			}
		}
		return true
	}
}

func endless(w http.ResponseWriter, r *http.Request, _ cid.Cid) bool {
	for chunk := bytesOf(8, 1<<16); r.Context().Err() == nil; {
		if _, err := w.Write(chunk); err != nil {
			break
		}
	}
	return true
}
