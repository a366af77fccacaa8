package ccn

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// buildInfo is the name under which the version is told.
const buildInfo = "pyaleph_build_info"

// pythonVersion is what the reference runs on; who reads the numbers wants one.
const pythonVersion = "3.12"

// number is one of the numbers of the node, under the name that the reference gives
// it.
type number struct {
	Name  string
	Value int64
	Known bool
}

// metrics are the numbers of the node, in the order of the reference.
type metrics struct{ all []number }

func (m *metrics) add(name string, value int64) { m.all = append(m.all, number{name, value, true}) }

func (m *metrics) unknown(names ...string) {
	for _, name := range names {
		m.all = append(m.all, number{Name: name})
	}
}

func (m *metrics) zero(names ...string) {
	for _, name := range names {
		m.add(name, 0)
	}
}

// metrics returns the numbers of the node, which are some seconds old.
func (s *Server) metrics(ctx context.Context) (metrics, error) {
	return s.numbers.get(time.Now(), func() (metrics, error) { return s.count(ctx) })
}

// count reads the numbers of the node.
func (s *Server) count(ctx context.Context) (m metrics, err error) {
	var messages, pins int64
	var pending int
	err = s.parts.DB.View(ctx, func(v *state.View) error {
		if messages, err = v.CountMessages(ctx, state.MessageQuery{}); err != nil {
			return err
		}
		if pending, _, err = v.CountPending(ctx); err != nil {
			return err
		}
		pins, err = v.CountAllPins(ctx)
		return err
	})
	if err != nil {
		return m, err
	}
	peers := 0
	if s.parts.Peers != nil {
		peers = s.parts.Peers.Count()
	}
	m.add("pyaleph_status_peers_total", int64(peers))
	m.add("pyaleph_status_sync_messages_total", messages)
	m.add("pyaleph_status_sync_permanent_files_total", pins)
	m.add("pyaleph_status_sync_pending_messages_total", int64(pending))
	m.zero("pyaleph_status_sync_pending_txs_total")
	s.countMore(ctx, &m)
	return m, nil
}

// countMore reads the numbers of parts that a node may not have.
func (s *Server) countMore(ctx context.Context, m *metrics) {
	var read, newest int64
	var known bool
	if s.parts.Heights != nil {
		var err error
		if read, newest, known, err = s.parts.Heights.Heights(ctx); err != nil {
			// The others are as good without these.
			s.log.Warn("heights of the chain not read", "err", err)
		}
	}
	height := func(name string, value int64) { m.all = append(m.all, number{name, value, known}) }
	height("pyaleph_status_chain_eth_last_committed_height", read)
	m.unknown("pyaleph_processing_pending_messages_seen_ids_total")
	m.zero("pyaleph_processing_pending_messages_tasks_total", "pyaleph_processing_pending_messages_aggregate_tasks", "pyaleph_processing_pending_messages_forget_tasks",
		"pyaleph_processing_pending_messages_post_tasks", "pyaleph_processing_pending_messages_program_tasks", "pyaleph_processing_pending_messages_store_tasks")
	m.unknown("pyaleph_processing_pending_messages_action_total", "pyaleph_status_sync_messages_reference_total", "pyaleph_status_sync_messages_remaining_total")
	height("pyaleph_status_chain_eth_height_reference_total", newest)
	height("pyaleph_status_chain_eth_height_remaining_total", max(newest-read, 0))
	c := s.live.counters()
	m.add("pyaleph_ws_messages_connections_active", c.MessagesActive)
	m.add("pyaleph_ws_messages_connections_max", c.MessagesMax)
	m.add("pyaleph_ws_status_connections_active", c.StatusActive)
	m.add("pyaleph_ws_status_connections_max", c.StatusMax)
	m.add("pyaleph_ws_messages_broadcast_total", c.MessagesSent)
	m.add("pyaleph_ws_messages_connections_rejected_total", c.MessagesRejected)
	m.add("pyaleph_ws_status_connections_rejected_total", c.StatusRejected)
	m.zero("pyaleph_ws_broadcaster_consumer_restarts_total", "pyaleph_store_fetch_ipfs_total", "pyaleph_store_fetch_ipfs_failed_total", "pyaleph_store_fetch_ipfs_duration_ms_sum",
		"pyaleph_store_fetch_storage_total", "pyaleph_store_fetch_storage_failed_total", "pyaleph_store_fetch_storage_duration_ms_sum")
}

// Metrics returns the numbers of the node as JSON, those that are not known as
// null: the answer to /metrics.json, and what those who listen for the status get.
func (s *Server) Metrics(ctx context.Context) ([]byte, error) {
	m, err := s.metrics(ctx)
	if err != nil {
		return nil, err
	}
	build := newObject(nil)
	build.text("python_version", pythonVersion)
	build.text("version", s.self.Version)
	o := newObject(nil)
	o.raw(buildInfo, build.end())
	for _, n := range m.all {
		if n.Known {
			o.integer(n.Name, n.Value)
		} else {
			o.raw(n.Name, nil)
		}
	}
	return o.end(), nil
}

// AppendMetrics appends the numbers of the node to an answer in Prometheus's text
// form.
func (s *Server) AppendMetrics(ctx context.Context, dst []byte) ([]byte, error) {
	m, err := s.metrics(ctx)
	if err != nil {
		return dst, err
	}
	dst = append(dst, buildInfo+`{python_version="`+pythonVersion+`",version=`...)
	dst = append(appendText(dst, s.self.Version), "} 1\n"...)
	for _, n := range m.all {
		if !n.Known {
			continue
		}
		dst = append(append(dst, n.Name...), ' ')
		dst = append(strconv.AppendInt(dst, n.Value, 10), '\n')
	}
	return dst, nil
}

// metricsJSON answers with the numbers of the node.
func (s *Server) metricsJSON(w http.ResponseWriter, r *http.Request) error {
	m, err := s.Metrics(context.WithoutCancel(r.Context()))
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, m)
}

// metricsText answers with the numbers of the node for Prometheus.
func (s *Server) metricsText(w http.ResponseWriter, r *http.Request) error {
	m, err := s.AppendMetrics(context.WithoutCancel(r.Context()), nil)
	if err != nil {
		return err
	}
	s.write(w, r, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", m)
	return nil
}
