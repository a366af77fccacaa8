package executor

import (
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// What happens to machines when the node exits.
const (
	OnExitKeep = "keep" // They run on and are adopted at the next start.
	OnExitStop = "stop" // They are stopped, and started again at the next start.
)

// Config says what a compute node offers and how it runs machines.
type Config struct {
	Interval           time.Duration `toml:"interval"`              // Time between two comparisons of what is wanted with what is there.
	VCPUs              int           `toml:"vcpus"`                 // vCPUs to offer; 0 = the host's, times overcommit_percent.
	OvercommitPercent  int           `toml:"overcommit_percent"`    // vCPUs offered per hundred of the host; 100 = no overcommit.
	MemoryMiB          int64         `toml:"memory_mib"`            // Memory to offer; 0 = the host's, less reserve_memory_mib.
	ReserveMemoryMiB   int64         `toml:"reserve_memory_mib"`    // Memory kept for the host itself.
	DiskMiB            int64         `toml:"disk_mib"`              // Disk to offer; 0 = what is free at start, less reserve_disk_mib.
	ReserveDiskMiB     int64         `toml:"reserve_disk_mib"`      // Disk kept for images, the database and the host.
	PriceBps           int           `toml:"price_bps"`             // Price, in ten-thousandths of the price table.
	AcceptSecondsMax   uint64        `toml:"accept_seconds_max"`    // Seconds of chain time for which resources are kept for an accepted job, at most.
	Fetches            int           `toml:"fetches"`               // Images fetched at the same time.
	Boots              int           `toml:"boots"`                 // Machines prepared and started at the same time.
	ReadyTimeout       time.Duration `toml:"ready_timeout"`         // How long a guest may take to boot.
	StopGrace          time.Duration `toml:"stop_grace"`            // How long a guest may take to shut down before it is killed.
	FailuresMax        int           `toml:"failures_max"`          // A machine that failed so often in a row ends its job.
	BackoffMin         time.Duration `toml:"backoff_min"`           // Pause after the first failure; it doubles with each.
	BackoffMax         time.Duration `toml:"backoff_max"`           // The longest pause between two starts.
	StableAfter        time.Duration `toml:"stable_after"`          // A machine that ran so long starts with no failures again.
	Retention          time.Duration `toml:"retention"`             // How long the disk of an ended job is kept.
	LogRetention       time.Duration `toml:"log_retention"`         // How long consoles and the history of machines are kept that are gone; at least 720h.
	LeaseGrace         time.Duration `toml:"lease_grace"`           // How long a machine of the message network runs unpaid.
	LeaseKeep          time.Duration `toml:"lease_keep"`            // How long after that its disk is kept for the time when it is paid.
	LeaseRetention     time.Duration `toml:"lease_retention"`       // How long the disk of a machine of the message network is kept that has ended.
	WatchInterval      time.Duration `toml:"watch_interval"`        // Time between two questions to core channel nodes about messages and payments.
	BackupMiBPerSecond int64         `toml:"backup_mib_per_second"` // How fast a backup reads each disk, at most; 0 = as fast as it goes.
	NodeHash           string        `toml:"node_hash"`             // Item hash under which the message network knows the node; "" = it is looked for in the list of nodes by [crn] domain.
	Receiver           string        `toml:"receiver"`              // Address that streams of tokens for machines must flow to; "" = none are taken.
	AdInterval         time.Duration `toml:"ad_interval"`           // Time between two capacity ads; changes are advertised at once.
	OnExit             string        `toml:"on_exit"`               // What happens to machines when the node exits: keep or stop.
}

// DefaultConfig offers the whole host, with the reserves that a small one
// needs, at the table price.
func DefaultConfig() Config {
	return Config{
		Interval: 2 * time.Second, OvercommitPercent: 400, ReserveMemoryMiB: 1024, ReserveDiskMiB: 5 * 1024,
		PriceBps: pricing.Bps, AcceptSecondsMax: 900, Fetches: 4, Boots: 2,
		ReadyTimeout: 3 * time.Minute, StopGrace: 20 * time.Second,
		FailuresMax: 5, BackoffMin: time.Second, BackoffMax: time.Minute, StableAfter: 10 * time.Minute,
		Retention: 10 * time.Minute, LogRetention: 31 * 24 * time.Hour,
		LeaseGrace: time.Hour, LeaseKeep: 72 * time.Hour, LeaseRetention: 24 * time.Hour, WatchInterval: time.Minute,
		BackupMiBPerSecond: 32, AdInterval: 10 * time.Second, OnExit: OnExitKeep,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	for _, d := range []struct {
		name     string
		got, min time.Duration
	}{
		{"interval", c.Interval, 100 * time.Millisecond},
		{"ready_timeout", c.ReadyTimeout, time.Second},
		{"stop_grace", c.StopGrace, 0},
		{"backoff_min", c.BackoffMin, 100 * time.Millisecond},
		{"backoff_max", c.BackoffMax, c.BackoffMin},
		{"stable_after", c.StableAfter, time.Second},
		{"retention", c.Retention, 0},
		{"log_retention", c.LogRetention, 30 * 24 * time.Hour},
		{"lease_grace", c.LeaseGrace, time.Minute},
		{"lease_keep", c.LeaseKeep, 0},
		{"lease_retention", c.LeaseRetention, 0},
		{"watch_interval", c.WatchInterval, time.Second},
		{"ad_interval", c.AdInterval, time.Second},
	} {
		if d.got < d.min {
			return fmt.Errorf("%s is %v, want at least %v", d.name, d.got, d.min)
		}
	}
	for _, n := range []struct {
		name          string
		got, min, max int64
	}{
		{"vcpus", int64(c.VCPUs), 0, 1 << 16},
		{"overcommit_percent", int64(c.OvercommitPercent), 100, 1600},
		{"memory_mib", c.MemoryMiB, 0, 1 << 28},
		{"reserve_memory_mib", c.ReserveMemoryMiB, 0, 1 << 28},
		{"disk_mib", c.DiskMiB, 0, 1 << 38},
		{"reserve_disk_mib", c.ReserveDiskMiB, 0, 1 << 38},
		{"price_bps", int64(c.PriceBps), 1, pricing.PriceBpsMax},
		{"backup_mib_per_second", c.BackupMiBPerSecond, 0, 1 << 20},
		{"accept_seconds_max", int64(c.AcceptSecondsMax), 30, 86_400},
		{"fetches", int64(c.Fetches), 1, 64},
		{"boots", int64(c.Boots), 1, 64},
		{"failures_max", int64(c.FailuresMax), 1, 1000},
	} {
		if n.got < n.min || n.got > n.max {
			return fmt.Errorf("%s is %d, want %d to %d", n.name, n.got, n.min, n.max)
		}
	}
	if !slices.Contains([]string{OnExitKeep, OnExitStop}, c.OnExit) {
		return fmt.Errorf("on_exit is %q, want keep or stop", c.OnExit)
	}
	return nil
}
