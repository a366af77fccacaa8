package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// text has what JSON and SQL might trip over.
const text = "text <&> '\"é"

// hash is an item hash that a digit of hex tells from others.
func hash(digit string) message.ItemHash { return message.ItemHash(strings.Repeat(digit, 64)) }

// filled returns a T with no field left empty, so that a field that is lost on
// the way to the disk is seen.
func filled[T any](t *testing.T) T {
	t.Helper()
	var row T
	fill(t, reflect.ValueOf(&row).Elem())
	return row
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 10, 1, 12, 30, 0, 123_456_789, time.UTC)))
		return
	case *big.Int:
		v.Set(reflect.ValueOf(new(big.Int).Lsh(big.NewInt(12345), 200)))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":[1,"x"]}`)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.String:
		if v.Type() == reflect.TypeFor[message.ItemHash]() {
			v.SetString(string(hash("f")))
			return
		}
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 << 40)
	case reflect.Uint, reflect.Uint64:
		v.SetUint(1 << 62)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(200)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.SetMapIndex(key, value)
	default:
		t.Fatalf("no value for a %s", v.Type())
	}
}

var numbers = cmp.Comparer(func(a, b *big.Int) bool { return a == b || a != nil && b != nil && a.Cmp(b) == 0 })

// trip writes a full row, reads it back and writes it once more, which changes
// nothing; a row that is not there gives errs.NotFound.
func trip[T any](t *testing.T, db *state.DB, put func(*state.Tx, T) error, get func() (*T, error)) {
	t.Helper()
	row := filled[T](t)
	name := reflect.TypeFor[T]().Name()
	if _, err := get(); !errors.Is(err, errs.NotFound) {
		t.Errorf("%s before it is there: %v, want not found", name, err)
	}
	for range 2 {
		update(t, db, func(tx *state.Tx) error { return put(tx, row) })
		got, err := get()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if diff := cmp.Diff(&row, got, numbers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	changes, err := db.Changes(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range changes {
		seen[c.Topic+" "+c.Key]++
	}
	for key, n := range seen {
		if n > 1 {
			t.Errorf("%s was written %d times, want once: it did not change", key, n)
		}
	}
}

// first returns the only row of a list.
func first[T any](rows []T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errs.New(errs.NotFound, "none")
	}
	if len(rows) > 1 {
		return nil, fmt.Errorf("%d rows, want one", len(rows))
	}
	return &rows[0], nil
}

func TestEveryRowComesBackAsItWas(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	spec := hash("f")

	trip(t, db, func(tx *state.Tx, r state.Block) error { return tx.PutBlock(ctx, r) }, func() (*state.Block, error) { return db.Block(ctx, 1<<62) })
	trip(t, db, func(tx *state.Tx, r state.Node) error { return tx.PutNode(ctx, r) }, func() (*state.Node, error) { return db.Node(ctx, 200) })
	trip(t, db, func(tx *state.Tx, r state.Job) error { return tx.PutJob(ctx, r) }, func() (*state.Job, error) { return db.Job(ctx, spec) })
	payer := filled[state.Account](t).Payer
	trip(t, db, func(tx *state.Tx, r state.Account) error { return tx.PutAccount(ctx, r) },
		func() (*state.Account, error) { return db.Account(ctx, payer, 200) })
	trip(t, db, func(tx *state.Tx, r state.Payment) error { return tx.PutPayment(ctx, r) },
		func() (*state.Payment, error) { return first(db.Payments(ctx, payer, 1<<62)) })
	trip(t, db, func(tx *state.Tx, r state.Offer) error { return tx.PutOffer(ctx, r) }, func() (*state.Offer, error) { return db.Offer(ctx, spec) })
	trip(t, db, func(tx *state.Tx, r state.Decision) error { return tx.PutDecision(ctx, r) },
		func() (*state.Decision, error) { return db.Decision(ctx, spec, 200) })
	trip(t, db, func(tx *state.Tx, r state.Capacity) error { return tx.PutCapacity(ctx, r) },
		func() (*state.Capacity, error) { return db.Capacity(ctx, 200) })
	trip(t, db, func(tx *state.Tx, r state.Peer) error { return tx.PutPeer(ctx, r) }, func() (*state.Peer, error) { return first(db.Peers(ctx, 9)) })
	trip(t, db, func(tx *state.Tx, r state.Intent) error { return tx.PutIntent(ctx, r) }, func() (*state.Intent, error) { return db.Intent(ctx, text) })
	trip(t, db, func(tx *state.Tx, r state.Acceptance) error { return tx.PutAcceptance(ctx, r) },
		func() (*state.Acceptance, error) { return db.Acceptance(ctx, spec, 200) })
	trip(t, db, func(tx *state.Tx, r state.VM) error { return tx.PutVM(ctx, r) }, func() (*state.VM, error) { return db.VM(ctx, spec) })
	trip(t, db, func(tx *state.Tx, r state.Lease) error { return tx.PutLease(ctx, r) }, func() (*state.Lease, error) { return db.Lease(ctx, spec) })
	trip(t, db, func(tx *state.Tx, r state.VMEvent) error { return tx.AddVMEvent(ctx, r) },
		func() (*state.VMEvent, error) { return first(db.VMEvents(ctx, spec)) })
	trip(t, db, func(tx *state.Tx, r state.Usage) error { return tx.PutUsage(ctx, r) },
		func() (*state.Usage, error) { return first(db.Usages(ctx, spec)) })
	trip(t, db, func(tx *state.Tx, r state.Params) error { return tx.PutParams(ctx, r) }, func() (*state.Params, error) { return db.Params(ctx) })
	trip(t, db, func(tx *state.Tx, r state.Identity) error { return tx.PutIdentity(ctx, r) },
		func() (*state.Identity, error) { return db.Identity(ctx) })
}

func TestRemovedRowsAreGone(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(
			tx.PutVM(ctx, state.VM{Spec: hash("a")}), tx.PutAcceptance(ctx, state.Acceptance{Spec: hash("a"), Attempt: 1}),
			tx.PutUsage(ctx, state.Usage{Spec: hash("a"), From: 5, To: 6}), tx.PutUsage(ctx, state.Usage{Spec: hash("a"), From: 7, To: 9}),
		)
	})

	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.RemoveVM(ctx, hash("a")), tx.RemoveAcceptance(ctx, hash("a"), 1), tx.RemoveAcceptance(ctx, hash("a"), 2),
			tx.RemoveUsage(ctx, state.Usage{Spec: hash("a"), From: 5}))
	})

	if _, err := db.VM(ctx, hash("a")); !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no VM aaaa") {
		t.Errorf("VM: %v, want not found", err)
	}
	if _, err := db.Acceptance(ctx, hash("a"), 1); !errors.Is(err, errs.NotFound) {
		t.Errorf("acceptance: %v, want not found", err)
	}
	left, err := db.Usages(ctx, hash("a"))
	if err != nil || len(left) != 1 || left[0].From != 7 {
		t.Errorf("usages %v, %v, want the one from 7", left, err)
	}
}

