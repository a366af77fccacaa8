package domain_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/domain"
)

// vectors is what the contract's tests write: what Solidity computes.
type vectors struct {
	Names []struct {
		Name     string
		Key      common.Hash
		Wildcard bool
	}
	Refused []struct {
		Name  string
		Index int
	}
	Tokens []struct {
		Key   common.Hash
		Owner common.Address
		Nonce uint32
		Token common.Hash
	}
	ChainID      int64
	Registry     common.Address
	Attestations []struct {
		Key    common.Hash
		Owner  common.Address
		Nonce  uint32
		Method uint8
		SeenAt uint64
		Digest common.Hash
	}
	Revocations []struct {
		Key      common.Hash
		Nonce    uint32
		SPKIHash common.Hash
		Evidence common.Hash
		Digest   common.Hash
	}
}

func readVectors(tb testing.TB) vectors {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/domain.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.Names) == 0 || len(v.Refused) == 0 || len(v.Tokens) == 0 || len(v.Attestations) == 0 || len(v.Revocations) == 0 {
		tb.Fatal("domain.json lacks cases")
	}
	return v
}

// TestVectors holds the words to what the contract computes.
func TestVectors(t *testing.T) {
	v := readVectors(t)
	for _, c := range v.Names {
		n, err := domain.Parse(c.Name)
		if err != nil || n.Key() != c.Key || n.IsWildcard() != c.Wildcard {
			t.Errorf("name %q: key %s, wildcard %t, %v; want %s, %t", c.Name, n.Key(), n.IsWildcard(), err, c.Key, c.Wildcard)
		}
	}
	for _, c := range v.Refused {
		_, err := domain.Parse(c.Name)
		if bad, ok := errors.AsType[*domain.NameError](err); !ok || bad.Index != c.Index {
			t.Errorf("name %q: %v, want a failure at byte %d", c.Name, err, c.Index)
		}
	}
	for _, c := range v.Tokens {
		if got := domain.Token(c.Key, c.Owner, c.Nonce); got != c.Token {
			t.Errorf("token %s, want %s", got, c.Token)
		}
	}
	chain := big.NewInt(v.ChainID)
	for _, c := range v.Attestations {
		a := domain.Attestation{Key: c.Key, Owner: c.Owner, Nonce: c.Nonce, Method: domain.Method(c.Method), SeenAt: c.SeenAt}
		if err := a.Check(); err != nil {
			t.Error(err)
		}
		if got := domain.Digest(chain, v.Registry, &a); got != c.Digest {
			t.Errorf("digest of attestation %s, want %s", got, c.Digest)
		}
	}
	for _, c := range v.Revocations {
		r := domain.Revocation{Key: c.Key, Nonce: c.Nonce, SPKIHash: c.SPKIHash, Evidence: c.Evidence}
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		if got := domain.Digest(chain, v.Registry, &r); got != c.Digest {
			t.Errorf("digest of revocation %s, want %s", got, c.Digest)
		}
	}
}

func TestNormalise(t *testing.T) {
	for text, want := range map[string]string{
		"Example.COM":         "example.com",
		"example.com.":        "example.com",
		"Bücher.example":      "xn--bcher-kva.example",
		"*.Example.com.":      "*.example.com",
		"_acme.Example.com":   "_acme.example.com",
		"例え.テスト":              "xn--r8jz45g.xn--zckzah",
		"xn--bcher-kva.de":    "xn--bcher-kva.de",
		"example。com":         "example.com",
		"ＥＸＡＭＰＬＥ.com":         "example.com",
		"straße.example":      "xn--strae-oqa.example",
		"a-b.c-d.example.org": "a-b.c-d.example.org",
	} {
		n, err := domain.Normalise(text)
		if err != nil || string(n) != want {
			t.Errorf("Normalise(%q) = %q, %v; want %q", text, n, err, want)
		}
	}
	for _, text := range []string{
		"", ".", "localhost", "a..com", "10.0.0.1", "xn--a.com", "*", "*.com", "a b.com", "*.*.example.com",
		"ab--c.com", "0.\x86", strings.Repeat("a.", 200) + "com", strings.Repeat("ä", 2000) + ".com",
	} {
		if n, err := domain.Normalise(text); err == nil {
			t.Errorf("Normalise(%q) = %q, want an error", text, n)
		}
	}
}

