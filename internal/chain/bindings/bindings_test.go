package bindings_test

import (
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings/gen/source"
)

func TestBindingsAreFromTheseSources(t *testing.T) {
	got, err := source.Sum(os.DirFS("../../../contracts"))
	if err != nil {
		t.Fatalf("hash contract sources: %v", err)
	}
	if want := bindings.SourceSum(); got != want {
		t.Errorf("contract sources hash to %s, bindings were made from %s: run `make bindings`", got, want)
	}
}

func TestRestrictionsNameFunctionsOfTheContracts(t *testing.T) {
	for _, r := range bindings.Restrictions() {
		c, err := bindings.Find(r.Contract)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := c.Meta.ParseABI()
		if err != nil {
			t.Fatalf("parse abi of %s: %v", r.Contract, err)
		}
		method, err := parsed.MethodById(r.Selector[:])
		if second, has := bindings.ExtensionOf(r.Contract); err != nil && has {
			if parsed, err = second.Meta.ParseABI(); err != nil {
				t.Fatal(err)
			}
			method, err = parsed.MethodById(r.Selector[:])
		}
		if err != nil {
			t.Errorf("%s has no function %s: %v", r.Contract, r.Function, err)
			continue
		}
		if method.Sig != r.Function {
			t.Errorf("selector %x of %s: got %s, want %s", r.Selector, r.Contract, method.Sig, r.Function)
		}
	}
}

func TestDecodeRevert(t *testing.T) {
	parsed, err := bindings.PaymentManagerMetaData.ParseABI()
	if err != nil {
		t.Fatalf("parse abi: %v", err)
	}
	payer := common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
	e := parsed.Errors["HasDebt"]
	packed, err := e.Inputs.Pack(payer, uint64(7), common.Big2)
	if err != nil {
		t.Fatalf("pack error: %v", err)
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"custom", append(e.ID[:4:4], packed...), "HasDebt(payer=" + payer.Hex() + ", payee=7, debt=2)"},
		{"reason", common.FromHex("08c379a0" +
			"0000000000000000000000000000000000000000000000000000000000000020" +
			"0000000000000000000000000000000000000000000000000000000000000002" +
			"6e6f000000000000000000000000000000000000000000000000000000000000"), "Error(reason=no)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bindings.DecodeRevert(tt.data)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDecodeRevertRefusesOtherBytes(t *testing.T) {
	parsed, err := bindings.PaymentManagerMetaData.ParseABI()
	if err != nil {
		t.Fatalf("parse abi: %v", err)
	}
	id := parsed.Errors["HasDebt"].ID
	for _, data := range [][]byte{nil, {1, 2, 3}, {1, 2, 3, 4}, id[:4], append(id[:4:4], 1)} {
		if got, err := bindings.DecodeRevert(data); err == nil {
			t.Errorf("decode %x: got %s, want an error", data, got)
		}
	}
}

func FuzzDecodeRevert(f *testing.F) {
	f.Add([]byte{0x08, 0xc3, 0x79, 0xa0})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := bindings.DecodeRevert(data); err == nil && r.String() == "" {
			t.Errorf("decode %x: got no words", data)
		}
	})
}
