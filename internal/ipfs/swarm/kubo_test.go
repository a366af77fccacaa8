package swarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
)

// rpc answers what a Kubo is asked, by command. What it is not told to answer is an
// error, as Kubo makes it. What a real one does is in kubo_interop_test.go.
func rpc(t testing.TB, answers map[string]func(w http.ResponseWriter, r *http.Request)) func(*swarm.Config) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[strings.TrimPrefix(r.URL.Path, "/api/v0/")]
		if user, pass, _ := r.BasicAuth(); !ok || r.Method != http.MethodPost || user != "user" || pass != "secret" {
			http.Error(w, `{"Message":"not found","Code":0,"Type":"error"}`, http.StatusInternalServerError)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	url := strings.Replace(s.URL, "http://", "http://user:secret@", 1)
	return func(c *swarm.Config) { c.KuboRPC = url }
}

func text(s string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, s) }
}

// TestAKuboIsNotBelieved: its bytes are compared with their CID as anybody's, and an
// error does not tell the password of its URL.
func TestAKuboIsNotBelieved(t *testing.T) {
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(1, 3*chunk))
	honest := func(w http.ResponseWriter, r *http.Request) {
		c, err := cid.Decode(r.URL.Query().Get("arg"))
		if err != nil {
			t.Error(err)
			return
		}
		block, err := a.store.Block(c)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(block)
	}
	liar := newNode(t, options{name: "liar", change: rpc(t, map[string]func(http.ResponseWriter, *http.Request){"block/get": text("other bytes")})})
	if err := liar.notFetched(t, want.CID, errs.Unavailable); strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in %v", err)
	}
	if got := liar.count(t, "aleph_ipfs_fetches_total", "kubo", "lied"); got != 1 {
		t.Errorf("%v lies are counted", got)
	}
	away := newNode(t, options{name: "away", change: func(c *swarm.Config) { c.KuboRPC = "http://user:secret@127.0.0.1:1" }})
	if err := away.notFetched(t, want.CID, errs.Unavailable); strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in %v", err)
	}
	n := newNode(t, options{name: "n", change: rpc(t, map[string]func(http.ResponseWriter, *http.Request){"block/get": honest})})
	n.fetched(t, want, a)
}

// TestAKuboThatFailsIsAskedAgain: a pass that failed at one content gave the others,
// and the next one gives it anew.
func TestAKuboThatFailsIsAskedAgain(t *testing.T) {
	var mu sync.Mutex
	failing, pinned := true, map[string]bool{}
	set := rpc(t, map[string]func(http.ResponseWriter, *http.Request){
		"pin/ls": text(""), "dag/import": func(_ http.ResponseWriter, r *http.Request) {
			if _, err := new(bytes.Buffer).ReadFrom(r.Body); err != nil {
				t.Error(err)
			}
		},
		"pin/add": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if failing {
				failing = false
				_, _ = fmt.Fprintln(w, `{"Message":"disk is full","Code":0,"Type":"error"}`)
				return
			}
			pinned[r.URL.Query().Get("arg")] = true
		},
	})
	n := newNode(t, options{name: "n", change: func(c *swarm.Config) { set(c); c.KuboPin = true }})
	a, b := n.add(t, []byte("a")), n.add(t, []byte("b"))
	pass := n.PinPass()
	if err := pass(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "disk is full") || len(pinned) != 1 {
		t.Errorf("got %v, and %v are pinned", err, pinned)
	}
	if err := pass(t.Context(), time.Now()); err != nil || !pinned[a.CID.String()] || !pinned[b.CID.String()] {
		t.Errorf("got %v, and %v are pinned", err, pinned)
	}
	clear(pinned)
	if err := pass(t.Context(), time.Now()); err != nil || len(pinned) > 0 {
		t.Errorf("got %v, and %v are pinned though nothing changed", err, pinned)
	}
}

// FuzzPins reads what a Kubo says it has pinned. It may not make this node unpin what
// has another name.
func FuzzPins(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"Cid":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG","Type":"recursive","Name":"n"}`,
		`{"Cid":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG","Name":"n2"}` + "\n" + `{"Message":"m","Type":"error"}`,
		`{"Cid":"x","Name":"n"}`, "[1]", `{"Cid":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		roots, err := swarm.ReadPins(bytes.NewReader(answer), "n")
		if err != nil && errs.KindOf(err) != errs.Unavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
		if len(roots) > 0 && !bytes.Contains(bytes.ToLower(answer), []byte(`"name"`)) && !bytes.Contains(answer, []byte("\\u")) {
			t.Fatalf("%v are pinned without a name", roots)
		}
	})
}
