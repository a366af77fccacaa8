package corechannel

import (
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
)

// The values of Config.Serve.
const (
	ServePublished = "published"
	ServeOwn       = "own"
)

// Config says whose list of nodes this network has, and who makes it.
type Config struct {
	Serve            string        `toml:"serve"`             // published: what the authority has published, or own: what this node makes by itself, for a network on which nobody publishes it.
	Authority        string        `toml:"authority"`         // Address whose aggregate corechannel is the list of nodes.
	KeyPath          string        `toml:"key_path"`          // File of the authority's key, on the one node that publishes the list; "" = this one does not.
	Tag              string        `toml:"tag"`               // Tag that operations on nodes must have.
	ScoreAuthority   []string      `toml:"score_authority"`   // Addresses whose posts say how well nodes work.
	MetricsAuthority string        `toml:"metrics_authority"` // Address whose posts say what was measured of nodes.
	Interval         time.Duration `toml:"interval"`          // Time between two looks for what has changed.
	PublishInterval  time.Duration `toml:"publish_interval"`  // Least time between two messages with the list.
}

// DefaultConfig is that of the public network.
func DefaultConfig() Config {
	s := corechannel.DefaultSettings()
	return Config{
		Serve: ServePublished, Authority: "0xa1B3bb7d2332383D96b7796B908fB7f7F3c2Be10", Tag: s.Tag, ScoreAuthority: s.ScoreSenders,
		MetricsAuthority: s.MetricsOwner, Interval: 10 * time.Second, PublishInterval: 10 * time.Minute,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case !slices.Contains([]string{ServePublished, ServeOwn}, c.Serve):
		return fmt.Errorf("serve is %q, want %s or %s", c.Serve, ServePublished, ServeOwn)
	case c.Authority == "":
		return fmt.Errorf("authority is empty, want an address")
	case c.KeyPath != "" && c.Serve == ServeOwn:
		return fmt.Errorf("key_path is of a node that publishes the list; leave serve at %s", ServePublished)
	case c.Tag == "":
		return fmt.Errorf("tag is empty, want a word")
	case c.Interval < 10*time.Millisecond:
		return fmt.Errorf("interval is %v, want at least 10ms", c.Interval)
	case c.PublishInterval < c.Interval:
		return fmt.Errorf("publish_interval is %v, want at least interval, which is %v", c.PublishInterval, c.Interval)
	}
	return nil
}

// settings are those of the fold.
func (c Config) settings() corechannel.Settings {
	s := corechannel.DefaultSettings()
	s.Tag, s.ScoreSenders, s.MetricsOwner = c.Tag, c.ScoreAuthority, c.MetricsAuthority
	return s
}
