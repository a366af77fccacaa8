package signature_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// FuzzVerify wants a verdict on whatever comes, under every chain's rules.
func FuzzVerify(f *testing.F) {
	for _, family := range families() {
		for _, tt := range readCases(f, family) {
			e := tt.Envelope
			f.Add(string(e.Chain), e.Sender, string(e.Type), string(e.ItemHash), e.Signature, e.Time.UnixMicro())
		}
	}
	f.Fuzz(func(t *testing.T, chain, sender, typ, hash, sig string, at int64) {
		e := &message.Envelope{
			Chain: message.Chain(chain), Sender: sender, Type: message.Type(typ), ItemHash: message.ItemHash(hash), Signature: sig,
			Time: time.UnixMicro(at),
		}
		before := *e

		err := signature.Verify(e)

		var rejected *message.RejectError
		if err != nil && !errors.As(err, &rejected) {
			t.Fatalf("error is %T, want *RejectError", err)
		}
		if *e != before {
			t.Fatal("the envelope was changed")
		}
		if err == nil {
			e.ItemHash += "x"
			if signature.Verify(e) == nil {
				t.Fatal("the signature holds for another hash too")
			}
		}
	})
}

// FuzzSign wants that what any key signs holds, for any text that an envelope
// can carry.
func FuzzSign(f *testing.F) {
	f.Add(uint8(0), seed("fuzz"), "POST", "hash", "aleph.im", int64(0))
	f.Add(uint8(9), seed("tezos"), "", "", `"\`, int64(-1))
	f.Fuzz(func(t *testing.T, n uint8, key []byte, typ, hash, site string, at int64) {
		cases := signerCases()
		tt := cases[int(n)%len(cases)]
		s, err := tt.make(key)
		if err != nil {
			return
		}
		if tt.name == "tz3 wallet" {
			s, err = signature.NewTezosWallet(signature.TZ3, key, site)
			if err != nil {
				return
			}
		}
		e := &message.Envelope{Chain: tt.chain, Type: message.Type(typ), ItemHash: message.ItemHash(hash), Time: time.UnixMicro(at)}
		if err := s.Sign(e); err != nil {
			return
		}
		if err := signature.Verify(e); err != nil {
			t.Fatalf("%s, sender %s, signature %q: %v", tt.name, e.Sender, e.Signature, err)
		}
	})
}
