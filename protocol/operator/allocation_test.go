package operator_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

type allocationVectors struct {
	Authorization string `json:"authorization"`
	Malleated     string `json:"malleated_signature_same_payload"`
	Body          string `json:"body"`
	Clock         int64  `json:"clock_unix"`
	Method        string `json:"method"`
	Path          string `json:"path"`
	Payload       string `json:"payload_json"`
	Signer        string `json:"signer"`
	Token         string `json:"legacy_token"`
	TokenSHA256   string `json:"legacy_token_sha256"`
}

func (v *allocationVectors) request() operator.AllocationRequest {
	return operator.AllocationRequest{Method: v.Method, Path: v.Path, Length: int64(len(v.Body))}
}

func TestSchedulersAreKnown(t *testing.T) {
	v := readVectors[allocationVectors](t, "allocation.json")
	now := time.Unix(v.Clock, 0)
	replays := operator.NewReplays(2*operator.AllocationWindow, 10, 10)
	for i, header := range []string{
		v.Authorization, v.Authorization, v.Malleated,
		strings.Replace(strings.Replace(v.Authorization, "Aleph", "aLEPH", 1), ",", " , ", 1), strings.ReplaceAll(v.Authorization, "0x", ""),
	} {
		a, err := operator.ParseAllocation(header)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := a.Verify(v.request(), now)
		if err != nil || signer.Hex() != v.Signer {
			t.Errorf("header %d is of %s, %v; want %s", i, signer, err, v.Signer)
		}
		if err := a.VerifyBody([]byte(v.Body)); err != nil {
			t.Errorf("header %d: %v", i, err)
		}
		if err := a.VerifyBody([]byte(v.Body + " ")); err == nil {
			t.Error("another body was taken")
		}
		if err := replays.Take(signer.Hex(), a.Operation(), now); errors.Is(err, operator.ErrReplay) != (i > 0) {
			t.Errorf("header %d: %v; only the first is new", i, err)
		}
	}
}

func TestSchedulersAreRefused(t *testing.T) {
	v := readVectors[allocationVectors](t, "allocation.json")
	a, err := operator.ParseAllocation(v.Authorization)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*operator.AllocationRequest)
		at     time.Duration
	}{
		{"late", func(*operator.AllocationRequest) {}, 301 * time.Second},
		{"early", func(*operator.AllocationRequest) {}, -311 * time.Second},
		{"another method", func(r *operator.AllocationRequest) { r.Method = "DELETE" }, 0},
		{"another path", func(r *operator.AllocationRequest) { r.Path += "/" }, 0},
		{"a query", func(r *operator.AllocationRequest) { r.Query = "a=1" }, 0},
		{"no length", func(r *operator.AllocationRequest) { r.Length = -1 }, 0},
		{"too long", func(r *operator.AllocationRequest) { r.Length = operator.AllocationBodyMax + 1 }, 0},
	}
	for _, tt := range tests {
		r := v.request()
		tt.change(&r)
		if signer, err := a.Verify(r, time.Unix(v.Clock, 0).Add(tt.at)); err == nil {
			t.Errorf("%s: was taken for %s", tt.name, signer)
		}
	}
}

// header returns one whose payload is the text and whose signature is nonsense.
func allocationOf(payload string) string {
	return "Aleph-EIP191-V1 sig=0x00,payload=0x" + hex.EncodeToString([]byte(payload))
}

func TestParseAllocationRefuses(t *testing.T) {
	v := readVectors[allocationVectors](t, "allocation.json")
	headers := []string{
		"", "Bearer x", "Aleph-EIP191-V1", "Aleph-EIP191-V1 sig=0x00", v.Authorization + ",nonce=1", v.Authorization + ",sig=00", v.Authorization + ",",
		"Aleph-EIP191-V1 sig=,payload=0x00", "Aleph-EIP191-V1 sig=0x0,payload=0x00", "Aleph-EIP191-V1 sig=0x00,payload=0x" + strings.Repeat("0", 5000),
		allocationOf("x"), allocationOf(`{"method":"POST","path":"/","iat":1}`), allocationOf(`{"method":1,"path":"/","iat":1,"body_sha256":""}`),
	}
	for _, iat := range []string{`"1"`, "1.0", "true", "1e3", "null", "99999999999999999999"} {
		headers = append(headers, allocationOf(`{"method":"POST","path":"/","body_sha256":"","iat":`+iat+`}`))
	}
	for _, header := range headers {
		if a, err := operator.ParseAllocation(header); err == nil {
			t.Errorf("%q was read as %+v", header, a)
		}
	}
}

func TestOlderSchedulersHaveAToken(t *testing.T) {
	v := readVectors[allocationVectors](t, "allocation.json")
	var hash [sha256.Size]byte
	if _, err := hex.Decode(hash[:], []byte(v.TokenSHA256)); err != nil {
		t.Fatal(err)
	}
	empty := sha256.Sum256(nil)
	if !operator.AllocationToken(v.Token, hash) || operator.AllocationToken(v.Token+"x", hash) || operator.AllocationToken("", empty) {
		t.Error("want the token, nothing else, and never none")
	}
}

func FuzzAllocation(f *testing.F) {
	v := readVectors[allocationVectors](f, "allocation.json")
	f.Add(v.Authorization)
	f.Add(v.Malleated)
	f.Add(allocationOf(`{"method":"POST","path":"/","iat":1,"body_sha256":""}`))
	f.Fuzz(func(t *testing.T, header string) {
		a, err := operator.ParseAllocation(header)
		if err != nil {
			return
		}
		other := v.request()
		other.Path = "/nobody/signed/this"
		if signer, err := a.Verify(other, time.Unix(v.Clock, 0)); err == nil && signer.Hex() == v.Signer {
			t.Fatalf("%q proves a request that nobody signed", header)
		}
	})
}
