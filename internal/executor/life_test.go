package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestAJobBecomesAMachineAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start()
		defer stop()
		spec := w.job(1)
		time.Sleep(3 * time.Second)

		vm := w.wantState(spec, state.VMRunning)
		if vm.PID == 0 || vm.Starts != 1 || vm.Accelerator != "tcg" || len(vm.Ports) != 3 {
			t.Errorf("VM is %+v, want a PID, one start, tcg and three ports", vm)
		}
		for _, stage := range []string{"fetch", "prepare", "boot", "total"} {
			if _, ok := vm.TimingsMs[stage]; !ok {
				t.Errorf("timings %v lack %s", vm.TimingsMs, stage)
			}
		}
		if got := w.intents(); !slices.Equal(got, []string{"running/" + string(spec) + "/0"}) {
			t.Errorf("intents are %v, want one that confirms", got)
		}
		started, _ := w.host.Spec(string(spec))
		if started.Seed.Variables["N"] != "1" || len(started.Seed.AuthorizedKeys) != 1 || len(started.Net.Forwards) != 3 {
			t.Errorf("machine was started with %+v, want the message's key, variable and ports", started)
		}
		w.startBilling(spec)
		w.block(100)
		w.end(spec, state.JobStopped, "stopped by its payer")
		time.Sleep(3 * time.Second)
		if vm := w.wantState(spec, state.VMStopped); vm.StopReason != "stopped by its payer" {
			t.Errorf("stop reason is %q, want the chain's", vm.StopReason)
		}
		time.Sleep(w.cfg.Retention + 5*time.Second)
		w.wantNothing()
	})
}

func TestAMachineSurvivesTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		before := w.wantState(spec, state.VMRunning)
		stop()
		if len(w.host.Running()) != 1 || len(w.net.applied()) != 1 {
			t.Fatal("the machine did not outlive the node")
		}
		w.reopen()

		stop = w.start()
		defer stop()
		time.Sleep(3 * time.Second)

		after := w.wantState(spec, state.VMRunning)
		if after.PID != before.PID || w.host.Starts(string(spec)) != 1 {
			t.Errorf("machine has PID %d after %d starts, want %d after 1", after.PID, w.host.Starts(string(spec)), before.PID)
		}
		if !slices.Equal(after.Ports, before.Ports) {
			t.Errorf("ports are %v, want %v", after.Ports, before.Ports)
		}
	})
}

func TestAMachineThatDiedWithTheNodeAwayIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		before := w.vm(spec)
		stop()
		w.host.Die(string(spec), "host was rebooted")

		stop = w.start()
		defer stop()
		time.Sleep(5 * time.Second)

		after := w.wantState(spec, state.VMRunning)
		if w.host.Starts(string(spec)) != 2 || !slices.Equal(after.Ports, before.Ports) {
			t.Errorf("%d starts and ports %v, want 2 and %v", w.host.Starts(string(spec)), after.Ports, before.Ports)
		}
	})
}

func TestOnExitStopFreesTheHostAndBootsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.OnExit = executor.OnExitStop
		spec, ending := w.job(1), w.job(2)
		stop := w.start()
		time.Sleep(3 * time.Second)
		before := w.wantState(spec, state.VMRunning)
		w.host.Set(vmmtest.Faults{IgnoreStop: true})
		w.end(ending, state.JobStopped, "stopped")
		time.Sleep(time.Second)
		stop()
		if r, l := w.host.Running(), w.net.applied(); len(r)+len(l) > 0 {
			t.Fatalf("machines %v and leases %v are left, want none", r, l)
		}
		w.host.Set(vmmtest.Faults{})

		stop = w.start()
		defer stop()
		time.Sleep(3 * time.Second)

		after := w.wantState(spec, state.VMRunning)
		if after.Starts != 2 || !slices.Equal(after.Ports, before.Ports) || after.Failures != 0 {
			t.Errorf("VM has %d starts, %d failures, ports %v; want 2, 0, %v", after.Starts, after.Failures, after.Ports, before.Ports)
		}
		w.wantState(ending, state.VMStopped)
		if got := w.intents(); len(got) != 2 {
			t.Errorf("intents are %v, want one confirmation of each", got)
		}
	})
}

func TestACrashingMachineIsRestartedAndThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.startBilling(spec)
		for range 3 {
			w.host.Die(string(spec), "killed by the kernel: out of memory")
			time.Sleep(10 * time.Second)
			w.wantState(spec, state.VMRunning)
		}
		time.Sleep(w.cfg.StableAfter + time.Minute)
		if vm := w.vm(spec); vm.Failures != 0 {
			t.Errorf("%d failures after it was stable, want 0", vm.Failures)
		}
		for range w.cfg.FailuresMax {
			w.host.Die(string(spec), "killed by the kernel: out of memory")
			time.Sleep(w.cfg.BackoffMax)
		}

		vm := w.wantState(spec, state.VMFailed)
		if !strings.Contains(vm.Detail, "out of memory") || !slices.Contains(w.intents(), "nodestop/"+string(spec)) {
			t.Errorf("VM failed because %q, intents %v; want the reason and a nodestop", vm.Detail, w.intents())
		}
		if len(w.net.applied()) != 0 {
			t.Error("a failed VM kept its network")
		}
		w.end(spec, state.JobFailed, "ended by its node")
		time.Sleep(w.cfg.Retention + 5*time.Second)
		w.wantNothing()
	})
}

func TestAGuestThatNeverBootsIsKilledAndGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.FailuresMax = 2
		w.host.Set(vmmtest.Faults{NeverReady: true})
		spec := w.job(1)
		stop := w.start()
		defer stop()

		time.Sleep(3 * w.cfg.ReadyTimeout)

		vm := w.wantState(spec, state.VMFailed)
		if !strings.Contains(vm.Detail, "not ready after 3m0s") || len(w.host.Running()) != 0 {
			t.Errorf("VM failed because %q with %v running, want its guest not ready, none running", vm.Detail, w.host.Running())
		}
	})
}

// The pass that gives the worker may have looked before the VM had failed.
func TestAVMThatHasFailedIsNotStartedByAPassThatSawItRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.FailuresMax = 1
		w.host.Set(vmmtest.Faults{NeverReady: true})
		spec := w.job(1)
		stop := w.start()
		time.Sleep(2 * w.cfg.ReadyTimeout)
		w.wantState(spec, state.VMFailed)
		stop()
		w.host.Set(vmmtest.Faults{})
		before := w.host.Starts(string(spec))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.supervisor().Keep(ctx, spec)

		w.wantState(spec, state.VMFailed)
		if now := w.host.Starts(string(spec)); now != before {
			t.Errorf("a machine that was given up was started again: %d starts, had %d", now, before)
		}
	})
}

func TestWhatCanNeverRunEndsTheJobAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.src.set(errs.New(errs.Invalid, "its bytes are not those of its hash"))
		spec := w.job(1)
		stop := w.start()
		defer stop()

		time.Sleep(3 * time.Second)

		vm := w.wantState(spec, state.VMFailed)
		if !strings.Contains(vm.Detail, "not those of its hash") || !slices.Equal(w.intents(), []string{"nodestop/" + string(spec)}) {
			t.Errorf("VM failed because %q, intents %v; want the bytes' fault and a nodestop", vm.Detail, w.intents())
		}
	})
}

func TestTheChainIsToldAgainWhenTheWordWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.src.set(errs.New(errs.Invalid, "it is no image"))
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMFailed)
		for n := range 3 {
			got := w.intents()
			if len(got) != 1 {
				t.Fatalf("intents are %v after %d were lost, want one", got, n)
			}
			w.update(func(ctx context.Context, tx *state.Tx) error {
				i, err := tx.Intent(ctx, got[0])
				if err != nil {
					return err
				}
				i.Status = state.IntentReverted
				return tx.PutIntent(ctx, *i)
			})
			time.Sleep(time.Minute)
		}

		if got := w.intents(); !slices.Equal(got, []string{"nodestop/" + string(spec) + "/3"}) {
			t.Errorf("intents are %v, want the fourth word", got)
		}
	})
}

func TestTheChainIsToldAgainThatAMachineRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		lose := func(n int) {
			t.Helper()
			w.update(func(ctx context.Context, tx *state.Tx) error {
				got := w.intents()
				if len(got) != 1 {
					t.Fatalf("intents are %v after %d were lost, want one", got, n)
				}
				i, err := tx.Intent(ctx, got[0])
				if err != nil {
					return err
				}
				i.Status = state.IntentReverted
				return tx.PutIntent(ctx, *i)
			})
			time.Sleep(3 * time.Second)
		}

		// At once, then not before a minute of chain time has passed.
		lose(0)
		if got := w.intents(); !slices.Equal(got, []string{"running/" + string(spec) + "/0/1"}) {
			t.Errorf("intents are %v, want the second word", got)
		}
		lose(1)
		if got := w.intents(); len(got) != 0 {
			t.Errorf("intents are %v, want none yet", got)
		}
		w.block(60)
		time.Sleep(3 * time.Second)
		if got := w.intents(); !slices.Equal(got, []string{"running/" + string(spec) + "/0/2"}) {
			t.Errorf("intents are %v, want the third word", got)
		}

		// Nothing more once it is billed.
		w.startBilling(spec)
		lose(2)
		w.block(600)
		time.Sleep(3 * time.Second)
		if got := w.intents(); len(got) != 0 {
			t.Errorf("intents are %v, want none: the chain knows", got)
		}
	})
}

func TestAMachineThatIsReadyWhileItsJobIsAwayIsConfirmedWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.supervisorAccept(1)
		spec := w.src.instance(1).ItemHash
		open := func() {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				return tx.AtBlock(w.head, func() error {
					return tx.PutJob(ctx, state.Job{Spec: spec, NodeID: self, Status: state.JobAssigned, Payer: address(t, payerKey)})
				})
			})
		}
		open()
		w.host.Set(vmmtest.Faults{NeverReady: true})
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.update(func(ctx context.Context, tx *state.Tx) error { return tx.Rollback(ctx, w.head-1) })
		w.block(1)
		w.host.MakeReady(string(spec))
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		if got := w.intents(); len(got) != 0 {
			t.Fatalf("intents are %v, want none: there is no job", got)
		}

		open()
		time.Sleep(3 * time.Second)

		if got := w.intents(); !slices.Equal(got, []string{"running/" + string(spec) + "/0"}) {
			t.Errorf("intents are %v, want that it runs", got)
		}
	})
}

func TestAnImageThatCannotBeHadYetIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.src.set(errs.New(errs.Unavailable, "no peer has it"))
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(10 * time.Minute)
		if vm := w.wantState(spec, state.VMFetching); !strings.Contains(vm.Detail, "no peer has it") || vm.Failures != 0 {
			t.Errorf("VM says %q after %d failures, want that no peer has the image, 0", vm.Detail, vm.Failures)
		}
		w.src.set(nil)

		time.Sleep(w.cfg.BackoffMax + 5*time.Second)

		w.wantState(spec, state.VMRunning)
	})
}

func TestTheImageOfAPromisedJobIsFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start()
		defer stop()
		w.supervisorAccept(1)

		time.Sleep(3 * time.Second)

		w.src.mu.Lock()
		defer w.src.mu.Unlock()
		if w.src.fetched != 1 {
			t.Errorf("images were fetched %d times, want once", w.src.fetched)
		}
	})
}

