package executor_test

import (
	"context"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

func TestAnAcceptanceIsSignedKeptAndRepeatable(t *testing.T) {
	w := newWorld(t)
	s := w.supervisor()
	ask := w.ask(1, nil)

	first, second := s.Accept(t.Context(), peerOf(t, coordinator), ask), s.Accept(t.Context(), peerOf(t, coordinator), ask)

	word := job.Accept(*ask.Assignment)
	if err := job.Verify(domain(), &word, first.Signature, address(t, self)); err != nil || !first.Accepted {
		t.Fatalf("reply is %+v: %v", first, err)
	}
	if string(first.Signature) != string(second.Signature) {
		t.Error("the same question got two answers")
	}
	later := w.ask(1, func(a *job.Ask) { a.Assignment.Deadline += 50 })
	if r := s.Accept(t.Context(), peerOf(t, coordinator), later); !r.Accepted {
		t.Errorf("later terms were declined: %s", r.Reason)
	}
	if r := s.Accept(t.Context(), peerOf(t, coordinator), ask); string(r.Signature) != string(first.Signature) {
		t.Error("the first question got another answer later")
	}
	kept, err := w.db.Acceptances(t.Context())
	if err != nil || len(kept) != 1 || kept[0].Until != later.Assignment.Deadline || kept[0].Resources.MemoryMiB != 512 {
		t.Errorf("acceptances are %+v (%v), want one until the later deadline", kept, err)
	}
}

// Whoever could ask in a coordinator's name could keep the whole node taken.
func TestOnlyThePeerOfTheCoordinatorMayAsk(t *testing.T) {
	w := newWorld(t)
	s := w.supervisor()
	w.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutNode(ctx, state.Node{
			ID: 2, Kind: state.KindCoordinator, Status: state.NodeActive, PeerIDHash: crypto.Keccak256Hash(peerOf(t, 2).Bytes()),
		})
	})
	raw, err := json.Marshal(w.ask(1, nil))
	if err != nil {
		t.Fatal(err)
	}

	for _, from := range []p2p.PeerID{peerOf(t, self), peerOf(t, 2), ""} {
		a, err := s.Answers()[job.AskAccept](t.Context(), from, raw)
		r, ok := a.Reply.(*job.Reply)
		if err != nil || !ok || r.Accepted || !strings.Contains(r.Reason, "only that one may ask") {
			t.Errorf("peer %q got %+v (%v), want a refusal", from, a.Reply, err)
		}
	}
	kept, err := w.db.Acceptances(t.Context())
	if err != nil || len(kept) != 0 {
		t.Errorf("acceptances are %+v (%v), want none", kept, err)
	}
	a, err := s.Answers()[job.AskAccept](t.Context(), peerOf(t, coordinator), raw)
	if r, ok := a.Reply.(*job.Reply); err != nil || !ok || !r.Accepted {
		t.Errorf("the coordinator got %+v (%v), want a yes", a.Reply, err)
	}
}

