package message_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func types() []message.Type {
	return []message.Type{
		message.TypePost, message.TypeAggregate, message.TypeStore, message.TypeProgram, message.TypeInstance,
		message.TypeForget, message.TypeVProgram,
	}
}

// FuzzContent: no content stops a node, and both forms of what is accepted read
// back as the same content.
func FuzzContent(f *testing.F) {
	for _, tt := range readVectors[exactCase](f, "contents.json") {
		for i, typ := range types() {
			if typ == tt.Type {
				f.Add(byte(i), []byte(tt.Content))
			}
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, raw []byte) {
		e := &message.Envelope{Type: types()[int(typ)%len(types())], Sender: "0xS", ItemType: message.Storage}
		c, err := message.ParseContent(e, raw)
		if err != nil {
			var rejected *message.RejectError
			if !errors.As(err, &rejected) {
				t.Fatalf("error is %T, want *RejectError", err)
			}
			return
		}
		if !json.Valid(message.Model(c)) {
			t.Fatalf("model is not JSON: %s", message.Model(c))
		}
		stable(t, e.Type, c, "")
		v := &message.View{Envelope: e, Content: raw}
		for _, format := range []message.ContentFormat{message.ContentFull, message.ContentHeaders} {
			if listed, err := v.AppendListed(nil, format); err != nil || !json.Valid(listed) {
				t.Fatalf("listed as %s, %v", listed, err)
			}
		}
		if single, err := v.AppendSingle(nil); err != nil || !json.Valid(single) {
			t.Fatalf("shown as %s, %v", single, err)
		}
	})
}

// FuzzScan: what is read as JSON is JSON to others, and no valid text of usual
// depth is refused but for halves of surrogate pairs and endless numbers.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e-3,"\u00e9\ud83d\ude00"]}`, `"\ud800"`, `1e999`, `[[[]]]`, ` {"a" : null } `, `01`, `-`, `"`, `{"a"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var a message.Aggregate
		text := append(append([]byte(`{"address":"0xA","time":1,"key":"k","content":{"c":`), raw...), `}}`...)
		err := a.UnmarshalJSON(text)
		if err == nil && !json.Valid(text) {
			t.Fatalf("%q is accepted", raw)
		}
		if err != nil {
			return
		}
		var mine, theirs struct{ Content any }
		if err := json.Unmarshal(message.Model(&a), &mine); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &theirs); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(theirs, mine) { // cmp takes seconds for deep nests
			t.Fatalf("%q is written as %s", raw, message.Model(&a))
		}
	})
}
