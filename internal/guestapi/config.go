// Package guestapi answers what programs ask their host for: a cache that is
// theirs alone, signatures of their messages by an account of the node, the
// publication of messages, and what the interface of the message network
// tells. See section 3.6 of the published nodes' protocol; docs/operator/functions.md
// has its bounds.
//
// Whoever asks is a stranger. Each program has its own share of everything.
package guestapi

import (
	"fmt"
	"time"
)

// Config bounds what one program can have of its host.
type Config struct {
	CacheKeys         int           `toml:"cache_keys"`          // Entries in the cache of a program.
	CacheKiB          int64         `toml:"cache_kib"`           // Bytes of its entries, with their names, in KiB.
	ValueKiB          int64         `toml:"value_kib"`           // Bytes of one entry, in KiB.
	CacheTTL          time.Duration `toml:"cache_ttl"`           // How long an entry stays.
	CacheTotalMiB     int64         `toml:"cache_total_mib"`     // Bytes of the caches of all programs, in MiB.
	RequestsPerMinute int           `toml:"requests_per_minute"` // Questions of a program, of any kind.
	SignsPerMinute    int           `toml:"signs_per_minute"`    // Signatures and publications of a program.
	AnswerKiB         int64         `toml:"answer_kib"`          // Bytes per minute that a program reads of the network's interface, in KiB.
}

// DefaultConfig is for a small host.
func DefaultConfig() Config {
	return Config{
		CacheKeys: 1000, CacheKiB: 16 << 10, ValueKiB: 1 << 10, CacheTTL: 7 * 24 * time.Hour, CacheTotalMiB: 1 << 10,
		RequestsPerMinute: 1200, SignsPerMinute: 60, AnswerKiB: 64 << 10,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.CacheTTL < time.Second {
		return fmt.Errorf("cache_ttl is %v, want at least %v", c.CacheTTL, time.Second)
	}
	for _, n := range []struct {
		name          string
		got, min, max int64
	}{
		{"cache_keys", int64(c.CacheKeys), 0, 1 << 20},
		{"cache_kib", c.CacheKiB, 0, 1 << 24},
		{"value_kib", c.ValueKiB, 0, 1 << 16},
		{"cache_total_mib", c.CacheTotalMiB, 0, 1 << 20},
		{"requests_per_minute", int64(c.RequestsPerMinute), 0, 1 << 20},
		{"signs_per_minute", int64(c.SignsPerMinute), 0, 1 << 20},
		{"answer_kib", c.AnswerKiB, 0, 1 << 30},
	} {
		if n.got < n.min || n.got > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.name, n.got, n.min, n.max)
		}
	}
	return nil
}
