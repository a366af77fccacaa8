package message_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type exactCase struct {
	Name    string
	Type    message.Type
	Content string // exact text
	Model   string
	Wire    string
	Detail  string
}

// parseAs reads a content of a type. What is not inline takes the same rules
// after its owner and time are filled in.
func parseAs(t message.Type, content string) (message.Content, error) {
	e := &message.Envelope{Type: t, ItemType: message.Inline, ItemContent: content}
	return e.Content()
}

func TestContentVectors(t *testing.T) {
	for _, tt := range readVectors[exactCase](t, "contents.json") {
		t.Run(tt.Name, func(t *testing.T) {
			c, err := parseAs(tt.Type, tt.Content)
			if tt.Detail != "" {
				wantReject(t, err, message.CodeInvalidFormat, tt.Detail)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(message.Model(c)); got != tt.Model {
				t.Errorf("model\n got %s\nwant %s", got, tt.Model)
			}
			stable(t, tt.Type, c, tt.Wire)
		})
	}
}

// stable wants both forms of a content to read back as the same content.
func stable(t *testing.T, typ message.Type, c message.Content, wire string) {
	t.Helper()
	own, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if wire != "" && string(own) != wire {
		t.Errorf("wire\n got %s\nwant %s", own, wire)
	}
	model := string(message.Model(c))
	for _, form := range []string{string(own), model} {
		again, err := parseAs(typ, form)
		if err != nil {
			t.Fatalf("own form is refused: %v\n%s", err, form)
		}
		if got := string(message.Model(again)); got != model {
			t.Fatalf("own form reads differently:\n%s\n%s", got, model)
		}
	}
}

func TestContentsReadThemselvesFromJSON(t *testing.T) {
	into := map[message.Type]func() json.Unmarshaler{
		message.TypePost:      func() json.Unmarshaler { return new(message.Post) },
		message.TypeAggregate: func() json.Unmarshaler { return new(message.Aggregate) },
		message.TypeProgram:   func() json.Unmarshaler { return new(message.Program) },
		message.TypeForget:    func() json.Unmarshaler { return new(message.Forget) },
		message.TypeVProgram:  func() json.Unmarshaler { return new(message.VerifiableProgram) },
	}
	for _, tt := range readVectors[exactCase](t, "contents.json") {
		fresh := into[tt.Type]
		if fresh == nil {
			continue
		}
		c := fresh()
		err := c.UnmarshalJSON([]byte(tt.Content))
		if (err == nil) != (tt.Detail == "") {
			t.Errorf("%s: %v", tt.Name, err)
		}
	}
}

type wholeCase struct {
	Name    string
	Message json.RawMessage
	Detail  string
}

// TestPublicMessages reads real messages as they are submitted and served. What
// is served with its content must have the content that its text says.
func TestPublicMessages(t *testing.T) {
	for _, tt := range readVectors[wholeCase](t, "messages.json") {
		t.Run(tt.Name, func(t *testing.T) {
			var m struct {
				Type     message.Type
				ItemHash string `json:"item_hash"`
				Content  json.RawMessage
			}
			if err := json.Unmarshal(tt.Message, &m); err != nil {
				t.Fatal(err)
			}
			c, err := readWhole(tt.Message, m.Type, m.ItemHash, m.Content)
			if tt.Detail != "" {
				wantReject(t, err, message.CodeInvalidFormat, tt.Detail)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c == nil {
				return // only its envelope is known
			}
			if m.Content != nil && m.ItemHash != "" {
				sameModel(t, m.Type, c, m.Content)
			}
			stable(t, m.Type, c, "")
			if c.Owner() == "" || c.At().IsZero() {
				t.Errorf("owner %q, time %v; want both", c.Owner(), c.At())
			}
		})
	}
}

// readWhole reads a message, or a content alone if it has no hash.
func readWhole(raw []byte, t message.Type, hash string, content []byte) (message.Content, error) {
	if hash == "" {
		return parseAs(t, string(content))
	}
	e, err := message.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case e.ItemType == message.Inline:
		return message.ParseContent(e, []byte(e.ItemContent))
	case content == nil:
		return nil, nil //nolint:nilnil // the content of this one is not known
	default:
		return message.ParseContent(e, content)
	}
}

// sameModel wants a content to be what the server showed of it.
func sameModel(t *testing.T, typ message.Type, c message.Content, served []byte) {
	t.Helper()
	s, err := parseAs(typ, string(served))
	if err != nil {
		t.Fatalf("served content: %v", err)
	}
	if got, want := string(message.Model(c)), string(message.Model(s)); got != want {
		t.Errorf("content\n got %s\nwant %s", got, want)
	}
}

func TestFileContentsTakeOwnerAndTimeFromTheEnvelope(t *testing.T) {
	e, err := message.Parse([]byte(`{"chain":"ETH","sender":"0xS","type":"POST","time":12.5,"signature":"0x","item_hash":"` +
		strings.Repeat("a", 64) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, content, filled, model string }{
		{"both are there", `{"address":"0xA","time":1,"type":"t"}`, `{"address":"0xA","time":1,"type":"t"}`, `{"address":"0xA","time":1.0,"content":null,"ref":null,"type":"t"}`},
		{"none is there", `{ "type":"t" }`, `{ "type":"t","address":"0xS","time":12.5}`, `{"address":"0xS","time":12.5,"content":null,"ref":null,"type":"t"}`},
		{"both are null", `{"address":null,"time":null,"type":"t"}`, `{"address":null,"time":null,"type":"t","address":"0xS","time":12.5}`, `{"address":"0xS","time":12.5,"content":null,"ref":null,"type":"t"}`},
		{"no time", `{"address":"","type":"t"}`, `{"address":"","type":"t","time":12.5}`, ""},
		{"nothing is there", `{}`, `{"address":"0xS","time":12.5}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			filled, err := e.Fill([]byte(tt.content))
			if err != nil || string(filled) != tt.filled {
				t.Errorf("filled %s, %v; want %s", filled, err, tt.filled)
			}
			c, err := message.ParseContent(e, []byte(tt.content))
			if tt.model == "" {
				wantReject(t, err, message.CodeInvalidFormat, "content.")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(message.Model(c)); got != tt.model {
				t.Errorf("model %s, want %s", got, tt.model)
			}
		})
	}
	_, err = message.ParseContent(e, []byte(`{"type":"t","content":"\u0000"}`))
	wantReject(t, err, message.CodeInvalidFormat, `Unsupported character in message: \u0000`)
	_, err = message.ParseContent(e, []byte(`[]`))
	wantReject(t, err, message.CodeInvalidFormat, "content is not an object")
	_, err = message.ParseContent(e, []byte(`{`))
	wantReject(t, err, message.CodeInvalidFormat, "not JSON")
	_, err = e.Content()
	wantReject(t, err, message.CodeInvalidFormat, "its content is not in it")
}

func TestPostsKnowWhatTheyReferTo(t *testing.T) {
	hash := strings.Repeat("a", 64)
	tests := []struct {
		content string
		amends  string
		target  string
	}{
		{`{"address":"0xA","time":1,"type":"t"}`, "", ""},
		{`{"address":"0xA","time":1,"type":"t","ref":"x"}`, "", "x"},
		{`{"address":"0xA","time":1,"type":"amend","ref":"x"}`, "x", "x"},
		{`{"address":"0xA","time":1,"type":"amend","ref":{"chain":"ETH","item_content":"","item_type":"inline","item_hash":"` + hash + `"}}`, hash, hash},
	}
	for _, tt := range tests {
		p, err := message.ParsePost([]byte(tt.content))
		if err != nil {
			t.Fatal(err)
		}
		amends, ok := p.Amends()
		if string(amends) != tt.amends || ok != (tt.amends != "") {
			t.Errorf("%s amends %q, %v; want %q", tt.content, amends, ok, tt.amends)
		}
		if p.Ref != nil && p.Ref.Target() != tt.target {
			t.Errorf("%s refers to %q, want %q", tt.content, p.Ref.Target(), tt.target)
		}
	}
}

func TestOldKeysAreStoredAsTheReferencePrintsThem(t *testing.T) {
	tests := map[string]string{
		"k": `name='k'`, "it's": `name="it's"`, `a"'b`: `name='a"\'b'`, "a\\\n\t\r": `name='a\\\n\t\r'`,
		"é \u00a0\u200b\U000e0001\x01": `name='é \xa0\u200b\U000e0001\x01'`,
	}
	for name, want := range tests {
		if got := (message.AggregateKey{Name: name, Object: true}).String(); got != want {
			t.Errorf("key %q is stored as %s, want %s", name, got, want)
		}
		if got := (message.AggregateKey{Name: name}).String(); got != name {
			t.Errorf("key %q is stored as %q", name, got)
		}
	}
}

func TestStoresKnowWhatTheyFollow(t *testing.T) {
	hash, tag := strings.Repeat("a", 64), "tag"
	for _, tt := range []struct {
		ref  *string
		want message.ItemHash
	}{{nil, ""}, {&tag, ""}, {&hash, message.ItemHash(hash)}} {
		s := message.Store{Ref: tt.ref}
		if got, ok := s.Follows(); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("follows %q, %v; want %q", got, ok, tt.want)
		}
		if got := s.PaymentType(); got != message.PayHold {
			t.Errorf("paid by %s, want hold", got)
		}
	}
}

func TestForgetsOfNothingHaveTheirOwnVerdict(t *testing.T) {
	hashes := []message.ItemHash{message.HashOf(nil)}
	if err := (&message.Forget{Hashes: hashes}).CheckTargets(); err != nil {
		t.Error(err)
	}
	if err := (&message.Forget{Aggregates: hashes}).CheckTargets(); err != nil {
		t.Error(err)
	}
	wantReject(t, (&message.Forget{}).CheckTargets(), message.CodeForgetNoTarget, "")
}

func TestItemHashVectors(t *testing.T) {
	type hashCase struct{ Hash, Inferred, Strict string }
	for _, tt := range readVectors[hashCase](t, "item_hash.json") {
		inferred, err := message.InferItemType(tt.Hash)
		if got := orError(string(inferred), err); got != tt.Inferred {
			t.Errorf("%s is inferred to be %s, want %s", tt.Hash, got, tt.Inferred)
		}
		h, err := message.ParseItemHash(tt.Hash)
		if got := orError(string(h.Type()), err); got != tt.Strict {
			t.Errorf("%s is %s, want %s", tt.Hash, got, tt.Strict)
		}
	}
}

func orError(s string, err error) string {
	if err != nil {
		return "error"
	}
	return s
}
