// Package chain reaches an EVM chain over JSON-RPC: heads, logs, calls,
// transactions and receipts. It knows the product's contracts by name and turns
// their refusals into readable errors, but decides nothing: mirror reads the
// chain through it and outbox writes to it.
//
// It is safe on Arbitrum: blocks are read by header only, a block's hash is what
// the RPC says it is, and nothing decodes a transaction it did not make. The
// folder bindings holds the generated contract bindings, deploy puts the
// contracts on a chain, and devchain is a chain for local networks.
package chain

import (
	"net/url"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// pollMin keeps a node from flooding its RPC.
	pollMin = 50 * time.Millisecond
	// confirmationsMax is far below the depth to which effects can be undone.
	confirmationsMax = 512
)

// Config says which chain the node works with and how to reach it.
type Config struct {
	RPCURL         string        `toml:"rpc_url"`          // JSON-RPC, http(s) or ws(s); several are separated by commas, and the first that answers is used.
	PrivateKeyPath string        `toml:"private_key_path"` // File with the key that signs the node's transactions, hex; "" = the node's own signer key.
	ChainID        uint64        `toml:"chain_id"`         // 42161 is Arbitrum One, 31337 a local network.
	Contracts      Contracts     `toml:"contracts"`        // Addresses of the contracts, as in deployments/<chain id>.json.
	FromBlock      uint64        `toml:"from_block"`       // Block in which the contracts were deployed.
	Confirmations  uint64        `toml:"confirmations"`    // Blocks on top of a transaction's before it counts as done.
	PollInterval   time.Duration `toml:"poll_interval"`    // Time between two looks at the head.
}

// DefaultConfig is for Arbitrum One; the RPC and the contracts are missing.
func DefaultConfig() Config {
	return Config{ChainID: 42161, Confirmations: 20, PollInterval: time.Second}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if err := c.CheckRPC(); err != nil {
		return err
	}
	if c.PollInterval < pollMin {
		return errs.New(errs.Invalid, "poll_interval is %v, want at least %v", c.PollInterval, pollMin)
	}
	if c.Confirmations > confirmationsMax {
		return errs.New(errs.Invalid, "confirmations is %d, want at most %d", c.Confirmations, confirmationsMax)
	}
	return c.Contracts.Validate()
}

// CheckRPC reports what is wrong with the RPCs and the id of the chain.
func (c Config) CheckRPC() error {
	for _, u := range c.urls() {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Host == "" || !isRPCScheme(parsed.Scheme) {
			return errs.New(errs.Invalid, "rpc_url is %q (*** hides what may be a key), want http://, https://, ws:// or wss:// and a host", MaskURL(u))
		}
	}
	if len(c.urls()) == 0 {
		return errs.New(errs.Invalid, "rpc_url is empty, want the address of a JSON-RPC server of chain %d", c.ChainID)
	}
	if c.ChainID == 0 {
		return errs.New(errs.Invalid, "chain_id is 0, want the id of the chain, 42161 for Arbitrum One")
	}
	return nil
}

func (c Config) urls() (out []string) {
	for u := range strings.SplitSeq(c.RPCURL, ",") {
		if u = strings.TrimSpace(u); u != "" {
			out = append(out, u)
		}
	}
	return out
}

// MaskURL hides what providers put keys into: user and password, path, query
// and fragment; and what is no URL at all.
func MaskURL(s string) string {
	const mask = "***"
	if s == "" {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return mask
	}
	if u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" {
		return s
	}
	return u.Scheme + "://" + u.Host + "/" + mask
}

func isRPCScheme(s string) bool {
	switch s {
	case "http", "https", "ws", "wss":
		return true
	}
	return false
}
