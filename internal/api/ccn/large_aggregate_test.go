package ccn_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestLargeAggregatesAreAsTheyAreNow: they are made once for each change, whatever
// changed, and are the same compressed.
func TestLargeAggregatesAreAsTheyAreNow(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	path := "/api/v0/aggregates/" + addressOf(k) + ".json?keys=corechannel"
	set := func(at int64, content fields) message.ItemHash {
		return n.send(k, message.TypeAggregate, fields{"key": "corechannel", "content": content, "time": at})
	}
	long := strings.Repeat("x", 100_000)
	want := func(when, content string) {
		t.Helper()
		full := fmt.Sprintf(`{"address":%q,"data":{"corechannel":%s},"info":{}}`, addressOf(k), content)
		for range 2 { // As it is made, and as it is kept.
			a := n.get(path)
			if a.body != full || a.status != 200 || a.header.Get("Content-Encoding") != "" {
				t.Fatalf("%s: %d %.200s with %v, want %.200s", when, a.status, a.body, a.header, full)
			}
			a = n.get(path, "Accept-Encoding", "deflate, gzip")
			zip, err := gzip.NewReader(strings.NewReader(a.body))
			if err != nil || a.header.Get("Content-Encoding") != "gzip" || a.header.Get("Vary") == "" {
				t.Fatalf("%s, compressed: %v, %v", when, a.header, err)
			}
			if plain, err := io.ReadAll(zip); err != nil || string(plain) != full {
				t.Fatalf("%s, compressed: %.200s, %v, want %.200s", when, plain, err, full)
			}
		}
	}
	set(1_700_000_100, fields{"a": long})
	want("at first", `{"a":"`+long+`"}`)
	last := set(1_700_000_300, fields{"a": long + "y"})
	want("after a change", `{"a":"`+long+`y"}`)
	middle := set(1_700_000_200, fields{"b": 1})
	want("after one that was late", `{"a":"`+long+`y","b":1}`)
	n.send(k, message.TypeForget, fields{"hashes": []message.ItemHash{middle}})
	want("after it was forgotten", `{"a":"`+long+`y"}`)
	n.send(k, message.TypeForget, fields{"hashes": []message.ItemHash{last}})
	want("after the last was forgotten", `{"a":"`+long+`"}`)
	own := func(at int64, content string) {
		err := n.db.Update(t.Context(), func(tx *state.Tx) error {
			return tx.PutOwnAggregate(t.Context(), state.Aggregate{Owner: addressOf(k), Key: "corechannel", Content: []byte(content), Created: time.Unix(at, 0), Updated: time.Unix(at, 0)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	own(1_700_000_400, `{"own":"`+long+`"}`)
	want("with one that this node makes", `{"own":"`+long+`"}`)
	own(1_700_000_401, `{"own":"`+long+`z"}`)
	want("after it changed", `{"own":"`+long+`z"}`)
	if err := n.db.Update(t.Context(), func(tx *state.Tx) error { return tx.DropOwnAggregate(t.Context(), addressOf(k), "corechannel") }); err != nil {
		t.Fatal(err)
	}
	want("after it went", `{"a":"`+long+`"}`)
}

func TestOwnAggregatesAreServedAsIfPublished(t *testing.T) {
	n := open(t)
	err := n.db.Update(t.Context(), func(tx *state.Tx) error {
		return tx.PutOwnAggregate(t.Context(), state.Aggregate{Owner: "0xA", Key: "corechannel", Content: []byte(`{"nodes":[]}`), Created: time.Unix(1, 0), Updated: time.Unix(2, 0)})
	})
	if err != nil {
		t.Fatal(err)
	}
	const path = "/api/v0/aggregates/0xA.json"
	for _, query := range []string{"", "?keys=corechannel", "?keys=corechannel&limit=50", "?keys=corechannel,x"} {
		same(t, query, n.ok(path+query).body, `{"address":"0xA","data":{"corechannel":{"nodes":[]}},"info":{}}`)
	}
	same(t, "value only", n.ok(path+"?keys=corechannel&value_only=1").body, `{"nodes":[]}`)
	same(t, "info", n.ok(path+"?with_info=1").field("info.corechannel.last_updated"), any("1970-01-01T00:00:02+00:00"))
	same(t, "another key", n.get(path+"?keys=x").status, 404)
}
