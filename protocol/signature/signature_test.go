package signature_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/blake2b"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

type signatureCase struct {
	Name     string
	Envelope message.Envelope
	Valid    bool
}

func readCases(tb testing.TB, family string) []signatureCase {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/signature_" + family + ".json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []signatureCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
	}
	return file.Cases
}

func families() []string {
	return []string{"avalanche", "cosmos", "evm", "nuls", "nuls2", "solana", "substrate", "tezos"}
}

func wantCode(t *testing.T, err error, want message.Code) {
	t.Helper()
	var rejected *message.RejectError
	if !errors.As(err, &rejected) || rejected.Code != want {
		t.Errorf("error %v, want code %d", err, want)
	}
}

func TestVectors(t *testing.T) {
	for _, family := range families() {
		valid := 0
		for _, tt := range readCases(t, family) {
			t.Run(family+" "+tt.Name, func(t *testing.T) {
				err := signature.Verify(&tt.Envelope)
				if !tt.Valid {
					wantCode(t, err, message.CodeInvalidSignature)
					return
				}
				if err != nil {
					t.Fatalf("Verify: %v, want valid", err)
				}
			})
			if tt.Valid {
				valid++
				t.Run(family+" "+tt.Name+" tampered", func(t *testing.T) { refusesChanges(t, tt.Envelope) })
			}
		}
		if valid == 0 {
			t.Errorf("%s has no valid vector", family)
		}
	}
}

// refusesChanges changes an envelope that is valid in every part that is signed,
// and its signature.
func refusesChanges(t *testing.T, e message.Envelope) {
	t.Helper()
	last := len(e.Signature) - 1
	for name, change := range map[string]func(*message.Envelope){
		"hash":         func(e *message.Envelope) { e.ItemHash = message.HashOf(nil) },
		"type":         func(e *message.Envelope) { e.Type = "OTHER" },
		"sender":       func(e *message.Envelope) { e.Sender += "x" },
		"no sender":    func(e *message.Envelope) { e.Sender = "" },
		"truncated":    func(e *message.Envelope) { e.Signature = e.Signature[:last/2] },
		"nothing":      func(e *message.Envelope) { e.Signature = "" },
		"empty object": func(e *message.Envelope) { e.Signature = "{}" },
		"wrong kinds": func(e *message.Envelope) {
			e.Signature = `{"signature":1,"publicKey":[],"data":{},"pub_key":"x","curve":2}`
		},
		"a long text":     func(e *message.Envelope) { e.Signature = strings.Repeat("1", 1<<20) },
		"another's chain": func(e *message.Envelope) { e.Chain = otherChain(e.Chain) },
	} {
		changed := e
		change(&changed)
		var rejected *message.RejectError
		if err := signature.Verify(&changed); !errors.As(err, &rejected) || rejected.Code != message.CodeInvalidSignature {
			t.Errorf("%s: error %v, want code %d", name, err, message.CodeInvalidSignature)
		}
	}
}

// otherChain is a chain that another text is signed for.
func otherChain(c message.Chain) message.Chain {
	if c == "SOL" {
		return "ES"
	}
	return "SOL"
}

// signers make a key's address the sender of an envelope and sign it, for each
// chain that does not sign as Ethereum does.
func signers(tb testing.TB) map[message.Chain]func(*message.Envelope) error {
	tb.Helper()
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	solana := func(e *message.Envelope) error { return signature.SignSolana(ed, e) }
	return map[message.Chain]func(*message.Envelope) error{
		"SOL": solana, "ES": solana,
		"AVAX":  func(e *message.Envelope) error { return signature.SignAvalanche(key, "X", e) },
		"CSDK":  func(e *message.Envelope) error { return signature.SignCosmos(key, "cosmos", e) },
		"DOT":   func(e *message.Envelope) error { return signature.SignSubstrate([32]byte{1, 2, 3}, 42, e) },
		"TEZOS": func(e *message.Envelope) error { return signature.SignTezos(ed, e) },
		"NULS":  func(e *message.Envelope) error { return signature.SignNULS(key, 8964, e) },
		"NULS2": func(e *message.Envelope) error { return signature.SignNULS2(key, e) },
	}
}

func TestSignedEnvelopesVerifyOnEveryOtherChain(t *testing.T) {
	for chain, sign := range signers(t) {
		e := message.Envelope{Chain: chain, Type: message.TypePost, ItemHash: message.HashOf([]byte(chain)), Time: time.Unix(1_750_000_000, 0)}
		if err := sign(&e); err != nil {
			t.Fatal(err)
		}
		if err := signature.Verify(&e); err != nil {
			t.Errorf("%s: %v, want valid", chain, err)
		}
		t.Run(string(chain), func(t *testing.T) { refusesChanges(t, e) })
	}
}

// TestAvalancheTakesAddressesOfTheCChain signs as Ethereum wallets do.
func TestAvalancheTakesAddressesOfTheCChain(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	e := message.Envelope{Chain: "AVAX", Type: message.TypePost, ItemHash: message.HashOf(nil)}
	if err := signature.SignEVM(key, &e); err != nil {
		t.Fatal(err)
	}
	if err := signature.Verify(&e); err != nil {
		t.Errorf("error %v, want valid", err)
	}
}

// TestSubstrateForms verifies what browser extensions sign, and what an SDK writes
// without a prefix.
func TestSubstrateForms(t *testing.T) {
	e := message.Envelope{Chain: "DOT", Type: message.TypePost, ItemHash: message.HashOf(nil)}
	if err := signature.SignSubstrate([32]byte{7}, 0, &e); err != nil {
		t.Fatal(err)
	}
	e.Signature = strings.Replace(e.Signature, "0x", "", 1)
	if err := signature.Verify(&e); err != nil {
		t.Errorf("without 0x: %v, want valid", err)
	}
	e.Signature = strings.Replace(e.Signature, "sr25519", "ed25519", 1)
	wantCode(t, signature.Verify(&e), message.CodeInvalidSignature)
}

