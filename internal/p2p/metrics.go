package p2p

import (
	"fmt"
	"strings"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/prometheus/client_golang/prometheus"
)

// peerSeriesMax bounds the peers that have metrics of their own, at any time: those
// that are connected, nodes that are registered first. A peer that leaves has none.
const peerSeriesMax = 64

// metrics counts what the host carries.
type metrics struct {
	reg         prometheus.Registerer
	all         []prometheus.Collector
	gossip      *prometheus.CounterVec // topic, outcome
	gossipBytes *prometheus.CounterVec // topic, direction
	duplicates  *prometheus.CounterVec // topic
	dropped     *prometheus.CounterVec // topic, reason
	repeats     prometheus.Counter
	throttled   prometheus.Counter
	alives      *prometheus.CounterVec // outcome
	asks        *prometheus.CounterVec // kind, outcome
	bulkBytes   *prometheus.CounterVec // kind, direction
	blocked     *prometheus.CounterVec // scope, resource
}

func newMetrics() *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		gossip:      vec("aleph_p2p_gossip_total", "Gossip payloads by topic and verdict.", "topic", "outcome"),
		gossipBytes: vec("aleph_p2p_gossip_bytes_total", "Bytes of gossip payloads by topic and direction.", "topic", "direction"),
		duplicates:  vec("aleph_p2p_gossip_duplicates_total", "Gossip payloads that were here already, by topic.", "topic"),
		dropped:     vec("aleph_p2p_gossip_dropped_total", "Gossip payloads that were not judged, delivered or passed on, by topic and reason.", "topic", "reason"),
		repeats:     one("aleph_p2p_gossip_repeats_total", "Gossip payloads that one peer sent twice too often."),
		throttled:   one("aleph_p2p_gossip_throttled_total", "Frames of which only the control part was read."),
		alives:      vec("aleph_p2p_alive_total", "Words of nodes that they live, by outcome.", "outcome"),
		asks:        vec("aleph_p2p_asks_total", "Questions of peers by kind and outcome.", "kind", "outcome"),
		bulkBytes:   vec("aleph_p2p_bulk_bytes_total", "Bytes of bulk streams by kind and direction.", "kind", "direction"),
		blocked:     vec("aleph_p2p_blocked_total", "Connections, streams and memory that the limits refused, by scope and resource.", "scope", "resource"),
	}
}

// register registers all, and what is read from the host.
func (m *metrics) register(reg prometheus.Registerer, h *Host) error {
	m.reg = reg
	peers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aleph_p2p_peers", Help: "Peers with an open connection.",
	}, func() float64 { return float64(len(h.host.Network().Peers())) })
	conns := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aleph_p2p_connections", Help: "Open connections.",
	}, func() float64 { return float64(len(h.host.Network().Conns())) })
	for _, c := range []prometheus.Collector{
		m.gossip, m.gossipBytes, m.duplicates, m.dropped, m.repeats, m.throttled, m.alives, m.asks, m.bulkBytes, m.blocked, peers, conns, newPeerCollector(h),
	} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
		m.all = append(m.all, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

// ConsumeEvent implements rcmgr.TraceReporter: it counts what the limits refuse.
func (m *metrics) ConsumeEvent(e rcmgr.TraceEvt) {
	var resource string
	switch e.Type {
	case rcmgr.TraceBlockAddConnEvt:
		resource = "connection"
	case rcmgr.TraceBlockAddStreamEvt:
		resource = "stream"
	case rcmgr.TraceBlockReserveMemoryEvt:
		resource = "memory"
	default:
		return
	}
	m.blocked.WithLabelValues(scopeOf(e.Name), resource).Inc()
}

// scopeOf returns the class of a scope of the resource manager, without the name of the
// peer or stream.
func scopeOf(name string) string {
	for _, class := range []string{"system", "transient", "protocol", "service", "peer", "conn", "stream"} {
		if strings.HasPrefix(name, class) {
			return class
		}
	}
	return "other"
}

// peerCollector has the numbers of the peers that are connected.
type peerCollector struct {
	h                                    *Host
	score, latency, received, sent, mesh *prometheus.Desc
}

func newPeerCollector(h *Host) *peerCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &peerCollector{
		h:        h,
		score:    desc("aleph_p2p_peer_score", "Standing of a connected peer in gossip.", "peer"),
		latency:  desc("aleph_p2p_peer_latency_seconds", "Round trip to a connected peer.", "peer"),
		received: desc("aleph_p2p_peer_received_bytes_total", "Bytes from a connected peer.", "peer"),
		sent:     desc("aleph_p2p_peer_sent_bytes_total", "Bytes to a connected peer.", "peer"),
		mesh:     desc("aleph_p2p_mesh_peers", "Peers that messages of a topic are exchanged with at once.", "topic"),
	}
}

// Describe implements prometheus.Collector.
func (c *peerCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.score, c.latency, c.received, c.sent, c.mesh} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *peerCollector) Collect(out chan<- prometheus.Metric) {
	for topic, n := range c.h.meshes.sizes() {
		out <- prometheus.MustNewConstMetric(c.mesh, prometheus.GaugeValue, float64(n), topic)
	}
	views := c.h.Peers()
	for _, v := range views[:min(len(views), peerSeriesMax)] {
		id := string(v.ID)
		out <- prometheus.MustNewConstMetric(c.score, prometheus.GaugeValue, v.Score, id)
		out <- prometheus.MustNewConstMetric(c.latency, prometheus.GaugeValue, v.Latency.Seconds(), id)
		out <- prometheus.MustNewConstMetric(c.received, prometheus.CounterValue, float64(v.BytesIn), id)
		out <- prometheus.MustNewConstMetric(c.sent, prometheus.CounterValue, float64(v.BytesOut), id)
	}
}
