package executor_test

import (
	"context"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const prepay = 3600 // of the world's parameters, and less than its soft grace

// paidUntil writes what the chain says of the payer's account.
func (w *world) paidUntil(until, arrearsSince uint64) {
	w.t.Helper()
	w.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutAccount(ctx, state.Account{
			Payer: address(w.t, payerKey), Token: job.TokenALEPH, RateQ32: big.NewInt(1 << 40), PaidUntil: until, ArrearsSince: arrearsSince,
		})
	})
}

// dry lets the payer's money have run out so many seconds ago.
func (w *world) dry(seconds uint64) { w.paidUntil(w.head-seconds, w.head-seconds) }

func (w *world) usage(spec message.ItemHash) [][2]uint64 {
	w.t.Helper()
	rows, err := w.db.Usages(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	var out [][2]uint64
	for _, u := range rows {
		if n := len(out); n > 0 && out[n-1][1] == u.From {
			out[n-1][1] = u.To
			continue
		}
		out = append(out, [2]uint64{u.From, u.To})
	}
	return out
}

// billed returns a world with one job that runs and is billed.
func billed(t *testing.T) (w *world, spec message.ItemHash, stop func()) {
	t.Helper()
	w = newWorld(t)
	spec = w.job(1)
	stop = w.start()
	time.Sleep(3 * time.Second)
	w.startBilling(spec)
	return w, spec, stop
}

func TestAnUnpaidMachineIsPausedAndGoesOnWhenItIsPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		defer stop()
		start, before := w.head, w.wantState(spec, state.VMRunning)
		disk := filepath.Join(before.Dir, "disk")
		if err := os.WriteFile(disk, []byte("work"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.block(prepay + 10)
		w.paidUntil(start+10, start+10)
		time.Sleep(3 * time.Second)
		if vm := w.wantState(spec, state.VMRunning); !strings.Contains(vm.Detail, "the machine pauses after 1970-01-12T14:46:50Z") {
			t.Errorf("VM says %q in its last second, want when it pauses", vm.Detail)
		}

		w.block(1)
		time.Sleep(3 * time.Second)

		pausedAt := w.head
		vm := w.wantState(spec, state.VMPaused)
		want := "paused since 1970-01-12T14:46:51Z, as the payer's allowance ran dry at 1970-01-12T13:46:50Z; " +
			"'aleph allowance set' lets it go on with its disk, else the job ends after 1970-01-13T13:46:50Z"
		if vm.Detail != want || vm.Failures != 0 || vm.PID != 0 || vm.PausedAt != pausedAt {
			t.Errorf("VM is %+v, want no failure, no PID and to say %s", vm, want)
		}
		if len(w.host.Running()) != 0 || len(w.net.applied()) != 0 {
			t.Errorf("machines %v with leases %v, want none", w.host.Running(), w.net.applied())
		}
		if ad := w.ads.last(); ad.VCPUsFree != 63 {
			t.Errorf("%d vCPUs are free, want those of the paused machine kept", ad.VCPUsFree)
		}
		w.block(10_000)
		other := w.job(2)
		time.Sleep(15 * time.Second)
		w.wantState(spec, state.VMPaused)
		w.wantState(other, state.VMRunning)
		w.paidUntil(w.head-5, start+10) // Something came, but not enough.
		time.Sleep(3 * time.Second)
		if vm := w.wantState(spec, state.VMPaused); !strings.Contains(vm.Detail, "dry at 1970-01-12T13:46:50Z") || !strings.Contains(vm.Detail, "ends after 1970-01-13T17:33:26Z") {
			t.Errorf("VM says %q after a part was paid, want the later end", vm.Detail)
		}
		resumedAt := w.head
		w.paidUntil(w.head+prepay, 0)
		time.Sleep(5 * time.Second)
		w.block(100)
		time.Sleep(15 * time.Second)

		after := w.wantState(spec, state.VMRunning)
		if after.Starts != 2 || after.Failures != 0 || !slices.Equal(after.Ports, before.Ports) || after.Net != before.Net || after.Detail != "runs" || after.DryAt != 0 {
			t.Errorf("VM is %+v, want the second start with the network of %+v", after, before)
		}
		if raw, err := os.ReadFile(disk); string(raw) != "work" {
			t.Errorf("disk has %q (%v), want what was on it", raw, err)
		}
		if diff := cmp.Diff([][2]uint64{{start, pausedAt}, {resumedAt, w.head}}, w.usage(spec)); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
		for _, key := range w.intents() {
			if !strings.HasPrefix(key, "running/") {
				t.Errorf("intent %s, want confirmations only", key)
			}
		}
	})
}

// The smaller of soft grace and prepaid window counts.
func TestTheSoftGraceBoundsTheUnpaidTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		defer stop()
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutParams(ctx, state.Params{PrepaySeconds: prepay, GraceSoftSeconds: 60, GraceHardSeconds: 86400})
		})
		w.dry(60)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		w.block(1)

		time.Sleep(3 * time.Second)

		w.wantState(spec, state.VMPaused)
	})
}

