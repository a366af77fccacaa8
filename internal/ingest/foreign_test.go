package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// signedStore is a message as its sender publishes it.
func signedStore(tb testing.TB) []byte {
	tb.Helper()
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte("ingest fuzz")))
	if err != nil {
		tb.Fatal(err)
	}
	content := `{"address":"` + crypto.PubkeyToAddress(key.PublicKey).Hex() + `","time":1,"item_type":"storage","item_hash":"` +
		string(message.HashOf([]byte("file"))) + `"}`
	e := &message.Envelope{
		Chain: message.Ethereum, Type: message.TypeStore, Time: time.Unix(1, 0), ItemType: message.Inline,
		ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(key, e); err != nil {
		tb.Fatal(err)
	}
	signed, err := json.Marshal(e)
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

func TestBadGossipIsNotSpread(t *testing.T) {
	good := signedStore(t)
	for name, tt := range map[string]struct {
		g    p2p.Gossip
		want p2p.Verdict
	}{
		"good":                   {p2p.Gossip{Data: good}, p2p.Accept},
		"not JSON":               {p2p.Gossip{Data: []byte("x")}, p2p.Reject},
		"a list":                 {p2p.Gossip{Data: []byte("[]")}, p2p.Reject},
		"bad signature":          {p2p.Gossip{Data: bytes.Replace(good, []byte(`"signature":"0x`), []byte(`"signature":"0xff`), 1)}, p2p.Reject},
		"moved to another chain": {p2p.Gossip{Data: bytes.Replace(good, []byte(`"chain":"ETH"`), []byte(`"chain":"SOL"`), 1)}, p2p.Reject},
		"judged before":          {p2p.Gossip{Data: good, Own: true}, p2p.Accept},
	} {
		if got := (&Pipeline{}).validateMessage(t.Context(), &tt.g); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Only a message whose signature holds spreads, whatever its bytes.
func FuzzValidateMessage(f *testing.F) {
	signed := signedStore(f)
	f.Add(signed)
	f.Add([]byte(`{"type":"AGGREGATE"}`))
	f.Add([]byte(`{"type":"FORGET","item_type":"ipfs"}`))
	f.Add([]byte(`null`))
	p := &Pipeline{}
	if got := p.validateMessage(f.Context(), &p2p.Gossip{Data: signed}); got != p2p.Accept {
		f.Fatalf("the signed seed is judged %v", got)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		verdict := p.validateMessage(context.Background(), &p2p.Gossip{From: "peer", Data: raw})

		env, err := message.Parse(raw)
		holds := err == nil && signature.Verify(env) == nil
		if verdict == p2p.Accept && !holds {
			t.Errorf("accepted %q, which nobody signed", raw)
		}
		if verdict == p2p.Reject && holds {
			t.Errorf("rejected %q, which is signed", raw)
		}
	})
}
