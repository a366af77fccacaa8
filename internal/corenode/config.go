package corenode

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	serversMax  = 16
	parallelMax = 256
	entriesMax  = 1 << 20
	ttlMax      = time.Hour
	answerMin   = 1 << 20
	answerMax   = 256 << 20
)

// Config says which core channel nodes are asked, and how.
type Config struct {
	Servers         []string      `toml:"servers"`          // Base URLs of core channel nodes, asked in this order; none = the message network is not asked. https://official.aleph.cloud is one of the public network.
	SettingsAddress string        `toml:"settings_address"` // Address whose aggregate settings names the schedulers, and who gets a part of streams.
	Timeout         time.Duration `toml:"timeout"`          // The longest that one server may take to answer.
	Parallel        int           `toml:"parallel"`         // Requests at one time.
	AnswerMaxBytes  int64         `toml:"answer_max_bytes"` // The longest answer that is read.
	BusyWaitMax     time.Duration `toml:"busy_wait_max"`    // How long is waited at most for a server that asks to be left alone.
	Rest            time.Duration `toml:"rest"`             // For how long a server that could not be reached is asked after the others.

	StandingTTL  time.Duration `toml:"standing_ttl"`  // For how long it holds that a message counts.
	PriceTTL     time.Duration `toml:"price_ttl"`     // For how long a price holds.
	BalanceTTL   time.Duration `toml:"balance_ttl"`   // For how long a balance holds.
	AggregateTTL time.Duration `toml:"aggregate_ttl"` // For how long it holds whom owners and the settings of the network name.
	CacheEntries int           `toml:"cache_entries"` // The most answers of each kind that are kept.

	Avalanche StreamConfig `toml:"avalanche"` // Streams of tokens on Avalanche.
	Base      StreamConfig `toml:"base"`      // Streams of tokens on Base.
}

// StreamConfig says where streams of tokens are read.
type StreamConfig struct {
	RPCURL    string `toml:"rpc_url"`   // JSON-RPC of the chain, several separated by commas; "" = streams on it are not looked at.
	ChainID   uint64 `toml:"chain_id"`  // What the RPC must say it serves.
	Token     string `toml:"token"`     // Address of the token that flows.
	Forwarder string `toml:"forwarder"` // Address of the contract that is asked for flows, Superfluid's CFAv1Forwarder.
}

// DefaultConfig asks nobody, and knows the addresses of the public network.
func DefaultConfig() Config {
	stream := func(chainID uint64) StreamConfig {
		return StreamConfig{ //nolint:gosec // G101: an address is no secret
			ChainID: chainID, Token: "0xc0Fbc4967259786C743361a5885ef49380473dCF", Forwarder: "0xcfA132E353cB4E398080B9700609bb008eceB125",
		}
	}
	return Config{
		SettingsAddress: "0xFba561a84A537fCaa567bb7A2257e7142701ae2A",
		Timeout:         10 * time.Second, Parallel: 10, AnswerMaxBytes: 16 << 20, BusyWaitMax: 10 * time.Second, Rest: 30 * time.Second,
		StandingTTL: 30 * time.Second, PriceTTL: 5 * time.Minute, BalanceTTL: 30 * time.Second, AggregateTTL: 2 * time.Minute, CacheEntries: 4096,
		Avalanche: stream(43114), Base: stream(8453),
	}
}

// On reports whether there is a server to ask.
func (c Config) On() bool { return len(c.Servers) > 0 }

// stream is where the streams on a chain are read; false if there are none on it.
func (c Config) stream(chain message.Chain) (StreamConfig, bool) {
	switch chain {
	case "AVAX":
		return c.Avalanche, true
	case "BASE":
		return c.Base, true
	default:
		return StreamConfig{}, false
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if len(c.Servers) > serversMax {
		return fmt.Errorf("servers has %d URLs, want at most %d", len(c.Servers), serversMax)
	}
	for i, raw := range c.Servers {
		if _, err := parseBase(raw); err != nil {
			return fmt.Errorf("server %d of servers: %w", i+1, err)
		}
	}
	if !common.IsHexAddress(c.SettingsAddress) {
		return fmt.Errorf("settings_address is %q, want an address", c.SettingsAddress)
	}
	for _, d := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"timeout", c.Timeout, 100 * time.Millisecond, 5 * time.Minute},
		{"busy_wait_max", c.BusyWaitMax, 0, time.Minute},
		{"rest", c.Rest, 0, ttlMax},
		{"standing_ttl", c.StandingTTL, 0, ttlMax},
		{"price_ttl", c.PriceTTL, 0, ttlMax},
		{"balance_ttl", c.BalanceTTL, 0, ttlMax},
		{"aggregate_ttl", c.AggregateTTL, 0, ttlMax},
	} {
		if d.value < d.min || d.value > d.max {
			return fmt.Errorf("%s is %v, want %v to %v", d.name, d.value, d.min, d.max)
		}
	}
	for _, n := range []struct {
		name            string
		value, min, max int64
	}{
		{"parallel", int64(c.Parallel), 1, parallelMax},
		{"cache_entries", int64(c.CacheEntries), 1, entriesMax},
		{"answer_max_bytes", c.AnswerMaxBytes, answerMin, answerMax},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.name, n.value, n.min, n.max)
		}
	}
	if err := c.Avalanche.validate(); err != nil {
		return fmt.Errorf("avalanche.%w", err)
	}
	if err := c.Base.validate(); err != nil {
		return fmt.Errorf("base.%w", err)
	}
	return nil
}

func (c StreamConfig) validate() error {
	if c.RPCURL == "" {
		return nil
	}
	if _, err := c.urls(); err != nil {
		return err
	}
	switch {
	case c.ChainID == 0:
		return fmt.Errorf("chain_id is 0, want the id of the chain")
	case !common.IsHexAddress(c.Token):
		return fmt.Errorf("token is %q, want an address", c.Token)
	case !common.IsHexAddress(c.Forwarder):
		return fmt.Errorf("forwarder is %q, want an address", c.Forwarder)
	}
	return nil
}

// urls are those of the RPCs. Errors do not show them, as there may be keys in them.
func (c StreamConfig) urls() ([]*url.URL, error) {
	var out []*url.URL
	for raw := range strings.SplitSeq(c.RPCURL, ",") {
		if raw = strings.TrimSpace(raw); raw == "" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("rpc_url %d is no URL of a JSON-RPC server, want http:// or https:// and a host", len(out)+1)
		}
		if out = append(out, u); len(out) > serversMax {
			return nil, fmt.Errorf("rpc_url has more than %d servers", serversMax)
		}
	}
	return out, nil
}

// parseBase reads the URL of a server. Errors do not show it, as there may be a password
// in it.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(raw, "/"))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("it is no URL of a server, want https:// and a host")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("it is no base URL: take what begins at the question mark or the # away")
	}
	return u, nil
}