func TestAJobIsDeclinedWithAReason(t *testing.T) {
	setNode := func(w *world, n state.Node) {
		w.update(func(ctx context.Context, tx *state.Tx) error { return tx.PutNode(ctx, n) })
	}
	tests := []struct {
		name  string
		world func(*world)
		edit  func(*job.Ask)
		want  string
	}{
		{"no message", nil, func(a *job.Ask) { a.Message = nil }, "lacks the message"},
		{"forged message", nil, func(a *job.Ask) { m := *a.Message; m.Sender = address(t, 5).Hex(); a.Message = &m }, "not its sender's"},
		{"changed message", nil, func(a *job.Ask) { m := *a.Message; m.ItemContent += " "; a.Message = &m }, "the message is not valid"},
		{"forged offer", nil, func(a *job.Ask) { a.OfferSignature = make([]byte, 65) }, "the offer is not good"},
		{"somebody else's offer", nil, func(a *job.Ask) { a.Offer.Payer = address(t, 5) }, "the offer is not good"},
		{"other spec", nil, func(a *job.Ask) { a.Assignment.Spec = message.HashOf(nil) }, "the terms are for"},
		{"other node", nil, func(a *job.Ask) { a.Assignment.NodeID = 4 }, "the terms name node 4"},
		{"pinned elsewhere", nil, func(a *job.Ask) { a.Offer.NodeHint = 4 }, "the offer names node 4"},
		{"other token", nil, func(a *job.Ask) { a.Offer.Token = 2 }, "token 2 is not taken"},
		{"rate above the offer", nil, func(a *job.Ask) { a.Assignment.RateQ32 = new(big.Int).Lsh(big.NewInt(1), 111) }, "above the offer's ceiling"},
		{"rate below the price", nil, func(a *job.Ask) { a.Assignment.RateQ32 = big.NewInt(1) }, "wei per second, the terms offer 0"},
		{"late", nil, func(a *job.Ask) { a.Assignment.Deadline = chainNow }, "the terms ended at"},
		{"beyond the offer", nil, func(a *job.Ask) { a.Assignment.Deadline = chainNow + 601 }, "after the offer"},
		{"too long", nil, func(a *job.Ask) { a.Assignment.Deadline, a.Offer.Deadline = chainNow+901, chainNow+901 }, "kept until"},
		{"unknown coordinator", nil, func(a *job.Ask) { a.Assignment.CoordID = 9 }, "coordinator 9 is not registered"},
		{"not a coordinator", nil, func(a *job.Ask) { a.Assignment.CoordID = self }, "node 3 is no active coordinator"},
		{"draining", func(w *world) {
			setNode(w, state.Node{ID: self, Kind: state.KindCompute, Status: state.NodeDraining})
		}, nil, "the node is draining"},
		{"behind", func(w *world) { w.synced.Store(false) }, nil, "behind the chain"},
		{"on chain", func(w *world) { w.job(1) }, nil, "the chain has the job already"},
		{"here already", func(w *world) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				return tx.PutVM(ctx, state.VM{Spec: w.src.instance(1).ItemHash, State: state.VMFailed})
			})
		}, nil, "a machine of this job, which is failed"},
		{"promised to another", func(w *world) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				return tx.PutAcceptance(ctx, state.Acceptance{Spec: w.src.instance(1).ItemHash, CoordID: 2, Until: chainNow + 60})
			})
		}, nil, "promised to coordinator 2"},
		{"no vCPUs", func(w *world) { w.fill(state.Resources{VCPUs: 64}) }, nil, "needs 1 vCPUs, 0 are free"},
		{"no memory", func(w *world) { w.fill(state.Resources{MemoryMiB: 65536}) }, nil, "needs 512 MiB of memory, 0 are free"},
		{"no disk", func(w *world) { w.fill(state.Resources{DiskMiB: 1_000_000}) }, nil, "needs 1000 MiB of disk, 0 are free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.world != nil {
				tt.world(w)
			}

			r := w.supervisor().Accept(t.Context(), peerOf(t, coordinator), w.ask(1, tt.edit))

			if r.Accepted || r.Error != "" || !strings.Contains(r.Reason, tt.want) {
				t.Errorf("reply is %+v, want a reason with %q", r, tt.want)
			}
		})
	}
}

// fill promises resources to some other job.
func (w *world) fill(r state.Resources) {
	w.t.Helper()
	w.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutAcceptance(ctx, state.Acceptance{Spec: message.HashOf([]byte("other")), Resources: r, Until: chainNow + 60})
	})
}

func TestContentThatCannotRunIsDeclined(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"hypervisor", `"aleph_api":false`, `"aleph_api":false,"hypervisor":"firecracker"`, "no firecracker driver"},
		{"payment", `"type":"credit"`, `"type":"hold"`, "payment by hold"},
		{"volumes", `"volumes":[]`, `"volumes":[{"ephemeral":true,"size_mib":10,"mount":"/x"}]`, "no node attaches volumes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			env := w.src.content(strings.Replace(w.src.instance(1).ItemContent, tt.old, tt.new, 1))

			r := w.supervisor().Accept(t.Context(), peerOf(t, coordinator), w.askFor(env, nil))

			if r.Accepted || !strings.Contains(r.Reason, tt.want) {
				t.Errorf("reply is %+v, want a reason with %q", r, tt.want)
			}
		})
	}
}

func TestAPromiseKeepsResourcesUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.VCPUs = 1
		w.supervisorAccept(1)
		if r := w.supervisor().Accept(t.Context(), peerOf(t, coordinator), w.ask(2, nil)); r.Accepted {
			t.Error("the same vCPU was promised twice")
		}
		stop := w.start()
		defer stop()
		time.Sleep(time.Second)
		if ad := w.ads.last(); ad.VCPUsFree != 0 || ad.VCPUsTotal != 1 {
			t.Errorf("ad says %d of %d vCPUs are free, want 0 of 1", ad.VCPUsFree, ad.VCPUsTotal)
		}
		w.block(301)
		time.Sleep(3 * time.Second)

		if ad := w.ads.last(); ad.VCPUsFree != 1 {
			t.Errorf("ad says %d vCPUs are free, want 1", ad.VCPUsFree)
		}
		if r := w.supervisor().Accept(t.Context(), peerOf(t, coordinator), w.ask(2, nil)); !r.Accepted {
			t.Errorf("node declined: %s", r.Reason)
		}
	})
}

func TestAnEndedJobFreesItsPromiseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Retention = time.Second
		w.supervisorAccept(1)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		w.end(spec, state.JobStopped, "stopped")

		time.Sleep(10 * time.Second)

		w.wantNothing()
		if ad := w.ads.last(); ad.VCPUsFree != 64 || ad.DiskFreeMiB != 1_000_000 {
			t.Errorf("ad says %d vCPUs and %d MiB of disk are free, want all", ad.VCPUsFree, ad.DiskFreeMiB)
		}
	})
}

func TestCapacityIsAdvertisedOnChangeAndRegularly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start()
		defer stop()
		time.Sleep(time.Second)
		if n := w.ads.count(); n != 1 {
			t.Errorf("%d ads at the start, want 1", n)
		}
		ad := w.ads.last()
		if err := ad.Verify(address(t, self)); err != nil || ad.Draining || ad.PublicIP != "192.0.2.7" {
			t.Errorf("ad is %+v (%v), want a signed one", ad, err)
		}
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutNode(ctx, state.Node{ID: self, Kind: state.KindCompute, Status: state.NodeDraining})
		})
		time.Sleep(time.Second)
		if !w.ads.last().Draining || w.ads.count() != 2 {
			t.Errorf("%d ads, draining %v; want 2, true", w.ads.count(), w.ads.last().Draining)
		}
		spec := w.job(1)
		time.Sleep(3 * time.Second)
		w.wantState(spec, state.VMRunning)
		if ad := w.ads.last(); ad.MemoryFreeMiB != 65536-512 || ad.DiskFreeMiB != 1_000_000-1000 {
			t.Errorf("ad says %d MiB of memory and %d of disk are free", ad.MemoryFreeMiB, ad.DiskFreeMiB)
		}
		n := w.ads.count()
		time.Sleep(time.Minute)
		if got := w.ads.count() - n; got < 5 || got > 7 {
			t.Errorf("%d ads in a quiet minute, want 6", got)
		}
	})
}

func TestTheOwnerReadsTheConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		s := w.supervisor()
		target := "/api/v1/jobs/" + string(spec) + "/logs?follow=1"
		sign := func(key int, target string) string {
			header, err := operator.Sign(keyOf(t, key), http.MethodGet, target, time.Now().Add(time.Minute), "one nonce")
			if err != nil {
				t.Fatal(err)
			}
			return header
		}
		for _, r := range []executor.LogRequest{
			{Spec: spec, Authorization: sign(5, target), Method: http.MethodGet, Target: target},
			{Spec: spec, Authorization: sign(payerKey, target), Method: http.MethodGet, Target: target + "0"},
			{Spec: spec, Authorization: sign(payerKey, target), Method: http.MethodPost, Target: target},
			{Spec: spec, Authorization: sign(payerKey, "/other"), Method: http.MethodGet, Target: "/other"},
			{Spec: spec, Authorization: "Bearer x", Method: http.MethodGet, Target: target},
		} {
			if _, err := s.Logs(t.Context(), r); errs.KindOf(err) != errs.Denied {
				t.Errorf("request %+v gave %v, want it denied", r, err)
			}
		}
		unknown := message.HashOf([]byte("unknown"))
		other := "/api/v1/jobs/" + string(unknown) + "/logs"
		_, err := s.Logs(t.Context(), executor.LogRequest{Spec: unknown, Authorization: sign(payerKey, other), Method: http.MethodGet, Target: other})
		if errs.KindOf(err) != errs.NotFound {
			t.Errorf("logs of an unknown job gave %v, want not found", err)
		}

		logs, err := s.Logs(t.Context(), executor.LogRequest{
			Spec: spec, Follow: true, Authorization: sign(payerKey, target), Method: http.MethodGet, Target: target,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer logs.Close()
		if err := w.host.Print(string(spec), "hello\n"); err != nil {
			t.Fatal(err)
		}
		w.host.Die(string(spec), "over")
		text, err := io.ReadAll(logs)
		if err != nil || !strings.Contains(string(text), "hello") {
			t.Errorf("console says %q (%v), want hello", text, err)
		}
	})
}

func TestThePayerOfAPromisedJobOwnsIt(t *testing.T) {
	w := newWorld(t)
	w.supervisorAccept(1)
	spec := w.src.instance(1).ItemHash
	target := "/api/v1/jobs/" + string(spec) + "/logs"
	header, err := operator.Sign(keyOf(t, payerKey), http.MethodGet, target, time.Now().Add(time.Minute), "one nonce")
	if err != nil {
		t.Fatal(err)
	}

	_, err = w.supervisor().Logs(t.Context(), executor.LogRequest{Spec: spec, Authorization: header, Method: http.MethodGet, Target: target})

	if errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), "no VM") {
		t.Errorf("logs gave %v, want that there is no VM yet", err)
	}
}

func TestStatusOfWhatIsGoneIsItsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.supervisorAccept(1)
		spec := w.job(1)
		s := w.supervisor()
		stop := w.run(s)
		defer stop()
		time.Sleep(3 * time.Second)
		w.setJob(spec, func(j *state.Job) { j.Status, j.StoppedAt = state.JobStopped, w.head })
		w.block(10)
		time.Sleep(2 * time.Minute)
		if _, err := w.db.VM(t.Context(), spec); errs.KindOf(err) != errs.NotFound {
			t.Fatalf("the machine is still there: %v", err)
		}
		vm, err := s.Status(t.Context(), spec)
		if err != nil || vm.State != "gone" || len(vm.History) < 3 || vm.History[len(vm.History)-1].To != "stopped" {
			t.Fatalf("status is %+v (%v), want gone with its history", vm, err)
		}

		// However long and whatever it is, it fits into an answer.
		w.update(func(ctx context.Context, tx *state.Tx) error {
			for i := range 60 {
				e := state.VMEvent{Spec: spec, Seq: 100 + i, At: time.Now(), From: state.VMStopped, To: state.VMWanted, Cause: strings.Repeat("\u00e9", 400) + "\xff"}
				if err := tx.AddVMEvent(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
		if vm, err = s.Status(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(job.Reply{VM: vm})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := job.ParseReply(raw); err != nil || len(r.VM.History) != job.HistoryMax || !strings.HasSuffix(r.VM.History[0].Cause, "\u00e9...") {
			t.Errorf("its answer: %v, want %d steps whose causes are cut between characters", err, job.HistoryMax)
		}
	})
}

func TestStatusShowsTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.supervisorAccept(1)
		spec := w.job(1)
		stop := w.start()
		defer stop()
		time.Sleep(3 * time.Second)
		s := w.supervisor()

		vm, err := s.Status(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if vm.State != "running" || vm.Accelerator != "tcg" || len(vm.Ports) != 3 || vm.Ports[0].Guest != 22 || vm.Ports[0].HostIP != "127.0.0.1" {
			t.Errorf("status is %+v, want a running machine with its ports", vm)
		}
		if _, ok := vm.TimingsMS["accept"]; !ok {
			t.Errorf("timings %v lack accept", vm.TimingsMS)
		}
		if h := vm.History; len(h) < 3 || h[0].To != "wanted" || h[0].Cause == "" || h[len(h)-1].To != "running" || h[len(h)-1].At == 0 {
			t.Errorf("history is %+v, want all from wanted to running", h)
		}
		if _, err := s.Status(t.Context(), message.HashOf(nil)); errs.KindOf(err) != errs.NotFound {
			t.Errorf("status of an unknown job gave %v, want not found", err)
		}
		if got := s.Totals(); got.VCPUs != 64 {
			t.Errorf("totals are %+v, want 64 vCPUs", got)
		}
	})
}

func TestUsageHasNoGapAndNoOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.job(1)
		stop := w.start()
		defer func() { stop() }()
		time.Sleep(3 * time.Second)
		w.block(7)
		from := w.head
		w.startBilling(spec)
		for i := range 40 {
			w.block(301)
			time.Sleep(11 * time.Second)
			w.wantUsage(spec, from, w.head)
			if i%7 == 6 {
				stop()
				w.reopen()
				stop = w.start()
			}
		}
		w.block(50)
		w.end(spec, state.JobStopped, "stopped")
		time.Sleep(3 * time.Second)
		w.wantUsage(spec, from, w.head)
		// The chain moves the end back, then the start.
		w.setJob(spec, func(j *state.Job) { j.StoppedAt -= 4000 })
		time.Sleep(3 * time.Second)
		w.wantUsage(spec, from, w.head-4000)
		w.setJob(spec, func(j *state.Job) { j.StartedAt += 5 })
		time.Sleep(3 * time.Second)
		w.wantUsage(spec, from+5, w.head-4000)
	})
}

func (w *world) wantUsage(spec message.ItemHash, from, to uint64) {
	w.t.Helper()
	rows, err := w.db.Usages(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	at := from
	for _, u := range rows {
		if u.From != at || u.To <= u.From || u.To-u.From > 3600 || u.NodeID != self {
			w.t.Fatalf("usage goes from %d to %d by node %d, want it to start at %d", u.From, u.To, u.NodeID, at)
		}
		at = u.To
	}
	if at != to {
		w.t.Fatalf("usage ends at %d, want %d", at, to)
	}
}

func TestTheHostIsDetectedUnlessToldOtherwise(t *testing.T) {
	w := newWorld(t)
	w.cfg.VCPUs, w.cfg.MemoryMiB, w.cfg.DiskMiB, w.cfg.ReserveMemoryMiB, w.cfg.ReserveDiskMiB = 0, 0, 0, 0, 0
	w.cfg.OvercommitPercent = 200

	got := w.supervisor().Totals()

	if got.VCPUs < 2 || got.VCPUs%2 != 0 || got.MemoryMiB < 64 || got.DiskMiB < 1 {
		t.Errorf("host has %+v, want twice its CPUs, memory and disk", got)
	}
	w.cfg.ReserveMemoryMiB = 1 << 28
	if got := w.supervisor().Totals().MemoryMiB; got != 0 {
		t.Errorf("%d MiB are offered under a reserve that takes all, want 0", got)
	}
}

func TestADirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(w.dir+"/vms", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := executor.New(w.cfg, executor.Self{Root: w.dir + "/vms/x", ImageCache: w.dir}, executor.Parts{DB: w.db}, nil, nil); err == nil {
		t.Error("New made a directory below a file")
	}
}

func TestConfigNamesWhatCannotWork(t *testing.T) {
	if err := executor.DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	tests := []struct {
		want string
		edit func(*executor.Config)
	}{
		{"interval", func(c *executor.Config) { c.Interval = 0 }},
		{"backoff_max", func(c *executor.Config) { c.BackoffMax = c.BackoffMin - 1 }},
		{"overcommit_percent", func(c *executor.Config) { c.OvercommitPercent = 99 }},
		{"price_bps", func(c *executor.Config) { c.PriceBps = 0 }},
		{"on_exit", func(c *executor.Config) { c.OnExit = "explode" }},
	}
	for _, tt := range tests {
		c := executor.DefaultConfig()
		tt.edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Validate gave %v, want it to name %s", err, tt.want)
		}
	}
}
