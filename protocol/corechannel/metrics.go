package corechannel

import (
	"encoding/json"
	"math"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Metrics is what one location has measured, a row for each node.
type Metrics struct {
	Nodes         []NodeMetrics
	ResourceNodes []ResourceNodeMetrics
	Dropped       int // rows that are not understood
}

// NodeMetrics is what was measured of a CCN. NodeID is its key, and the others
// are the columns of `/core/{id}/metrics`. Times are seconds; nil is what the
// node did not answer.
type NodeMetrics struct {
	NodeID              string           `json:"node_id"`
	ItemHash            message.ItemHash `json:"item_hash"`
	MeasuredAt          float64          `json:"measured_at"`
	BaseLatency         *float64         `json:"base_latency"`
	BaseLatencyIPv4     *float64         `json:"base_latency_ipv4"`
	MetricsLatency      *float64         `json:"metrics_latency"`
	AggregateLatency    *float64         `json:"aggregate_latency"`
	FileDownloadLatency *float64         `json:"file_download_latency"`
	PendingMessages     *int64           `json:"pending_messages"`
	EthHeightRemaining  *int64           `json:"eth_height_remaining"`
}

// ResourceNodeMetrics is what was measured of a CRN, with the columns of
// `/compute/{id}/metrics`.
type ResourceNodeMetrics struct {
	NodeID              string           `json:"node_id"`
	ItemHash            message.ItemHash `json:"item_hash"`
	MeasuredAt          float64          `json:"measured_at"`
	BaseLatency         *float64         `json:"base_latency"`
	BaseLatencyIPv4     *float64         `json:"base_latency_ipv4"`
	FullCheckLatency    *float64         `json:"full_check_latency"`
	DiagnosticVMLatency *float64         `json:"diagnostic_vm_latency"`
}

// ReadMetrics reads a post with metrics. The error is always an [Ignored].
func ReadMetrics(m Message, s Settings) (Metrics, error) {
	switch {
	case m.Post.Type != MetricsType:
		return Metrics{}, NotOurs
	case m.Post.Address != s.MetricsOwner || m.Channel != s.MetricsChannel:
		return Metrics{}, Stranger
	}
	content, _ := object(m.Post.Content)
	rows, ok := object(content["metrics"])
	if !ok {
		return Metrics{}, Ignored("the metrics are not an object")
	}
	ccn, okNodes := rows.list("ccn")
	crn, okResources := rows.list("crn")
	if !okNodes && !okResources {
		return Metrics{}, Ignored("there are no metrics")
	}
	var out Metrics
	for _, raw := range ccn {
		if row, ok := readNodeMetrics(m.Hash, raw); ok {
			out.Nodes = append(out.Nodes, row)
		} else {
			out.Dropped++
		}
	}
	for _, raw := range crn {
		if row, ok := readResourceNodeMetrics(m.Hash, raw); ok {
			out.ResourceNodes = append(out.ResourceNodes, row)
		} else {
			out.Dropped++
		}
	}
	return out, nil
}

// measured is a row that is being read; bad once a value is of no use.
type measured struct {
	fields
	bad bool
}

func readNodeMetrics(hash message.ItemHash, raw json.RawMessage) (NodeMetrics, bool) {
	m := row(raw)
	return NodeMetrics{
		NodeID: m.id(), ItemHash: hash, MeasuredAt: m.at(),
		BaseLatency: m.seconds("base_latency"), BaseLatencyIPv4: m.seconds("base_latency_ipv4"),
		MetricsLatency: m.seconds("metrics_latency"), AggregateLatency: m.seconds("aggregate_latency"),
		FileDownloadLatency: m.seconds("file_download_latency"),
		PendingMessages:     m.count("pending_messages"), EthHeightRemaining: m.count("eth_height_remaining"),
	}, !m.bad
}

func readResourceNodeMetrics(hash message.ItemHash, raw json.RawMessage) (ResourceNodeMetrics, bool) {
	m := row(raw)
	return ResourceNodeMetrics{
		NodeID: m.id(), ItemHash: hash, MeasuredAt: m.at(),
		BaseLatency: m.seconds("base_latency"), BaseLatencyIPv4: m.seconds("base_latency_ipv4"),
		FullCheckLatency: m.seconds("full_check_latency"), DiagnosticVMLatency: m.seconds("diagnostic_vm_latency"),
	}, !m.bad
}

func row(raw json.RawMessage) *measured {
	f, ok := object(raw)
	return &measured{fields: f, bad: !ok}
}

func (m *measured) id() string {
	id, ok := m.text("node_id")
	m.bad = m.bad || !ok || id == ""
	return id
}

// at reads when a row was measured; one without that has no place.
func (m *measured) at() float64 {
	const timeMax = 1 << 33 // as for times of messages
	at, ok := m.number("measured_at")
	m.bad = m.bad || !ok || at < 0 || at > timeMax
	return at
}

func (m *measured) seconds(key string) *float64 {
	if !m.given(key) {
		return nil
	}
	v, ok := m.number(key)
	m.bad = m.bad || !ok
	return &v
}

// count reads a whole number, which may be written as 3.0. It may be below
// zero: a node can be ahead of the height it is compared with.
func (m *measured) count(key string) *int64 {
	const exact = 1 << 53 // beyond, a float64 does not hold every whole number
	v := m.seconds(key)
	if v == nil {
		return nil
	}
	m.bad = m.bad || *v != math.Trunc(*v) || *v < -exact || *v > exact
	if m.bad {
		return nil
	}
	n := int64(*v)
	return &n
}
