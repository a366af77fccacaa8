package indexer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer/indexertest"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	contract = "0xdf270752c8c71d08acbae4372687da65aece2d5d" // as the indexer wants it
	tezos    = "KT1FfEoaNvooDfYrP61Ykct6L8z7w7e2pgnT"
	nuls2    = "NULSd6HgesryNn1aUkTPr1uXbNPKkS1Yjz8Tm"
	remark   = "ALEPH-SYNC"
	caller   = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
)

// began is when the tests' chains began.
func began() time.Time { return time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) }

func after(seconds int) time.Time { return began().Add(time.Duration(seconds) * time.Second) }

// event is one of a second.
func event(n, second int) indexertest.Event {
	return indexertest.Event{
		ID: fmt.Sprint("id", n), Tx: fmt.Sprint("tx", n), Height: int64(100 + second), At: after(second), Publisher: caller, Sender: tezos, Type: "POST",
		Text: fmt.Sprint("text ", n), Remark: remark,
	}
}

type reader interface {
	Page(ctx context.Context, cursor json.RawMessage, now time.Time, age time.Duration) (indexer.Page, error)
}

// readAll reads until there is no more, and says which events came, in order.
func readAll(t *testing.T, r reader, cursor json.RawMessage, until time.Time) (ids []string, next json.RawMessage, pages int) {
	t.Helper()
	for {
		page, err := r.Page(t.Context(), cursor, until, 0)
		if err != nil {
			t.Fatalf("page %d after %s: %v", pages, cursor, err)
		}
		for _, e := range page.Events {
			ids = append(ids, e.Tx)
		}
		pages++
		if !page.More {
			return ids, page.Next, pages
		}
		if string(page.Next) == string(cursor) {
			t.Fatalf("page %d does not go on from %s", pages, cursor)
		}
		cursor = page.Next
	}
}

// wantEach wants events from a number until before another one, each once and in order.
func wantEach(t *testing.T, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Errorf("%d events, want %d", len(got), to-from)
		return
	}
	for i, tx := range got {
		if tx != fmt.Sprint("tx", from+i) {
			t.Errorf("event %d is %s, want tx%d", i, tx, from+i)
			return
		}
	}
}

// kind is an indexer with its reader.
type kind struct {
	name   string
	server *indexertest.Server
	reader reader
	page   int // Events of a page.
	grows  bool
}

func kinds(t *testing.T) []kind {
	t.Helper()
	m, tz, n := indexertest.Multichain(t, "bsc", contract), indexertest.Tezos(t, tezos), indexertest.NULS2(t, nuls2)
	rm, err := indexer.NewMultichain(m.URL, "bsc", strings.ToUpper(contract[:4])+contract[4:])
	if err != nil {
		t.Fatal(err)
	}
	rt, err := indexer.NewTezos(tz.URL+"/", tezos)
	if err != nil {
		t.Fatal(err)
	}
	rn, err := indexer.NewNULS2(n.URL, nuls2, remark)
	if err != nil {
		t.Fatal(err)
	}
	m.Process([2]time.Time{began(), after(1 << 20)})
	return []kind{{"multichain", m, rm, 1000, true}, {"tezos", tz, rt, 100, false}, {"nuls2", n, rn, 500, true}}
}

// TestEachEventIsReadOnce: over many pages, whose ends cut moments in two, and from where
// reading ended before.
func TestEachEventIsReadOnce(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			count := 3*k.page + 7
			for n := range count {
				k.server.Add(event(n, n/3))
			}
			got, cursor, pages := readAll(t, k.reader, nil, after(1<<19))
			wantEach(t, got, 0, count)
			if pages < 4 {
				t.Errorf("%d pages, want at least 4", pages)
			}

			got, _, pages = readAll(t, k.reader, cursor, after(1<<19))
			if len(got) != 0 || pages != 1 {
				t.Errorf("%d events and %d pages when nothing is new", len(got), pages)
			}
			k.server.Add(event(count, 1<<19-1))
			k.server.Add(event(count+1, 1<<19+1)) // It is too young.
			got, cursor, _ = readAll(t, k.reader, cursor, after(1<<19))
			if k.name != "multichain" { // That has processed the time already: what is found there afterwards is its fault.
				wantEach(t, got, count, count+1)
			}
			got, _, _ = readAll(t, k.reader, cursor, after(1<<19+9))
			wantEach(t, got, count+1, count+2)
		})
	}
}

