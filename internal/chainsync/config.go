package chainsync

import (
	"fmt"
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
}

// DefaultConfig is that of the public network, which lacks an RPC and so is off.
func DefaultConfig() Config {
	return Config{
		ChainID: 1, Chain: string(message.Ethereum), Contract: "0x166fd4299364B21c7567e163d85D78d2fb2f8Ad5", FromBlock: 11_400_000,
		Emitters: []string{"0x23eC28598DCeB2f7082Cc3a9D670592DfEd6e0dC"}, Messages: true, Confirmations: 12,
		Interval: 30 * time.Second, CommitDelay: 35 * time.Second, MaxFeeGwei: 150,
	}
}

// On reports whether there is a chain to read.
func (c Config) On() bool { return c.RPCURL != "" }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
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
