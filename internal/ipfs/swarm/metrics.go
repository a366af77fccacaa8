package swarm

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what is served, fetched and announced.
type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	served    *prometheus.CounterVec // network
	servedLen *prometheus.CounterVec // network
	refused   *prometheus.CounterVec // network
	blocks    *prometheus.CounterVec // source
	bytes     *prometheus.CounterVec // source
	fetches   *prometheus.CounterVec // source, outcome
	provided  *prometheus.CounterVec // outcome
}

// Outcomes of asking a source for a content.
const (
	outcomeDone    = "done"    // All of it is here.
	outcomeMissing = "missing" // The source did not have it, or was away.
	outcomeStalled = "stalled"
	outcomeLied    = "lied"  // It sent something else.
	outcomeEnded   = "ended" // The content cannot be taken in, whoever sends it, or nobody waits for it.
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		reg:       reg,
		served:    vec("aleph_ipfs_served_blocks_total", "Blocks sent to peers by bitswap, by network.", "network"),
		servedLen: vec("aleph_ipfs_served_bytes_total", "Bytes of blocks sent to peers by bitswap, by network.", "network"),
		refused:   vec("aleph_ipfs_refused_wants_total", "Blocks that were not looked for, as their peer asked for too many, by network.", "network"),
		blocks:    vec("aleph_ipfs_fetched_blocks_total", "Verified blocks by source.", "source"),
		bytes:     vec("aleph_ipfs_fetched_bytes_total", "Bytes of verified blocks by source.", "source"),
		fetches:   vec("aleph_ipfs_fetches_total", "Sources asked for a content, by source and outcome.", "source", "outcome"),
		provided:  vec("aleph_ipfs_provided_total", "Announcements of content to the DHT by outcome.", "outcome"),
	}
	for _, c := range []prometheus.Collector{m.served, m.servedLen, m.refused, m.blocks, m.bytes, m.fetches, m.provided} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.all = nil
}

// ended counts how asking a source went.
func (m *metrics) ended(source string, err error) {
	outcome := outcomeEnded
	switch {
	case err == nil:
		outcome = outcomeDone
	case errors.Is(err, errLied):
		outcome = outcomeLied
	case errors.Is(err, errStalled):
		outcome = outcomeStalled
	case isSourceError(err):
		outcome = outcomeMissing
	}
	m.fetches.WithLabelValues(source, outcome).Inc()
}