// TestManyEventsOfOneMoment do not stop reading: anybody can make them.
func TestManyEventsOfOneMoment(t *testing.T) {
	for _, k := range kinds(t) {
		if !k.grows {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			crowd := 5 * k.page
			for n := range crowd {
				k.server.Add(event(n, 1))
			}
			k.server.Add(event(crowd, 2))
			got, _, _ := readAll(t, k.reader, nil, after(9))
			wantEach(t, got, 0, crowd+1)

			for n := range 17 * k.page {
				k.server.Add(event(crowd+1+n, 3))
			}
			k.server.Add(event(crowd+1+17*k.page, 4))
			got, _, _ = readAll(t, k.reader, nil, after(9))
			wantEach(t, got, 0, crowd+2+17*k.page)
		})
	}
}

// TestAMomentLongerThanAnAnswer does not stop reading either.
func TestAMomentLongerThanAnAnswer(t *testing.T) {
	for _, k := range kinds(t) {
		if !k.grows {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			text := strings.Repeat("x", indexer.AnswerMax/k.page+1)
			for n := range k.page + 10 {
				e := event(n, 1+n/k.page)
				if e.Text = text; n == 3 {
					e.Text = strings.Repeat("x", archive.MaxPayloadBytes+1)
				}
				k.server.Add(e)
			}
			events, missed := readPages(t, k.reader, after(9))
			if len(events) != k.page+10 || missed != nil {
				t.Fatalf("%d events, and missed others: %v, want %d", len(events), missed, k.page+10)
			}
			for n, e := range events {
				if long := n == 3; e.Tx != fmt.Sprint("tx", n) || long != (e.Bad != nil) || !long && e.Text != text {
					t.Errorf("event %d is %s of %d bytes, %v", n, e.Tx, len(e.Text), e.Bad)
				}
			}
		})
	}
}

// readPages reads until there is no more, and says which events came and what was said of
// others.
func readPages(t *testing.T, r reader, until time.Time) (all []indexer.Event, missed []error) {
	t.Helper()
	var cursor json.RawMessage
	for {
		page, err := r.Page(t.Context(), cursor, until, 0)
		if err != nil {
			t.Fatalf("page after %s: %v", cursor, err)
		}
		all, cursor = append(all, page.Events...), page.Next
		if page.Missed != nil {
			missed = append(missed, page.Missed)
		}
		if !page.More {
			return all, missed
		}
	}
}

// TestAMomentBeyondAllBoundsIsPassedOver, as far as it is, and not in silence.
func TestAMomentBeyondAllBoundsIsPassedOver(t *testing.T) {
	long := strings.Repeat("x", archive.MaxPayloadBytes)
	tests := []struct {
		kind int
		text string
		read int
		why  string
	}{
		{0, "x", indexer.CrowdMax, "more than 131072 events"},
		{2, "x", indexer.CrowdMax, "more than 131072 events"},
		{2, long, indexer.CrowdText / len(long), "texts of more than 67108864 bytes"},
	}
	for _, tt := range tests {
		k := kinds(t)[tt.kind]
		t.Run(k.name+" "+tt.why, func(t *testing.T) {
			for n := range tt.read + 7 {
				e := event(n, 1)
				e.Text = tt.text
				k.server.Add(e)
			}
			last := event(tt.read+7, 2)
			k.server.Add(last)

			events, missed := readPages(t, k.reader, after(9))

			if len(missed) != 1 || !strings.Contains(missed[0].Error(), tt.why) {
				t.Errorf("missed %v, want it said once: %q", missed, tt.why)
			}
			if len(events) != tt.read+1 || events[tt.read].Tx != last.Tx {
				t.Errorf("%d events up to %s, want %d up to %s", len(events), events[len(events)-1].Tx, tt.read+1, last.Tx)
			}
		})
	}
}