func TestNameParts(t *testing.T) {
	n, err := domain.Parse("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if n.Base() != "example.com" || n.ControlHost() != "_control.example.com" {
		t.Errorf("base %s, control host %s", n.Base(), n.ControlHost())
	}
	if _, err := domain.Parse("A.com"); err == nil || !strings.Contains(err.Error(), "byte 0") {
		t.Errorf("got %v, want the byte named", err)
	}
}

func TestRecords(t *testing.T) {
	owner := common.HexToAddress("0x5B38Da6a701c568545dCfcB03FcB875f56beddC4")
	token := common.HexToHash("0x01ff")
	for text, want := range map[string]domain.Record{
		"0x5B38Da6a701c568545dCfcB03FcB875f56beddC4":                                                           {Owner: owner},
		" 0x5b38da6a701c568545dcfcb03fcb875f56beddc4 ":                                                         {Owner: owner},
		"aleph-v=1; o=0x5B38Da6a701c568545dCfcB03FcB875f56beddC4; t=" + token.Hex():                            {Owner: owner, Token: token},
		"t=" + token.Hex() + ";o=0x5b38da6a701c568545dcfcb03fcb875f56beddc4;aleph-v=1;":                        {Owner: owner, Token: token},
		"aleph-v = 1 ; x = later ; o = 0x5B38Da6a701c568545dCfcB03FcB875f56beddC4 ; t = " + token.Hex() + "  ": {Owner: owner, Token: token},
	} {
		got, err := domain.ParseRecord(text)
		if err != nil || got != want {
			t.Errorf("ParseRecord(%q) = %v, %v; want %v", text, got, err, want)
		}
		if again, err := domain.ParseRecord(got.String()); err != nil || again != got {
			t.Errorf("ParseRecord(%q) = %v, %v; want %v", got, again, err, got)
		}
	}
	for _, text := range []string{
		"", "hello", "5B38Da6a701c568545dCfcB03FcB875f56beddC4", "0x00", "0x0000000000000000000000000000000000000000",
		"v=spf1 -all", "aleph-v=2; o=" + owner.Hex() + "; t=" + token.Hex(), "aleph-v=1; o=" + owner.Hex(),
		"aleph-v=1; o=" + owner.Hex() + "; t=0x", "aleph-v=1; o=x; t=" + token.Hex(), "aleph-v=1; o=1; o=2; t=" + token.Hex(),
		"aleph-v=1; o=" + owner.Hex() + "; t=" + common.Hash{}.Hex(), "aleph-v=1; other", strings.Repeat("a", 600),
	} {
		if r, err := domain.ParseRecord(text); err == nil {
			t.Errorf("ParseRecord(%q) = %v, want an error", text, r)
		}
	}
}

