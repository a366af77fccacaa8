package archive_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type vectors struct {
	Payloads []struct {
		Name, Text, Error string
		File              message.ItemHash
		Messages          int
	}
	Archive struct {
		Messages []json.RawMessage
		Text     string
	}
	Reference struct {
		File message.ItemHash
		Text string
	}
	Events []struct {
		Name, Sender, Msgtype, Msgcontent, Error string
		Chain                                    message.Chain
		Timestamp                                int64
		BlockTime                                int64 `json:"block_time"`
		Type                                     message.Type
		ItemContent                              string           `json:"item_content"`
		ItemHash                                 message.ItemHash `json:"item_hash"`
	}
}

func read(tb testing.TB) (v vectors) {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/archive.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestPayloads(t *testing.T) {
	for _, tt := range read(t).Payloads {
		t.Run(tt.Name, func(t *testing.T) {
			p, err := archive.ParsePayload([]byte(tt.Text))
			if tt.Error != "" {
				if err == nil || !strings.Contains(err.Error(), tt.Error) {
					t.Errorf("error %v, want %q in it", err, tt.Error)
				}
				return
			}
			if err != nil || p.File != tt.File || len(p.Messages) != tt.Messages {
				t.Errorf("file %q and %d messages, %v, want %q and %d", p.File, len(p.Messages), err, tt.File, tt.Messages)
			}
		})
	}
}

func TestBoundsOfPayloads(t *testing.T) {
	long := `{"protocol":"aleph","version":1,"content":{"messages":[` + strings.Repeat(" ", archive.MaxPayloadBytes) + `]}}`
	if _, err := archive.ParsePayload([]byte(long)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a payload that is too long: %v", err)
	}
	many := `{"content":{"messages":[0` + strings.Repeat(",0", archive.MaxMessages) + `]}}`
	if _, err := archive.Parse([]byte(many)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("an archive of too many messages: %v", err)
	}
}

func TestArchiveIsThatOfTheReference(t *testing.T) {
	v := read(t)
	var w archive.Writer
	for _, raw := range v.Archive.Messages {
		e := new(message.Envelope)
		if err := e.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
		if !w.Add(e) {
			t.Fatal("full")
		}
	}
	if got := string(w.Bytes()); got != v.Archive.Text {
		t.Errorf("archive is\n%s\nwant\n%s", got, v.Archive.Text)
	}
	if got := archive.Reference(v.Reference.File); got != v.Reference.Text {
		t.Errorf("reference is %s, want %s", got, v.Reference.Text)
	}
}

func TestArchiveIsReadBack(t *testing.T) {
	var empty archive.Writer
	if got, err := archive.Parse(empty.Bytes()); err != nil || len(got) != 0 {
		t.Errorf("an empty archive has %d messages, %v", len(got), err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var w archive.Writer
	var want []message.Envelope
	for len(want) < 300 {
		e := random(rng)
		want = append(want, e)
		if !w.Add(&e) {
			t.Fatal("full")
		}
	}

	got, err := archive.Parse(w.Bytes())

	if err != nil || len(got) != len(want) || w.Len() != len(want) {
		t.Fatalf("%d messages, %v, want %d", len(got), err, len(want))
	}
	for i, raw := range got {
		var e message.Envelope
		if err := e.UnmarshalJSON(raw); err != nil {
			t.Fatalf("message %d: %v: %s", i, err, raw)
		}
		if diff := cmp.Diff(want[i], e); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
}

// random is an envelope of any texts.
func random(rng *rand.Rand) message.Envelope {
	runes := []rune("aé\u007f\u2028\U0001f600\"\\\n\t\r\b\f<&> \u0001")
	text := func() string {
		out := make([]rune, 1+rng.IntN(12))
		for i := range out {
			out[i] = runes[rng.IntN(len(runes))]
		}
		return string(out)
	}
	e := message.Envelope{
		Chain: message.Ethereum, Sender: text(), Type: message.TypePost, Time: time.UnixMicro(rng.Int64N(4e15)).UTC(),
		ItemType: message.Storage, ItemHash: message.HashOf([]byte(text())), Signature: text(),
	}
	if rng.IntN(2) == 0 {
		channel := text()
		e.Channel = &channel
	}
	if rng.IntN(2) == 0 {
		e.ItemType, e.ItemContent = message.Inline, text()
	}
	return e
}

func TestArchiveIsBounded(t *testing.T) {
	small := message.Envelope{Sender: "s", Chain: message.Ethereum, Type: message.TypePost, ItemType: message.Storage}
	var w archive.Writer
	for w.Add(&small) {
	}
	if w.Len() != archive.PublishMessages {
		t.Errorf("an archive takes %d messages, want %d", w.Len(), archive.PublishMessages)
	}
	large := small
	large.ItemType, large.ItemContent = message.Inline, strings.Repeat("é", message.MaxInlineChars)
	w = archive.Writer{}
	for w.Add(&large) {
	}
	out := w.Bytes()
	if len(out) > archive.PublishBytes || len(out) < archive.PublishBytes-6*message.MaxInlineChars-1000 {
		t.Errorf("an archive of large messages has %d bytes, want just below %d", len(out), archive.PublishBytes)
	}
	if got, err := archive.Parse(out); err != nil || len(got) != w.Len() {
		t.Errorf("it has %d messages, %v, want %d", len(got), err, w.Len())
	}
}

func TestEvents(t *testing.T) {
	for _, tt := range read(t).Events {
		t.Run(tt.Name, func(t *testing.T) {
			e := archive.Event{Chain: tt.Chain, Sender: tt.Sender, At: time.Unix(tt.Timestamp, 0), Type: tt.Msgtype, Content: tt.Msgcontent}
			m, err := e.Message(time.Unix(tt.BlockTime, 0))
			if tt.Error != "" {
				if err == nil || !strings.Contains(err.Error(), tt.Error) {
					t.Errorf("error %v, want %q in it", err, tt.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := &message.Envelope{
				Chain: tt.Chain, Sender: tt.Sender, Type: tt.Type, Time: time.Unix(tt.BlockTime, 0).UTC(),
				ItemType: message.Inline, ItemContent: tt.ItemContent, ItemHash: tt.ItemHash,
			}
			if diff := cmp.Diff(want, m); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := message.ParseUnsigned(raw); err != nil {
				t.Errorf("the message is refused: %v", err)
			}
		})
	}
}

// FuzzPayload: no text stops a node, and what is named is a CID.
func FuzzPayload(f *testing.F) {
	for _, tt := range read(f).Payloads {
		f.Add([]byte(tt.Text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := archive.ParsePayload(raw)
		if err != nil {
			return
		}
		if p.File != "" {
			again, err := archive.ParsePayload([]byte(archive.Reference(p.File)))
			if err != nil || again.File != p.File || p.File.Type() != message.IPFS {
				t.Errorf("reference to %q reads back as %q, %v", p.File, again.File, err)
			}
		}
		for _, m := range p.Messages {
			if !json.Valid(m) {
				t.Errorf("message %q is no JSON", m)
			}
		}
	})
}

// FuzzArchive: what is read is JSON, and as much as was bounded.
func FuzzArchive(f *testing.F) {
	v := read(f)
	f.Add([]byte(v.Archive.Text))
	for _, tt := range v.Payloads {
		f.Add([]byte(tt.Text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		messages, err := archive.Parse(raw)
		if err != nil {
			return
		}
		for _, m := range messages {
			if !json.Valid(m) {
				t.Errorf("message %q is no JSON", m)
			}
		}
	})
}

// FuzzEvent: what a contract says is a message with the hash of its content, or is
// refused; a file that is to be kept is in the content.
func FuzzEvent(f *testing.F) {
	for _, tt := range read(f).Events {
		f.Add(tt.Sender, tt.Timestamp, tt.Msgtype, tt.Msgcontent)
	}
	f.Fuzz(func(t *testing.T, sender string, at int64, typ, content string) {
		m, err := archive.Event{Chain: message.Ethereum, Sender: sender, At: time.Unix(at, 0), Type: typ, Content: content}.Message(time.Unix(1, 0))
		if err != nil {
			return
		}
		if m.ItemHash != message.HashOf([]byte(m.ItemContent)) {
			t.Errorf("hash %s is not that of %q", m.ItemHash, m.ItemContent)
		}
		if typ != "STORE_IPFS" {
			return
		}
		var store struct {
			Time     float64          `json:"time"`
			ItemHash message.ItemHash `json:"item_hash"`
		}
		if err := json.Unmarshal([]byte(m.ItemContent), &store); err != nil || string(store.ItemHash) != content || int64(store.Time) != at {
			t.Errorf("content %s, %v, does not ask for %q at %d", m.ItemContent, err, content, at)
		}
	})
}
