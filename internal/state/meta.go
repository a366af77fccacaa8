package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
)

// meta is one named fact about the node or the chain.
type meta struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

func metas() table[meta] {
	return table[meta]{name: "meta", noun: "fact", key: func(m *meta) string { return m.Name }}
}

// The names of facts. Each has one writer.
const (
	metaParams   = "params"
	metaIdentity = "identity"
	metaLooked   = "looked:" // And a payment.
	metaMeasured = "measured"
	metaDrain    = "drain"
)

// Params are the parameters of the contracts that the node acts on, as of the
// head block.
type Params struct {
	PrepaySeconds    uint64    `json:"prepay_seconds"`
	GraceSoftSeconds uint64    `json:"grace_soft_seconds"`
	GraceHardSeconds uint64    `json:"grace_hard_seconds"`
	StartSeconds     uint64    `json:"start_seconds"` // How long an assigned job may take to run.
	ComputeSplitBps  [4]uint16 `json:"compute_split_bps"`
}

// Identity is who this node is; it never changes for a data directory.
type Identity struct {
	ChainID   *big.Int                  `json:"chain_id"`
	Genesis   string                    `json:"genesis"` // Hash of block 0.
	NodeID    uint32                    `json:"node_id"`
	Contracts map[string]common.Address `json:"contracts,omitempty"` // Address by name.
}

func putMeta[T any](ctx context.Context, tx *Tx, name string, value T) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return metas().put(ctx, tx, &meta{Name: name, Value: raw})
}

func oneMeta[T any](ctx context.Context, r reader, name string) (*T, error) {
	m, err := metas().one(ctx, r, name)
	if err != nil {
		return nil, err
	}
	return decodeMeta[T](m)
}

func decodeMeta[T any](m *meta) (*T, error) {
	var v T
	if err := json.Unmarshal(m.Value, &v); err != nil {
		return nil, fmt.Errorf("decode %s: %w", m.Name, err)
	}
	return &v, nil
}

// PutParams records the contracts' parameters.
func (tx *Tx) PutParams(ctx context.Context, p Params) error { return putMeta(ctx, tx, metaParams, p) }

// Params returns the contracts' parameters, or errs.NotFound before mirror has
// read them.
func (r reader) Params(ctx context.Context) (*Params, error) {
	return oneMeta[Params](ctx, r, metaParams)
}

// PutIdentity records who this node is.
func (tx *Tx) PutIdentity(ctx context.Context, id Identity) error {
	return putMeta(ctx, tx, metaIdentity, id)
}

// Identity returns who this node is, or errs.NotFound before its first start.
func (r reader) Identity(ctx context.Context) (*Identity, error) {
	return oneMeta[Identity](ctx, r, metaIdentity)
}
