package ingest

import (
	"errors"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// TestWhoFailsIsAskedLater has peers fail again and again.
func TestWhoFailsIsAskedLater(t *testing.T) {
	failed, bad := &peerError{errors.New("away"), false}, &peerError{errors.New("order"), true}
	for _, tt := range []struct {
		name   string
		v      visit
		err    *peerError
		pauses []time.Duration
	}{
		{"nothing new", visit{}, nil, []time.Duration{time.Minute, time.Minute}},
		{"more to read", visit{more: true}, nil, []time.Duration{againAfter, againAfter}},
		{"more to ask for", visit{more: true, brought: 1}, nil, []time.Duration{0, 0}},
		{"refusals", visit{more: true, refused: 90}, nil, []time.Duration{90 * time.Second}},
		{"many refusals", visit{refused: 1e6}, nil, []time.Duration{pauseMax}},
		{"away", visit{}, failed, []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour}},
		{"out of order", visit{}, bad, []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour}},
		{"much asked for nothing", visit{rounds: visitIdle + 1, more: true}, nil, []time.Duration{againAfter, 2 * time.Minute, 4 * time.Minute}},
		{"enough was answered", visit{rounds: 1, more: true, busy: true}, nil, []time.Duration{busyPause}},
		{"nothing was answered", visit{more: true, busy: true}, nil, []time.Duration{time.Minute, time.Minute}},
		{"bad messages", visit{bad: 1, more: true}, nil, []time.Duration{time.Hour, 2 * time.Hour}},
	} {
		turn := &turnOf{}
		for i, want := range tt.pauses {
			if _, got := tt.v.judge(tt.err, turn, time.Minute); got != want {
				t.Errorf("%s, time %d: asked again in %v, want %v", tt.name, i+1, got, want)
			}
		}
		if (&visit{}).judge(nil, turn, time.Minute); turn.failures != 0 || turn.offences != 0 {
			t.Errorf("%s: a good visit leaves %+v", tt.name, turn)
		}
	}
}

// TestAPeerThatTakesLongForLittleHasFailed is about visits whose time is over.
func TestAPeerThatTakesLongForLittleHasFailed(t *testing.T) {
	for _, tt := range []struct {
		brought, rounds int
		want            bool
	}{{0, 0, true}, {visitLeast - 1, 0, true}, {visitLeast, 1, false}, {0, visitLeast, false}} {
		v := &visit{began: time.Now().Add(-visitMax - time.Second), brought: tt.brought, rounds: tt.rounds}
		if err := v.slow(); !v.isOver() || (err != nil) != tt.want {
			t.Errorf("%d messages and %d answers: %v", tt.brought, tt.rounds, err)
		}
	}
}

// TestAPeerIsAnsweredSoMuch: then it has to wait, and others do not.
func TestAPeerIsAnsweredSoMuch(t *testing.T) {
	var a allowances
	now := time.Unix(1_700_000_000, 0)
	ask := func(peer p2p.PeerID, rows int, want bool) {
		t.Helper()
		err := a.begin(peer, now)
		if (err == nil) != want || err != nil && !errors.Is(err, errs.Exhausted) {
			t.Errorf("%s at %v: %v, want it to be answered: %v", peer, now, err, want)
		}
		if err == nil {
			a.end(peer, rows)
		}
	}
	ask("a", rowsBurst-1, true)
	ask("a", rowsSecond, true) // Any rest is enough.
	ask("a", 0, false)
	ask("b", 0, true)
	now = now.Add(500 * time.Millisecond)
	ask("a", 0, false)
	now = now.Add(time.Second)
	ask("a", 0, true)
	now = now.Add(24 * time.Hour)
	ask("a", rowsBurst+1, true)
	ask("a", 0, false)
	for range answersMax {
		if err := a.begin("c", now); err != nil {
			t.Error(err)
		}
	}
	ask("b", 0, false) // All places are taken.
}
