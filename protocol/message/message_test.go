package message_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const vectors = "../testdata/vectors/"

type envelopeCase struct {
	Name     string
	Envelope json.RawMessage
	Signing  string
	Reject   *message.Code
	Detail   string // a part of the reason
}

func readVectors[T any](tb testing.TB, name string) []T {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []T }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if len(file.Cases) == 0 {
		tb.Fatalf("%s has no cases", name)
	}
	return file.Cases
}

func wantReject(t *testing.T, err error, code message.Code, detail string) {
	t.Helper()
	var rejected *message.RejectError
	if !errors.As(err, &rejected) {
		t.Fatalf("error %v (%T), want *RejectError with code %d", err, err, code)
	}
	if rejected.Code != code {
		t.Errorf("code %d (%s), want %d", rejected.Code, rejected.Detail, code)
	}
	if !strings.Contains(rejected.Detail, detail) {
		t.Errorf("detail %q, want it to contain %q", rejected.Detail, detail)
	}
}

// TestEnvelopeVectors holds the package to the cases that every SDK shares. To
// change an expectation is to change the protocol: it takes an ADR.
func TestEnvelopeVectors(t *testing.T) {
	for _, tt := range readVectors[envelopeCase](t, "envelope.json") {
		t.Run(tt.Name, func(t *testing.T) {
			env, err := message.Parse(tt.Envelope)
			if tt.Reject != nil {
				wantReject(t, err, *tt.Reject, tt.Detail)
				return
			}
			if err != nil {
				t.Fatalf("Parse: %v, want accepted", err)
			}
			if got := string(env.SigningBytes()); got != tt.Signing {
				t.Errorf("SigningBytes = %q, want %q", got, tt.Signing)
			}
			raw, err := json.Marshal(env)
			if err != nil {
				t.Fatal(err)
			}
			again, err := message.Parse(raw)
			if err != nil {
				t.Fatalf("Parse of own JSON: %v", err)
			}
			if diff := cmp.Diff(env, again); diff != "" {
				t.Errorf("own JSON reads differently (-want +got):\n%s", diff)
			}
		})
	}
}

type contentCase struct {
	Name    string
	Content json.RawMessage
	Want    json.RawMessage // as this package writes it; absent in cases that are refused
	Detail  string
}

func TestInstanceVectors(t *testing.T) {
	for _, tt := range readVectors[contentCase](t, "instance.json") {
		t.Run(tt.Name, func(t *testing.T) {
			content, err := message.ParseInstance(tt.Content)
			if tt.Detail != "" {
				wantReject(t, err, message.CodeInvalidFormat, tt.Detail)
				return
			}
			if err != nil {
				t.Fatalf("ParseInstance: %v, want accepted", err)
			}
			sameJSON(t, content, tt.Want)
			again, err := message.ParseInstance(tt.Want)
			if err != nil {
				t.Fatalf("ParseInstance of own JSON: %v", err)
			}
			sameJSON(t, again, tt.Want)
		})
	}
}

func TestStoreVectors(t *testing.T) {
	for _, tt := range readVectors[contentCase](t, "store.json") {
		t.Run(tt.Name, func(t *testing.T) {
			content, err := message.ParseStore(tt.Content)
			if tt.Detail != "" {
				wantReject(t, err, message.CodeInvalidFormat, tt.Detail)
				return
			}
			if err != nil {
				t.Fatalf("ParseStore: %v, want accepted", err)
			}
			sameJSON(t, content, tt.Want)
		})
	}
}

func sameJSON(t *testing.T, got any, want json.RawMessage) {
	t.Helper()
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatalf("want: %v (got %s)", err, raw)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("content (-want +got):\n%s\ngot %s", diff, raw)
	}
}

func TestFormatTimeKeepsMicroseconds(t *testing.T) {
	tests := []struct {
		at   time.Time
		want string
	}{
		{time.Unix(0, 0), "0"},
		{time.Unix(1700000000, 0), "1700000000"},
		{time.UnixMicro(1700000000_100000), "1700000000.1"},
		{time.UnixMicro(1700000000_000001), "1700000000.000001"},
	}
	for _, tt := range tests {
		if got := message.FormatTime(tt.at); got != tt.want {
			t.Errorf("FormatTime(%v) = %s, want %s", tt.at, got, tt.want)
		}
	}
}
