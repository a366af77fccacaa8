package message_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestLabels(t *testing.T) {
	hash := message.HashOf(nil)
	text := func(s string) *string { return &s }
	credit := message.PayCredit
	tests := []struct {
		name string
		typ  message.Type
		raw  string
		want message.Labels
	}{
		{"post", message.TypePost, `{"address":"A","time":1,"type":"t","ref":"R","content":{"tags":["a",1,"b"]}}`, message.Labels{Type: text("t"), Ref: text("R"), Tags: []string{"a", "b"}}},
		{"post without tags", message.TypePost, `{"address":"A","time":1,"type":"t","content":"tags"}`, message.Labels{Type: text("t")}},
		{"post with tags that are none", message.TypePost, `{"address":"A","time":1,"type":"t","content":{"tags":"a"}}`, message.Labels{Type: text("t")}},
		{"aggregate", message.TypeAggregate, `{"address":"A","time":1,"key":"k","content":{"tags":["a"]}}`, message.Labels{Key: text("k"), Tags: []string{"a"}}},
		{"old aggregate", message.TypeAggregate, `{"address":"A","time":1,"key":{"name":"k"},"content":{}}`, message.Labels{Key: text("k")}},
		{"store", message.TypeStore, `{"address":"A","time":1,"item_type":"storage","item_hash":"HASH","ref":"r","tags":["a"],"payment":{"type":"credit"}}`, message.Labels{Ref: text("r"), File: &hash, Payment: &credit, Tags: []string{"a"}}},
		{"forget", message.TypeForget, `{"address":"A","time":1,"hashes":["HASH"]}`, message.Labels{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := message.ParseContent(&message.Envelope{Type: tt.typ, ItemType: message.Inline}, []byte(strings.ReplaceAll(tt.raw, "HASH", string(hash))))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, message.LabelsOf(c)); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}
