package scheduler_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func TestAnOfferBecomesOneDecisionAndOneTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		w.node(4, nil)
		w.node(5, nil)
		spec := w.offer(1, nil)

		w.run(time.Second)

		w.wantStatus(spec, state.OfferDecided)
		d := w.decision(spec)
		if len(d.Candidates) != 3 || d.Seed == (common.Hash{}) {
			t.Fatalf("decision has %d candidates and seed %s, want 3 and one", len(d.Candidates), d.Seed)
		}
		for _, c := range d.Candidates {
			if c.Chosen != (c.NodeID == d.NodeID) || !c.Eligible || c.Reason == "" || c.Score == "" {
				t.Errorf("candidate %+v does not tell why, node %d was chosen", c, d.NodeID)
			}
		}
		i, err := w.db.Intent(t.Context(), scheduler.OpenKey(spec))
		if err != nil {
			t.Fatal(err)
		}
		checkOpen(t, i, d)
	})
}

// checkOpen reads the arguments of open as the contract would.
func checkOpen(t *testing.T, i *state.Intent, d *state.Decision) {
	t.Helper()
	var args []json.RawMessage
	if err := json.Unmarshal(i.Args, &args); err != nil || len(args) != 5 {
		t.Fatalf("open has %d arguments (%v), want 5", len(args), err)
	}
	var terms map[string]string
	var accept, coords job.Signature
	var entry string
	for n, into := range map[int]any{2: &terms, 3: &accept, 4: &entry} {
		if err := json.Unmarshal(args[n], into); err != nil {
			t.Fatal(err)
		}
	}
	raw := common.FromHex(entry)
	if len(raw) != 69 || binary.BigEndian.Uint32(raw) != coordinator {
		t.Fatalf("coordinators' signatures have %d bytes, want 69 that start with the id", len(raw))
	}
	coords = raw[4:]
	word := job.Terms{Spec: d.Spec, NodeID: d.NodeID, RateQ32: d.RateQ32, CoordID: coordinator, Deadline: d.Deadline}
	if err := job.Verify(domain(), (*job.Assignment)(&word), coords, address(t, coordinator)); err != nil {
		t.Errorf("assignment: %v", err)
	}
	if err := job.Verify(domain(), (*job.Accept)(&word), accept, address(t, int(d.NodeID))); err != nil {
		t.Errorf("accept: %v", err)
	}
	if terms["nodeId"] != fmt.Sprint(d.NodeID) || terms["rateQ32"] != d.RateQ32.String() || terms["spec"] != "0x"+string(d.Spec) {
		t.Errorf("terms are %v, want those of the decision", terms)
	}
	if i.Contract != "JobManager" || i.Method != "open" || i.Deadline != d.Deadline || i.Reason == "" {
		t.Errorf("intent is %s.%s until %d because %q, want JobManager.open until %d with a reason", i.Contract, i.Method, i.Deadline, i.Reason, d.Deadline)
	}
}

