package executor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// core is what core channel nodes say.
type core struct {
	mu       sync.Mutex
	away     error
	standing string
	credits  int64
	ports    string // "" = there is no aggregate.
	asked    int
	flows    map[string]string // Tokens per second, by who gets them.
	wallet   string            // Of the community.
	since    time.Time         // When it began to get its part.
}

func newCore() *core { return &core{standing: "processed", credits: 1_000_000} }

func (c *core) set(change func(*core)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *core) Standing(context.Context, message.ItemHash) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.standing, c.away
}

func (c *core) Price(context.Context, message.ItemHash) (*big.Rat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return big.NewRat(1, 1), c.away
}

func (c *core) Balance(context.Context, string) (held, credits *big.Rat, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return new(big.Rat), big.NewRat(c.credits, 1), c.away
}

func (c *core) Flow(_ context.Context, chain message.Chain, _, to string) (*big.Rat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if chain != "AVAX" {
		return nil, errs.New(errs.Invalid, "no streams on %s", chain)
	}
	flow, ok := c.flows[to]
	if !ok {
		return nil, errs.New(errs.Unavailable, "nobody says what flows to %s", to)
	}
	out, _ := new(big.Rat).SetString(flow)
	return out, c.away
}

func (c *core) Community(context.Context) (string, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wallet, c.since, c.away
}

func (c *core) Aggregate(context.Context, string, string) (json.RawMessage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.away != nil:
		return nil, c.away
	case c.ports == "":
		return nil, errs.New(errs.NotFound, "no aggregate")
	}
	return json.RawMessage(c.ports), nil
}

// leasing is a world whose supervisor runs, and asks core channel nodes.
func leasing(t *testing.T) (*world, *executor.Supervisor, func()) {
	t.Helper()
	w := newWorld(t)
	w.core = newCore()
	w.cfg.LeaseRetention, w.cfg.Interval = time.Minute, 30*time.Second // Days go by here.
	s := w.supervisor()
	return w, s, w.run(s)
}

// pass lets the chain and the clock go on together.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for range d / time.Minute {
		w.block(60)
		time.Sleep(time.Minute)
	}
}

func (w *world) wantRefusal(err error, why executor.Why) {
	w.t.Helper()
	var r *executor.Refusal
	if !errors.As(err, &r) || r.Why != why {
		w.t.Errorf("got %v, want a refusal of kind %d", err, why)
	}
}

func TestAMachineThatCreditsPayIsStartedOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.src.instance(1).ItemHash
		w.core.set(func(c *core) { c.credits = 3599 })
		w.wantRefusal(s.Request(t.Context(), spec), executor.TooFewCredits)
		w.core.set(func(c *core) { c.away = errs.New(errs.Unavailable, "away") })
		w.wantRefusal(s.Request(t.Context(), spec), executor.NetworkAway)
		w.core.set(func(c *core) { c.credits, c.away = 3600, nil })
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.wantState(spec, state.VMRunning)
		if got := w.intents(); len(got) != 0 {
			t.Errorf("intents are %v, but no chain bills the machine", got)
		}
		events, err := w.db.VMEvents(t.Context(), spec)
		if err != nil || len(events) < 5 || events[0].To != state.VMWanted || events[len(events)-1].To != state.VMRunning {
			t.Errorf("history is %+v (%v), want all from wanted to running", events, err)
		}
		for _, e := range events {
			if e.Cause == "" {
				t.Errorf("step %+v has no cause", e)
			}
		}
		if err := s.Request(t.Context(), spec); err != nil || w.host.Starts(string(spec)) != 1 {
			t.Errorf("a second request: %v and %d starts, want it to change nothing", err, w.host.Starts(string(spec)))
		}
		w.wantRefusal(s.Request(t.Context(), w.src.image().ItemHash), executor.NotInstance)
	})
}

func TestAListStartsAndDropsMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		held, paid := w.src.held(1).ItemHash, w.src.instance(2).ItemHash
		got, err := s.Allocate(t.Context(), "0xscheduler", []message.ItemHash{held, paid, message.HashOf([]byte("nobody has it"))})
		if err != nil || len(got.Started) != 2 || len(got.Failed) != 1 {
			t.Fatalf("Allocate: %+v (%v), want two that run and one that does not", got, err)
		}
		time.Sleep(time.Second)
		got, err = s.Allocate(t.Context(), "0xscheduler", nil)
		if err != nil || !slices.Equal(got.Stopped, []message.ItemHash{held}) {
			t.Errorf("an empty list stopped %v (%v), want the one that is held for, and not the one paid by credits", got.Stopped, err)
		}
		time.Sleep(10 * time.Second)
		if vm := w.wantState(held, state.VMStopped); vm.StopReason == "" {
			t.Error("no reason is given")
		}
		w.wantState(paid, state.VMRunning)
		// It is named again before its disk is gone, and goes on with it.
		if _, err := s.Allocate(t.Context(), "0xscheduler", []message.ItemHash{held}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.wantState(held, state.VMRunning)
		if _, err := s.Allocate(t.Context(), "0xscheduler", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := w.db.VM(t.Context(), held); !errors.Is(err, errs.NotFound) {
			t.Errorf("after its retention the machine is there: %v", err)
		}
		if l, err := w.db.Lease(t.Context(), held); err != nil || l.End == nil || l.End.Cause != state.EndDropped {
			t.Errorf("lease is %+v (%v), want it to tell why it ended", l, err)
		}
	})
}

// TestDoubtStopsNoPaidMachine: for a day nobody answers, the chain stands still,
// or one server says that the message is gone.
func TestDoubtStopsNoPaidMachine(t *testing.T) {
	for name, doubt := range map[string]func(*world){
		"nobody answers":      func(w *world) { w.core.set(func(c *core) { c.away = errs.New(errs.Unavailable, "away") }) },
		"a chain behind":      func(w *world) { w.synced.Store(false); w.core.set(func(c *core) { c.credits = 0 }) },
		"a message in limbo":  func(w *world) { w.core.set(func(c *core) { c.standing = "removing" }) },
		"a message not known": func(w *world) { w.core.set(func(c *core) { c.standing = "" }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s, stop := leasing(t)
				defer stop()
				spec := w.src.instance(1).ItemHash
				if err := s.Request(t.Context(), spec); err != nil {
					t.Fatal(err)
				}
				doubt(w)
				w.pass(24 * time.Hour)
				if w.wantState(spec, state.VMRunning); w.host.Starts(string(spec)) != 1 {
					t.Errorf("%d starts, want 1", w.host.Starts(string(spec)))
				}
			})
		})
	}
}

func TestAnUnpaidMachineIsPausedAfterItsGraceAndGoesOnWhenPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.src.instance(1).ItemHash
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		w.core.set(func(c *core) { c.credits = 0 })
		w.pass(50 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.pass(15 * time.Minute)
		if vm := w.wantState(spec, state.VMPaused); len(w.host.Running()) != 0 {
			t.Errorf("the machine runs unpaid: %s", vm.Detail)
		}
		w.core.set(func(c *core) { c.credits = 1_000_000 })
		w.pass(3 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.core.set(func(c *core) { c.credits = 0 })
		w.pass(75 * time.Hour)
		if _, err := w.db.VM(t.Context(), spec); !errors.Is(err, errs.NotFound) {
			t.Errorf("days later it is still kept: %v", err)
		}
	})
}

func TestAMachineWhoseMessageIsGoneEndsAfterThreeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.src.instance(1).ItemHash
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.core.set(func(c *core) { c.standing = "forgotten" })
		w.pass(2 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.core.set(func(c *core) { c.standing = "processed" })
		w.pass(time.Minute)
		w.core.set(func(c *core) { c.standing = "forgotten" })
		w.pass(2 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.pass(2 * time.Minute)
		events, err := w.db.VMEvents(t.Context(), spec)
		if last := events[len(events)-1]; err != nil || last.To != state.VMStopped || !strings.Contains(last.Cause, "its message is gone") {
			t.Errorf("the last step is %+v (%v), want the machine stopped with its message", last, err)
		}
	})
}

func TestOrdersOfTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		ports := w.vm(spec).Ports
		if ran, err := s.Stop(ctx, spec, "0xowner"); err != nil || !ran {
			t.Errorf("Stop: it ran: %v, %v", ran, err)
		}
		time.Sleep(time.Second)
		if len(w.host.Running()) != 0 || len(w.net.applied()) != 0 {
			t.Error("the machine runs, or its network is there")
		}
		if ran, err := s.Stop(ctx, spec, "0xowner"); err != nil || ran {
			t.Errorf("Stop again: it ran: %v, %v", ran, err)
		}
		w.pass(10 * time.Minute)
		w.wantState(spec, state.VMHalted)
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if vm := w.wantState(spec, state.VMRunning); !slices.Equal(vm.Ports, ports) || vm.Halt != nil {
			t.Errorf("VM is %+v, want the ports %v and no order", vm, ports)
		}
		if ran, err := s.Reboot(ctx, spec, "0xowner"); err != nil || !ran || w.host.Starts(string(spec)) != 3 {
			t.Errorf("Reboot: it ran: %v, %v, %d starts, want 3", ran, err, w.host.Starts(string(spec)))
		}
		time.Sleep(time.Second)
		dir := w.vm(spec).Dir
		w.writeDisk(spec)
		if err := os.Mkdir(filepath.Join(dir, "volumes"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.Reinstall(ctx, spec, "0xowner", false); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "disk.qcow2")); err == nil {
			t.Error("the root disk is the old one")
		}
		if _, err := os.Stat(filepath.Join(dir, "volumes")); err != nil {
			t.Errorf("the volumes are gone: %v", err)
		}
		if err := s.Expire(ctx, spec, "0xowner", 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		w.pass(9 * time.Minute)
		w.wantState(spec, state.VMRunning)
		w.pass(3 * time.Minute)
		w.wantState(spec, state.VMHalted)
		if err := s.Expire(ctx, spec, "0xowner", 11*24*time.Hour); !errors.Is(err, errs.Invalid) {
			t.Errorf("Expire in eleven days: %v, want invalid", err)
		}
		if err := s.Erase(ctx, spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
		w.wantNothing()
		if _, err := s.Stop(ctx, spec, "0xowner"); !errors.Is(err, errs.NotFound) {
			t.Errorf("Stop of an erased machine: %v, want not found", err)
		}
	})
}

func TestAnOwnerStartsWhatWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, held, paid := t.Context(), w.src.held(1).ItemHash, w.src.instance(2).ItemHash
		if _, err := s.Allocate(ctx, "0xscheduler", []message.ItemHash{held}); err != nil {
			t.Fatal(err)
		}
		if err := s.Resume(ctx, paid); err != nil {
			t.Errorf("Resume of what never ran: %v, want it started as by Request", err)
		}
		for _, spec := range []message.ItemHash{held, paid} {
			time.Sleep(time.Second)
			if _, err := s.Stop(ctx, spec, "0xowner"); err != nil {
				t.Fatal(err)
			}
			if err := s.Resume(ctx, spec); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.wantState(spec, state.VMRunning)
		}
		if _, err := s.Stop(ctx, paid, "0xowner"); err != nil {
			t.Fatal(err)
		}
		w.core.set(func(c *core) { c.credits = 3599 })
		w.wantRefusal(s.Resume(ctx, paid), executor.TooFewCredits)
		w.wantRefusal(s.Request(ctx, held), executor.WrongPayment)
	})
}

// TestAnOwnerStartsTheMachineOfAJob that was stopped by order: the chain goes on with
// taking its price.
func TestAnOwnerStartsTheMachineOfAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.job(1)
		time.Sleep(time.Minute)
		w.wantState(spec, state.VMRunning)
		for name, again := range map[string]func(context.Context, message.ItemHash) error{"Resume": s.Resume, "Request": s.Request} {
			if _, err := s.Stop(t.Context(), spec, "0xowner"); err != nil {
				t.Fatal(err)
			}
			if err := again(t.Context(), spec); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			time.Sleep(time.Second)
			w.wantState(spec, state.VMRunning)
		}
	})
}

func TestAMachineNeedsNoRoomBesideItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core = newCore()
		w.cfg.DiskMiB, w.cfg.Interval = 1500, 30*time.Second // One and a half.
		s := w.supervisor()
		defer w.run(s)()
		ctx := t.Context()
		own, other := w.src.instance(1), w.src.instance(2)
		content, err := own.Content()
		if err != nil {
			t.Fatal(err)
		}
		want := content.(*message.Instance)
		if err := s.Request(ctx, own.ItemHash); err != nil {
			t.Fatal(err)
		}
		if err := s.Admit(ctx, own.ItemHash, want); err != nil {
			t.Errorf("while it runs: %v, want it admitted", err)
		}
		if _, err := s.Stop(ctx, own.ItemHash, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if err := s.Admit(ctx, own.ItemHash, want); err != nil {
			t.Errorf("after it was stopped: %v, want it admitted", err)
		}
		if err := s.Admit(ctx, other.ItemHash, want); errs.KindOf(err) != errs.Exhausted {
			t.Errorf("another beside it: %v, want errs.Exhausted", err)
		}
	})
}

// TestAnOrderOutlivesACrash stops the node at each of the calls of a reboot and
// of a reinstallation: the machine runs again, with what was ordered done.
func TestAnOrderOutlivesACrash(t *testing.T) {
	for at := 1; ; at++ {
		reached := false
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w, s, stop := leasing(t)
				ctx, spec := t.Context(), w.src.instance(1).ItemHash
				if err := s.Request(ctx, spec); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				stop()
				disk := w.writeDisk(spec)
				w.hook = &hook{at: at, after: after}
				s = w.supervisor()
				stop = w.run(s)
				waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
				err := s.Reinstall(waiting, spec, "0xowner", true)
				cancel()
				reached = reached || w.hook.reached()
				stop()
				w.hook = nil
				ordered := w.vm(spec).Halt != nil || err == nil
				stop = w.start()
				time.Sleep(time.Minute)
				w.wantState(spec, state.VMRunning)
				if _, serr := os.Stat(disk); ordered && serr == nil {
					t.Errorf("crash at call %d (after it: %v): the old disk is there", at, after)
				}
				if len(w.host.Running()) != 1 {
					t.Errorf("crash at call %d: %d machines run, want 1", at, len(w.host.Running()))
				}
				stop()
			})
		}
		if !reached || t.Failed() {
			break
		}
	}
}

func TestPortsAreWhatTheOwnerWantsAndStayWhileNobodySays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		w.core.set(func(c *core) {
			c.ports = `{"` + string(spec) + `":{"ports":{"80":{"tcp":true,"udp":true},"22":{"tcp":true,"udp":false}}},"` + string(w.src.instance(2).ItemHash) + `":null}`
		})
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		before := w.vm(spec).Ports
		if len(before) != 3 || before[1].Guest != 80 || before[1].Host != before[2].Host {
			t.Fatalf("ports are %+v, want SSH, and 80 at one host port for both protocols", before)
		}
		w.core.set(func(c *core) { c.away = errs.New(errs.Unavailable, "away") })
		if err := s.UpdatePorts(ctx, spec); !errors.Is(err, errs.Unavailable) {
			t.Errorf("UpdatePorts while nobody says: %v, want unavailable", err)
		}
		if _, err := s.Reboot(ctx, spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if got := w.vm(spec).Ports; !slices.Equal(got, before) {
			t.Errorf("ports are %+v, want them as they were: %+v", got, before)
		}
		w.core.set(func(c *core) {
			c.away, c.ports = nil, `{"`+string(spec)+`":{"ports":{"443":{"tcp":true},"80":{"tcp":true}}}}`
		})
		if err := s.UpdatePorts(ctx, spec); err != nil {
			t.Fatal(err)
		}
		got := w.vm(spec).Ports
		if len(got) != 3 || got[0] != before[0] || got[1] != before[1] || got[2].Guest != 443 {
			t.Errorf("ports are %+v, want SSH and 80 as before and 443", got)
		}
		w.core.set(func(c *core) { c.ports = `[]` })
		if err := s.UpdatePorts(ctx, spec); !errors.Is(err, errs.Invalid) || len(w.vm(spec).Ports) != 3 {
			t.Errorf("a malformed aggregate: %v, want it invalid and no port gone", err)
		}
		w.core.set(func(c *core) { c.ports = "" })
		if err := s.UpdatePorts(ctx, spec); err != nil || len(w.vm(spec).Ports) != 1 {
			t.Errorf("no aggregate: %v and ports %+v, want SSH only", err, w.vm(spec).Ports)
		}
	})
}

