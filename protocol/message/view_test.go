package message_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type viewCase struct {
	Name          string
	Envelope      json.RawMessage
	Content       *string
	Confirmations []message.Confirmation
	Received      time.Time
	Single        string
	Listed        string
	Pending       string
	Forgotten     string
}

// view decodes a case. Today's rules do not matter to a list, which shows what
// was taken in.
func (c *viewCase) view(t *testing.T) *message.View {
	t.Helper()
	e := new(message.Envelope)
	if err := json.Unmarshal(c.Envelope, e); err != nil {
		t.Fatal(err)
	}
	v := &message.View{Envelope: e, Content: []byte(e.ItemContent), Confirmations: c.Confirmations}
	if c.Content != nil {
		v.Content = []byte(*c.Content)
	}
	return v
}

// remains decodes what is left of an inline message without its content.
func (c *viewCase) remains(t *testing.T) *message.Envelope {
	t.Helper()
	var e struct {
		Sender    string
		Chain     message.Chain
		Signature string
		Type      message.Type
		ItemType  message.ItemType `json:"item_type"`
		ItemHash  message.ItemHash `json:"item_hash"`
		Time      time.Time
		Channel   *string
	}
	if err := json.Unmarshal(c.Envelope, &e); err != nil {
		t.Fatal(err)
	}
	return &message.Envelope{
		Sender: e.Sender, Chain: e.Chain, Signature: e.Signature, Type: e.Type, ItemType: e.ItemType, ItemHash: e.ItemHash,
		Time: e.Time, Channel: e.Channel,
	}
}

func TestViewVectors(t *testing.T) {
	for _, tt := range readVectors[viewCase](t, "view.json") {
		t.Run(tt.Name, func(t *testing.T) {
			if tt.Forgotten != "" {
				got := (&message.Skeleton{Envelope: tt.remains(t)}).Append([]byte("["))
				sameText(t, "forgotten", got, nil, tt.Forgotten)
				return
			}
			v := tt.view(t)
			if tt.Single != "" {
				got, err := v.AppendSingle([]byte("["))
				sameText(t, "single", got, err, tt.Single)
			}
			if tt.Listed != "" {
				got, err := v.AppendListed([]byte("["), message.ContentFull)
				sameText(t, "listed", got, err, tt.Listed)
			}
			if tt.Pending != "" {
				got, err := v.AppendPending([]byte("["), tt.Received)
				sameText(t, "pending", got, err, tt.Pending)
			}
		})
	}
}

// sameText wants what was appended to a bracket.
func sameText(t *testing.T, form string, got []byte, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	if string(got) != "["+want {
		t.Errorf("%s\n got %s\nwant %s", form, got[1:], want)
	}
}

func TestPendingMessagesShowTheContentThatIsHere(t *testing.T) {
	at := time.Unix(1, 0)
	v := &message.View{Envelope: &message.Envelope{ItemType: message.Inline, Time: at}, Content: []byte(`{"bb":1,"a":2}`)}
	got, err := v.AppendPending(nil, at)
	if want := `"time":"1970-01-01T00:00:01Z","channel":null,"content":{"a":2,"bb":1},"reception_time":"1970-01-01T00:00:01Z"}`; err != nil || !strings.HasSuffix(string(got), want) {
		t.Errorf("pending is %s, %v; want the end %s", got, err, want)
	}
	v.Content = []byte("{")
	if got, err := v.AppendPending([]byte("x"), at); err == nil || string(got) != "x" {
		t.Errorf("pending is %s, %v; want an error and nothing", got, err)
	}
}

func TestSkeletonsShowWhatIsKnown(t *testing.T) {
	owner, pay, size, at := "0xO", message.PayCredit, int64(5), time.UnixMicro(1_500_000)
	s := &message.Skeleton{Envelope: &message.Envelope{}, Owner: &owner, PaymentType: &pay, SizeBytes: &size, ForgottenAt: &at}
	got := string(s.Append(nil))
	if want := `"owner":"0xO","payment_type":"credit","size":5,"forgotten_at":1.5}`; !strings.HasSuffix(got, want) {
		t.Errorf("skeleton is %s, want the end %s", got, want)
	}
}

func TestListsShowAsMuchOfAContentAsIsAsked(t *testing.T) {
	hash := string(message.HashOf(nil))
	tests := []struct {
		typ     message.Type
		content string
		headers string
	}{
		{message.TypePost, `{"type":"t","ref":"r","content":1,"address":"0xA","time":1}`, `{"address":"0xA","ref":"r","type":"t"}`},
		{message.TypePost, `{"type":"t","ref":null,"address":"0xA","time":1}`, `{"address":"0xA","type":"t"}`},
		{message.TypeAggregate, `{"key":"k","content":{},"address":"0xA","time":1}`, `{"address":"0xA","key":"k"}`},
		{message.TypeStore, `{"item_hash":"` + hash + `","item_type":"storage","address":"0xA","time":1}`, `{"address":"0xA","item_hash":"` + hash + `"}`},
		{message.TypeForget, `{"hashes":[],"address":"0xA","time":1}`, `{"address":"0xA"}`},
	}
	for _, tt := range tests {
		v := &message.View{
			Envelope: &message.Envelope{Type: tt.typ, Chain: "ETH", ItemType: message.Inline, ItemContent: tt.content},
			Content:  []byte(tt.content),
		}
		none, err := v.AppendListed(nil, message.ContentNone)
		if err != nil {
			t.Fatal(err)
		}
		headers, err := v.AppendListed(nil, message.ContentHeaders)
		if err != nil {
			t.Fatal(err)
		}
		var shown struct{ Content json.RawMessage }
		if err := json.Unmarshal(headers, &shown); err != nil || string(shown.Content) != tt.headers {
			t.Errorf("headers of %s are %s, %v; want %s", tt.content, shown.Content, err, tt.headers)
		}
		shown.Content = nil
		if err := json.Unmarshal(none, &shown); err != nil || shown.Content != nil {
			t.Errorf("without content %s is shown, %v", shown.Content, err)
		}
	}
}

func TestViewsOfBrokenContentsFail(t *testing.T) {
	for _, itemType := range []message.ItemType{message.Inline, message.Storage} {
		v := &message.View{Envelope: &message.Envelope{Type: message.TypePost, ItemType: itemType}, Content: []byte(`{`)}
		if got, err := v.AppendSingle([]byte("x")); err == nil || string(got) != "x" {
			t.Errorf("single gave %s, %v; want an error and nothing", got, err)
		}
		if got, err := v.AppendListed([]byte("x"), message.ContentFull); err == nil || string(got) != "x" {
			t.Errorf("listed gave %s, %v; want an error and nothing", got, err)
		}
	}
	v := &message.View{Envelope: &message.Envelope{Type: "X", ItemType: message.Inline}, Content: []byte(`{}`)}
	if _, err := v.AppendSingle(nil); err == nil {
		t.Error("a message of no type is shown")
	}
}
