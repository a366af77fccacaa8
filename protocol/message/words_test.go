package message_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestItemHashesAreStrict(t *testing.T) {
	const sha = "6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"
	tests := []struct {
		text string
		typ  message.ItemType // "" means refused
	}{
		{sha, message.Storage},
		{"QmYULJoNGPDmoRq4WNWTDTUvJGJv1hosox8H6vVd1kCsY8", message.IPFS},
		{"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", message.IPFS},
		{"", ""},
		{sha[1:], ""},
		{sha + "0", ""},
		{strings.ToUpper(sha), ""},
		{"0x" + sha[2:], ""},
		{"QmYULJoNGPDmoRq4WNWTDTUvJGJv1hosox8H6vVd1kCs0l", ""},
		{"bafkreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", ""},
		{"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzd1", ""},
	}
	for _, tt := range tests {
		h, err := message.ParseItemHash(tt.text)
		if (err == nil) != (tt.typ != "") {
			t.Errorf("ParseItemHash(%q): %v, want accepted: %v", tt.text, err, tt.typ != "")
			continue
		}
		if err == nil && h.Type() != tt.typ {
			t.Errorf("%q is of type %s, want %s", tt.text, h.Type(), tt.typ)
		}
		sum, ok := h.Digest()
		if ok != (tt.typ == message.Storage) {
			t.Errorf("Digest of %q: %v, want %v", tt.text, ok, tt.typ == message.Storage)
		}
		if ok && message.ItemHashOf(sum) != h {
			t.Errorf("digest of %q reads back as %s", tt.text, message.ItemHashOf(sum))
		}
	}
}

func TestItemHashInJSONIsChecked(t *testing.T) {
	var h message.ItemHash
	if err := json.Unmarshal([]byte(`"xyz"`), &h); err == nil {
		t.Error("a malformed hash was accepted")
	}
	if err := json.Unmarshal([]byte(`""`), &h); err != nil || h != "" {
		t.Errorf("empty hash: %q, %v; want the zero value", h, err)
	}
	want := message.HashOf([]byte("x"))
	if err := json.Unmarshal([]byte(`"`+string(want)+`"`), &h); err != nil || h != want {
		t.Errorf("hash %q, %v; want %q", h, err, want)
	}
}

func TestCodesHaveNamesAndKnowWhetherToRetry(t *testing.T) {
	retriable := map[message.Code]bool{-1: true, 3: true, 4: true, 101: true, 200: true, 300: true, 301: true, 501: true}
	codes := []message.Code{-1, 0, 1, 2, 3, 4, 5, 6, 100, 101, 102, 200, 201, 202, 300, 301, 302, 303, 304, 500, 501, 502, 503, 504}
	for _, c := range codes {
		if strings.HasPrefix(c.String(), "code ") {
			t.Errorf("code %d has no name", c)
		}
		if c.Retriable() != retriable[c] {
			t.Errorf("code %d retriable: %v, want %v", c, c.Retriable(), retriable[c])
		}
	}
	if got := message.Code(7).String(); got != "code 7" {
		t.Errorf("unknown code reads %q, want %q", got, "code 7")
	}
	err := message.Reject(message.CodeFileUnavailable, "no %s", "file")
	if got, want := err.Error(), "file unavailable (code 4): no file"; got != want {
		t.Errorf("error reads %q, want %q", got, want)
	}
}

func TestContentOfAnEnvelope(t *testing.T) {
	cases := readVectors[envelopeCase](t, "envelope.json")
	store, err := message.Parse(cases[0].Envelope)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := message.Parse(cases[1].Envelope)
	if err != nil {
		t.Fatal(err)
	}

	s, err := store.Store()
	if err != nil || s.ItemType != message.IPFS {
		t.Errorf("Store: %+v, %v; want a file in IPFS", s, err)
	}
	i, err := instance.Instance()
	if err != nil || i.Name() != "test-payg-base" || i.PaymentType() != message.PaySuperfluid {
		t.Errorf("Instance: %+v, %v; want test-payg-base, paid by superfluid", i, err)
	}
	_, err = store.Instance()
	wantReject(t, err, message.CodeInvalidFormat, "not an inline INSTANCE")
	_, err = instance.Store()
	wantReject(t, err, message.CodeInvalidFormat, "not an inline STORE")
}

