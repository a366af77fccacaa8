package ccn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// soon bounds what must happen in a test.
const soon = 20 * time.Second

// hall is a node that can be listened to.
type hall struct {
	*node
	url  string
	stop func() // Ends Run, and waits for it.
}

func openHall(t testing.TB) *hall {
	t.Helper()
	return serveHall(t, open(t))
}

func serveHall(t testing.TB, n *node) *hall {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.srv.Run(ctx)
	}()
	web := httptest.NewServer(n.srv.Handler())
	h := &hall{node: n, url: web.URL, stop: func() { cancel(); <-done }}
	t.Cleanup(func() { h.stop(); web.Close() })
	h.until("the hall is open", func() bool {
		l := h.listen("/api/ws0/status", nil)
		defer l.conn.CloseNow()
		_, err := l.next()
		return err == nil
	})
	h.active(0, 0)
	return h
}

// until waits for something to be so.
func (h *hall) until(what string, so func() bool) {
	h.t.Helper()
	for end := time.Now().Add(soon); !so(); runtime.Gosched() {
		if time.Now().After(end) {
			h.t.Fatalf("after %v it is not so that %s", soon, what)
		}
	}
}

// active waits until so many listen.
func (h *hall) active(messages, status int64) {
	h.t.Helper()
	h.until(fmt.Sprintf("%d and %d listen", messages, status), func() bool {
		c := h.srv.Counters()
		return c.MessagesActive == messages && c.StatusActive == status
	})
}

// listener is a client that listens.
type listener struct {
	t    testing.TB
	conn *websocket.Conn
}

func (h *hall) listen(path string, o *websocket.DialOptions) *listener {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), soon)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, h.url+path, o) //nolint:bodyclose // Of an upgrade there is none to close.
	if err != nil {
		h.t.Fatalf("listen to %s: %v (%v)", path, err, resp)
	}
	conn.SetReadLimit(-1)
	h.t.Cleanup(func() { conn.CloseNow() })
	return &listener{h.t, conn}
}

func (l *listener) next() (string, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), soon)
	defer cancel()
	_, raw, err := l.conn.Read(ctx)
	return string(raw), err
}

// message is the next message that the client hears.
func (l *listener) message() answer {
	l.t.Helper()
	raw, err := l.next()
	if err != nil {
		l.t.Fatalf("no message: %v", err)
	}
	return answer{t: l.t, body: raw}
}

func (l *listener) hash() string {
	l.t.Helper()
	hash, _ := l.message().field("item_hash").(string)
	return hash
}

// closed is the code and the reason with which a client is let go.
func (l *listener) closed() (websocket.StatusCode, string) {
	l.t.Helper()
	for {
		_, err := l.next()
		if err == nil {
			continue
		}
		var c websocket.CloseError
		if !errors.As(err, &c) {
			return -1, err.Error()
		}
		return c.Code, c.Reason
	}
}

// add lets messages be processed that nobody has signed, n of them in one commit.
func (h *hall) add(n, size int, change ...func(*state.Message)) (out []string) {
	h.t.Helper()
	all := make([]*state.Message, n)
	for i := range all {
		h.at = h.at.Add(time.Millisecond)
		raw := fmt.Appendf(nil, `{"address":"0xA","time":%s,"type":"note","content":{"n":%d,"pad":%q}}`, message.FormatTime(h.at), h.at.UnixMilli(), strings.Repeat("x", size))
		e := &message.Envelope{
			Chain: message.Ethereum, Type: message.TypePost, Time: h.at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
			Sender: "0xA", Signature: "0xsigned",
		}
		c, err := message.ParseContent(e, raw)
		if err != nil {
			h.t.Fatal(err)
		}
		all[i] = state.NewMessage(e, raw, c, h.at)
		for _, fn := range change {
			fn(all[i])
		}
		out = append(out, string(e.ItemHash))
	}
	ctx := h.t.Context()
	if err := h.db.Update(ctx, func(tx *state.Tx) error { return tx.AddMessages(ctx, all) }); err != nil {
		h.t.Fatal(err)
	}
	return out
}

