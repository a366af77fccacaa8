package executor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestADrainingNodeTakesNothingNewAndStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer func() { stop() }()
		ctx, leased := t.Context(), w.src.instance(1).ItemHash
		if err := s.Request(ctx, leased); err != nil {
			t.Fatal(err)
		}
		paid := w.job(2)
		time.Sleep(time.Minute)
		until := time.Now().Add(48 * time.Hour)
		if err := s.Drain(ctx, "0xowner", until); err != nil {
			t.Fatal(err)
		}
		if err := s.Drain(ctx, "0xowner", until); err != nil { // They are told once.
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		deadline := until.UTC().Format(time.RFC3339)
		for _, spec := range []message.ItemHash{leased, paid} {
			vm, err := s.Status(ctx, spec)
			if err != nil {
				t.Fatal(err)
			}
			last := vm.History[len(vm.History)-1]
			if !strings.Contains(vm.Detail, "by "+deadline) || last.From != "running" || last.To != "running" || !strings.Contains(last.Cause, "by "+deadline) {
				t.Errorf("machine %s is told %q, and last %+v; want by when it should be elsewhere", spec, vm.Detail, last)
			}
			if before := vm.History[len(vm.History)-2]; before.From == before.To {
				t.Errorf("machine %s was told twice", spec)
			}
		}
		if !w.ads.last().Draining {
			t.Error("the ad does not say that the node drains")
		}
		refused := s.Request(ctx, w.src.instance(3).ItemHash)
		w.wantRefusal(refused, executor.NoRoom)
		if refused == nil || !strings.Contains(refused.Error(), deadline) {
			t.Errorf("the refusal is %v, want the deadline in it", refused)
		}
		if got, err := s.Allocate(ctx, "0xscheduler", []message.ItemHash{w.src.held(4).ItemHash, leased}); err != nil || len(got.Failed) != 1 || len(got.Started) != 1 {
			t.Errorf("a list: %+v (%v), want the machine that is there and not the new one", got, err)
		}

		// The deadline passes, and the node is started anew: nothing is stopped for
		// that, and nothing new taken.
		stop()
		s = w.supervisor()
		stop = w.run(s)
		w.pass(49 * time.Hour)
		w.wantState(leased, state.VMRunning)
		w.wantState(paid, state.VMRunning)
		if w.host.Starts(string(leased)) != 1 || w.host.Starts(string(paid)) != 1 {
			t.Error("a machine was started again")
		}
		w.wantRefusal(s.Request(ctx, w.src.instance(3).ItemHash), executor.NoRoom)

		if err := s.EndDrain(ctx, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if vm, err := s.Status(ctx, leased); err != nil || strings.Contains(vm.Detail, "drains") || !strings.Contains(vm.History[len(vm.History)-1].Cause, "no longer") {
			t.Errorf("status is %+v (%v), want that it drains no longer", vm, err)
		}
		if err := s.Request(ctx, w.src.instance(3).ItemHash); err != nil {
			t.Errorf("a new machine: %v, want it taken", err)
		}
		time.Sleep(11 * time.Second)
		if w.ads.last().Draining {
			t.Error("the ad says that the node drains")
		}
		for _, at := range []time.Time{time.Now(), time.Now().Add(400 * 24 * time.Hour), {}} {
			if err := s.Drain(ctx, "0xowner", at); !errors.Is(err, errs.Invalid) {
				t.Errorf("a drain until %s gave %v, want it refused", at, err)
			}
		}
	})
}

func TestADrainingNodeAcceptsNoJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.supervisor()
		if err := s.Drain(t.Context(), "0xowner", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if r := s.Accept(t.Context(), peerOf(t, coordinator), w.ask(1, func(*job.Ask) {})); r.Accepted || !strings.Contains(r.Reason, "the node drains") {
			t.Errorf("the answer is %+v, want a refusal for the drain", r)
		}
	})
}

func TestANodeThatDrainsInTheRegistryTakesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutNode(ctx, state.Node{ID: self, Kind: state.KindCompute, Status: state.NodeDraining})
		})
		w.wantRefusal(s.Request(t.Context(), w.src.instance(1).ItemHash), executor.NoRoom)
	})
}
