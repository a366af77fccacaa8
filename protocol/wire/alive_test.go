package wire_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const aliveP2P = `{"address":"/ip4/51.159.57.71/tcp/4025/p2p/QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV","interests":null,"peer_type":"P2P","version":"v0.5.8"}`

func TestAliveIsAsTheNetworkWritesIt(t *testing.T) {
	want := wire.NewAlive(wire.PeerP2P, "/ip4/51.159.57.71/tcp/4025/p2p/QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV", "v0.5.8")
	raw, err := json.Marshal(want)
	if err != nil || string(raw) != aliveP2P {
		t.Errorf("alive %s, %v; want %s", raw, err, aliveP2P)
	}

	got, err := wire.ParseAlive([]byte(aliveP2P))
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("alive (-want +got):\n%s", diff)
	}
	if a := wire.NewAlive(wire.PeerHTTP, "http://a", ""); a.Version == "" {
		t.Error("a word has no version, which the reference wants")
	}
}

func TestAliveBounds(t *testing.T) {
	for _, raw := range []string{
		``, `[]`, `{}`, `{"peer_type":"SMTP","address":"a"}`, `{"peer_type":"P2P"}`, `{"peer_type":"P2P","address":7}`,
		`{"peer_type":"P2P","address":"` + strings.Repeat("a", 1025) + `"}`,
		`{"peer_type":"P2P","address":"a","version":"` + strings.Repeat("a", 257) + `"}`,
		`{"peer_type":"P2P","address":"a","more":"` + strings.Repeat("a", wire.MaxAlive) + `"}`,
	} {
		if _, err := wire.ParseAlive([]byte(raw)); err == nil {
			t.Errorf("alive %.80s accepted, want an error", raw)
		}
	}
}

// What Python's urllib.parse.unquote answers.
func TestUnquoteIsTheReferences(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "plain": "plain", "100%": "100%", "%4": "%4", "%zz": "%zz", "%41%42": "AB", "a%2Fb": "a/b", "%C3%A9": "é",
		"%C3": "\uFFFD", "é%C3%A9": "éé", "%%41": "%A", "%25%34%31": "%41", "%C3é": "\uFFFDé", `{"a":"%22"}`: `{"a":"""}`,
	} {
		if got := wire.Unquote([]byte(raw)); string(got) != want {
			t.Errorf("Unquote(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestQuotedSurvivesUnquote(t *testing.T) {
	for _, text := range []string{"", "100%", "%41", `\%41`, "%%41%", "%25"} {
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := json.Unmarshal(wire.Unquote(wire.Quote(raw)), &got); err != nil || got != text {
			t.Errorf("%q arrives as %q, %v", text, got, err)
		}
	}
}

func FuzzParseAlive(f *testing.F) {
	f.Add([]byte(aliveP2P))
	f.Add([]byte(`{"address":"http://51.159.57.71:4024","interests":null,"peer_type":"HTTP","version":"v0.5.8"}`))
	f.Add([]byte(`{"address":"","interests":[1],"peer_type":"IPFS","version":""}`))
	f.Add([]byte(`{"peer_type":"P2P","peer_type":"HTTP","address":"a"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := wire.ParseAlive(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("alive of %q does not encode: %v", raw, err)
		}
		if len(again) > wire.MaxAlive {
			return // escapes can make it longer
		}
		b, err := wire.ParseAlive(again)
		if err != nil || b.Address != a.Address || b.PeerType != a.PeerType || b.Version != a.Version {
			t.Errorf("%q reads back as %+v, %v; want %+v", raw, b, err, a)
		}
	})
}

func FuzzUnquote(f *testing.F) {
	f.Add([]byte(`{"item_content":"100%41 é%C3"}`))
	f.Add([]byte("%%%25\xff%ff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := wire.Unquote(raw)
		if utf8.Valid(raw) && !utf8.Valid(got) {
			t.Errorf("Unquote(%q) = %q is not UTF-8", raw, got)
		}
		quoted := wire.Quote(raw)
		if !bytes.Equal(wire.Unquote(quoted), quoted) {
			t.Errorf("Unquote changes %q, which is quoted", quoted)
		}
		var before, after any
		if json.Unmarshal(raw, &before) == nil {
			if err := json.Unmarshal(quoted, &after); err != nil || !cmp.Equal(before, after) {
				t.Errorf("%q is %v quoted, %v, and %v not", raw, after, err, before)
			}
		}
	})
}
