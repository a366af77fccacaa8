package ccn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	// metricsSpan is of when metrics are that a query does not say more of.
	metricsSpan = 14 * 24 * time.Hour
	// metricsRowsMax bounds the rows of one answer: two months of ten places that
	// measure each hour.
	metricsRowsMax = 15_000
)

// coreMetrics answers with what was measured of a core channel node.
func (s *Server) coreMetrics(w http.ResponseWriter, r *http.Request) error {
	return s.nodeMetrics(w, r, "ccn", "base_latency", "base_latency_ipv4", "metrics_latency", "aggregate_latency", "file_download_latency", "pending_messages", "eth_height_remaining")
}

// computeMetrics answers with what was measured of a compute resource node.
func (s *Server) computeMetrics(w http.ResponseWriter, r *http.Request) error {
	return s.nodeMetrics(w, r, "crn", "base_latency", "base_latency_ipv4", "full_check_latency", "diagnostic_vm_latency")
}

// nodeMetrics answers with columns of what was measured of a node.
func (s *Server) nodeMetrics(w http.ResponseWriter, r *http.Request, kind string, columns ...string) error {
	p := readParams(r)
	from, to := p.span()
	newest := p.word("ASC", []string{"ASC", "DESC"}, "sort") == "DESC"
	if err := p.err(); err != nil {
		return err
	}
	if to.IsZero() {
		to = time.Now()
	}
	if from.IsZero() {
		from = to.Add(-metricsSpan)
	}
	rows, err := s.parts.DB.NodeMetrics(r.Context(), kind, r.PathValue("node_id"), from, to, newest, metricsRowsMax)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return refuse(http.StatusNotFound)
	}
	out := map[string][]json.RawMessage{}
	hashes := make([]string, len(rows))
	for i, row := range rows {
		hashes[i] = string(row.Hash)
		var values map[string]json.RawMessage
		if err := json.Unmarshal(row.Doc, &values); err != nil {
			return fmt.Errorf("read metrics of %v: %w", row.At, err)
		}
		for _, name := range append([]string{"measured_at"}, columns...) {
			value := values[name]
			if value == nil {
				value = json.RawMessage("null")
			}
			out[name] = append(out[name], value)
		}
	}
	metrics := newObject(nil)
	metrics.texts("item_hash", hashes)
	for _, name := range append([]string{"measured_at"}, columns...) {
		list, err := json.Marshal(out[name])
		if err != nil {
			return fmt.Errorf("encode metrics: %w", err)
		}
		metrics.raw(name, list)
	}
	o := newObject(nil)
	o.raw("metrics", metrics.end())
	return s.answerJSON(w, r, http.StatusOK, o.end())
}
