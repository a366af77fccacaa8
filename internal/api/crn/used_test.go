package crn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// used is what a node keeps of signed requests over restarts.
type used struct {
	mu       sync.Mutex
	requests map[string]bool
	lists    map[string]int64
	fail     error
}

func newUsed() *used { return &used{requests: map[string]bool{}, lists: map[string]int64{}} }

func (u *used) Use(_ context.Context, request string, _, _ time.Time) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	good := !u.requests[request] && u.fail == nil
	u.requests[request] = u.requests[request] || good
	return good, u.fail
}

func (u *used) List(_ context.Context, signer string, issuedAt int64) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lists[signer] > issuedAt {
		return false, u.fail
	}
	u.lists[signer] = issuedAt
	return true, u.fail
}

// bySignature is a request of a scheduler that has a key.
func bySignature(t *testing.T, key *ecdsa.PrivateKey, path, body string, at time.Time) *http.Request {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	payload := []byte(fmt.Sprintf(`{"body_sha256":%q,"iat":%d,"method":"POST","path":%q}`, hex.EncodeToString(sum[:]), at.Unix(), path))
	sig, err := message.SignText(key, payload)
	if err != nil {
		t.Fatal(err)
	}
	r := request("POST", path, body)
	r.Header.Set("Authorization", "Aleph-EIP191-V1 sig="+sig+",payload=0x"+hex.EncodeToString(payload))
	return r
}

// TestARestartMakesNoRequestGoodAgain: what was captured is worth nothing to the next
// process either.
func TestARestartMakesNoRequestGoodAgain(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	kept, owner := newUsed(), newWallet(t)
	process := func() *world {
		w := newWorld(t, func(me *crn.Self, parts *crn.Parts) {
			me.AllocationSigners, parts.Used = []string{crypto.PubkeyToAddress(key.PublicKey).Hex()}, kept
		})
		w.here[deca] = instance(owner.address)
		return w
	}
	const lists, empty = "/control/allocations", `{"instances":[]}`
	list := func() *http.Request { return bySignature(t, key, lists, empty, clock()) }
	stop := owner.sign(t, request("POST", machine+"/stop", ""))
	w := process()
	if rec := w.do(list()); rec.Code != 200 {
		t.Fatalf("list: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(stop.Clone(t.Context())); rec.Code != 200 {
		t.Fatalf("stop: %d %s", rec.Code, rec.Body)
	}
	w.asked()
	for name, w := range map[string]*world{"the same process": w, "the next one": process()} {
		if rec := w.do(list()); rec.Code != 401 {
			t.Errorf("%s took a list again: %d %s", name, rec.Code, rec.Body)
		}
		if rec := w.do(stop.Clone(t.Context())); rec.Code != 401 {
			t.Errorf("%s took an order again: %d %s", name, rec.Code, rec.Body)
		}
		if did := w.asked(); did != "" {
			t.Errorf("%s was asked to %q", name, did)
		}
	}
	// What cannot be noted is not done.
	kept.fail = errors.New("disk is full")
	w = process()
	if rec := w.do(bySignature(t, key, lists, empty, clock().Add(time.Second))); rec.Code != 503 || strings.Contains(rec.Body.String(), "disk") {
		t.Errorf("a list that could not be noted: %d %s", rec.Code, rec.Body)
	}
}

// TestNoOlderListOvertakesANewerOne, of the same scheduler; one with a token says no time.
func TestNoOlderListOvertakesANewerOne(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, withToken, func(me *crn.Self, _ *crn.Parts) {
		me.AllocationSigners = []string{crypto.PubkeyToAddress(key.PublicKey).Hex()}
	})
	const path = "/control/allocations"
	for _, tt := range []struct {
		name  string
		after time.Duration
		body  string
		want  int
	}{
		{"the first", 0, `{"instances":[]}`, 200},
		{"another of that second", 0, `{"instances":["` + string(deca) + `"]}`, 200},
		{"a newer one", 2 * time.Second, `{"instances":[]}`, 200},
		{"one that was held up", time.Second, `{"instances":["` + string(deca) + `"]}`, 401},
		{"the next", 3 * time.Second, `{"instances":["` + string(deca) + `"]}`, 200},
	} {
		if rec := w.do(bySignature(t, key, path, tt.body, clock().Add(tt.after))); rec.Code != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, rec.Code, rec.Body, tt.want)
		}
	}
	for range 2 {
		if rec := w.do(byToken("POST", path, `{"instances":[]}`)); rec.Code != 200 {
			t.Errorf("by token: %d %s", rec.Code, rec.Body)
		}
	}
	// Other orders have no order among them.
	if rec := w.do(bySignature(t, key, "/control/network/recreate", "", clock().Add(-time.Minute))); rec.Code != 207 {
		t.Errorf("another order: %d %s", rec.Code, rec.Body)
	}
}