func TestNothingIsPausedOnDoubt(t *testing.T) {
	params := &state.Params{PrepaySeconds: prepay, StartSeconds: 900, GraceSoftSeconds: prepay, GraceHardSeconds: 86400}
	late := func(w *world) { w.dry(prepay + 1) }
	tests := []struct {
		name   string
		params *state.Params
		doubt  func(*world)
	}{
		{"behind the chain", params, func(w *world) { w.synced.Store(false); late(w) }},
		{"no parameters", nil, late},
		{"no account", params, func(*world) {}},
		{"paid to the second", params, func(w *world) { w.dry(0) }},
		{"in arrears before, paid now", params, func(w *world) { w.paidUntil(w.head+1, w.head-2*prepay) }},
		{"late, in its last second", params, func(w *world) { w.dry(prepay) }},
		{"nobody has tried to pull", params, func(w *world) { w.paidUntil(w.head-20*prepay, 0) }},
		{"nothing to pay", params, func(w *world) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				return tx.PutAccount(ctx, state.Account{Payer: address(t, payerKey), Token: job.TokenALEPH, RateQ32: new(big.Int), PaidUntil: 1, ArrearsSince: 1})
			})
		}},
		{"another token", params, func(w *world) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				return tx.PutAccount(ctx, state.Account{Payer: address(t, payerKey), Token: 9, RateQ32: big.NewInt(1), PaidUntil: 1, ArrearsSince: 1})
			})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldWith(t, tt.params)
				spec := w.job(1)
				stop := w.start()
				defer stop()
				time.Sleep(3 * time.Second)
				w.startBilling(spec)
				tt.doubt(w)

				time.Sleep(time.Hour)

				if vm := w.wantState(spec, state.VMRunning); vm.Starts != 1 {
					t.Errorf("%d starts, want 1", vm.Starts)
				}
			})
		})
	}
}

// A job that waits for its machine has paid its first window. The contract
// fails it when its payer is late.
func TestAMachineThatIsNotBilledYetIsNotPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		w.dry(2 * prepay)
		stop := w.start()
		defer stop()

		time.Sleep(3 * time.Second)

		w.wantState(spec, state.VMRunning)
	})
}

// The rows of a node that was away are old until the mirror has caught up,
// which may be between the look at the rows and the question.
func TestOldRowsAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		stop()
		w.dry(2 * prepay)
		w.synced.Store(false)
		w.asked = func() {
			if !w.synced.Swap(true) {
				w.paidUntil(w.head+prepay, 0) // What the mirror has just read.
			}
		}

		stop = w.start()
		defer stop()
		time.Sleep(time.Minute)

		if vm := w.wantState(spec, state.VMRunning); vm.Starts != 1 || w.host.Starts(string(spec)) != 1 {
			t.Errorf("%d starts, want 1", vm.Starts)
		}
	})
}

func TestNothingIsResumedOnDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		w.dry(2 * prepay)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMPaused)
		w.synced.Store(false)
		w.paidUntil(w.head+prepay, 0)
		time.Sleep(time.Minute)
		w.wantState(spec, state.VMPaused)
		stop()
		w.reopen()
		stop = w.start()
		defer func() { stop() }()
		time.Sleep(time.Minute)
		w.wantState(spec, state.VMPaused)
		w.synced.Store(true)

		time.Sleep(3 * time.Second)

		w.wantState(spec, state.VMRunning)
	})
}

func TestAPausedMachineEndsWithItsJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		defer stop()
		start := w.head
		w.block(3 * prepay)
		w.dry(2 * prepay)
		dryAt, pausedAt := w.head-2*prepay, w.head
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMPaused)
		w.block(90_000)
		w.end(spec, state.JobExpired, "payment ran dry")
		time.Sleep(3 * time.Second)

		vm := w.wantState(spec, state.VMStopped)
		want := fmt.Sprintf("payment ran dry; the payer's allowance ran dry at %s, the grace ended at %s",
			time.Unix(int64(dryAt), 0).UTC().Format(time.RFC3339), time.Unix(int64(w.head), 0).UTC().Format(time.RFC3339))
		if vm.StopReason != want || w.host.Starts(string(spec)) != 1 {
			t.Errorf("stop reason is %q after %d starts, want %q after 1", vm.StopReason, w.host.Starts(string(spec)), want)
		}
		if diff := cmp.Diff([][2]uint64{{start, pausedAt}}, w.usage(spec)); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
		time.Sleep(w.cfg.Retention + 5*time.Second)
		w.wantNothing()
	})
}

func TestAGuestThatWillNotGoIsPausedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		defer func() { stop() }()
		w.host.Set(vmmtest.Faults{Unkillable: true})
		w.dry(2 * prepay)
		time.Sleep(5 * time.Minute)
		if vm := w.wantState(spec, state.VMPaused); !vm.StoppedAt.IsZero() || len(w.net.applied()) != 1 {
			t.Errorf("VM is %+v with %d leases, want its process and network there", vm, len(w.net.applied()))
		}
		stop()
		w.cfg.OnExit = executor.OnExitStop
		stop = w.start()
		time.Sleep(time.Second)
		w.host.Set(vmmtest.Faults{IgnoreStop: true})
		stop()

		if r, l := w.host.Running(), w.net.applied(); len(r)+len(l) > 0 {
			t.Errorf("machines %v and leases %v are left, want none", r, l)
		}
		stop = w.start()
		time.Sleep(time.Minute)
		w.wantState(spec, state.VMPaused)
		w.paidUntil(w.head+prepay, 0)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
	})
}

