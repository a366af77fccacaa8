package ingest

import (
	"errors"
	"testing"
	"time"
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
		{"refusals", visit{more: true, refused: 90}, nil, []time.Duration{90 * time.Second}},
		{"many refusals", visit{refused: 1e6}, nil, []time.Duration{pauseMax}},
		{"away", visit{}, failed, []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour}},
		{"out of order", visit{}, bad, []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour}},
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
		brought, pages int
		want           bool
	}{{0, 0, true}, {visitLeast - 1, 0, true}, {visitLeast, 1, false}, {0, visitLeast, false}} {
		v := &visit{began: time.Now().Add(-visitMax - time.Second), brought: tt.brought, pages: tt.pages}
		if err := v.slow(); !v.isOver() || (err != nil) != tt.want {
			t.Errorf("%d messages and %d pages: %v", tt.brought, tt.pages, err)
		}
	}
}
