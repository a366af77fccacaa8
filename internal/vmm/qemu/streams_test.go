package qemu

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// streamsEnd plays the guest of one session: it answers the greeting, after what
// it still had to say of an older session.
func streamsEnd(t *testing.T, conn net.Conn, stale string) *yamux.Session {
	t.Helper()
	r := bufio.NewReader(conn)
	nonce, err := guest.AwaitHello(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, stale+string(nonce.Line())); err != nil {
		t.Fatal(err)
	}
	s, err := yamux.Server(&bufferedConn{Conn: conn, r: r}, sessionConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// pipes returns streams and where the guest's ends of its sessions arrive.
func pipes(t *testing.T) (*streams, <-chan net.Conn) {
	t.Helper()
	ends := make(chan net.Conn, 8)
	s := newStreams(t.Context(), func(context.Context) (net.Conn, error) {
		us, them := net.Pipe()
		ends <- them
		return us, nil
	})
	t.Cleanup(func() { s.close() })
	return s, ends
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestStreamsGoBothWays(t *testing.T) {
	t.Parallel()
	s, ends := pipes(t)
	l, err := s.Listen(53)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(53); !errors.Is(err, errs.Conflict) {
		t.Errorf("second listener of a port: %v, want conflict", err)
	}
	end := streamsEnd(t, <-ends, "\x00old words\naleph-streams 1 of an older session\n")

	go func() {
		for port, text := range map[uint32]string{9: "nobody listens", 53: "hello host"} {
			stream, err := end.OpenStream(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = stream.Write(append(binary.BigEndian.AppendUint32(nil, port), text...)) // The first is reset by the host.
			_ = stream.CloseWrite()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(c); err != nil || string(raw) != "hello host" {
		t.Errorf("host reads %q, %v", raw, err)
	}

	go func() {
		stream, err := end.AcceptStream()
		if err != nil {
			t.Error(err)
			return
		}
		raw, _ := io.ReadAll(stream)
		_, _ = stream.Write(raw)
		_ = stream.Close()
	}()
	c, err = s.Dial(limited(t), 0x01020304)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "hello guest")
	c.(*yamux.Stream).CloseWrite()
	if raw, err := io.ReadAll(c); err != nil || string(raw) != "\x01\x02\x03\x04hello guest" {
		t.Errorf("guest reads %q, %v", raw, err)
	}
}

// TestStreamsGoOnInTheSessionOfASnapshot: the first session is the one that the
// guest is in, where it has had streams of the same numbers, and only the next one
// is greeted.
func TestStreamsGoOnInTheSessionOfASnapshot(t *testing.T) {
	t.Parallel()
	s, ends := pipes(t)
	us, them := net.Pipe()
	s.resume(us)
	end, err := yamux.Server(them, sessionConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	echo := func(end *yamux.Session) {
		for {
			stream, err := end.AcceptStream()
			if err != nil {
				return
			}
			_, _ = io.Copy(stream, stream)
			_ = stream.Close()
		}
	}
	call := func() {
		t.Helper()
		c, err := s.Dial(limited(t), 7)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*yamux.Stream).CloseWrite()
		if raw, err := io.ReadAll(c); err != nil || string(raw) != "\x00\x00\x00\x07" {
			t.Errorf("guest says %q, %v", raw, err)
		}
	}
	go echo(end)
	call()
	for late := limited(t); !s.areQuiet(); {
		select {
		case <-late.Done():
			t.Fatal("a session whose only stream has ended is not quiet")
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case <-ends:
		t.Error("the guest was greeted in the middle of its session")
	default:
	}
	end.Close()
	go echo(streamsEnd(t, <-ends, ""))
	call()
}

// TestStreamsBeginAnew: a session that ends is followed by another, in which
// listeners go on; and what ends with the machine is told.
func TestStreamsBeginAnew(t *testing.T) {
	t.Parallel()
	s, ends := pipes(t)
	l, err := s.Listen(52)
	if err != nil {
		t.Fatal(err)
	}
	streamsEnd(t, <-ends, "").Close()
	end := streamsEnd(t, <-ends, "")
	stream, err := end.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte{0, 0, 0, 52}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}

	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the end: %v, want closed", err)
	}
	if _, err := s.Dial(t.Context(), 52); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Dial after the end: %v, want unavailable", err)
	}
	if _, err := s.Listen(54); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Listen after the end: %v, want unavailable", err)
	}
}

func TestDialWaitsForTheGuestAsLongAsAllowed(t *testing.T) {
	t.Parallel()
	s, _ := pipes(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Dial(ctx, 52); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v, want it canceled", err)
	}
}

// TestGuestThatFloods: what a guest sends in place of an answer is not read
// for ever.
func TestGuestThatFloods(t *testing.T) {
	t.Parallel()
	us, them := net.Pipe()
	go io.Copy(io.Discard, them)
	go func() {
		for junk := make([]byte, 1<<20); ; {
			if _, err := them.Write(junk); err != nil {
				return
			}
		}
	}()
	defer us.Close()
	if _, err := greet(us); err == nil {
		t.Error("a guest was greeted that never answered")
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add([]byte(`{"host":{"version":"7.2"},"args":["-m"],"state_sha256":"00"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if rec, err := parseSnapshot(raw); err == nil && (len(rec.Args) == 0 || rec.StateSum == "") {
			t.Fatalf("accepted %+v", rec)
		} else if err != nil && !errors.Is(err, errs.NotFound) {
			t.Fatalf("%v, want not found", err)
		}
	})
}
