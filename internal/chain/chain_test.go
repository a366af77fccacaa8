package chain_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

var quiet = slog.New(slog.DiscardHandler)

func dial(t *testing.T, urls string, id uint64) *chain.Client {
	t.Helper()
	c, err := chain.Dial(t.Context(), chain.Config{RPCURL: urls, ChainID: id}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answering returns the URL of a server that answers every request with body.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // A client that left is no trouble.
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// refusing is an RPC that knows its chain, the local one, and answers everything
// else with the body.
func refusing(t *testing.T, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := body
		if asked, err := io.ReadAll(r.Body); err == nil && strings.Contains(string(asked), "eth_chainId") {
			answer = fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":"%#x"}`, devchain.ChainID)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer) // A client that left is no trouble.
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestClientReadsTheChain(t *testing.T) {
	n := chaintest.Start(t)
	ctx := t.Context()
	r := n.Open(t, chaintest.Spec("one"), chaintest.RateQ32(5))

	head := n.Head(t)
	if head.Number != r.Number || head.Hash != r.Block || head.BaseFee.Sign() <= 0 {
		t.Errorf("head is %+v, the job was opened in block %d %s", head, r.Number, r.Block)
	}
	two, err := n.Client.Headers(ctx, []uint64{head.Number - 1, head.Number})
	if err != nil || two[1].Parent != two[0].Hash {
		t.Errorf("headers %+v, %v", two, err)
	}
	watched := []common.Address{n.Deployment.Contracts.JobManager}
	logs, err := n.Client.LogsBetween(ctx, 0, head.Number, watched)
	if err != nil || len(logs) == 0 || logs[len(logs)-1].TxHash != r.Tx {
		t.Errorf("logs %v, %v, want the job's at the end", logs, err)
	}
	in, err := n.Client.LogsIn(ctx, []common.Hash{two[0].Hash, two[1].Hash}, watched)
	if err != nil || len(in[0]) != 0 || len(in[1]) != 1 {
		t.Errorf("logs by block %v, %v, want one in the second", in, err)
	}
	if code, err := n.Client.Code(ctx, watched[0]); err != nil || len(code) == 0 {
		t.Errorf("code of %d bytes, %v", len(code), err)
	}
	at := uint64(1)
	if nonce, err := n.Client.Nonce(ctx, n.Admin.Address, &at); err != nil || nonce != 0 {
		t.Errorf("nonce in block 1 is %d, %v, want 0", nonce, err)
	}
	if wei, err := n.Client.Balance(ctx, n.Compute.Address()); err != nil || wei.Cmp(chaintest.Aleph(1)) != 0 {
		t.Errorf("balance %v, %v, want one ether", wei, err)
	}
	if _, err := n.Client.Receipt(ctx, common.Hash{1}); !errors.Is(err, errs.NotFound) {
		t.Errorf("receipt of nothing: %v, want not found", err)
	}
	if _, err := n.Client.Header(ctx, 1<<40); !errors.Is(err, errs.NotFound) {
		t.Errorf("block of the future: %v, want not found", err)
	}
	if _, err := n.Client.Headers(ctx, []uint64{0, 1 << 40}); !errors.Is(err, errs.NotFound) {
		t.Errorf("blocks of the future: %v, want not found", err)
	}
	if _, err := n.Client.LogsIn(ctx, []common.Hash{{1}}, watched); !errors.Is(err, errs.NotFound) {
		t.Errorf("logs of an unknown block: %v, want not found, never an empty list", err)
	}
}

func TestCheckNamesTheWrongChain(t *testing.T) {
	n := chaintest.Start(t)

	_, err := dial(t, n.Chain.URL(), 42161).Check(t.Context())

	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "serves chain 31337, but chain_id is 42161") {
		t.Errorf("Check of the wrong chain: %v", err)
	}
	genesis, err := n.Client.Check(t.Context())
	if first, herr := n.Client.Header(t.Context(), 0); err != nil || herr != nil || first.Hash != genesis {
		t.Errorf("Check: %v, %v, want the first block's hash", genesis, err)
	}
}

func TestCheckClock(t *testing.T) {
	n := chaintest.Start(t)
	at := time.Unix(int64(n.Head(t).Time), 0)
	for skew, want := range map[time.Duration]string{
		0: "", 20 * time.Second: "", time.Hour: "1h0m0s old", -time.Hour: "1h0m0s behind",
	} {
		err := n.Client.CheckClock(t.Context(), at.Add(skew), time.Minute)
		if want == "" && err != nil || want != "" && (!errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("clock off by %v: %v, want %q", skew, err, want)
		}
	}
}

func TestClientTurnsToAnotherRPC(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	other := answering(t, http.StatusOK, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`)
	c := dial(t, wire.URL+", "+other+","+n.Chain.URL(), devchain.ChainID)
	if _, err := c.Head(t.Context()); err != nil {
		t.Fatal(err)
	}

	wire.Cut()

	for range 2 {
		if _, err := c.Head(t.Context()); err != nil {
			t.Errorf("with one of two RPCs away: %v", err)
		}
	}
}

func TestFailuresHaveKinds(t *testing.T) {
	answer := func(code, text string) string {
		return `{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `,"message":"` + text + `"}}`
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   errs.Kind
	}{
		{"another chain", 200, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`, errs.Invalid},
		{"no JSON", 200, `<html>`, errs.Unavailable},
		{"server error", 503, `busy`, errs.Unavailable},
		{"rate limit", 200, answer("-32005", "slow down"), errs.Unavailable},
		{"unknown method", 200, answer("-32601", "the method does not exist"), errs.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dial(t, answering(t, tt.status, tt.body), devchain.ChainID).Head(t.Context())
			if got := errs.KindOf(err); got != tt.want {
				t.Errorf("%v is of kind %s, want %s", err, got, tt.want)
			}
		})
	}
	for text, want := range map[string]errs.Kind{
		"insufficient funds for gas * price + value": errs.Exhausted, "nonce too low: next nonce 5, tx nonce 1": errs.Conflict,
		"the moon is full": errs.Internal,
	} {
		_, err := dial(t, refusing(t, answer("-32000", text)), devchain.ChainID).Head(t.Context())
		if got := errs.KindOf(err); got != want {
			t.Errorf("%v is of kind %s, want %s", err, got, want)
		}
	}
	if _, err := dial(t, "http://127.0.0.1:1/v2/secret-key", devchain.ChainID).Head(t.Context()); !errors.Is(err, errs.Unavailable) || strings.Contains(err.Error(), "secret-key") {
		t.Errorf("RPC that is away: %v, want unavailable and no secret", err)
	}
	if _, err := chain.Dial(t.Context(), chain.Config{RPCURL: "ws://127.0.0.1:1", ChainID: 1}, quiet); !errors.Is(err, errs.Unavailable) {
		t.Errorf("WebSocket that is away: %v", err)
	}
	if _, err := chain.Dial(t.Context(), chain.Config{}, quiet); !errors.Is(err, errs.Invalid) {
		t.Errorf("no RPC: %v", err)
	}
}

func TestRefusalsAreReadable(t *testing.T) {
	n := chaintest.Start(t)
	jobs := bindings.NewJobManager()
	call := chain.Call{From: n.Compute.Address(), To: n.Deployment.Contracts.JobManager}

	call.Data = jobs.PackStop(chaintest.Bytes(chaintest.Spec("none")))
	_, err := n.Client.EstimateGas(t.Context(), call)
	var revert *chain.Revert
	if !errors.As(err, &revert) || revert.Name == "" {
		t.Errorf("stop of no job: %v, want a refusal with a name", err)
	}
	call.To, call.Data = n.Deployment.Contracts.AlephToken, bindings.NewAlephToken().PackTransfer(n.Admin.Address, big.NewInt(7))
	_, err = n.Client.Call(t.Context(), call)
	if !errors.Is(err, errs.Exhausted) || !strings.Contains(err.Error(), "has 0 wei, 7 wei are needed (ERC20InsufficientBalance)") {
		t.Errorf("transfer of what is not there: %v", err)
	}
	if _, err := n.Client.Calls(t.Context(), []chain.Call{call}); !errors.As(err, &revert) {
		t.Errorf("the same in a batch: %v", err)
	}
	for data, want := range map[string]string{
		"": "without a reason", "0x01020304": "0x01020304",
		"0x08c379a000000000000000000000000000000000000000000000000000000000000000200000000000000000000000000000000000000000000000000000000000000002" +
			"6e6f000000000000000000000000000000000000000000000000000000000000": "refused: no",
	} {
		if got := chain.DecodeRevert(common.FromHex(data)).Error(); !strings.Contains(got, want) {
			t.Errorf("refusal with %q is %q, want it to contain %q", data, got, want)
		}
	}
}

// TestEveryErrorHasAMeaning holds the table of meanings against the contracts.
func TestEveryErrorHasAMeaning(t *testing.T) {
	known := map[string]bool{}
	for _, c := range bindings.Suite() {
		parsed, err := c.Meta.ParseABI()
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range parsed.Errors {
			known[name] = true
			data := append(e.ID[:4:4], make([]byte, 32*len(e.Inputs))...)
			r := chain.DecodeRevert(data)
			if strings.Contains(r.Error(), "{") || !strings.HasSuffix(r.Error(), "("+name+")") || r.Name != name {
				t.Errorf("%s reads %q, want a sentence from the table", name, r.Error())
			}
		}
	}
	for _, name := range chain.Meanings() {
		if !known[name] {
			t.Errorf("no contract has the error %s", name)
		}
	}
}

func TestSendKnowsWhatItSent(t *testing.T) {
	n := chaintest.Start(t)
	key := n.Payer.Key
	nonce, err := n.Client.Nonce(t.Context(), n.Payer.Address, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(nonce uint64, wei *big.Int) []byte {
		tx, err := types.SignNewTx(key, types.LatestSignerForChainID(n.Client.ChainID()), &types.DynamicFeeTx{
			ChainID: n.Client.ChainID(), Nonce: nonce, Gas: 21000, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), To: &common.Address{1}, Value: wei,
		})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tx.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}

	raw := signed(nonce, big.NewInt(1))
	for range 2 {
		if err := n.Client.Send(t.Context(), raw); err != nil {
			t.Errorf("send: %v", err)
		}
	}
	if err := n.Client.SendAll(t.Context(), [][]byte{raw}); err != nil {
		t.Errorf("send all: %v", err)
	}
	if err := n.Client.Send(t.Context(), signed(nonce+1, chaintest.Aleph(100_000))); !errors.Is(err, errs.Exhausted) {
		t.Errorf("send more than there is: %v, want exhausted", err)
	}
	if err := n.Client.Send(t.Context(), signed(0, big.NewInt(1))); !errors.Is(err, errs.Conflict) {
		t.Errorf("send with a used nonce: %v, want a conflict", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := chain.DefaultConfig()
	good.RPCURL = "http://127.0.0.1:8545, wss://rpc.example"
	for i, name := range chain.Names() {
		if err := good.Contracts.Set(name, common.Address{byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
		if a, err := good.Contracts.Address(name); err != nil || a != (common.Address{byte(i + 1)}) {
			t.Errorf("address of %s is %s, %v", name, a, err)
		}
		if _, err := chain.ABI(name); err != nil {
			t.Errorf("interface of %s: %v", name, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Errorf("a good config: %v", err)
	}
	for want, spoil := range map[string]func(*chain.Config){
		"rpc_url is empty":                func(c *chain.Config) { c.RPCURL = " , " },
		`rpc_url is "ftp://x"`:            func(c *chain.Config) { c.RPCURL = "ftp://x" },
		"chain_id is 0":                   func(c *chain.Config) { c.ChainID = 0 },
		"poll_interval is 1ms":            func(c *chain.Config) { c.PollInterval = time.Millisecond },
		"confirmations is 9999":           func(c *chain.Config) { c.Confirmations = 9999 },
		"contracts.JobManager is missing": func(c *chain.Config) { c.Contracts.JobManager = common.Address{} },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := chain.ABI("Nothing"); !errors.Is(err, errs.NotFound) {
		t.Errorf("interface of nothing: %v", err)
	}
	if _, err := good.Contracts.Address("Nothing"); !errors.Is(err, errs.NotFound) {
		t.Errorf("address of nothing: %v", err)
	}
	if err := good.Contracts.Set("Nothing", common.Address{}); !errors.Is(err, errs.NotFound) {
		t.Errorf("setting nothing: %v", err)
	}
}

// FuzzDecodeRevert feeds what a contract or an RPC may answer.
func FuzzDecodeRevert(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(hexutil.MustDecode("0x08c379a0"))
	parsed, err := chain.ABI("PaymentManager")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range parsed.Errors {
		f.Add(append(e.ID[:4:4], make([]byte, 32*len(e.Inputs))...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r := chain.DecodeRevert(data); r.Error() == "" || r.Kind == "" {
			t.Errorf("refusal with %x has no text or kind", data)
		}
	})
}

// FuzzHeader feeds what an RPC may answer when asked for a block.
func FuzzHeader(f *testing.F) {
	f.Add(`{"number":"0x1","hash":"0x` + strings.Repeat("1", 64) + `","parentHash":"0x` + strings.Repeat("2", 64) + `","timestamp":"0x5"}`)
	f.Add(`null`)
	f.Add(`{}`)
	f.Add(`{"number":"0xffffffffffffffffffff"}`)
	f.Fuzz(func(t *testing.T, body string) {
		h, err := chain.ParseHeader([]byte(body))
		if err == nil && h == nil {
			t.Error("neither a block nor an error")
		}
	})
}