// TestTezosMicheline verifies what wallets sign: with the time of the envelope,
// and with its seconds taken for milliseconds.
func TestTezosMicheline(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string]string{
		"the time":     "Tezos Signed Message: aleph.im 2025-06-15T15:06:40.250Z ",
		"1970":         "Tezos Signed Message: https://aleph.im 1970-01-21T06:06:40.000Z ",
		"another site": "Tezos Signed Message: example.org 2025-06-15T15:06:40.250Z ",
		"another time": "Tezos Signed Message: aleph.im 2025-06-15T15:06:41.250Z ",
	} {
		e := message.Envelope{Chain: "TEZOS", Type: message.TypePost, ItemHash: message.HashOf(nil), Time: time.UnixMilli(1_750_000_000_250)}
		if err := signature.SignTezos(key, &e); err != nil {
			t.Fatal(err)
		}
		var all map[string]string
		if err := json.Unmarshal([]byte(e.Signature), &all); err != nil {
			t.Fatal(err)
		}
		payload := words + string(e.SigningBytes())
		digest := blake2b.Sum256(append([]byte{5, 1, 0}, strconv.Itoa(2*len(payload))+payload...))
		all["signingType"], all["signature"] = "micheline", tezosText(ed25519.Sign(key, digest[:]))
		if name == "another site" {
			all["dAppUrl"] = "example.org"
		}
		raw, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		e.Signature = string(raw)
		if err := signature.Verify(&e); (err == nil) != (name != "another time") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTezosP256 verifies a tz3 account, of which there is no vector.
func TestTezosP256(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pub := append([]byte{2 + raw[64]&1}, raw[1:33]...)
	h, err := blake2b.New(20, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(pub)
	e := message.Envelope{Chain: "TEZOS", Type: message.TypePost, ItemHash: message.HashOf([]byte("x")), Sender: checked([]byte{6, 0xa1, 0xa4}, h.Sum(nil))}
	digest := blake2b.Sum256(e.SigningBytes())
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	out, err := json.Marshal(map[string]string{"publicKey": checked([]byte{3, 0xb2, 0x8b, 0x7f}, pub), "signature": checked([]byte{0x36, 0xf0, 0x2c, 0x34}, sig)})
	if err != nil {
		t.Fatal(err)
	}
	e.Signature = string(out)
	if err := signature.Verify(&e); err != nil {
		t.Errorf("error %v, want valid", err)
	}
	refusesChanges(t, e)
}

// tezosText is an edsig of Tezos.
func tezosText(sig []byte) string { return checked([]byte{0x09, 0xf5, 0xcd, 0x86, 0x12}, sig) }

// checked is a base58 text with a prefix and a check sum.
func checked(prefix, raw []byte) string {
	payload := append(bytes.Clone(prefix), raw...)
	first := sha256.Sum256(payload)
	second := sha256.Sum256(first[:])
	return base58.Encode(append(payload, second[:4]...))
}

func TestSignedEnvelopesVerifyOnEveryEVMChain(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	chains := []message.Chain{
		"ARB", "AURORA", "BASE", "BLAST", "BOB", "BSC", "CYBER", "ETH", "ETHERLINK", "FRAX", "HYPE", "INK", "LENS", "LINEA",
		"LISK", "METIS", "MODE", "NEO", "OP", "POL", "SONIC", "STT", "UNICHAIN", "WLD", "ZORA",
	}
	for _, chain := range chains {
		e := &message.Envelope{Chain: chain, Type: message.TypeStore, ItemHash: message.HashOf([]byte(chain))}

		if err := signature.SignEVM(key, e); err != nil {
			t.Fatal(err)
		}

		if err := signature.Verify(e); err != nil {
			t.Errorf("%s: %v, want valid", chain, err)
		}
		e.ItemHash = message.HashOf(nil)
		wantCode(t, signature.Verify(e), message.CodeInvalidSignature)
	}
}

func TestEveryChainHasAVerifier(t *testing.T) {
	for _, chain := range message.Chains() {
		if _, ok := signature.For(chain); !ok {
			t.Errorf("%s has none", chain)
		}
	}
	wantCode(t, signature.Verify(&message.Envelope{Chain: "OTHER"}), message.CodeInvalidFormat)
}

func FuzzVerify(f *testing.F) {
	for _, family := range families() {
		for _, tt := range readCases(f, family) {
			f.Add(string(tt.Envelope.Chain), tt.Envelope.Sender, tt.Envelope.Signature)
		}
	}
	f.Fuzz(func(t *testing.T, chain, sender, sig string) {
		e := &message.Envelope{Chain: message.Chain(chain), Sender: sender, Signature: sig}
		var rejected *message.RejectError
		if err := signature.Verify(e); err != nil && !errors.As(err, &rejected) {
			t.Fatalf("error is %T, want *RejectError", err)
		}
	})
}

// BenchmarkVerify verifies one vector of each family.
func BenchmarkVerify(b *testing.B) {
	for _, family := range families() {
		for _, tt := range readCases(b, family) {
			if !tt.Valid {
				continue
			}
			b.Run(family, func(b *testing.B) {
				for b.Loop() {
					if err := signature.Verify(&tt.Envelope); err != nil {
						b.Fatal(err)
					}
				}
			})
			break
		}
	}
}
