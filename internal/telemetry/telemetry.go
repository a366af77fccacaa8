// Package telemetry sets up what a process tells about itself: structured logs
// and a metrics registry. Only internal/node and cmd use it; every other
// package is handed a logger and a registerer.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
)

// Config says how the process logs.
type Config struct {
	Level  string `toml:"level"`  // debug, info, warn or error.
	Format string `toml:"format"` // text for people, json for machines.
}

// DefaultConfig logs at info level as text.
func DefaultConfig() Config { return Config{Level: "info", Format: "text"} }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if _, err := c.level(); err != nil {
		return err
	}
	if c.Format != "text" && c.Format != "json" {
		return fmt.Errorf("format is %q, want text or json", c.Format)
	}
	return nil
}

func (c Config) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(c.Level))); err != nil {
		return 0, fmt.Errorf("level is %q, want debug, info, warn or error", c.Level)
	}
	return l, nil
}

// NewLogger returns a logger that writes to w as c says. c has been validated.
func NewLogger(c Config, w io.Writer) *slog.Logger {
	level, err := c.level()
	if err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// NewRegistry returns a metrics registry that already tells about the Go
// runtime, the process and the build.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "aleph_build_info",
		Help:        "Always 1; the labels name the build.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit()},
	})
	info.Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return reg
}
