package signature_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

type signatureCase struct {
	Name     string
	Envelope message.Envelope
	Valid    bool
}

func families() []signature.Family {
	return []signature.Family{
		signature.EVM, signature.Solana, signature.Avalanche, signature.Cosmos, signature.Substrate, signature.Tezos,
		signature.NULS, signature.NULS2,
	}
}

// chains is every code of the protocol.
func chains() map[signature.Family][]message.Chain {
	return map[signature.Family][]message.Chain{
		signature.EVM: {
			"ARB", "AURORA", "BASE", "BLAST", "BOB", "BSC", "CYBER", "ETH", "ETHERLINK", "FRAX", "HYPE", "INK", "LENS",
			"LINEA", "LISK", "METIS", "MODE", "NEO", "OP", "POL", "SONIC", "STT", "UNICHAIN", "WLD", "ZORA",
		},
		signature.Solana: {"ES", "SOL"}, signature.Avalanche: {"AVAX"}, signature.Cosmos: {"CSDK"},
		signature.Substrate: {"DOT"}, signature.Tezos: {"TEZOS"}, signature.NULS: {"NULS"}, signature.NULS2: {"NULS2"},
	}
}

func readCases(tb testing.TB, f signature.Family) []signatureCase {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", "signature_"+string(f)+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []signatureCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatalf("%s: %v", f, err)
	}
	return file.Cases
}

func wantCode(t *testing.T, err error, want message.Code) {
	t.Helper()
	var rejected *message.RejectError
	if !errors.As(err, &rejected) || rejected.Code != want {
		t.Errorf("error %v, want code %d", err, want)
	}
}

func TestVectors(t *testing.T) {
	for _, f := range families() {
		for _, tt := range readCases(t, f) {
			t.Run(string(f)+"/"+tt.Name, func(t *testing.T) {
				err := signature.Verify(&tt.Envelope)
				if tt.Valid {
					if err != nil {
						t.Fatalf("Verify: %v, want valid", err)
					}
					return
				}
				wantCode(t, err, message.CodeInvalidSignature)
			})
		}
	}
}

func TestEveryChainHasAVerifier(t *testing.T) {
	count := 0
	for f, codes := range chains() {
		for _, chain := range codes {
			count++
			if !chain.Known() {
				t.Errorf("%s is no chain of the protocol", chain)
			}
			if v, ok := signature.For(chain); !ok || v != signature.Verifier(f) {
				t.Errorf("For(%s) is %v, %t, want %s", chain, v, ok, f)
			}
		}
	}
	if want := 33; count != want {
		t.Errorf("%d chains are tested, want %d", count, want)
	}
}

func TestChainsWithoutVerifierAreAFormatError(t *testing.T) {
	for _, chain := range []message.Chain{"", "BTC", "eth"} {
		if _, ok := signature.For(chain); ok {
			t.Errorf("For(%q) has a verifier", chain)
		}
		wantCode(t, signature.Verify(&message.Envelope{Chain: chain, Signature: "0x"}), message.CodeInvalidFormat)
	}
	wantCode(t, signature.Family("none").Verify(&message.Envelope{Signature: "0x"}), message.CodeInvalidSignature)
}

// A client that writes the object gets back the text that all clients read.
func TestSignatureObjectsBecomeText(t *testing.T) {
	raw, err := os.ReadFile("../testdata/vectors/signature_solana.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct{ Envelope json.RawMessage }
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	objects := 0
	for _, c := range file.Cases {
		var in, out struct{ Signature json.RawMessage }
		if err := json.Unmarshal(c.Envelope, &in); err != nil {
			t.Fatal(err)
		}
		if in.Signature[0] != '{' {
			continue
		}
		objects++
		var e message.Envelope
		if err := json.Unmarshal(c.Envelope, &e); err != nil {
			t.Fatal(err)
		}

		written, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &out); err != nil {
			t.Fatal(err)
		}
		var again message.Envelope
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatal(err)
		}
		if out.Signature[0] != '"' || signature.Verify(&again) != nil {
			t.Errorf("written as %s: %v", out.Signature, signature.Verify(&again))
		}
	}
	if objects == 0 {
		t.Error("no vector has an object")
	}
}