func TestWhoListensGetsTheNewestFirstAndThenWhatIsNew(t *testing.T) {
	h := openHall(t)
	k := key(t, "owner")
	var sent []message.ItemHash
	for i := range 5 {
		sent = append(sent, h.sendPost(k, "note", fields{"n": i}, nil))
	}
	l := h.listen("/api/ws0/messages?history=3", nil)
	list := h.ok("/api/v0/messages.json?pagination=3").field("messages").([]any)
	slices.Reverse(list)
	for i, want := range list {
		same(t, fmt.Sprintf("message %d of the history", i), l.message().value(), want)
	}
	hash := h.sendPost(k, "note", fields{"n": 5}, nil)

	live := l.message()

	same(t, "the new message", live.value(), h.ok("/api/v0/messages/"+string(hash)).field("message"))
	same(t, "newest of the history", list[2].(map[string]any)["item_hash"].(string), string(sent[4]))
}

func TestTheHistoryHasTenUnlessTheQuerySaysMore(t *testing.T) {
	h := openHall(t)
	sent := h.add(250, 0)
	for query, want := range map[string]int{"": 10, "?history=0": 0, "?history=199": 199} {
		l := h.listen("/api/ws0/messages"+query, nil)
		for i, hash := range sent[len(sent)-want:] {
			if got := l.hash(); got != hash {
				t.Fatalf("%q: message %d is %s, want %s", query, i, got, hash)
			}
		}
		sent = append(sent, h.add(1, 0)...)
		same(t, query+": first after the history", l.hash(), sent[len(sent)-1])
	}
}

func TestHundredClientsGetEachOfThousandMessagesOnceAndInOrder(t *testing.T) {
	h := openHall(t)
	const clients, messages = 100, 1000
	ready, heard := make(chan *listener, clients), make(chan []string, clients)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			l := h.listen("/api/ws0/messages", nil)
			ready <- l
			var got []string
			for range messages {
				raw, err := l.next()
				if err != nil {
					t.Errorf("after %d messages: %v", len(got), err)
					break
				}
				got = append(got, hashIn(raw))
			}
			heard <- got
		})
	}
	for range clients {
		<-ready
	}
	h.active(clients, 0)
	var sent []string
	for i := 0; len(sent) < messages; i++ {
		sent = append(sent, h.add(min(1+i%70, messages-len(sent)), 300)...)
	}
	all.Wait()
	for i := range clients {
		if got := <-heard; !slices.Equal(got, sent) {
			t.Errorf("client %d got %d messages, want the %d in their order", i, len(got), len(sent))
		}
	}
	same(t, "messages told", h.srv.Counters().MessagesSent, int64(messages))
}

// hashIn is the item hash of a message, found without reading all of it.
func hashIn(raw string) string {
	_, rest, _ := strings.Cut(raw, `"item_hash":"`)
	hash, _, _ := strings.Cut(rest, `"`)
	return hash
}

// TestNothingIsLostOrDoubledBetweenHistoryAndLive lets clients come while messages
// do: each must have every message from its first one on, once.
func TestNothingIsLostOrDoubledBetweenHistoryAndLive(t *testing.T) {
	h := openHall(t)
	const messages = 150 // All fit into a history.
	var all sync.WaitGroup
	heard := make(chan []string, messages)
	sent := h.add(1, 0)
	for i := 1; i < messages; i++ {
		if i%5 == 0 {
			all.Go(func() {
				l := h.listen("/api/ws0/messages?history=199", nil)
				var got []string
				for len(got) < messages {
					raw, err := l.next()
					if err != nil {
						t.Errorf("after %d messages: %v", len(got), err)
						break
					}
					got = append(got, hashIn(raw))
				}
				heard <- got
			})
		}
		sent = append(sent, h.add(1, 0)...)
	}
	all.Wait()
	close(heard)
	n := 0
	for got := range heard {
		if n++; !slices.Equal(got, sent) {
			t.Errorf("a client got %d messages, %d of them different ones; want %d", len(got), len(slices.Compact(slices.Sorted(slices.Values(got)))), len(sent))
		}
	}
	same(t, "clients", n, messages/5-1)
}