func TestEveryNodeThatIsNotChosenHasAReason(t *testing.T) {
	tests := []struct {
		name string
		edit func(*state.Node, *wire.CapacityAd)
		want string
	}{
		{"draining", func(n *state.Node, _ *wire.CapacityAd) { n.Status = state.NodeDraining }, "is draining in the registry"},
		{"says it drains", func(_ *state.Node, a *wire.CapacityAd) { a.Draining = true }, "it is draining"},
		{"silent", func(_ *state.Node, a *wire.CapacityAd) { a.NodeID = 0 }, "has not advertised"},
		{"gone", func(_ *state.Node, a *wire.CapacityAd) { a.AtMS -= 60_000 }, "last advertised at"},
		{"few vCPUs", func(_ *state.Node, a *wire.CapacityAd) { a.VCPUsFree = 1 }, "needs 2 vCPUs, 1 are free"},
		{"little memory", func(_ *state.Node, a *wire.CapacityAd) { a.MemoryFreeMiB = 5 }, "needs 2048 MiB of memory, 5 are free"},
		{"little disk", func(_ *state.Node, a *wire.CapacityAd) { a.DiskFreeMiB = 9 }, "needs 10000 MiB of disk, 9 are free"},
		{"dear", func(_ *state.Node, a *wire.CapacityAd) { a.PriceBps *= 10 }, "the offer's ceiling is"},
		{"no price", func(_ *state.Node, a *wire.CapacityAd) { a.PriceBps = 0 }, "names no price"},
		{"no score", func(_ *state.Node, a *wire.CapacityAd) { a.ScoreBps = 0 }, "score of zero"},
		{"other driver", func(_ *state.Node, a *wire.CapacityAd) { a.Drivers = []string{"firecracker"} }, "has no qemu driver, only firecracker"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node(3, tt.edit)
				w.node(4, nil)
				// The ceiling is the table price: ask for it first.
				q, err := w.planner().Quote(t.Context(), parse(t, instance(1)), "", 4)
				if err != nil {
					t.Fatal(err)
				}
				spec := w.offer(1, func(o *state.Offer) { o.MaxRateQ32 = q.Flow.RateQ32 })

				w.run(time.Second)

				d := w.decision(spec)
				if d.NodeID != 4 {
					t.Errorf("node %d was chosen, want 4", d.NodeID)
				}
				if c := d.Candidates[0]; c.Eligible || !strings.Contains(c.Reason, tt.want) {
					t.Errorf("candidate is %+v, want a reason with %q", c, tt.want)
				}
			})
		})
	}
}

func parse(t testing.TB, content string) *message.Instance {
	t.Helper()
	i, err := message.ParseInstance([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAPinnedNodeIsTakenWithoutARace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for id := uint32(3); id < 10; id++ {
			w.node(id, nil)
		}
		spec := w.offer(1, func(o *state.Offer) { o.NodeHint = 7 })

		w.run(time.Second)

		if d := w.decision(spec); d.NodeID != 7 || !strings.Contains(d.Reason, "the offer names it") {
			t.Errorf("node %d was chosen (%s), want 7 because the offer names it", d.NodeID, d.Reason)
		}
	})
}

func TestANodeThatSaysNoIsPassedOver(t *testing.T) {
	tests := []struct {
		name string
		say  answer
		want string
	}{
		{"declines", declines("no more disk"), "declined: no more disk"},
		{"away", func(context.Context, *job.Ask) (*job.Reply, error) { return nil, errors.New("no route") }, "could not be asked: no route"},
		{"broken", func(context.Context, *job.Ask) (*job.Reply, error) { return &job.Reply{Error: "oops"}, nil }, "could not answer: oops"},
		{"hangs", func(ctx context.Context, _ *job.Ask) (*job.Reply, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, "could not be asked: context deadline exceeded"},
		{"lies", func(_ context.Context, ask *job.Ask) (*job.Reply, error) {
			word := job.Accept(*ask.Assignment)
			word.RateQ32 = new(big.Int).Add(word.RateQ32, big.NewInt(1))
			sig, err := job.Sign(keyOf(t, int(word.NodeID)), domain(), &word)
			return &job.Reply{Accepted: true, Signature: sig}, err
		}, "a signature that is not its own"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node(3, nil)
				w.node(4, nil)
				w.asks.set(3, tt.say)
				var specs []message.ItemHash
				for n := range 6 {
					specs = append(specs, w.offer(n, nil))
				}
				w.cfg.AskParallel = 1
				w.node(4, func(_ *state.Node, a *wire.CapacityAd) {
					a.VCPUsTotal, a.VCPUsFree, a.MemoryTotalMiB, a.MemoryFreeMiB = 64, 64, 65536, 65536
				})

				w.run(time.Minute + time.Second)

				found := false
				for _, spec := range specs {
					d := w.decision(spec)
					if d.NodeID != 4 {
						t.Errorf("node %d was chosen, want 4", d.NodeID)
					}
					found = found || strings.Contains(d.Candidates[0].Reason, tt.want)
				}
				if !found {
					t.Errorf("no decision says %q", tt.want)
				}
			})
		})
	}
}

