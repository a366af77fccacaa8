package ccn_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestPostHasItsLatestContent(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	original := n.sendPost(k, "note", fields{"a": 1}, fields{"ref": "room"}, onChannel("ONE"))
	amend := n.sendPost(k, "amend", fields{"a": 2}, fields{"ref": string(original)}, onChannel("TWO"))
	n.confirm(amend, 9, n.at)
	m, err := n.db.MessagesByHash(t.Context(), []message.ItemHash{original, amend})
	if err != nil {
		t.Fatal(err)
	}
	if m[0].Envelope.ItemHash != original {
		slices.Reverse(m)
	}
	first, last := m[0].Envelope, m[1].Envelope

	want := fmt.Sprintf(`{"posts":[{"item_hash":%q,"content":{"a":2},"original_item_hash":%q,"original_type":"note","address":%q,"ref":"room","channel":"ONE",`+
		`"created":"2023-11-14T22:13:21.500000+00:00","last_updated":"2023-11-14T22:13:22.500000+00:00"}],`+
		`"pagination_item":"posts","pagination_page":1,"pagination_per_page":20,"pagination_total":1}`, amend, original, addressOf(k))
	same(t, "v1", n.ok("/api/v1/posts.json").body, want)
	text, err := json.Marshal(last.ItemContent)
	if err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf(`{"posts":[{"chain":"ETH","item_hash":%q,"sender":%q,"type":"amend","channel":"ONE","confirmed":true,"content":{"a":2},"item_content":%s,`+
		`"item_type":"inline","signature":%q,"size":%d,"time":1700000002.5,"confirmations":[{"chain":"ETH","hash":"0xtx","height":9}],"original_item_hash":%q,`+
		`"original_signature":%q,"original_type":"note","hash":%q,"address":%q,"ref":"room"}],`,
		amend, addressOf(k), text, last.Signature, len(last.ItemContent), original, first.Signature, original, addressOf(k))
	if got := n.ok("/api/v0/posts.json").body; !strings.HasPrefix(got, want) {
		t.Errorf("v0: got  %s\nwant %s", got, want)
	}
}

func TestListFiltersPosts(t *testing.T) {
	n := open(t)
	a, b := key(t, "a"), key(t, "b")
	one := n.sendPost(a, "note", fields{"tags": []string{"red"}}, nil, onChannel("ONE"))
	two := n.sendPost(a, "chat", fields{"tags": []string{"blue"}}, fields{"ref": "room"})
	three := n.sendPost(b, "note", fields{}, fields{"ref": "room"}, onChannel("TWO"))
	amend := n.sendPost(a, "amend", fields{"tags": []string{"green"}}, fields{"ref": string(one)})
	at := message.FormatTime(n.at)
	all := map[message.ItemHash]string{one: "one", two: "two", three: "three"}
	for query, want := range map[string]string{
		"": "one three two", "sortOrder=1": "two three one", "addresses=" + addressOf(a): "one two", "addresses=": "", "hashes=" + string(two): "two", "hashes=" + string(amend): "",
		"refs=room": "three two", "types=note": "one three", "types=amend": "", "post_types=chat,note": "one three two", "tags=green,blue": "one two", "tags=red": "",
		"channels=ONE,TWO": "one three", "startDate=" + at: "one", "end_date=" + at: "three two", "pagination=1&page=2": "three", "pagination=0": "one three two",
		"sortBy=tx-time": "one three two",
	} {
		for _, target := range []string{"/api/v0/posts.json?", "/api/v1/posts.json?"} {
			var got []string
			for _, hash := range n.ok(target+query).column("posts", "original_item_hash") {
				got = append(got, all[message.ItemHash(hash)])
			}
			same(t, target+query, strings.Join(got, " "), want)
		}
	}
	same(t, "page in the path", n.ok("/api/v1/posts/page/3.json?pagination=1").column("posts", "item_hash"), hashes(two))
	same(t, "page in the path", n.ok("/api/v0/posts/page/3.json?pagination=1").column("posts", "item_hash"), hashes(two))
	for query, want := range map[string]int{"page=0": 422, "cursor=bad-cursor!": 422, "cursor=dummy&pagination=0": 422, "cursor=x&sortBy=tx-time": 422, "cursor=&sortBy=tx-time": 422, "hashes=abc": 422} {
		same(t, query, n.get("/api/v1/posts.json?"+query).status, want)
	}
	same(t, "page x", n.get("/api/v1/posts/page/x.json").status, http.StatusBadRequest)
}

func TestCursorsOfPosts(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	var want []string
	for i := range 7 {
		want = append(want, string(n.sendPost(k, "note", fields{"i": i}, nil)))
	}
	for _, target := range []string{"/api/v0/posts.json?", "/api/v1/posts.json?"} {
		sizes, got := walk(n, target+"sortOrder=1&pagination=3", "posts", "original_item_hash")
		same(t, "sizes of pages", sizes, []int{3, 3, 1})
		same(t, "posts", got, want)
	}
}

func TestPostsAreCompressedForWhoReadsThat(t *testing.T) {
	n := open(t)
	n.sendPost(key(t, "a"), "note", fields{}, nil)
	plain := n.ok("/api/v1/posts.json").body
	for accepts, want := range map[string]string{"gzip": "gzip", "br;q=1, gzip;q=0.5": "gzip", "gzip;q=0": "", "identity": "", "": ""} {
		a := n.get("/api/v1/posts.json", "Accept-Encoding", accepts)
		if got := a.header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: Content-Encoding = %q, want %q", accepts, got, want)
		}
		body := a.body
		if want != "" {
			body = unzip(t, body)
		}
		same(t, "posts for "+accepts, body, plain)
	}
}