func TestEveryFilterHoldsLive(t *testing.T) {
	h := openHall(t)
	a, b := key(t, "a"), key(t, "b")
	first := h.sendPost(a, "note", fields{}, nil)
	type event struct {
		by      string
		typ     message.Type
		content fields
		channel string
	}
	plain := event{"b", message.TypePost, fields{"type": "other", "content": fields{}}, "OTHER"}
	post := func(kind string, more fields) event {
		c := fields{"type": kind, "content": fields{}}
		for k, v := range more {
			c[k] = v
		}
		return event{"a", message.TypePost, c, "NOTES"}
	}
	at := strconv.FormatInt(h.at.Unix(), 10)
	early := strconv.FormatInt(h.at.Unix()-100, 10)
	tests := []struct {
		query string
		want  event
		not   event
	}{
		{"msgType=AGGREGATE", event{"a", message.TypeAggregate, fields{"key": "k", "content": fields{}}, "X"}, plain},
		{"msgTypes=AGGREGATE,STORE", event{"a", message.TypeAggregate, fields{"key": "k", "content": fields{}}, "X"}, plain},
		{"addresses=" + addressOf(a), post("note", nil), plain},
		{"owners=" + addressOf(a), post("note", nil), plain},
		{"refs=" + string(first), post("note", fields{"ref": first}), plain},
		{"contentKeys=k", event{"a", message.TypeAggregate, fields{"key": "k", "content": fields{}}, "X"}, event{"a", message.TypeAggregate, fields{"key": "l", "content": fields{}}, "X"}},
		{"contentTypes=note", post("note", nil), plain},
		{"channels=NOTES", post("note", nil), plain},
		{"tags=red", event{"a", message.TypePost, fields{"type": "note", "content": fields{"tags": []string{"blue", "red"}}}, "X"}, plain},
		{"startDate=" + at, post("note", nil), event{"a", message.TypePost, fields{"type": "note", "content": fields{}, "time": nil}, "early"}},
		{"endDate=" + early, event{"a", message.TypePost, fields{"type": "note", "content": fields{}}, "early"}, plain},
		{"startBlock=5", post("note", nil), event{}},
		{"chains=ETH", post("note", nil), event{}},
		{"msgStatuses=processed", post("note", nil), event{}},
	}
	send := func(e event) message.ItemHash {
		signer := a
		if e.by == "b" {
			signer = b
		}
		c := fields{}
		for k, v := range e.content {
			c[k] = v
		}
		return h.send(signer, e.typ, c, onChannel(e.channel), func(m *message.Envelope) {
			if e.channel == "early" {
				m.Time = m.Time.Add(-time.Hour)
			}
		})
	}
	for _, tt := range tests {
		l := h.listen("/api/ws0/messages?history=0&"+tt.query, nil)
		h.active(1, 0)
		h.settle()
		if tt.not.typ != "" {
			send(tt.not)
		}
		want := send(tt.want)
		if got := l.hash(); got != string(want) {
			t.Errorf("%s: got %s, want %s", tt.query, got, want)
		}
		l.conn.CloseNow()
		h.active(0, 0)
	}
	for _, query := range []string{"chains=SOL", "endBlock=5", "msgStatuses=rejected", "paymentTypes=credit", "hashes=" + string(first), "contentHashes=" + string(first), "tags=", "addresses="} {
		never := h.listen("/api/ws0/messages?history=0&"+query, nil)
		all := h.listen("/api/ws0/messages?history=0", nil)
		h.active(2, 0)
		h.settle()
		send(plain)
		all.hash()
		h.stayed(query, never)
		all.conn.CloseNow()
		never.conn.CloseNow()
		h.active(0, 0)
	}
}

// settle waits until what comes next is live for all who listen.
func (h *hall) settle() {
	h.t.Helper()
	h.until("nobody looks for a history", h.srv.Settled)
}

// stayed reports a client that has heard something.
func (h *hall) stayed(what string, l *listener) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, raw, err := l.conn.Read(ctx); err == nil {
		h.t.Errorf("%s: got %s, want nothing", what, raw)
	}
}

func TestVerifiableProgramsAreToldToThoseWhoAskForThem(t *testing.T) {
	h := openHall(t)
	h.add(1, 0)
	asked, all := h.listen("/api/ws0/messages?history=0&msgTypes=V-PROGRAM", nil), h.listen("/api/ws0/messages?history=0", nil)
	h.active(2, 0)
	h.settle()
	verifiable := h.putVProgram(key(t, "a"))
	post := h.add(1, 0)

	same(t, "who listens to all", all.hash(), post[0])
	same(t, "who asks for V-PROGRAM", asked.hash(), string(verifiable))
}

func TestContentFormatLeavesContentsOutLive(t *testing.T) {
	h := openHall(t)
	for _, format := range []string{"full", "headers", "none"} {
		h.add(1, 5)
		l := h.listen("/api/ws0/messages?history=1&contentFormat="+format, nil)
		old := l.message()
		h.add(1, 5)
		live := l.message()
		if got, want := live.field("content") != nil, format == "full"; got != want {
			t.Errorf("%s: content told live is %v, want %v", format, got, want)
		}
		if live.field("item_content") == nil {
			t.Errorf("%s: no item_content in %s", format, live.body)
		}
		if got, want := old.field("content") != nil, format == "full"; got != want {
			t.Errorf("%s: content in the history is %v, want %v", format, got, want)
		}
	}
}

