package job_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

func TestQuestionsForWhatWasMissed(t *testing.T) {
	hashes := func(n int) []message.ItemHash {
		out := make([]message.ItemHash, n)
		for i := range out {
			out[i] = spec
		}
		return out
	}
	for _, tt := range []struct {
		ask  job.Ask
		want string // A part of the error; "" means accepted.
	}{
		{job.Ask{Kind: job.AskReconcile, Ranges: make([]byte, 1)}, ""},
		{job.Ask{Kind: job.AskReconcile, Ranges: make([]byte, job.RangesMax)}, ""},
		{job.Ask{Kind: job.AskReconcile}, "ranges"},
		{job.Ask{Kind: job.AskReconcile, Ranges: make([]byte, job.RangesMax+1)}, "ranges"},
		{job.Ask{Kind: job.AskMessages, ItemHashes: hashes(1)}, ""},
		{job.Ask{Kind: job.AskMessages, ItemHashes: hashes(job.MessagesMax)}, ""},
		{job.Ask{Kind: job.AskMessages}, "item_hashes"},
		{job.Ask{Kind: job.AskMessages, ItemHashes: hashes(job.MessagesMax + 1)}, "item_hashes"},
	} {
		raw, err := json.Marshal(tt.ask)
		if err != nil {
			t.Fatal(err)
		}
		_, err = job.ParseAsk(raw)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.200s: %v, want %q", raw, err, tt.want)
		}
	}
}

// envelopeOf signs a POST.
func envelopeOf(tb testing.TB) message.Envelope {
	tb.Helper()
	content := `{"address":"a","time":1,"type":"t"}`
	e := message.Envelope{
		Chain: message.Ethereum, Type: message.TypePost, Time: time.Unix(1, 0).UTC(), ItemType: message.Inline, ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		tb.Fatal(err)
	}
	if err := signature.SignEVM(key, &e); err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestWhatWasForgottenIsToldWithoutItsContent(t *testing.T) {
	e := envelopeOf(t)
	kind := "amend"
	f, err := job.NewForgotten(e, &kind)
	if err != nil || bytes.Contains(f.Message, []byte("address")) || f.Kind != kind {
		t.Fatalf("told is %s, %v", f.Message, err)
	}
	got, err := f.Envelope()
	if err != nil || signature.Verify(got) != nil || got.ItemType != message.Inline || got.ItemContent != "" || got.ItemHash != e.ItemHash || !got.Time.Equal(e.Time) {
		t.Errorf("read is %+v, %v", got, err)
	}
	whole, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	e.ItemType, e.ItemHash = message.IPFS, "QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV"
	inFile, err := job.NewForgotten(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := inFile.Envelope(); err != nil || got.ItemType != message.IPFS {
		t.Errorf("of a content in a file is read %+v, %v", got, err)
	}
	for name, bad := range map[string]job.Forgotten{
		"with its content": {Message: whole}, "none": {}, "inline, of another hash": {Message: inFile.Message, Inline: true},
		"a long kind": {Message: f.Message, Kind: strings.Repeat("x", 257)}, "a kind that no database holds": {Message: f.Message, Kind: "\x00"},
	} {
		if got, err := bad.Envelope(); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	long := strings.Repeat("x", 257)
	if f, err := job.NewForgotten(e, &long); err != nil || f.Kind != "" {
		t.Errorf("a long kind is told: %+v, %v", f, err)
	}
}

// Whatever a peer answers, what passes the checks is in bounds.
func FuzzMessages(f *testing.F) {
	left, err := job.NewForgotten(envelopeOf(f), nil)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := json.Marshal(job.Reply{
		Messages: &job.Messages{Done: 2, Messages: []json.RawMessage{left.Message}, Forgotten: []job.Forgotten{left}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, 2)
	f.Add([]byte(`{"messages":{"done":1}}`), 1)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		var r job.Reply
		if json.Unmarshal(raw, &r) != nil {
			return
		}
		if m := r.Messages; m != nil && m.Check(n) == nil {
			if m.Done < 1 || m.Done > n || len(m.Messages) > n {
				t.Fatalf("%d of %d are done with %d messages", m.Done, n, len(m.Messages))
			}
			for i := range m.Forgotten {
				if e, err := m.Forgotten[i].Envelope(); err == nil && (e.ItemContent != "" || e.Signature == "" || e.ItemHash == "") {
					t.Fatalf("what is left of a message is %+v", e)
				}
			}
		}
	})
}