func TestAnOfferThatNobodyTakesWaitsAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		w.asks.set(3, declines("busy"))
		spec := w.offer(1, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		go func() {
			time.Sleep(5 * time.Second)
			if o := w.wantStatus(spec, state.OfferOffered); !strings.Contains(o.Reason, "node 3 declined: busy") || len(o.Candidates) != 1 {
				t.Errorf("offer says %q with %d candidates, want that node 3 is busy", o.Reason, len(o.Candidates))
			}
			w.asks.set(3, nil)
		}()

		if err := w.planner().Run(ctx); ctx.Err() == nil {
			t.Fatal(err)
		}

		w.wantStatus(spec, state.OfferDecided)
		if got := len(w.asks.order()); got != 2 {
			t.Errorf("node was asked %d times, want 2", got)
		}
	})
}

func TestANodeThatWasAwayIsAskedAgainWhenItIsHeardOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first answer
		want  state.OfferStatus // Before the pause after a refusal is over.
	}{
		{"away", func(context.Context, *job.Ask) (*job.Reply, error) { return nil, errors.New("no route") }, state.OfferDecided},
		{"declined", declines("busy"), state.OfferOffered},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node(3, nil)
				w.asks.set(3, tt.first)
				spec := w.offer(1, nil)
				ctx, cancel := context.WithTimeout(t.Context(), w.cfg.DeclineRetry-time.Second)
				defer cancel()
				go func() {
					time.Sleep(5 * time.Second)
					w.asks.set(3, nil)
					w.node(3, nil)
				}()

				if err := w.planner().Run(ctx); ctx.Err() == nil {
					t.Fatal(err)
				}

				w.wantStatus(spec, tt.want)
			})
		})
	}
}

func TestNewCapacityIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := w.offer(1, nil)
		w.cfg.Interval = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() {
			time.Sleep(time.Second)
			if o := w.row(spec); o.Reason != "no compute node is registered" {
				t.Errorf("offer says %q, want that no node is registered", o.Reason)
			}
			w.node(3, nil)
		}()

		if err := w.planner().Run(ctx); ctx.Err() == nil {
			t.Fatal(err)
		}

		w.wantStatus(spec, state.OfferDecided)
	})
}

func TestAnOfferIsRefusedWithTheReason(t *testing.T) {
	tests := []struct {
		name string
		do   func(*world, message.ItemHash)
		want string
	}{
		{"late", func(w *world, _ message.ItemHash) { w.block(2, chainNow+601) }, "deadline passed at"},
		{"rejected message", func(w *world, spec message.ItemHash) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				m, err := tx.Message(ctx, spec)
				if err != nil {
					return err
				}
				return errors.Join(tx.RemoveMessage(ctx, m), tx.PutRejected(ctx, state.Rejected{
					Hash: spec, Envelope: json.RawMessage(`{}`), Code: message.CodeInvalidSignature, Details: json.RawMessage(`{"errors":["not hers"]}`),
				}))
			})
		}, "the message was rejected: invalid signature (code 1): not hers"},
		{"forgotten message", func(w *world, spec message.ItemHash) {
			w.update(func(ctx context.Context, tx *state.Tx) error {
				m, err := tx.Message(ctx, spec)
				if err != nil {
					return err
				}
				return errors.Join(tx.RemoveMessage(ctx, m), tx.PutSkeleton(ctx, state.Skeleton{Status: state.MessageForgotten, Envelope: m.Envelope}))
			})
		}, "the message was forgotten"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				spec := w.offer(1, nil)
				tt.do(w, spec)

				w.run(time.Second)

				if o := w.wantStatus(spec, state.OfferRefused); !strings.Contains(o.Reason, tt.want) {
					t.Errorf("offer is refused because %q, want %q", o.Reason, tt.want)
				}
			})
		})
	}
}