func TestASlowImageDelaysOnlyItsOwnJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := w.src.sign(message.TypeStore, fmt.Sprintf(`{"address":%q,"time":1700000000,"item_type":"storage","item_hash":%q}`,
			address(t, payerKey).Hex(), message.HashOf([]byte("huge"))))
		env := w.src.instance(1)
		slow := w.src.content(strings.Replace(env.ItemContent, string(w.src.image().ItemHash), string(store.ItemHash), 1))
		w.setJob(slow.ItemHash, func(j *state.Job) {
			*j = state.Job{Spec: slow.ItemHash, NodeID: self, Status: state.JobAssigned}
		})
		quick := w.job(2)
		stop := w.start()
		defer stop()

		time.Sleep(5 * time.Second)

		w.wantState(quick, state.VMRunning)
		if vm := w.wantState(slow.ItemHash, state.VMFetching); !strings.Contains(vm.Detail, "MiB of 1048576") {
			t.Errorf("VM says %q, want its progress", vm.Detail)
		}
		w.end(slow.ItemHash, state.JobFailed, "not started in time")
		time.Sleep(3 * time.Second)
		w.wantState(slow.ItemHash, state.VMStopped)
	})
}

func TestAMachineIsNotStoppedOnDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.supervisorAccept(1)
		spec := w.src.instance(1).ItemHash
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.AtBlock(w.head, func() error {
				return tx.PutJob(ctx, state.Job{Spec: spec, NodeID: self, Status: state.JobAssigned, Payer: address(t, payerKey)})
			})
		})
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)

		// A reorganisation takes the job away. It can come back for 300 s.
		w.update(func(ctx context.Context, tx *state.Tx) error { return tx.Rollback(ctx, w.head-1) })
		w.block(300)
		time.Sleep(10 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.synced.Store(false)
		w.block(1)
		time.Sleep(10 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.synced.Store(true)
		time.Sleep(3 * time.Second)

		if vm := w.wantState(spec, state.VMStopped); !strings.Contains(vm.StopReason, "dropped the job") {
			t.Errorf("stop reason is %q, want that the chain dropped the job", vm.StopReason)
		}
	})
}

// supervisorAccept lets the node accept the nth message's job.
func (w *world) supervisorAccept(n int) {
	w.t.Helper()
	if r := w.supervisor().Accept(w.t.Context(), peerOf(w.t, coordinator), w.ask(n, nil)); !r.Accepted {
		w.t.Fatalf("node declined: %s%s", r.Reason, r.Error)
	}
}

func TestAJobThatMovedAwayIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.setJob(spec, func(j *state.Job) { j.NodeID = 9 })

		time.Sleep(3 * time.Second)

		if vm := w.wantState(spec, state.VMStopped); vm.StopReason != "the job was given to node 9" {
			t.Errorf("stop reason is %q, want that node 9 has the job", vm.StopReason)
		}
	})
}

func TestAnEndThatTheChainTakesBackStartsTheMachineAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.startBilling(spec)
		ports := w.vm(spec).Ports
		w.end(spec, state.JobStopped, "stopped")
		time.Sleep(5 * time.Second)
		w.wantState(spec, state.VMStopped)
		w.setJob(spec, func(j *state.Job) { j.Status, j.StoppedAt = state.JobRunning, 0 })

		time.Sleep(5 * time.Second)

		if vm := w.wantState(spec, state.VMRunning); !slices.Equal(vm.Ports, ports) || vm.StopReason != "" {
			t.Errorf("VM has ports %v and stop reason %q, want %v and none", vm.Ports, vm.StopReason, ports)
		}
	})
}

func TestArrearsAreShownAndEndTheMachineOnlyWithTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.startBilling(spec)
		account := state.Account{Payer: address(t, payerKey), Token: 1, RateQ32: w.jobRow(spec).RateQ32, PaidUntil: w.head + 10}
		w.update(func(ctx context.Context, tx *state.Tx) error { return tx.PutAccount(ctx, account) })
		w.block(3000)
		time.Sleep(3 * time.Second)
		vm := w.wantState(spec, state.VMRunning)
		if vm.DryAt != account.PaidUntil || !strings.Contains(vm.Detail, "ran dry at 1970-01-12T13:46:50Z; the job ends after 1970-01-13T13:46:50Z") {
			t.Errorf("VM ran dry at %d and says %q, want %d and both times", vm.DryAt, vm.Detail, account.PaidUntil)
		}
		w.block(90_000)
		w.end(spec, state.JobExpired, "payment ran dry")

		time.Sleep(3 * time.Second)

		if vm := w.wantState(spec, state.VMStopped); !strings.Contains(vm.StopReason, "payment ran dry; the payer's allowance ran dry at 1970-01-12T13:46:50Z, the grace ended at") {
			t.Errorf("stop reason is %q, want when it ran dry", vm.StopReason)
		}
	})
}

