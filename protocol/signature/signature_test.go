package signature_test

import (
	"encoding/json"
	"errors"
	"os"
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

func readCases(tb testing.TB) []signatureCase {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/signature_evm.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []signatureCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
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

func TestEVMVectors(t *testing.T) {
	for _, tt := range readCases(t) {
		t.Run(tt.Name, func(t *testing.T) {
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

func TestChainsWithoutVerifierAreAFormatError(t *testing.T) {
	for _, chain := range []message.Chain{"SOL", "TEZOS", "DOT", "NULS2"} {
		wantCode(t, signature.Verify(&message.Envelope{Chain: chain}), message.CodeInvalidFormat)
	}
}

func FuzzVerify(f *testing.F) {
	for _, tt := range readCases(f) {
		f.Add(tt.Envelope.Sender, tt.Envelope.Signature)
	}
	f.Fuzz(func(t *testing.T, sender, sig string) {
		e := &message.Envelope{Chain: message.Ethereum, Sender: sender, Signature: sig}
		var rejected *message.RejectError
		if err := signature.Verify(e); err != nil && !errors.As(err, &rejected) {
			t.Fatalf("error is %T, want *RejectError", err)
		}
	})
}
