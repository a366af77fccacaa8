package guest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of scopes.
const (
	TypeHTTP  = "http"
	TypeEvent = "aleph.message"
)

// Types of a reply's parts, from ASGI.
const (
	typeStart = "http.response.start"
	typeBody  = "http.response.body"
)

// Header is a field of an HTTP message. A name may come more than once.
type Header struct {
	Name, Value []byte // The name in lower case.
}

// Scope is what a program is called with.
type Scope struct {
	Type string
	// Of TypeHTTP.
	Path, Method, QueryString string
	Headers                   []Header
	// Body is that of the request, or the JSON of the message of an event. The
	// body of a streamed request follows in frames instead.
	Body []byte
}

// Run is a call of the program.
type Run struct {
	Scope Scope
	// Stream is, for TypeHTTP, that the bodies of request and reply go in frames
	// behind the Run and the Reply: BodyWriter and BodyReader. The guest must have
	// FeatureStream.
	Stream bool
}

// Encode returns the bytes that begin the stream. A body that leaves no room for
// the rest below MaxRun must be streamed.
func (r Run) Encode() ([]byte, error) {
	return encode("run", MaxRun, func(w *writer) {
		n := 1
		if r.Stream {
			n = 2
		}
		w.mapOf(n)
		w.text("scope")
		r.Scope.write(w)
		if r.Stream {
			w.text("stream")
			w.boolean(true)
		}
	})
}

func (s Scope) write(w *writer) {
	if s.Type == TypeEvent {
		w.mapOf(2)
		w.text("type")
		w.text(s.Type)
		w.text("body")
		w.text(string(s.Body))
		return
	}
	w.mapOf(6)
	for _, f := range []struct{ key, value string }{
		{"type", s.Type}, {"path", s.Path}, {"method", s.Method}, {"query_string", s.QueryString},
	} {
		w.text(f.key)
		w.text(f.value)
	}
	w.text("headers")
	w.headers(s.Headers)
	w.text("body")
	w.bytes(s.Body)
}

// ReadRun reads a Run from the stream and no byte behind it. Values longer than
// MaxRun are taken up to MaxReply, since hosts differ in what they send.
func ReadRun(r *bufio.Reader) (Run, error) {
	var run Run
	s := &run.Scope
	err := decode("run", r, MaxReply, fields{
		"stream": boolean(&run.Stream),
		"scope": func(d *reader) error {
			return d.object(fields{
				"type": text(&s.Type), "path": text(&s.Path), "method": text(&s.Method), "query_string": text(&s.QueryString),
				"headers": headers(&s.Headers), "body": lenient(&s.Body),
			})
		},
	})
	if err == nil && s.Type != TypeHTTP && s.Type != TypeEvent {
		err = fmt.Errorf("decode run: scope is of type %.32q, want %s or %s", s.Type, TypeHTTP, TypeEvent)
	}
	if err == nil && run.Stream && s.Type != TypeHTTP {
		err = fmt.Errorf("decode run: an event cannot be streamed")
	}
	return run, err
}

// Reply is what came of a Run. In a streamed one the body follows it in frames,
// and behind those a second Reply, without status, tells whether the program got
// to its end. A first Reply that failed is the only one, and has no body.
type Reply struct {
	Status  int // Of HTTP; 0 for an event.
	Headers []Header
	Body    []byte
	Output  string // What the program printed, where the guest collects it.
	// OutputData is a zip of /data, if anything is there.
	OutputData []byte
	// Failed is that the program raised an error, which the next two tell.
	Failed           bool
	Error, Traceback string
}

