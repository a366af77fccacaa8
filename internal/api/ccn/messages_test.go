package ccn_test

import (
	"compress/gzip"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const list = "/api/v0/messages.json?"

// library is a node with a message of many kinds, and their hashes, oldest first.
func library(t *testing.T) (n *node, all []message.ItemHash) {
	t.Helper()
	n = open(t)
	a, b := key(t, "a"), key(t, "b")
	file := n.files.put("a file")
	add := func(h message.ItemHash) { all = append(all, h) }
	add(n.sendPost(a, "note", fields{"tags": []string{"red", "blue"}}, nil, onChannel("ONE")))           // 0
	add(n.sendPost(a, "chat", fields{"body": "hello"}, fields{"ref": "room"}, onChannel("TWO")))         // 1
	add(n.sendPost(b, "note", fields{"tags": []string{"blue"}}, fields{"ref": "room"}))                  // 2
	add(n.send(a, message.TypeAggregate, fields{"key": "profile", "content": fields{"name": "A"}}))      // 3
	add(n.send(b, message.TypeAggregate, fields{"key": "other", "content": fields{"tags": []string{}}})) // 4
	add(n.send(a, message.TypeStore, fields{"item_type": "storage", "item_hash": file, "ref": "mine", "payment": fields{"chain": "ETH", "type": "hold"}}))
	return n, all
}

func pick(all []message.ItemHash, at ...int) []string {
	out := []string{}
	for _, i := range at {
		out = append(out, string(all[i]))
	}
	return out
}

func TestListFiltersMessages(t *testing.T) {
	n, all := library(t)
	a, b := addressOf(key(t, "a")), addressOf(key(t, "b"))
	file := message.HashOf([]byte("a file"))
	at := n.at.Add(-3 * time.Second) // Of message 2.
	tests := []struct {
		query string
		want  []int // Newest first.
	}{
		{"", []int{5, 4, 3, 2, 1, 0}},
		{"sortOrder=1", []int{0, 1, 2, 3, 4, 5}},
		{"sort_order=1", []int{0, 1, 2, 3, 4, 5}},
		{"msgType=POST", []int{2, 1, 0}},
		{"message_type=POST", []int{2, 1, 0}},
		{"msgTypes=POST,STORE", []int{5, 2, 1, 0}},
		{"message_types=STORE&msgType=STORE", []int{5}},
		{"msgTypes=STORE&msgType=POST", nil},
		{"addresses=" + a, []int{5, 3, 1, 0}},
		{"owners=" + b, []int{4, 2}},
		{"addresses=" + a + "," + b + "&msgTypes=AGGREGATE", []int{4, 3}},
		{"addresses=", nil},
		{"addresses=" + strings.ToLower(a), nil},
		{"addresses=" + a + "&addresses=" + b, []int{5, 3, 1, 0}},
		{"refs=room", []int{2, 1}},
		{"contentHashes=" + string(file), []int{5}},
		{"content_hashes=" + string(file), []int{5}},
		{"contentKeys=profile", []int{3}},
		{"content_keys=profile,other", []int{4, 3}},
		{"contentTypes=note", []int{2, 0}},
		{"content_types=chat,note", []int{2, 1, 0}},
		{"chains=ETH", []int{5, 4, 3, 2, 1, 0}},
		{"chains=SOL", nil},
		{"channels=ONE,TWO", []int{1, 0}},
		{"tags=red", []int{0}},
		{"tags=red,blue", []int{2, 0}},
		{"hashes=" + string(all[1]) + "," + string(all[4]), []int{4, 1}},
		{"paymentTypes=hold", []int{5}},
		{"payment_types=credit,superfluid", nil},
		{"startDate=" + message.FormatTime(at), []int{5, 4, 3, 2}},
		{"endDate=" + message.FormatTime(at), []int{1, 0}},
		{"start_date=" + message.FormatTime(at) + "&end_date=" + message.FormatTime(at.Add(2*time.Second)), []int{3, 2}},
		{"startDate=0&endDate=0", []int{5, 4, 3, 2, 1, 0}},
		{"msgStatuses=processed", []int{5, 4, 3, 2, 1, 0}},
		{"message_statuses=removing", nil},
		{"msgStatuses=pending", nil},
		{"unknown=1&pagination=2", []int{5, 4}},
		{"pagination=2&page=2", []int{3, 2}},
		{"pagination=2&page=4", nil},
		{"pagination=0", []int{5, 4, 3, 2, 1, 0}},
		{"pagination=10000000000", []int{5, 4, 3, 2, 1, 0}},
		{"pagination=10000000000&page=10000000000", nil},
	}
	for _, tt := range tests {
		same(t, tt.query, n.ok(list+tt.query).column("messages", "item_hash"), pick(all, tt.want...))
	}
}

func TestListRefusesQueriesThatAreWrong(t *testing.T) {
	n := open(t)
	for query, want := range map[string]struct {
		status int
		text   string
	}{
		"msgType=NOTE":                           {422, `[{"type":"enum","loc":["msgType"]`},
		"msgTypes=POST,NOTE":                     {422, `"loc":["msgTypes",1]`},
		"msgType=":                               {422, `"type":"enum"`},
		"chains=MOON":                            {422, `"loc":["chains",0]`},
		"hashes=abc":                             {422, `"loc":["hashes",0]`},
		"hashes=":                                {422, `"loc":["hashes",0]`},
		"contentHashes=abc":                      {422, `"loc":["contentHashes",0]`},
		"paymentTypes=gold":                      {422, `"loc":["paymentTypes",0]`},
		"msgStatuses=lost":                       {422, `"loc":["msgStatuses",0]`},
		"sortBy=size":                            {422, `"loc":["sortBy"]`},
		"sortOrder=2":                            {422, `"loc":["sortOrder"]`},
		"pagination=-1":                          {422, `"type":"greater_than_equal","loc":["pagination"]`},
		"pagination=ten":                         {422, `"type":"int_parsing"`},
		"pagination=99999999999999999999":        {422, `"loc":["pagination"]`},
		"page=0":                                 {422, `"loc":["page"]`},
		"startDate=-1":                           {422, `"loc":["startDate"]`},
		"startDate=NaN":                          {422, `"loc":["startDate"]`},
		"startDate=inf":                          {422, `"loc":["startDate"]`},
		"startDate=soon":                         {422, `"type":"float_parsing"`},
		"startDate=2&endDate=1":                  {422, `"loc":[],"msg":"Value error, end date cannot be lower than start date."`},
		"startBlock=2&endBlock=1":                {422, "end block cannot be lower than start block."},
		"startBlock=-1":                          {422, `"loc":["startBlock"]`},
		"excludeContent=perhaps":                 {422, `"type":"bool_parsing"`},
		"contentFormat=short":                    {422, `"loc":["contentFormat"]`},
		"cursor=not-a-valid-cursor!!!":           {422, "Invalid cursor: "},
		"cursor=e30":                             {422, "Invalid cursor: missing required fields"},
		"cursor=eyJoIjoiYSIsInQiOiJzb29uIn0":     {422, "Invalid cursor: Invalid isoformat string"},
		"cursor=W10":                             {422, "Invalid cursor: "},
		"cursor=&pagination=0":                   {422, "pagination=0 is not allowed with cursor-based pagination"},
		"cursor=x&sortBy=tx-time":                {422, "Cursor pagination is not supported with tx-time sort order."},
		"msgStatuses=forgotten,processed":        {400, "cannot be combined"},
		"msgStatuses=forgotten,removed":          {400, "cannot be combined"},
		"msgStatuses=forgotten&cursor=":          {400, "Cursor pagination is not supported for forgotten message queries"},
		"msgStatuses=removed&refs=a&tags=b":      {400, "Filters not supported for removed message queries: refs, tags"},
		"addresses=" + strings.Repeat(",", 2000): {422, `"type":"too_long"`},
	} {
		a := n.get(list + query)
		if a.status != want.status || !strings.Contains(a.body, want.text) {
			t.Errorf("%.60s: got %d %s, want %d with %s", query, a.status, a.body, want.status, want.text)
		}
		if kind := a.header.Get("Content-Type"); kind != "text/plain; charset=utf-8" {
			t.Errorf("%.60s: content type is %s", query, kind)
		}
	}
	for target, want := range map[string]int{"page/x.json": 400, "page/0.json": 422, "page/1": 404, "page/1.xml": 404, "page/1.json": 200} {
		if a := n.get("/api/v0/messages/" + target); a.status != want {
			t.Errorf("%s: got %d %s, want %d", target, a.status, a.body, want)
		}
	}
}

func TestListSaysWhichPageItIs(t *testing.T) {
	n, all := library(t)
	for target, want := range map[string]string{
		"messages.json":                              `],"pagination_item":"messages","pagination_page":1,"pagination_per_page":20,"pagination_total":6}`,
		"messages.json?pagination=2":                 `],"pagination_item":"messages","pagination_page":1,"pagination_per_page":2,"pagination_total":6}`,
		"messages.json?pagination=4&page=2":          `],"pagination_item":"messages","pagination_page":2,"pagination_per_page":4,"pagination_total":6}`,
		"messages.json?pagination=0":                 `],"pagination_item":"messages","pagination_page":1,"pagination_per_page":0,"pagination_total":6}`,
		"messages/page/2.json?pagination=2&page=1":   `],"pagination_item":"messages","pagination_page":2,"pagination_per_page":2,"pagination_total":6}`,
		"messages.json?pagination=4&page=3":          `],"pagination_item":"messages","pagination_page":3,"pagination_per_page":4,"pagination_total":8}`,
		"messages.json?msgType=STORE&cursor=":        `],"next_cursor":null,"pagination_per_page":20}`,
		"messages.json?cursor=&page=9&msgType=STORE": `"type":"STORE"}],"next_cursor":null,"pagination_per_page":20}`,
		"messages.json?cursor=&pagination=500":       `],"next_cursor":null,"pagination_per_page":200}`,
		"messages.json?msgStatuses=forgotten&page=7": `{"messages":[],"pagination_item":"messages","pagination_page":7,"pagination_per_page":20,"pagination_total":120}`,
	} {
		if a := n.ok("/api/v0/" + target); !strings.HasSuffix(a.body, want) {
			t.Errorf("%s: got %s, want it to end with %s", target, a.body, want)
		}
	}
	same(t, "page 2", n.ok("/api/v0/messages/page/2.json?pagination=2").column("messages", "item_hash"), pick(all, 3, 2))
}

func TestListedMessageHasTheKeysOfTheProtocolInOrder(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	hash := n.sendPost(k, "note", fields{"text": "<&>"}, nil, onChannel("ONE"))
	n.confirm(hash, 77, n.at)
	m, err := n.db.Message(t.Context(), hash)
	if err != nil {
		t.Fatal(err)
	}

	got := n.ok(list + "hashes=" + string(hash)).body

	text := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m.Envelope.ItemContent)
	want := fmt.Sprintf(`{"messages":[{"chain":"ETH","channel":"ONE","confirmations":[{"chain":"ETH","hash":"0xtx","height":77}],"confirmed":true,`+
		`"content":{"address":%q,"content":{"text":"<&>"},"time":1700000001.5,"type":"note"},"item_content":"%s","item_hash":%q,"item_type":"inline",`+
		`"sender":%q,"signature":%q,"size":%d,"time":1700000001.5,"type":"POST"}],`,
		addressOf(k), text, hash, addressOf(k), m.Envelope.Signature, len(m.Content))
	if !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestListShowsAsMuchOfContentsAsIsWanted(t *testing.T) {
	n, all := library(t)
	a := addressOf(key(t, "a"))
	file := string(message.HashOf([]byte("a file")))
	for query, want := range map[string]any{
		"contentFormat=headers&hashes=" + string(all[1]):                     fields{"address": a, "ref": "room", "type": "chat"},
		"content_format=headers&hashes=" + string(all[3]):                    fields{"address": a, "key": "profile"},
		"contentFormat=headers&excludeContent=true&hashes=" + string(all[5]): fields{"address": a, "item_hash": file, "ref": "mine"},
		"contentFormat=none&hashes=" + string(all[1]):                        nil,
		"excludeContent=true&hashes=" + string(all[1]):                       nil,
		"exclude_content=1&hashes=" + string(all[1]):                         nil,
	} {
		m := n.ok(list + query).field("messages").([]any)[0].(fields)
		if got, there := m["content"]; !reflect.DeepEqual(got, want) || there != (want != nil) {
			t.Errorf("%s: content = %v, want %v", query, got, want)
		}
		if m["item_content"] == nil {
			t.Errorf("%s: item_content is missing", query)
		}
	}
}

// walk follows cursors to the end of a list, and returns the sizes of pages and
// what is on them.
func walk(n *node, target, items, name string) (sizes []int, all []string) {
	n.t.Helper()
	for cursor := ""; ; {
		a := n.ok(target + "&cursor=" + url.QueryEscape(cursor))
		page := a.column(items, name)
		sizes, all = append(sizes, len(page)), append(all, page...)
		if a.field("pagination_total") != nil {
			n.t.Fatalf("answer in cursor mode has totals: %s", a.body)
		}
		next := a.field("next_cursor")
		if next == nil {
			return sizes, all
		}
		cursor = next.(string)
	}
}

func TestCursorsLoseNothingAndRepeatNothing(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	at := n.at
	var want []string
	for i := range 450 {
		want = append(want, string(n.sendPost(k, "note", fields{"i": i}, nil, func(e *message.Envelope) { e.Time = at })))
	}
	slices.Sort(want)
	for _, order := range []string{"1", "-1"} {
		sizes, got := walk(n, list+"pagination=1000&sortOrder="+order, "messages", "item_hash")

		same(t, "sizes of pages", sizes, []int{200, 200, 50})
		if !slices.Equal(got, want) {
			t.Errorf("order %s: cursors gave %d messages that are not the %d there are, in order", order, len(got), len(want))
		}
	}
}

func TestCursorsOfOtherNodesAreUnderstood(t *testing.T) {
	n := open(t)
	// That of the vectors: 2025-01-15T12:30:45.123456, abcdef1234567890.
	const cursor = "eyJoIjoiYWJjZGVmMTIzNDU2Nzg5MCIsInQiOiIyMDI1LTAxLTE1VDEyOjMwOjQ1LjEyMzQ1NiswMDowMCJ9"
	place := time.Date(2025, 1, 15, 12, 30, 45, 123456000, time.UTC)
	k := key(t, "a")
	var all []message.ItemHash
	for _, at := range []time.Time{place.Add(-time.Microsecond), place.Add(time.Microsecond)} {
		all = append(all, n.sendPost(k, "note", fields{"at": at}, nil, func(e *message.Envelope) { e.Time = at }))
	}

	same(t, "newest first", n.ok(list+"cursor="+cursor).column("messages", "item_hash"), pick(all, 0))
	same(t, "oldest first", n.ok(list+"sortOrder=1&cursor="+cursor).column("messages", "item_hash"), pick(all, 1))
}

func TestListInTheOrderOfConfirmations(t *testing.T) {
	n, all := library(t)
	at := time.Unix(1_800_000_000, 0)
	n.confirm(all[4], 100, at)
	n.confirm(all[0], 200, at.Add(time.Minute))
	n.confirm(all[2], 300, at.Add(2*time.Minute))
	for query, want := range map[string][]int{
		"sortBy=tx-time":                     {5, 3, 1, 2, 0, 4},
		"sort_by=tx-time&sort_order=1":       {4, 0, 2, 1, 3, 5},
		"sortBy=tx-time&pagination=2&page=2": {1, 2},
		"startBlock=200":                     {5, 3, 1, 2, 0},
		"endBlock=300":                       {0, 4},
		"start_block=200&end_block=300":      {0},
		"startBlock=200&msgType=POST":        {1, 2, 0},
		"sortBy=tx-time&hashes=" + string(all[0]) + "," + string(all[5]):                       {5, 0},
		"sortBy=tx-time&sortOrder=1&startDate=" + message.FormatTime(n.at.Add(-2*time.Second)): {4, 3, 5},
	} {
		same(t, query, n.ok(list+query).column("messages", "item_hash"), pick(all, want...))
	}
}

func TestListOfForgottenMessages(t *testing.T) {
	n, all := library(t)
	a := key(t, "a")
	forget := n.send(a, message.TypeForget, fields{"hashes": []message.ItemHash{all[0]}})
	forgottenAt := n.at
	m := n.ok(list + "msgStatuses=forgotten").field("messages").([]any)
	if len(m) != 1 {
		t.Fatalf("%d messages, want 1", len(m))
	}
	got := m[0].(fields)
	same(t, "keys", keysOf(got), []string{
		"chain", "channel", "forgotten_at", "forgotten_by", "item_hash", "item_type", "owner", "payment_type", "sender", "signature", "size", "status", "time", "type",
	})
	same(t, "item_hash", got["item_hash"], any(string(all[0])))
	same(t, "status", got["status"], any("forgotten"))
	same(t, "forgotten_by", got["forgotten_by"], any([]any{string(forget)}))
	same(t, "forgotten_at", got["forgotten_at"], any(json.Number(message.FormatTime(forgottenAt))))
	for query, want := range map[string]int{
		"msgType=POST": 1, "msgType=STORE": 0, "addresses=" + addressOf(a): 1, "owners=0xX": 0, "channels=ONE": 1, "chains=ETH": 1, "paymentTypes=hold": 1, "paymentTypes=credit": 0,
		"hashes=" + string(all[0]): 1, "hashes=" + string(all[1]): 0, "startDate=" + message.FormatTime(forgottenAt): 1, "endDate=" + message.FormatTime(forgottenAt): 0,
		"pagination=0": 1, "pagination=1&page=2": 0,
	} {
		if got := len(n.ok(list+"message_statuses=forgotten&"+query).column("messages", "item_hash")); got != want {
			t.Errorf("%s: %d messages, want %d", query, got, want)
		}
	}
	same(t, "list of those that count", n.ok(list+"msgType=POST").column("messages", "item_hash"), pick(all, 2, 1))
}

func TestUnfilteredListsLeaveOutVPrograms(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	post := n.sendPost(k, "note", fields{}, nil)
	v := n.putVProgram(k)
	for query, want := range map[string][]string{
		"": hashes(post), "addresses=" + addressOf(k): hashes(post), "msgType=V-PROGRAM": hashes(v), "msgTypes=V-PROGRAM,POST": hashes(v, post),
		"hashes=" + string(v): hashes(v),
	} {
		a := n.ok(list + query)
		same(t, query, a.column("messages", "item_hash"), want)
		same(t, query+" total", a.field("pagination_total"), any(json.Number(fmt.Sprint(len(want)))))
	}
}

// putVProgram enters a V-PROGRAM message as a node has it that took one in.
func (n *node) putVProgram(k *ecdsa.PrivateKey) message.ItemHash {
	n.t.Helper()
	content := vProgram(n.t)
	n.at = n.at.Add(time.Second)
	e := message.Envelope{
		Sender: addressOf(k), Chain: message.Ethereum, Type: message.TypeVProgram, Time: n.at, ItemType: message.Inline, ItemContent: content,
		ItemHash: message.HashOf([]byte(content)), Signature: "0x",
	}
	m := &state.Message{Envelope: e, Content: []byte(content), Owner: e.Sender, MadeAt: n.at, Status: state.MessageProcessed, ReceivedAt: n.at}
	ctx := n.t.Context()
	if err := n.db.Update(ctx, func(tx *state.Tx) error { return tx.AddMessages(ctx, []*state.Message{m}) }); err != nil {
		n.t.Fatal(err)
	}
	return e.ItemHash
}

// vProgram is a content of the type, of the vectors.
func vProgram(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("../../../protocol/testdata/vectors/contents.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Type    message.Type `json:"type"`
			Content string       `json:"content"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Cases {
		if c.Type == message.TypeVProgram {
			return c.Content
		}
	}
	t.Fatal("the vectors have no V-PROGRAM")
	return ""
}

func TestLongListsAreWrittenWhole(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	const each, count = 100_000, 30 // Beyond what is held until the end.
	var want []string
	for i := range count {
		want = append(want, string(n.sendPost(k, "note", fields{"i": i, "text": strings.Repeat("x", each)}, nil)))
	}
	slices.Reverse(want)
	for _, pagination := range []string{"0", "10000000000", "30"} {
		a := n.ok(list + "pagination=" + pagination)
		same(t, "messages of pagination="+pagination, a.column("messages", "item_hash"), want)
		if len(a.body) < each*count || a.header.Get("Content-Length") != "" {
			t.Errorf("answer has %d bytes and Content-Length %q, want a long one without", len(a.body), a.header.Get("Content-Length"))
		}
	}
	a := n.get("/api/v0/posts.json?pagination=0", "Accept-Encoding", "br, gzip")
	if a.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("long list of posts has encoding %q, want gzip", a.header.Get("Content-Encoding"))
	}
	a.body = unzip(t, a.body)
	same(t, "posts", a.column("posts", "item_hash"), want)
}

// slow is a client that does not read.
type slow struct {
	http.ResponseWriter
	began, read chan struct{}
}

func (s slow) Write(p []byte) (int, error) {
	s.began <- struct{}{}
	<-s.read
	return s.ResponseWriter.Write(p)
}

// crowded is a node of which slow clients read as many long lists as they may, until
// done is called.
func crowded(t *testing.T) (n *node, done func()) {
	t.Helper()
	n = open(t)
	for i := range 12 {
		n.sendPost(key(t, "a"), "note", fields{"i": i, "text": strings.Repeat("x", 100_000)}, nil)
	}
	client := slow{began: make(chan struct{}, 100), read: make(chan struct{})}
	var wg sync.WaitGroup
	for range ccn.LongMax {
		wg.Go(func() {
			w := client
			w.ResponseWriter = httptest.NewRecorder()
			n.srv.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v0/messages.json", nil))
		})
	}
	for range ccn.LongMax {
		<-client.began
	}
	return n, func() { close(client.read); wg.Wait() }
}

func TestLongListsOfSlowClientsAreBounded(t *testing.T) {
	n, done := crowded(t)
	n.srv.WaitForLong(time.Millisecond)

	same(t, "another long list", n.get(list).status, http.StatusServiceUnavailable)
	for path, operations := range openAPI(n).Paths {
		for _, p := range operations["get"].Parameters {
			if p.Name == "cursor" && operations["get"].Responses["503"] == nil {
				t.Errorf("%s: 503 of a long list is not documented", path)
			}
		}
	}
	same(t, "a short list", n.get(list+"pagination=1").status, http.StatusOK)
	done()
	same(t, "a long list afterwards", n.get(list).status, http.StatusOK)
}

func TestALongListWaitsForItsTurn(t *testing.T) {
	n, done := crowded(t)
	const waiting = 20 // More than there are readers of the database.
	answers := make(chan answer, waiting)
	for range waiting {
		go func() { answers <- n.get(list) }()
	}

	same(t, "a short list meanwhile", n.get(list+"pagination=1").status, http.StatusOK)
	select {
	case a := <-answers:
		t.Fatalf("a long list was answered %d %s, want it to wait", a.status, a.body)
	case <-time.After(100 * time.Millisecond):
	}
	done()

	for range waiting {
		if a := <-answers; a.status != http.StatusOK || len(a.column("messages", "item_hash")) != 12 {
			t.Errorf("a long list that has waited: %d, %d bytes; want all of it", a.status, len(a.body))
		}
	}
}

func unzip(t *testing.T, body string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func FuzzQuery(f *testing.F) {
	n := open(f)
	k := key(f, "a")
	hash := n.sendPost(k, "note", fields{"tags": []string{"red"}}, nil, onChannel("ONE"))
	n.send(k, message.TypeAggregate, fields{"key": "security", "content": fields{"authorizations": []fields{{"address": "0xB", "types": []string{"POST"}}}}})
	n.confirm(hash, 10, n.at)
	for _, seed := range []string{
		"", "cursor=", "pagination=0&page=9", "startBlock=1&endBlock=20&sortBy=tx-time", "msgStatuses=forgotten", "hashes=" + string(hash), "addresses=%00&keys=%ff",
		"cursor=eyJoIjoiYWJjZGVmMTIzNDU2Nzg5MCIsInQiOiIyMDI1LTAxLTE1VDEyOjMwOjQ1LjEyMzQ1NiswMDowMCJ9", "cursor=eyJhIjoiYSIsInYiOjFlMzB9", "startDate=1e300&page=1e9",
		"cursor=eyJrIjoiayIsIm8iOiJvIiwidCI6IjAwMDEtMDEtMDFUMDA6MDA6MDAifQ", "sortOrder=1&cursor=eyJoIjoiYSIsInQiOiIwMDAxLTAxLTAxVDAwOjAwOjAwIn0", "a;b=%zz",
		"pagination=9007199254740992&page=9007199254740992", "file_hash=x&addressContains=%25_&grantee=0xB&with_info=1&value_only=1&keys=security",
	} {
		f.Add(seed)
	}
	targets := []string{
		"/api/v0/messages.json", "/api/v0/messages/hashes", "/api/v0/posts.json", "/api/v1/posts.json", "/api/v0/aggregates.json", "/api/v0/aggregates/" + addressOf(k) + ".json",
		"/api/v0/authorizations/granted/" + addressOf(k) + ".json", "/api/v0/authorizations/received/0xB.json", "/api/v1/addresses/stats.json", "/api/v0/addresses/stats.json",
		"/api/v0/addresses/" + addressOf(k) + "/files",
	}
	f.Fuzz(func(t *testing.T, query string) {
		n.t = t
		for _, target := range targets {
			a := n.get(target + "?" + query)
			if a.status >= 500 {
				t.Errorf("%s: %d %s", target, a.status, a.body)
			}
			if a.status == http.StatusOK && !json.Valid([]byte(a.body)) {
				t.Errorf("%s: answer is no JSON: %s", target, a.body)
			}
		}
	})
}
