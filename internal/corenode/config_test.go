package corenode_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
)

func TestConfig(t *testing.T) {
	if err := corenode.DefaultConfig().Validate(); err != nil || corenode.DefaultConfig().On() {
		t.Errorf("the default is %v, want one that is valid and asks nobody", err)
	}
	for want, change := range map[string]func(*corenode.Config){
		"server 2 of servers": func(c *corenode.Config) { c.Servers = []string{"https://a", "ftp://user:secret@b"} },
		"base URL":            func(c *corenode.Config) { c.Servers = []string{"https://a/?x=secret"} },
		"servers has 17":      func(c *corenode.Config) { c.Servers = strings.Split(strings.Repeat("https://a ", 17)[:169], " ") },
		"settings_address":    func(c *corenode.Config) { c.SettingsAddress = "x" },
		"timeout":             func(c *corenode.Config) { c.Timeout = 0 },
		"busy_wait_max":       func(c *corenode.Config) { c.BusyWaitMax = time.Hour },
		"rest":                func(c *corenode.Config) { c.Rest = -1 },
		"standing_ttl":        func(c *corenode.Config) { c.StandingTTL = 2 * time.Hour },
		"price_ttl":           func(c *corenode.Config) { c.PriceTTL = -1 },
		"balance_ttl":         func(c *corenode.Config) { c.BalanceTTL = -1 },
		"aggregate_ttl":       func(c *corenode.Config) { c.AggregateTTL = -1 },
		"parallel":            func(c *corenode.Config) { c.Parallel = 0 },
		"cache_entries":       func(c *corenode.Config) { c.CacheEntries = 0 },
		"answer_max_bytes":    func(c *corenode.Config) { c.AnswerMaxBytes = 1000 },
		"avalanche.rpc_url 2": func(c *corenode.Config) { c.Avalanche.RPCURL = "https://a,ws://b/secret" },
		"base.chain_id":       func(c *corenode.Config) { c.Base.RPCURL, c.Base.ChainID = "https://a", 0 },
		"base.token":          func(c *corenode.Config) { c.Base.RPCURL, c.Base.Token = "https://a", "" },
		"base.forwarder":      func(c *corenode.Config) { c.Base.RPCURL, c.Base.Forwarder = "https://a", "0x" },
	} {
		cfg := corenode.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error is %v", want, err)
		}
	}
}
