package corenode_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// forwarder is the part of Superfluid's CFAv1Forwarder that is called, as its authors
// write it.
const forwarder = `[{"type":"function","name":"getFlowrate","stateMutability":"view",
	"inputs":[{"name":"token","type":"address"},{"name":"sender","type":"address"},{"name":"receiver","type":"address"}],
	"outputs":[{"name":"flowrate","type":"int96"}]}]`

const (
	payer    = "0xA07B1214bAe0D5ccAA25449C3149c0aC83658874"
	receiver = "0xAD8ac12Ae5bC9f6D902cBDd2f0Dd70F43e522BC2"
)

// chainWith serves a chain with the contract, on which one stream flows.
func chainWith(t *testing.T, id, result string, rate *big.Int) http.HandlerFunc {
	t.Helper()
	contract, err := abi.JSON(strings.NewReader(forwarder))
	if err != nil {
		t.Fatal(err)
	}
	method := contract.Methods["getFlowrate"]
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var call struct {
			Method string
			Params []json.RawMessage
		}
		if err != nil || json.Unmarshal(raw, &call) != nil || r.Method != http.MethodPost {
			t.Errorf("call is %s, %v", raw, err)
		}
		if call.Method == "eth_chainId" {
			says(`{"jsonrpc":"2.0","id":1,"result":"`+id+`"}`)(w, r)
			return
		}
		if call.Method == "eth_getBlockByNumber" {
			says(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"number":"0x2a","timestamp":"0x%x"}}`, time.Now().Unix()))(w, r)
			return
		}
		var tx struct {
			To   common.Address
			Data hexutil.Bytes
		}
		if len(call.Params) != 2 || json.Unmarshal(call.Params[0], &tx) != nil || string(call.Params[1]) != `"0x2a"` || call.Method != "eth_call" {
			t.Errorf("call is %s", raw)
		}
		if result != "" {
			says(result)(w, r)
			return
		}
		if tx.To != common.HexToAddress("0xcfA132E353cB4E398080B9700609bb008eceB125") || len(tx.Data) < 4 || string(tx.Data[:4]) != string(method.ID) {
			t.Errorf("call of %s is %s", tx.To, tx.Data)
			return
		}
		args, err := method.Inputs.Unpack(tx.Data[4:])
		if err != nil {
			t.Errorf("arguments: %v", err)
			return
		}
		got := new(big.Int)
		if args[0] == common.HexToAddress("0xc0Fbc4967259786C743361a5885ef49380473dCF") && args[1] == common.HexToAddress(payer) && args[2] == common.HexToAddress(receiver) {
			got = rate
		}
		out, err := method.Outputs.Pack(got)
		if err != nil {
			t.Errorf("result: %v", err)
			return
		}
		says(`{"jsonrpc":"2.0","id":1,"result":"`+hexutil.Encode(out)+`"}`)(w, r)
	}
}

// blockOf is a chain whose newest block is of a time; of none at all for the zero one.
func blockOf(chain http.HandlerFunc, at time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err == nil && strings.Contains(string(raw), "eth_getBlockByNumber") {
			block := "null"
			if !at.IsZero() {
				block = fmt.Sprintf(`{"number":"0x2a","timestamp":"0x%x"}`, at.Unix())
			}
			says(`{"jsonrpc":"2.0","id":1,"result":`+block+`}`)(w, r)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		chain(w, r)
	}
}

func streaming(t *testing.T, n *network) *corenode.Client {
	t.Helper()
	return open(t, n, func(cfg *corenode.Config) { cfg.Avalanche.RPCURL = "https://rpc/secret, https://spare/secret" })
}

func TestFlowsAreReadFromTheContract(t *testing.T) {
	n := &network{servers: map[string]http.HandlerFunc{"rpc": chainWith(t, "0xa86a", "", big.NewInt(15_277_777_777_777))}}
	c := streaming(t, n)
	flow, err := c.Flow(t.Context(), "AVAX", strings.ToLower(payer), receiver)
	if want, _ := new(big.Rat).SetString("0.000015277777777777"); err != nil || flow.Cmp(want) != 0 {
		t.Errorf("flow is %v, %v, want %v", flow, err, want)
	}
	flow, err = c.Flow(t.Context(), "AVAX", receiver, payer)
	if err != nil || flow.Sign() != 0 {
		t.Errorf("flow back is %v, %v, want 0", flow, err)
	}
	if got := n.hosts(); got != "rpc rpc rpc rpc rpc" {
		t.Errorf("asked %q, want the id of the chain once, and the newest block each time", got)
	}
}

func TestFlowsThatAreNoneAreDoubt(t *testing.T) {
	word := func(hex string) string {
		return `{"jsonrpc":"2.0","id":1,"result":"0x` + strings.Repeat("0", 64-len(hex)) + hex + `"}`
	}
	good := chainWith(t, "0xa86a", "", big.NewInt(1))
	for name, bad := range map[string]http.HandlerFunc{
		"away":             nil,
		"another chain":    chainWith(t, "0x1", "", big.NewInt(1)),
		"no chain":         chainWith(t, "", "", big.NewInt(1)),
		"below 0":          chainWith(t, "0xa86a", "", big.NewInt(-1)),
		"no int96":         chainWith(t, "0xa86a", word("8"+strings.Repeat("0", 23)), nil),
		"no contract":      chainWith(t, "0xa86a", `{"jsonrpc":"2.0","id":1,"result":"0x"}`, nil),
		"two words":        chainWith(t, "0xa86a", `{"jsonrpc":"2.0","id":1,"result":"0x`+strings.Repeat("0", 128)+`"}`, nil),
		"an error":         chainWith(t, "0xa86a", `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}`, nil),
		"nothing":          chainWith(t, "0xa86a", `{}`, nil),
		"a null":           chainWith(t, "0xa86a", `{"result":null}`, nil),
		"a page":           answers(200, "text/html", "<html>"),
		"busy":             answers(429, "text/plain", ""),
		"not found":        answers(404, "text/plain", ""),
		"redirects":        answers(307, "text/plain", "", "Location", "https://spare/"),
		"too long a reply": says(`"` + strings.Repeat("x", 1<<20) + `"`),
		"stands still":     blockOf(good, time.Now().Add(-time.Hour)),
		"is of tomorrow":   blockOf(good, time.Now().Add(24*time.Hour)),
		"has no block":     blockOf(good, time.Time{}),
	} {
		n := &network{servers: map[string]http.HandlerFunc{"rpc": bad}}
		_, err := streaming(t, n).Flow(t.Context(), "AVAX", payer, receiver)
		wantKind(t, name, err, errs.Unavailable)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the URL: %v", name, err)
		}
		n.servers["spare"] = good
		if flow, err := streaming(t, n).Flow(t.Context(), "AVAX", payer, receiver); err != nil || flow.Cmp(big.NewRat(1, 1e18)) != 0 {
			t.Errorf("%s: of another RPC, flow is %v, %v", name, flow, err)
		}
	}
}

func TestFlowsWhereThereAreNone(t *testing.T) {
	n := &network{}
	c := streaming(t, n)
	for _, tt := range []struct {
		chain    message.Chain
		from, to string
		want     errs.Kind
	}{
		{"BASE", payer, receiver, errs.Unavailable}, // Not configured.
		{"ETH", payer, receiver, errs.Invalid},
		{"", payer, receiver, errs.Invalid},
		{"AVAX", "nobody", receiver, errs.Invalid},
		{"AVAX", payer, "", errs.Invalid},
	} {
		_, err := c.Flow(t.Context(), tt.chain, tt.from, tt.to)
		wantKind(t, string(tt.chain)+" from "+tt.from+" to "+tt.to, err, tt.want)
	}
	if asked := n.hosts(); asked != "" {
		t.Errorf("asked %s", asked)
	}
}
