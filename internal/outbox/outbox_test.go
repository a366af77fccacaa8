package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

var quiet = slog.New(slog.DiscardHandler)

// fast is a configuration for a chain whose blocks the test makes.
func fast() outbox.Config {
	return outbox.Config{Interval: 50 * time.Millisecond, Confirmations: 1, StuckAfter: time.Hour, MaxFeeGwei: 100, Replacements: 3}
}

// office is an outbox on a chain.
type office struct {
	net *chaintest.Net
	dir string
	db  *state.DB
	s   *outbox.Sender
}

func openOffice(t *testing.T, n *chaintest.Net, dir string, cfg outbox.Config, c outbox.Chain) *office {
	t.Helper()
	db, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // A test that reopens has closed it.
	return &office{
		net: n, dir: dir, db: db,
		s: outbox.New(cfg, db, c, n.Deployment.Contracts, n.Coord.Signer, quiet, prometheus.NewRegistry()),
	}
}

func (o *office) pass(t *testing.T) {
	t.Helper()
	if err := o.s.Pass(t.Context()); err != nil {
		t.Fatalf("pass: %v", err)
	}
}

func (o *office) enqueue(t *testing.T, i state.Intent) {
	t.Helper()
	err := o.db.Update(t.Context(), func(tx *state.Tx) error {
		_, err := tx.Enqueue(t.Context(), i)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (o *office) intent(t *testing.T, key string) *state.Intent {
	t.Helper()
	i, err := o.db.Intent(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// hurry makes a postponed intent due.
func (o *office) hurry(t *testing.T, key string) {
	t.Helper()
	i := o.intent(t, key)
	i.RetryAt = time.Time{}
	if err := o.db.Update(t.Context(), func(tx *state.Tx) error { return tx.PutIntent(t.Context(), *i) }); err != nil {
		t.Fatal(err)
	}
}

// opening is the intent that opens a job.
func opening(t *testing.T, n *chaintest.Net, text string) state.Intent {
	t.Helper()
	args := n.Sign(t, chaintest.Spec(text), chaintest.RateQ32(5)).Args(t)
	return state.Intent{Key: "open/" + text, Contract: "JobManager", Method: "open", Args: args}
}

// events counts the JobAssigned events of a job since the first block.
func events(t *testing.T, n *chaintest.Net, text string) (count int) {
	t.Helper()
	logs, err := n.Client.LogsBetween(t.Context(), 0, n.Head(t).Number, []common.Address{n.Deployment.Contracts.JobManager})
	if err != nil {
		t.Fatal(err)
	}
	for i := range logs {
		e, err := bindings.NewJobManager().UnpackJobAssignedEvent(&logs[i])
		if err == nil && e.Spec == chaintest.Bytes(chaintest.Spec(text)) {
			count++
		}
	}
	return count
}

func TestIntentBecomesATransaction(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	o.enqueue(t, opening(t, n, "a"))
	o.enqueue(t, opening(t, n, "b"))

	o.pass(t)
	a, b := o.intent(t, "open/a"), o.intent(t, "open/b")
	if a.Status != state.IntentSent || b.Status != state.IntentSent || b.Nonce != a.Nonce+1 || len(a.Txs) != 1 {
		t.Fatalf("after one pass: %+v, %+v, want both sent with consecutive nonces", a, b)
	}
	n.Mine(t)
	o.pass(t)
	if a = o.intent(t, "open/a"); a.Status != state.IntentSent || a.MinedAt != n.Head(t).Number {
		t.Errorf("mined, but not deep: %+v", a)
	}
	n.Mine(t)
	o.pass(t)

	a = o.intent(t, "open/a")
	if a.Status != state.IntentConfirmed || a.Error != "" || a.GasUsed == 0 || a.TxHash != a.Txs[0].Hash {
		t.Errorf("deep enough: %+v, want confirmed", a)
	}
	if events(t, n, "a") != 1 || events(t, n, "b") != 1 {
		t.Errorf("jobs were opened %d and %d times, want once each", events(t, n, "a"), events(t, n, "b"))
	}
}

func TestRefusalsCostNothing(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	bad := opening(t, n, "bad")
	bad.Args = json.RawMessage(strings.Replace(string(bad.Args), `"nodeId":"2"`, `"nodeId":"1"`, 1))
	late := opening(t, n, "late")
	late.Deadline = n.Head(t).Time - 1
	for _, i := range []state.Intent{
		bad, late,
		{Key: "method", Contract: "JobManager", Method: "fly", Args: json.RawMessage("[]")},
		{Key: "contract", Contract: "Nothing", Method: "fly", Args: json.RawMessage("[]")},
		{Key: "args", Contract: "JobManager", Method: "stop", Args: json.RawMessage(`["0x12"]`)},
	} {
		o.enqueue(t, i)
	}

	o.pass(t)

	for key, want := range map[string]struct {
		status state.IntentStatus
		text   string
	}{
		"open/bad":  {state.IntentPending, ""},
		"open/late": {state.IntentExpired, "deadline"},
		"method":    {state.IntentReverted, `no method "fly"`},
		"contract":  {state.IntentReverted, `no contract "Nothing"`},
		"args":      {state.IntentReverted, "want 32 bytes, got 1"},
	} {
		if i := o.intent(t, key); key != "open/bad" && (i.Status != want.status || !strings.Contains(i.Error, want.text)) {
			t.Errorf("%s is %s (%s), want %s (%s)", key, i.Status, i.Error, want.status, want.text)
		}
	}
	for range 5 {
		o.hurry(t, "open/bad")
		if o.intent(t, "open/bad").Status == state.IntentPending {
			o.pass(t)
		}
	}
	if i := o.intent(t, "open/bad"); i.Status != state.IntentReverted || i.Error == "" {
		t.Errorf("an assignment to a coordinator: %+v, want reverted with a reason", i)
	}
	if nonce, err := n.Client.Nonce(t.Context(), n.Coord.Address(), nil); err != nil || nonce != 0 {
		t.Errorf("nonce %d, %v, want 0: nothing was sent", nonce, err)
	}
}

func TestShortAllowanceIsSaid(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	n.Do(t, n.Payer.Key, "AlephToken", bindings.NewAlephToken().PackApprove(n.Deployment.Contracts.PaymentManager, big.NewInt(17)))
	o.enqueue(t, opening(t, n, "poor"))

	for range 6 {
		if o.intent(t, "open/poor").Status == state.IntentPending {
			o.hurry(t, "open/poor")
			o.pass(t)
		}
	}

	if i := o.intent(t, "open/poor"); i.Status != state.IntentReverted || !strings.Contains(i.Error, "there are 17 wei, 18000 wei are needed") {
		t.Errorf("allowance short: %s (%s), want the missing amount", i.Status, i.Error)
	}
}

func TestRefusedItemsAreSaid(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	n.Open(t, chaintest.Spec("not mine"), chaintest.RateQ32(5))
	spec := chaintest.Spec("not mine")
	o.enqueue(t, state.Intent{Key: "running", Contract: "JobManager", Method: "confirmRunning", Args: json.RawMessage(`[["0x` + string(spec) + `"]]`)})
	o.enqueue(t, state.Intent{Key: "expire", Contract: "JobManager", Method: "expire", Args: json.RawMessage(`[["0x` + string(spec) + `"]]`)})

	o.pass(t)
	n.Mine(t)
	n.Mine(t)
	o.pass(t)

	if i := o.intent(t, "running"); i.Status != state.IntentReverted || !strings.Contains(i.Error, "not the signer") {
		t.Errorf("confirmation by another node: %s (%s), want the reason", i.Status, i.Error)
	}
	for range 6 {
		if o.intent(t, "expire").Status == state.IntentPending {
			o.hurry(t, "expire")
			o.pass(t)
		}
	}
	if i := o.intent(t, "expire"); i.Status != state.IntentReverted || !strings.Contains(i.Error, "every item") || len(i.Txs) != 0 {
		t.Errorf("expiry of a job without end: %s (%s), want refused in simulation", i.Status, i.Error)
	}
}

func TestEmptyAccountWaitsForMoney(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	poor, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	o.s = outbox.New(fast(), o.db, n.Client, n.Deployment.Contracts, poor, quiet, prometheus.NewRegistry())
	o.enqueue(t, opening(t, n, "waits"))
	for range 6 {
		o.hurry(t, "open/waits")
		o.pass(t)
	}
	if i := o.intent(t, "open/waits"); i.Status != state.IntentPending || !strings.Contains(i.Error, "send it some ether") || i.RetryAt.IsZero() {
		t.Errorf("without ether: %s (%s), want pending and what to do", i.Status, i.Error)
	}

	pay(t, n, o.s.Address())
	o.hurry(t, "open/waits")
	o.pass(t)

	if i := o.intent(t, "open/waits"); i.Status != state.IntentSent {
		t.Errorf("with ether: %s (%s), want sent", i.Status, i.Error)
	}
}

// pay sends an ether of the admin.
func pay(t *testing.T, n *chaintest.Net, to common.Address) {
	t.Helper()
	nonce, err := n.Client.Nonce(t.Context(), n.Admin.Address, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := payment(t, n, n.Admin, nonce, to)
	if err := n.Client.Send(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	n.Mine(t)
}

func payment(t *testing.T, n *chaintest.Net, from devchain.Account, nonce uint64, to common.Address) []byte {
	t.Helper()
	tx, err := types.SignNewTx(from.Key, types.LatestSignerForChainID(n.Client.ChainID()), &types.DynamicFeeTx{
		ChainID: n.Client.ChainID(), Nonce: nonce, Gas: 21000, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), To: &to, Value: big.NewInt(1e17),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReorganisedTransactionIsSentAgain(t *testing.T) {
	n := chaintest.Start(t)
	cfg := fast()
	cfg.Confirmations = 3
	o := openOffice(t, n, t.TempDir(), cfg, n.Client)
	o.enqueue(t, opening(t, n, "x"))
	o.enqueue(t, opening(t, n, "y"))
	o.pass(t)
	n.Mine(t)
	o.pass(t)
	if o.intent(t, "open/x").MinedAt == 0 {
		t.Fatal("not mined")
	}

	if err := n.Chain.Reorg(1); err != nil {
		t.Fatal(err)
	}
	o.pass(t)
	for range 4 {
		n.Mine(t)
	}
	o.pass(t)

	for _, key := range []string{"x", "y"} {
		if i := o.intent(t, "open/"+key); i.Status != state.IntentConfirmed || len(i.Txs) != 1 {
			t.Errorf("%s is %s (%s), want confirmed by the same transaction", key, i.Status, i.Error)
		}
		if got := events(t, n, key); got != 1 {
			t.Errorf("%s was opened %d times, want once", key, got)
		}
	}
}

// TestDeepReorganisationIsNoticed takes back a block under more confirmations
// than the outbox waits for.
func TestDeepReorganisationIsNoticed(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	m := mirror.New(mirror.Config{Interval: 10 * time.Millisecond, FromBlock: n.Deployment.FromBlock}, o.db, n.Client,
		n.Deployment.Contracts, quiet, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("mirror: %v", err)
		}
	}()
	mirrored := func() {
		t.Helper()
		wake, deadline := o.db.Wake("blocks"), time.NewTimer(20*time.Second)
		defer deadline.Stop()
		for {
			if head, err := o.db.Head(t.Context()); err == nil && head.Hash == n.Head(t).Hash {
				return
			}
			select {
			case <-wake:
			case <-deadline.C:
				t.Fatal("the mirror does not follow")
			}
		}
	}
	o.enqueue(t, opening(t, n, "deep"))
	o.pass(t)
	for range 3 {
		n.Mine(t)
	}
	o.pass(t)
	mirrored()
	o.pass(t)
	if i := o.intent(t, "open/deep"); i.Status != state.IntentConfirmed {
		t.Fatalf("%s, want confirmed", i.Status)
	}

	if err := n.Chain.Reorg(3); err != nil {
		t.Fatal(err)
	}
	mirrored()
	if _, err := o.db.Job(t.Context(), chaintest.Spec("deep")); !errors.Is(err, errs.NotFound) {
		t.Errorf("job after the reorganisation: %v, want none", err)
	}
	for range 3 {
		o.pass(t)
		n.Mine(t)
	}
	mirrored()

	if i := o.intent(t, "open/deep"); i.Status != state.IntentConfirmed || len(i.Txs) != 1 || events(t, n, "deep") != 1 {
		t.Errorf("%s (%s), opened %d times, want confirmed and once", i.Status, i.Error, events(t, n, "deep"))
	}
	if j, err := o.db.Job(t.Context(), chaintest.Spec("deep")); err != nil || j.Status != state.JobAssigned {
		t.Errorf("job is %+v, %v, want assigned again", j, err)
	}
}

func TestStuckTransactionIsReplaced(t *testing.T) {
	n := chaintest.Start(t)
	cfg := fast()
	cfg.StuckAfter, cfg.Replacements = 0, 2
	o := openOffice(t, n, t.TempDir(), cfg, n.Client)
	o.enqueue(t, opening(t, n, "stuck"))
	for range 6 {
		o.pass(t)
	}

	i := o.intent(t, "open/stuck")
	if len(i.Txs) != 3 {
		t.Fatalf("%d transactions, want the first and two replacements", len(i.Txs))
	}
	for k := 1; k < len(i.Txs); k++ {
		for _, pair := range [][2]*big.Int{{i.Txs[k-1].FeeWei, i.Txs[k].FeeWei}, {i.Txs[k-1].TipWei, i.Txs[k].TipWei}} {
			if pair[1].Cmp(outbox.More(pair[0])) < 0 {
				t.Errorf("replacement %d offers %v after %v, want an eighth more", k, pair[1], pair[0])
			}
		}
	}
	n.Mine(t)
	n.Mine(t)
	o.pass(t)

	if i = o.intent(t, "open/stuck"); i.Status != state.IntentConfirmed || i.TxHash != i.Txs[2].Hash {
		t.Errorf("%s by %s, want confirmed by the last replacement", i.Status, i.TxHash)
	}
	if got := events(t, n, "stuck"); got != 1 {
		t.Errorf("opened %d times, want once", got)
	}
}

func TestFeeCeilingIsKept(t *testing.T) {
	n := chaintest.Start(t)
	cfg := fast()
	cfg.StuckAfter, cfg.MaxFeeGwei, cfg.Replacements = 0, 1, 1000
	o := openOffice(t, n, t.TempDir(), cfg, n.Client)
	o.enqueue(t, opening(t, n, "dear"))
	for range 80 {
		o.pass(t)
	}
	i := o.intent(t, "open/dear")
	last := i.Txs[len(i.Txs)-1].FeeWei
	if last.Cmp(big.NewInt(1e9)) > 0 || len(i.Txs) < 3 || len(i.Txs) > 75 {
		t.Errorf("%d transactions, the last offers %v wei, want at most a gwei", len(i.Txs), last)
	}
}

func TestLateTransactionIsCancelled(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), lost{n.Client})
	i := opening(t, n, "slow")
	i.Deadline = n.Head(t).Time + 5
	o.enqueue(t, i)
	o.pass(t) // Sent, and lost on the way.
	n.Chain.IncreaseTime(time.Minute)
	n.Mine(t)

	o.s = outbox.New(fast(), o.db, n.Client, n.Deployment.Contracts, n.Coord.Signer, quiet, prometheus.NewRegistry())
	o.pass(t)
	n.Mine(t)
	n.Mine(t)
	o.pass(t)

	if got := o.intent(t, "open/slow"); got.Status != state.IntentExpired || events(t, n, "slow") != 0 {
		t.Errorf("%s (%s), opened %d times, want expired and never opened", got.Status, got.Error, events(t, n, "slow"))
	}
	if nonce, err := n.Client.Nonce(t.Context(), n.Coord.Address(), nil); err != nil || nonce != 1 {
		t.Errorf("nonce %d, %v, want 1: the cancellation took it", nonce, err)
	}
}

// lost is a network that loses every transaction.
type lost struct{ outbox.Chain }

func (lost) Send(context.Context, []byte) error { return nil }

func dial(t *testing.T, w *chaintest.Wire) *chain.Client {
	t.Helper()
	c, err := chain.Dial(t.Context(), chain.Config{RPCURL: w.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestLostNonceStartsOver(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), lost{n.Client})
	o.enqueue(t, opening(t, n, "robbed"))
	o.pass(t)
	thief := devchain.Account{Address: n.Coord.Address(), Key: n.Coord.Signer}
	if err := n.Client.Send(t.Context(), payment(t, n, thief, 0, common.Address{1})); err != nil {
		t.Fatal(err)
	}
	n.Mine(t)
	n.Mine(t)

	o.s = outbox.New(fast(), o.db, n.Client, n.Deployment.Contracts, n.Coord.Signer, quiet, prometheus.NewRegistry())
	o.pass(t)
	o.pass(t)
	n.Mine(t)
	n.Mine(t)
	o.pass(t)

	if i := o.intent(t, "open/robbed"); i.Status != state.IntentConfirmed || i.Nonce != 1 || events(t, n, "robbed") != 1 {
		t.Errorf("%s with nonce %d (%s), want confirmed with nonce 1", i.Status, i.Nonce, i.Error)
	}
}

// dying is a chain at whose nth call the process dies: before the call reaches
// the network, or after it did and before the answer is seen.
type dying struct {
	outbox.Chain
	kill  context.CancelFunc
	left  int
	after bool
}

var errDead = errors.New("killed")

func (d *dying) step(do func() error) error {
	if d.left--; d.left != 0 {
		return do()
	}
	if d.after {
		_ = do() // The answer is never seen.
	}
	d.kill()
	return errDead
}

func (d *dying) Head(ctx context.Context) (h *chain.Header, err error) {
	err = d.step(func() (err error) { h, err = d.Chain.Head(ctx); return err })
	return h, err
}

func (d *dying) Nonce(ctx context.Context, a common.Address, at *uint64) (n uint64, err error) {
	err = d.step(func() (err error) { n, err = d.Chain.Nonce(ctx, a, at); return err })
	return n, err
}

func (d *dying) Balance(ctx context.Context, a common.Address) (wei *big.Int, err error) {
	err = d.step(func() (err error) { wei, err = d.Chain.Balance(ctx, a); return err })
	return wei, err
}

func (d *dying) Tip(ctx context.Context) (tip *big.Int, err error) {
	err = d.step(func() (err error) { tip, err = d.Chain.Tip(ctx); return err })
	return tip, err
}

func (d *dying) EstimateGas(ctx context.Context, m chain.Call) (gas uint64, err error) {
	err = d.step(func() (err error) { gas, err = d.Chain.EstimateGas(ctx, m); return err })
	return gas, err
}

func (d *dying) Send(ctx context.Context, raw []byte) error {
	return d.step(func() error { return d.Chain.Send(ctx, raw) })
}

func (d *dying) Receipts(ctx context.Context, txs []common.Hash) (rs []*chain.Receipt, err error) {
	err = d.step(func() (err error) { rs, err = d.Chain.Receipts(ctx, txs); return err })
	return rs, err
}

// TestKilledAtAnyPointSendsOnce kills the outbox at each of its calls to the
// chain in turn, before and after the call took effect, reopens the database
// and goes on. Each intent is mined exactly once.
func TestKilledAtAnyPointSendsOnce(t *testing.T) {
	n := chaintest.Start(t)
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			name := fmt.Sprintf("%d-%t", at, after)
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			d := &dying{Chain: n.Client, kill: cancel, left: at, after: after}
			o := openOffice(t, n, dir, fast(), d)
			o.enqueue(t, opening(t, n, name+"a"))
			o.enqueue(t, opening(t, n, name+"b"))
			for range 4 { // Until it dies.
				if err := o.s.Pass(ctx); err != nil {
					break
				}
				n.Mine(t)
			}
			died := ctx.Err() != nil
			cancel()
			if err := o.db.Close(); err != nil {
				t.Fatal(err)
			}

			o = openOffice(t, n, dir, fast(), n.Client)
			for range 4 {
				o.pass(t)
				n.Mine(t)
			}

			for _, key := range []string{name + "a", name + "b"} {
				if i := o.intent(t, "open/"+key); i.Status != state.IntentConfirmed {
					t.Errorf("%s is %s (%s), want confirmed", key, i.Status, i.Error)
				}
				if got := events(t, n, key); got != 1 {
					t.Errorf("%s was opened %d times, want once", key, got)
				}
			}
			if err := o.db.Close(); err != nil {
				t.Fatal(err)
			}
			if !died {
				t.Logf("%d points of death, after the call: %t", at-1, after)
				break
			}
		}
	}
}

// warnings sends the text of what is logged as a warning.
type warnings struct{ seen chan string }

func (h warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h warnings) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.seen <- r.Message:
	default:
	}
	return nil
}

func (h warnings) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h warnings) WithGroup(string) slog.Handler      { return h }

func TestRunRidesOutAnRPCThatIsAway(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	o := openOffice(t, n, t.TempDir(), fast(), dial(t, wire))
	failures := warnings{make(chan string, 8)}
	o.s = outbox.New(fast(), o.db, dial(t, wire), n.Deployment.Contracts, n.Coord.Signer, slog.New(failures), prometheus.NewRegistry())
	stopChain := n.Run(t)
	defer stopChain()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want the context's cause", err)
		}
	}()
	wire.Cut()
	o.enqueue(t, opening(t, n, "patient"))
	select {
	case text := <-failures.seen:
		if text != "pass failed" {
			t.Errorf("logged %q, want a failed pass", text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a cut wire was not noticed")
	}
	if i := o.intent(t, "open/patient"); i.Status != state.IntentPending {
		t.Errorf("%s while the RPC is away, want pending", i.Status)
	}
	wire.Mend()

	wake := o.db.Wake("intents")
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for o.intent(t, "open/patient").Status != state.IntentConfirmed {
		select {
		case <-wake:
		case <-deadline.C:
			t.Fatalf("not confirmed: %+v", o.intent(t, "open/patient"))
		}
	}
}

func TestLaterIntentsWaitForEarlierOnes(t *testing.T) {
	n := chaintest.Start(t)
	o := openOffice(t, n, t.TempDir(), fast(), n.Client)
	o.enqueue(t, opening(t, n, "first"))
	spec := chaintest.Spec("first")
	o.enqueue(t, state.Intent{Key: "failstart", Contract: "JobManager", Method: "failStart", Args: json.RawMessage(`["0x` + string(spec) + `"]`)})

	o.pass(t)

	if i := o.intent(t, "failstart"); i.Status != state.IntentPending || i.Attempts != 0 {
		t.Errorf("an intent that builds on one in flight is %s after %d attempts, want pending after none", i.Status, i.Attempts)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if err := outbox.DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	for want, spoil := range map[string]func(*outbox.Config){
		"interval is":     func(c *outbox.Config) { c.Interval = 0 },
		"stuck_after is":  func(c *outbox.Config) { c.StuckAfter = 0 },
		"max_fee_gwei is": func(c *outbox.Config) { c.MaxFeeGwei = 0 },
		"replacements is": func(c *outbox.Config) { c.Replacements = -1 },
	} {
		c := outbox.DefaultConfig()
		spoil(&c)
		if err := c.Validate(); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestRefusalTextsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint8(8) {
		text := outbox.RefusalText(n)
		if text == "" || seen[text] {
			t.Errorf("refusal %d reads %q, like another", n, text)
		}
		seen[text] = true
	}
}
