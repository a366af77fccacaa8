package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/settlement"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func openDB(t testing.TB) *state.DB {
	t.Helper()
	db, err := state.Open(context.WithoutCancel(t.Context()), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ctx := t.Context()
	err = db.Update(ctx, func(tx *state.Tx) error {
		return errors.Join(
			tx.PutParams(ctx, state.Params{PrepaySeconds: window, GraceHardSeconds: hardGrace, StartSeconds: startBy}),
			tx.PutNode(ctx, state.Node{ID: coordinator, Kind: state.KindCoordinator, Status: state.NodeActive}),
			tx.PutNode(ctx, state.Node{ID: 2, Kind: state.KindCoordinator, Status: state.NodeExited}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func config() settlement.Config {
	c := settlement.DefaultConfig()
	c.Interval, c.RetrySeconds, c.ClaimSeconds = 3*time.Second, 5, 100
	c.WithdrawMinWei, c.RefundMinWei = "500", "0"
	return c
}

// start runs a settler of the kind until the returned function is called.
func start(t testing.TB, db *state.DB, self settlement.Self, funds settlement.Funds) (stop func()) {
	t.Helper()
	s, err := settlement.New(config(), self, db, funds, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); ctx.Err() == nil {
			t.Errorf("Run: %v", err)
		}
	}()
	return func() { cancel(); <-done }
}

func keys(t testing.TB, db *state.DB) []string {
	t.Helper()
	all, err := db.IntentsWith(t.Context(), 1000, state.IntentPending)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range all {
		out = append(out, i.Key)
	}
	return out
}

// Each case is a chain as it stands and what the keeper makes of it.
func TestTheKeeperDoesWhatIsDue(t *testing.T) {
	payer := common.Address{7}
	const now = 1_000_000
	live := func(edit func(*state.Account)) *state.Account {
		a := &state.Account{Payer: payer, Token: token, RateQ32: big.NewInt(1 << 40), PaidUntil: now + 40, Refund: new(big.Int)}
		if edit != nil {
			edit(a)
		}
		return a
	}
	running := &state.Job{Spec: specOf(1), Payer: payer, Token: token, NodeID: compute, Status: state.JobRunning, StartedAt: now - 500}
	assigned := &state.Job{Spec: specOf(1), Payer: payer, Token: token, NodeID: compute, Status: state.JobAssigned, AssignedAt: now - startBy}
	tests := []struct {
		name    string
		account *state.Account
		job     *state.Job
		wallet  int64
		want    string // the one key, "" for none
	}{
		{"enough prepaid", live(nil), running, 1000, ""},
		{"low", live(func(a *state.Account) { a.PaidUntil = now + 19 }), running, 1000, "pull/" + payer.Hex() + "/1/1000019"},
		{"a third is left", live(func(a *state.Account) { a.PaidUntil = now + 20 }), running, 1000, ""},
		{"low without money", live(func(a *state.Account) { a.PaidUntil = now + 1 }), running, 0, ""},
		{"low with a refund", live(func(a *state.Account) { a.PaidUntil, a.Refund = now+1, big.NewInt(1) }), running, 0, "pull/" + payer.Hex() + "/1/1000001"},
		{"dry and not known so", live(func(a *state.Account) { a.PaidUntil = now - 1 }), running, 0, "pull/" + payer.Hex() + "/1/999999"},
		{"dry and known so", live(func(a *state.Account) { a.PaidUntil, a.ArrearsSince = now-1, now-1 }), running, 0, ""},
		{"in grace", live(func(a *state.Account) { a.PaidUntil, a.ArrearsSince = now-hardGrace, now-hardGrace }), running, 0, ""},
		{"grace over", live(func(a *state.Account) { a.PaidUntil, a.ArrearsSince = now-hardGrace-1, now-hardGrace-1 }), running, 0, "arrears/" + string(specOf(1)) + "/999879"},
		{"dry for long and paid in part", live(func(a *state.Account) { a.PaidUntil, a.ArrearsSince = now-hardGrace, now-2*hardGrace }), running, 0, ""},
		{"paid in part and grace over", live(func(a *state.Account) { a.PaidUntil, a.ArrearsSince = now-hardGrace-1, now-2*hardGrace }), running, 0, "arrears/" + string(specOf(1)) + "/999879"},
		{"may start still", nil, assigned, 0, ""},
		{"did not start", nil, with(assigned, func(j *state.Job) { j.AssignedAt-- }), 0, "failstart/" + string(specOf(1))},
		{"before its end", nil, with(running, func(j *state.Job) { j.MaxUntil = now }), 0, ""},
		{"after its end", nil, with(running, func(j *state.Job) { j.MaxUntil = now - 1 }), 0, "expire/" + string(specOf(1))},
		{"idle with a refund", live(func(a *state.Account) { a.RateQ32, a.Refund, a.Block = new(big.Int), big.NewInt(5), 9 }), nil, 0, "refund/" + payer.Hex() + "/1/9"},
		{"idle without", live(func(a *state.Account) { a.RateQ32 = new(big.Int) }), nil, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := openDB(t)
				m := newModel(t, db)
				m.funds[payer] = account{wallet: tt.wallet}
				if tt.account != nil {
					m.funds[payer] = account{wallet: tt.wallet, refund: tt.account.Refund.Int64()}
				}
				m.update(func(ctx context.Context, tx *state.Tx) error {
					if tt.account != nil {
						if err := tx.PutAccount(ctx, *tt.account); err != nil {
							return err
						}
					}
					if tt.job != nil {
						if err := tx.PutJob(ctx, *tt.job); err != nil {
							return err
						}
					}
					return tx.PutBlock(ctx, state.Block{Number: 10, Time: now})
				})
				stop := start(t, db, settlement.Self{NodeID: coordinator, Kind: state.KindCoordinator}, m)
				defer stop()

				time.Sleep(time.Minute)

				if got := strings.Join(keys(t, db), " "); got != tt.want {
					t.Errorf("intents are %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func with(j *state.Job, edit func(*state.Job)) *state.Job {
	c := *j
	edit(&c)
	return &c
}

func TestWhatChangedNothingIsDoneAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		m := newModel(t, db)
		a := m.account(common.Address{7})
		a.wallet = window * 10
		j := &modelJob{Job: state.Job{Spec: specOf(1), Payer: a.payer, Token: token, NodeID: compute}, rate: 10}
		if !m.open(j) {
			t.Fatal("the job could not be opened")
		}
		m.confirm(j)
		m.mine(1, func(state.Intent) bool { return true })
		self := settlement.Self{NodeID: coordinator, Kind: state.KindCoordinator}
		stop := start(t, db, self, m)
		for range window + 50 {
			m.mine(1, func(state.Intent) bool { return true })
			time.Sleep(time.Second)
		}
		if m.idle["pull"] > 1 || a.arrears == 0 {
			t.Errorf("%d pulls changed nothing and arrears are %d, want at most 1 and some", m.idle["pull"], a.arrears)
		}
		a.wallet = 35 // Less than four seconds.
		for range 3 {
			m.mine(5, func(state.Intent) bool { return true })
			time.Sleep(5 * time.Second)
		}
		stop()
		a.wallet = 100_000
		stop = start(t, db, self, m) // The tries of before are found again.
		defer stop()
		for range 30 {
			m.mine(1, func(state.Intent) bool { return true })
			time.Sleep(time.Second)
		}

		if j.Status != state.JobRunning || a.arrears != 0 || a.paidUntil < m.now {
			t.Errorf("job is %s, arrears since %d, paid until %d at %d; want it running and paid", j.Status, a.arrears, a.paidUntil, m.now)
		}
	})
}

func TestFundsThatCannotBeReadHoldNothingElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		m := newModel(t, db)
		a := m.account(common.Address{7})
		a.wallet = window * 10
		m.open(&modelJob{Job: state.Job{Spec: specOf(1), Payer: a.payer, Token: token, NodeID: compute}, rate: 10})
		m.confirm(m.jobs[specOf(1)])
		m.open(&modelJob{Job: state.Job{Spec: specOf(2), Payer: common.Address{8}, Token: token, NodeID: compute}})
		m.away = errors.New("the RPC is away")
		m.mirrorAt(window)
		stop := start(t, db, settlement.Self{NodeID: coordinator, Kind: state.KindCoordinator}, m)
		defer stop()

		time.Sleep(time.Minute)

		if got := keys(t, db); len(got) != 1 || got[0] != "failstart/"+string(specOf(2)) {
			t.Errorf("intents are %v, want the other job's failstart", got)
		}
	})
}

func TestASecondCoordinatorWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		m := newModel(t, db)
		j := &modelJob{Job: state.Job{Spec: specOf(1), Payer: common.Address{7}, Token: token, NodeID: compute}, rate: 0}
		m.open(j)
		m.mine(startBy+1, nil)
		stop := start(t, db, settlement.Self{NodeID: 9, Kind: state.KindCoordinator}, m)
		defer stop()
		time.Sleep(10 * time.Second)
		if got := keys(t, db); len(got) != 0 {
			t.Errorf("intents are %v at once, want none", got)
		}

		m.mirrorAt(5)
		time.Sleep(10 * time.Second)

		if got := keys(t, db); len(got) != 1 {
			t.Errorf("intents are %v, want one", got)
		}
	})
}

