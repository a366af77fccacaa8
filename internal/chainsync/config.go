package chainsync

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// intervalMin keeps a node from flooding its RPC.
	intervalMin = 50 * time.Millisecond
	// confirmationsMax is far below the depth to which events can be taken back.
	confirmationsMax = 512
	// StuckAfter is the time after which a transaction of the publisher that is not
	// mined pays more: some blocks of the slowest chain.
	StuckAfter = 3 * time.Minute
)

// Config says where messages are confirmed, and whether this node publishes archives.
type Config struct {
	RPCURL         string        `toml:"rpc_url"`          // JSON-RPC of the chain that confirms messages, several separated by commas; "" = nothing is confirmed here.
	ChainID        uint64        `toml:"chain_id"`         // 1 is Ethereum.
	Chain          string        `toml:"chain"`            // The chain as confirmations name it.
	Contract       string        `toml:"address"`          // Address of the contract with the events.
	FromBlock      uint64        `toml:"from_block"`       // Block before the first event that matters.
	Emitters       []string      `toml:"emitters"`         // Addresses whose archives count.
	Messages       bool          `toml:"messages"`         // Whether messages count that contracts send by it, which nobody signed.
	Confirmations  uint64        `toml:"confirmations"`    // Blocks on top of an event's before it is read.
	Interval       time.Duration `toml:"interval"`         // Time between two looks at the head.
	Publish        bool          `toml:"publish"`          // Whether this node publishes archives of what nothing confirms yet.
	PrivateKeyPath string        `toml:"private_key_path"` // File with the key of the one who publishes, hex; its address must be among the emitters.
	CommitDelay    time.Duration `toml:"commit_delay"`     // Least time between two archives.
	MaxFeeGwei     uint64        `toml:"max_fee_gwei"`     // The most a unit of gas may cost a publisher; above, it waits.

	IndexerInterval time.Duration `toml:"indexer_interval"` // Time between two looks at each indexer of another chain.
	IndexerDelay    time.Duration `toml:"indexer_delay"`    // Age of an event before it is read from an indexer, which does not tell when a chain takes one back.

	BSC   MultichainConfig `toml:"bsc"`   // Messages that a contract on BSC sends, by the indexer of several chains.
	Tezos TezosConfig      `toml:"tezos"` // Messages that a contract on Tezos sends, by an indexer of that chain.
	NULS2 NULS2Config      `toml:"nuls2"` // Archives that transactions of NULS2 name, by an explorer of that chain.
}

// MultichainConfig says what is read from the indexer of several chains.
type MultichainConfig struct {
	URL      string `toml:"url"`     // Base URL of the indexer, which is believed: https://multichain.api.aleph.cloud on the public network; "" = not read.
	Contract string `toml:"address"` // Address of the contract with the events.
}

// TezosConfig says what is read from the indexer of Tezos.
type TezosConfig struct {
	URL      string `toml:"url"`     // Base URL of the indexer, which is believed: https://tezos-mainnet.api.aleph.cloud on the public network; "" = not read.
	Contract string `toml:"address"` // Address of the contract with the events.
}

// NULS2Config says what is read from an explorer of NULS2.
type NULS2Config struct {
	URL      string   `toml:"url"`      // Base URL of the explorer, which is believed; "" = not read.
	Address  string   `toml:"address"`  // Address that transactions with payloads pay to.
	Remark   string   `toml:"remark"`   // Remark of such transactions.
	Emitters []string `toml:"emitters"` // Addresses whose archives count.
}

// textMax bounds the names of accounts on other chains.
const textMax = 128

// checkIndexer reports what cannot work of an indexer.
func checkIndexer(name, rawURL string, texts map[string]string) error {
	if rawURL == "" {
		return nil
	}
	if u, err := url.Parse(rawURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s.url is %q, want the URL of a server", name, rawURL)
	}
	for key, text := range texts {
		if text == "" || len(text) > textMax || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("%s.%s is %q, want a text of 1 to %d characters", name, key, text, textMax)
		}
	}
	return nil
}

// Indexed reports whether other chains are read by indexers.
func (c Config) Indexed() bool { return c.BSC.URL != "" || c.Tezos.URL != "" || c.NULS2.URL != "" }

