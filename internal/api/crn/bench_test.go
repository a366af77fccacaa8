package crn_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// BenchmarkFunction is what the door adds to a call, over a connection that is
// kept: the function answers at once.
func BenchmarkFunction(b *testing.B) {
	w := newWorld(b)
	w.call = func(message.ItemHash, *http.Request) (*http.Response, error) {
		return answerOf(200, strings.Repeat("x", 1000)), nil
	}
	url := live(b, w).URL() + "/vm/" + string(deca) + "/path?query=1"
	for b.Loop() {
		answer, err := http.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			b.Fatal(err)
		}
		answer.Body.Close()
	}
}

// BenchmarkOwner is what it costs to know an owner: two signatures.
func BenchmarkOwner(b *testing.B) {
	w, owner := newWorld(b), newWallet(b)
	w.here[deca] = instance(owner.address)
	r := owner.sign(b, request("GET", machine+"/backup", ""))
	for b.Loop() {
		if rec := w.do(r); rec.Code != 202 {
			b.Fatal(rec.Code, rec.Body)
		}
	}
}