func TestInstanceReadsItselfFromJSON(t *testing.T) {
	for _, tt := range readVectors[contentCase](t, "instance.json") {
		var i message.Instance
		err := json.Unmarshal(tt.Content, &i)
		if (err == nil) != (tt.Detail == "") {
			t.Errorf("%s: %v", tt.Name, err)
		}
	}
	unnamed := message.Instance{Executable: message.Executable{Metadata: message.Metadata{"name": json.RawMessage("5")}}}
	if got := unnamed.Name(); got != "" {
		t.Errorf("name %q, want none: it is not a text", got)
	}
	if got := unnamed.PaymentType(); got != message.PayHold {
		t.Errorf("payment %q, want hold", got)
	}
}

func TestBytesThatAreNotUTF8AreRefused(t *testing.T) {
	_, err := message.Parse([]byte("{\"type\":\"\xff\"}"))
	wantReject(t, err, message.CodeInvalidFormat, "not UTF-8")
	_, err = message.Parse(make([]byte, message.MaxEnvelopeBytes+1))
	wantReject(t, err, message.CodeInvalidFormat, "bytes")
	_, err = message.ParseStore([]byte("\xff"))
	wantReject(t, err, message.CodeInvalidFormat, "not UTF-8")
}

func TestTextSignaturesRecover(t *testing.T) {
	key, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	if err != nil {
		t.Fatal(err)
	}
	want := crypto.PubkeyToAddress(key.PublicKey)

	sig, err := message.SignText(key, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}

	if got, err := message.RecoverText([]byte("hello"), sig); err != nil || got != want {
		t.Errorf("recovered %s, %v; want %s", got, err, want)
	}
	if got, err := message.RecoverText([]byte("other"), sig); err == nil && got == want {
		t.Error("another text recovers the same signer")
	}
	if _, err := message.RecoverText([]byte("hello"), "0x"+strings.Repeat("ff", 64)+"1b"); err == nil {
		t.Error("a signature off the curve was recovered")
	}
	const digest = "50b2c43fd39106bafbba0da34fc430e1f91e3c96ea2acee2bc34119f92b37750" // eth_sign of "hello"
	if got := hex.EncodeToString(message.TextDigest([]byte("hello"))); got != digest {
		t.Errorf("digest %s, want %s", got, digest)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range readVectors[envelopeCase](f, "envelope.json") {
		if len(tt.Envelope) < 1<<14 {
			f.Add([]byte(tt.Envelope))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		env, err := message.Parse(raw)
		var rejected *message.RejectError
		if err != nil {
			if !errors.As(err, &rejected) {
				t.Fatalf("Parse returned %T, want *RejectError", err)
			}
			return
		}
		own, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		again, err := message.Parse(own)
		if err != nil {
			t.Fatalf("own JSON is refused: %v\n%s", err, own)
		}
		if diff := cmp.Diff(env, again); diff != "" {
			t.Fatalf("own JSON reads differently (-want +got):\n%s", diff)
		}
	})
}

func fuzzContent[T any](f *testing.F, vectors string, parse func([]byte) (*T, error)) {
	f.Helper()
	for _, tt := range readVectors[contentCase](f, vectors) {
		f.Add([]byte(tt.Content))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		content, err := parse(raw)
		var rejected *message.RejectError
		if err != nil {
			if !errors.As(err, &rejected) {
				t.Fatalf("error is %T, want *RejectError", err)
			}
			return
		}
		own, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(own)
		if err != nil {
			t.Fatalf("own JSON is refused: %v\n%s", err, own)
		}
		twice, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(own) != string(twice) {
			t.Fatalf("own JSON reads differently:\n%s\n%s", own, twice)
		}
	})
}

func FuzzInstance(f *testing.F) { fuzzContent(f, "instance.json", message.ParseInstance) }

func FuzzStore(f *testing.F) { fuzzContent(f, "store.json", message.ParseStore) }

func FuzzItemHash(f *testing.F) {
	f.Add("QmYULJoNGPDmoRq4WNWTDTUvJGJv1hosox8H6vVd1kCsY8")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := message.ParseItemHash(s); err == nil && string(h) != s {
			t.Fatalf("hash %q, want %q", h, s)
		}
	})
}
