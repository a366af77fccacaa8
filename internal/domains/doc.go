// Package domains leads custom domains to the machines of their owners, as the
// HAProxy beside published compute nodes does: HTTP by its host to port 80 of the
// machine, TLS by the name that a client asks for to port 443, unopened.
//
// Two things must say so: the aggregate "domains" of the machine's owner names the
// machine, and a text record of the domain names the owner. So nobody can have the
// traffic of another's domain by naming it.
package domains

import (
	"fmt"
	"net"
	"time"
)

// Config says where TLS is taken in.
type Config struct {
	TLSBind     string        `toml:"tls_bind"`     // Address to take TLS for machines at, such as :443; "" = none, and only HTTP is led to machines.
	TLSFallback string        `toml:"tls_fallback"` // Address that gets TLS for every other name: where TLS of the node itself ends; "" = it is closed.
	Interval    time.Duration `toml:"interval"`     // Time between two looks at who has which domain.
	Connections int           `toml:"connections"`  // TLS connections at the same time.
}

// DefaultConfig leads HTTP only.
func DefaultConfig() Config {
	return Config{Interval: 10 * time.Minute, Connections: 5000}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	for name, addr := range map[string]string{"tls_bind": c.TLSBind, "tls_fallback": c.TLSFallback} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s is %q, want an address with port: %w", name, addr, err)
		}
	}
	if c.Interval < time.Second {
		return fmt.Errorf("interval is %v, want at least %v", c.Interval, time.Second)
	}
	if c.Connections < 1 || c.Connections > 1<<16 {
		return fmt.Errorf("connections is %d, want 1 to %d", c.Connections, 1<<16)
	}
	return nil
}
