package functions

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// readCloser names io.ReadCloser in a struct whose Close is its own.
type readCloser = io.ReadCloser

// meter counts.
type meter struct {
	calls         *prometheus.CounterVec
	starts        *prometheus.CounterVec
	events        *prometheus.CounterVec
	snapshots     *prometheus.CounterVec
	wait          *prometheus.HistogramVec
	start         *prometheus.HistogramVec
	machines      prometheus.Gauge
	snapshotBytes prometheus.Gauge
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	buckets := []float64{.005, .02, .05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 12.8, 30, 60}
	m := &meter{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_functions_calls_total", Help: "Calls of programs, by what came of them: answered, or the status that the caller got.",
		}, []string{"outcome"}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_functions_starts_total", Help: "Starts of machines of programs: boot, snapshot, failed, or refused as too many wait.",
		}, []string{"how"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_functions_events_total", Help: "Events that programs were to be called with, by what came of them.",
		}, []string{"outcome"}),
		snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_functions_snapshots_total", Help: "Snapshots that were made or failed.",
		}, []string{"outcome"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aleph_functions_wait_seconds", Help: "Time from a call to its place in a machine, by how that was started.", Buckets: buckets,
		}, []string{"how"}),
		start: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aleph_functions_start_seconds", Help: "Time that starts of machines took.", Buckets: buckets,
		}, []string{"how"}),
		machines: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "aleph_functions_machines", Help: "Machines of programs that run.",
		}),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "aleph_functions_snapshot_bytes", Help: "Disk that snapshots take.",
		}),
	}
	for _, c := range []prometheus.Collector{m.calls, m.starts, m.events, m.snapshots, m.wait, m.start, m.machines, m.snapshotBytes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of functions: %w", err)
		}
	}
	return m, nil
}

// outcomeOf is how a call is counted that failed.
func outcomeOf(err error) string {
	var f *Fault
	if errors.As(err, &f) {
		return strconv.Itoa(f.Status)
	}
	return "left"
}