// Paying while the guest shuts down does not make its end a failure.
func TestAPaymentWhileThePauseBeginsStartsTheMachineAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, spec, stop := billed(t)
		defer func() { stop() }()
		w.host.Set(vmmtest.Faults{IgnoreStop: true})
		w.dry(2 * prepay)
		time.Sleep(5 * time.Second)
		w.wantState(spec, state.VMPaused)
		stop() // The guest has some of its grace left.
		w.paidUntil(w.head+prepay, 0)
		w.reopen()
		stop = w.start()

		time.Sleep(time.Minute)

		if vm := w.wantState(spec, state.VMRunning); vm.Failures != 0 || vm.Starts != 2 || w.host.Starts(string(spec)) != 2 {
			t.Errorf("VM is %+v, want the second start without a failure", vm)
		}
	})
}

func TestALatePayerIsPulledFromBeforeThePause(t *testing.T) {
	for _, tt := range []struct {
		name     string
		late     uint64
		arrears  bool
		unsynced bool
		want     bool
	}{
		{"half of the time is left", prepay / 2, false, false, false},
		{"less than half", prepay/2 + 1, false, false, true},
		{"the chain stood still", 20 * prepay, false, false, true},
		{"somebody has tried", prepay/2 + 1, true, false, false},
		{"behind the chain", prepay/2 + 1, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, spec, stop := billed(t)
				defer stop()
				w.synced.Store(!tt.unsynced)
				until, since := w.head-tt.late, uint64(0)
				if tt.arrears {
					since = until
				}
				w.paidUntil(until, since)

				time.Sleep(10 * time.Second)

				w.wantState(spec, state.VMRunning)
				key := fmt.Sprintf("pull/%s/1/%d", address(t, payerKey).Hex(), until)
				if got := slices.Contains(w.intents(), key); got != tt.want {
					t.Errorf("intents are %v, want %s among them: %v", w.intents(), key, tt.want)
				}
			})
		})
	}
}

// At every call that the supervisor makes to the outside, before and after it
// has its effect, the node dies and starts again, in a life with a pause.
func TestACrashAtAnyStepOfAPauseIsRecovered(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			t.Run(fmt.Sprintf("call %d after %v", at, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { done = crashInPauseAt(t, at, after) })
			})
			if done || t.Failed() {
				break
			}
		}
	}
}

// crashInPauseAt pauses and resumes a machine with a crash at one call after it
// ran. It reports whether the life was over before the call.
func crashInPauseAt(t *testing.T, at int, after bool) (over bool) {
	t.Helper()
	w := newWorld(t)
	w.cfg.Retention = time.Second
	spec := w.job(1)
	stop := w.start()
	time.Sleep(3 * time.Second)
	stop()
	ports, start := w.wantState(spec, state.VMRunning).Ports, w.head
	w.startBilling(spec)
	w.hook = &hook{at: at, after: after}
	stop = w.start()
	defer func() { stop() }()
	step := func() {
		time.Sleep(12 * time.Second)
		if w.hook != nil && w.hook.reached() {
			stop()
			w.reopen()
			w.hook = nil
			stop = w.start()
			time.Sleep(12 * time.Second)
		}
	}

	step()
	w.wantState(spec, state.VMRunning)
	w.block(2 * prepay)
	w.dry(prepay + 1)
	pausedAt := w.head
	step()
	if vm := w.wantState(spec, state.VMPaused); vm.StoppedAt.IsZero() || len(w.host.Running())+len(w.net.applied()) != 0 {
		t.Fatalf("VM is %+v, want no process and no network", vm)
	}
	w.block(1000)
	w.paidUntil(w.head+prepay, 0)
	resumedAt := w.head
	step()
	vm := w.wantState(spec, state.VMRunning)
	if n := w.host.Starts(string(spec)); n != 2 || vm.Failures != 0 || !slices.Equal(vm.Ports, ports) {
		t.Errorf("%d starts, %d failures, ports %v; want 2, 0, %v", n, vm.Failures, vm.Ports, ports)
	}
	w.block(100)
	w.end(spec, state.JobStopped, "stopped")
	step()
	time.Sleep(5 * time.Second)
	w.wantNothing()
	if n := w.host.Starts(string(spec)); n != 2 {
		t.Errorf("machine was started %d times in all, want twice", n)
	}
	if diff := cmp.Diff([][2]uint64{{start, pausedAt}, {resumedAt, w.head}}, w.usage(spec)); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if got := w.intents(); len(got) != 1 {
		t.Errorf("intents are %v, want one", got)
	}
	return w.hook != nil
}