func TestAnOfferWaitsForItsMessage(t *testing.T) {
	for _, status := range []state.MessageStatus{state.MessagePending, ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.node(3, nil)
			spec := w.offer(1, nil)
			w.update(func(ctx context.Context, tx *state.Tx) error {
				o, err := tx.Offer(ctx, spec)
				if err != nil {
					return err
				}
				if status == "" { // A spec without any message.
					o.Spec = message.HashOf([]byte("unknown"))
					spec = o.Spec
					return tx.PutOffer(ctx, *o)
				}
				m, err := tx.Message(ctx, spec)
				if err != nil {
					return err
				}
				return errors.Join(tx.RemoveMessage(ctx, m), tx.PutPending(ctx, state.Pending{Key: "k", Hash: spec, Envelope: json.RawMessage(`{}`)}))
			})

			w.run(time.Second)

			if o := w.wantStatus(spec, state.OfferOffered); !strings.Contains(o.Reason, "not been processed") {
				t.Errorf("offer says %q, want that it waits for the message", o.Reason)
			}
		})
	}
}

// A crash between the node's answer and the commit loses the answer; the next
// start asks the same node for the same terms.
func TestACrashBeforeTheCommitAsksTheSameNodeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for id := uint32(3); id < 20; id++ {
			w.node(id, nil)
		}
		spec := w.offer(1, nil)
		ctx, crash := context.WithCancel(t.Context())
		defer crash()
		var first *job.Ask
		for id := uint32(3); id < 20; id++ {
			w.asks.set(id, func(ctx context.Context, ask *job.Ask) (*job.Reply, error) {
				first = ask
				crash()
				return accepts(t)(ctx, ask)
			})
		}
		if err := w.planner().Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		w.wantStatus(spec, state.OfferOffered)
		w.reopen()
		w.block(2, chainNow+20)
		var second *job.Ask
		for id := uint32(3); id < 20; id++ {
			w.asks.set(id, func(ctx context.Context, ask *job.Ask) (*job.Reply, error) {
				second = ask
				return accepts(t)(ctx, ask)
			})
		}

		w.run(time.Second)

		w.wantStatus(spec, state.OfferDecided)
		if first.Assignment.NodeID != second.Assignment.NodeID {
			t.Errorf("node %d was asked after the crash, want %d again", second.Assignment.NodeID, first.Assignment.NodeID)
		}
	})
}

func TestADecisionIsNeverMadeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		w.node(4, nil)
		spec := w.offer(1, nil)
		w.run(time.Second)
		before := *w.decision(spec)
		w.reopen()

		w.run(time.Minute)

		if got := len(w.asks.order()); got != 1 {
			t.Errorf("nodes were asked %d times, want once", got)
		}
		if after := w.decision(spec); after.NodeID != before.NodeID || string(after.AcceptSig) != string(before.AcceptSig) {
			t.Errorf("decision changed from node %d to %d", before.NodeID, after.NodeID)
		}
		all, err := w.db.IntentsWith(t.Context(), 10, state.IntentPending)
		if err != nil || len(all) != 1 {
			t.Errorf("%d transactions (%v), want 1", len(all), err)
		}
	})
}

// TestAnOfferWithAnOldDecisionIsRefused has an offer that came in again after its
// decision came to nothing.
func TestAnOfferWithAnOldDecisionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		old := w.offer(1, nil)
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutDecision(ctx, state.Decision{Spec: old, NodeID: 3, RateQ32: big.NewInt(1)})
		})
		other := w.offer(2, nil)

		w.run(time.Second)

		if o := w.wantStatus(old, state.OfferRefused); !strings.Contains(o.Reason, "sign a new message") {
			t.Errorf("reason is %q, want what to do", o.Reason)
		}
		w.wantStatus(other, state.OfferDecided)
		if got := len(w.asks.order()); got != 1 {
			t.Errorf("nodes were asked %d times, want once, about the other", got)
		}
	})
}

