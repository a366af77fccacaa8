package corechannel_test

import (
	"fmt"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
)

// large is a fold as large as that of the public network.
func large(b *testing.B) *corechannel.Fold {
	b.Helper()
	const holders, nodes = 100_000, 1_000
	set := corechannel.DefaultSettings()
	f := corechannel.New(set)
	apply := func(e corechannel.Event) {
		if err := f.Apply(e); err != nil {
			b.Fatal(err)
		}
	}
	for i := range holders {
		apply(corechannel.Event{Height: 1, Index: uint32(i), Body: corechannel.Balance{Address: fmt.Sprintf("0x%040x", i), Source: "ETH", Wei: mustWei("20000")}})
	}
	for i := range nodes {
		apply(corechannel.Event{Height: 2, Index: uint32(i), Body: corechannel.Registration{
			ID: uint32(i + 1), Kind: corechannel.ChainCoordinator, Status: corechannel.ChainActive, Owner: fmt.Sprint(i),
			Endpoint: fmt.Sprintf("/dns4/%d.example/tcp/1", i),
		}})
	}
	for i := range 10 * nodes {
		m := post("a", fmt.Sprintf("0x%040x", i), corechannel.OperationType, corechannel.ChainHash(uint32(i%nodes+1)), `{"action":"stake","tags":["mainnet"]}`, uint64(i+3))
		e, err := corechannel.Read(m, set)
		if err != nil {
			b.Fatal(err)
		}
		apply(e)
	}
	return f
}

func BenchmarkClone(b *testing.B) {
	f := large(b)
	for b.Loop() {
		f.Clone()
	}
}

func BenchmarkContent(b *testing.B) {
	f := large(b)
	for b.Loop() {
		content(b, f)
	}
}
