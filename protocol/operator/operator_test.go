package operator_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

const (
	devKey = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
	target = "/api/v1/jobs/6e30/logs?follow=1"
	nonce  = "0123456789abcdef"
)

func header(t testing.TB, expires time.Time) string {
	t.Helper()
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	h, err := operator.Sign(key, "GET", target, expires, nonce)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHeaderIsAsWritten pins the form that other clients must write.
func TestHeaderIsAsWritten(t *testing.T) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(header(t, time.Unix(1700000300, 0)), "Aleph "))
	if err != nil {
		t.Fatal(err)
	}

	const want = `{"address":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266","expires":1700000300,"nonce":"0123456789abcdef","signature":"0x`
	if !strings.HasPrefix(string(raw), want) {
		t.Errorf("header holds %s, want %s...", raw, want)
	}
}

func TestVerify(t *testing.T) {
	expires := time.Unix(1700000300, 0)
	tests := []struct {
		name           string
		method, target string
		now            time.Time
		want           string // a part of the error; "" means valid
	}{
		{"as signed", "GET", target, expires.Add(-time.Minute), ""},
		{"at the edge of the window", "GET", target, expires.Add(-operator.MaxAhead), ""},
		{"expired", "GET", target, expires, "expired"},
		{"too far ahead", "GET", target, expires.Add(-operator.MaxAhead - time.Second), "ahead of"},
		{"another method", "POST", target, expires.Add(-time.Minute), "not by"},
		{"another target", "GET", target + "x", expires.Add(-time.Minute), "not by"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := operator.Parse(header(t, expires))
			if err != nil {
				t.Fatal(err)
			}

			err = r.Verify(tt.method, tt.target, tt.now)

			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Verify: %v, want %q", err, tt.want)
			}
		})
	}
}

func encode(raw string) string {
	return "Aleph " + base64.RawURLEncoding.EncodeToString([]byte(raw))
}

func TestParseRefuses(t *testing.T) {
	const address = `"address":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"`
	tests := []struct{ name, header, want string }{
		{"nothing", "", "not of the form"},
		{"another scheme", "Bearer x", "not of the form"},
		{"endless", "Aleph " + strings.Repeat("a", 2000), "2006 characters"},
		{"not base64", "Aleph !!", "not base64url"},
		{"not JSON", encode("x"), "does not hold a request"},
		{"no address", encode(`{"nonce":"0123456789"}`), "address"},
		{"short nonce", encode(`{` + address + `,"nonce":"1"}`), "nonce has 1"},
		{"nonce of two lines", encode(`{` + address + `,"nonce":"01234567\n9"}`), "one line"},
		{"long signature", encode(`{` + address + `,"nonce":"0123456789","signature":"` + strings.Repeat("0", 133) + `"}`), "signature has 133"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := operator.Parse(tt.header); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestForeignAndMalformedSignaturesAreRefused(t *testing.T) {
	r, err := operator.Parse(header(t, time.Unix(1700000300, 0)))
	if err != nil {
		t.Fatal(err)
	}
	r.Signature = "0x12"
	if err := r.Verify("GET", target, time.Unix(1700000200, 0)); err == nil {
		t.Error("a truncated signature was accepted")
	}
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Sign(key, "GET", target, time.Unix(1, 0), "x"); err == nil {
		t.Error("a nonce of one character was signed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(header(f, time.Unix(1700000300, 0)))
	f.Add("Aleph e30=")
	f.Fuzz(func(t *testing.T, h string) {
		r, err := operator.Parse(h)
		if err != nil {
			return
		}
		if err := r.Verify("GET", "/other", time.Unix(1700000200, 0)); err == nil {
			t.Fatalf("header %q proves a request that nobody signed", h)
		}
	})
}
