package signature_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// seed is the key that the vectors of a family were made with.
func seed(family string) []byte {
	sum := sha256.Sum256([]byte("aleph-onchain vector " + family))
	return sum[:]
}

type signerCase struct {
	name  string
	chain message.Chain
	make  func(key []byte) (*signature.Signer, error)
	seed  string
	like  string // the vector that another library made with the same key
}

func signerCases() []signerCase {
	tezos := func(c signature.TezosCurve) func([]byte) (*signature.Signer, error) {
		return func(key []byte) (*signature.Signer, error) { return signature.NewTezos(c, key) }
	}
	wallet := func(c signature.TezosCurve, site string) func([]byte) (*signature.Signer, error) {
		return func(key []byte) (*signature.Signer, error) { return signature.NewTezosWallet(c, key, site) }
	}
	return []signerCase{
		{"EVM", "ETH", signature.NewEVM, "evm", ""},
		{"EVM on AVAX", "AVAX", signature.NewEVM, "avalanche", "C-chain address, EIP-191"},
		{"Solana", "SOL", signature.NewSolana, "solana", "version 1"},
		{"Eclipse", "ES", signature.NewSolana, "solana", "Eclipse"},
		{"Avalanche", "AVAX", signature.NewAvalanche, "avalanche", "X-chain"},
		{"Cosmos", "CSDK", func(k []byte) (*signature.Signer, error) { return signature.NewCosmos("osmo", k) }, "cosmos", "Osmosis"},
		{"odd prefix", "CSDK", func(k []byte) (*signature.Signer, error) { return signature.NewCosmos(`a<"&\>`, k) }, "cosmos", "prefix with characters that JSON and HTML escape"},
		{"Substrate", "DOT", func(k []byte) (*signature.Signer, error) {
			return signature.NewSubstrate(signature.SubstratePrefix, k)
		}, "substrate", "plain"},
		{"Polkadot", "DOT", func(k []byte) (*signature.Signer, error) { return signature.NewSubstrate(0, k) }, "substrate", "Polkadot prefix"},
		{"tz1", "TEZOS", tezos(signature.TZ1), "tezos", "raw, tz1, signature of its curve"},
		{"tz2", "TEZOS", tezos(signature.TZ2), "tezos", "raw, tz2, signature of its curve"},
		{"tz3", "TEZOS", tezos(signature.TZ3), "tezos", "raw, tz3, signature of its curve"},
		{"tz1 wallet", "TEZOS", wallet(signature.TZ1, "aleph.im"), "tezos", "micheline, tz1, default site"},
		{"tz2 wallet", "TEZOS", wallet(signature.TZ2, "https://app.example"), "tezos", "micheline, tz2, default site"},
		{"tz3 wallet", "TEZOS", wallet(signature.TZ3, ""), "tezos", "micheline, tz3, default site"},
		{"NULS", "NULS", func(k []byte) (*signature.Signer, error) { return signature.NewNULS(8964, k) }, "nuls", "main net"},
		{"NULS 2.0", "NULS2", func(k []byte) (*signature.Signer, error) { return signature.NewNULS2(signature.NULS2MainNet, k) }, "nuls2", "main net"},
		{"NULS 2.0 test net", "NULS2", func(k []byte) (*signature.Signer, error) { return signature.NewNULS2(signature.NULS2TestNet, k) }, "nuls2", "test net"},
	}
}

func newSigner(tb testing.TB, tt signerCase) *signature.Signer {
	tb.Helper()
	s, err := tt.make(seed(tt.seed))
	if err != nil {
		tb.Fatalf("%s: %v", tt.name, err)
	}
	return s
}

func signed(tb testing.TB, tt signerCase) *message.Envelope {
	tb.Helper()
	e := &message.Envelope{
		Chain: tt.chain, Type: message.TypeStore, ItemHash: message.HashOf([]byte("signed")), Time: time.UnixMicro(1752998400512345).UTC(),
	}
	if err := newSigner(tb, tt).Sign(e); err != nil {
		tb.Fatalf("%s: %v", tt.name, err)
	}
	return e
}

func TestSignersSignWhatHolds(t *testing.T) {
	for _, tt := range signerCases() {
		t.Run(tt.name, func(t *testing.T) {
			e := signed(t, tt)

			if err := signature.Verify(e); err != nil {
				t.Fatalf("%v, want valid; signature %s", err, e.Signature)
			}
			if e.Sender != newSigner(t, tt).Address() {
				t.Errorf("sender is %s, want %s", e.Sender, newSigner(t, tt).Address())
			}
			for name, altered := range alter(*e) {
				if signature.Verify(&altered) == nil {
					t.Errorf("%s: valid", name)
				}
			}
		})
	}
}