// TestLessThanIsKnownIsNotAll: a server that answers less when it is asked for more makes
// a reader wait, and not go past what it has seen.
func TestLessThanIsKnownIsNotAll(t *testing.T) {
	for _, k := range kinds(t) {
		if !k.grows {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			for n := range 17 * k.page {
				k.server.Add(event(n, 1))
			}
			k.server.Refuse(16 * k.page)
			page, err := k.reader.Page(t.Context(), nil, after(9), 0)
			for err == nil && page.More { // Up to the moment.
				page, err = k.reader.Page(t.Context(), page.Next, after(9), 0)
			}
			if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), fmt.Sprint("a moment that has ", 16*k.page)) {
				t.Errorf("got %v, want that there are %d at least", err, 16*k.page)
			}
			k.server.Refuse(0)
			if events, missed := readPages(t, k.reader, after(9)); len(events) != 17*k.page || missed != nil {
				t.Errorf("%d events, and missed others: %v, want %d", len(events), missed, 17*k.page)
			}
		})
	}
}

// TestACrowdedBlockWaitsUntilItIsOld, as any other.
func TestACrowdedBlockWaitsUntilItIsOld(t *testing.T) {
	k := kinds(t)[2]
	for n := range 17 * k.page {
		e := event(n, 1)
		if n == 16*k.page+1 {
			e.At = after(600)
		}
		k.server.Add(e)
	}
	k.server.Add(event(17*k.page, 2))
	got, cursor, _ := readAll(t, k.reader, nil, after(300))
	if len(got) != 0 || string(cursor) != `{"height":0}` {
		t.Errorf("%d events up to %s, want none: one may be of now", len(got), cursor)
	}
	got, _, _ = readAll(t, k.reader, cursor, after(900))
	wantEach(t, got, 0, 17*k.page+1)
}

// TestLongEventsDoNotStopReading: anybody can make events that together are more than what
// is read of an answer, and many of one moment among them.
func TestLongEventsDoNotStopReading(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			size, crowd, count := 40_000, 0, k.page+10
			if k.grows {
				crowd = 7 * k.page / 10 // More than half a page, which is what can be had.
			} else {
				size = 500_000
			}
			text := strings.Repeat("x", size)
			for n := range count {
				e := event(n, max(1, n-crowd+2))
				e.Text = text
				k.server.Add(e)
			}
			got, _, _ := readAll(t, k.reader, nil, after(1<<19))
			wantEach(t, got, 0, count)
		})
	}
}

// TestTheMultichainIndexerWorksOnOldTimesAndNewOnes at once: what it has processed is read,
// and the rest when it has.
func TestTheMultichainIndexerWorksOnOldTimesAndNewOnes(t *testing.T) {
	k := kinds(t)[0]
	for n := range 40 {
		k.server.Add(event(n, n))
	}
	k.server.Process([2]time.Time{after(30), after(35)}, [2]time.Time{after(0), after(9)})
	got, cursor, _ := readAll(t, k.reader, nil, after(99))
	if len(got) != 16 || got[0] != "tx0" || got[9] != "tx9" || got[10] != "tx30" || got[15] != "tx35" {
		t.Errorf("events %v, want 0 to 9 and 30 to 35", got)
	}
	k.server.Process([2]time.Time{after(0), after(39)})
	got, cursor, _ = readAll(t, k.reader, cursor, after(99))
	if len(got) != 24 || got[0] != "tx10" || got[19] != "tx29" || got[20] != "tx36" {
		t.Errorf("events %v, want 10 to 29 and 36 to 39", got)
	}
	if want := fmt.Sprintf(`{"done":[[%d,%d]]}`, began().UnixMilli(), after(39).UnixMilli()+1); string(cursor) != want {
		t.Errorf("cursor %s, want %s", cursor, want)
	}
}