// TestAFailureDelaysItsOwnOfferOnly places an offer that has no row, and one
// that has.
func TestAFailureDelaysItsOwnOfferOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		good, bad := w.offer(1, nil), w.offer(2, nil)
		p := w.planner()

		err := p.Place(t.Context(), state.Offer{Spec: message.HashOf(nil), Deadline: chainNow + 600}, *w.row(good))
		if err != nil {
			t.Fatal(err)
		}
		w.wantStatus(good, state.OfferDecided)
		p.Fail(t.Context(), *w.row(bad), errors.New("the disk is full"))
		if o := w.wantStatus(bad, state.OfferOffered); !strings.Contains(o.Reason, "failure of its own") || strings.Contains(o.Reason, "disk") {
			t.Errorf("reason is %q, want that this node failed, and not how", o.Reason)
		}
		next := w.offer(3, nil)
		if got, err := p.Next(t.Context()); err != nil || len(got) != 1 || got[0].Spec != next {
			t.Errorf("the next pass has %d offers, %v, want the new one", len(got), err)
		}
		time.Sleep(2 * w.cfg.Interval)
		if got, err := p.Next(t.Context()); err != nil || len(got) != 2 {
			t.Errorf("a later pass has %d offers, %v, want both", len(got), err)
		}
	})
}

// TestOffersThatNobodyTakesDoNotHideTheRest fills a pass with them.
func TestOffersThatNobodyTakesDoNotHideTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		for n := range scheduler.OffersMax {
			w.offer(n, func(o *state.Offer) { o.NodeHint = 9 })
		}
		spec := w.offer(scheduler.OffersMax, func(o *state.Offer) { o.ReceivedAt = o.ReceivedAt.Add(time.Second) })

		w.run(10 * time.Second)

		w.wantStatus(spec, state.OfferDecided)
	})
}

func TestWhatIsDecidedButNotMinedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AdMaxAge = time.Hour
		w.node(3, func(_ *state.Node, a *wire.CapacityAd) { a.VCPUsFree = 3 })
		first := w.offer(1, nil)
		w.run(time.Second)
		w.wantStatus(first, state.OfferDecided)
		second := w.offer(2, nil)

		w.run(10 * time.Second) // A new planner: it recalls the first.

		if o := w.wantStatus(second, state.OfferOffered); !strings.Contains(o.Reason, "needs 2 vCPUs, 1 are free") {
			t.Errorf("offer says %q, want that 1 vCPU is free", o.Reason)
		}
		w.node(3, func(_ *state.Node, a *wire.CapacityAd) { a.VCPUsFree = 2 }) // An ad that shows the first.
		w.run(time.Second)
		w.wantStatus(second, state.OfferDecided)
	})
}

func TestASlowNodeDelaysOnlyItsOwnOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		w.node(4, nil)
		w.asks.set(3, func(ctx context.Context, _ *job.Ask) (*job.Reply, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		slow := w.offer(1, func(o *state.Offer) { o.NodeHint = 3 })
		quick := w.offer(2, func(o *state.Offer) { o.NodeHint = 4 })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()

		if err := w.planner().Run(ctx); ctx.Err() == nil {
			t.Fatal(err)
		}

		w.wantStatus(quick, state.OfferDecided)
		w.wantStatus(slow, state.OfferOffered)
	})
}

func TestADecidedOfferEndsWithItsTransaction(t *testing.T) {
	tests := []struct {
		name    string
		status  state.IntentStatus
		onChain bool
		want    state.OfferStatus
		reason  string
	}{
		{"sent", state.IntentSent, true, state.OfferDecided, "chosen"},
		{"confirmed, event on the way", state.IntentConfirmed, false, state.OfferDecided, "chosen"},
		{"confirmed", state.IntentConfirmed, true, state.OfferOpened, "chosen"},
		{"refused", state.IntentReverted, false, state.OfferRefused, "Insufficient(have 1, need 2)"},
		{"opened by somebody else", state.IntentReverted, true, state.OfferOpened, "chosen"},
		{"too late", state.IntentExpired, false, state.OfferRefused, "not mined before its deadline"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node(3, nil)
				spec := w.offer(1, nil)
				w.run(time.Second)
				w.update(func(ctx context.Context, tx *state.Tx) error {
					if tt.onChain {
						if err := tx.PutJob(ctx, state.Job{Spec: spec, NodeID: 3, Status: state.JobAssigned}); err != nil {
							return err
						}
					}
					i, err := tx.Intent(ctx, scheduler.OpenKey(spec))
					if err != nil {
						return err
					}
					i.Status, i.Error = tt.status, "Insufficient(have 1, need 2)"
					return tx.PutIntent(ctx, *i)
				})

				w.run(time.Second)

				if o := w.wantStatus(spec, tt.want); !strings.Contains(o.Reason, tt.reason) {
					t.Errorf("offer says %q, want %q", o.Reason, tt.reason)
				}
			})
		})
	}
}