// DefaultConfig is that of the public network, which lacks an RPC and so is off.
func DefaultConfig() Config {
	return Config{
		ChainID: 1, Chain: string(message.Ethereum), Contract: "0x166fd4299364B21c7567e163d85D78d2fb2f8Ad5", FromBlock: 11_400_000,
		Emitters: []string{"0x23eC28598DCeB2f7082Cc3a9D670592DfEd6e0dC"}, Messages: true, Confirmations: 12,
		Interval: 30 * time.Second, CommitDelay: 35 * time.Second, MaxFeeGwei: 150,
		IndexerInterval: 10 * time.Second, IndexerDelay: 5 * time.Minute,
		BSC:   MultichainConfig{Contract: "0xdF270752C8C71D08acbae4372687DA65AECe2D5D"},
		Tezos: TezosConfig{Contract: "KT1FfEoaNvooDfYrP61Ykct6L8z7w7e2pgnT"},
		NULS2: NULS2Config{Remark: "ALEPH-SYNC"},
	}
}

// On reports whether there is a chain to read.
func (c Config) On() bool { return c.RPCURL != "" }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if err := c.validateIndexers(); err != nil {
		return err
	}
	if !c.On() {
		if c.Publish {
			return fmt.Errorf("rpc_url is empty, and publish is true: name an RPC of the chain")
		}
		return nil
	}
	if err := (chain.Config{RPCURL: c.RPCURL, ChainID: c.ChainID}).CheckRPC(); err != nil {
		return err
	}
	switch {
	case !message.Chain(c.Chain).Known():
		return fmt.Errorf("chain is %q, want one that the protocol names, such as %s", c.Chain, message.Ethereum)
	case !common.IsHexAddress(c.Contract):
		return fmt.Errorf("address is %q, want that of the contract", c.Contract)
	case c.Confirmations > confirmationsMax:
		return fmt.Errorf("confirmations is %d, want at most %d", c.Confirmations, confirmationsMax)
	case c.Interval < intervalMin:
		return fmt.Errorf("interval is %v, want at least %v", c.Interval, intervalMin)
	case c.CommitDelay < intervalMin:
		return fmt.Errorf("commit_delay is %v, want at least %v", c.CommitDelay, intervalMin)
	case c.MaxFeeGwei == 0:
		return fmt.Errorf("max_fee_gwei is 0, want the most a unit of gas may cost")
	case c.Publish && c.PrivateKeyPath == "":
		return fmt.Errorf("private_key_path is empty, and publish is true: name the file of the key")
	}
	for _, e := range c.Emitters {
		if !common.IsHexAddress(e) {
			return fmt.Errorf("emitters has %q, want addresses", e)
		}
	}
	return nil
}

// validateIndexers reports the first setting of another chain that cannot work. What
// confirms a message there is told by one indexer, so none may be of the chain that this
// node reads itself.
func (c Config) validateIndexers() error {
	if !c.Indexed() {
		return nil
	}
	for _, err := range []error{
		checkIndexer("bsc", c.BSC.URL, map[string]string{"address": c.BSC.Contract}),
		checkIndexer("tezos", c.Tezos.URL, map[string]string{"address": c.Tezos.Contract}),
		checkIndexer("nuls2", c.NULS2.URL, map[string]string{"address": c.NULS2.Address, "remark": c.NULS2.Remark}),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case c.IndexerInterval < intervalMin:
		return fmt.Errorf("indexer_interval is %v, want at least %v", c.IndexerInterval, intervalMin)
	case c.IndexerDelay < 0:
		return fmt.Errorf("indexer_delay is %v, want at least 0s", c.IndexerDelay)
	case c.NULS2.URL != "" && len(c.NULS2.Emitters) == 0:
		return fmt.Errorf("nuls2.emitters is empty: name whose archives count")
	case c.BSC.URL != "" && !common.IsHexAddress(c.BSC.Contract):
		return fmt.Errorf("bsc.address is %q, want that of the contract", c.BSC.Contract)
	}
	for name, rawURL := range map[message.Chain]string{chainBSC: c.BSC.URL, chainTezos: c.Tezos.URL, chainNULS2: c.NULS2.URL} {
		if c.On() && rawURL != "" && message.Chain(c.Chain) == name {
			return fmt.Errorf("chain is %s, which is read from rpc_url and from an indexer: leave one out", name)
		}
	}
	return nil
}

// Emits reports whether the archives of an address count.
func (c Config) Emits(a common.Address) bool {
	for _, e := range c.Emitters {
		if common.HexToAddress(e) == a {
			return true
		}
	}
	return false
}

// ContractAt is the contract with the events.
func (c Config) ContractAt() chain.SyncContract {
	return chain.SyncContract{At: common.HexToAddress(c.Contract)}
}
