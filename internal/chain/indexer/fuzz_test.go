package indexer_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
)

// checkEvents wants what readers rely on.
func checkEvents(t *testing.T, events []indexer.Event) {
	t.Helper()
	for _, e := range events {
		if e.ID == "" || e.Tx == "" || e.Publisher == "" || len(e.ID)+len(e.Tx)+len(e.Publisher) > 3*128 || int64(e.Height) < 0 || e.At.Unix() < 0 {
			t.Errorf("event %+v", e)
		}
		if e.Bad == nil && e.Stamp.Unix() < 0 {
			t.Errorf("stamp %v", e.Stamp)
		}
		if len(e.Type) > archive.MaxTypeBytes {
			t.Errorf("a type of %d bytes", len(e.Type))
		}
	}
}

func FuzzMultichain(f *testing.F) {
	f.Add([]byte(`{"data":{"messageEvents":[{"id":"a","timestamp":1500,"address":"x","height":1,"transaction":"t","type":"POST","content":""}]}}`), []byte(`{"data":{"state":[{"processed":["2024-01-02T03:04:05.000Z/2024-01-03T03:04:05.000Z"]}]}}`))
	f.Add([]byte(`{"data":{"messageEvents":[{"timestamp":"1e3"},{}]}}`), []byte(`{"data":{"state":[{"processed":["2024-01-03T03:04:05Z/2024-01-03T03:04:05Z","1970-01-01T00:00:00Z/9999-01-01T00:00:00Z"]}]}}`))
	f.Add([]byte(`{"data":{"messageEvents":[{"id":"a","timestamp":1500,"address":"`+caller+`","height":1,"transaction":"t","type":"`+strings.Repeat("x", archive.MaxTypeBytes+1)+`","content":""}]}}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, events, state []byte) {
		const from, to, limit = 1000, 2000, 3
		got, upTo, err := indexer.ParseMultichain(events, from, to, limit)
		if err == nil && (upTo < from || upTo > to || len(got) > limit) {
			t.Errorf("%d events up to %d", len(got), upTo)
		}
		checkEvents(t, got)
		for _, e := range got {
			if at := e.At.UnixMilli(); at < from || at >= upTo {
				t.Errorf("event at %d, of a range from %d to %d", at, from, upTo)
			}
		}
		last := int64(-1)
		for _, s := range indexer.ParseState(state) {
			if s[0] <= last || s[1] <= s[0] {
				t.Errorf("range %v after %d", s, last)
			}
			last = s[1]
		}
	})
}

// FuzzCrowd reads an answer one event after the other, and wants what reading it whole finds
// where both find it good.
func FuzzCrowd(f *testing.F) {
	const one = `{"id":"a","timestamp":1000.5,"address":"x","height":1,"transaction":"t","type":"POST","content":""}`
	f.Add([]byte(`{"data":{"messageEvents":[` + one + `,` + one + `]}}`))
	f.Add([]byte(`{"extensions":[{}],"data":{"x":null,"messageEvents":[` + one + `]}}`))
	f.Add([]byte(`{"errors":[{"message":"no"}],"data":{"messageEvents":[]}}`))
	f.Add([]byte(`{"errors":null,"data":{"messageEvents":[` + one + `]}}`))
	f.Add([]byte(`{"data":{"messageEvents":[` + one))
	f.Add([]byte(`{"data":{"messageEvents":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := indexer.EachMultichain(raw, 1000)
		checkEvents(t, got)
		if err != nil || !json.Valid(raw) {
			return
		}
		if whole, _, err := indexer.ParseMultichain(raw, 1000, 1001, 1<<20); err == nil && len(got) != len(whole) && plain(raw) {
			t.Errorf("%d events one by one, %d at once", len(got), len(whole))
		}
	})
}

// plain reports whether an answer has each key of the way to its list once, in one spelling:
// else readers differ in which one they take.
func plain(raw []byte) bool {
	lower := bytes.ToLower(raw)
	return bytes.Count(lower, []byte(`data`)) == 1 && bytes.Count(lower, []byte(`messageevents`)) == 1 && !bytes.ContainsAny(raw, `\`)
}

func FuzzTezos(f *testing.F) {
	f.Add([]byte(`{"data":{"indexStatus":{"status":"synced"},"stats":{"totalEvents":1},"events":[{"_id":"1","source":"` + tezos + `","timestamp":"2022-11-16T15:18:20Z","blockLevel":1,"operationHash":"oo","type":"MessageEvent","payload":{"timestamp":1668611900.5,"addr":"KT1","msgtype":"POST","msgcontent":"{}"}}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := indexer.ParseTezos(raw, tezos)
		if err != nil && got != nil {
			t.Errorf("events %v with error %v", got, err)
		}
		checkEvents(t, got)
	})
}

func FuzzNULS2(f *testing.F) {
	f.Add([]byte(`{"transactions":[{"hash":"a","height":3,"createTime":1600000000,"remark":"ALEPH-SYNC","txDataHex":"7b7d","coinFroms":[{"address":"x"}]}]}`))
	f.Add([]byte(`{"transactions":[{"hash":"a","height":3,"createTime":1},{"hash":"b","height":2,"createTime":1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := indexer.ParseNULS2(raw, remark, 2, 3, time.Unix(1_700_000_000, 0), time.Unix(1_700_003_600, 0))
		if err != nil && got != nil {
			t.Errorf("events %v with error %v", got, err)
		}
		checkEvents(t, got)
		for i, e := range got {
			if e.Height < 2 || i > 0 && e.Height < got[i-1].Height || e.At.Unix() > 1_700_000_000 && e.At.Unix() <= 1_700_003_600 {
				t.Errorf("event %+v", e)
			}
		}
	})
}
