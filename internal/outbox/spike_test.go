package outbox_test

import (
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// dear is a chain whose gas costs what a test says. It takes what others would too.
type dear struct {
	outbox.Chain
	gwei int64 // 0 = what it costs
	lose bool  // nothing that is sent arrives
}

func (d *dear) Head(ctx context.Context) (*chain.Header, error) {
	h, err := d.Chain.Head(ctx)
	if err != nil || d.gwei == 0 {
		return h, err
	}
	spiked := *h
	spiked.BaseFee = big.NewInt(d.gwei * 1e9)
	return &spiked, nil
}

func (d *dear) Send(ctx context.Context, raw []byte) error {
	if d.lose {
		return nil
	}
	return d.Chain.Send(ctx, raw)
}

// publisher is an outbox of the lane of archives, on a chain of its own price.
func (o *office) publisher(t *testing.T, cfg outbox.Config, c outbox.Chain) (*outbox.Sender, *prometheus.Registry) {
	t.Helper()
	cfg.Lane, cfg.MaxFeeGwei = state.LaneSync, 150
	reg := prometheus.NewRegistry()
	return outbox.New(cfg, o.db, c, chain.SyncContract{At: common.Address{0xa1}}, o.net.Admin.Key, quiet, reg), reg
}

func archiveIntent(key string) state.Intent {
	return state.Intent{Key: key, Lane: state.LaneSync, Contract: chain.SyncName, Method: "doEmit", Args: json.RawMessage(`["{}"]`)}
}

// wantDear checks what the metric of the lane of archives says.
func wantDear(t *testing.T, reg *prometheus.Registry, value float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "aleph_outbox_sync_gas_too_dear" {
			if got := f.GetMetric()[0].GetGauge().GetValue(); got != value {
				t.Errorf("the metric is %v, want %v", got, value)
			}
			return
		}
	}
	t.Error("there is no such metric")
}

func passOf(t *testing.T, s *outbox.Sender) {
	t.Helper()
	if err := s.Pass(t.Context()); err != nil {
		t.Fatalf("pass: %v", err)
	}
}

// TestASpikeHoldsOneLane: an archive waits while gas is too dear on its chain, its row
// and the metric say why, the node's own transactions go on, and it is sent as soon as
// gas is cheaper.
func TestASpikeHoldsOneLane(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	gas := &dear{Chain: n.Client, gwei: 151}
	s, reg := o.publisher(t, fast(), gas)
	o.enqueue(t, archiveIntent("sync/1"))
	late := archiveIntent("sync/2")
	late.Deadline = n.Head(t).Time - 1
	o.enqueue(t, late)
	o.enqueue(t, opening(t, n, "mine"))

	for range 3 {
		passOf(t, s)
	}
	o.pass(t)

	i := o.wantStatus(t, "sync/1", state.IntentPending)
	if !strings.Contains(i.Error, "max_fee_gwei, 150") || i.Attempts != 0 || !i.RetryAt.IsZero() {
		t.Errorf("%+v, want a reason, and no pause", i)
	}
	o.wantStatus(t, "sync/2", state.IntentExpired)
	o.wantStatus(t, "open/mine", state.IntentSent)
	wantDear(t, reg, 1)

	gas.gwei = 150
	passOf(t, s)

	if i = o.wantStatus(t, "sync/1", state.IntentSent); i.Error != "" || i.Txs[0].FeeWei.Cmp(big.NewInt(150e9)) > 0 {
		t.Errorf("%+v, want no reason, and a fee of at most 150 gwei", i)
	}
	wantDear(t, reg, 0)
	gas.gwei = 0
	n.Mine(t)
	n.Mine(t)
	passOf(t, s)
	o.wantStatus(t, "sync/1", state.IntentConfirmed)
}

// TestASpikeThatComesAfterwards leaves a transaction as it is: it is not replaced above
// the ceiling, says why, and is mined when gas is cheaper.
func TestASpikeThatComesAfterwards(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	gas := &dear{Chain: n.Client, lose: true}
	cfg := fast()
	cfg.StuckAfter = time.Nanosecond
	s, _ := o.publisher(t, cfg, gas)
	o.enqueue(t, archiveIntent("sync/1"))
	passOf(t, s)
	gas.gwei = 500
	for range 3 {
		passOf(t, s)
	}
	i := o.wantStatus(t, "sync/1", state.IntentSent)
	if len(i.Txs) != 1 || !strings.Contains(i.Error, "max_fee_gwei") {
		t.Errorf("in the spike: %d transactions (%s), want the first, and why it waits", len(i.Txs), i.Error)
	}

	gas.gwei, gas.lose = 0, false
	passOf(t, s)
	n.Mine(t)
	n.Mine(t)
	passOf(t, s)

	if i = o.wantStatus(t, "sync/1", state.IntentConfirmed); i.Error != "" || len(i.Txs) != 2 {
		t.Errorf("after it: %d transactions (%s), want one replacement", len(i.Txs), i.Error)
	}
}
