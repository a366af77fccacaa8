package p2p

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the host carries.
type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	gossip    *prometheus.CounterVec // topic, outcome
	asks      *prometheus.CounterVec // kind, outcome
	blobBytes *prometheus.CounterVec // direction
}

func newMetrics(reg prometheus.Registerer, h host.Host) (*metrics, error) {
	m := &metrics{
		reg: reg,
		gossip: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_p2p_gossip_total", Help: "Gossip payloads by topic and verdict.",
		}, []string{"topic", "outcome"}),
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_p2p_asks_total", Help: "Questions of peers by kind and outcome.",
		}, []string{"kind", "outcome"}),
		blobBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_p2p_blob_bytes_total", Help: "Bytes of blobs by direction.",
		}, []string{"direction"}),
	}
	peers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aleph_p2p_peers", Help: "Peers with an open connection.",
	}, func() float64 { return float64(len(h.Network().Peers())) })
	conns := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aleph_p2p_connections", Help: "Open connections.",
	}, func() float64 { return float64(len(h.Network().Conns())) })
	for _, c := range []prometheus.Collector{m.gossip, m.asks, m.blobBytes, peers, conns} {
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
}