func TestMessagesFromAChainAreNotToldLive(t *testing.T) {
	h := openHall(t)
	l := h.listen("/api/ws0/messages?history=0", nil)
	h.active(1, 0)
	h.settle()
	h.add(3, 0, func(m *state.Message) { m.Quiet = true })
	want := h.add(1, 0)

	same(t, "first message", l.hash(), want[0])
}

func TestWrongQueriesCloseTheSocketWithAReason(t *testing.T) {
	h := openHall(t)
	many := url.Values{"channels": {strings.Repeat(",", ccn.ListMax)}}.Encode()
	for query, want := range map[string]string{
		"history=200":                        "history: Input should be less than or equal to 199",
		"history=-1":                         "history: Input should be greater than or equal to 0",
		"history=x":                          "history: Input should be a valid integer, unable to parse string as an integer",
		"msgType=NONE":                       "msgType: Input should be a type of messages",
		"hashes=zz":                          "hashes: Value error, Could not determine hash type: 'zz'",
		"startDate=5&endDate=4":              "query: Value error, end date cannot be lower than start date.",
		"contentFormat=much":                 "contentFormat: Input should be 'full' or 'headers' or 'none'",
		many:                                 "channels: List should have at most 1024 items",
		"hashes=" + strings.Repeat("é", 300): "hashes: Value error, Could not determine hash type: '" + strings.Repeat("é", 35),
	} {
		l := h.listen("/api/ws0/messages?"+query, nil)
		if code, reason := l.closed(); code != websocket.StatusPolicyViolation || reason != want {
			t.Errorf("%.40s: closed with %d %q, want 1008 %q", query, code, reason, want)
		}
	}
	h.active(0, 0)
}

func TestTooManyListenersAreToldToTryAgain(t *testing.T) {
	h := openHall(t)
	h.srv.Limit(2, 1)
	for _, path := range []string{"/api/ws0/messages", "/api/ws0/messages", "/api/ws0/status"} {
		h.listen(path, nil)
	}
	h.active(2, 1)
	for _, path := range []string{"/api/ws0/messages", "/api/ws0/status"} {
		if code, reason := h.listen(path, nil).closed(); code != websocket.StatusTryAgainLater || reason != "Too many connections" {
			t.Errorf("%s: closed with %d %q, want 1013 Too many connections", path, code, reason)
		}
	}
	c := h.srv.Counters()
	if c.MessagesRejected != 1 || c.StatusRejected != 1 || c.MessagesMax != 2 || c.StatusMax != 1 {
		t.Errorf("counters are %+v, want one rejected of each", c)
	}
}

// TestFiltersOfAllAreBounded keeps clients from making each message dear.
func TestFiltersOfAllAreBounded(t *testing.T) {
	h := openHall(t)
	many := "/api/ws0/messages?history=0&channels=" + strings.Repeat(",", ccn.ListMax-1)
	n := ccn.WordsMax / ccn.ListMax
	for range n {
		h.listen(many, nil)
	}
	h.active(int64(n), 0)
	if code, reason := h.listen(many, nil).closed(); code != websocket.StatusTryAgainLater {
		t.Errorf("closed with %d %q, want 1013", code, reason)
	}
	l := h.listen("/api/ws0/messages?history=0", nil)
	h.active(int64(n+1), 0)
	l.conn.CloseNow()
	h.active(int64(n), 0)
	same(t, "values of all filters", h.srv.Words(), ccn.WordsMax)
}

func TestWhatIsNoWebSocketIsAnswered(t *testing.T) {
	h := openHall(t)
	for method, want := range map[string]int{http.MethodGet: http.StatusUpgradeRequired, http.MethodPost: http.StatusMethodNotAllowed, http.MethodOptions: http.StatusOK} {
		if a := h.do(method, "/api/ws0/messages", nil); a.status != want {
			t.Errorf("%s = %d %s, want %d", method, a.status, a.body, want)
		}
	}
	l := h.listen("/api/ws0/messages", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}}})
	h.add(1, 0)
	l.message()
}