func TestMoreCoordinatorsThanSignaturesKeepTheOfferWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, nil)
		w.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutNode(ctx, state.Node{ID: 2, Kind: state.KindCoordinator, Status: state.NodeActive})
		})
		spec := w.offer(1, nil)

		w.run(time.Second)

		if o := w.wantStatus(spec, state.OfferOffered); !strings.Contains(o.Reason, "the signatures of 2 coordinators") || len(w.asks.order()) != 0 {
			t.Errorf("offer says %q after %d asks, want that a signature lacks, 0", o.Reason, len(w.asks.order()))
		}
	})
}

func TestAQuoteNamesPriceAndNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node(3, func(_ *state.Node, a *wire.CapacityAd) { a.PriceBps = 20_000 })
		w.node(4, func(n *state.Node, _ *wire.CapacityAd) { n.Status = state.NodeDraining })

		q, err := w.planner().Quote(t.Context(), parse(t, instance(1)), "", 0)
		if err != nil {
			t.Fatal(err)
		}

		if q.NodeID != 3 || len(q.Candidates) != 2 || q.PrepaySeconds != 3600 {
			t.Errorf("quote is for node %d of %d, prepaid %d s; want 3 of 2, 3600 s", q.NodeID, len(q.Candidates), q.PrepaySeconds)
		}
		if want := new(big.Int).Mul(q.Flow.WeiPerSecond, big.NewInt(3600)); q.PrepayWei.Cmp(want) != 0 {
			t.Errorf("prepay is %s wei, want %s", q.PrepayWei, want)
		}
		w.node(3, func(n *state.Node, _ *wire.CapacityAd) { n.Status = state.NodeExited })
		none, err := w.planner().Quote(t.Context(), parse(t, instance(1)), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		if none.NodeID != 0 || !strings.Contains(none.Reason, "no eligible node") || none.Flow.WeiPerSecond.Cmp(q.Flow.WeiPerSecond) >= 0 {
			t.Errorf("quote without a node is %+v, want the table price and the reason", none)
		}
	})
}

func TestAQuoteForWhatCannotRunIsInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := parse(t, instance(1))
		i.Payment.Type = message.PayHold

		_, err := w.planner().Quote(t.Context(), i, "", 0)

		if errs.KindOf(err) != errs.Invalid {
			t.Errorf("quote gave %v, want an invalid instance", err)
		}
	})
}

func TestConfigNamesWhatCannotWork(t *testing.T) {
	if err := scheduler.DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	tests := []struct {
		want string
		edit func(*scheduler.Config)
	}{
		{"interval", func(c *scheduler.Config) { c.Interval = 0 }},
		{"ask_timeout", func(c *scheduler.Config) { c.AskTimeout = 0 }},
		{"ask_parallel", func(c *scheduler.Config) { c.AskParallel = 0 }},
		{"decline_retry", func(c *scheduler.Config) { c.DeclineRetry = 0 }},
		{"ad_max_age", func(c *scheduler.Config) { c.AdMaxAge = time.Second }},
		{"accept_seconds", func(c *scheduler.Config) { c.AcceptSeconds = 5 }},
	}
	for _, tt := range tests {
		c := scheduler.DefaultConfig()
		tt.edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Validate gave %v, want it to name %s", err, tt.want)
		}
	}
}
