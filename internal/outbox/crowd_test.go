package outbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// wantStatus checks what became of an intent and returns it.
func (o *office) wantStatus(t *testing.T, key string, want state.IntentStatus) *state.Intent {
	t.Helper()
	i := o.intent(t, key)
	if i.Status != want {
		t.Errorf("%s is %s (%s), want %s", key, i.Status, i.Error, want)
	}
	return i
}

// put writes rows as they are.
func (o *office) put(t *testing.T, all ...state.Intent) {
	t.Helper()
	err := o.db.Update(t.Context(), func(tx *state.Tx) error {
		for _, i := range all {
			if err := tx.PutIntent(t.Context(), i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestIntentsThatAreNotDueHideNone(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	var crowd []state.Intent
	for k := range outbox.WaitingMax + 1 {
		crowd = append(crowd, state.Intent{
			Key: fmt.Sprint("crowd/", k), Seq: int64(k + 1), Contract: "JobManager", Method: "stop", Args: json.RawMessage("[]"),
			Status: state.IntentPending, RetryAt: time.Now().Add(time.Hour),
		})
	}
	o.put(t, crowd...)
	o.enqueue(t, opening(t, n, "behind"))

	o.pass(t)

	o.wantStatus(t, "open/behind", state.IntentSent)
}

func TestYieldingIntentsLeaveRoom(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	for k := range outbox.YieldingFlightMax + 2 {
		i := opening(t, n, fmt.Sprint("yields", k))
		i.Yields = true
		o.enqueue(t, i)
	}
	o.enqueue(t, opening(t, n, "first"))

	o.pass(t)
	o.enqueue(t, opening(t, n, "second"))
	o.pass(t)

	if i := o.wantStatus(t, "open/first", state.IntentSent); i.Nonce != 0 {
		t.Errorf("nonce %d, want 0: those that yield go after it", i.Nonce)
	}
	o.wantStatus(t, "open/second", state.IntentSent)
	sent, err := o.db.IntentsWith(t.Context(), 100, state.IntentSent)
	if err != nil || len(sent) != outbox.YieldingFlightMax+1 {
		t.Errorf("%d in flight, %v, want %d and the second", len(sent), err, outbox.YieldingFlightMax)
	}
}

// TestLateIntentsEndHoweverManyWait: behind more than a pass looks at, while gas is too dear
// and while there is no room in flight.
func TestLateIntentsEndHoweverManyWait(t *testing.T) {
	for _, tt := range []struct {
		name   string
		gwei   int64
		inAir  int
		reason string
	}{
		{"gas is too dear", 101, 0, "max_fee_gwei, 100"},
		{"too many are in flight", 0, 2 * outbox.YieldingFlightMax, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := chaintest.Start(t)
			o := openOffice(t, n, t.TempDir(), fast(), &dear{Chain: n.Client, gwei: tt.gwei, lose: true})
			var rows []state.Intent
			add := func(key string, status state.IntentStatus, yields bool, deadline uint64) *state.Intent {
				rows = append(rows, state.Intent{
					Key: key, Seq: int64(len(rows) + 1), Contract: "JobManager", Method: "stop", Args: json.RawMessage("[]"),
					Status: status, Yields: yields, Deadline: deadline,
				})
				return &rows[len(rows)-1]
			}
			used, err := n.Client.Nonce(t.Context(), o.s.Address(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for k := range tt.inAir {
				i := add(fmt.Sprint("air/", k), state.IntentSent, false, 0)
				i.Nonce, i.Txs = used+uint64(k), []state.SentTx{{Hash: common.Hash{1, byte(k)}, SentAt: time.Now()}}
			}
			now := n.Head(t).Time
			for k := range 2 * (outbox.WaitingMax + 1) {
				add(fmt.Sprint("waits/", k), state.IntentPending, k%2 == 1, now+3600)
			}
			for k := range 2 * (outbox.WaitingMax + 1) {
				add(fmt.Sprint("late/", k), state.IntentPending, k%2 == 1, now-1)
			}
			o.put(t, rows...)

			for range 4 { // Each kind has a little more than two looks.
				o.pass(t)
			}

			for k := range 2 * (outbox.WaitingMax + 1) {
				o.wantStatus(t, fmt.Sprint("late/", k), state.IntentExpired)
				if i := o.wantStatus(t, fmt.Sprint("waits/", k), state.IntentPending); !strings.Contains(i.Error, tt.reason) || tt.reason == "" && i.Error != "" {
					t.Errorf("%s waits for %q, want %q", i.Key, i.Error, tt.reason)
				}
			}
		})
	}
}

// mute is an RPC that has no answer about a call with some bytes in it.
type mute struct {
	outbox.Chain
	about []byte
	asked int
}

func (m *mute) EstimateGas(ctx context.Context, c chain.Call) (uint64, error) {
	m.asked++
	if bytes.Contains(c.Data, m.about) {
		return 0, errs.New(errs.Unavailable, "no answer about this")
	}
	return m.Chain.EstimateGas(ctx, c)
}

func TestIntentWithoutAnAnswerLetsOthersPass(t *testing.T) {
	n := chaintest.Start(t)
	spec := chaintest.Bytes(chaintest.Spec("mute"))
	o := openOffice(t, n, t.TempDir(), fast(), &mute{Chain: n.Client, about: spec[:]})
	o.enqueue(t, opening(t, n, "mute"))
	o.enqueue(t, opening(t, n, "heard"))

	for range outbox.RefusalsMax + 1 {
		o.hurry(t, "open/mute")
		o.pass(t)
	}

	o.wantStatus(t, "open/heard", state.IntentSent)
	if i := o.wantStatus(t, "open/mute", state.IntentPending); !strings.Contains(i.Error, "no answer") || i.RetryAt.IsZero() {
		t.Errorf("%+v, want it to be tried later, and why", i)
	}
}

func TestSilentRPCIsNotAskedAboutEach(t *testing.T) {
	n := chaintest.Start(t)
	silent := &mute{Chain: n.Client}
	o := openOffice(t, n, t.TempDir(), fast(), silent)
	for k := range 2 * outbox.UnansweredMax {
		o.enqueue(t, opening(t, n, fmt.Sprint(k)))
	}

	o.pass(t)

	if silent.asked != outbox.UnansweredMax {
		t.Errorf("asked %d times in a pass, want %d", silent.asked, outbox.UnansweredMax)
	}
}

// crowded is a chain that has mined the transactions of all intents but one, and
// none of them deep.
type crowded struct {
	outbox.Chain
	open common.Hash
	used uint64
	at   *chain.Header
}

func (c crowded) Nonce(context.Context, common.Address, *uint64) (uint64, error) { return c.used, nil }

func (c crowded) Receipts(_ context.Context, txs []common.Hash) ([]*chain.Receipt, error) {
	out := make([]*chain.Receipt, len(txs))
	for n, tx := range txs {
		if tx != c.open {
			out[n] = &chain.Receipt{Tx: tx, Block: c.at.Hash, Number: c.at.Number, OK: true}
		}
	}
	return out, nil
}

// TestNoNonceIsUsedTwice has one more intent on its way than a pass follows. It
// is the one that waits to be mined.
func TestNoNonceIsUsedTwice(t *testing.T) {
	n := chaintest.Start(t)
	open := common.Hash{0xff}
	o := openOffice(t, n, t.TempDir(), fast(), crowded{Chain: n.Client, open: open, used: outbox.SentMax, at: n.Head(t)})
	var crowd []state.Intent
	for k := range outbox.SentMax + 1 {
		hash := common.Hash{1, byte(k >> 8), byte(k)}
		if k == outbox.SentMax {
			hash = open
		}
		crowd = append(crowd, state.Intent{
			Key: fmt.Sprint("crowd/", k), Seq: int64(k + 1), Contract: "JobManager", Method: "stop", Args: json.RawMessage("[]"),
			Status: state.IntentSent, Nonce: uint64(k), Txs: []state.SentTx{{Hash: hash, SentAt: time.Now()}},
		})
	}
	o.put(t, crowd...)
	o.enqueue(t, opening(t, n, "next"))

	o.pass(t)

	if i := o.wantStatus(t, "open/next", state.IntentPending); len(i.Txs) != 0 {
		t.Errorf("it was signed with nonce %d, which crowd/%d has", i.Nonce, outbox.SentMax)
	}
}

// TestRefusalsCountWhileOthersAreInFlight refuses an intent for good in an
// outbox that always has something on its way.
func TestRefusalsCountWhileOthersAreInFlight(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	spec := chaintest.Spec("nobody's")
	o.enqueue(t, opening(t, n, "a"))
	o.enqueue(t, state.Intent{Key: "bad", Contract: "JobManager", Method: "failStart", Args: json.RawMessage(`["0x` + string(spec) + `"]`)})
	for range 2 * outbox.RefusalsMax {
		o.pass(t)
		o.hurry(t, "bad")
	}
	if i := o.wantStatus(t, "bad", state.IntentPending); i.Refusals != 0 {
		t.Errorf("%d refusals count while a is in flight, want none", i.Refusals)
	}
	n.Mine(t)
	o.enqueue(t, opening(t, n, "b"))

	for range outbox.RefusalsMax {
		if o.intent(t, "bad").Status == state.IntentPending {
			o.hurry(t, "bad")
			o.pass(t)
		}
	}

	o.wantStatus(t, "open/b", state.IntentSent)
	o.wantStatus(t, "bad", state.IntentReverted)
}
