package ccn

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reader is a client that takes a while for each write, or forever.
type reader struct {
	http.ResponseWriter
	takes    time.Duration
	deadline time.Time
}

func (r *reader) SetWriteDeadline(at time.Time) error {
	r.deadline = at
	return nil
}

func (r *reader) Write(b []byte) (int, error) {
	if left := time.Until(r.deadline); left < r.takes {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(r.takes)
	return len(b), nil
}

// TestWhoReadsALongListTooSlowlyLosesItsPlace, soon; nobody else does.
func TestWhoReadsALongListTooSlowlyLosesItsPlace(t *testing.T) {
	const chunk = chunkMax * time.Second / longPace
	for name, tt := range map[string]struct {
		fast         int // Chunks read at once before.
		takes, pause time.Duration
		within       time.Duration // It ends; 0: it does not.
	}{
		"at the pace":                    {0, chunk, 0, 0},
		"while the database is slow":     {0, chunk, 5 * time.Second, 0},
		"a bit slower":                   {0, chunk * 5 / 4, 0, 2 * time.Minute},
		"a chunk just in time":           {0, longPatience - time.Millisecond, 0, 2 * longPatience},
		"slowly after much that was not": {1000, longPatience - time.Millisecond, 0, 2 * longPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := &reader{ResponseWriter: httptest.NewRecorder()}
				st := &stream{s: &Server{long: newPlaces(1, 0, errCrowded)}, w: client, r: httptest.NewRequest(http.MethodGet, "/", nil)}
				if err := st.text(strings.Repeat("x", heldMax+1)); err != nil {
					t.Fatal(err)
				}
				for range tt.fast {
					if err := st.text(strings.Repeat("x", chunkMax)); err != nil {
						t.Fatal(err)
					}
				}
				client.takes = tt.takes
				began := time.Now()
				for time.Since(began) < 5*time.Minute {
					time.Sleep(tt.pause)
					if err := st.text(strings.Repeat("x", chunkMax)); err != nil {
						if took := time.Since(began); tt.within == 0 || took > tt.within || !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("after %v: %v", took, err)
						}
						return
					}
				}
				if tt.within > 0 {
					t.Error("it has its place still")
				}
			})
		})
	}
}
