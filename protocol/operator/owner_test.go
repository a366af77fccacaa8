package operator_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// ownerVectors is a file of golden proofs.
type ownerVectors struct {
	Clock      time.Time `json:"clock"`
	Domain     string    `json:"domain"`
	Ethereum   string    `json:"eth_address"`
	Solana     string    `json:"sol_address"`
	ByEthereum string    `json:"x_signed_pubkey_eth"`
	BySolana   string    `json:"x_signed_pubkey_sol"`
	Expired    string    `json:"x_signed_pubkey_eth_expired"`
	Operations []struct {
		Method    string `json:"method"`
		Path      string `json:"path"`
		Operation string `json:"x_signed_operation"`
	} `json:"operations"`
}

func readVectors[T any](tb testing.TB, name string) T {
	tb.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestOwnersAreKnown(t *testing.T) {
	v := readVectors[ownerVectors](t, "owner.json")
	if len(v.Operations) == 0 {
		t.Fatal("no operations")
	}
	seen := map[[32]byte]bool{}
	for _, op := range v.Operations {
		for _, by := range []struct{ key, address string }{{v.ByEthereum, v.Ethereum}, {v.BySolana, v.Solana}} {
			proof := operator.Proof{PubKey: by.key, Operation: op.Operation}

			owner, err := proof.Verify(operator.Target{Domain: v.Domain, Method: op.Method, Path: op.Path}, v.Clock)
			if err != nil {
				t.Fatalf("%s %s: %v", op.Method, op.Path, err)
			}
			if owner.Address != by.address {
				t.Errorf("%s %s is of %s, want %s", op.Method, op.Path, owner.Address, by.address)
			}
			seen[owner.Operation] = true
			socket, err := operator.ParseSocketProof([]byte(`{"auth":{"X-SignedPubKey":` + by.key + `,"X-SignedOperation":` + op.Operation + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			if owner, err = socket.VerifySocket(v.Domain, v.Clock); err != nil || owner.Address != by.address {
				t.Errorf("by WebSocket: %v, %v", owner, err)
			}
		}
	}
	if len(seen) != len(v.Operations) {
		t.Errorf("%d operations have %d hashes", len(v.Operations), len(seen))
	}
}

// change returns a header with another value in it.
func change(tb testing.TB, header, name, value string) string {
	tb.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(header), &fields); err != nil {
		tb.Fatal(err)
	}
	if fields[name] = value; value == "" {
		delete(fields, name)
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

func TestOwnersAreRefusedInTheirWords(t *testing.T) {
	v := readVectors[ownerVectors](t, "owner.json")
	op := v.Operations[0]
	target := operator.Target{Domain: v.Domain, Method: op.Method, Path: op.Path}
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	tests := []struct {
		name      string
		proof     operator.Proof
		target    operator.Target
		at        time.Duration // After the clock.
		want      string
		malformed bool
	}{
		{"nothing", operator.Proof{}, target, 0, "Missing X-SignedPubKey header", true},
		{"key not JSON", operator.Proof{PubKey: "x", Operation: op.Operation}, target, 0, "Invalid X-SignedPubKey format", true},
		{"key of another form", operator.Proof{PubKey: "[]"}, target, 0, "Invalid X-SignedPubKey data", true},
		{"key without payload", operator.Proof{PubKey: change(t, v.ByEthereum, "payload", "")}, target, 0, "Invalid X-SignedPubKey data", true},
		{"key not hex", operator.Proof{PubKey: change(t, v.ByEthereum, "signature", "0xz")}, target, 0, "Invalid X-SignedPubKey data", true},
		{"key endless", operator.Proof{PubKey: `"` + strings.Repeat("0", 9000) + `"`}, target, 0, "Invalid X-SignedPubKey data", true},
		{"key expired", operator.Proof{PubKey: v.Expired}, target, 0, "Token expired", false},
		{"key expired and forged", operator.Proof{PubKey: change(t, v.Expired, "signature", "00")}, target, 0, "Token expired", false},
		{"key forged", operator.Proof{PubKey: change(t, v.ByEthereum, "signature", "0x"+zeros+zeros+"1b")}, target, 0, "Invalid signature", false},
		{"key forged, short", operator.Proof{PubKey: change(t, v.BySolana, "signature", "00")}, target, 0, "Invalid signature", false},
		{"no operation", operator.Proof{PubKey: v.ByEthereum}, target, 0, "Missing X-SignedOperation header", true},
		{"operation not JSON", operator.Proof{PubKey: v.ByEthereum, Operation: "{"}, target, 0, "Invalid X-SignedOperation format", true},
		{"operation not hex", operator.Proof{PubKey: v.ByEthereum, Operation: change(t, op.Operation, "payload", "zz")}, target, 0, "Invalid X-SignedOperation fields", true},
		{"operation of another method", operator.Proof{PubKey: v.ByEthereum, Operation: change(t, op.Operation, "payload", "7b7d")}, target, 0, "Invalid X-SignedOperation fields", true},
		{"operation late", operator.Proof{PubKey: v.ByEthereum, Operation: op.Operation}, target, 3 * time.Minute, "Invalid X-SignedOperation fields", true},
		{"operation early", operator.Proof{PubKey: v.ByEthereum, Operation: op.Operation}, target, -4 * time.Minute, "Invalid X-SignedOperation fields", true},
		{
			"another node",
			operator.Proof{PubKey: v.ByEthereum, Operation: op.Operation},
			operator.Target{Domain: "b", Method: op.Method, Path: "/"},
			0,
			"Invalid domain: Signed: 'crn.example.org' != Request: 'b'", false,
		},
		{
			"another path",
			operator.Proof{PubKey: v.ByEthereum, Operation: op.Operation},
			operator.Target{Domain: v.Domain, Method: "GET", Path: "/b"},
			0,
			"Invalid path. Signed: '" + op.Path + "' !=  requested path: '/b'", false,
		},
		{
			"another method",
			operator.Proof{PubKey: v.ByEthereum, Operation: op.Operation},
			operator.Target{Domain: v.Domain, Method: "GET", Path: op.Path},
			0,
			"Invalid method. Signed: 'POST' !=  request:'GET", false,
		},
		{"operation forged", operator.Proof{PubKey: v.ByEthereum, Operation: change(t, op.Operation, "signature", zeros+zeros)}, target, 0, "Signature could not verified", false},
		{"operation forged, short", operator.Proof{PubKey: v.ByEthereum, Operation: change(t, op.Operation, "signature", "00")}, target, 0, "Signature could not verified", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.proof.Verify(tt.target, v.Clock.Add(tt.at))

			var refusal *operator.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != tt.want || refusal.Malformed != tt.malformed {
				t.Errorf("Verify: %#v, want %q", err, tt.want)
			}
		})
	}
}

func TestFirstMessagesAreRefused(t *testing.T) {
	tests := []struct{ name, frame, want string }{
		{"not JSON", "x", "not a JSON object"},
		{"endless", strings.Repeat(" ", 20000), "at most"},
		{"no proof", `{}`, "missing 'auth' key in message"},
		{"null", `{"auth":null}`, "missing 'auth' key in message"},
		{"of another form", `{"auth":"x"}`, "Invalid format for auth packet"},
	}
	for _, tt := range tests {
		if _, err := operator.ParseSocketProof([]byte(tt.frame)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	v := readVectors[ownerVectors](t, "owner.json")
	proof := operator.Proof{PubKey: v.ByEthereum, Operation: v.Operations[0].Operation}
	if _, err := proof.VerifySocket("b", v.Clock); err == nil || !strings.Contains(err.Error(), "Invalid domain") {
		t.Errorf("for another node: %v", err)
	}
}

func FuzzProof(f *testing.F) {
	v := readVectors[ownerVectors](f, "owner.json")
	f.Add(v.ByEthereum, v.Operations[0].Operation)
	f.Add(v.BySolana, v.Operations[1].Operation)
	f.Add(v.Expired, "{}")
	f.Fuzz(func(t *testing.T, key, op string) {
		proof := operator.Proof{PubKey: key, Operation: op}
		owner, err := proof.Verify(operator.Target{Domain: v.Domain, Method: "POST", Path: "/nobody/signed/this"}, v.Clock)
		var refusal *operator.Refusal
		if owner != nil || !errors.As(err, &refusal) || refusal.Reason == "" {
			t.Fatalf("%q and %q prove %v, %v", key, op, owner, err)
		}
		socket, err := operator.ParseSocketProof([]byte(`{"auth":{"X-SignedPubKey":` + key + `,"X-SignedOperation":` + op + `}}`))
		if err != nil {
			return
		}
		owner, err = socket.VerifySocket(v.Domain, v.Clock)
		if err == nil && owner.Address != v.Ethereum && owner.Address != v.Solana {
			t.Fatalf("%q and %q are of %v", key, op, owner)
		}
	})
}