func TestSlowReadersAreLetGoAndNobodyWaitsForThem(t *testing.T) {
	h := openHall(t)
	h.listen("/api/ws0/messages?history=0", nil) // It reads nothing.
	fast := h.listen("/api/ws0/messages?history=0", nil)
	h.active(2, 0)
	h.settle()
	const size = 90_000
	var got []string
	done := make(chan struct{})
	var sent []string
	const messages = 3 * ccn.QueueBytesMax / 4 / size * 2
	go func() {
		defer close(done)
		for len(got) < messages {
			raw, err := fast.next()
			if err != nil {
				t.Errorf("who reads is let go after %d messages: %v", len(got), err)
				return
			}
			got = append(got, hashIn(raw))
		}
	}()
	for len(sent) < messages {
		sent = append(sent, h.add(2, size)...)
	}
	<-done
	if !slices.Equal(got, sent) {
		t.Errorf("who reads got %d messages, want %d", len(got), len(sent))
	}
	h.active(1, 0)
}

func TestTheNumbersOfTheNodeAreToldWhenTheyChange(t *testing.T) {
	h := openHall(t)
	l := h.listen("/api/ws0/status", nil)
	first := l.message()
	same(t, "the first status", keysOf(first.value()), keysOf(h.ok("/metrics.json").value()))
	h.add(2, 0)
	h.srv.TellStatus(t.Context())
	same(t, "messages", fmt.Sprint(l.message().field("pyaleph_status_sync_messages_total")), "2")
	same(t, "who listens", fmt.Sprint(first.field("pyaleph_ws_status_connections_active")), "1")

	h.srv.TellStatus(t.Context())

	h.stayed("nothing changed", l)
}

func TestWhoListensIsToldThatTheNodeStops(t *testing.T) {
	h := openHall(t)
	all := []*listener{h.listen("/api/ws0/messages", nil), h.listen("/api/ws0/status", nil)}
	h.active(1, 1)
	ended := make(chan string, len(all))
	for _, l := range all {
		go func() {
			code, reason := l.closed()
			ended <- fmt.Sprint(int(code), " ", reason)
		}()
	}

	h.stop()

	for range all {
		same(t, "closed with", <-ended, "1001 The node stops")
	}
	h.active(0, 0)
	if code, _ := h.listen("/api/ws0/messages", nil).closed(); code != websocket.StatusGoingAway {
		t.Errorf("who comes after is closed with %d, want 1001", code)
	}
}

// TestMessagesOfOtherProcessesAreTold lets one process take in messages and another
// tell of them, both with the database of one server.
func TestMessagesOfOtherProcessesAreTold(t *testing.T) {
	server, err := statetest.Start(t.Context(), false)
	if errors.Is(err, errs.NotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := statetest.Create(t.Context(), server.URL("postgres"), "live"); err != nil {
		t.Fatal(err)
	}
	share := func(replica bool) *state.DB {
		db, err := state.OpenAs(t.Context(), state.Options{URL: server.URL("live"), Replica: replica})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = db.Run(ctx)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
	judge := &hall{node: openOn(t, share(false))}
	teller := serveHall(t, openOn(t, share(true)))
	l := teller.listen("/api/ws0/messages?history=0", nil)
	teller.active(1, 0)
	teller.settle()

	sent := judge.add(150, 0)

	for i, want := range sent {
		if got := l.hash(); got != want {
			t.Fatalf("message %d is %s, want %s", i, got, want)
		}
	}
}

// dialRaw upgrades a connection by hand, to say what no client would.
func (h *hall) dialRaw(query string) net.Conn {
	h.t.Helper()
	u, err := url.Parse(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(h.t.Context(), "tcp", u.Host)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /api/ws0/messages?%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", query)
	if err := conn.SetReadDeadline(time.Now().Add(soon)); err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, 400), 16), nil) //nolint:bodyclose // The same.
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		h.t.Fatalf("upgrade: %v %v", resp, err)
	}
	return conn
}

