package executor_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	receiver = "0x1111111111111111111111111111111111111111"
	wallet   = "0x5aBd3258C5492fD378EBC2e0017416E199e5Da56"
)

// streaming is a world whose node takes streams.
func streaming(t *testing.T) (*world, *executor.Supervisor, func()) {
	t.Helper()
	w := newWorld(t)
	w.core = newCore()
	w.core.wallet = wallet
	w.cfg.LeaseRetention, w.cfg.Interval, w.cfg.Receiver = time.Minute, 30*time.Second, receiver
	s := w.supervisor()
	return w, s, w.run(s)
}

func (w *world) flow(node, community string) {
	w.core.set(func(c *core) { c.flows = map[string]string{receiver: node, wallet: community} })
}

// TestAStreamPaysTheNodeAndTheCommunity: a machine costs a token per second, of which
// four fifths flow to the node.
func TestAStreamPaysTheNodeAndTheCommunity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := streaming(t)
		defer stop()
		spec := w.src.streamed(1, "AVAX", receiver).ItemHash
		for _, tt := range []struct {
			node, community string
			want            executor.Why
		}{
			{"0", "1", executor.NoFlow},
			{"0.79999", "1", executor.TooLittleFlow},
			{"0.7999999998", "0.2", executor.TooLittleFlow},
			{"1", "0", executor.TooLittleForCommunity},
			{"0.8", "0.19999", executor.TooLittleForCommunity},
		} {
			w.flow(tt.node, tt.community)
			w.wantRefusal(s.Request(t.Context(), spec), tt.want)
		}
		w.wantRefusal(s.Request(t.Context(), w.src.streamed(2, "AVAX", wallet).ItemHash), executor.OtherReceiver)
		w.wantRefusal(s.Request(t.Context(), w.src.streamed(3, "ETH", receiver).ItemHash), executor.WrongChain)
		w.core.set(func(c *core) { c.flows = map[string]string{receiver: "1"} })
		w.wantRefusal(s.Request(t.Context(), spec), executor.NetworkAway)
		// Clients round: 10^-10 may lack.
		w.flow("0.7999999999", "0.1999999999")
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		w.pass(3 * time.Hour)
		w.wantState(spec, state.VMRunning)
	})
}

// TestWithoutACommunityAllFlowsToTheNode: so it is for machines that are older than its
// part, too.
func TestWithoutACommunityAllFlowsToTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := streaming(t)
		defer stop()
		w.core.set(func(c *core) { c.wallet = "" })
		spec := w.src.streamed(1, "AVAX", receiver).ItemHash
		w.flow("0.8", "0.2")
		w.wantRefusal(s.Request(t.Context(), spec), executor.TooLittleFlow)
		w.core.set(func(c *core) { c.flows = map[string]string{receiver: "1"} })
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Hour)
		w.core.set(func(c *core) {
			c.wallet, c.since = wallet, time.Now()
			c.flows = map[string]string{receiver: "1", wallet: "0"}
		})
		w.pass(3 * time.Hour)
		w.wantState(spec, state.VMRunning)
	})
}

// TestWhoDoesNotKnowTheCommunityIsNoEvidence: four fifths flow where there is one, and
// who was asked may not have heard of it.
func TestWhoDoesNotKnowTheCommunityIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := streaming(t)
		defer stop()
		spec := w.src.streamed(1, "AVAX", receiver).ItemHash
		w.flow("0.8", "0.2")
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		w.core.set(func(c *core) { c.wallet = "" })
		w.pass(5 * time.Hour)
		w.wantState(spec, state.VMRunning)
		w.flow("0.7", "0.2")
		w.pass(5 * time.Hour)
		w.wantState(spec, state.VMPaused)
	})
}

// TestStreamsStopOnEvidenceOnly: the younger of two machines stops when too little flows
// to either side, after its grace; while one of the flows is not told, nothing does.
func TestStreamsStopOnEvidenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := streaming(t)
		defer stop()
		older, younger := w.src.streamed(1, "AVAX", receiver).ItemHash, w.src.streamed(2, "AVAX", receiver).ItemHash
		w.flow("1.6", "0.4")
		if err := s.Request(t.Context(), older); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if err := s.Request(t.Context(), younger); err != nil {
			t.Fatal(err)
		}
		// The node's flow is gone, and nobody tells of the other: that is doubt.
		w.core.set(func(c *core) { c.flows = map[string]string{receiver: "0"} })
		w.pass(5 * time.Hour)
		w.wantState(older, state.VMRunning)
		w.wantState(younger, state.VMRunning)
		w.core.set(func(c *core) { c.away = errs.New(errs.Unavailable, "away") })
		w.pass(5 * time.Hour)
		w.wantState(older, state.VMRunning)
		w.core.set(func(c *core) { c.away = nil })
		w.flow("1.6", "0.2")
		w.pass(30 * time.Minute)
		w.wantState(younger, state.VMRunning)
		w.pass(2 * time.Hour)
		w.wantState(younger, state.VMPaused)
		w.wantState(older, state.VMRunning)
		w.flow("1.6", "0.4")
		w.pass(10 * time.Minute)
		w.wantState(younger, state.VMRunning)
	})
}
