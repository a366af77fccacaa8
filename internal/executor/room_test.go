package executor_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestWhatProgramsTakeIsNotPromisedToMachines(t *testing.T) {
	w := newWorld(t)
	w.cfg.VCPUs = 2
	s := w.supervisor()
	program, both := message.HashOf([]byte("program")), state.Resources{VCPUs: 2, MemoryMiB: 128}

	free, err := s.Hold(t.Context(), program, both)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(t.Context(), program, state.Resources{VCPUs: 1}); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("another program: %v, want errs.Exhausted", err)
	}
	if reply := s.Accept(t.Context(), peerOf(t, coordinator), w.ask(1, nil)); reply.Accepted {
		t.Error("a job was accepted beside a program that takes all")
	}
	free()
	free() // Once counts.
	if reply := s.Accept(t.Context(), peerOf(t, coordinator), w.ask(1, nil)); !reply.Accepted {
		t.Errorf("a job was declined when the program was gone: %s", reply.Reason)
	}
	if _, err := s.Hold(t.Context(), program, both); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("beside a promise: %v, want errs.Exhausted", err)
	}
}

// TestProgramsKeepTheirPlaceOnTheNetwork: beside machines, and over a restart.
func TestProgramsKeepTheirPlaceOnTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one, two := message.HashOf([]byte("one")), message.HashOf([]byte("two"))
		s := w.supervisor()
		for _, spec := range []message.ItemHash{one, two, one} {
			if _, err := s.Lend(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Unlend(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if err := s.Unlend(t.Context(), one); err != nil {
			t.Errorf("again: %v", err)
		}

		s = w.supervisor()
		if _, err := s.Lent(one); errs.KindOf(err) != errs.NotFound {
			t.Errorf("the place that was taken away: %v, want errs.NotFound", err)
		}
		if d, err := s.Lent(two); err != nil || d.Mode != vmnet.Tap {
			t.Errorf("the other's after a restart: %+v, %v, want its second slot, which has a tap", d, err)
		}
		stop := w.run(s)
		defer stop()
		spec := w.job(1)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		slots := map[int]bool{}
		for _, l := range w.net.applied() {
			slots[l.Slot] = true
			if l.ID == string(two) && l.Kind != vmnet.MicroVM {
				t.Errorf("program's lease is of kind %d", l.Kind)
			}
		}
		if len(w.net.applied()) != 2 || len(slots) != 2 {
			t.Errorf("applied %+v, want program and machine in slots of their own", w.net.applied())
		}
	})
}