// list compares what names the rows of a list with want.
func list[T any](t *testing.T, what string, name func(T) string, want string, rows []T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = name(r)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// at is a time that is told from others by its number.
func at(n int64) time.Time { return time.UnixMicro(1_790_000_000_000_000 + n).UTC() }

func TestListsOfTheChainHaveAnOrder(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	alice, bob := common.HexToAddress("0xa1"), common.HexToAddress("0xb0")
	update(t, db, func(tx *state.Tx) error {
		var all error
		for _, n := range []state.Node{
			{ID: 10, Kind: state.KindCompute}, {ID: 9, Kind: state.KindCompute}, {ID: 100, Kind: state.KindCoordinator}, {ID: 2, Kind: state.KindCompute},
		} {
			all = errors.Join(all, tx.PutNode(ctx, n))
		}
		for _, j := range []state.Job{
			{Spec: hash("d"), Payer: alice, NodeID: 2, Status: state.JobRunning, AssignedAt: 4, Block: 7},
			{Spec: hash("b"), Payer: alice, NodeID: 2, Status: state.JobAssigned, AssignedAt: 3, Block: 7},
			{Spec: hash("a"), Payer: alice, NodeID: 2, Status: state.JobStopped, AssignedAt: 3, Block: 8},
			{Spec: hash("c"), Payer: bob, NodeID: 9, Status: state.JobRunning, AssignedAt: 1},
		} {
			all = errors.Join(all, tx.PutJob(ctx, j))
		}
		for _, a := range []state.Account{
			{Payer: bob, RateQ32: big.NewInt(1), Refund: big.NewInt(9)},
			{Payer: alice, RateQ32: new(big.Int), Refund: big.NewInt(5)},
			{Payer: alice, Token: 1, RateQ32: big.NewInt(2)},
			{Payer: bob, Token: 1, Refund: new(big.Int).Lsh(big.NewInt(1), 100)},
		} {
			all = errors.Join(all, tx.PutAccount(ctx, a))
		}
		for i, p := range []state.Payment{
			{Kind: state.PaymentClaimed, Payer: alice, Payee: 2, Block: 7},
			{Kind: state.PaymentReserved, Payer: alice, Payee: 2, Block: 5},
			{Kind: state.PaymentClaimed, Payer: bob, Payee: 2, Block: 5},
			{Kind: state.PaymentClaimed, Payer: alice, Payee: 9, Block: 5},
			{Kind: state.PaymentDebt, Payer: alice, Payee: 2, Block: 5},
		} {
			p.LogIndex = uint(i)
			all = errors.Join(all, tx.PutPayment(ctx, p))
		}
		for _, n := range []uint64{4, 6, 5} {
			all = errors.Join(all, tx.PutBlock(ctx, state.Block{Number: n, Hash: common.BigToHash(new(big.Int).SetUint64(n))}))
		}
		return all
	})
	nodeName := func(n state.Node) string { return fmt.Sprint(n.ID) }
	nodes, err := db.Nodes(ctx, "")
	list(t, "all nodes, by number", nodeName, "2 9 10 100", nodes, err)
	nodes, err = db.Nodes(ctx, state.KindCompute)
	list(t, "compute nodes", nodeName, "2 9 10", nodes, err)
	nodes, err = db.Nodes(ctx, state.KindStorage)
	list(t, "storage nodes", nodeName, "", nodes, err)

	jobName := func(j state.Job) string { return string(j.Spec[:1]) }
	jobs, err := db.JobsOfNode(ctx, 2, state.JobAssigned, state.JobRunning, state.JobStopped)
	list(t, "jobs of a node, oldest first", jobName, "a b d", jobs, err)
	jobs, err = db.JobsOfNode(ctx, 2, state.JobRunning)
	list(t, "running jobs of a node", jobName, "d", jobs, err)
	jobs, err = db.JobsOfNode(ctx, 2)
	list(t, "jobs with none of the statuses", jobName, "", jobs, err)
	jobs, err = db.JobsWith(ctx, state.JobRunning, state.JobAssigned)
	list(t, "live jobs, oldest first", jobName, "c b d", jobs, err)
	jobs, err = db.JobsOfNodeAfter(ctx, 2, 7, hash("b"), 9)
	list(t, "jobs of a node that changed after one", jobName, "d a", jobs, err)
	jobs, err = db.JobsOfNodeAfter(ctx, 2, 0, "", 2)
	list(t, "the first jobs of a node to have changed", jobName, "b d", jobs, err)
	jobs, err = db.JobsOfNodeAfter(ctx, 2, 8, hash("a"), 9)
	list(t, "jobs of a node that changed after the last", jobName, "", jobs, err)
	jobs, err = db.JobsOfPayer(ctx, alice, 9)
	list(t, "jobs of a payer, newest first", jobName, "d a b", jobs, err)
	jobs, err = db.JobsOfPayer(ctx, alice, 2)
	list(t, "the newest jobs of a payer", jobName, "d a", jobs, err)

	accountName := func(a state.Account) string { return fmt.Sprintf("%x/%d", a.Payer[19], a.Token) }
	accounts, err := db.Accounts(ctx, false)
	list(t, "accounts", accountName, "a1/0 a1/1 b0/0 b0/1", accounts, err)
	accounts, err = db.Accounts(ctx, true)
	list(t, "accounts that pay", accountName, "a1/1 b0/0", accounts, err)
	for least, want := range map[int64]string{4: "a1/0 b0/1", 5: "a1/0 b0/1", 6: "b0/1", 1 << 40: "b0/1"} {
		accounts, err = db.AccountsOwed(ctx, big.NewInt(least))
		list(t, fmt.Sprint("accounts that are owed ", least), accountName, want, accounts, err)
	}

	payment := func(p state.Payment) string { return fmt.Sprint(p.LogIndex) }
	payments, err := db.Payments(ctx, alice, 2)
	list(t, "payments of a pair, oldest first", payment, "1 4 0", payments, err)
	payments, err = db.PaymentsOf(ctx, alice, 9)
	list(t, "payments of a payer, newest first", payment, "0 4 3 1", payments, err)
	payments, err = db.PaymentsOf(ctx, alice, 2)
	list(t, "the newest payments of a payer", payment, "0 4", payments, err)
	kinds := []state.PaymentKind{state.PaymentClaimed, state.PaymentDebt}
	payments, err = db.PaymentsTo(ctx, 2, state.Payment{}, 9, kinds...)
	list(t, "payments to a payee, oldest first", payment, "2 4 0", payments, err)
	payments, err = db.PaymentsTo(ctx, 2, state.Payment{}, 2, kinds...)
	list(t, "the first payments to a payee", payment, "2 4", payments, err)
	payments, err = db.PaymentsTo(ctx, 2, payments[0], 9, kinds...)
	list(t, "payments to a payee after one", payment, "4 0", payments, err)

	if head, err := db.Head(ctx); err != nil || head.Number != 6 {
		t.Errorf("head is %v, %v, want block 6", head, err)
	}
	update(t, db, func(tx *state.Tx) error { return tx.ForgetBlocks(ctx, 5) })
	if _, err := db.Block(ctx, 5); !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no block 5") {
		t.Errorf("a block that was forgotten: %v, want not found", err)
	}
	if _, err := db.Block(ctx, 6); err != nil {
		t.Errorf("the block after it: %v", err)
	}
}

