// Package devchain is an EVM chain of one process for local networks and tests:
// go-ethereum as a library, with JSON-RPC over HTTP and WebSocket on loopback
// and a block producer of its own.
//
// Chain time is the wall clock plus an offset. A block is made as soon as a
// transaction waits, but never more than a second ahead of chain time:
// transactions that come faster share a block. With nothing to do an empty
// block is made every two seconds, because leases and payments follow the time
// of the newest block. After a restart chain time goes on from the last block,
// so nobody is billed for the time the network was down.
//
// The RPC speaks eth, net, web3, txpool and debug, and of the test methods that
// developers know from anvil: evm_mine, evm_increaseTime,
// evm_setNextBlockTimestamp and anvil_reorg.
package devchain

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// ChainID is the chain id of every local network; a signature made for one is
// never valid on Arbitrum One.
const ChainID = 31337

const (
	// host is the only address the RPC listens on; the keys of the funded
	// accounts are public.
	host = "127.0.0.1"
	// gasLimit of a block lets the whole deployment share one block.
	gasLimit = 250_000_000
	// baseFeeWei is the first block's; about what Arbitrum One asks for.
	baseFeeWei = 10_000_000
	// cacheMiB and handles keep the process small; a local chain is.
	cacheMiB = 32
	handles  = 256
	// indexMax is how long the look-up of transactions may take to become ready;
	// of an old chain it reads every block.
	indexMax = time.Minute
	// genesisFile holds what the first block was made from, so that the same
	// directory gives the same chain.
	genesisFile = "genesis.json"
)

// Config says where a chain lives and listens.
type Config struct {
	DataDir string // Keeps the chain; "" = in memory.
	Port    int    // Of the RPC on 127.0.0.1; 0 = any free one.
}

// Chain is a running chain. Use Open.
type Chain struct {
	log   *slog.Logger
	stack *node.Node
	eth   *eth.Ethereum

	mu     sync.Mutex    // Guards the fields below and the making of blocks.
	offset time.Duration // Chain time minus wall clock.
	next   uint64        // Timestamp that evm_setNextBlockTimestamp asked for; 0 = none.
}

// genesis is what the first block is made from.
type genesis struct {
	ChainID uint64 `json:"chain_id"`
	Time    uint64 `json:"time"`
}

