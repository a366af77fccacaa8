package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// guestEnd plays the agent in a guest.
func guestEnd(t *testing.T, answer func(line string) string) net.Conn {
	t.Helper()
	us, them := net.Pipe()
	t.Cleanup(func() { us.Close(); them.Close() })
	go func() {
		r := bufio.NewReader(them)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := them.Write([]byte(answer(strings.TrimPrefix(line, string([]byte{guestSyncByte}))))); err != nil {
				return
			}
		}
	}()
	return us
}

// syncs answers the begin of a session, after what an earlier one has left.
func syncs(line string) (string, bool) {
	_, id, ok := strings.Cut(line, `"id":`)
	return "{\"return\": 5}\n\xff{\"return\": " + strings.TrimRight(id, "}\n") + "}\n", ok
}

func TestGuestAgentAnswers(t *testing.T) {
	g, err := openGuestAgent(t.Context(), guestEnd(t, func(line string) string {
		if s, ok := syncs(line); ok {
			return s
		}
		if strings.Contains(line, "guest-fsfreeze-thaw") {
			return `{"return": 3}` + "\n"
		}
		return `{"error": {"class": "GenericError", "desc": "not ` + strings.Repeat("x", 1000) + `"}}` + "\n"
	}))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := g.do(t.Context(), "guest-fsfreeze-thaw", &n); err != nil || n != 3 {
		t.Errorf("thaw = %d, %v; want 3", n, err)
	}
	if err := g.do(t.Context(), "guest-fsfreeze-freeze", &n); err == nil || !strings.Contains(err.Error(), "the agent says: not x") || len(err.Error()) > 400 {
		t.Errorf("freeze: %v, want some of the agent's words", err)
	}
}

func TestGuestAgentThatIsNone(t *testing.T) {
	for name, answer := range map[string]func(string) string{
		"silent":     func(string) string { return "" },
		"another id": func(string) string { return "\xff{\"return\": 1}\n" },
		"garbage":    func(string) string { return "\xffgarbage\n" },
		"empty":      func(string) string { return "\xff{}\n" },
		"endless":    func(string) string { return strings.Repeat("x", 2*guestAnswerMax) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := openGuestAgent(ctx, guestEnd(t, answer)); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s: %v, want no agent", name, err)
		}
		cancel()
	}
	// One that falls silent later.
	g, err := openGuestAgent(t.Context(), guestEnd(t, func(line string) string { s, _ := syncs(line); return strings.Repeat(s, strings.Count(line, "sync")) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	var n int
	if err := g.do(ctx, "guest-fsfreeze-freeze", &n); err == nil {
		t.Error("a silent agent answered")
	}
}

func FuzzParseGuestAnswer(f *testing.F) {
	f.Add([]byte(`{"return": 1}`))
	f.Add([]byte("\xff{\"error\": {\"desc\": \"no\"}}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var n int
		if err := parseGuestAnswer(line, &n); err == nil && !strings.Contains(string(line), "return") {
			t.Fatalf("%q was taken for %s", line, fmt.Sprint(n))
		}
	})
}
