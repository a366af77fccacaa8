package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// NodeMetrics is what was measured of a node at a time.
type NodeMetrics struct {
	Kind    string // ccn or crn
	Node    string // Its hash.
	At      time.Time
	Message int64            // ID of the post that says so.
	Hash    message.ItemHash // Of that post, of rows that are read.
	Doc     json.RawMessage  // The columns of the row.
}

// PutNodeMetrics writes rows; what is there stays as it is.
func (tx *Tx) PutNodeMetrics(ctx context.Context, rows []NodeMetrics) error {
	values := make([][]any, len(rows))
	for i, m := range rows {
		values[i] = []any{m.Kind, m.Node, m.At.UnixMicro(), m.Message, string(m.Doc)}
	}
	return tx.insert(ctx, "node_metrics (kind, node, at, message, doc)", values, " ON CONFLICT DO NOTHING")
}

// TrimNodeMetrics takes out up to limit rows of before a time, and says how many.
func (tx *Tx) TrimNodeMetrics(ctx context.Context, before time.Time, limit int) (int64, error) {
	var last *int64
	err := tx.q.QueryRowContext(ctx, "SELECT MAX(at) FROM (SELECT at FROM node_metrics WHERE at < ? ORDER BY at LIMIT ?) AS oldest", before.UnixMicro(), limit).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("look for old metrics of nodes: %w", err)
	}
	if last == nil {
		return 0, nil
	}
	res, err := tx.tx.ExecContext(ctx, "DELETE FROM node_metrics WHERE at <= ?", *last)
	if err != nil {
		return 0, fmt.Errorf("drop old metrics of nodes: %w", err)
	}
	return res.RowsAffected()
}

// NodeMetrics returns up to limit of what was measured of a node from one time to
// another, both included, whose posts are here still: the oldest first, or the
// newest.
func (r reader) NodeMetrics(ctx context.Context, kind, node string, from, to time.Time, newest bool, limit int) (out []NodeMetrics, err error) {
	order := "n.at, n.message"
	if newest {
		order = "n.at DESC, n.message DESC"
	}
	err = r.each(ctx, "SELECT n.at, n.message, m.pk, n.doc FROM node_metrics n JOIN messages m ON m.id = n.message"+
		" WHERE n.kind = ? AND n.node = ? AND n.at >= ? AND n.at <= ? ORDER BY "+order+" LIMIT ?", []any{kind, node, from.UnixMicro(), to.UnixMicro(), limit},
		func(scan func(...any) error) error {
			m := NodeMetrics{Kind: kind, Node: node}
			var at int64
			var doc string
			err := scan(&at, &m.Message, &m.Hash, &doc)
			m.At, m.Doc = micro(at), json.RawMessage(doc)
			out = append(out, m)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read metrics of node %.80q: %w", node, err)
	}
	return out, nil
}

// PutMeasured records the ID of the last message whose metrics are here.
func (tx *Tx) PutMeasured(ctx context.Context, id int64) error {
	return putMeta(ctx, tx, metaMeasured, id)
}

// Measured returns the ID of the last message whose metrics are here, -1 before the
// first.
func (r reader) Measured(ctx context.Context) (int64, error) {
	id, err := oneMeta[int64](ctx, r, metaMeasured)
	if errors.Is(err, errs.NotFound) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return *id, nil
}