// TestGoldenMessagesOfContracts: what the indexer of Tezos says becomes the messages that
// the reference makes of it.
func TestGoldenMessagesOfContracts(t *testing.T) {
	raw, err := os.ReadFile("../../../protocol/testdata/vectors/archive.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Events []struct {
			Chain, Sender, Msgtype, Msgcontent, Error string
			Timestamp                                 int64
			ItemHash                                  message.ItemHash `json:"item_hash"`
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	k, checked := kinds(t)[1], 0
	for i, e := range v.Events {
		if e.Chain != "TEZOS" || e.Error != "" {
			continue
		}
		k.server.Add(indexertest.Event{ID: fmt.Sprint(i), Tx: "oo", Height: 1, At: time.Unix(e.Timestamp, 0), Sender: e.Sender, Type: e.Msgtype, Text: e.Msgcontent})
		page, err := k.reader.Page(t.Context(), json.RawMessage(fmt.Sprintf(`{"count":%d}`, checked)), time.Now(), 0)
		if err != nil || len(page.Events) != 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		got := page.Events[0]
		m, err := archive.Event{Chain: "TEZOS", Sender: got.Sender, At: got.Stamp, Type: got.Type, Content: got.Text}.Message(got.At)
		if err != nil || m.ItemHash != e.ItemHash || got.Publisher != tezos {
			t.Errorf("message of event %d: %+v, %v, want %s", i, m, err, e.ItemHash)
		}
		checked++
	}
	if checked < 2 {
		t.Errorf("%d events were checked, want those of the vectors", checked)
	}
}

// TestWhatCallersSayIsNotTheIndexersFault: an event that says nothing is passed over.
func TestWhatCallersSayIsNotTheIndexersFault(t *testing.T) {
	k := kinds(t)
	for _, payload := range []string{`null`, `[]`, `{"addr":7}`, `{"timestamp":1,"addr":"a b","msgtype":"POST","msgcontent":""}`, `{"timestamp":-1,"addr":"` + tezos + `","msgtype":"POST","msgcontent":""}`, `{"timestamp":1,"addr":"` + tezos + `","msgtype":"","msgcontent":""}`, `{"addr":"` + tezos + `","msgtype":"POST","msgcontent":""}`} {
		k[1].server.Answer(func(w http.ResponseWriter) {
			_, _ = fmt.Fprintf(w, `{"data":{"indexStatus":{"status":"synced"},"stats":{"totalEvents":1},"events":[
				{"_id":"1","source":%q,"timestamp":"2024-01-02T03:04:05","blockLevel":"7","operationHash":"oo","type":"MessageEvent","payload":%s}]}}`, tezos, payload)
		})
		page, err := k[1].reader.Page(t.Context(), nil, time.Now(), 0)
		if err != nil || len(page.Events) != 1 || page.Events[0].Bad == nil || page.Events[0].Height != 7 || !page.Events[0].At.Equal(began()) {
			t.Errorf("payload %s: %+v, %v, want it passed over", payload, page, err)
		}
	}
	k[2].server.Answer(func(w http.ResponseWriter) {
		_, _ = fmt.Fprintf(w, `{"transactions":[{"hash":"a","height":3,"createTime":1,"remark":null},{"hash":"b","height":2,"createTime":1,"remark":%[1]q,"txDataHex":"zz","coinFroms":[{"address":"x"}]},
			{"hash":"c","height":4,"createTime":1,"remark":%[1]q,"txDataHex":"ff","coinFroms":[{"address":"x"}]},{"hash":"d","height":4,"createTime":1,"remark":%[1]q,"coinFroms":[]}]}`, remark)
	})
	page, err := k[2].reader.Page(t.Context(), nil, time.Now(), 0)
	if err != nil || len(page.Events) != 2 || page.Events[0].Tx != "b" || page.Events[0].Bad == nil || page.Events[1].Bad == nil || string(page.Next) != `{"height":4}` {
		t.Errorf("transactions without texts: %+v, %v", page, err)
	}
}

// TestSendersAreOfTheirChain: others are passed over, as rights are those of addresses.
func TestSendersAreOfTheirChain(t *testing.T) {
	tests := []struct {
		kind   int
		sender string
		good   bool
	}{
		{0, caller, true},
		{0, strings.ToLower(caller), true},
		{0, caller[2:], false},
		{0, caller + "0", false},
		{0, tezos, false},
		{1, tezos, true},
		{1, "tz1SmGHzna3YhKropa3WudVq72jhTPDBn4r5", true},
		{1, "tz1SmGHzna3YhKropa3WudVq72jhTPDBn4r6", false}, // The checksum is wrong.
		{1, "tz1SmGHzna3YhKropa3WudVq72jhTPDBn4r0", false}, // It is not base58.
		{1, "tz5SmGHzna3YhKropa3WudVq72jhTPDBn4r5", false},
		{1, caller, false},
		{1, nuls2, false},
	}
	for _, tt := range tests {
		k := kinds(t)[tt.kind]
		e := event(1, 1)
		e.Publisher, e.Sender = tt.sender, tt.sender
		k.server.Add(e)
		page, err := k.reader.Page(t.Context(), nil, after(9), 0)
		if err != nil || len(page.Events) != 1 || (page.Events[0].Bad == nil) != tt.good {
			t.Errorf("%s, sender %s: %+v, %v, want it good: %t", k.name, tt.sender, page, err, tt.good)
		}
	}
}

// TestTypesAreBounded: one that is too long, or that no message can have, is passed over and
// not kept, as callers choose it. What comes after it is read.
func TestTypesAreBounded(t *testing.T) {
	longest := strings.Repeat("x", archive.MaxTypeBytes)
	tests := []struct {
		name, of string
		want     string // Why it is passed over; "" if it is not.
	}{
		{"one that is used", "STORE_IPFS", ""},
		{"the longest", longest, ""},
		{"one byte longer", longest + "x", "its type has 65 bytes, at most 64 are read"},
		{"a megabyte", strings.Repeat("x", 1<<20), "its type has 1048576 bytes, at most 64 are read"},
		{"none", "", `its type is ""`},
		{"of two lines", "PO\nST", `its type is "PO\nST"`},
	}
	for _, kind := range []int{0, 1} {
		for _, tt := range tests {
			k := kinds(t)[kind]
			e := event(1, 1)
			e.Type = tt.of
			k.server.Add(e)
			k.server.Add(event(2, 2))
			page, err := k.reader.Page(t.Context(), nil, after(9), 0)
			if err != nil || len(page.Events) != 2 || page.Events[1].Bad != nil {
				t.Errorf("%s, %s: %d events, %v, want two, of which the second is good", k.name, tt.name, len(page.Events), err)
				continue
			}
			got := page.Events[0]
			if tt.want == "" && (got.Bad != nil || got.Type != tt.of) {
				t.Errorf("%s, %s: type %.80q, %v, want it kept", k.name, tt.name, got.Type, got.Bad)
			}
			if tt.want != "" && (got.Bad == nil || got.Bad.Error() != tt.want || got.Type != "") {
				t.Errorf("%s, %s: type %.80q, %v, want none and %q", k.name, tt.name, got.Type, got.Bad, tt.want)
			}
		}
	}
}

// TestAFastClockMakesNothingOld: what is younger than the age that is asked for waits, by
// the time that the server has.
func TestAFastClockMakesNothingOld(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			at := time.Now().Add(-time.Minute).Truncate(time.Second)
			for n, age := range []time.Duration{time.Hour, time.Minute} {
				e := event(n, n)
				e.At = at.Add(-age)
				k.server.Add(e)
			}
			k.server.Process([2]time.Time{at.Add(-2 * time.Hour), at})
			fast := time.Now().Add(24 * time.Hour)

			page, err := k.reader.Page(t.Context(), nil, fast, 30*time.Minute)

			if err != nil || len(page.Events) != 1 || page.Events[0].Tx != "tx0" {
				t.Errorf("events %+v, %v, want the one of an hour ago", page.Events, err)
			}
			slow := at.Add(-50 * time.Minute)
			if page, err := k.reader.Page(t.Context(), nil, slow, 30*time.Minute); err != nil || len(page.Events) != 0 {
				t.Errorf("events %+v, %v, want none: the clock of the node is slow", page.Events, err)
			}
		})
	}
}

