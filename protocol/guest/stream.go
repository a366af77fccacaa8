package guest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Where a machine has no vsock, streams share a virtio-serial port. The host
// begins a session there whenever it connects: it sends its Hello, the guest
// answers the line of it, and both speak yamux from then on, the host as the
// client. Each stream begins with 4 bytes, big endian: the port at the other end
// that it goes to. A stream to a port where nobody listens is reset.
const (
	// StreamsPort is the name of the virtio-serial port.
	StreamsPort = "org.aleph.streams.0"
	// FunctionArgument on a kernel's command line makes aleph-guest the guest of a
	// function.
	FunctionArgument = "aleph.function=1"

	helloPrefix = "aleph-streams 1 "
	helloPad    = 64
	nonceBytes  = 16
	helloLine   = len(helloPrefix) + 2*nonceBytes + 1
)

// Nonce tells the answer to a Hello from what an earlier session left.
type Nonce [nonceBytes]byte

// Line is the line of a Hello, and the answer to it.
func (n Nonce) Line() []byte {
	return append(hex.AppendEncode([]byte(helloPrefix), n[:]), '\n')
}

// Hello is what the host sends: zeros, which no frame of yamux has where one
// begins, and the line.
func (n Nonce) Hello() []byte { return append(make([]byte, helloPad), n.Line()...) }

// AwaitHello passes over everything up to a Hello and returns its nonce. It is
// for the guest, while there is no session.
func AwaitHello(r *bufio.Reader) (Nonce, error) {
	zeros := 0
	for {
		b, err := r.ReadByte()
		if err != nil {
			return Nonce{}, err
		}
		if b == 0 {
			zeros++
			continue
		}
		if zeros < helloPad || b != helloPrefix[0] {
			zeros = 0
			continue
		}
		zeros = 0
		n, err := readLine(r)
		if !errors.Is(err, errNoHello) {
			return n, err
		}
	}
}

var errNoHello = errors.New("not the line of a session")

// readLine reads the rest of a line, behind its first byte. It stops at a byte
// that no such line has there, and leaves it.
func readLine(r *bufio.Reader) (Nonce, error) {
	line := append(make([]byte, 0, helloLine), helloPrefix[0])
	for len(line) < helloLine {
		b, err := r.ReadByte()
		if err != nil {
			return Nonce{}, err
		}
		at := len(line)
		var ok bool
		switch {
		case at < len(helloPrefix):
			ok = b == helloPrefix[at]
		case at < helloLine-1:
			ok = b >= '0' && b <= '9' || b >= 'a' && b <= 'f'
		default:
			ok = b == '\n'
		}
		if !ok {
			if err := r.UnreadByte(); err != nil {
				return Nonce{}, fmt.Errorf("await session: %w", err)
			}
			return Nonce{}, errNoHello
		}
		line = append(line, b)
	}
	var n Nonce
	if _, err := hex.Decode(n[:], line[len(helloPrefix):helloLine-1]); err != nil {
		return Nonce{}, errNoHello
	}
	return n, nil
}

// AwaitAnswer passes over what an earlier session left up to the answer to the
// Hello with the nonce, for at most limit bytes. It is for the host.
func AwaitAnswer(r *bufio.Reader, n Nonce, limit int) error {
	want := n.Line()
	var got []byte
	for range limit {
		b, err := r.ReadByte()
		if err != nil {
			return fmt.Errorf("await answer of guest: %w", err)
		}
		if got = append(got, b); len(got) > len(want) {
			got = got[:copy(got, got[1:])]
		}
		if bytes.Equal(got, want) {
			return nil
		}
	}
	return fmt.Errorf("await answer of guest: none in %d bytes", limit)
}

const (
	yamuxHeader   = 12
	yamuxTypeData = 0
)

// SessionReader is what a guest reads a session from. It ends, with io.EOF, where
// the host begins another: at the zeros of a Hello where a frame should begin,
// which it leaves unread. Zeros in what a frame carries are not the host's and
// change nothing.
type SessionReader struct {
	r    *bufio.Reader
	head []byte // Of a header, what was not passed on yet.
	left int    // Of the frame.
}

// NewSessionReader returns a reader of a session, whose Hello was read.
func NewSessionReader(r *bufio.Reader) *SessionReader { return &SessionReader{r: r} }

// Read implements io.Reader.
func (s *SessionReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.head) == 0 && s.left == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// next looks at the header of a frame.
func (s *SessionReader) next() error {
	h, err := s.r.Peek(yamuxHeader)
	if err != nil {
		return err
	}
	if bytes.Equal(h, make([]byte, yamuxHeader)) {
		return io.EOF
	}
	s.head = bytes.Clone(h)
	if h[1] == yamuxTypeData {
		s.left = int(h[8])<<24 | int(h[9])<<16 | int(h[10])<<8 | int(h[11])
	}
	_, err = s.r.Discard(yamuxHeader)
	return err
}