// TestLooksThatRepeatReadNoHistory: what services ask at each pass is found by
// an index of what is live, new or due.
func TestLooksThatRepeatReadNoHistory(t *testing.T) {
	db := open(t, t.TempDir())
	for query, want := range map[string]string{
		"jobs WHERE status IN ('assigned', 'running') ORDER BY assigned_at, pk":                            "INDEX jobs_status (status=?)",
		"jobs WHERE node_id = 1 AND status IN ('assigned', 'running') ORDER BY assigned_at, pk":            "INDEX jobs_node (node_id=? AND status=?)",
		"jobs WHERE node_id = 1 AND (block, pk) > (2, 'a') ORDER BY block, pk LIMIT 9":                     "INDEX jobs_node_block (node_id=? AND block>?)",
		"accounts WHERE rate_live = 1 ORDER BY pk":                                                         "INDEX accounts_live (rate_live=?)",
		"accounts WHERE rate_live = 0 AND refund_bits >= 9 ORDER BY pk":                                    "INDEX accounts_live (rate_live=? AND refund_bits>?)",
		"payments WHERE payee = 1 AND (block, pk) > (2, 'a') AND kind IN ('x') ORDER BY block, pk LIMIT 9": "INDEX payments_payee (payee=? AND block>?)",
	} {
		if state.OnServer() { // It says the conditions elsewhere.
			want = strings.Fields(want)[1]
		}
		if plan, err := db.Plan(t.Context(), "SELECT doc FROM "+query); err != nil || !strings.Contains(plan, want) {
			t.Errorf("%s: plan is %q, %v, want %q", query, plan, err, want)
		}
	}
}