func TestSeen(t *testing.T) {
	key := domain.Name("example.com").Key()
	alice, bob := common.HexToAddress("0xa1"), common.HexToAddress("0xb0")
	strong := func(owner common.Address, nonce uint32) string {
		return domain.Record{Owner: owner, Token: domain.Token(key, owner, nonce)}.String()
	}
	for _, tt := range []struct {
		name    string
		records []string
		want    domain.Method
	}{
		{"nothing", nil, domain.MethodNone},
		{"others' records", []string{"v=spf1 -all", "google-site-verification=x"}, domain.MethodNone},
		{"the address", []string{"v=spf1 -all", alice.Hex()}, domain.MethodAddress},
		{"the token", []string{strong(alice, 3)}, domain.MethodToken},
		{"both", []string{strong(alice, 3), alice.Hex()}, domain.MethodToken},
		{"an old token", []string{strong(alice, 2)}, domain.MethodNone},
		{"an old token and the address", []string{strong(alice, 2), alice.Hex()}, domain.MethodAddress},
		{"somebody else", []string{strong(bob, 3)}, domain.MethodNone},
		{"two accounts", []string{strong(alice, 3), bob.Hex()}, domain.MethodNone},
	} {
		if got := domain.Seen(tt.records, key, alice, 3); got != tt.want {
			t.Errorf("%s: method %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := domain.Attestation{Owner: common.HexToAddress("0xa1"), Method: domain.MethodToken, SeenAt: 1}
	for name, change := range map[string]func(*domain.Attestation){
		"owner":  func(a *domain.Attestation) { a.Owner = common.Address{} },
		"method": func(a *domain.Attestation) { a.Method = 3 },
		"none":   func(a *domain.Attestation) { a.Method = domain.MethodNone },
		"time":   func(a *domain.Attestation) { a.SeenAt = 1 << 40 },
	} {
		a := good
		change(&a)
		if a.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if (&domain.Revocation{}).Check() == nil {
		t.Error("a revocation without evidence was accepted")
	}
}

func TestCAAHash(t *testing.T) {
	a := domain.CAA{Tag: "Issue", Value: "letsencrypt.org"}
	b := domain.CAA{Flags: 128, Tag: "iodef", Value: `mailto:"x"@example.com`}
	if got, want := b.String(), `128 iodef "mailto:\"x\"@example.com"`; got != want {
		t.Errorf("record %s, want %s", got, want)
	}
	if domain.CAAHash(nil) != (common.Hash{}) {
		t.Error("no records have a hash")
	}
	if domain.CAAHash([]domain.CAA{a, b, a}) != domain.CAAHash([]domain.CAA{b, a}) {
		t.Error("order or repetition counts")
	}
	if domain.CAAHash([]domain.CAA{a}) == domain.CAAHash([]domain.CAA{b}) {
		t.Error("different records have one hash")
	}
}

// FuzzParse: what Parse takes is its own normal form, unless an A-label in it
// stands for nothing.
func FuzzParse(f *testing.F) {
	v := readVectors(f)
	for _, c := range v.Names {
		f.Add(c.Name)
	}
	for _, c := range v.Refused {
		f.Add(c.Name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := domain.Parse(text)
		if err != nil {
			return
		}
		if string(n) != text {
			t.Fatalf("Parse(%q) = %q", text, n)
		}
		if strings.Contains(text, "xn--") {
			return
		}
		if again, err := domain.Normalise(text); err != nil || again != n {
			t.Fatalf("Normalise(%q) = %q, %v", text, again, err)
		}
	})
}

// FuzzNormalise: what comes out has a key and stays as it is.
func FuzzNormalise(f *testing.F) {
	f.Add("Bücher.example.")
	f.Add("*.Example.COM")
	f.Add("例え.テスト")
	f.Add("0.\x86")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := domain.Normalise(text)
		if err != nil {
			return
		}
		if _, err := domain.Parse(string(n)); err != nil {
			t.Fatalf("Normalise(%q) = %q: %v", text, n, err)
		}
		if again, err := domain.Normalise(string(n)); err != nil || again != n {
			t.Fatalf("Normalise(%q) = %q, %v", n, again, err)
		}
	})
}

// FuzzParseRecord: what was read is written as something that reads the same.
func FuzzParseRecord(f *testing.F) {
	f.Add("0x5B38Da6a701c568545dCfcB03FcB875f56beddC4")
	f.Add("aleph-v=1; o=0x5B38Da6a701c568545dCfcB03FcB875f56beddC4; t=0x" + strings.Repeat("1", 64))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := domain.ParseRecord(text)
		if err != nil {
			return
		}
		if again, err := domain.ParseRecord(r.String()); err != nil || again != r {
			t.Fatalf("ParseRecord(%q) = %v, %v; want %v", r, again, err, r)
		}
	})
}
