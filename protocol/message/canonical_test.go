package message_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestCanonicalIsOneFormOfADocument(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{` { "b" : 1 , "a" : [ 1, 2.0, -0, 1e2 ] } `, `{"a":[1,2.0,0,100.0],"b":1}`},
		{`{"é":"\u00e9","z":"\u0001\n\/","Z":null}`, `{"Z":null,"z":"\u0001\n/","é":"é"}`},
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`"<&>"`, `"<&>"`},
		{`[1e16,1e-7,0.00001,123456789012345678901]`, `[1e16,1e-7,0.00001,123456789012345678901]`},
		{`"\ud83d\ude00"`, `"😀"`},
		{`true`, `true`},
	} {
		got, err := message.Canonical([]byte(tt.raw))
		if err != nil || string(got) != tt.want {
			t.Errorf("Canonical(%s) = %s, %v, want %s", tt.raw, got, err, tt.want)
		}
	}
	for _, raw := range []string{"", "NaN", `{"a":}`, `[1]x`, `"\ud800"`, "\"\xff\"", strings.Repeat("[", 2000)} {
		if got, err := message.Canonical([]byte(raw)); err == nil {
			t.Errorf("Canonical(%.20q) = %s, want an error", raw, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"b":1,"a":[1.50,-0,"\u00e9"]}`, `{"a":1,"a":{}}`, `1e400`, `"\ud800"`, `[[]]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := message.Canonical(raw)
		if err != nil {
			return
		}
		if !json.Valid(once) {
			t.Fatalf("%q became %q, which is no JSON", raw, once)
		}
		twice, err := message.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q, and that %q, %v", raw, once, twice, err)
		}
	})
}
