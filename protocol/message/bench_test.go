package message_test

import (
	"encoding/json"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// plain is an envelope and the fields of a content as encoding/json alone reads
// them, with no rule checked: what Parse is measured against.
type plain struct {
	Sender, Chain, Signature, Type string
	ItemContent                    string  `json:"item_content"`
	ItemType                       string  `json:"item_type"`
	ItemHash                       string  `json:"item_hash"`
	Time                           float64 `json:"time"`
	Channel                        string  `json:"channel"`
}

type plainPost struct {
	Address string          `json:"address"`
	Time    float64         `json:"time"`
	Type    string          `json:"type"`
	Ref     any             `json:"ref"`
	Content json.RawMessage `json:"content"`
}

type plainInstance struct {
	Address        string                     `json:"address"`
	Time           float64                    `json:"time"`
	AllowAmend     bool                       `json:"allow_amend"`
	Metadata       map[string]json.RawMessage `json:"metadata"`
	AuthorizedKeys []string                   `json:"authorized_keys"`
	Variables      map[string]string          `json:"variables"`
	Environment    message.Environment        `json:"environment"`
	Resources      message.Resources          `json:"resources"`
	Payment        *message.Payment           `json:"payment"`
	Requirements   *message.Requirements      `json:"requirements"`
	Volumes        []json.RawMessage          `json:"volumes"`
	Replaces       *string                    `json:"replaces"`
	Rootfs         message.Rootfs             `json:"rootfs"`
}

// publicMessage returns a message of the vectors as a client submits it.
func publicMessage(b *testing.B, name string) []byte {
	b.Helper()
	for _, c := range readVectors[wholeCase](b, "messages.json") {
		if c.Name != name {
			continue
		}
		e := new(message.Envelope)
		if err := json.Unmarshal(c.Message, e); err != nil {
			b.Fatal(err)
		}
		raw, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		return raw
	}
	b.Fatalf("no message %s", name)
	return nil
}

func benchParse[T any](b *testing.B, name string) {
	b.Helper()
	raw := publicMessage(b, name)
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := message.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			var e plain
			if err := json.Unmarshal(raw, &e); err != nil {
				b.Fatal(err)
			}
			var content T
			if err := json.Unmarshal([]byte(e.ItemContent), &content); err != nil {
				b.Fatal(err)
			}
			if string(message.HashOf([]byte(e.ItemContent))) != e.ItemHash {
				b.Fatal("hash differs")
			}
		}
	})
}

func BenchmarkParsePost(b *testing.B)     { benchParse[plainPost](b, "post") }
func BenchmarkParseInstance(b *testing.B) { benchParse[plainInstance](b, "instance-gpu-payg") }

func BenchmarkView(b *testing.B) {
	for _, name := range []string{"post", "instance-gpu-payg"} {
		e, err := message.Parse(publicMessage(b, name))
		if err != nil {
			b.Fatal(err)
		}
		v := &message.View{Envelope: e, Content: []byte(e.ItemContent)}
		var buf []byte
		b.Run(name+"/single", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = v.AppendSingle(buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/listed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = v.AppendListed(buf[:0], message.ContentFull); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