// TestTransactionsOfTimesToComeHoldNothingBack: who makes one chooses its time, and may make
// a page of them. One that may be of now makes its block and later ones wait.
func TestTransactionsOfTimesToComeHoldNothingBack(t *testing.T) {
	k := kinds(t)[2]
	for n := range 2 * k.page {
		e := event(n, n/3)
		if n >= 3 && n < k.page+10 {
			e.At = time.Now().Add(100 * 24 * time.Hour)
		}
		k.server.Add(e)
	}
	got, _, _ := readAll(t, k.reader, nil, time.Now())
	wantEach(t, got, 0, 2*k.page)

	young := event(2*k.page+1, k.page)
	young.At = time.Now().Add(10 * time.Minute)
	k.server.Add(event(2*k.page, k.page), young, event(2*k.page+2, k.page+1))
	got, _, _ = readAll(t, k.reader, nil, time.Now())
	wantEach(t, got, 0, 2*k.page)
}

// TestHostileAnswersAreRefused, and the cursor stays where it is.
func TestHostileAnswersAreRefused(t *testing.T) {
	state := `{"data":{"state":[{"processed":["2024-01-02T03:04:05.000Z/2024-01-03T03:04:05.000Z"]}]}}`
	at := began().UnixMilli()
	tez := func(events string) string {
		return `{"data":{"indexStatus":{"status":"synced"},"stats":{"totalEvents":1},"events":` + events + `}}`
	}
	tests := []struct {
		kind   int
		answer string // of Multichain, to the second question
		want   string
	}{
		{0, `{"data":{"messageEvents":[{"id":"a","timestamp":` + fmt.Sprint(at-1) + `,"address":"x","height":1,"transaction":"t","type":"POST","content":""}]}}`, "not in the range"},
		{0, `{"data":{"messageEvents":[{"id":"a","timestamp":` + fmt.Sprint(at) + `,"address":"","height":1,"transaction":"t","type":"POST","content":""}]}}`, "its publisher"},
		{0, `{"data":{"messageEvents":[{"id":"a","timestamp":` + fmt.Sprint(at) + `,"address":"x","height":-1,"transaction":"t","type":"POST","content":""}]}}`, "no number"},
		{0, `{"data":{}}`, "no list"},
		{0, `{"data":null}`, "no data"},
		{0, `{"errors":[{"message":"too much"}]}`, "too much"},
		{0, `{"data":{"messageEvents":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}}`, "deeper"},
		{0, `no JSON`, "not what was asked for"},
		{0, `{"data":{"messageEvents":[` + strings.Repeat(`{"timestamp":1},`, 1000) + `{"timestamp":1}]}}`, "1001 events"},
		{1, tez(`[{"_id":"1","source":"KT1other","timestamp":1,"blockLevel":7,"operationHash":"oo","type":"MessageEvent","payload":{}}]`), "KT1other"},
		{1, tez(`[{"_id":"1","source":"` + tezos + `","timestamp":1,"blockLevel":7,"type":"MessageEvent","payload":{}}]`), "its transaction"},
		{1, tez(`[{"_id":"1","source":"` + tezos + `","timestamp":"soon","blockLevel":7,"operationHash":"oo","type":"MessageEvent","payload":{}}]`), "no time"},
		{1, tez(`[{"_id":"1","source":"` + tezos + `","blockLevel":7,"operationHash":"oo","type":"MessageEvent","payload":{}}]`), "an event has no time"},
		{1, tez(`null`), "no list"},
		{1, tez(`[` + strings.Repeat(`{},`, 100) + `{}]`), "101 events"},
		{1, `{"data":{"indexStatus":{"status":"in_progress"},"stats":{"totalEvents":0},"events":[]}}`, "not synced"},
		{2, `{}`, "no list"},
		{2, `{"transactions":[{"hash":"a","height":0,"createTime":1}]}`, "want heights from 1"},
		{2, `{"transactions":[{"hash":"a","height":1,"createTime":1704164645000}]}`, "and seconds"},
		{2, `{"transactions":[{"hash":"","height":1,"createTime":1,"remark":"` + remark + `","coinFroms":[{"address":"x"}]}]}`, "id of an event"},
		{2, `{"transactions":[` + strings.Repeat(`{"height":9,"createTime":1},`, 500) + `{"height":9,"createTime":1}]}`, "501 transactions"},
		{2, `{"transactions":[` + strings.Repeat(`{"height":9,"createTime":1},`, 499) + `{"height":8,"createTime":1}]}`, "not in order"},
	}
	for _, tt := range tests {
		k, asked := kinds(t)[tt.kind], 0
		k.server.Answer(func(w http.ResponseWriter) {
			asked++
			if tt.kind == 0 && asked == 1 {
				_, _ = w.Write([]byte(state))
				return
			}
			_, _ = w.Write([]byte(tt.answer))
		})
		page, err := k.reader.Page(t.Context(), nil, time.Now(), 0)
		if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), tt.want) || page.Next != nil {
			t.Errorf("%s, answer %.80s: %+v, %v, want %q", k.name, tt.answer, page, err, tt.want)
		}
	}
	for _, processed := range []string{`[]`, `[{"processed":["x"]}]`, `[{"processed":["2024-01-03T03:04:05.000Z/2024-01-02T03:04:05.000Z"]}]`, `[{},{}]`} {
		k := kinds(t)[0]
		k.server.Answer(func(w http.ResponseWriter) { _, _ = fmt.Fprintf(w, `{"data":{"state":%s}}`, processed) })
		if _, err := k.reader.Page(t.Context(), nil, time.Now(), 0); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("state %s: %v", processed, err)
		}
	}
}

