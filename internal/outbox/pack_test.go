package outbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
)

func method(tb testing.TB, contract, name string) abi.Method {
	tb.Helper()
	parsed, err := chain.ABI(contract)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed.Methods[name]
}

// odd is a method with every kind of type.
const odd = `[{"type":"function","name":"odd","inputs":[
 {"name":"a","type":"int8"},{"name":"b","type":"int256"},{"name":"c","type":"uint64"},{"name":"d","type":"bool"},
 {"name":"e","type":"string"},{"name":"f","type":"uint16[2]"},
 {"name":"g","type":"tuple[]","components":[{"name":"x","type":"bytes4"},{"name":"y","type":"address"}]}],"outputs":[]}]`

func oddMethod(tb testing.TB) abi.Method {
	tb.Helper()
	parsed, err := abi.JSON(strings.NewReader(odd))
	if err != nil {
		tb.Fatal(err)
	}
	return parsed.Methods["odd"]
}

const oddArgs = `["-128","-5",7,true,"text",["1","2"],[{"x":"0x01020304","y":"0x0000000000000000000000000000000000000001"}]]`

func TestPackAgreesWithTheBindings(t *testing.T) {
	spec := chaintest.Spec("x")
	got, err := outbox.Pack(method(t, "JobManager", "confirmRunning"), json.RawMessage(`[["0x`+string(spec)+`"]]`))
	if err != nil {
		t.Fatal(err)
	}
	if want := bindings.NewJobManager().PackConfirmRunning([][32]byte{chaintest.Bytes(spec)}); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	m := oddMethod(t)
	got, err = outbox.Pack(m, json.RawMessage(oddArgs))
	if err != nil {
		t.Fatal(err)
	}
	back, err := m.Inputs.Unpack(got[4:])
	if err != nil || back[0] != int8(-128) || back[2] != uint64(7) || back[3] != true || back[4] != "text" || back[5] != [2]uint16{1, 2} {
		t.Errorf("unpacked %v, %v", back, err)
	}
}

func TestPackRefuses(t *testing.T) {
	for old, spoiled := range map[string]string{
		`"-128"`: `"-129"`, `"-5"`: `"1e3"`, `7`: `18446744073709551616`, `true`: `null`, `"text"`: `5`, `["1","2"]`: `["1"]`,
		`"0x01020304"`: `"0x010203"`, `"x":`: `"z":`, `[{"x"`: `[5,{"x"`, `"0x0000000000000000000000000000000000000001"`: `"nobody"`,
		`"y":`: `"w":"1","y":`, `true,`: `true,true,`, `"2"]`: `"-2"]`, `[{`: `{"a":{`, `"1"`: `"+1"`,
	} {
		args := strings.Replace(oddArgs, old, spoiled, 1)
		if _, err := outbox.Pack(oddMethod(t), json.RawMessage(args)); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s instead of %s: %v, want invalid", spoiled, old, err)
		}
	}
	for _, args := range []string{"", "null", "{}", "[]"} {
		if _, err := outbox.Pack(oddMethod(t), json.RawMessage(args)); !errors.Is(err, errs.Invalid) {
			t.Errorf("arguments %q: %v, want invalid", args, err)
		}
	}
}

// FuzzPack feeds JSON from the database: it is packed into bytes that unpack
// again, or refused as invalid.
func FuzzPack(f *testing.F) {
	f.Add(oddArgs)
	f.Add(`[]`)
	f.Add(`["1","2",3,false,"",[1,2],[]]`)
	m := oddMethod(f)
	f.Fuzz(func(t *testing.T, args string) {
		data, err := outbox.Pack(m, json.RawMessage(args))
		if err != nil {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%q: %v, want invalid", args, err)
			}
			return
		}
		if _, err := m.Inputs.Unpack(data[4:]); err != nil {
			t.Errorf("%q was packed into what does not unpack: %v", args, err)
		}
	})
}
