package chaintest

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Wire is a TCP connection to an RPC that a test can cut and mend.
type Wire struct {
	URL string // Of this end.

	to string
	mu sync.Mutex // Guards the fields below.
	up bool
	on map[net.Conn]bool
}

// NewWire returns a wire, whole, to the RPC at target. It ends with the test.
func NewWire(tb testing.TB, target string) *Wire {
	tb.Helper()
	parsed, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w := &Wire{URL: "http://" + l.Addr().String(), to: parsed.Host, up: true, on: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.carry(context.WithoutCancel(tb.Context()), conn) })
		}
	})
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close wire: %v", err)
		}
		w.Cut()
		wg.Wait()
	})
	return w
}

// Cut ends all connections and refuses new ones.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = false
	for conn := range w.on {
		conn.Close()
	}
}

// Mend lets connections through again.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = true
}

// keep remembers a connection, and reports whether the wire is whole.
func (w *Wire) keep(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on[conn] = true
	return w.up
}

func (w *Wire) drop(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.on, conn)
	conn.Close()
}

// carry copies both ways until either side ends.
func (w *Wire) carry(ctx context.Context, conn net.Conn) {
	defer w.drop(conn)
	if !w.keep(conn) {
		return
	}
	var d net.Dialer
	far, err := d.DialContext(ctx, "tcp", w.to)
	if err != nil {
		return
	}
	defer w.drop(far)
	if !w.keep(far) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, conn) // A cut wire is what the test wants.
		w.drop(far)
	})
	_, _ = io.Copy(conn, far)
	w.drop(conn)
	wg.Wait()
}