// TestServersAreBounded: in the length of what they say, and where they send who asks.
func TestServersAreBounded(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter){
		"more than": func(w http.ResponseWriter) {
			block := []byte(strings.Repeat(" ", 1<<20))
			for range 34 {
				if _, err := w.Write(block); err != nil {
					return // Who asks has heard enough.
				}
			}
		},
		"answered 302": func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
		},
		"answered 500": func(w http.ResponseWriter) { http.Error(w, strings.Repeat("x", 1<<20), http.StatusInternalServerError) },
	}
	for want, answer := range answers {
		for _, k := range kinds(t) {
			k.server.Answer(answer)
			_, err := k.reader.Page(t.Context(), nil, time.Now(), 0)
			if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), want) || len(err.Error()) > 1000 {
				t.Errorf("%s: %.200v, want %q", k.name, err, want)
			}
		}
	}
	k := kinds(t)[1]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.reader.Page(ctx, nil, time.Now(), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("when asked to stop: %v", err)
	}
	for _, bad := range []string{"", "ftp://x", "https://", "::"} {
		if _, err := indexer.NewTezos(bad, tezos); errs.KindOf(err) != errs.Invalid {
			t.Errorf("URL %q: %v", bad, err)
		}
	}
	for _, k := range kinds(t) {
		if _, err := k.reader.Page(t.Context(), json.RawMessage(`"x"`), time.Now(), 0); err == nil || k.server.Asked() != 0 {
			t.Errorf("%s: a cursor that is none: %v", k.name, err)
		}
	}
}
