package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
)

// handler is a guest that is ready when its channel is closed.
type handler struct {
	ready chan struct{}
	down  atomic.Bool
	fail  error
}

func (h *handler) Ready(ctx context.Context) error {
	select {
	case <-h.ready:
		return h.fail
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *handler) Info() agent.Info {
	return agent.Info{Hostname: "guest", Kernel: "6.1", Timings: map[string]int64{"ready": 7}}
}

func (h *handler) Shutdown() { h.down.Store(true) }

// connect serves h and returns a client of it.
func connect(t *testing.T, h *handler) *agent.Client {
	t.Helper()
	host, guest := net.Pipe()
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- agent.Serve(context.Background(), guest, h) }()
	c := agent.NewClient(host, "s")
	go func() { ran <- c.Run() }()
	t.Cleanup(func() {
		host.Close()
		guest.Close()
		if err := <-served; err == nil {
			t.Error("Serve ended without a reason")
		}
		if err := <-ran; err == nil {
			t.Error("Run ended without a reason")
		}
	})
	return c
}

func TestQuestionsAreAnswered(t *testing.T) {
	h := &handler{ready: make(chan struct{})}
	c := connect(t, h)

	if _, err := c.Do(t.Context(), agent.Ping); err != nil {
		t.Errorf("ping: %v", err)
	}
	info, err := c.Do(t.Context(), agent.GetInfo)
	if err != nil || info == nil || info.Hostname != "guest" || info.Timings["ready"] != 7 {
		t.Errorf("info = %+v, %v; want the guest's", info, err)
	}
	if _, err := c.Do(t.Context(), "dance"); !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "dance") {
		t.Errorf("unknown command: %v, want a refusal that names it", err)
	}
	if _, err := c.Do(t.Context(), agent.Shutdown); err != nil || !h.down.Load() {
		// The answer comes first, the shutdown right after it.
		for deadline := time.Now().Add(time.Second); !h.down.Load() && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
		}
		if err != nil || !h.down.Load() {
			t.Errorf("shutdown: %v, %t; want it done", err, h.down.Load())
		}
	}
}

func TestReadyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{ready: make(chan struct{})}
		c := connect(t, h)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Do(ctx, agent.Ready); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ready too early: %v, want the deadline", err)
		}
		time.AfterFunc(time.Minute, func() { close(h.ready) })
		if _, err := c.Do(t.Context(), agent.Ready); err != nil {
			t.Errorf("ready: %v", err)
		}
		h.fail = errors.New("no services")
		if _, err := c.Do(t.Context(), agent.Ready); !errors.Is(err, errs.Unavailable) {
			t.Errorf("ready that fails: %v, want unavailable", err)
		}
	})
}

func TestTooManyQuestionsAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{ready: make(chan struct{})}
		c := connect(t, h)
		answers := make(chan error)
		for range 40 {
			go func() {
				_, err := c.Do(t.Context(), agent.Ready)
				answers <- err
			}()
		}
		refused := 0
		for range 24 {
			if err := <-answers; err == nil || !strings.Contains(err.Error(), "too many") {
				t.Errorf("got %v, want too many", err)
			}
			refused++
		}
		close(h.ready)
		for range 40 - refused {
			if err := <-answers; err != nil {
				t.Errorf("got %v, want ready", err)
			}
		}
	})
}

// TestNewHostTakesOver speaks as a host that died in the middle of a line and
// a second one with the same numbers.
func TestNewHostTakesOver(t *testing.T) {
	host, guest := net.Pipe()
	defer guest.Close()
	h := &handler{ready: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- agent.Serve(context.Background(), guest, h) }()
	if _, err := io.WriteString(host, `{"id":"old-1","cmd":"ready"}`+"\n"+`{"id":"old-2","cm`); err != nil {
		t.Fatal(err)
	}
	c := agent.NewClient(host, "new")
	go c.Run()

	if _, err := c.Do(t.Context(), agent.Ping); err != nil {
		t.Errorf("ping by the new host: %v", err)
	}
	close(h.ready) // The old host's answer comes to the new one.
	if _, err := c.Do(t.Context(), agent.Ready); err != nil {
		t.Errorf("ready for the new host: %v", err)
	}
	host.Close()
	<-served
}

func TestBrokenAnswersAreIgnored(t *testing.T) {
	host, guest := net.Pipe()
	c := agent.NewClient(host, "s")
	go c.Run()
	go func() {
		lines := bufio.NewScanner(guest)
		for lines.Scan() {
			if len(lines.Bytes()) > 0 {
				break
			}
		}
		io.WriteString(guest, "nonsense\n"+strings.Repeat("x", 40<<10)+"\n"+`{"id":"other-1"}`+"\n"+`{"id":"s-1"}`+"\n")
	}()

	if _, err := c.Do(t.Context(), agent.Ping); err != nil {
		t.Errorf("ping: %v", err)
	}
	guest.Close()
	if _, err := c.Do(t.Context(), agent.Ping); !errors.Is(err, errs.Unavailable) {
		t.Errorf("ping of a guest that is gone: %v, want unavailable", err)
	}
	host.Close()
}

func TestGuestThatGoesAnswersNobody(t *testing.T) {
	host, guest := net.Pipe()
	c := agent.NewClient(host, "s")
	ran := make(chan error, 1)
	go func() { ran <- c.Run() }()
	go func() {
		for lines := bufio.NewScanner(guest); lines.Scan() && len(lines.Bytes()) == 0; {
		}
		guest.Close()
	}()
	if _, err := c.Do(t.Context(), agent.Ready); !errors.Is(err, errs.Unavailable) {
		t.Errorf("ready: %v, want unavailable", err)
	}
	<-ran
	if _, err := c.Do(t.Context(), agent.Ping); !errors.Is(err, errs.Unavailable) {
		t.Errorf("ping after the end: %v, want unavailable", err)
	}
}

// readWriter reads what a fuzzer wrote and throws answers away.
type readWriter struct {
	io.Reader
	io.Writer
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"id":"1","cmd":"ping"}` + "\n"))
	f.Add([]byte(`{"id":"1","cmd":"ready"}` + "\n{\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := &handler{ready: make(chan struct{})}
		if err := agent.Serve(t.Context(), readWriter{bytes.NewReader(raw), io.Discard}, h); !errors.Is(err, io.EOF) {
			t.Fatalf("Serve: %v, want the end", err)
		}
	})
}

func FuzzRun(f *testing.F) {
	f.Add([]byte(`{"id":"s-1","info":{"hostname":"x"}}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := agent.NewClient(readWriter{bytes.NewReader(raw), io.Discard}, "s")
		if err := c.Run(); !errors.Is(err, io.EOF) {
			t.Fatalf("Run: %v, want the end", err)
		}
	})
}