func TestListsHaveAnOrder(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		var all error
		for _, o := range []state.Offer{
			{Spec: hash("c"), Status: state.OfferOffered, ReceivedAt: at(1)},
			{Spec: hash("b"), Status: state.OfferOffered, ReceivedAt: at(2)},
			{Spec: hash("a"), Status: state.OfferOffered, ReceivedAt: at(2)},
			{Spec: hash("d"), Status: state.OfferOpened, ReceivedAt: at(3), Payer: common.HexToAddress("0xdd")},
		} {
			all = errors.Join(all, tx.PutOffer(ctx, o))
		}
		for _, id := range []uint32{10, 9, 100} {
			all = errors.Join(all, tx.PutCapacity(ctx, state.Capacity{NodeID: id, Ad: json.RawMessage("{}")}))
		}
		for _, p := range []state.Peer{{ID: "old", SeenAt: at(1)}, {ID: "b", SeenAt: at(2)}, {ID: "a", SeenAt: at(2)}} {
			all = errors.Join(all, tx.PutPeer(ctx, p))
		}
		return all
	})
	offer := func(o state.Offer) string { return string(o.Spec[:1]) }
	offers, err := db.OffersWith(ctx, state.OfferOffered, 9)
	list(t, "offers, oldest first", offer, "c a b", offers, err)
	offers, err = db.OffersWith(ctx, state.OfferOffered, 1)
	list(t, "the oldest offer", offer, "c", offers, err)
	offers, err = db.OffersOfPayer(ctx, common.Address{}, 2)
	list(t, "the newest offers of a payer", offer, "a b", offers, err)

	capacities, err := db.Capacities(ctx)
	list(t, "capacities, by number", func(c state.Capacity) string { return fmt.Sprint(c.NodeID) }, "9 10 100", capacities, err)
	peers, err := db.Peers(ctx, 2)
	list(t, "peers, last seen first", func(p state.Peer) string { return p.ID }, "a b", peers, err)
}