// Open opens the chain that cfg names, making it if there is none, and answers
// RPC at once. Blocks are made while Run runs, or one by one by Mine. A
// directory that another process uses gives errs.Conflict, and so does a port.
func Open(cfg Config, log *slog.Logger) (_ *Chain, err error) {
	adoptLogs(log)
	gen, err := readGenesis(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	stack, err := node.New(nodeConfig(cfg, log))
	if err != nil {
		return nil, fmt.Errorf("make chain in %q: %w", cfg.DataDir, kindOf(err))
	}
	defer func() {
		if err == nil {
			return
		}
		// A stack that could not start has closed itself.
		if cerr := stack.Close(); !errors.Is(cerr, node.ErrNodeStopped) {
			err = errors.Join(err, cerr)
		}
	}()
	backend, err := eth.New(stack, ethConfig(gen))
	if err != nil {
		return nil, fmt.Errorf("open chain in %q: %w", cfg.DataDir, err)
	}
	c := &Chain{log: log, stack: stack, eth: backend}
	stack.RegisterAPIs([]rpc.API{
		{Namespace: "eth", Service: filters.NewFilterAPI(filters.NewFilterSystem(backend.APIBackend, filters.Config{}))},
		{Namespace: "evm", Service: &evmAPI{c}},
		{Namespace: "anvil", Service: &anvilAPI{c}},
	})
	if err := stack.Start(); err != nil {
		return nil, fmt.Errorf("start chain on port %d: %w", cfg.Port, kindOf(err))
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return c, nil
}

// begin sets chain time going. A new chain gets an empty block: only with one
// does the library index transactions, and until then it refuses to look any up.
func (c *Chain) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := c.eth.BlockChain().CurrentBlock()
	if head.Number.Sign() == 0 {
		if _, err := c.seal(head.Time + 1); err != nil {
			return err
		}
	} else {
		c.offset = time.Until(time.Unix(int64(head.Time), 0))
	}
	end, tick := time.NewTimer(indexMax), time.NewTicker(time.Millisecond)
	defer end.Stop()
	defer tick.Stop()
	for !c.eth.BlockChain().TxIndexDone() {
		select {
		case <-tick.C:
		case <-end.C:
			return errs.New(errs.Internal, "the chain's transactions are not indexed after %v", indexMax)
		}
	}
	return nil
}

// Close stops answering and closes the database. Run must have returned.
func (c *Chain) Close() error {
	if err := c.stack.Close(); err != nil {
		return fmt.Errorf("close chain: %w", err)
	}
	return nil
}

// URL returns where the chain answers JSON-RPC over HTTP.
func (c *Chain) URL() string { return c.stack.HTTPEndpoint() }

// WSURL returns where the chain answers JSON-RPC over WebSocket.
func (c *Chain) WSURL() string { return c.stack.WSEndpoint() }

func nodeConfig(cfg Config, log *slog.Logger) *node.Config {
	nc := node.DefaultConfig
	nc.Name = "devchain"
	nc.DataDir = cfg.DataDir
	nc.IPCPath = ""
	nc.UseLightweightKDF = true
	nc.P2P = p2p.Config{NoDiscovery: true, NoDial: true}
	nc.HTTPHost, nc.HTTPPort = host, cfg.Port
	nc.HTTPModules = []string{"eth", "net", "web3", "txpool", "debug", "evm", "anvil"}
	nc.WSHost, nc.WSPort, nc.WSModules = host, cfg.Port, nc.HTTPModules
	nc.AuthAddr, nc.AuthPort = host, 0
	nc.Logger = gethLogger(log)
	return &nc
}

func ethConfig(gen genesis) *ethconfig.Config {
	ec := ethconfig.Defaults
	ec.NetworkId = gen.ChainID
	ec.Genesis = gen.block()
	ec.SyncMode = ethconfig.FullSync
	// Every state is written with its block, so a killed process loses none.
	ec.NoPruning, ec.StateScheme, ec.Preimages = true, "hash", false
	ec.DatabaseCache, ec.DatabaseHandles = cacheMiB, handles
	ec.TrieCleanCache, ec.TrieDirtyCache, ec.SnapshotCache = cacheMiB, 0, 0
	ec.LogNoHistory = true // The bloom of each header is index enough.
	ec.TxPool.Journal, ec.TxPool.NoLocals = "", true
	// A deployment is one row of some hundred transactions of one account.
	ec.TxPool.AccountSlots, ec.TxPool.AccountQueue = 1024, 1024
	ec.BlobPool.Datadir = ""
	ec.Miner.GasCeil = gasLimit
	ec.Miner.GasPrice = big.NewInt(1) // Any tip will do.
	ec.RPCGasCap = gasLimit
	ec.RPCTxFeeCap = 0 // No limit: the money is play money.
	return &ec
}

// block returns the first block. The contracts that the protocol itself calls
// in every block are left out: without them an empty block changes no state and
// a chain that idles for a week stays small.
func (g genesis) block() *core.Genesis {
	cfg := *params.AllDevChainProtocolChanges
	cfg.ChainID = new(big.Int).SetUint64(g.ChainID)
	// The rules of Cancun, for which the contracts are compiled. Later forks
	// change what gas a call takes.
	cfg.PragueTime, cfg.OsakaTime, cfg.AmsterdamTime, cfg.BogotaTime = nil, nil, nil, nil
	cfg.BlobScheduleConfig = &params.BlobScheduleConfig{Cancun: params.DefaultCancunBlobConfig}
	alloc := types.GenesisAlloc{}
	for _, a := range Accounts() {
		alloc[a.Address] = types.Account{Balance: fundsWei()}
	}
	return &core.Genesis{
		Config: &cfg, Timestamp: g.Time, GasLimit: gasLimit, Alloc: alloc,
		BaseFee: big.NewInt(baseFeeWei), Difficulty: new(big.Int),
	}
}

// readGenesis returns what the chain in dir was made from, and for a new one
// decides it and writes it down.
func readGenesis(dir string) (genesis, error) {
	// In the past, so that the first block and two more have room at once.
	g := genesis{ChainID: ChainID, Time: uint64(time.Now().Unix()) - 2}
	if dir == "" {
		return g, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return g, fmt.Errorf("create chain directory: %w", err)
	}
	path := filepath.Join(dir, genesisFile)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &g); err != nil {
			return g, errs.New(errs.Internal, "read %s: %w", path, err)
		}
		return g, nil
	case !errors.Is(err, os.ErrNotExist):
		return g, fmt.Errorf("read genesis: %w", err)
	}
	raw, err = json.Marshal(g)
	if err != nil {
		return g, fmt.Errorf("encode genesis: %w", err)
	}
	return g, writeFile(path, raw)
}

// writeFile writes a file whole or not at all, even if the machine stops.
func writeFile(path string, raw []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".genesis-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