func (m *model) mirrorAt(seconds uint64) {
	m.now += seconds
	m.number += stride
	m.mirror()
}

func TestNothingHappensBeforeTheChainIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		stop := start(t, db, settlement.Self{NodeID: coordinator, Kind: state.KindCoordinator}, nil)
		defer stop()
		time.Sleep(time.Minute)
		if got := keys(t, db); len(got) != 0 {
			t.Errorf("intents are %v, want none", got)
		}
	})
}

// Random lives of jobs and payers, with transactions that wait and lag: money
// is conserved at every block, jobs end when they must, funded ones never dry
// up, and in the end every wei is where it belongs.
func TestRandomLivesSettleToTheLastWei(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { liveRandomly(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func liveRandomly(t *testing.T, rng *rand.Rand) {
	t.Helper()
	const seconds, payers, slack = 1200, 5, 25
	db := openDB(t)
	m := newModel(t, db)
	rich := common.Address{1}
	m.mirrorAt(0)
	keeper := settlement.Self{NodeID: coordinator, Kind: state.KindCoordinator}
	collector := settlement.Self{NodeID: compute, Kind: state.KindCompute}
	stops := []func(){start(t, db, keeper, m), start(t, db, collector, m)}
	pick := func(state.Intent) bool { return rng.IntN(4) > 0 } // Some wait for a later block.
	next := 0
	for step := range seconds {
		m.live(rng, rich, payers, &next, step < seconds/2)
		m.mine(1, pick)
		m.check()
		if a := m.account(rich); a.rate > 0 && a.paidUntil < m.now {
			t.Fatalf("the account of a payer who can pay ran dry at %d", a.paidUntil)
		}
		for _, s := range m.specs() {
			j := m.jobs[s]
			if j.Status == state.JobAssigned && m.now > j.AssignedAt+startBy+slack {
				t.Fatalf("job %s is assigned since %d at %d", s, j.AssignedAt, m.now)
			}
			if j.Status == state.JobRunning && j.MaxUntil != 0 && m.now > j.MaxUntil+slack {
				t.Fatalf("job %s runs at %d, it was to end at %d", s, m.now, j.MaxUntil)
			}
			if a := m.account(j.Payer); j.Status == state.JobRunning && m.now > a.paidUntil+hardGrace+slack {
				t.Fatalf("job %s runs at %d, its money ended at %d", s, m.now, a.paidUntil)
			}
		}
		if rng.IntN(100) == 0 { // The nodes start again.
			for _, stop := range stops {
				stop()
			}
			stops = []func(){start(t, db, keeper, m), start(t, db, collector, m)}
		}
		time.Sleep(time.Second)
	}
	for _, s := range m.specs() {
		if j := m.jobs[s]; j.Status == state.JobRunning {
			m.end(j, state.JobStopped)
		}
	}
	for range 60 {
		m.mine(1, func(state.Intent) bool { return true })
		time.Sleep(time.Second)
	}
	for _, stop := range stops {
		stop()
	}
	m.settled(rich)
	t.Logf("%d jobs, %d transactions; those that changed nothing: %v", len(m.jobs), len(m.done), m.idle)
}

// live lets users act.
func (m *model) live(rng *rand.Rand, rich common.Address, payers int, next *int, mayOpen bool) {
	if rng.IntN(10) == 0 && mayOpen {
		*next++
		payer := common.Address{byte(1 + rng.IntN(payers))}
		a := m.account(payer)
		a.wallet += int64(rng.IntN(3000))
		if payer == rich {
			a.wallet = 1 << 40
		}
		j := &modelJob{
			Job: state.Job{
				Spec: specOf(*next), Payer: payer, Token: token, NodeID: compute, RateQ32: big.NewInt(1),
			},
			rate: int64(1 + rng.IntN(7)), start: m.now + uint64(rng.IntN(startBy+10)),
		}
		if rng.IntN(3) == 0 {
			j.MaxUntil = m.now + 50 + uint64(rng.IntN(300))
		}
		m.open(j)
	}
	for _, s := range m.specs() {
		switch j := m.jobs[s]; {
		case j.Status == state.JobAssigned && m.now >= j.start:
			m.confirm(j)
		case j.Status == state.JobAssigned && rng.IntN(200) == 0:
			m.release(j, state.JobStopped)
		case j.Status == state.JobRunning && rng.IntN(300) == 0:
			m.end(j, state.JobStopped)
		}
	}
	if rng.IntN(40) == 0 {
		if a := m.account(common.Address{byte(2 + rng.IntN(payers-1))}); a.rate > 0 {
			a.wallet += int64(rng.IntN(2000))
		}
	}
}

// settled checks the end: all is claimed, paid out or given back.
func (m *model) settled(rich common.Address) {
	m.t.Helper()
	var want int64
	for _, j := range m.jobs {
		if j.Payer == rich && j.StartedAt != 0 {
			want += j.rate * int64(j.StoppedAt-j.StartedAt)
		}
	}
	if a := m.account(rich); a.spent-a.refunded != want {
		m.t.Errorf("the payer who can pay gave %d, want %d, the rate times the seconds", a.spent-a.refunded, want)
	}
	var gave int64
	for _, a := range m.accounts {
		if a.pending != 0 || a.refund != 0 || a.rate != 0 {
			m.t.Errorf("account %s has %d unclaimed, %d to be refunded, rate %d; want none", a.payer, a.pending, a.refund, a.rate)
		}
		gave += a.spent - a.refunded
	}
	if gave != m.claimed || m.credit >= 500 {
		m.t.Errorf("payers gave %d, %d were claimed and %d wait for the node; want equal and less than 500", gave, m.claimed, m.credit)
	}
}

func TestConfigNamesWhatCannotWork(t *testing.T) {
	if err := settlement.DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	tests := []struct {
		want string
		edit func(*settlement.Config)
	}{
		{"interval", func(c *settlement.Config) { c.Interval = 0 }},
		{"retry_seconds", func(c *settlement.Config) { c.RetrySeconds = 0 }},
		{"claim_seconds", func(c *settlement.Config) { c.ClaimSeconds = 1 }},
		{"low_water_seconds", func(c *settlement.Config) { c.LowWaterSeconds = 1 << 40 }},
		{"withdraw_min_wei", func(c *settlement.Config) { c.WithdrawMinWei = "1.5" }},
		{"refund_min_wei", func(c *settlement.Config) { c.RefundMinWei = "" }},
	}
	for _, tt := range tests {
		c := settlement.DefaultConfig()
		tt.edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Validate gave %v, want it to name %s", err, tt.want)
		}
	}
}
