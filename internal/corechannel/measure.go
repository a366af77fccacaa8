package corechannel

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// metricsKept is how long metrics are kept.
	metricsKept = 365 * 24 * time.Hour
	// trimMax bounds the rows that are taken out at once, trimEvery apart.
	trimMax, trimEvery = 50_000, time.Hour
	// measureMax bounds the messages that one pass reads, in followBatch, so that the
	// list of nodes need not wait for all that are here.
	measureMax = 100
)

// The kinds of rows of metrics.
const (
	metricsCCN = "ccn"
	metricsCRN = "crn"
)

// measure keeps what posts say was measured of nodes. Where it stands is in state,
// with the rows.
func (k *Keeper) measure(ctx context.Context, now time.Time) error {
	oldest := now.Add(-metricsKept)
	for range measureMax {
		last, err := k.db.Measured(ctx)
		if err != nil {
			return err
		}
		fresh, err := k.db.MessagesAfter(ctx, last, followBatch)
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			break
		}
		var rows []state.NodeMetrics
		for _, m := range fresh {
			if m.Envelope.Type != message.TypePost || !mentions(m.Content, []string{core.MetricsType}) {
				continue
			}
			more, err := k.metricsOf(m, oldest)
			if err != nil {
				return err
			}
			rows = append(rows, more...)
		}
		err = k.db.Update(ctx, func(tx *state.Tx) error {
			if err := tx.PutNodeMetrics(ctx, rows); err != nil {
				return err
			}
			return tx.PutMeasured(ctx, fresh[len(fresh)-1].ID)
		})
		if err != nil {
			return err
		}
	}
	if now.Sub(k.trimmedAt) < trimEvery {
		return nil
	}
	k.trimmedAt = now
	return k.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.TrimNodeMetrics(ctx, oldest, trimMax)
		return err
	})
}

// metricsOf are the rows of a post that are not too old.
func (k *Keeper) metricsOf(m *state.Message, oldest time.Time) ([]state.NodeMetrics, error) {
	body, err := m.Body()
	if err != nil {
		return nil, err
	}
	post, ok := body.(*message.Post)
	if !ok {
		return nil, nil
	}
	read, err := core.ReadMetrics(k.messageOf(m, post, 0), k.settings)
	if err != nil {
		return nil, nil //nolint:nilerr // It is not one of those.
	}
	var out []state.NodeMetrics
	add := func(kind, node string, at float64, row any) error {
		const micro = 1e6
		measured := time.UnixMicro(int64(math.Round(at * micro)))
		if measured.Before(oldest) {
			return nil
		}
		doc, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode metrics of node %.80q: %w", node, err)
		}
		out = append(out, state.NodeMetrics{Kind: kind, Node: node, At: measured, Message: m.ID, Doc: doc})
		return nil
	}
	for _, row := range read.Nodes {
		node := row.NodeID
		row.NodeID, row.ItemHash = "", "" // They are in columns of their own.
		if err := add(metricsCCN, node, row.MeasuredAt, row); err != nil {
			return nil, err
		}
	}
	for _, row := range read.ResourceNodes {
		node := row.NodeID
		row.NodeID, row.ItemHash = "", ""
		if err := add(metricsCRN, node, row.MeasuredAt, row); err != nil {
			return nil, err
		}
	}
	return out, nil
}