func TestListsOfAHostHaveAnOrder(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(
			tx.PutVM(ctx, state.VM{Spec: hash("b"), State: state.VMRunning}), tx.PutVM(ctx, state.VM{Spec: hash("a"), State: state.VMStopped}),
			tx.PutVM(ctx, state.VM{Spec: hash("c"), State: state.VMBooting}),
			tx.PutAcceptance(ctx, state.Acceptance{Spec: hash("b")}), tx.PutAcceptance(ctx, state.Acceptance{Spec: hash("a"), Attempt: 1}),
			tx.PutUsage(ctx, state.Usage{Spec: hash("b"), From: 100, To: 101}), tx.PutUsage(ctx, state.Usage{Spec: hash("b"), From: 9, To: 50}),
			tx.PutUsage(ctx, state.Usage{Spec: hash("a"), From: 1, To: 2}), tx.PutUsage(ctx, state.Usage{Spec: hash("b"), From: 100, To: 200}),
		)
	})
	vm := func(v state.VM) string { return string(v.Spec[:1]) }
	vms, err := db.VMs(ctx)
	list(t, "all VMs", vm, "a b c", vms, err)
	vms, err = db.VMs(ctx, state.VMRunning, state.VMBooting)
	list(t, "some VMs", vm, "b c", vms, err)
	acceptances, err := db.Acceptances(ctx)
	list(t, "acceptances", func(a state.Acceptance) string { return string(a.Spec[:1]) }, "a b", acceptances, err)
	lease := func(l state.Lease) string { return string(l.Spec[:1]) }
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutLease(ctx, state.Lease{Spec: hash("b")}), tx.PutLease(ctx, state.Lease{Spec: hash("a"), End: &state.LeaseEnd{}}),
			tx.PutLease(ctx, state.Lease{Spec: hash("c")}), tx.RemoveLease(ctx, hash("c")))
	})
	leases, err := db.Leases(ctx)
	list(t, "leases", lease, "a b", leases, err)
	usages, err := db.Usages(ctx, hash("b"))
	list(t, "usage, oldest first", func(u state.Usage) string { return fmt.Sprintf("%d-%d", u.From, u.To) }, "9-50 100-200", usages, err)
}

func TestIntentsAreEnqueuedOnce(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	enqueue := func(key, reason string) (isNew bool) {
		t.Helper()
		update(t, db, func(tx *state.Tx) (err error) {
			isNew, err = tx.Enqueue(ctx, state.Intent{Key: key, Reason: reason, Args: json.RawMessage("[]"), Status: state.IntentConfirmed, Seq: 99})
			return err
		})
		return isNew
	}
	for _, key := range []string{"b", "a", "c"} {
		if !enqueue(key, "first") {
			t.Errorf("intent %s is not new", key)
		}
	}
	if enqueue("a", "second") {
		t.Error("the same decision twice is two intents")
	}
	got, err := db.Intent(ctx, "a")
	if err != nil || got.Reason != "first" || got.Seq != 2 || got.Status != state.IntentPending {
		t.Errorf("intent is %+v, %v, want the first, pending, number 2", got, err)
	}
	got.Status = state.IntentSent
	update(t, db, func(tx *state.Tx) error { return tx.PutIntent(ctx, *got) })
	if enqueue("a", "third") {
		t.Error("a decision that was sent is new again")
	}

	name := func(i state.Intent) string { return i.Key }
	intents, err := db.IntentsWith(ctx, 9, state.IntentPending, state.IntentSent)
	list(t, "intents, in the order of enqueueing", name, "b a c", intents, err)
	intents, err = db.IntentsWith(ctx, 1, state.IntentPending)
	list(t, "the first pending intent", name, "b", intents, err)
	intents, err = db.IntentsWith(ctx, 9, state.IntentReverted)
	list(t, "reverted intents", name, "", intents, err)
}