// TestANewPortIsNoneThatTheMachineHas changes the ports of a machine that is down, so
// that only its row says which ones are its own.
func TestANewPortIsNoneThatTheMachineHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		wants := func(ports string) {
			w.core.set(func(c *core) { c.ports = `{"` + string(spec) + `":{"ports":` + ports + `}}` })
		}
		wants(`{"80":{"tcp":true}}`)
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		before := w.vm(spec).Ports
		if _, err := s.Stop(ctx, spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
		wants(`{"79":{"tcp":true},"80":{"tcp":true}}`)

		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}

		got := w.vm(spec).Ports
		if len(got) != 3 || got[0] != before[0] || got[2] != before[1] || got[1].Host == got[0].Host || got[1].Host == got[2].Host {
			t.Errorf("ports are %+v, want those of before, %+v, and another one", got, before)
		}
	})
}

func TestLeasesTakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core = newCore()
		w.cfg.MemoryMiB = 1024
		s := w.supervisor()
		defer w.run(s)()
		ctx := t.Context()
		a, b, c := w.src.instance(1).ItemHash, w.src.instance(2).ItemHash, w.src.instance(3).ItemHash
		if err := errors.Join(s.Request(ctx, a), s.Request(ctx, b)); err != nil {
			t.Fatal(err)
		}
		w.wantRefusal(s.Request(ctx, c), executor.NoRoom)
		if _, err := s.Stop(ctx, a, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if err := s.Request(ctx, c); err != nil {
			t.Errorf("after one was stopped: %v", err)
		}
		w.wantRefusal(s.Request(ctx, a), executor.NoRoom)
	})
}

// TestWhatStartsAgainNeedsItsRoom: another machine may have it by then.
func TestWhatStartsAgainNeedsItsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core = newCore()
		w.cfg.MemoryMiB = 512
		s := w.supervisor()
		defer w.run(s)()
		ctx := t.Context()
		a, b := w.src.instance(1).ItemHash, w.src.instance(2).ItemHash
		w.leased(s, a)
		if _, err := s.Stop(ctx, a, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if err := s.Request(ctx, b); err != nil {
			t.Fatal(err)
		}
		for name, order := range map[string]func() error{
			"reboot":    func() error { _, err := s.Reboot(ctx, a, "0xowner"); return err },
			"reinstall": func() error { return s.Reinstall(ctx, a, "0xowner", false) },
			"restore":   func() error { return s.Restore(ctx, a, bytes.NewReader(qcow2Image(t, "10M"))) },
		} {
			if err := order(); !errors.Is(err, errs.Exhausted) {
				t.Errorf("%s without room: %v, want exhausted", name, err)
			}
		}
		vm := w.wantState(a, state.VMHalted)
		if left, _ := os.ReadDir(filepath.Join(vm.Dir, "upload")); vm.Halt.Again || len(left) > 0 {
			t.Errorf("the order is %+v and uploads are %v, want all as it was", vm.Halt, left)
		}
		if _, err := s.Stop(ctx, b, "0xowner"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reboot(ctx, a, "0xowner"); err != nil {
			t.Errorf("reboot with room: %v", err)
		}
	})
}

func TestTheConsoleOutlivesTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start()
		defer stop()
		spec := w.job(1)
		time.Sleep(3 * time.Second)
		if err := os.WriteFile(filepath.Join(w.vm(spec).Dir, "console.log"), []byte("last words"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.end(spec, state.JobStopped, "stopped")
		time.Sleep(w.cfg.Retention + 2*time.Minute)
		w.wantNothing()
		kept := filepath.Join(w.dir, "consoles", string(spec), "console.log")
		if raw, err := os.ReadFile(kept); string(raw) != "last words" {
			t.Errorf("the kept console has %q (%v)", raw, err)
		}
		// The time of a file is the host's own, not that of the bubble.
		old := time.Now().Add(-w.cfg.LogRetention)
		if err := os.Chtimes(filepath.Dir(kept), old, old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := os.Stat(kept); err == nil {
			t.Error("the console is kept for ever")
		}
		if events, err := w.db.VMEvents(t.Context(), spec); err != nil || len(events) == 0 {
			t.Errorf("history: %d steps (%v), want it kept", len(events), err)
		}
	})
}

func TestWhatMovedAwayIsNotStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.src.instance(1).ItemHash
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		w.update(func(ctx context.Context, tx *state.Tx) error {
			l, err := tx.Lease(ctx, spec)
			if err != nil {
				return err
			}
			l.End = &state.LeaseEnd{Cause: state.EndMoved, Detail: "another node runs it", At: time.Now().UTC()}
			return tx.PutLease(ctx, *l)
		})
		time.Sleep(2 * time.Minute)
		w.wantNothing()
		w.wantRefusal(s.Request(t.Context(), spec), executor.DoesNotStart)
		got, err := s.Allocate(t.Context(), "0xscheduler", []message.ItemHash{spec})
		if err != nil || len(got.Started) != 0 {
			t.Errorf("a list started it: %+v (%v)", got, err)
		}
		w.wantNothing()
	})
}

// TestAMachineThatEndedInAReboot is named again: the reboot that never came to its end
// does not keep it down.
func TestAMachineThatEndedInARebootStartsWhenItIsNamedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.src.held(1).ItemHash
		list := []message.ItemHash{spec}
		if _, err := s.Allocate(t.Context(), "0xscheduler", list); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.update(func(ctx context.Context, tx *state.Tx) error {
			vm, err := tx.VM(ctx, spec)
			if err != nil {
				return err
			}
			l, err := tx.Lease(ctx, spec)
			if err != nil {
				return err
			}
			vm.Halt = &state.Halt{By: "0xowner", At: time.Now().UTC(), Again: true}
			l.End = &state.LeaseEnd{Cause: state.EndDropped, Detail: "dropped", At: time.Now().UTC()}
			return errors.Join(tx.PutVM(ctx, *vm), tx.PutLease(ctx, *l))
		})
		time.Sleep(10 * time.Second)
		w.wantState(spec, state.VMStopped)
		if _, err := s.Allocate(t.Context(), "0xscheduler", list); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.wantState(spec, state.VMRunning)
	})
}

func TestAJobOfTheChainNeedsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.job(1)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		w.wantRefusal(s.Request(t.Context(), spec), executor.DoesNotStart)
		if _, err := w.db.Lease(t.Context(), spec); !errors.Is(err, errs.NotFound) {
			t.Errorf("the job has a lease: %v", err)
		}
	})
}

// TestTheMachineOfAJobStartsAgain after an order has stopped it, and not by itself.
func TestTheMachineOfAJobStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		spec := w.job(1)
		time.Sleep(3 * time.Second)
		if _, err := s.Stop(t.Context(), spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * time.Minute)
		w.wantState(spec, state.VMHalted)
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if vm := w.wantState(spec, state.VMRunning); vm.Halt != nil || w.host.Starts(string(spec)) != 2 {
			t.Errorf("the order is %+v after %d starts, want none and a second start", vm.Halt, w.host.Starts(string(spec)))
		}
		w.end(spec, state.JobStopped, "by its payer")
		time.Sleep(time.Minute)
		if err := s.Request(t.Context(), spec); err != nil {
			var r *executor.Refusal
			if !errors.As(err, &r) {
				t.Errorf("a request after the job has ended: %v", err)
			}
		}
		if w.host.Starts(string(spec)) > 3 {
			t.Errorf("%d starts", w.host.Starts(string(spec)))
		}
	})
}

// TestAnOrderOutlivesAQuestion: what the owner orders while the network is asked is
// not undone by the answer.
func TestAnOrderOutlivesAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ctx, spec := t.Context(), w.src.instance(1).ItemHash
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		if err := s.Expire(ctx, spec, "0xowner", time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		if l, err := w.db.Lease(ctx, spec); err != nil || l.Until == 0 {
			t.Errorf("lease is %+v (%v), want it to expire as its owner ordered", l, err)
		}
	})
}