func (w *world) jobRow(spec message.ItemHash) *state.Job {
	w.t.Helper()
	j, err := w.db.Job(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func TestAGuestThatWillNotStopIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.host.Set(vmmtest.Faults{Unkillable: true})
		w.end(spec, state.JobStopped, "stopped")
		time.Sleep(5 * time.Minute)
		w.wantState(spec, state.VMStopping)
		w.host.Set(vmmtest.Faults{})

		time.Sleep(2 * time.Minute)

		w.wantNothing()
	})
}

func TestDoubtAboutAProcessNeverEndsItsJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		stop()
		w.host.Set(vmmtest.Faults{Adopt: errors.New("permission denied")})
		stop = w.start()
		defer stop()
		time.Sleep(time.Hour)
		if vm := w.vm(spec); vm.State != state.VMRunning || vm.Failures != 0 {
			t.Errorf("VM is %s after %d failures, want running, 0", vm.State, vm.Failures)
		}
		w.host.Set(vmmtest.Faults{})

		time.Sleep(2 * time.Minute)

		if w.wantState(spec, state.VMRunning); w.host.Starts(string(spec)) != 1 {
			t.Errorf("%d starts, want 1", w.host.Starts(string(spec)))
		}
	})
}

// At every call that the supervisor makes to the outside, before and after it
// has its effect, the node dies and starts again. The machine must be started
// exactly once, and nothing must be left when its job has ended.
func TestACrashAtAnyStepIsRecovered(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			done := false
			t.Run(fmt.Sprintf("call %d after %v", at, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { done = crashAt(t, at, after) })
			})
			if done || t.Failed() {
				break
			}
		}
	}
}

// crashAt lives a job through with a crash at one call. It reports whether the
// life was over before the call.
func crashAt(t *testing.T, at int, after bool) (over bool) {
	t.Helper()
	w := newWorld(t)
	w.cfg.Retention = time.Second
	w.hook = &hook{at: at, after: after}
	spec := w.job(1)
	stop := w.start()
	var ports []state.Port
	step := func() {
		time.Sleep(5 * time.Second)
		if w.hook != nil && w.hook.reached() {
			stop()
			w.reopen()
			w.hook = nil
			stop = w.start()
			time.Sleep(5 * time.Second)
		}
	}
	defer func() { stop() }()

	step()
	vm := w.wantState(spec, state.VMRunning)
	ports = vm.Ports
	if n := w.host.Starts(string(spec)); n != 1 {
		t.Fatalf("machine was started %d times, want once", n)
	}
	w.startBilling(spec)
	step()
	if vm := w.wantState(spec, state.VMRunning); !slices.Equal(vm.Ports, ports) {
		t.Errorf("ports are %v, want %v", vm.Ports, ports)
	}
	w.end(spec, state.JobStopped, "stopped")
	step()
	time.Sleep(5 * time.Second)
	w.wantNothing()
	if n := w.host.Starts(string(spec)); n != 1 {
		t.Errorf("machine was started %d times in all, want once", n)
	}
	if got := w.intents(); len(got) != 1 {
		t.Errorf("intents are %v, want one", got)
	}
	return w.hook != nil
}

