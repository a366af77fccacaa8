package devchain_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"go.uber.org/goleak"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

var quiet = slog.New(slog.DiscardHandler)

// open opens a chain that makes no blocks by itself.
func open(t *testing.T, cfg devchain.Config) (*devchain.Chain, *ethclient.Client) {
	t.Helper()
	c, err := devchain.Open(cfg, quiet)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	client, err := ethclient.DialContext(t.Context(), c.URL())
	if err != nil {
		t.Fatalf("dial %s: %v", c.URL(), err)
	}
	t.Cleanup(client.Close)
	return c, client
}

// run runs the chain until the returned function is called.
func run(t *testing.T, c *devchain.Chain) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want the context's cause", err)
		}
	}
}

func closing(t *testing.T, c *devchain.Chain) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// send sends a payment of one wei with the nonce and returns its hash.
func send(t *testing.T, client *ethclient.Client, from devchain.Account, nonce uint64) common.Hash {
	t.Helper()
	tx, err := types.SignNewTx(from.Key, types.LatestSignerForChainID(big.NewInt(devchain.ChainID)), &types.DynamicFeeTx{
		ChainID: big.NewInt(devchain.ChainID), Nonce: nonce, Gas: 21_000,
		GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), To: &common.Address{1}, Value: big.NewInt(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SendTransaction(t.Context(), tx); err != nil {
		t.Fatalf("send transaction %d: %v", nonce, err)
	}
	return tx.Hash()
}

func mined(t *testing.T, client *ethclient.Client, hash common.Hash) *types.Receipt {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		receipt, err := client.TransactionReceipt(t.Context(), hash)
		if err == nil {
			return receipt
		}
		select {
		case <-deadline.C:
			t.Fatalf("transaction %s is not mined: %v", hash, err)
		case <-tick.C:
		}
	}
}

func head(t *testing.T, client *ethclient.Client) *types.Header {
	t.Helper()
	h, err := client.HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func call(t *testing.T, client *ethclient.Client, result any, method string, args ...any) {
	t.Helper()
	if err := client.Client().CallContext(t.Context(), result, method, args...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// A pool that announces more than anybody takes must not keep the next block.
func TestBlocksGoOnWhileTransactionsPour(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	stop := run(t, c)
	defer stop()
	const each = 300
	lasts := make(chan common.Hash)
	accounts := devchain.Accounts()

	for _, from := range accounts {
		go func() {
			var last common.Hash
			defer func() { lasts <- last }() // Even if a send fails.
			for nonce := range uint64(each) {
				last = send(t, client, from, nonce)
			}
		}()
	}

	for range accounts {
		mined(t, client, <-lasts)
	}
}

func TestOpenAnswersWithFundedAccounts(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)

	id, err := client.ChainID(t.Context())
	if err != nil || id.Int64() != devchain.ChainID {
		t.Errorf("chain id %v, %v, want %d", id, err, devchain.ChainID)
	}
	want := new(big.Int).Mul(big.NewInt(10_000), big.NewInt(1e18))
	accounts := devchain.Accounts()
	if len(accounts) != 10 {
		t.Errorf("%d accounts, want 10", len(accounts))
	}
	if got := accounts[0].Address.Hex(); got != "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" {
		t.Errorf("first account %s", got)
	}
	for _, a := range accounts {
		got, err := client.BalanceAt(t.Context(), a.Address, nil)
		if err != nil || got.Cmp(want) != 0 {
			t.Errorf("balance of %s is %v, %v, want %v", a.Address, got, err, want)
		}
	}
	ws, err := ethclient.DialContext(t.Context(), c.WSURL())
	if err != nil {
		t.Fatalf("dial %s: %v", c.WSURL(), err)
	}
	ws.Close()
}

func TestRunMinesAtOnceAndBatchesWhatComesFaster(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	defer run(t, c)()
	from := devchain.Accounts()[0]

	var last common.Hash
	for nonce := range uint64(30) {
		last = send(t, client, from, nonce)
	}
	receipt := mined(t, client, last)

	if n := receipt.BlockNumber.Uint64(); n > 4 {
		t.Errorf("30 transactions took %d blocks, want at most 3", n-1)
	}
	if at, now := head(t, client).Time, uint64(time.Now().Unix()); at > now+1 {
		t.Errorf("head is at %d, %d s ahead of the clock", at, at-now)
	}
}

func TestRunNeverRunsAheadOfTime(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	defer run(t, c)()
	from := devchain.Accounts()[1]

	for nonce := range uint64(5) {
		mined(t, client, send(t, client, from, nonce))

		if at, now := head(t, client).Time, uint64(time.Now().Unix()); at > now+1 {
			t.Errorf("after transaction %d the head is %d s ahead of the clock", nonce, at-now)
		}
	}
}

func TestRunMovesTimeWithoutTransactions(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	defer run(t, c)()
	heads := make(chan *types.Header, 1)
	ws, err := ethclient.DialContext(t.Context(), c.WSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	sub, err := ws.SubscribeNewHead(t.Context(), heads)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	before := head(t, client)

	select {
	case h := <-heads:
		if h.Time <= before.Time || h.GasUsed != 0 || h.Root != before.Root {
			t.Errorf("heartbeat at %d used %d gas, want a later, empty block that changes nothing", h.Time, h.GasUsed)
		}
	case <-time.After(10 * time.Second):
		t.Error("no block in 10 s")
	}
}

func TestTimeMethods(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	start := head(t, client).Time

	var hash common.Hash
	call(t, client, &hash, "evm_mine")
	var now int64
	call(t, client, &now, "evm_increaseTime", "0xe10")
	call(t, client, &hash, "evm_mine")
	after := head(t, client)
	if after.Time < start+3600 || after.Time > start+3610 {
		t.Errorf("an hour later the head is %d s after the start", after.Time-start)
	}
	if after.Hash() != hash {
		t.Errorf("evm_mine answered %s, head is %s", hash, after.Hash())
	}
	call(t, client, nil, "evm_setNextBlockTimestamp", after.Time+100)
	call(t, client, &hash, "evm_mine")
	if got := head(t, client).Time; got != after.Time+100 {
		t.Errorf("head at %d, want the asked %d", got, after.Time+100)
	}

	for method, args := range map[string][]any{
		"evm_setNextBlockTimestamp": {after.Time},
		"evm_increaseTime":          {"soon"},
		"anvil_reorg":               {1000, []any{}},
	} {
		if err := client.Client().CallContext(t.Context(), nil, method, args...); err == nil {
			t.Errorf("%s(%v) succeeded", method, args)
		}
	}
	if err := client.Client().CallContext(t.Context(), nil, "evm_increaseTime", uint64(1)<<62); err == nil {
		t.Error("a jump past the end of time succeeded")
	}
	if err := client.Client().CallContext(t.Context(), nil, "anvil_reorg", 1, []any{[]any{"0x00", 0}}); err == nil {
		t.Error("anvil_reorg with transactions succeeded")
	}
}

func TestReorgDropsTransactions(t *testing.T) {
	c, client := open(t, devchain.Config{})
	defer closing(t, c)
	from := devchain.Accounts()[2]
	for range 3 {
		if _, err := c.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	hash := send(t, client, from, 0)
	if _, err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	old := head(t, client)
	mined(t, client, hash)

	call(t, client, nil, "anvil_reorg", 2, []any{})

	h := head(t, client)
	if h.Number.Cmp(old.Number) != 0 || h.Time != old.Time || h.Hash() == old.Hash() {
		t.Errorf("head %d at %d (%s) after the reorg of %d at %d (%s), want another block at the same place",
			h.Number, h.Time, h.Hash(), old.Number, old.Time, old.Hash())
	}
	if _, err := client.TransactionReceipt(t.Context(), hash); err == nil {
		t.Error("the transaction is still mined")
	}
	if n, err := client.PendingNonceAt(t.Context(), from.Address); err != nil || n != 0 {
		t.Errorf("pending nonce %d, %v, want 0: the pool kept the transaction", n, err)
	}
	again := send(t, client, from, 0)
	if _, err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	if again != hash || mined(t, client, again).BlockNumber.Cmp(big.NewInt(6)) != 0 {
		t.Error("the transaction sent again is not in the next block")
	}
}

func TestReopenContinuesChainAndTime(t *testing.T) {
	dir := t.TempDir()
	c, client := open(t, devchain.Config{DataDir: dir})
	hash := send(t, client, devchain.Accounts()[0], 0)
	c.IncreaseTime(24 * time.Hour)
	if _, err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	genesis, err := client.HeaderByNumber(t.Context(), new(big.Int))
	if err != nil {
		t.Fatal(err)
	}
	old := head(t, client)
	if _, err := devchain.Open(devchain.Config{DataDir: dir}, quiet); !errors.Is(err, errs.Conflict) {
		t.Errorf("second Open of the directory: %v, want a conflict", err)
	}
	_, port, err := net.SplitHostPort(c.URL()[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	if _, err := devchain.Open(devchain.Config{Port: n}, quiet); !errors.Is(err, errs.Conflict) || strings.Contains(err.Error(), "\n") {
		t.Errorf("second Open of the port: %v, want a conflict", err)
	}
	closing(t, c)

	c, client = open(t, devchain.Config{DataDir: dir})
	defer closing(t, c)

	if got := head(t, client); got.Hash() != old.Hash() {
		t.Errorf("head %d %s after reopening, want %d %s", got.Number, got.Hash(), old.Number, old.Hash())
	}
	if again, err := client.HeaderByNumber(t.Context(), new(big.Int)); err != nil || again.Hash() != genesis.Hash() {
		t.Errorf("genesis %v, %v, want %s", again, err, genesis.Hash())
	}
	mined(t, client, hash)
	if _, err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	if got := head(t, client).Time; got <= old.Time || got > old.Time+10 {
		t.Errorf("the next block is %d s after the last one, want a moment", int64(got)-int64(old.Time))
	}
}

// TestKilledChainLosesNothing kills a process that runs a chain, right after it
// saw its transaction mined.
func TestKilledChainLosesNothing(t *testing.T) {
	if dir := os.Getenv("DEVCHAIN_KILL_DIR"); dir != "" {
		c, client := open(t, devchain.Config{DataDir: dir})
		for nonce := range uint64(3) {
			send(t, client, devchain.Accounts()[3], nonce)
			if _, err := c.Mine(); err != nil {
				t.Fatal(err)
			}
		}
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if err := self.Kill(); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChainLosesNothing$")
	cmd.Env = append(os.Environ(), "DEVCHAIN_KILL_DIR="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}

	c, client := open(t, devchain.Config{DataDir: dir})
	defer closing(t, c)

	if got := head(t, client).Number.Uint64(); got != 4 {
		t.Errorf("head is %d, want 4", got)
	}
	if n, err := client.NonceAt(t.Context(), devchain.Accounts()[3].Address, nil); err != nil || n != 3 {
		t.Errorf("nonce %d, %v, want 3", n, err)
	}
}

func TestOpenRefusesBrokenDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "genesis.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := devchain.Open(devchain.Config{DataDir: dir}, quiet); !errors.Is(err, errs.Internal) {
		t.Errorf("Open with a broken genesis file: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var pathErr *fs.PathError
	if _, err := devchain.Open(devchain.Config{DataDir: file}, quiet); !errors.As(err, &pathErr) {
		t.Errorf("Open of a file: %v", err)
	}
}

func TestOpenAndCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c, err := devchain.Open(devchain.Config{DataDir: t.TempDir()}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, c)
	if _, err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	stop()
	closing(t, c)
	deadline := time.NewTimer(10 * time.Second) // The p2p database drains for a second after Close.
	defer deadline.Stop()
	for {
		select {
		case <-deadline.C:
			goleak.VerifyNone(t, before)
			return
		default:
			if goleak.Find(before) == nil {
				return
			}
		}
	}
}

func FuzzQuantity(f *testing.F) {
	for _, seed := range []string{`12`, `"12"`, `"0xc"`, `-1`, `null`, `"soon"`, `99999999999999999999`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := devchain.ParseQuantity(raw); err == nil && n > 1<<63-1 {
			t.Errorf("%q is %d, more than a time can be", raw, n)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		c, err := devchain.Open(devchain.Config{}, quiet)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
