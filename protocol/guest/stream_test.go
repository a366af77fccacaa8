package guest_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

var nonce = guest.Nonce{0xde, 0xad, 15: 1}

// frame is a yamux frame.
func frame(kind byte, length uint32, payload []byte) []byte {
	h := []byte{0, kind, 0, 1, 0, 0, 0, 1}
	return append(binary.BigEndian.AppendUint32(h, length), payload...)
}

func TestHello(t *testing.T) {
	const want = "aleph-streams 1 dead0000000000000000000000000001\n"
	if got := string(nonce.Line()); got != want {
		t.Errorf("line is %q, want %q", got, want)
	}
	pad := strings.Repeat("\x00", 64)
	for name, before := range map[string]string{
		"nothing": "", "garbage": "garbage\x00\x01", "more zeros": strings.Repeat("\x00", 100), "few zeros": "a\x00\x00" + want,
		"a cut line": pad + "aleph-streams 1 dead", "another version": pad + "aleph-streams 2 dead\n", "upper case": pad + "aleph-streams 1 DEAD",
	} {
		r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(before + string(nonce.Hello()) + "next")))
		got, err := guest.AwaitHello(r)
		if err != nil || got != nonce {
			t.Errorf("behind %s: hello is %x, %v; want %x", name, got, err, nonce)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "next" {
			t.Errorf("behind %s: %q is left", name, rest)
		}
	}
	if _, err := guest.AwaitHello(bufio.NewReader(strings.NewReader(want))); !errors.Is(err, io.EOF) {
		t.Errorf("a line without zeros: %v, want the end", err)
	}
}

func TestAnswer(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("old aleph-streams 1 " + string(nonce.Line()) + "next"))
	if err := guest.AwaitAnswer(r, nonce, 1000); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("%q is left behind the answer", rest)
	}
	if err := guest.AwaitAnswer(bufio.NewReader(zeros{}), nonce, 1000); err == nil {
		t.Error("zeros were taken for an answer")
	}
	if err := guest.AwaitAnswer(bufio.NewReader(strings.NewReader("x")), nonce, 1000); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// A session ends where the host begins another, which a body cannot fake.
func TestSessionEndsAtAHello(t *testing.T) {
	fake := frame(0, uint32(len(nonce.Hello())), nonce.Hello())
	session := bytes.Join([][]byte{frame(1, 1<<20, nil), fake, frame(2, 5, nil)}, nil)
	next := guest.Nonce{1}
	for name, reader := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
		r := bufio.NewReader(reader(bytes.NewReader(append(bytes.Clone(session), next.Hello()...))))
		got, err := io.ReadAll(guest.NewSessionReader(r))
		if err != nil || !bytes.Equal(got, session) {
			t.Errorf("%s: session is %x, %v; want %x", name, got, err, session)
		}
		if n, err := guest.AwaitHello(r); err != nil || n != next {
			t.Errorf("%s: hello is %x, %v; want %x", name, n, err, next)
		}
	}
}

func FuzzStreams(f *testing.F) {
	f.Add(nonce.Hello())
	f.Add(frame(0, 3, []byte("abc")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := io.ReadAll(guest.NewSessionReader(stream(raw)))
		if !bytes.HasPrefix(raw, got) {
			t.Fatalf("session of %x is %x, %v", raw, got, err)
		}
		// Whatever came before, a whole hello behind a byte that is not its own is found.
		n, err := guest.AwaitHello(stream(append(append(bytes.Clone(raw), '!'), nonce.Hello()...)))
		if err != nil {
			t.Fatalf("hello behind %x: %x, %v", raw, n, err)
		}
	})
}