// The addresses are those that the libraries of the chains derive.
func TestAddressesAreThoseOfOtherLibraries(t *testing.T) {
	senders := map[string]string{}
	for _, f := range families() {
		for _, c := range readCases(t, f) {
			senders[string(f)+" "+c.Name] = c.Envelope.Sender
		}
	}
	for _, tt := range signerCases() {
		if tt.like == "" {
			continue
		}
		if got, want := newSigner(t, tt).Address(), senders[tt.seed+" "+tt.like]; got != want {
			t.Errorf("%s: address %s, want %q", tt.name, got, want)
		}
	}
	// The well-known development account of Substrate, from its documentation.
	alice := []byte("\xe5\xbe\x9a\x50\x92\xb8\x1b\xca\x64\xbe\x81\xd2\x12\xe7\xf2\xf9\xeb\xa1\x83\xbb\x7a\x90\x95\x4f\x7b\x76\x36\x1f\x6e\xdb\x5c\x0a")
	s, err := signature.NewSubstrate(signature.SubstratePrefix, alice)
	if err != nil {
		t.Fatal(err)
	}
	if want := "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"; s.Address() != want {
		t.Errorf("Alice is %s, want %s", s.Address(), want)
	}
}

// What a wallet signs holds for one time only, and what is signed raw for any.
func TestOnlyWalletsSignTheTime(t *testing.T) {
	for _, tt := range signerCases() {
		e := signed(t, tt)
		e.Time = e.Time.Add(time.Second)

		err := signature.Verify(e)

		if wallet := strings.HasSuffix(tt.name, "wallet"); wallet != (err != nil) {
			t.Errorf("%s, another time: %v", tt.name, err)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	zero, ones := make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)
	for _, tt := range signerCases() {
		for _, key := range [][]byte{nil, seed(tt.seed)[:31], append(seed(tt.seed), 0)} {
			if _, err := tt.make(key); err == nil {
				t.Errorf("%s: a key of %d bytes is taken", tt.name, len(key))
			}
		}
		scalars := !strings.Contains("Solana Eclipse Substrate Polkadot tz1 wallet", tt.name)
		for _, key := range [][]byte{zero, ones} {
			if _, err := tt.make(key); scalars && err == nil {
				t.Errorf("%s: %x is taken for a scalar", tt.name, key)
			}
		}
	}
	for name, make := range map[string]func() (*signature.Signer, error){
		"prefix with a 1":     func() (*signature.Signer, error) { return signature.NewCosmos("a1", seed("cosmos")) },
		"no prefix":           func() (*signature.Signer, error) { return signature.NewCosmos("", seed("cosmos")) },
		"upper case":          func() (*signature.Signer, error) { return signature.NewCosmos("Cosmos", seed("cosmos")) },
		"reserved prefix":     func() (*signature.Signer, error) { return signature.NewSubstrate(46, seed("substrate")) },
		"prefix of two bytes": func() (*signature.Signer, error) { return signature.NewSubstrate(64, seed("substrate")) },
		"curve without a key": func() (*signature.Signer, error) { return signature.NewTezos("tz4", seed("tezos")) },
		"site that is no UTF-8": func() (*signature.Signer, error) {
			return signature.NewTezosWallet(signature.TZ1, seed("tezos"), "\xff")
		},
		"site that is too long": func() (*signature.Signer, error) {
			return signature.NewTezosWallet(signature.TZ1, seed("tezos"), strings.Repeat("\x00", 513))
		},
		"chain id of no prefix": func() (*signature.Signer, error) { return signature.NewNULS2(3, seed("nuls2")) },
	} {
		if s, err := make(); err == nil {
			t.Errorf("%s: %s", name, s.Address())
		}
	}
}

func TestSignersKeepToTheirChains(t *testing.T) {
	for _, tt := range signerCases() {
		for _, codes := range chains() {
			for _, chain := range codes {
				e := message.Envelope{Chain: chain, Type: message.TypeStore, ItemHash: message.HashOf(nil), Sender: "before"}
				before := e

				if err := newSigner(t, tt).Sign(&e); err != nil {
					if e != before {
						t.Errorf("%s on %s: changed by an error", tt.name, chain)
					}
					continue
				}

				if err := signature.Verify(&e); err != nil {
					t.Errorf("%s on %s: %v", tt.name, chain, err)
				}
			}
		}
		if err := newSigner(t, tt).Sign(&message.Envelope{Chain: "BTC"}); err == nil {
			t.Errorf("%s signs for a chain that is none", tt.name)
		}
	}
}