// Without its row a machine is either one that the chain does not want here, or
// the database is an old copy. So its disk is not lost at once.
func TestAMachineWithoutARowIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		stop()
		disk := filepath.Join(w.vm(spec).Dir, "disk")
		if err := os.WriteFile(disk, []byte("work"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return errors.Join(tx.RemoveVM(ctx, spec), tx.PutJob(ctx, state.Job{Spec: spec, NodeID: 9}))
		})
		w.synced.Store(false)
		stop = w.start()
		defer stop()
		time.Sleep(3 * time.Minute)
		if len(w.host.Running()) != 1 {
			t.Fatal("the machine was ended although the chain may have its job")
		}
		w.synced.Store(true)
		time.Sleep(2 * time.Minute)

		lost, err := filepath.Glob(filepath.Join(w.dir, "vms", "lost", string(spec)+"-*", "disk"))
		if err != nil || len(lost) != 1 || len(w.host.Running()) != 0 {
			t.Fatalf("set aside: %v (%v), machines %v run; want the disk and none", lost, err, w.host.Running())
		}
		if raw, err := os.ReadFile(lost[0]); string(raw) != "work" {
			t.Errorf("disk has %q (%v), want what was on it", raw, err)
		}
		if _, err := os.Stat(disk); err == nil {
			t.Error("the disk is still in its place")
		}
		time.Sleep(24 * time.Hour)
		if err := os.Remove(filepath.Join(w.dir, "vms", "lost")); err != nil {
			t.Errorf("a day later: %v, want nothing left", err)
		}
		w.wantNothing()
	})
}

// A database that is an old copy lacks the row of a machine whose job the chain
// has: the machine is adopted as it is.
func TestAMachineWhoseRowWasLostIsAdoptedWhenTheChainHasItsJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		time.Sleep(3 * time.Second)
		stop()
		job := *w.jobRow(spec)
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return errors.Join(tx.RemoveVM(ctx, spec), tx.PutJob(ctx, state.Job{Spec: spec, NodeID: 9}))
		})
		w.synced.Store(false)
		stop = w.start()
		defer stop()
		time.Sleep(2 * time.Minute)
		w.setJob(spec, func(j *state.Job) { *j = job })
		time.Sleep(time.Second)
		w.synced.Store(true)

		time.Sleep(2 * time.Minute)

		if w.wantState(spec, state.VMRunning); w.host.Starts(string(spec)) != 1 {
			t.Errorf("%d starts, want 1", w.host.Starts(string(spec)))
		}
	})
}

// A thousand random events, crashes among them, leave nothing behind.
func TestRandomLivesLeaveNothingBehind(t *testing.T) {
	const steps = 1000
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Retention, w.cfg.FailuresMax = 5*time.Second, 3
		rng := rand.New(rand.NewPCG(11, 12))
		stop := w.start()
		live := map[message.ItemHash]bool{}
		next := 0
		pick := func() message.ItemHash {
			keys := make([]message.ItemHash, 0, len(live))
			for k := range live {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			return keys[rng.IntN(len(keys))]
		}
		for range steps {
			switch n := rng.IntN(14); {
			case n < 3 && len(live) < 8 || len(live) == 0:
				next++
				live[w.job(next)] = true
			case n < 5:
				spec := pick()
				w.end(spec, state.JobStopped, "stopped")
				delete(live, spec)
			case n < 7:
				w.host.Die(string(pick()), "crashed")
			case n == 7:
				w.startBilling(pick())
			case n == 8:
				stop()
				stop = w.start()
			case n == 9:
				w.host.Set(vmmtest.Faults{NeverReady: rng.IntN(4) == 0, IgnoreStop: rng.IntN(2) == 0})
			case n == 10:
				w.src.set([]error{nil, nil, errs.New(errs.Unavailable, "away")}[rng.IntN(3)])
				w.net.set([]error{nil, nil, errors.New("netlink is busy")}[rng.IntN(3)])
			case n == 11:
				w.block(uint64(rng.IntN(100)))
			case n == 12:
				w.dry(uint64(rng.IntN(2 * prepay)))
			case n == 13:
				w.paidUntil(w.head+prepay, 0)
			}
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		}
		w.host.Set(vmmtest.Faults{})
		w.src.set(nil)
		w.net.set(nil)
		for spec := range live {
			w.end(spec, state.JobStopped, "stopped")
		}
		time.Sleep(3 * time.Minute)
		w.wantNothing()
		stop()
	})
}