func TestEndedStatusesAreFinal(t *testing.T) {
	for status, want := range map[state.JobStatus]bool{
		state.JobAssigned: false, state.JobRunning: false, state.JobStopped: true, state.JobCompleted: true, state.JobFailed: true, state.JobExpired: true,
		"": false, "unheard of": false,
	} {
		if got := status.Ended(); got != want {
			t.Errorf("%q ended: %v, want %v", status, got, want)
		}
	}
}

func TestTheHistoryOfAMachineIsBounded(t *testing.T) {
	db := open(t, t.TempDir())
	ctx, at := t.Context(), time.UnixMilli(1_000_000).UTC()
	update(t, db, func(tx *state.Tx) error {
		var failed error
		for seq := 1; seq <= 203; seq++ {
			failed = errors.Join(failed, tx.AddVMEvent(ctx, state.VMEvent{Spec: hash("a"), Seq: seq, At: at.Add(time.Duration(seq) * time.Second), To: state.VMWanted}))
		}
		return errors.Join(failed, tx.AddVMEvent(ctx, state.VMEvent{Spec: hash("b"), Seq: 1, At: at, To: state.VMWanted}), tx.PutVM(ctx, state.VM{Spec: hash("b")}))
	})
	got, err := db.VMEvents(ctx, hash("a"))
	if err != nil || len(got) != 200 || got[0].Seq != 4 || got[199].Seq != 203 {
		t.Errorf("history has %d steps (%v), want the 200 from 4 to 203", len(got), err)
	}
	removed := 0
	for range 2 {
		update(t, db, func(tx *state.Tx) (err error) {
			removed, err = tx.RemoveVMEvents(ctx, at.Add(200*time.Second), 150)
			return err
		})
	}
	got, err = db.VMEvents(ctx, hash("a"))
	if err != nil || removed != 46 || len(got) != 4 {
		t.Errorf("%d removed at last and %d left (%v), want 46 and 4", removed, len(got), err)
	}
	if got, err = db.VMEvents(ctx, hash("b")); err != nil || len(got) != 1 {
		t.Errorf("%d steps are left of a VM that is there (%v), want all", len(got), err)
	}
}

func TestStepsOfMachines(t *testing.T) {
	for _, step := range []struct {
		from, to state.VMState
		can      bool
	}{
		{"", state.VMWanted, true},
		{"", state.VMRunning, false},
		{state.VMBooting, state.VMRunning, true},
		{state.VMStopping, state.VMRunning, false},
		{state.VMStopped, state.VMRunning, false},
		{state.VMPaused, state.VMRunning, false},
		{state.VMHalted, state.VMWanted, true},
	} {
		if got := step.from.CanBecome(step.to); got != step.can {
			t.Errorf("%q can become %q: %v, want %v", step.from, step.to, got, step.can)
		}
	}
}

// TestAListOfVMsIsTheCallers changes all that a list of VMs has: the next list is as it
// was, and follows what is written.
func TestAListOfVMsIsTheCallers(t *testing.T) {
	db, ctx := open(t, t.TempDir()), t.Context()
	want := filled[state.VM](t)
	put := func() {
		t.Helper()
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutVM(ctx, want) }); err != nil {
			t.Fatal(err)
		}
	}
	list := func() state.VM {
		t.Helper()
		all, err := db.VMs(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("VMs: %d, %v", len(all), err)
		}
		return all[0]
	}
	put()
	for range 2 { // The first list decodes, the second has it decoded.
		got := list()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("VM (-want +got):\n%s", diff)
		}
		spoil(reflect.ValueOf(&got).Elem())
	}
	want.Detail = "another"
	put()
	if got := list(); got.Detail != want.Detail {
		t.Errorf("after a change the detail is %q, want %q", got.Detail, want.Detail)
	}
}

// spoil empties everything that a value leads to.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		spoil(v.Elem())
	case reflect.Map:
		v.Clear()
	case reflect.Slice:
		for i := range v.Len() {
			spoil(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				spoil(v.Field(i))
			}
		}
	default:
	}
	if v.CanSet() {
		v.SetZero()
	}
}