// Encode returns the bytes of the reply.
func (r Reply) Encode() ([]byte, error) {
	return encode("reply", MaxReply, func(w *writer) {
		if r.Failed {
			w.mapOf(3)
			for _, f := range []struct{ key, value string }{
				{"error", head(r.Error, MaxResult/4)}, {"traceback", tail(r.Traceback, MaxResult/2)}, {"output", tail(r.Output, MaxResult/4)},
			} {
				w.text(f.key)
				w.text(f.value)
			}
			return
		}
		w.mapOf(4)
		w.text("headers")
		if r.Status == 0 {
			w.mapOf(0)
		} else {
			w.mapOf(3)
			w.text("type")
			w.text(typeStart)
			w.text("status")
			w.integer(int64(r.Status))
			w.text("headers")
			w.headers(r.Headers)
		}
		w.text("body")
		w.mapOf(2)
		w.text("type")
		w.text(typeBody)
		w.text("body")
		w.bytes(r.Body)
		w.text("output")
		w.text(r.Output)
		w.text("output_data")
		w.bytes(r.OutputData)
	})
}

// ReadReply reads a Reply from the stream and no byte behind it. The program has
// the say in it: a Status that is not 0 is one of HTTP, and nothing else is sure.
func ReadReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	var output []byte
	err := decode("reply", r, MaxReply, fields{
		"headers": func(d *reader) error {
			return d.object(fields{"status": status(&reply.Status), "headers": headers(&reply.Headers)})
		},
		"body": func(d *reader) error { return d.object(fields{"body": lenient(&reply.Body)}) },
		"error": func(d *reader) error {
			reply.Failed = true
			return text(&reply.Error)(d)
		},
		"traceback":   text(&reply.Traceback),
		"output":      lenient(&output),
		"output_data": lenient(&reply.OutputData),
	})
	reply.Output = string(output)
	return reply, err
}

func status(to *int) func(*reader) error {
	return func(d *reader) error {
		n, err := d.dec.DecodeInt64()
		if err != nil {
			return err
		}
		if n < 100 || n > 999 {
			return fmt.Errorf("status is %d, want one of HTTP", n)
		}
		*to = int(n)
		return nil
	}
}

// What is said to end a machine, and the two lines of the answer: the program
// has ended, and file systems are written.
const (
	Halt        = "halt"
	HaltStop    = "STOP\n"
	HaltStopped = "STOPZ\n"
)

// frameHeader is the length before a frame, big endian.
const frameHeader = 4

// BodyWriter writes a body in frames of at most MaxFrame. Each Write is sent at
// once. Close ends the body, and leaves the stream open.
type BodyWriter struct {
	w   io.Writer
	buf []byte
}

// NewBodyWriter returns a writer of frames to w.
func NewBodyWriter(w io.Writer) *BodyWriter { return &BodyWriter{w: w} }

// Write implements io.Writer.
func (b *BodyWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, MaxFrame)
		if err := b.frame(p[done : done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Close implements io.Closer.
func (b *BodyWriter) Close() error { return b.frame(nil) }

func (b *BodyWriter) frame(p []byte) error {
	b.buf = binary.BigEndian.AppendUint32(b.buf[:0], uint32(len(p)))
	b.buf = append(b.buf, p...)
	if _, err := b.w.Write(b.buf); err != nil {
		return fmt.Errorf("write body: %w", err)
	}
	return nil
}

// BodyReader reads a body that is in frames, and no byte behind its end. A
// stream that ends before is io.ErrUnexpectedEOF.
type BodyReader struct {
	r    *bufio.Reader
	left int
	err  error
}

// NewBodyReader returns a reader of the frames of r.
func NewBodyReader(r *bufio.Reader) *BodyReader { return &BodyReader{r: r} }

// Read implements io.Reader.
func (b *BodyReader) Read(p []byte) (int, error) {
	if b.err == nil && b.left == 0 {
		b.next()
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil {
		b.fail(err)
	}
	return n, b.err
}

// next reads the length of a frame.
func (b *BodyReader) next() {
	var header [frameHeader]byte
	if _, err := io.ReadFull(b.r, header[:]); err != nil {
		b.fail(err)
		return
	}
	n := binary.BigEndian.Uint32(header[:])
	switch {
	case n == 0:
		b.err = io.EOF
	case n > MaxFrame:
		b.err = fmt.Errorf("read body: frame of %d bytes, want at most %d", n, MaxFrame)
	default:
		b.left = int(n)
	}
}

func (b *BodyReader) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.err = fmt.Errorf("read body: %w", err)
}