func TestWrongFramesEndTheirConnectionOnly(t *testing.T) {
	h := openHall(t)
	good := h.listen("/api/ws0/messages?history=0", nil)
	mask := "\x01\x02\x03\x04"
	for name, raw := range map[string]string{
		"not masked":               "\x81\x01a",
		"reserved bit":             "\xf1\x81" + mask + "a",
		"unknown opcode":           "\x83\x81" + mask + "a",
		"continues nothing":        "\x80\x81" + mask + "a",
		"length beyond all":        "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + mask,
		"longer than allowed":      "\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00" + mask + strings.Repeat("a", 10<<10),
		"long ping":                "\x89\xfe\x01\x00" + mask + strings.Repeat("a", 256),
		"ping in parts":            "\x09\x81" + mask + "a",
		"close with half a code":   "\x88\x81" + mask + "a",
		"close with a wrong code":  "\x88\x82" + mask + "\x01\x02",
		"nothing but the end":      "",
		"text that never ends":     strings.Repeat("\x01\x81"+mask+"a", 1) + strings.Repeat("\x00\x81"+mask+"a", 10<<10),
		"words without an end":     strings.Repeat("\x81\x81"+mask+"a", ccn.SaidMax+2),
		"text that is not UTF-8":   strings.Repeat("\x81\x82"+mask+"\xff\xfe", ccn.SaidMax+2),
		"half a frame and silence": "\x81",
	} {
		conn := h.dialRaw("history=0")
		h.active(2, 0)
		_, _ = io.WriteString(conn, raw) // It may be closed before the end of it.
		if name == "nothing but the end" || strings.Contains(name, "silence") {
			conn.Close()
		}
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		h.active(1, 0)
	}
	want := h.add(1, 0)

	same(t, "who has said nothing wrong hears", good.hash(), want[0])
}

func TestWordsOfClientsAreThrownAway(t *testing.T) {
	h := openHall(t)
	l := h.listen("/api/ws0/messages?history=0", nil)
	for range ccn.SaidMax {
		if err := l.conn.Write(t.Context(), websocket.MessageText, []byte("ping")); err != nil {
			t.Fatal(err)
		}
	}
	h.active(1, 0)
	h.settle()
	want := h.add(1, 0)

	same(t, "message", l.hash(), want[0])
	if err := l.conn.Write(t.Context(), websocket.MessageText, []byte("ping")); err != nil {
		t.Fatal(err)
	}
	if code, _ := l.closed(); code != websocket.StatusPolicyViolation {
		t.Errorf("closed with %d, want 1008", code)
	}
}

func TestWhoDoesNotAnswerPingsIsLetGo(t *testing.T) {
	h := openHall(t)
	l := h.listen("/api/ws0/messages?history=0", nil)
	go func() { _, _ = l.next() }() // It answers while it reads.
	h.dialRaw("history=0")
	h.active(2, 0)

	h.srv.PingAll(t.Context(), time.Second)

	h.active(1, 0)
}

func TestClientsThatGoAwayAreForgotten(t *testing.T) {
	h := openHall(t)
	before := runtime.NumGoroutine()
	var all []*listener
	for i := range 60 {
		all = append(all, h.listen([]string{"/api/ws0/messages", "/api/ws0/status"}[i%2], nil))
	}
	h.active(30, 30)
	h.add(10, 1000)
	for i, l := range all {
		if i%3 == 0 {
			l.conn.CloseNow()
		} else {
			l.conn.Close(websocket.StatusNormalClosure, "enough")
		}
	}
	h.active(0, 0)
	http.DefaultClient.CloseIdleConnections()
	h.until("their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// TestIdleSocketsAreSmall measures what a socket costs that waits, without what the
// test's own end of the connection does.
func TestIdleSocketsAreSmall(t *testing.T) {
	h := openHall(t)
	n := 1000
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	// What two ends cost of which both are like the client's.
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	ends := make([]net.Conn, 0, 2*n)
	start := inUse()
	for range n {
		c, err := net.Dial("tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := plain.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, c, s)
	}
	end := (inUse() - start) / int64(2*n)
	for _, c := range ends {
		c.Close()
	}
	clear(ends)
	goroutines := runtime.NumGoroutine()
	start = inUse()
	conns := make([]net.Conn, 0, n)
	for range n {
		conns = append(conns, h.dialRaw("history=0"))
	}
	h.active(int64(n), 0)
	h.settle()
	// Some may be asked whether they are there.
	if got, limit := runtime.NumGoroutine()-goroutines, n+n/5; got > limit {
		t.Errorf("%d sockets have %d goroutines, want one each", n, got)
	}
	each := (inUse()-start)/int64(n) - end
	runtime.KeepAlive(conns)
	t.Logf("a socket that waits costs %d bytes, and the test's end of it %d", each, end)
	if limit := int64(12 << 10); each > limit {
		t.Errorf("a socket that waits costs %d bytes, want at most %d", each, limit)
	}
}