// alter returns what a valid envelope must not become, and why.
func alter(valid message.Envelope) map[string]message.Envelope {
	out := map[string]message.Envelope{}
	set := func(name string, change func(e *message.Envelope)) {
		e := valid
		change(&e)
		out[name] = e
	}
	set("tampered item hash", func(e *message.Envelope) { e.ItemHash = message.HashOf([]byte("tampered")) })
	set("other type", func(e *message.Envelope) { e.Type = "V-PROGRAM" })
	set("no signature", func(e *message.Envelope) { e.Signature = "" })
	set("blank", func(e *message.Envelope) { e.Signature = " " })
	set("truncated by one", func(e *message.Envelope) { e.Signature = e.Signature[:len(e.Signature)-1] })
	set("half", func(e *message.Envelope) { e.Signature = e.Signature[:len(e.Signature)/2] })
	set("twice", func(e *message.Envelope) { e.Signature += e.Signature })
	set("garbage", func(e *message.Envelope) { e.Signature = "\x00\xff\xfe garbage" })
	set("1 MiB", func(e *message.Envelope) { e.Signature = strings.Repeat("1", 1<<20) })
	set("1 MiB behind the signature", func(e *message.Envelope) { e.Signature += strings.Repeat(" ", 1<<20) })
	set("JSON null", func(e *message.Envelope) { e.Signature = "null" })
	set("JSON list", func(e *message.Envelope) { e.Signature = "[" + e.Signature + "]" })
	set("deep JSON", func(e *message.Envelope) { e.Signature = strings.Repeat(`{"signature":`, 300) })
	set("numbers for texts", func(e *message.Envelope) { e.Signature = `{"signature":1,"publicKey":2,"pub_key":3,"data":4}` })
	set("nulls for texts", func(e *message.Envelope) {
		e.Signature = `{"signature":null,"publicKey":null,"pub_key":null,"data":null}`
	})
	set("no sender", func(e *message.Envelope) { e.Sender = "" })
	set("1 MiB of sender", func(e *message.Envelope) { e.Sender = strings.Repeat(e.Sender, 1<<20/len(e.Sender)) })
	set("sender cut", func(e *message.Envelope) { e.Sender = e.Sender[:len(e.Sender)-1] })
	set("sender longer", func(e *message.Envelope) { e.Sender += "1" })
	set("sender with a wrong prefix", func(e *message.Envelope) { e.Sender = "z" + e.Sender[1:] })
	set("sender is garbage", func(e *message.Envelope) { e.Sender = "\x00-1\xff" })
	set("sender is an EVM address", func(e *message.Envelope) { e.Sender = "0x00000000219ab540356cBB839Cbe05303d7705Fa" })
	for _, codes := range chains() {
		for _, chain := range codes {
			if chain != valid.Chain {
				set("moved to "+string(chain), func(e *message.Envelope) { e.Chain = chain })
			}
		}
	}
	return out
}

func TestAlteredVectorsDoNotHold(t *testing.T) {
	for _, f := range families() {
		for _, tt := range readCases(t, f) {
			if !tt.Valid {
				continue
			}
			for name, e := range alter(tt.Envelope) {
				if err := signature.Verify(&e); err == nil {
					t.Errorf("%s, %s, %s: valid", f, tt.Name, name)
				} else {
					wantCode(t, err, message.CodeInvalidSignature)
				}
			}
		}
	}
}

// One character of a signature or a sender changed must break it.
func TestEveryCharacterCounts(t *testing.T) {
	for _, f := range families() {
		valid := readCases(t, f)[0].Envelope
		if err := signature.Verify(&valid); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for i := range valid.Sender {
			e := valid
			e.Sender = e.Sender[:i] + string(other(e.Sender[i])) + e.Sender[i+1:]
			if signature.Verify(&e) == nil {
				t.Errorf("%s: sender %q is valid too", f, e.Sender)
			}
		}
		from, to := meaning(f, valid.Signature)
		for i := from; i < to; i++ {
			e := valid
			e.Signature = e.Signature[:i] + string(other(e.Signature[i])) + e.Signature[i+1:]
			if signature.Verify(&e) == nil {
				t.Errorf("%s: signature %q is valid too", f, e.Signature)
			}
		}
	}
}

// other returns another character that the alphabets of signatures share.
func other(c byte) byte {
	if c == '7' {
		return '8'
	}
	return '7'
}

// meaning is the part of a signature that is read.
func meaning(f signature.Family, text string) (from, to int) {
	switch f {
	case signature.Cosmos: // account_number and sequence are always 0
		return 0, strings.Index(text, `, "account_number"`)
	case signature.Substrate: // without its key, curve is sr25519
		return strings.Index(text, `"data"`), len(text)
	default:
		return 0, len(text)
	}
}

// A high s is the business of a family: see its file.
func TestHighSOfAnEVMSignatureHolds(t *testing.T) {
	e := readCases(t, signature.EVM)[0].Envelope
	raw, err := hex.DecodeString(e.Signature[2:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(raw[32:64])
	s.Sub(crypto.S256().Params().N, s).FillBytes(raw[32:64])
	raw[64] ^= 27 ^ 28
	e.Signature = "0x" + hex.EncodeToString(raw)

	if err := signature.Verify(&e); err != nil {
		t.Errorf("%v, want valid", err)
	}
}

func TestSignEVMSignsForEveryEVMChain(t *testing.T) {
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, chain := range append(chains()[signature.EVM], "AVAX") {
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
