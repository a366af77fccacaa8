package ingest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// Only a message whose signature holds spreads, whatever its bytes.
func FuzzValidateMessage(f *testing.F) {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte("ingest fuzz")))
	if err != nil {
		f.Fatal(err)
	}
	content := `{"address":"` + crypto.PubkeyToAddress(key.PublicKey).Hex() + `","time":1,"item_type":"storage","item_hash":"` +
		string(message.HashOf([]byte("file"))) + `"}`
	e := &message.Envelope{
		Chain: message.Ethereum, Type: message.TypeStore, Time: time.Unix(1, 0), ItemType: message.Inline,
		ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(key, e); err != nil {
		f.Fatal(err)
	}
	signed, err := json.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
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
