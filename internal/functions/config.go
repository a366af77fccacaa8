package functions

import (
	"fmt"
	"time"
)

// Config says how programs are run.
type Config struct {
	Image           string        `toml:"image"`             // Image file whose kernel and guest programs run with, as make function-image makes it; "" = the node runs no programs.
	Concurrency     int           `toml:"concurrency"`       // Calls that one machine answers at the same time.
	Queue           int           `toml:"queue"`             // Calls of one program that wait for it, at most; more are refused.
	Machines        int           `toml:"machines"`          // Machines of programs at the same time, at most.
	Starts          int           `toml:"starts"`            // Machines of programs that start at the same time, but for those of a scheduler's list.
	ReuseTimeout    time.Duration `toml:"reuse_timeout"`     // How long a machine waits for the next call before it is stopped; 0 = not at all.
	Refresh         time.Duration `toml:"refresh"`           // How long a machine is called without a look whether its program has changed.
	InitTimeout     time.Duration `toml:"init_timeout"`      // How long a runtime may take to boot.
	ConfigTimeout   time.Duration `toml:"config_timeout"`    // How long a program may take to start, after its runtime.
	RestoreTimeout  time.Duration `toml:"restore_timeout"`   // How long a copy of a snapshot may take to answer, before the program is booted instead.
	DrainTimeout    time.Duration `toml:"drain_timeout"`     // How long calls may take to end when the node stops.
	Snapshots       bool          `toml:"snapshots"`         // Start programs from snapshots.
	SnapshotMiB     int64         `toml:"snapshot_mib"`      // Disk that snapshots take, at most; those that were not used for longest go first.
	LogRetention    time.Duration `toml:"log_retention"`     // How long what machines of programs have written is kept when they are gone; at least 720h.
	LogMiB          int64         `toml:"log_mib"`           // Disk that what they have written takes, at most; that of the programs whose machines ended first goes first.
	EventsPerMinute int           `toml:"events_per_minute"` // Calls of one program by messages and by the clock, at most.
}

// DefaultConfig is for a small host.
func DefaultConfig() Config {
	return Config{
		Concurrency: 8, Queue: 64, Machines: 32, Starts: 4, ReuseTimeout: time.Hour, Refresh: 5 * time.Second,
		InitTimeout: 60 * time.Second, ConfigTimeout: 60 * time.Second, RestoreTimeout: 20 * time.Second,
		DrainTimeout: 30 * time.Second, Snapshots: true, SnapshotMiB: 8 * 1024, LogRetention: 31 * 24 * time.Hour, LogMiB: 1024, EventsPerMinute: 60,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	for _, d := range []struct {
		name     string
		got, min time.Duration
	}{
		{"reuse_timeout", c.ReuseTimeout, 0},
		{"refresh", c.Refresh, 0},
		{"init_timeout", c.InitTimeout, time.Second},
		{"config_timeout", c.ConfigTimeout, time.Second},
		{"restore_timeout", c.RestoreTimeout, time.Second},
		{"drain_timeout", c.DrainTimeout, 0},
		{"log_retention", c.LogRetention, 30 * 24 * time.Hour},
	} {
		if d.got < d.min {
			return fmt.Errorf("%s is %v, want at least %v", d.name, d.got, d.min)
		}
	}
	for _, n := range []struct {
		name          string
		got, min, max int64
	}{
		{"concurrency", int64(c.Concurrency), 1, 256},
		{"queue", int64(c.Queue), 0, 1 << 16},
		{"machines", int64(c.Machines), 1, 1 << 12},
		{"starts", int64(c.Starts), 1, 256},
		{"snapshot_mib", c.SnapshotMiB, 0, 1 << 30},
		{"log_mib", c.LogMiB, 4 * keptLogMax >> 20, 1 << 30},
		{"events_per_minute", int64(c.EventsPerMinute), 0, 1 << 16},
	} {
		if n.got < n.min || n.got > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.name, n.got, n.min, n.max)
		}
	}
	return nil
}
